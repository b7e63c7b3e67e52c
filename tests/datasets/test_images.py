"""Folders as people have them: nested, turned, transparent, of all types that are read, with other files among them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from supermask.datasets import folder
from supermask.datasets._images import SUFFIXES
from supermask.errors import BadFileError
from supermask.types import Dataset

PIXELS = (np.arange(5 * 6 * 3).reshape(5, 6, 3) * 2).astype(np.uint8)
Save = Callable[[Image.Image, Path], None]


def photo(mode: str = "RGB") -> Image.Image:
    """6x5 pixels, all of them different."""
    return Image.fromarray(PIXELS).convert(mode)


def make(root: Path, save: Save = Image.Image.save, suffix: str = ".png", mode: str = "RGB") -> Path:
    """One image for each of two classes in train and test."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            path = root / part / name / f"1{suffix}"
            path.parent.mkdir(parents=True)
            save(photo(mode), path)
    return root


def load(root: Path, **more: Any) -> Dataset:
    return folder.load(root, str(root), **more)


def refused(root: Path, *words: str) -> None:
    with pytest.raises(BadFileError) as caught:
        load(root)
    for word in words:
        assert word in str(caught.value)


# --- pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_type_is_read_as_pillow_reads_it(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    images = load(make(tmp_path, suffix=suffix, mode=mode)).train.inputs
    with Image.open(tmp_path / "train" / "cat" / f"1{suffix}") as image:
        expected = np.asarray(image.convert("RGB" if mode == "RGB" else "L"))
    np.testing.assert_array_equal(images[0], expected.reshape(images[0].shape))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp", ".tif", ".ppm"])
def test_half_an_image_of_any_type_is_refused(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path, suffix=suffix) / "test" / "dog" / f"1{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(tmp_path, f"cannot read the image {path}")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_the_type_is_told_by_the_content(tmp_path: Path, kind: str) -> None:
    make(tmp_path, lambda image, path: image.save(path, kind), ".jpg")
    assert load(tmp_path).train.inputs.shape == (2, 5, 6, 3)


@pytest.mark.parametrize("kind", ["ICO", "TGA", "JPEG2000", "PDF"])
def test_other_decoders_do_not_run(tmp_path: Path, kind: str) -> None:
    make(tmp_path, lambda image, path: image.resize((16, 16)).save(path, kind))
    refused(tmp_path, "none of PNG, JPEG, GIF, WEBP, BMP, TIFF, PPM")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_put_on_white(tmp_path: Path, mode: str, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is drawn in the alpha channel alone is seen: black of 0, 40, 80, ... of 255 on white."""
    alpha = (np.arange(30).reshape(5, 6) * 40 % 256).astype(np.uint8)

    def save(image: Image.Image, path: Path) -> None:
        image = Image.new(mode, image.size)
        image.putalpha(Image.fromarray(alpha))
        image.save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))

    images = load(make(tmp_path, save, suffix)).train.inputs
    grey = mode == "LA" and suffix != ".webp"  # WebP has no grey
    assert images.shape == (2, 5, 6, 1 if grey else 3)
    for channel in range(images.shape[-1]):
        np.testing.assert_array_equal(images[0, ..., channel], 255 - alpha)
    assert f"{tmp_path}: 4 images: transparent pixels are put on white" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGB"])
def test_a_transparent_colour_is_put_on_white(tmp_path: Path, mode: str) -> None:
    """The tRNS chunk of a PNG names one colour, or a palette entry: here all of the image but one black row."""

    def save(image: Image.Image, path: Path) -> None:
        image = Image.new(mode, image.size)  # black
        row = Image.new(mode, (6, 1), {"P": 1, "L": 9, "1": 1, "RGB": (9, 9, 9)}[mode])
        image.paste(row, (0, 2))
        if mode == "P":
            image.putpalette([0, 0, 0, 9, 9, 9])
        image.save(path, transparency=(0, 0, 0) if mode == "RGB" else 0)

    images = load(make(tmp_path, save)).train.inputs
    expected = np.full((5, 6), 255)
    expected[2] = 255 if mode == "1" else 9
    np.testing.assert_array_equal(images[0, ..., 0], expected)


def test_alpha_that_hides_nothing_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = load(make(tmp_path, mode="RGBA")).train.inputs
    np.testing.assert_array_equal(images[0], PIXELS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Half of the photos are stored turned; a viewer shows all in one size."""
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    tag = Image.Exif()

    def turn(image: Image.Image, value: int) -> Image.Image:
        tag[0x0112] = value
        image.getexif()[0x0112] = value
        return ImageOps.exif_transpose(image)

    stored = turn(photo(), undo[orientation]) if orientation > 1 else photo()
    tag[0x0112] = orientation
    make(tmp_path, suffix=suffix)
    more = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    plain, turned = (tmp_path / "train" / name / f"1{suffix}" for name in ("cat", "dog"))
    photo().save(plain, **more)
    stored.save(turned, exif=tag.tobytes(), **more)
    images = load(tmp_path).train.inputs.astype(int)
    assert np.abs(images[1] - images[0]).max() <= (6 if suffix == ".jpg" else 0)


def test_orientation_behind_the_pixels_of_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    path = make(tmp_path) / "train" / "dog" / "1.png"
    photo().transpose(Image.Transpose.ROTATE_90).save(path)
    data = io.BytesIO()
    PngImagePlugin.putchunk(data, b"eXIf", tag.tobytes()[6:])
    whole = path.read_bytes()
    path.write_bytes(whole[:-12] + data.getvalue() + whole[-12:])  # before IEND
    np.testing.assert_array_equal(load(tmp_path).train.inputs[1], PIXELS)
    assert f"{tmp_path}: 1 image: turned as EXIF says" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0, 9])
def test_an_orientation_that_is_none_is_upright(tmp_path: Path, value: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = value
    make(tmp_path, lambda image, path: image.save(path, exif=tag))
    np.testing.assert_array_equal(load(tmp_path).train.inputs[0], PIXELS)


def test_damaged_exif_is_no_reason_to_refuse_pixels(tmp_path: Path) -> None:
    make(tmp_path, lambda image, path: image.save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff rubbish"), ".jpg")
    assert load(tmp_path).train.inputs.shape == (2, 5, 6, 3)


@pytest.mark.parametrize("where", ["text", "compressed text", "icc"])
def test_metadata_of_megabytes_is_not_looked_at(tmp_path: Path, where: str) -> None:
    usual = PngImagePlugin.MAX_TEXT_CHUNK

    def save(image: Image.Image, path: Path) -> None:
        info = PngImagePlugin.PngInfo()
        if where != "icc":
            info.add_text("XML:com.adobe.xmp", "x" * 3_000_000, zip=where == "compressed text")
        image.save(path, pnginfo=info, **({"icc_profile": bytes(3_000_000)} if where == "icc" else {}))

    np.testing.assert_array_equal(load(make(tmp_path, save)).train.inputs[0], PIXELS)
    assert usual == PngImagePlugin.MAX_TEXT_CHUNK


def test_metadata_that_unpacks_without_end_is_refused_in_our_words(tmp_path: Path) -> None:
    path = make(tmp_path) / "train" / "dog" / "1.png"
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * (65 << 20), zip=True)
    photo().save(path, pnginfo=info)
    refused(tmp_path, f"cannot read the image {path}: its metadata has more than 67108864 bytes")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_the_first_frame_of_many_is_read_and_said(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    make(tmp_path, suffix=suffix)
    frames = [Image.new("RGB", (6, 5), (level, 0, 0)) for level in (50, 100, 150)]
    frames[0].save(tmp_path / "train" / "cat" / f"1{suffix}", save_all=True, append_images=frames[1:], **more)
    assert load(tmp_path).train.inputs[0, 0, 0].tolist() == [50, 0, 0]
    assert f"{tmp_path}: 1 image: only the first frame is read" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_read(tmp_path: Path, suffix: str) -> None:
    images = load(make(tmp_path, suffix=suffix, mode="CMYK")).train.inputs.astype(int)
    assert images.shape == (2, 5, 6, 3)
    assert np.abs(images[0] - PIXELS).mean() < 12


def deep_png(path: Path, channels: int) -> None:
    """16 bits per channel: PIXELS above, noise below."""
    colour = {1: 0, 3: 2}[channels]
    rows = np.stack([PIXELS[..., :channels], 255 - PIXELS[..., :channels]], -1).reshape(5, -1)
    chunks = (
        (b"IHDR", struct.pack(">2I5B", 6, 5, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in chunks:
            PngImagePlugin.putchunk(file, name, data)


def test_colours_of_16_bits_lose_their_lower_half_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep_png(make(tmp_path) / "train" / "cat" / "1.png", 3)
    wide = np.stack([PIXELS, PIXELS], -1).reshape(5, -1).tobytes()
    (tmp_path / "train" / "dog" / "1.png").write_bytes(b"P6 6 5 65535\n" + wide)
    np.testing.assert_array_equal(load(tmp_path).train.inputs, [PIXELS, PIXELS])
    assert f"{tmp_path}: 2 images: only the upper 8 of 16 bits" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "LAB"])
def test_other_modes_are_refused_by_name(tmp_path: Path, mode: str) -> None:
    path = make(tmp_path, suffix=".tif") / "test" / "dog" / "1.tif"
    Image.new(mode, (6, 5)).save(path)
    refused(tmp_path, str(path), "8 bits", mode)


def test_mixed_sizes_are_resized_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = make(tmp_path) / "test" / "dog" / "1.png"
    photo().resize((20, 10)).save(large)
    refused(tmp_path, "20x10", "6x5", "--image-size")
    dataset = load(tmp_path, image_size=8)
    for path, image in (
        (tmp_path / "train" / "cat" / "1.png", dataset.train.inputs[0]),
        (large, dataset.test.inputs[1]),
    ):
        expected = Image.open(path).resize((8, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, np.asarray(expected))
    assert f"{tmp_path}: images of 2 sizes are resized to 8x8" in capsys.readouterr().err


def test_one_size_is_left_to_the_resizing_of_all_datasets(tmp_path: Path) -> None:
    assert load(make(tmp_path), image_size=8).train.inputs.shape == (2, 5, 6, 3)


@pytest.mark.parametrize(
    ("suffix", "at", "size"),
    [(".gif", 6, struct.pack("<2H", 60000, 60000)), (".bmp", 18, struct.pack("<2i", 60000, 60000))],
)
def test_bombs_of_other_types_are_not_decoded(tmp_path: Path, suffix: str, at: int, size: bytes) -> None:
    path = make(tmp_path, suffix=suffix) / "train" / "cat" / f"1{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[:at] + size + data[at + len(size) :])
    refused(tmp_path, str(path), "exceeds limit")
    path.write_bytes(b"P6 60000 60000 255\n" + bytes(1000))
    refused(tmp_path, str(path), "exceeds limit")


# --- folders --------------------------------------------------------------------------------------------------------


def test_images_in_folders_below_the_class(tmp_path: Path) -> None:
    make(tmp_path)
    cat = tmp_path / "train" / "cat"
    for name in ("images/b.JPEG", "images/deep/a.png", "0.png"):
        (cat / name).parent.mkdir(parents=True, exist_ok=True)
        photo().save(cat / name)
    (tmp_path / "test" / "dog" / "images").mkdir()
    (tmp_path / "test" / "dog" / "1.png").rename(tmp_path / "test" / "dog" / "images" / "1.png")
    dataset = load(tmp_path)
    assert dataset.train.targets.tolist() == [0, 0, 0, 0, 1]
    assert dataset.test.targets.tolist() == [0, 1]


def test_a_link_that_leads_back_is_followed_once(tmp_path: Path) -> None:
    cat = make(tmp_path) / "train" / "cat"
    (cat / "again").symlink_to(cat)
    (cat / "elsewhere").symlink_to(tmp_path / "test" / "cat")
    assert load(tmp_path).train.targets.tolist() == [0, 0, 1]


def test_what_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    cat = tmp_path / "train" / "cat"
    for name in (".DS_Store", "._1.png", "notes.txt", "box.CSV", "README", "more/Thumbs.db"):
        (cat / name).parent.mkdir(exist_ok=True)
        (cat / name).write_bytes(b"x")
    (tmp_path / "test" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "unlabeled").mkdir()
    photo().save(tmp_path / "train" / "loose.png")
    photo().save(tmp_path / "loose.png")
    assert len(load(tmp_path).train) == 2
    assert capsys.readouterr().err == (
        f"note: {tmp_path}: left out 2 hidden files, 2 hidden folders, 2 images outside of the class folders, "
        "4 other files, 1 other folder (.csv, .db, .txt, no suffix)\n"
    )


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_folder_of_validation_images_is_the_validation_split(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    assert load(tmp_path).validation is None
    (tmp_path / "train").rename(tmp_path / name)
    make(tmp_path / "more")
    (tmp_path / "more" / "train").rename(tmp_path / "Train")
    photo().save(tmp_path / name / "dog" / "2.png")
    dataset = load(tmp_path)
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (2, 3, 2)


def test_without_test_images_val_is_the_test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (make(tmp_path) / "test").rename(tmp_path / "val")
    dataset = load(tmp_path)
    assert dataset.validation is None
    assert len(dataset.test) == 2
    assert f"{tmp_path} has no test split: val is the test split" in capsys.readouterr().err


def test_layouts_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "two")
    (tmp_path / "two" / "Test").mkdir()
    refused(tmp_path / "two", "has Test and test; keep one of them as test")
    make(tmp_path / "flat")
    refused(tmp_path / "flat" / "train", "it has cat, dog;", "the folders train and test are needed")
    (tmp_path / "flat" / "test" / "dog").rename(tmp_path / "flat" / "away")
    refused(tmp_path / "flat", "the class dog in train but not in test; all splits")
    (tmp_path / "flat" / "test" / "cat").rename(tmp_path / "flat" / "test" / "images")
    refused(tmp_path / "flat", "the class cat in train but not in test, and 1 more; all splits need the same classes")
