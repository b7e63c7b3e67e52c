"""A sweep: every combination of some values, as calls of one command. Needs neither JAX nor NumPy."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from supermask.errors import BadFileError, UsageError, require

COMMANDS = ("search", "train", "lottery", "forget")
"""The commands that a sweep can call: those that fill one run folder."""
LARGEST = 1_000_000
_LONGEST_NAME = 150
_RANGE = re.compile(r"([^:]+):([^:]+):([^:]+)")
_WHOLE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Cell:
    """One call of a sweep.

    Attributes:
        name: of its run folder; tells its values.
        values: axis -> value, as text.
    """

    name: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Sweep:
    """A command, its axes and the words that all of its calls share.

    Attributes:
        axes: option without its dashes, such as "density", or "-o anneal" and "-a norm" -> its values, as text.
        words: what every call gets besides.

    Raises:
        UsageError: an axis has no value, one twice or too many.
    """

    command: str
    axes: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        require("command", self.command, COMMANDS)
        for name, values in self.axes.items():
            if not values:
                raise UsageError(f"{flag(name)} has no value")
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise UsageError(f"{flag(name)} has the value {twice} twice")
        if len(self) > LARGEST:
            raise UsageError(f"the sweep has {len(self):,} cells; there can be {LARGEST:,}")

    def __len__(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def cells(self) -> Iterator[Cell]:
        """Yield all cells; the last axis changes fastest."""
        for values in itertools.product(*self.axes.values()):
            named = dict(zip(self.axes, values, strict=True))
            yield Cell(_name(self.command, named), named)

    def arguments(self, values: Mapping[str, str]) -> list[str]:
        """The words of the call for these values of axes."""
        found = [self.command]
        for name, value in values.items():
            short, _, key = name.partition(" ")
            found += [short, f"{key}={value}"] if key else [f"{flag(name)}={value}"]
        return [*found, *self.words]

    def to_dict(self) -> dict[str, Any]:
        """The sweep as JSON values."""
        axes = {name: list(values) for name, values in self.axes.items()}
        return {"command": self.command, "axes": axes, "words": list(self.words)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> Sweep:
        """Make a sweep from the values of `to_dict`, or from those of a TOML file, where axes may be text.

        The options in the table `options` of such a file become words.

        Raises:
            BadFileError: they are not the values of a sweep.
        """
        known = {"command", "axes", "words", "options"}
        try:
            if unknown := values.keys() - known:
                raise UsageError(f"unknown key {min(unknown)!r}; the keys are: {', '.join(sorted(known))}")
            axes = {}
            for name, found in dict(values.get("axes", {})).items():
                name, texts = _canonical(name), [found] if isinstance(found, str) else found
                axes[name] = tuple(value for text in texts for value in values_of(name, _text(text)))
            words = [*map(_text, values.get("words", ())), *_words(values.get("options", {}))]
            return cls(values.get("command", "search"), axes, tuple(words))
        except (UsageError, TypeError, ValueError, AttributeError) as error:
            raise BadFileError(f"{path} is not a sweep: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """Read the TOML file of a sweep.

        Raises:
            BadFileError: it is missing or not the file of a sweep.
        """
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")), path)
        except OSError as error:
            raise BadFileError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadFileError(f"{path} is not TOML: {error}") from error


def flag(name: str) -> str:
    """The option of an axis, as it is typed."""
    return name if name.startswith("-") else f"--{name}"


def values_of(name: str, text: str) -> tuple[str, ...]:
    """The values that an axis is given: `a,b`, `0.1:0.9:0.2` with both ends, or, of seeds, `0-4`.

    Raises:
        UsageError: a range that goes nowhere, or is too long.
    """
    found: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if match := _RANGE.fullmatch(part):
            found += _range(name, part, *match.groups())
        elif name == "seed" and (match := _WHOLE.fullmatch(part)):
            first, last = map(int, match.groups())
            found += _range(name, part, str(first), str(last), "1")
        elif part:
            found.append(part)
    return tuple(found)


def _range(name: str, text: str, first: str, last: str, step: str) -> list[str]:
    try:
        start, stop, by = (Decimal(word) for word in (first, last, step))
        count = int((stop - start) / by) + 1 if by else 0
    except (InvalidOperation, OverflowError, ValueError):
        return [text]  # such as a dataset, npz:PATH:...
    if count < 1:
        raise UsageError(f"{flag(name)} {text} has no value: it must be FIRST:LAST:STEP")
    if count > LARGEST:
        raise UsageError(f"{flag(name)} {text} has {count:,} values; there can be {LARGEST:,}")
    return [format((start + i * by).normalize(), "f") for i in range(count)]


def _canonical(name: str) -> str:
    """The name of an axis: `seeds` and `lr` are other words for two of them."""
    plain = name if " " in name else name.replace("_", "-")
    return {"seeds": "seed", "lr": "learning-rate"}.get(plain, plain)


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    """The words for the table of options in a TOML file; a list is an option that is given several times."""
    for name, value in dict(options).items():
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                yield flag(_canonical(name))
            elif one is not False:
                yield from [name, _text(one)] if name in ("-a", "-o") else [f"{flag(_canonical(name))}={_text(one)}"]


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{value!r} is neither text nor a number")
    return value if isinstance(value, str) else repr(value)


def _name(command: str, values: Mapping[str, str]) -> str:
    """The name of a cell's folder. What does not fit is cut, and a hash of everything tells such names apart."""
    parts = [f"{name.lstrip('-').replace(' ', '.')}={value}" for name, value in values.items()]
    whole = ",".join(parts) or command
    plain = re.sub(r"[^\w.+=,-]", "_", whole)
    if plain == whole and len(whole) <= _LONGEST_NAME:
        return whole
    return f"{plain[:_LONGEST_NAME]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def merged(base: Sweep | None, command: str | None, axes: Mapping[str, str], words: Sequence[str]) -> Sweep:
    """The sweep of a call: what is typed overrides a file.

    Args:
        axes: axis -> its values, as typed.
    """
    typed = {_canonical(name): text for name, text in axes.items()}
    found = dict(base.axes) if base else {}
    found |= {name: values_of(name, text) for name, text in typed.items()}
    return Sweep(command or (base.command if base else "search"), found, (*(base.words if base else ()), *words))
