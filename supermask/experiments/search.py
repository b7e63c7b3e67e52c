"""`search`: groups of seeds, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from supermask.config import SearchConfig
from supermask.engine.callbacks import Observer
from supermask.engine.problem import Parts, build
from supermask.engine.programs import Programs, side_by_side
from supermask.engine.snapshot import Snapshot
from supermask.engine.trainer import Group, Outcome
from supermask.ticket import Ticket


def search(
    config: SearchConfig, *, data_dir: str | Path | None = None, observer: Observer | None = None
) -> list[Ticket]:
    """Find a mask for each seed of the config.

    Returns:
        one ticket per seed, in order of the seeds; fewer if the observer stopped the search.

    Raises:
        UsageError: a name or a number of the config is wrong.
        BadFileError: the dataset is missing or damaged.
        DivergedError: the loss is not finite.
    """
    parts = build(config, Path(data_dir) if data_dir else None)
    return [outcome.ticket for outcome in outcomes(parts, observer or Observer())]


def outcomes(parts: Parts, observer: Observer, resume: Snapshot | None = None) -> Iterator[Outcome]:
    """One outcome per seed. When the observer stops it, the last ones are of the best masks so far, if any.

    Args:
        resume: go on from there, to the same bytes; the seeds before its own are left out.
    """
    config, together = parts.config, side_by_side(parts)
    programs = Programs(parts, together)
    for first in range(resume.first if resume else config.seed, config.seed + config.seeds, together):
        seeds = tuple(range(first, min(first + together, config.seed + config.seeds)))
        search = Group(programs, seeds, observer, resume if resume and first == resume.first else None)
        yield from search.run()
        if search.interrupted:
            return
