"""Masks and weights as images: which inputs the first layer keeps, and where weights began and ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from supermask.errors import BadFileError, listed
from supermask.report.figure import drawn
from supermask.types import Array, Tree
from supermask.weights.layers import as_factors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 6
"""Panels in a row."""


def first_layer(mask: Tree, image_shape: tuple[int, ...], what: str) -> tuple[str, str]:
    """Find the masked layer that sees the image; `what` names the file, for messages.

    It is a dense kernel with a row for each value of an image, or a convolution over as many channels as an image has.
    Several fit where other convolutions have that many channels too, such as depthwise ones for grey images. The one
    that lies least deep in the network's modules is taken then.

    Returns:
        its name, and a note if several fit, or "".

    Raises:
        BadFileError: there is none.
    """
    if len(image_shape) == 1:
        raise BadFileError(f"{what} is of sequences of tokens, so no mask of it can be drawn as an image")
    names = [name for name, array in mask.items() if _sees(array.shape, image_shape)]
    if not names:
        has = f"its masks are those of {listed(sorted(mask))}" if mask else "it was trained dense"
        raise BadFileError(f"{what} has no mask over a layer that sees the image, so none can be drawn: {has}")
    first, *others = sorted(names, key=lambda name: name.count("/"))
    return first, f"note: {first} is drawn; {listed(others)} may see the image as well" if others else ""


def _sees(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> bool:
    if len(shape) == 2:
        return shape[0] == math.prod(image_shape)
    return len(shape) == 4 and shape[2] == image_shape[-1]


def kept(mask: Array) -> np.ndarray:
    """1 where a mask keeps a weight, of any kind of mask; of a sampled one, the probability of that."""
    array = np.asarray(mask)
    return as_factors({"": array})[""] if array.dtype == np.uint8 else (array != 0).astype(np.float32)


def mask_panels(mask: Array, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The first layer's mask as images.

    Of a dense layer over flattened images: how many weights each pixel keeps, one panel for each channel. Of a
    convolution: a grid of its kernels, one for each output, summed over the channels.

    Args:
        mask: (inputs, outputs), or (height, width, channels, outputs).
        shape: (height, width, channels) of an image.
    """
    array = kept(mask)
    if array.ndim == 2:
        return list(np.moveaxis(array.sum(1).reshape(shape), -1, 0))
    tiles = np.moveaxis(array.sum(2), -1, 0)
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles.shape[1:]
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan, np.float32)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        grid[top : top + height, left : left + width] = tile
    return [grid]


def mask_image(mask: Array, shape: tuple[int, ...], path: Path, title: str = "") -> None:
    """Draw the first layer's mask, see `mask_panels`: black where no weight is kept, white where most are.

    Raises:
        UsageError, SupermaskError, DiskError: see `figure.drawn`.
    """
    panels = mask_panels(mask, shape)
    highest = max(float(np.nanmax(panel)) for panel in panels)
    with drawn(path, 0.9 + 3.4 * len(panels), 3.6) as figure:
        figure.suptitle(title, fontsize=9)
        axes = np.atleast_1d(figure.subplots(1, len(panels)))
        for channel, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            ax.set_facecolor("#4b6a9b")  # between kernels; no grey, for that is a number
            shown = ax.imshow(panel, cmap="gray", vmin=0, vmax=max(highest, 1), interpolation="nearest")
            ax.spines[:].set_visible(False)
            ax.set_xticks([])
            ax.set_yticks([])
            if len(panels) > 1:
                ax.set_xlabel(f"channel {channel}")
        what = "outputs" if np.ndim(mask) == 2 else "channels"
        total = np.shape(mask)[1 if np.ndim(mask) == 2 else 2]
        figure.colorbar(shown, ax=list(axes), shrink=0.8, label=f"weights kept, of {total} {what}")


def joint_histogram(layers: Sequence[Mapping[str, Any]], path: Path, title: str = "") -> None:
    """Draw where the weights of each layer began and where they ended: how many lie at each (w_init, w_final).

    Zhou et al. 2019 (arXiv 1905.01067) draw mask criteria as regions of this plane.

    Args:
        layers: rows of `Comparison.layers`.
        path: a PNG or SVG, by its ending.
        title: of the picture.

    Raises:
        UsageError, SupermaskError, DiskError: see `figure.drawn`.
    """
    seeds = list(dict.fromkeys(row["seed"] for row in layers))
    columns = min(math.ceil(len(layers) / len(seeds)), COLUMNS)
    rows = math.ceil(len(layers) / columns)
    with drawn(path, 2.4 * columns + 0.8, 2.6 * rows + 0.4) as figure:
        figure.suptitle(title, fontsize=9)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid[len(layers) :]:
            ax.set_axis_off()
        for ax, row in zip(grid, layers, strict=False):
            counts = np.array(row["histogram"])
            _histogram(ax, counts, row["limit"])
            of_seed = f"seed {row['seed']}, " if len(seeds) > 1 else ""
            ax.set_title(f"{of_seed}{row['layer']} ({counts.sum():,})", fontsize=7)
        figure.supxlabel("initial weight", fontsize=9)
        figure.supylabel("final weight", fontsize=9)


def _histogram(ax: Axes, counts: np.ndarray, edge: float) -> None:
    """`counts` of equal bins from -edge to edge, initial values first."""
    from matplotlib.colors import LogNorm

    edges, shown = np.linspace(-edge, edge, len(counts) + 1), np.ma.masked_equal(counts.T, 0)
    ax.pcolormesh(edges, edges, shown, cmap="cividis", norm=LogNorm(1, max(counts.max(), 2)))
    ax.plot((-edge, edge), (-edge, edge), color="0.5", linewidth=0.7, linestyle=":")
    ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.6, zorder=0)
    ax.set_aspect("equal")
    ax.tick_params(labelsize=6)
