"""What fits a dataset of images, and what one of tokens: networks, and options that are about images."""

from __future__ import annotations

from typing import Any

from supermask import registry
from supermask.errors import UsageError, listed

IMAGES, TOKENS = "images", "tokens"
"""What a network is given. Built-in archs and datasets of tokens say so: `INPUTS = "tokens"`."""


def inputs_of(kind: str, name: str) -> str | None:
    """What a built-in arch or dataset takes or has; None for a user's own."""
    if registry.is_own(kind, name):
        return None
    return str(registry.describe(kind, name).constants.get("INPUTS", IMAGES))


def check_inputs(config: Any, inputs: str | None, normalise: str | None = None) -> None:
    """Check that network and options suit the dataset.

    Args:
        inputs: IMAGES or TOKENS; None if only reading the dataset will tell.
        normalise: what `normalise` is where nobody chose it.

    Raises:
        UsageError: they do not.
    """
    takes, name = inputs_of("archs", config.arch), config.dataset
    if None not in (takes, inputs) and takes != inputs:
        archs = [arch for arch in registry.names("archs") if inputs_of("archs", arch) == inputs]
        datasets = [other for other in registry.names("datasets") if inputs_of("datasets", other) == takes]
        raise UsageError(
            f"{config.arch} takes {takes}, and {name} has {inputs}: take {listed(archs, 3)}, a network of your own, or "
            f"another dataset: {listed(datasets, 3)}"
        )
    if inputs != TOKENS:
        return
    for option, value, unset in (
        ("--image-size", config.image_size, None),
        ("--normalise", config.normalise, normalise),
        ("--augment", config.augment, "none"),
    ):
        if value not in (None, unset):
            raise UsageError(f"{option} {value} is about images, and {name} has tokens: leave it out")
