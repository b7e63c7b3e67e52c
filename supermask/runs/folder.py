"""A run folder: config.json, metrics.jsonl, the ticket or the weights of each seed, and result.json.

It is filled under a hidden name beside its final one and renamed when the run ends or is stopped, so a folder with the
final name is always complete. The hidden folder is locked while a process works in it. If a process died and left a
hidden folder behind, the next one takes it over, with its newest checkpoint.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supermask.config import Config
from supermask.errors import BadFileError, DiskError, RunFolderError, one_line
from supermask.runs import checkpoints, content
from supermask.runs.index import check_owner, hidden_path, is_free
from supermask.storage.atomic import empty_folder, remove_folder, sync_file, sync_folder, write_atomic
from supermask.storage.lock import Lock, lock_folder
from supermask.types import Tree

OWN_FILES = re.compile(
    r"(config|content|probes|result)\.json|metrics\.jsonl|\..*"
    r"|(ticket-s|weights-s|start-s|checkpoint-|round-\d+-[a-z-]*s|generation-\d+-[a-z-]*s)\d+\.safetensors"
)


class RunFolder:
    """The folder of one run while it is being filled; made, and locked, by `claimed`.

    Attributes:
        resumed: document and tensors of the checkpoint that the run resumes from, or None.
        phases: the result rows of each finished phase, by the phase's name.
        complaints: messages about newer checkpoints that are damaged.
        lock: keeps other processes out.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._hidden = path, hidden_path(path)
        self.resumed: tuple[dict[str, Any], Tree] | None = None
        self.phases: dict[str, list[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        self._closed, self._copied = False, False
        self._made = [parent for parent in path.parents if not parent.exists()]
        self.lock: Lock = lock_folder(self._hidden, path)

    @property
    def working(self) -> Path:
        """The folder that holds the files until the run is closed."""
        return self._hidden

    def require_owner(self, config: Config, force: bool, made_of: Mapping[str, str] | None = None) -> None:
        """Check that what is there is a run of this config, made of this data and code, or that `force` may replace it.

        Raises:
            RunFolderError: it is not.
        """
        if not is_free(self.path) and not (force and (self.path / "config.json").is_file()):
            check_owner(self.path, config)
        if not force and made_of:
            content.check(self.path, made_of)
            if checkpoints.paths(self._hidden):
                content.check(self._hidden, made_of, named=self.path)

    def begin(self, config: Config, made_of: Mapping[str, str] | None = None, *, force: bool = False) -> None:
        """Resume a run of this config that was stopped or killed, or start over if `force` is set.

        Such a run left checkpoints in the folder or in the hidden one beside it; the newest intact one is put into
        `resumed`.

        Args:
            made_of: fingerprints of data and code, see `runs.content`.

        Raises:
            RunFolderError: the folder belongs to another config or to other data, and `force` is not set.
            BadFileError: there are checkpoints, and none is intact.
        """
        self.require_owner(config, force, made_of)
        mine, stopped = checkpoints.paths(self._hidden), checkpoints.paths(self.path)
        if force or not mine or (stopped and stopped[-1].name > mine[-1].name):
            empty_folder(self._hidden)
            if not force and stopped:
                self._copied = True
                self._copy_stopped()
        else:
            check_owner(self._hidden, config)
            for file in self._hidden.glob(".*"):
                file.unlink()  # a partial file that the dead process was writing
        write_atomic(self._hidden / "config.json", _json(config.to_dict()))
        if made_of:
            write_atomic(self._hidden / content.FILE, _json(dict(made_of)))
        (self._hidden / "metrics.jsonl").touch()
        self._go_on()

    def _copy_stopped(self) -> None:
        """Copy a stopped run into the hidden folder, with checkpoints last, so each finds all the files it needs."""
        last = checkpoints.paths(self.path)
        own = [f for f in self.path.iterdir() if f.is_file() and OWN_FILES.fullmatch(f.name) and f not in last]
        for file in [*own, *reversed(last)]:
            if file.name != "result.json" and not file.name.startswith("."):
                write_atomic(self._hidden / file.name, file.read_bytes())

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        try:
            with (self._hidden / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise DiskError(f"cannot write {self._hidden}/metrics.jsonl: {error.strerror}") from error

    def add_file(self, name: str, data: bytes) -> Path:
        """Write a result file; return the path that it will have once the run is closed."""
        write_atomic(self._hidden / name, data)
        return self.path / name

    def add_checkpoint(self, number: int, document: dict[str, Any], tensors: Tree) -> None:
        """Save a checkpoint, with the results of the finished phases; see `checkpoints.save`."""
        size = sync_file(self._hidden / "metrics.jsonl")
        self._copied = False  # from here on, the hidden folder holds more than the folder it was copied from
        phases = list(self.phases.items())  # as pairs: keys of a document are sorted, and seed 10 is not before seed 2
        checkpoints.save(self._hidden, number, {**document, "phases": phases, "metrics_bytes": size}, tensors)

    def finished_rows(self) -> list[dict[str, Any]]:
        """Return the results of all finished phases."""
        return [row for rows in self.phases.values() for row in rows]

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint, or None."""
        found = checkpoints.paths(self._hidden) or checkpoints.paths(self.path)
        return found[-1] if found else None

    def close(self, results: list[dict[str, Any]], complete: bool) -> None:
        """Give the folder its final name, replacing an older run; files that do not belong to a run are kept.

        Checkpoints are removed if the run is complete.

        Raises:
            RunFolderError: something else took the name in the meantime.
        """
        sync_file(self._hidden / "metrics.jsonl")
        write_atomic(self._hidden / "result.json", _json({"complete": complete, "results": results}))
        if not is_free(self.path):
            if not (self.path / "config.json").is_file():
                raise RunFolderError(f"{self.path} appeared during the run and is not a run folder")
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
        """Give up the lock; first remove the hidden folder unless it holds checkpoints, or complete results that only
        need renaming."""
        try:
            if self._closed:  # a folder with the hidden name would belong to another process now
                return
            worthy = checkpoints.paths(self._hidden) or (self._hidden / "result.json").exists()
            if self._copied or not worthy:
                remove_folder(self._hidden)
        finally:
            self.lock.release()
        for parent in self._made:
            with suppress(OSError):  # not empty: something was written after all
                parent.rmdir()

    def _go_on(self) -> None:
        """Restore phases and metrics from the newest checkpoint in the hidden folder, if there is one."""
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
            raise BadFileError(f"{path} does not fit its run: {one_line(error)}; --force starts over") from error
        self.resumed = document, tensors


@contextmanager
def claimed(path: Path) -> Iterator[RunFolder]:
    """Lock a run folder for this process. If the run is not closed in the end, only checkpoints are left behind.

    Raises:
        RunFolderError: another process works in the folder.
        UsageError: the folder cannot be made.
    """
    folder = RunFolder(path)
    try:
        yield folder
    finally:
        folder.discard()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
