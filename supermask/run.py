"""Run folder: config.json, metrics.jsonl, the ticket of each seed and result.json.

It is filled under a hidden name beside its own and renamed when the search ends or is stopped, so that a folder of the
final name is always whole. The hidden folder is locked while a process works in it; one that a dead process left behind
is taken over, with its newest checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supermask import checkpoint
from supermask.config import SearchConfig
from supermask.errors import BadFileError, RunFolderError, SupermaskError, UsageError, one_line
from supermask.files import empty_folder, lock_folder, read_bytes, sync_file, sync_folder, write_atomic
from supermask.ticket import Ticket
from supermask.types import Tree

OWN_FILES = re.compile(r"config\.json|metrics\.jsonl|result\.json|(ticket-s|checkpoint-)\d+\.safetensors|\..*")


def default_path(root: Path, config: SearchConfig, defaults: SearchConfig) -> Path:
    """ROOT/ARCH-DATASET-METHOD-dDENSITY-sSEED-HASH8 of a resolved config; `defaults` is what it would be unasked."""
    parts = [
        config.arch,
        config.dataset,
        config.method,
        f"d{config.density:g}",
        f"s{config.seed}",
        config.digest(defaults),
    ]
    return root / "-".join(
        re.sub(r"[^\w.+]+", "_" if part.startswith(("npz:", "folder:")) else "-", part)[-60:] for part in parts
    )


def read_config(path: Path) -> dict[str, Any]:
    """The values of a config.json.

    Raises:
        BadFileError: it is missing or no JSON object.
    """
    try:
        values = json.loads(read_bytes(path, "a config.json of a run"))
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadFileError(f"{path} holds a {type(values).__name__}; it should hold an object of config keys")
    return values


def finished(path: Path, config: SearchConfig) -> list[dict[str, Any]] | None:
    """The results of a finished run of this config; None if there is none, or it was interrupted.

    Raises:
        RunFolderError: the folder belongs to another config, or is no run folder.
        BadFileError: something in it is missing or damaged.
    """
    if _is_free(path):
        return None
    _check_owner(path, config)
    try:
        result = json.loads(read_bytes(path / "result.json", "the result of a run"))
        rows = [dict(row, run=str(path), ticket=str(path / Path(row["ticket"]).name)) for row in result["results"]]
        if not result["complete"]:
            return None
        for row in rows:
            Ticket.load(row["ticket"])
        return rows
    except BadFileError as error:
        raise BadFileError(f"{error}; --force searches anew") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFileError(f"{path}/result.json is damaged; --force searches anew") from error


def _is_free(path: Path) -> bool:
    """Whether a new run may take this name without asking: nothing is there, or an empty folder."""
    try:
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise UsageError(f"cannot use {path} as a run folder: {error.strerror}") from error


def _check_owner(path: Path, config: SearchConfig) -> None:
    if not (path / "config.json").is_file():
        raise RunFolderError(f"{path} exists and is not a run folder; give --out another name")
    there = read_config(path / "config.json")
    try:
        mine, other = config.to_dict(), SearchConfig.from_dict(there).to_dict()
    except (UsageError, TypeError) as error:
        raise RunFolderError(f"{path} belongs to a config that this version cannot read: {error}") from error
    differing = [f"{key} {other[key]!r} there, {mine[key]!r} here" for key in mine if mine[key] != other[key]]
    if differing:
        raise RunFolderError(
            f"{path} belongs to another config ({'; '.join(differing)}); choose another --out, or --force"
        )


class RunFolder:
    """The folder of one search while it is being filled; made by `open_run`.

    Attributes:
        resumed: document and tensors of the checkpoint that the search goes on from, or None.
        results: of the seeds that were done then.
        complaints: about newer checkpoints that are damaged.
    """

    def __init__(self, path: Path, hidden: Path) -> None:
        self.path, self._hidden = path, hidden
        self.resumed: tuple[dict[str, Any], Tree] | None = None
        self.results: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self._made = [parent for parent in path.parents if not parent.exists()]

    @property
    def working(self) -> Path:
        """Where the files are until the run is closed."""
        return self._hidden

    def add_metrics(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        try:
            with (self._hidden / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SupermaskError(f"cannot write {self._hidden}/metrics.jsonl: {error.strerror}") from error

    def add_ticket(self, ticket: Ticket) -> Path:
        """Save a ticket; the path is the one that it has once the run is closed."""
        name = f"ticket-s{ticket.config.seed}.safetensors"
        ticket.save(self._hidden / name)
        return self.path / name

    def add_checkpoint(self, number: int, document: dict[str, Any], tensors: Tree, results: list[Any]) -> None:
        """Save where the search stands, with the results of the seeds that are done; see `checkpoint.save`."""
        size = sync_file(self._hidden / "metrics.jsonl")
        checkpoint.save(self._hidden, number, {**document, "results": results, "metrics_bytes": size}, tensors)

    def last_checkpoint(self) -> Path | None:
        """The newest one, if there is any."""
        found = checkpoint.paths(self._hidden) or checkpoint.paths(self.path)
        return found[-1] if found else None

    def close(self, results: list[dict[str, Any]], complete: bool) -> None:
        """Give the folder its name, in place of an older run's if there is one; files that are not a run's are kept.

        Checkpoints stay only if the search is not complete.

        Raises:
            RunFolderError: something else took the name meanwhile.
        """
        write_atomic(self._hidden / "result.json", _json({"complete": complete, "results": results}))
        if not _is_free(self.path):
            if not (self.path / "config.json").is_file():
                raise RunFolderError(f"{self.path} appeared during the search and is not a run folder")
            for file in self.path.iterdir():
                if not OWN_FILES.fullmatch(file.name):
                    os.rename(file, self._hidden / file.name)
        old = self._hidden.with_name(self._hidden.name + ".old")
        if self.path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(self.path, old)
        os.rename(self._hidden, self.path)
        sync_folder(self.path.parent)
        shutil.rmtree(old, ignore_errors=True)
        for file in checkpoint.paths(self.path) if complete else []:
            file.unlink()

    def discard(self) -> None:
        """Leave nothing behind but checkpoints, and results that only want their name."""
        if not checkpoint.paths(self._hidden) and not (self._hidden / "result.json").exists():
            shutil.rmtree(self._hidden, ignore_errors=True)
        for parent in self._made:
            with suppress(OSError):  # not empty: something was written after all
                parent.rmdir()

    def _go_on(self) -> None:
        """Take over what the checkpoint in the hidden folder says; without one, begin with nothing."""
        found = checkpoint.newest(self._hidden)
        if found is None:
            return
        path, document, tensors, self.complaints = found
        try:
            self.results, size = list(document["results"]), int(document["metrics_bytes"])
            if (self._hidden / "metrics.jsonl").stat().st_size < size:
                raise ValueError("its metrics are cut short")
            os.truncate(self._hidden / "metrics.jsonl", size)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise BadFileError(f"{path} does not fit its run: {one_line(error)}; --force searches anew") from error
        self.resumed = document, tensors


@contextmanager
def open_run(path: Path, config: SearchConfig, *, force: bool = False) -> Iterator[RunFolder]:
    """A run folder to be filled, then closed; if it is not closed, nothing of it is left but checkpoints.

    A search that was stopped or killed left those in the folder, or in the hidden one beside it: unless `force`, the
    newest good one is in `resumed`.

    Raises:
        RunFolderError: another process works in it; or, unless `force`, it belongs to another config.
        UsageError: it cannot be made.
        BadFileError: there are checkpoints, and none is good.
    """
    if not path.name or path.name == "..":
        raise UsageError(f"{path} cannot be a run folder; give --out the name of a new one")
    if not _is_free(path) and not (force and (path / "config.json").is_file()):
        _check_owner(path, config)
    hidden = hidden_path(path)
    folder = RunFolder(path, hidden)
    lock = lock_folder(hidden, path)
    keep = True  # of an error here, what was left behind is no worse
    try:
        if force or not checkpoint.paths(hidden):
            keep = False
            empty_folder(hidden)
            if not force and path.is_dir() and checkpoint.paths(path):
                # Checkpoints last: where there is one, all that it needs is there.
                last = checkpoint.paths(path)
                own = [f for f in path.iterdir() if f.is_file() and OWN_FILES.fullmatch(f.name) and f not in last]
                for file in [*own, *last]:
                    if file.name != "result.json" and not file.name.startswith("."):
                        write_atomic(hidden / file.name, file.read_bytes())
        else:
            _check_owner(hidden, config)
        write_atomic(hidden / "config.json", _json(config.to_dict()))
        (hidden / "metrics.jsonl").touch()
        folder._go_on()
        keep = False
        yield folder
    finally:
        if not keep:
            folder.discard()
        os.close(lock)


def hidden_path(path: Path) -> Path:
    """Where the folder of a run is filled."""
    return path.with_name(f".{path.name}.unfinished")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
