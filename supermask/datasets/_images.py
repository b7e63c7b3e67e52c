"""Image files as grey or RGB pixels of 8 bits: read in the type that they have, whatever their name says.

Only the decoders of FORMATS may run. What a file has beside the pixels of its first frame is counted as a remark.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from supermask.datasets._check import times
from supermask.datasets._frames import View, framed
from supermask.errors import BadFileError, SupermaskError, one_line

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
}

_GREY = ("1", "L", "LA")
_MODES = (*_GREY, "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # the tag of EXIF
_ORIENTED = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")  # where a PNG may have that tag
METADATA = 1 << 26  # bytes of one unpacked text or colour profile of a PNG


@dataclass(frozen=True)
class Encoded:
    """An image file in memory, such as a cell of a table; `name` says where it is from."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        return self.data


Source = Path | Encoded
"""Where the bytes of an image are."""


@dataclass
class Survey:
    """What is known of images before their pixels are decoded.

    Attributes:
        sizes: (height, width) as a viewer shows it -> the first image of that size.
        grey: whether all images are grey.
        remarks: what is not read, or not as it is stored -> the number of images.
    """

    sizes: dict[tuple[int, int], Source] = field(default_factory=dict)
    grey: bool = True
    remarks: Counter[str] = field(default_factory=Counter)

    def add(self, other: Survey) -> None:
        """Add what is known of further images."""
        self.sizes |= {size: path for size, path in other.sizes.items() if size not in self.sizes}
        self.grey = self.grey and other.grey
        self.remarks.update(other.remarks)

    def common_size(self, image_size: int | None) -> tuple[int, int]:
        """Height and width of all images, or those that they are resized to if they differ.

        Raises:
            BadFileError: they differ and `image_size` is None.
        """
        (first, path), *others = self.sizes.items()
        if not others:
            return first
        if image_size is None:
            other, odd = others[0]
            raise BadFileError(
                f"{odd} is {times(other[::-1])} pixels and {path} is {times(first[::-1])}; "
                "all images must have the same size, or be resized with --image-size"
            )
        return image_size, image_size


def survey(paths: Sequence[Source]) -> Survey:
    """Look at all images; the checksums of PNG files, which decoding skips, are verified.

    Raises:
        BadFileError: an image cannot be read or has more than 8 bits per channel.
    """
    found = Survey()
    with strictly():
        for path in paths:
            with _opened(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise BadFileError(
                        f"{path} has more than 8 bits per channel (mode {image.mode}); store it with 8 bits"
                    )
                if image.mode not in _MODES:
                    raise BadFileError(f"{path} has the colours {image.mode}; store it as grey or RGB with 8 bits")
                orientation = _orientation(image, path)
                found.sizes.setdefault(image.size if orientation > 4 else image.size[::-1], path)
                found.grey = found.grey and image.mode in _GREY
                found.remarks["turned as EXIF says"] += orientation > 1
                found.remarks["only the first frame is read"] += getattr(image, "is_animated", False)
                found.remarks["only the upper 8 of 16 bits per channel are read"] += _is_deep(image)
                image.verify()
    return found


def decode(paths: Sequence[Source], view: View, noise: Sequence[str] = ()) -> tuple[np.ndarray, int]:
    """The pixels of images, uint8 (n, *view.shape), and the number of images with transparent pixels.

    Those are put on white, as a page shows them. To be called inside of `strictly`.

    Args:
        noise: names the random crop of each image, see `framed`.

    Raises:
        BadFileError: an image cannot be read.
    """
    images, transparent = np.empty((len(paths), *view.shape), np.uint8), 0
    for row, path in enumerate(paths):
        with _opened(path) as image:
            orientation = _orientation(image, path)
            shown, is_transparent = _on_white(image)
            shown = _turned(shown.convert("L" if view.channels == 1 else "RGB"), orientation)
            shown = framed(shown, view, noise[row] if noise else None)
            images[row] = np.asarray(shown).reshape(view.shape)
            transparent += is_transparent
    return images, transparent


@contextmanager
def strictly() -> Iterator[None]:
    """Let Pillow refuse images that are too large, and read metadata as editors write it, without a word.

    This changes settings of the whole process, so only one thread may enter it.
    """
    from PIL import Image, PngImagePlugin

    usual = PngImagePlugin.MAX_TEXT_CHUNK
    try:
        # Pillow refuses images for metadata of a megabyte, which editors write.
        PngImagePlugin.MAX_TEXT_CHUNK = METADATA
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = usual


@contextmanager
def _opened(path: Source) -> Iterator[Any]:
    """Open an image; whatever goes wrong inside of the block is reported as a bad file."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(path.data) if isinstance(path, Encoded) else path, formats=FORMATS) as image:
            yield image
    except SupermaskError:
        raise
    except Exception as error:  # decoders raise all kinds of errors for damaged images
        raise BadFileError(f"cannot read the image {path}: {_reason(error, path)}") from error


def _reason(error: Exception, path: Source) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}, or damaged"
    if "MAX_TEXT" in str(error):
        return f"its metadata has more than {METADATA} bytes; save it without"
    return one_line(error).replace(f": {str(path)!r}", "")[:200]


def _orientation(image: Any, path: Source) -> int:
    """How the image is stored, 1 to 8 as in EXIF; 1 is upright. A damaged tag is none."""
    from PIL import Image

    if image.format == "TIFF":
        return 1  # Pillow turns these by itself
    if image.format == "PNG":
        data = path.read_bytes()
        if not any(word in data for word in _ORIENTED):
            return 1
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.load()  # the tag may lie behind the pixels
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # metadata is damaged in many ways, and viewers show such images upright
        return 1
    return value if value in range(1, 9) else 1


def _turned(image: Any, orientation: int) -> Any:
    from PIL import Image

    turn = Image.Transpose
    turns = [turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM]
    turns += [turn.TRANSPOSE, turn.ROTATE_270, turn.TRANSVERSE, turn.ROTATE_90]
    return image if orientation == 1 else image.transpose(turns[orientation - 2])


def _on_white(image: Any) -> tuple[Any, bool]:
    """The image with transparent pixels put on white, and whether it has any."""
    from PIL import Image

    if not image.has_transparency_data:
        return image, False
    drawn = image.convert("RGBA")
    if drawn.getchannel("A").getextrema()[0] == 255:
        return image, False
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    return page, True


def _is_deep(image: Any) -> bool:
    """Whether Pillow leaves out the lower half of 16 bits; it reads grey images of 16 bits whole, as mode I."""
    if not image.tile:
        return False
    decoder, _, _, words = image.tile[0]
    words = (words,) if isinstance(words, str) else tuple(words or ())
    return any(";16" in str(word) for word in words) or (decoder.startswith("ppm") and words[-1] > 255)
