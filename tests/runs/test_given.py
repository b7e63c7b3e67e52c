"""Weights that are given in files, matched to a network: both layouts, and all that does not fit."""

import hashlib
import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
from helpers import random_ticket
from safetensors.numpy import load, save

from supermask import registry
from supermask.config import SearchConfig, TrainConfig
from supermask.errors import BadFileError, UsageError
from supermask.resolve import resolve
from supermask.runs.given import Frame, fitted, read_given
from supermask.ticket import Ticket
from supermask.weights.inits import draw
from supermask.weights.parameters import by_rank
from supermask.weights.shapes import fingerprint
from supermask.weights.trained import TrainedWeights

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SHAPES = {
    "conv1/kernel": (3, 3, 2, 4),
    "norm1/scale": (4,),
    "norm1/bias": (4,),
    "conv2/kernel": (3, 3, 4, 6),
    "dense1/kernel": (2 * 2 * 6, 5),
    "head/kernel": (5, 3),
}
STATISTICS = {"norm1/mean": (4,), "norm1/var": (4,)}
CONFIG = SearchConfig(arch="conv2", weights="given.file")
FRAME = Frame(CONFIG, by_rank(SHAPES), (4, 4, 2), STATISTICS)
RANDOM = np.random.default_rng(0)
VALUES = {name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in (SHAPES | STATISTICS).items()}


def trained(**changes):
    values = {name: VALUES[name] for name in SHAPES}
    state = {name: VALUES[name] for name in STATISTICS}
    config = TrainConfig(arch="conv2", **changes)
    return TrainedWeights(config, (4, 4, 2), values, {}, state, {"val_accuracy": 0.5})


def of_torch():
    """The values as a module in NCHW has them, written out by hand."""
    found = {
        "conv1.weight": VALUES["conv1/kernel"].transpose(3, 2, 0, 1),
        "conv2.weight": VALUES["conv2/kernel"].transpose(3, 2, 0, 1),
        "norm1.weight": VALUES["norm1/scale"],
        "norm1.bias": VALUES["norm1/bias"],
        "norm1.running_mean": VALUES["norm1/mean"],
        "norm1.running_var": VALUES["norm1/var"],
        "dense1.weight": VALUES["dense1/kernel"].reshape(2, 2, 6, 5).transpose(3, 2, 0, 1).reshape(5, 24),
        "head.weight": VALUES["head/kernel"].T,
    }
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def read(path, frame=FRAME):
    config = resolve(frame.config.replace(weights=str(path), weights_sha256=None))
    return read_given(replace(frame, config=config))


def assert_same(given, state=True):
    for name in SHAPES:
        np.testing.assert_array_equal(given.weights[name], VALUES[name])
    assert given.state.keys() == (STATISTICS.keys() if state else set())
    for name in given.state:
        np.testing.assert_array_equal(given.state[name], VALUES[name])


@pytest.mark.parametrize("name", ["npz", "safetensors", "torch"])
def test_what_is_exported_comes_back(name, tmp_path):
    exporter = registry.load("exporters", name)
    path = tmp_path / f"w{exporter.SUFFIX}"
    path.write_bytes(exporter.encode(trained()))
    given = read(path)
    assert_same(given)
    note, *more = given.notes
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in note
    assert "431 frozen weights are those of w" in note
    left = "note: tensors left out that change nothing: 1 (norm1.num_batches_tracked)"  # PyTorch's counter
    assert more == ([left] if name == "torch" else [])


DEEP = ("resnet20", "wrn-16-2", "resnet18", "mobilenet-v2", "vit-tiny", "convnext-tiny")  # traced for long


@pytest.mark.parametrize("name", ["vgg-small", *(pytest.param(name, marks=pytest.mark.slow) for name in DEEP)])
def test_what_the_torch_export_of_a_family_adds_is_left_out_again(name):
    ticket, model = random_ticket(name, (16, 16, 3), width=0.1)
    found = load(registry.load("exporters", "torch").encode(ticket))
    given = fitted(found, Frame(ticket.config, ticket.parameters, (16, 16, 3), model.state))
    for own, read in ((ticket.effective(), given.weights), (ticket.state, given.state)):
        assert own.keys() == read.keys()
        for key, array in own.items():
            np.testing.assert_array_equal(read[key], array, err_msg=key)
    added = len(found) - len(given.weights) - len(given.state)
    assert [note.partition(" (")[0] for note in given.notes] == [f"note: tensors left out that change nothing: {added}"]


def test_a_state_dict_of_pytorch_is_translated():
    counter = {"norm1.num_batches_tracked": np.int64(7).reshape(())}
    given = fitted(of_torch() | counter | {"head.bias": np.zeros(3, np.float32)}, FRAME)
    assert_same(given)
    [note] = given.notes
    assert "change nothing: 2 (head.bias, norm1.num_batches_tracked)" in note


def test_a_norm_that_the_network_lacks_is_no_factor_of_one():
    """It normalises, whatever its scale is."""
    norm = {"norm2.weight": np.ones(6, np.float32), "norm2.bias": np.zeros(6, np.float32)}
    with pytest.raises(BadFileError, match=r"norm2.bias \(6,\) is not in the network; norm2.weight \(6,\) is not in"):
        fitted(of_torch() | norm, FRAME)


def test_every_mismatch_is_listed_in_one_error():
    wrong = of_torch()
    del wrong["norm1.running_var"]
    wrong |= {
        "head.weight": np.zeros((3, 6), np.float32),
        "head.bias": np.ones(3, np.float32),
        "norm1.bias": np.arange(4),
        "extra.weight": np.zeros((2, 2), np.float32),
    }
    with pytest.raises(BadFileError) as caught:
        fitted(wrong, FRAME)
    for words in (
        "given.file does not fit conv2: ",
        "norm1.running_var (4,) is missing",
        "head.weight is (3, 6) there and (3, 5) in the network",
        "head.bias (3,) is not in the network",
        "norm1.bias is int64 there and float32",
        "extra.weight (2, 2) is not in the network",
    ):
        assert words in str(caught.value)


def test_a_mask_is_no_weights(tmp_path):
    ticket = ticket_of()
    path = tmp_path / "mask.npz"
    path.write_bytes(registry.load("exporters", "mask").encode(ticket))
    with pytest.raises(BadFileError, match="conv1/kernel is bool there"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_float32_are_refused(value):
    bad = {name: array.astype(np.float64) for name, array in VALUES.items()}
    bad["head/kernel"] = np.full((5, 3), value)
    with pytest.raises(BadFileError, match="not finite, in head/kernel"):
        fitted(bad, FRAME)


def test_other_floats_are_converted_and_rounding_is_counted():
    half = {name: array.astype(np.float16) for name, array in VALUES.items()}
    given = fitted(half, FRAME)
    assert given.notes == ()
    np.testing.assert_array_equal(given.weights["head/kernel"], half["head/kernel"].astype(np.float32))
    double = {name: array.astype(np.float64) for name, array in VALUES.items()}
    assert fitted(double, FRAME).notes == ()
    double["head/kernel"] = np.full((5, 3), 0.1)
    assert fitted(double, FRAME).notes == ("note: tensors rounded to float32: 1 (head/kernel)",)


def ticket_of():
    shapes = {name: shape for name, shape in SHAPES.items() if len(shape) > 1}
    weights = draw("kaiming-normal", 5, shapes)
    return Ticket(
        config=SearchConfig(arch="conv2", init="kaiming-normal", seed=5),
        shapes=shapes,
        image_shape=(4, 4, 2),
        mask={name: RANDOM.random(shape) < 0.4 for name, shape in shapes.items()},
        state={},
        fingerprint=fingerprint(weights),
        metrics={"val_accuracy": 0.5},
    )


def test_of_a_ticket_the_frozen_weights_are_taken_without_its_mask(tmp_path):
    ticket = ticket_of()
    frame = Frame(CONFIG, ticket.parameters, (4, 4, 2), STATISTICS)
    given = read(ticket.save(tmp_path / "t.safetensors"), frame)
    assert given.state == {}
    for name, array in ticket.weights().items():
        np.testing.assert_array_equal(given.weights[name], array)


def test_a_run_folder_stands_for_its_one_result(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(BadFileError, match="holds no result"):
        read(run)
    file = trained().save(run / "weights-s0.safetensors")
    with pytest.raises(BadFileError, match="not a finished run"):
        read(run)
    (run / "result.json").write_text('{"complete": true}')
    assert_same(read(run))
    assert_same(read(file))
    trained().save(run / "weights-s1.safetensors")
    with pytest.raises(UsageError, match=r"results of 2 seeds: give one of them, such as .*weights-s0"):
        read(run)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps({"a": 1}), "save_file"),
        (b"", "cannot be read as safetensors or npz"),
        (b"PK\x03\x04 not a zip", "cannot be read as npz"),
        (save(VALUES)[:-8], "cannot be read as safetensors"),
    ],
)
def test_what_holds_no_weights_is_refused(data, words, tmp_path):
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(BadFileError, match=words):
        read(tmp_path / "w")


def test_pickles_in_an_npz_are_not_opened(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{}], dtype=object))
    (tmp_path / "w.npz").write_bytes(buffer.getvalue())
    with pytest.raises(BadFileError, match="cannot be read as npz"):
        read(tmp_path / "w.npz")


def test_damaged_and_replaced_files_are_refused(tmp_path):
    path = trained().save(tmp_path / "w.safetensors")
    config = resolve(CONFIG.replace(weights=str(path)))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="replaced since"):
        read_given(replace(FRAME, config=config))
    with pytest.raises(BadFileError, match="altered"):
        read(path)
    with pytest.raises(BadFileError, match="it should be weights to freeze"):
        read(tmp_path / "none")


def test_content_and_not_the_place_names_a_search(tmp_path):
    one = trained().save(tmp_path / "one")
    two = tmp_path / "two"
    two.write_bytes(one.read_bytes())
    base = resolve(SearchConfig(arch="conv2"))
    first, second = (resolve(CONFIG.replace(weights=str(path))) for path in (one, two))
    assert first.init is None
    assert first.weights_sha256 == hashlib.sha256(one.read_bytes()).hexdigest()
    assert first.digest(base) == second.digest(base)
    trained(seed=3).save(two)
    assert resolve(second).digest(base) != first.digest(base)
    assert "weights" not in base.to_dict()  # files of other searches are as they were


@pytest.mark.parametrize("more", [{"init": "kaiming-normal"}, {"scale_by_density": True}])
def test_what_says_how_to_draw_given_weights_is_refused(more):
    with pytest.raises(UsageError, match="weights are given"):
        SearchConfig(weights="w", **more)
