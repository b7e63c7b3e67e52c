"""Draw how many weights each pixel keeps in the first layer, one panel per ticket, all on the same scale.

    python benchmarks/picture.py docs/first-layer-mask.png "found=mnist/ticket-s0.safetensors" "random=random/..."

The network must begin with a dense layer that sees the flattened grey image, as lenet300 does. Black: no weight is
kept; white: as many as the best-connected pixel of all panels keeps. Needs matplotlib, but neither JAX nor the data.
"""

import argparse
from pathlib import Path

import numpy as np

from supermask import Ticket
from supermask.report.figure import drawn
from supermask.report.images import first_layer, mask_panels


def kept_per_pixel(path: str) -> np.ndarray:
    """The number of kept weights of each input pixel, (height, width)."""
    ticket = Ticket.load(path)
    name, _ = first_layer(ticket.mask, ticket.image_shape, path)
    [panel] = mask_panels(ticket.mask[name], ticket.image_shape)
    return panel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("panels", nargs="+", metavar="TITLE=TICKET")
    words = parser.parse_args()

    titles, paths = zip(*(panel.split("=", 1) for panel in words.panels), strict=True)
    counts = [kept_per_pixel(path) for path in paths]
    with drawn(words.output, 2.9 * len(counts) + 0.6, 3.1) as figure:
        axes = figure.subplots(1, len(counts), squeeze=False)[0]
        for ax, title, count in zip(axes, titles, counts, strict=True):
            highest = max(panel.max() for panel in counts)
            shown = ax.imshow(count, cmap="gray", vmin=0, vmax=highest, interpolation="nearest")
            ax.set_axis_off()
            ax.set_title(title, loc="left")
            print(f"{title}: {count.min():.0f} to {count.max():.0f} weights a pixel, {count.mean():.1f} on average")
        figure.colorbar(shown, ax=list(axes), label="weights kept per pixel", shrink=0.9)


if __name__ == "__main__":
    main()
