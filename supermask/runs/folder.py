"""Run folder: config.json, metrics.jsonl, the ticket or the weights of each seed, and result.json.

It is filled under a hidden name beside its own and renamed when the search ends or is stopped, so that a folder of the
final name is always whole. The hidden folder is locked while a process works in it; one that a dead process left behind
is taken over, with its newest checkpoint.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supermask.config import Config
from supermask.errors import BadFileError, DiskError, RunFolderError, one_line
from supermask.runs import checkpoints
from supermask.runs.index import check_owner, hidden_path, is_free
from supermask.storage.atomic import empty_folder, lock_folder, remove_folder, sync_file, sync_folder, write_atomic
from supermask.types import Tree

OWN_FILES = re.compile(
    r"config\.json|metrics\.jsonl|result\.json|(ticket-s|weights-s|checkpoint-)\d+\.safetensors|\..*"
)


class RunFolder:
    """The folder of one search while it is being filled; made by `claimed`.

    Attributes:
        resumed: document and tensors of the checkpoint that the run goes on from, or None.
        phases: of the phases that are finished, by name, the rows of results that each gave.
        complaints: about newer checkpoints that are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._hidden = path, hidden_path(path)
        self.resumed: tuple[dict[str, Any], Tree] | None = None
        self.phases: dict[str, list[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        self._closed, self._copied = False, False
        self._made = [parent for parent in path.parents if not parent.exists()]

    @property
    def working(self) -> Path:
        """Where the files are until the run is closed."""
        return self._hidden

    def begin(self, config: Config, *, force: bool = False) -> None:
        """Go on with what a search of this config left when it was stopped or killed, or, with `force`, anew.

        It left checkpoints in the folder, or in the hidden one beside it: the newest good one is then in `resumed`.

        Raises:
            RunFolderError: unless `force`, it belongs to another config.
            BadFileError: there are checkpoints, and none is good.
        """
        if not is_free(self.path) and not (force and (self.path / "config.json").is_file()):
            check_owner(self.path, config)
        mine, stopped = checkpoints.paths(self._hidden), checkpoints.paths(self.path)
        if force or not mine or (stopped and stopped[-1].name > mine[-1].name):
            empty_folder(self._hidden)
            if not force and stopped:
                self._copied = True
                self._copy_stopped()
        else:
            check_owner(self._hidden, config)
            for file in self._hidden.glob(".*"):
                file.unlink()  # half of what its owner was writing when it died
        write_atomic(self._hidden / "config.json", _json(config.to_dict()))
        (self._hidden / "metrics.jsonl").touch()
        self._go_on()

    def _copy_stopped(self) -> None:
        """Into the hidden folder, checkpoints last and the newest first: where one is, all that it needs is there."""
        last = checkpoints.paths(self.path)
        own = [f for f in self.path.iterdir() if f.is_file() and OWN_FILES.fullmatch(f.name) and f not in last]
        for file in [*own, *reversed(last)]:
            if file.name != "result.json" and not file.name.startswith("."):
                write_atomic(self._hidden / file.name, file.read_bytes())

    def add_metrics(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        try:
            with (self._hidden / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise DiskError(f"cannot write {self._hidden}/metrics.jsonl: {error.strerror}") from error

    def add_file(self, name: str, data: bytes) -> Path:
        """Write a file of results; the path is the one that it has once the run is closed."""
        write_atomic(self._hidden / name, data)
        return self.path / name

    def add_checkpoint(self, number: int, document: dict[str, Any], tensors: Tree) -> None:
        """Save where the run stands, with the results of the phases that are finished; see `checkpoints.save`."""
        size = sync_file(self._hidden / "metrics.jsonl")
        self._copied = False  # from here on there is more than in the folder that it was copied from
        checkpoints.save(self._hidden, number, {**document, "phases": self.phases, "metrics_bytes": size}, tensors)

    def finished_rows(self) -> list[dict[str, Any]]:
        """The results of all phases that are finished."""
        return [row for rows in self.phases.values() for row in rows]

    def last_checkpoint(self) -> Path | None:
        """The newest one, if there is any."""
        found = checkpoints.paths(self._hidden) or checkpoints.paths(self.path)
        return found[-1] if found else None

    def close(self, results: list[dict[str, Any]], complete: bool) -> None:
        """Give the folder its name, in place of an older run's if there is one; files that are not a run's are kept.

        Checkpoints stay only if the search is not complete.

        Raises:
            RunFolderError: something else took the name meanwhile.
        """
        sync_file(self._hidden / "metrics.jsonl")
        write_atomic(self._hidden / "result.json", _json({"complete": complete, "results": results}))
        if not is_free(self.path):
            if not (self.path / "config.json").is_file():
                raise RunFolderError(f"{self.path} appeared during the search and is not a run folder")
            for file in self.path.iterdir():
                if not OWN_FILES.fullmatch(file.name):
                    os.rename(file, self._hidden / file.name)
        old = self._hidden.with_name(self._hidden.name + ".old")
        if self.path.exists():
            remove_folder(old)
            os.rename(self.path, old)
        os.rename(self._hidden, self.path)
        self._closed = True
        sync_folder(self.path.parent)
        remove_folder(old)
        for file in checkpoints.paths(self.path) if complete else []:
            file.unlink()

    def discard(self) -> None:
        """Leave nothing behind but checkpoints, and results that only want their name."""
        if self._closed:  # what has the hidden name now is another's
            return
        worthy = checkpoints.paths(self._hidden) or (self._hidden / "result.json").exists()
        if self._copied or not worthy:
            remove_folder(self._hidden)
        for parent in self._made:
            with suppress(OSError):  # not empty: something was written after all
                parent.rmdir()

    def _go_on(self) -> None:
        """Take over what the checkpoint in the hidden folder says; without one, begin with nothing."""
        found = checkpoints.newest(self._hidden)
        if found is None:
            return
        path, document, tensors, self.complaints = found
        try:
            self.phases, size = dict(document["phases"]), int(document["metrics_bytes"])
            if (self._hidden / "metrics.jsonl").stat().st_size < size:
                raise ValueError("its metrics are cut short")
            os.truncate(self._hidden / "metrics.jsonl", size)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise BadFileError(f"{path} does not fit its run: {one_line(error)}; --force searches anew") from error
        self.resumed = document, tensors


@contextmanager
def claimed(path: Path) -> Iterator[RunFolder]:
    """A run folder that is this process's own, still to be begun; what is not closed leaves nothing but checkpoints.

    Raises:
        RunFolderError: another process works in it.
        UsageError: it cannot be made.
    """
    folder = RunFolder(path)
    lock = lock_folder(folder.working, path)
    try:
        yield folder
    finally:
        try:
            folder.discard()
        finally:
            os.close(lock)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
