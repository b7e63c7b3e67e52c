"""Whether data and code are still those of a finished run, or of a ticket that is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from supermask.config import Config
from supermask.data.source import Source, numbers, offline
from supermask.data.splits import noun_of, split_dataset
from supermask.errors import BadFileError, SupermaskError, UsageError
from supermask.experiments.options import RunOptions
from supermask.runs import content
from supermask.runs.index import hidden_path
from supermask.ticket import Ticket
from supermask.types import Dataset
from supermask.weights.trained import TrainedWeights

Found = Ticket | TrainedWeights


def check_finished(path: Path, source: Source, note: Callable[[str], None]) -> None:
    """Check that a finished run was made of the data and the code that its config names now. Imports no JAX.

    The data is read only if its files are not known to be the same, and never fetched: where it is gone, the run is
    taken as it is, and that is noted.

    Raises:
        RunFolderError: it was not; the message names what differs.
        BadFileError: its fingerprints are damaged.
    """
    there = content.read(path)
    content.check(path, source.code)
    if not there:
        return
    try:
        if source.files and there.get(content.FILES) == source.files[content.FILES]:
            return
        with offline():
            here = source.data
    except SupermaskError as error:
        note(f"note: the data of {path} was not compared with what it was: {error}")
        return
    content.check(path, here)


def check_moved(path: Path, options: RunOptions) -> None:
    """Check that there is a run whose data can have moved to where the options say.

    Raises:
        UsageError: there is none.
    """
    if options.dataset is None or content.read(path) or content.read(hidden_path(path)):
        return
    if not any((folder / "config.json").is_file() for folder in (path, hidden_path(path))):
        raise UsageError(
            f"{path} is not a run yet, so its data cannot have moved: name {options.dataset} in the config"
        )
    options.note(
        f"note: {path}, of an earlier version, does not say what its data was; {options.dataset} is taken as the same"
    )


@dataclass(frozen=True)
class Origin:
    """The dataset that a ticket is evaluated on, and how data and code differ from those that it was found with.

    Attributes:
        dataset: resized and split.
        other_data, other_code: what differs.
        known: whether the ticket says what its data was; those of earlier versions do not.
        unseen: splits whose images were not compared, for only on one side all of them were decoded.
        name: of the dataset, where it was named beside the ticket's config; else None.
    """

    dataset: Dataset
    other_data: tuple[str, ...]
    other_code: tuple[str, ...]
    known: bool
    name: str | None
    unseen: tuple[str, ...] = ()

    @classmethod
    def of(cls, ticket: Found, config: Config, data_dir: Path | None, named: bool) -> Origin:
        """Read the dataset of a config, the ticket's but for the dataset if another one was `named`.

        Raises:
            BadFileError: it is missing or damaged; it is other data and was not named; it does not fit the ticket.
        """
        source = Source(config, data_dir)
        try:
            here = source.data
        except BadFileError as error:
            hint = "" if named else "; if the ticket's data has moved, --dataset says where to"
            raise BadFileError(f"{error}{hint}") from error
        other, unseen = content.differences(ticket.content, here), sorted(content.incomparable(ticket.content, here))
        if unseen:  # then moments differ, too: those of some images are not those of all
            other = [text for text in other if not text.startswith(content.MOMENTS)]
        if other and not named:
            raise BadFileError(
                f"{config.dataset} is not the data of {_name(ticket)}: {'; '.join(other)}; --dataset {config.dataset} "
                "evaluates on it all the same"
            )
        dataset = split_dataset(config, source.take())
        if named:
            _check_fit(dataset, ticket, config.dataset)
        if other or unseen:
            means, deviations = (numbers(ticket.content[key]) for key in ("means", "deviations"))
            dataset = replace(dataset, mean=means, std=deviations)
        code = tuple(content.differences(ticket.content, source.code))
        name = config.dataset if named else None
        return cls(dataset, tuple(other), code, bool(ticket.content), name, tuple(unseen))

    def check_code(self, ticket: Found, reproduced: bool) -> None:
        """Refuse code that is not the ticket's; where the validation accuracy is reproduced, it means the same.

        Raises:
            BadFileError: it is not, as far as the data can tell.
        """
        if self.other_code and not reproduced and not self.other_data:
            raise BadFileError(
                f"{_name(ticket)} was made by other code ({'; '.join(self.other_code)}), and its validation accuracy "
                "is not reproduced: put the code back, or search again"
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers should know."""
        found = []
        if self.other_data:
            found.append(f"note: {self.name} is other data than the ticket's: {'; '.join(self.other_data)}")
        if self.name and not self.known:
            found.append(
                f"note: the ticket, of an earlier version, does not say what its data was; if {self.name} is the same, "
                "its validation accuracy is reproduced"
            )
        if self.unseen:
            found.append(
                f"note: the images of {' and '.join(self.unseen)} were not compared with the ticket's: they are too "
                "many to be decoded first; number and labels are the same"
            )
        if self.other_code:
            shows = "its validation accuracy is reproduced all the same"
            if self.other_data:
                shows = "other data cannot show whether it means the same"
            found.append(f"note: the ticket was made by other code ({'; '.join(self.other_code)}); {shows}")
        return tuple(found)


def _check_fit(dataset: Dataset, ticket: Found, name: str) -> None:
    shape, classes = dataset.train.inputs.shape[1:], ticket.content.get("classes", "").partition(" ")[0]
    if tuple(shape) != tuple(ticket.image_shape):
        here, there = ("x".join(map(str, lengths)) for lengths in (shape, ticket.image_shape))
        raise BadFileError(f"{name} has {noun_of(dataset)} of {here}; those of {_name(ticket)} are {there}")
    if classes and str(len(dataset.classes)) != classes:
        kinds = "classes" if noun_of(dataset) == "images" else "tokens"
        raise BadFileError(f"{name} has {len(dataset.classes)} {kinds}; {_name(ticket)} has {classes}")


def _name(ticket: Found) -> str:
    return str(ticket.path or "the ticket")
