"""Tickets: what is saved is what is loaded, and nothing else is ever loaded.

The signing is written out here a second time, on purpose: it pins the file format, so that tickets written by an
older version stay readable.
"""

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from supermask.config import SearchConfig
from supermask.errors import BadFileError
from supermask.ticket import Ticket
from supermask.weights import inits
from supermask.weights.layers import as_factors
from supermask.weights.shapes import fingerprint

SHAPES = {"body/bias": (5,), "body/kernel": (3, 5), "head/kernel": (5, 2), "norm/scale": (5,)}
MASKABLE = ("body/kernel", "head/kernel")
KINDS = {"bool": "binary", "int8": "signed", "float32": "continuous", "uint8": "sampled"}


def make_mask(dtype, shapes=None, seed=3):
    """A mask with zeros and non-zeros in every layer."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, shape in (shapes or {name: SHAPES[name] for name in MASKABLE}).items():
        if dtype == "bool":
            found[name] = generator.random(shape) < 0.5
        elif dtype == "int8":
            found[name] = generator.integers(-1, 2, shape).astype(np.int8)
        elif dtype == "uint8":
            found[name] = generator.integers(0, 256, shape).astype(np.uint8)
        else:
            found[name] = (generator.random(shape) * (generator.random(shape) < 0.7)).astype(np.float32)
    return found


def make_ticket(dtype="bool", **changes):
    config = SearchConfig(arch="lenet300", init="kaiming-normal", epochs=2, batch_size=32, seed=7)
    weights = inits.draw("kaiming-normal", 7, SHAPES)
    whole = Ticket(
        config=config,
        shapes=SHAPES,
        image_shape=(1, 3, 1),
        mask=make_mask(dtype),
        state={},
        fingerprint=fingerprint(weights),
        metrics={"loss": 0.5, "train_accuracy": 0.75, "val_accuracy": 0.625, "epochs": 2},
        versions={"supermask": "0.1", "jax": "0.10"},
    )
    return replace(whole, **changes)


def assert_trees_equal(one, other):
    assert set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


def opened(data):
    """(document, tensors) of a ticket's bytes, by safetensors and json alone."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["supermask"]), load_tensors(data)


def canonical(document):
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def signed(document, tensors):
    """The bytes of a ticket with this content and the digest that belongs to it."""
    document = {key: value for key, value in document.items() if key != "sha256"}
    digest = hashlib.sha256(canonical(document).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tensors[name].dtype.str} {tensors[name].shape}\n".encode())
        digest.update(tensors[name].tobytes())
    return save_tensors(tensors, {"supermask": canonical(document | {"sha256": digest.hexdigest()})})


def refusal(path, data):
    """The one line with which a file of these bytes is refused."""
    path.write_bytes(data)
    with pytest.raises(BadFileError) as caught:
        Ticket.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("embedded", [False, True], ids=["drawn", "embedded"])
@pytest.mark.parametrize("dtype", KINDS)
def test_what_is_saved_is_loaded(tmp_path, dtype, embedded):
    stats = {"norm/mean": np.float32([0.5, -1, 2, 0, 3]), "norm/var": np.arange(5, dtype=np.float32)}
    ticket = make_ticket(dtype, state=stats, transforms=True)
    ticket = ticket.embed_weights() if embedded else ticket
    path = ticket.save(tmp_path / "t.safetensors")
    loaded = Ticket.load(path)
    assert_trees_equal(loaded.mask, ticket.mask)
    assert_trees_equal(loaded.state, stats)
    assert_trees_equal(loaded.weights(), inits.draw("kaiming-normal", 7, SHAPES))
    assert (loaded.embedded is not None) == embedded
    for name in ("config", "shapes", "image_shape", "fingerprint", "metrics", "transforms", "versions"):
        assert getattr(loaded, name) == getattr(ticket, name), name
    assert loaded.path == path
    assert loaded.kind == KINDS[dtype]
    assert [item.name for item in tmp_path.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize("dtype", KINDS)
def test_same_ticket_same_bytes(tmp_path, dtype):
    ticket = make_ticket(dtype).embed_weights()
    data = ticket.to_bytes()
    backwards = {
        name: dict(reversed(getattr(ticket, name).items()))
        for name in ("shapes", "mask", "fingerprint", "metrics", "versions", "embedded")
    }
    assert replace(ticket, **backwards).to_bytes() == data
    assert Ticket.load(ticket.save(tmp_path / "t")).to_bytes() == data


def test_another_mask_is_other_bytes():
    ticket = make_ticket()
    mask = {name: array.copy() for name, array in ticket.mask.items()}
    mask["head/kernel"][4, 1] ^= True
    assert replace(ticket, mask=mask).to_bytes() != ticket.to_bytes()


def test_format_is_pinned(tmp_path):
    """Eight weights a byte, the first in the lowest bit, signed as `signed` says."""
    ticket = make_ticket()
    data = ticket.to_bytes()
    document, tensors = opened(data)
    assert document["format"] == 1
    assert signed(document, tensors) == data
    assert set(tensors) == {"bits/body/kernel", "bits/head/kernel"}
    for name in MASKABLE:
        bits = ticket.mask[name].ravel()
        by_hand = [sum(int(bit) << i for i, bit in enumerate(bits[at : at + 8])) for at in range(0, bits.size, 8)]
        assert tensors[f"bits/{name}"].tolist() == by_hand
    with safe_open(ticket.save(tmp_path / "t"), "np") as file:  # anybody's safetensors reader takes it
        assert set(file.keys()) == set(tensors)


def test_every_flipped_bit_is_noticed(tmp_path):
    weights = inits.draw("kaiming-normal", 7, {"head/kernel": (5, 2)})
    ticket = make_ticket(
        shapes={"head/kernel": (5, 2)}, mask=make_mask("bool", {"head/kernel": (5, 2)}), fingerprint={}, versions={}
    )
    path = replace(ticket, fingerprint=fingerprint(weights)).save(tmp_path / "flipped.safetensors")
    data, unnoticed = path.read_bytes(), []
    with path.open("r+b", buffering=0) as file:
        for at in range(len(data)):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit]), at)
                try:
                    Ticket.load(path)
                    unnoticed.append((at, bit))
                except BadFileError as error:
                    if str(path) not in str(error) or "\n" in str(error):
                        unnoticed.append((at, bit, str(error)))
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert unnoticed == []
    assert path.read_bytes() == data
    Ticket.load(path)


def test_every_truncation_is_noticed(tmp_path):
    data = make_ticket("float32").to_bytes()
    path = tmp_path / "short.safetensors"
    for size in range(len(data)):
        refusal(path, data[:size])


def test_appended_bytes_are_noticed(tmp_path):
    refusal(tmp_path / "long", make_ticket().to_bytes() + b"\0")


def foreign_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mask.txt", "1")


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a ticket\n" * 20),
    "json": lambda path: path.write_text('{"format": 1}'),
    "safetensors": lambda path: path.write_bytes(save_tensors({"w": np.ones(3, np.float32)})),
    "safetensors-metadata": lambda path: path.write_bytes(
        save_tensors({"w": np.ones(3, np.float32)}, {"format": "pt", "supermask": "yes"})
    ),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"mask": np.ones(3)})),
    "zip": foreign_zip,
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "nested": lambda path: path.write_bytes((10**6).to_bytes(8, "little") + b"[" * 10**6),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_file_is_refused(tmp_path, kind):
    path = tmp_path / "foreign"
    FOREIGN[kind](path)
    assert "not a ticket" in refusal(path, path.read_bytes())


def test_pickle_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    refusal(tmp_path / "bomb", pickle.dumps(Bomb()))
    assert not (tmp_path / "exploded").exists()


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BadFileError, match=str(path)):
            Ticket.load(path)


@pytest.mark.parametrize("number", [3, 99])
def test_newer_format_says_upgrade(tmp_path, number):
    document, tensors = opened(make_ticket().to_bytes())
    message = refusal(tmp_path / "newer", signed(document | {"format": number}, tensors))
    assert "upgrade" in message
    assert str(number) in message


def test_newer_format_signed_in_another_way_says_upgrade(tmp_path):
    document, tensors = opened(make_ticket().to_bytes())
    document.pop("sha256")
    data = save_tensors(tensors, {"supermask": canonical(document | {"format": 3, "blake3": "00"})})
    assert "upgrade" in refusal(tmp_path / "newer", data)


@pytest.mark.parametrize("number", [0, "2", 1.5, None])
def test_format_that_never_was_is_refused(tmp_path, number):
    document, tensors = opened(make_ticket().to_bytes())
    refusal(tmp_path / "odd", signed(document | {"format": number}, tensors))


def without(name):
    def change(document, tensors):
        del tensors[name]

    return change


def with_tensor(name, array):
    def change(document, tensors):
        tensors[name] = array

    return change


def with_document(**values):
    def change(document, tensors):
        document.update(values)

    return change


MALFORMED = {
    "missing mask": without("bits/head/kernel"),
    "mask too small": with_tensor("bits/head/kernel", np.zeros(1, np.uint8)),
    "mask too large": with_tensor("bits/head/kernel", np.zeros(3, np.uint8)),
    "unknown group": with_tensor("extra/head/kernel", np.zeros(2, np.float32)),
    "tensor without group": with_tensor("head", np.zeros(2, np.float32)),
    "mask of no parameter": with_tensor("bits/tail/kernel", np.zeros(2, np.uint8)),
    "mask of a bias": with_tensor("bits/body/bias", np.zeros(1, np.uint8)),
    "two masks of one layer": with_tensor("mask/head/kernel", np.zeros((5, 2), np.int8)),
    "packed as floats": with_tensor("bits/head/kernel", np.zeros(2, np.float32)),
    "config of another kind": with_document(config=3),
    "density out of range": with_document(config={"density": 1.5}),
    "unknown config key": with_document(config={"colour": "red"}),
    "shapes of another kind": with_document(shapes=[1, 2]),
    "no shapes": with_document(shapes={}),
    "fingerprint of another kind": with_document(fingerprint=["00"]),
    "metrics of another kind": with_document(metrics=[]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_well_signed_nonsense_is_refused(tmp_path, name):
    document, tensors = opened(make_ticket().to_bytes())
    MALFORMED[name](document, tensors)
    refusal(tmp_path / "nonsense", signed(document, tensors))


def test_mask_of_unknown_type_is_refused(tmp_path):
    document, tensors = opened(make_ticket("float32").to_bytes())
    tensors["mask/head/kernel"] = tensors["mask/head/kernel"].astype(np.float64)
    assert "head/kernel" in refusal(tmp_path / "doubles", signed(document, tensors))


def test_weights_that_no_longer_match_name_the_first_layer(tmp_path):
    true = make_ticket()
    path = replace(true, fingerprint=true.fingerprint | {"head/kernel": "0" * 16}).save(tmp_path / "t")
    for use in (Ticket.weights, Ticket.effective, Ticket.embed_weights):
        with pytest.raises(BadFileError, match="head/kernel") as caught:
            use(Ticket.load(path))
        assert str(path) in str(caught.value)
        assert "body/kernel" not in str(caught.value)
    both = true.fingerprint | {"head/kernel": "0" * 16, "body/kernel": "0" * 16}
    with pytest.raises(BadFileError, match="body/kernel"):
        Ticket.load(replace(true, fingerprint=both).save(path)).weights()


@pytest.mark.parametrize("change", [{"seed": 8}, {"init": "kaiming-uniform"}, {"scale_by_density": True}])
def test_weights_of_another_recipe_are_noticed(change):
    ticket = make_ticket()
    with pytest.raises(BadFileError, match="body/kernel"):
        replace(ticket, config=ticket.config.replace(**change)).weights()


def test_changed_embedded_weights_are_noticed(tmp_path):
    ticket = make_ticket().embed_weights()
    changed = dict(ticket.embedded)
    changed["head/kernel"] = np.nextafter(changed["head/kernel"], np.float32(9))
    path = replace(ticket, embedded=changed).save(tmp_path / "t")
    with pytest.raises(BadFileError, match="head/kernel"):
        Ticket.load(path).effective()


def test_incomplete_embedded_weights_are_noticed(tmp_path):
    ticket = make_ticket().embed_weights()
    path = replace(ticket, embedded={"body/kernel": ticket.embedded["body/kernel"]}).save(tmp_path / "t")
    with pytest.raises(BadFileError, match=r"body/bias|head/kernel"):
        Ticket.load(path).weights()


def test_embedded_weights_need_no_init():
    """The point of embedding: a reader that cannot draw them, such as a later version without this init."""
    ticket = make_ticket().embed_weights()
    foreign = replace(ticket, config=ticket.config.replace(init="an-init-of-the-future"))
    assert_trees_equal(foreign.weights(), ticket.weights())


@pytest.mark.parametrize("dtype", KINDS)
def test_numbers_against_numpy(dtype):
    ticket = make_ticket(dtype)
    weights = inits.draw("kaiming-normal", 7, SHAPES)
    expected = {n: a.astype(np.float64) / (255 if dtype == "uint8" else 1) for n, a in ticket.mask.items()}
    kept = {name: array if dtype == "uint8" else array != 0 for name, array in expected.items()}
    for name, array in as_factors(ticket.mask).items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected[name], rtol=1e-7)
    effective = ticket.effective()
    assert list(effective) == list(SHAPES)
    for name, array in effective.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, weights[name] * expected.get(name, 1), rtol=1e-6)
    rows = ticket.layers()
    assert [row["name"] for row in rows] == list(MASKABLE)
    for row in rows:
        array = kept[row["name"]]
        assert row["shape"] == list(array.shape)
        assert row["total"] == array.size
        assert isinstance(row["kept"], int)
        assert abs(row["kept"] - array.sum()) <= (0.5 if dtype == "uint8" else 0)
        assert row["density"] == pytest.approx(row["kept"] / row["total"])
    exact = sum(array.sum() for array in kept.values()) / sum(array.size for array in kept.values())
    assert ticket.density == pytest.approx(exact, abs=1 / 25 if dtype == "uint8" else 1e-12)
    json.dumps(rows)  # as `--json` prints them


def test_effective_weights_of_a_method_that_transforms():
    """Zhou's dynamic rescaling: weights times n / (kept), as the search trained them."""
    base = make_ticket()
    config = base.config.replace(method="bernoulli", options={"rescale": True, "hard": "threshold"})
    effective = replace(base, config=config, transforms=True).effective()
    weights = base.weights()
    for name, mask in base.mask.items():
        expected = weights[name] * (mask.size / mask.sum()) * mask
        np.testing.assert_allclose(effective[name], expected, rtol=1e-6)
    assert effective["head/kernel"].dtype == np.float32


def test_scale_by_density_scales_the_weights():
    base = make_ticket()
    config = base.config.replace(density=0.25, scale_by_density=True)
    plain = inits.draw("kaiming-normal", 7, SHAPES)
    scaled = inits.draw("kaiming-normal", 7, SHAPES, 0.25)
    ticket = replace(base, config=config, fingerprint=fingerprint(scaled))
    np.testing.assert_allclose(ticket.weights()["head/kernel"], 2 * plain["head/kernel"], rtol=1e-6)


def test_conv4_ticket_is_small():
    shapes = {
        "conv1/kernel": (3, 3, 3, 64),
        "conv2/kernel": (3, 3, 64, 64),
        "conv3/kernel": (3, 3, 64, 128),
        "conv4/kernel": (3, 3, 128, 128),
        "dense1/kernel": (8192, 256),
        "dense2/kernel": (256, 256),
        "head/kernel": (256, 10),
    }
    weights = inits.draw("signed-constant", 0, shapes)
    ticket = Ticket(
        config=SearchConfig(arch="conv4", dataset="cifar10", init="signed-constant", epochs=1),
        shapes=shapes,
        image_shape=(32, 32, 3),
        mask=make_mask("bool", shapes),
        state={},
        fingerprint=fingerprint(weights),
        metrics={"loss": 1.0, "train_accuracy": 0.5, "val_accuracy": 0.5, "epochs": 1},
        versions={"supermask": "0.1.0", "jax": "0.10.0", "numpy": "2.0.0"},
    )
    size = len(ticket.to_bytes())
    assert size < 330_000
    assert size > sum(math.prod(shape) for shape in shapes.values()) // 8  # a random mask cannot be smaller


def test_failed_save_leaves_the_old_ticket(tmp_path):
    path = make_ticket().save(tmp_path / "t")
    before = path.read_bytes()
    other = replace(make_ticket(), metrics={"val_accuracy": object()})
    with pytest.raises(TypeError):
        other.save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["t"]


def test_importing_tickets_imports_no_jax():
    code = "import sys, supermask.ticket; print([m for m in ('jax', 'jaxlib', 'flax', 'optax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
