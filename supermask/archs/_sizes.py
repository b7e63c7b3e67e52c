"""The error for images that are too small for them."""

from __future__ import annotations

from supermask.errors import UsageError


def require_size(name: str, image_shape: tuple[int, ...], smallest: int, instead: str = "") -> None:
    """Raise a UsageError if images (height, width, channels) are smaller than `smallest`.

    Args:
        name: what needs them, for the message.
        instead: what else would be right, as in ", or -a patch=1".
    """
    height, across, *_ = image_shape
    if min(height, across) < smallest:
        raise UsageError(
            f"{name} needs images of at least {smallest}x{smallest}, these are {height}x{across}: "
            f"use --image-size {smallest} or more{instead}"
        )
