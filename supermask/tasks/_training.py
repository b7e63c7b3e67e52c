"""A task as training has it, with smoothed labels; nothing is ever scored by them."""

import dataclasses
from typing import Any

from supermask.errors import UsageError
from supermask.types import Task


def in_training(task: Task, label_smoothing: float | None) -> Task:
    """Return the task whose loss a network trains by.

    Raises:
        UsageError: labels are to be smoothed, and the task has no field `label_smoothing`.
    """
    if not label_smoothing:
        return task
    found: Any = task
    names: list[str] = [field.name for field in dataclasses.fields(found)] if dataclasses.is_dataclass(task) else []
    if "label_smoothing" not in names:
        raise UsageError(f"the task {type(task).__name__} smooths no labels: leave out --label-smoothing")
    smoothed: Task = dataclasses.replace(found, label_smoothing=label_smoothing)
    return smoothed
