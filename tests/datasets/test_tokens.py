"""`tokens:PATH`: text, .npy and .bin in consecutive sequences; files that hold something else."""

import numpy as np
import pytest

from supermask.datasets.tokens import LENGTH, load
from supermask.errors import BadFileError, UsageError

COUNT = 30 * LENGTH + 50


def tokens_of(count=COUNT, bound=300):
    return np.random.default_rng(0).integers(0, bound, count)


def write(path, tokens):
    if path.suffix == ".npy":
        np.save(path, tokens)
    elif path.suffix == ".bin":
        tokens.astype("<u2").tofile(path)
    else:
        path.write_bytes(bytes(tokens.astype(np.uint8)))
    return str(path)


@pytest.mark.parametrize(("name", "dtype"), [("a.npy", np.int64), ("a.npy", np.uint8), ("a.bin", int), ("a.txt", int)])
def test_the_file_in_order(tmp_path, capsys, name, dtype):
    tokens = tokens_of(bound=200).astype(dtype)
    dataset = load(tmp_path, write(tmp_path / name, tokens))
    used, at = 0, 0
    for tenths, split in ((8, dataset.train), (9, dataset.validation), (10, dataset.test)):
        assert split.inputs.dtype == split.targets.dtype == np.int32
        for given, asked in zip(split.inputs, split.targets, strict=True):
            np.testing.assert_array_equal(given, tokens[at : at + LENGTH])
            np.testing.assert_array_equal(asked, tokens[at + 1 : at + LENGTH + 1])
            at, used = at + LENGTH, used + LENGTH
        at = (COUNT - 1) * tenths // 10
    assert len(dataset.classes) == (256 if name == "a.txt" else tokens.max() + 1)
    assert f"{COUNT - used - 1:,} of {COUNT:,} tokens are left out" in capsys.readouterr().err
    assert dataset.task == "next-token"


def test_bytes_have_names(tmp_path):
    dataset = load(tmp_path, write(tmp_path / "a.txt", tokens_of()))
    assert (dataset.classes[97], dataset.classes[10]) == ("a", "0x0a")
    assert len(set(dataset.classes)) == 256


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"abc", r"holds 3 tokens.*at least 1,290"),
        ("a.bin", b"abc", "has 3 bytes; a .bin holds tokens of 2 bytes each"),
        ("a.bin", b"", "is empty"),
        ("a.npy", b"\x93NUMPY\x01", "is not a complete .npy file"),
        ("a.npy", np.zeros((4, 4), int), r"int64 of shape \(4, 4\); tokens are whole numbers in one dimension"),
        ("a.npy", np.zeros(4), "float64 of shape"),
        ("a.npy", np.array([1, -2]), "has the token -2; tokens go from 0"),
        ("a.npy", np.array([1, 1 << 40]), "has the token 1099511627776"),
        ("a.npy", np.zeros(0, int), "is empty"),
    ],
)
def test_a_file_that_holds_something_else(tmp_path, name, content, said):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(BadFileError, match=said) as caught:
        load(tmp_path, str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(BadFileError, match="does not exist"):
        load(tmp_path, str(tmp_path / "none.bin"))
    with pytest.raises(UsageError, match="tokens:PATH"):
        load(tmp_path)
