"""Tiny ImageNet and ImageNet in their official folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from supermask.datasets import imagenet, tiny_imagenet
from supermask.errors import BadFileError

RNG = np.random.default_rng(0)
NUMBERS = ("n01443537", "n01629819", "n02124075")
BOX = "0\t10\t60\t63"


def write_image(path: Path, level: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(path, "JPEG", quality=95)


def write_tiny(root: Path) -> Path:
    """Two training images for each class, one of them grey, and one for validation, in another order."""
    for place, number in enumerate(NUMBERS):
        folder = root / "train" / number
        for count in range(2):
            mode = "L" if count else "RGB"
            write_image(folder / "images" / f"{number}_{count}.JPEG", 40 * place + 10 * count, mode=mode)
        (folder / f"{number}_boxes.txt").write_text(f"{number}_0.JPEG\t{BOX}\n")
        write_image(root / "val" / "images" / f"val_{2 - place}.JPEG", 200 + place)
        write_image(root / "test" / "images" / f"test_{place}.JPEG", 0)
    lines = [f"val_{2 - place}.JPEG\t{number}\t{BOX}" for place, number in enumerate(NUMBERS)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(reversed(NUMBERS)) + "\n")
    (root / "words.txt").write_text(
        "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n"
    )
    return root


@pytest.mark.parametrize("place", ["tiny-imagenet-200", "tiny-imagenet", "tiny-imagenet/tiny-imagenet-200", "."])
def test_tiny_imagenet_is_read(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny(tmp_path / place)
    dataset = tiny_imagenet.load(tmp_path)
    assert dataset.train.inputs.shape == (6, 8, 8, 3)
    assert dataset.train.inputs[:, 0, 0, 0].tolist() == [0, 10, 40, 50, 80, 90]
    assert dataset.train.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.test.inputs[:, 0, 0, 0].tolist() == [200, 201, 202]
    assert dataset.test.targets.tolist() == [0, 1, 2]
    assert dataset.classes == ("goldfish, Carassius auratus", "n01629819", "Egyptian cat")
    assert dataset.validation is None
    said = capsys.readouterr().err
    assert "val is the test split, and validation images are held out of train" in said
    assert "left out test, 3 images without labels" in said
    assert "left out 3 other files (.txt)" in said
    assert "words.txt has no name for 1 of 3 classes: n01629819" in said


def test_tiny_imagenet_of_other_sizes_is_resized(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    write_image(tmp_path / "val" / "images" / "val_0.JPEG", 7, (9, 8))
    with pytest.raises(BadFileError, match="--image-size"):
        tiny_imagenet.load(tmp_path)
    assert tiny_imagenet.load(tmp_path, image_size=6).test.inputs.shape == (3, 6, 6, 3)


def break_tiny(root: Path, case: str) -> str:
    """Damage the folder; what the message says."""
    annotations, images = root / "val" / "val_annotations.txt", root / "val" / "images"
    text = annotations.read_text()
    if case == "image":
        (images / "val_0.JPEG").write_bytes(b"rubbish")
        return "cannot read the image .*val_0.JPEG"
    if case == "lost":
        (images / "val_0.JPEG").unlink()
        return r"images lacks 1 image that .*val_annotations.txt has: val_0"
    if case == "unanswered":
        write_image(images / "val_9.JPEG", 0)
        return r"val_annotations.txt has no class for 1 image: val_9.JPEG"
    if case == "class":
        annotations.write_text(text.replace(NUMBERS[2], "n09999999"))
        return r"train lacks n09999999, which .*val_annotations.txt has"
    if case == "layout":
        annotations.write_text(text.replace("\t", ","))
        return "val_annotations.txt has the line 'val_2.JPEG,n0.*with tabs between"
    if case == "twice":
        annotations.write_text(text + f"val_0.JPEG\t{NUMBERS[0]}\t{BOX}\n")
        return f"val_annotations.txt has two classes for val_0: {NUMBERS[2]} and {NUMBERS[0]}"
    if case == "folder":
        (root / "train" / NUMBERS[1]).rename(root / "train" / "wrong")
        return "wnids.txt lacks wrong, which .*train has"
    if case == "empty":
        shutil.rmtree(root / "train" / NUMBERS[1] / "images")
        return f"{NUMBERS[1]} has no images"
    if case == "no val":
        shutil.rmtree(root / "val")
        return "val_annotations.txt does not exist"
    (root / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe\0")
    return "val_annotations.txt is not a text file"


@pytest.mark.parametrize(
    "case", ["image", "lost", "unanswered", "class", "layout", "twice", "folder", "empty", "no val", "binary"]
)
def test_a_damaged_tiny_imagenet_is_named(tmp_path: Path, case: str) -> None:
    words = break_tiny(write_tiny(tmp_path), case)
    with pytest.raises(BadFileError, match=words):
        tiny_imagenet.load(tmp_path)


def test_where_they_come_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=rf"get http\S*tiny-imagenet-200.zip .* into {tmp_path}"):
        tiny_imagenet.load(tmp_path)
    with pytest.raises(BadFileError, match=rf"get the images from https://image-net.org .* into {tmp_path}"):
        imagenet.load(tmp_path)


def write_imagenet(root: Path, kaggle: bool, flat: bool) -> Path:
    images = root / "ILSVRC/Data/CLS-LOC" if kaggle else root
    for place, number in enumerate(NUMBERS):
        for count in range(2):
            size = (10 + place, 12) if count else (8, 8)
            write_image(images / "train" / number / f"{number}_{count}.JPEG", 40 * place, size)
        name = f"ILSVRC2012_val_0000000{3 - place}.JPEG"
        write_image(images / "val" / ("" if flat else number) / name, 200 + place)
    rows = [f"ILSVRC2012_val_0000000{3 - place},{n} 85 1 499 272 {n} 1 2 3 4 " for place, n in enumerate(NUMBERS)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    words = "n01443537 goldfish, Carassius auratus\nn01629819 European fire salamander\nn02124075 Egyptian cat\n"
    (root / "LOC_synset_mapping.txt").write_text(words)
    return root


@pytest.mark.parametrize("place", ["imagenet", "ILSVRC2012", "."])
@pytest.mark.parametrize(("kaggle", "flat"), [(True, True), (False, True), (False, False)])
def test_imagenet_is_read(
    tmp_path: Path, place: str, kaggle: bool, flat: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_imagenet(tmp_path / place, kaggle, flat)
    dataset = imagenet.load(tmp_path, image_size=8)
    assert dataset.train.inputs.shape == (6, 8, 8, 3)
    assert dataset.train.inputs[:, 4, 4, 0].tolist() == [0, 0, 40, 40, 80, 80]
    assert dataset.train.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.test.inputs[:, 0, 0, 0].tolist() == [200, 201, 202]
    assert dataset.test.targets.tolist() == [0, 1, 2]
    assert dataset.classes == ("goldfish, Carassius auratus", "European fire salamander", "Egyptian cat")
    assert "val is the test split" in capsys.readouterr().err


def test_imagenet_without_names_or_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_imagenet(tmp_path, kaggle=False, flat=False)
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    assert imagenet.load(tmp_path, image_size=8).classes == NUMBERS
    assert "LOC_synset_mapping.txt is not there: classes are called by their numbers" in capsys.readouterr().err
    with pytest.raises(BadFileError, match="resized with --image-size"):
        imagenet.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"val has no class folders, and neither .*LOC_val_solution.csv nor .*ground_truth.txt exists"),
        ("", r"begins with ''; it must be 'ImageId,PredictionString'"),
        ("Image,Class\n", "begins with 'Image,Class'"),
        ("ImageId,PredictionString\na,n01443537 1 2 3 4\na,n02124075 1 2 3 4\n", "has two classes for a: n01443537"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,\n", "has the line 'ILSVRC2012_val_00000001,'"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 1 2 3 4\n", "has no class for 2 images"),
    ],
)
def test_wrong_answers_of_imagenet_are_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = write_imagenet(tmp_path, kaggle=False, flat=True) / "LOC_val_solution.csv"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(BadFileError, match=words):
        imagenet.load(tmp_path, image_size=8)


def write_kit(root: Path, truth: str = "2\n3\n1\n", **fields: Any) -> None:
    """The kit's table: three classes in an order of its own, and the group that two of them are in."""
    numbers = [NUMBERS[2], NUMBERS[1], NUMBERS[0], "n00001740"]
    synsets = np.zeros((4, 1), [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")])
    for place, number in enumerate(numbers):
        synsets[place, 0] = (place + 1, number, "words", 2 * (place == 3))
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    savemat(folder / "meta.mat", fields or {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def test_classes_of_validation_images_are_found_in_the_development_kit(tmp_path: Path) -> None:
    write_imagenet(tmp_path, kaggle=False, flat=True)
    expected = imagenet.load(tmp_path, image_size=8).test
    (tmp_path / "LOC_val_solution.csv").unlink()
    write_kit(tmp_path, "1\n2\n3\n")
    found = imagenet.load(tmp_path, image_size=8).test
    np.testing.assert_array_equal(found.inputs, expected.inputs)
    assert found.targets.tolist() == expected.targets.tolist()


@pytest.mark.parametrize(
    ("truth", "fields", "words"),
    [
        ("1\n2\n9\n", {}, "has '9' in line 3; it must be an ID that meta.mat has"),
        ("1\n2\n", {}, r"ground_truth.txt has no class for 1 image: ILSVRC2012_val_00000003.JPEG"),
        ("1\n2\n3\n", {"other": np.ones(3)}, "meta.mat has no table synsets with ILSVRC2012_ID and WNID"),
        ("1\n2\n3\n", {"synsets": np.ones(3)}, "meta.mat has no table synsets with ILSVRC2012_ID and WNID"),
    ],
)
def test_a_damaged_development_kit_is_named(tmp_path: Path, truth: str, fields: dict[str, Any], words: str) -> None:
    write_imagenet(tmp_path, kaggle=False, flat=True)
    (tmp_path / "LOC_val_solution.csv").unlink()
    write_kit(tmp_path, truth, **fields)
    with pytest.raises(BadFileError, match=words):
        imagenet.load(tmp_path, image_size=8)
    (tmp_path / "ILSVRC2012_devkit_t12/data/meta.mat").write_bytes(b"no table")
    with pytest.raises(BadFileError, match=r"meta.mat is not a MATLAB file"):
        imagenet.load(tmp_path, image_size=8)


def test_a_class_folder_that_one_split_lacks_is_named(tmp_path: Path) -> None:
    write_imagenet(tmp_path, kaggle=False, flat=False)
    shutil.rmtree(tmp_path / "val" / NUMBERS[1])
    with pytest.raises(BadFileError, match=rf"val lacks {NUMBERS[1]}, which .*train has"):
        imagenet.load(tmp_path, image_size=8)


def test_other_image_folders_are_not_taken_for_imagenet(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_image(tmp_path / part / "cat" / "1.JPEG", 0)
    with pytest.raises(BadFileError, match="imagenet is not in"):
        imagenet.load(tmp_path)
