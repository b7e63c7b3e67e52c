"""Draw how many weights each pixel keeps in the first layer, one panel per ticket, all on the same scale.

    python benchmarks/picture.py docs/first-layer-mask.png 28 "found=mnist/ticket-s0.safetensors" "random=random/..."

The network must begin with a dense layer that sees the flattened square image, as lenet300 does. Black: no weight is
kept; white: as many as the best-connected pixel of all panels keeps. Needs neither JAX nor the data.
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from supermask import Ticket

GAP, HEAD = 24, 34


def kept_per_pixel(path: str, side: int) -> np.ndarray:
    """The number of kept weights of each input pixel, (side, side)."""
    ticket = Ticket.load(path)
    first = next(mask for name, mask in ticket.mask.items() if mask.shape[0] == side * side)
    return (first != 0).sum(1).reshape(side, side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("side", type=int, help="height and width of the images, in pixels")
    parser.add_argument("panels", nargs="+", metavar="TITLE=TICKET")
    parser.add_argument("--scale", type=int, default=10, help="pixels of the picture for one of an image")
    words = parser.parse_args()

    titles, paths = zip(*(panel.split("=", 1) for panel in words.panels), strict=True)
    counts = [kept_per_pixel(path, words.side) for path in paths]
    highest, size = max(count.max() for count in counts), words.side * words.scale
    picture = Image.new("L", (len(counts) * (size + GAP) - GAP, size + HEAD), 255)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    for i, (title, count) in enumerate(zip(titles, counts, strict=True)):
        grey = Image.fromarray((count * (255 / highest)).round().astype(np.uint8))
        picture.paste(grey.resize((size, size), Image.Resampling.NEAREST), (i * (size + GAP), HEAD))
        draw.text((i * (size + GAP), 4), title, fill=0, font=font)
        print(f"{title}: {count.min()} to {count.max()} weights a pixel, {count.mean():.1f} on average")
    picture.quantize(64).save(words.output, optimize=True)


if __name__ == "__main__":
    main()
