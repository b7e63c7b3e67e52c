"""One contract for every file in exporters/; the numbers against NumPy."""

import io
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

from supermask import registry
from supermask.config import SearchConfig
from supermask.errors import UsageError
from supermask.ticket import Ticket
from supermask.weights.inits import draw
from supermask.weights.parameters import Parameter
from supermask.weights.shapes import fingerprint

SHAPES = {
    "conv1/kernel": (3, 3, 2, 4),
    "conv2/kernel": (3, 3, 4, 6),
    "dense1/kernel": (2 * 2 * 6, 5),
    "head/kernel": (5, 3),
}


def make(kind="bool", shapes=SHAPES, arch="conv2", image_shape=(4, 4, 2), **config):
    random = np.random.default_rng(0)
    draws = {
        "bool": lambda s: random.random(s) < 0.4,
        "int8": lambda s: random.integers(-1, 2, s).astype(np.int8),
        "float32": lambda s: random.random(s).astype(np.float32),
        "uint8": lambda s: random.integers(0, 256, s).astype(np.uint8),
    }
    settings = SearchConfig(arch=arch, init="kaiming-normal", epochs=1, **config)
    weights = draw("kaiming-normal", 0, shapes)
    return Ticket(
        config=settings,
        shapes=shapes,
        image_shape=image_shape,
        mask={name: draws[kind](shape) for name, shape in shapes.items()},
        state={},
        fingerprint=fingerprint(weights),
        metrics={"val_accuracy": 0.5},
        transforms=config.get("method") == "bernoulli",
    )


@pytest.mark.parametrize("name", registry.names("exporters"))
@pytest.mark.parametrize("kind", ["bool", "int8", "float32", "uint8"])
def test_contract(name, kind):
    exporter, ticket = registry.load("exporters", name), make(kind)
    data = exporter.encode(ticket)
    assert isinstance(data, bytes)
    assert data == exporter.encode(ticket)
    assert exporter.SUFFIX.endswith((".npz", ".safetensors"))
    arrays = np.load(io.BytesIO(data)) if exporter.SUFFIX.endswith(".npz") else load(data)
    assert len(arrays) == len(SHAPES)


@pytest.mark.parametrize("kind", ["bool", "int8", "float32", "uint8"])
def test_effective_weights_are_weights_times_mask(kind):
    ticket = make(kind)
    weights = draw("kaiming-normal", 0, SHAPES)
    scale = 255 if kind == "uint8" else 1
    arrays = np.load(io.BytesIO(registry.load("exporters", "npz").encode(ticket)))
    other = load(registry.load("exporters", "safetensors").encode(ticket))
    for name in SHAPES:
        expected = weights[name] * (ticket.mask[name].astype(np.float32) / scale)
        np.testing.assert_allclose(arrays[name], expected, rtol=1e-6)
        np.testing.assert_array_equal(arrays[name], other[name])
        np.testing.assert_array_equal(arrays[name] == 0, ticket.mask[name] == 0)


def test_rescaled_weights_are_exported_rescaled():
    ticket = make("uint8", method="bernoulli", options={"rescale": True})
    weights, effective = draw("kaiming-normal", 0, SHAPES), ticket.effective()
    for name in SHAPES:
        p = ticket.mask[name] / 255
        np.testing.assert_allclose(effective[name], weights[name] * p * p.size / p.sum(), rtol=1e-5)


def test_mask_holds_bools_alone():
    for kind, kept in (("bool", lambda m: m), ("int8", lambda m: m != 0), ("uint8", lambda m: m >= 128)):
        ticket = make(kind)
        arrays = np.load(io.BytesIO(registry.load("exporters", "mask").encode(ticket)))
        for name in SHAPES:
            assert arrays[name].dtype == bool
            np.testing.assert_array_equal(arrays[name], kept(ticket.mask[name]))


def test_torch_layouts_and_flatten_order():
    ticket = make()
    effective, state = ticket.effective(), load(registry.load("exporters", "torch").encode(ticket))
    assert set(state) == {"conv1.weight", "conv2.weight", "dense1.weight", "head.weight"}
    np.testing.assert_array_equal(state["conv2.weight"], effective["conv2/kernel"].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["head.weight"], effective["head/kernel"].T)
    activation = np.random.default_rng(1).normal(size=(2, 2, 6)).astype(np.float32)
    ours = activation.reshape(-1) @ effective["dense1/kernel"]
    theirs = state["dense1.weight"] @ activation.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_torch_refuses_what_it_cannot_know():
    with pytest.raises(UsageError, match="does not know where own:Net flattens"):
        registry.load("exporters", "torch").encode(make(arch="own:Net"))
    grey = {"a/kernel": (16, 5), "b/kernel": (5, 3)}
    assert registry.load("exporters", "torch").encode(make(shapes=grey, arch="own:Net", image_shape=(4, 4, 1)))


def of_layers(**layers):
    """A ticket of a user's own network: name -> (shape, Parameter fields)."""
    shapes = {name: shape for name, (shape, _) in layers.items()}
    ticket = make(shapes={"a/kernel": (2, 3)}, arch="own:Net")
    parameters = {
        name: Parameter(shape, **{"role": "bias", "masked": False, "flattened": ()} | more)
        for name, (shape, more) in layers.items()
    }
    masked = {name: np.ones(found.shape, bool) for name, found in parameters.items() if found.masked}
    weights = draw("kaiming-normal", 0, parameters)
    return replace(ticket, shapes=shapes, parameters=parameters, mask=masked, fingerprint=fingerprint(weights))


def kernel(layer, fans, **more):
    return {"role": "kernel", "masked": True, "layer": layer, "fans": fans} | more


def test_torch_layouts_follow_layers_not_ranks():
    ticket = of_layers(
        **{
            "attend/query/kernel": ((8, 2, 4), kernel("LinearGeneral", (8, 8))),
            "attend/query/bias": ((2, 4), {"layer": "LinearGeneral"}),
            "attend/out/kernel": ((2, 4, 8), kernel("LinearGeneral", (8, 8))),
            "line/kernel": ((3, 8, 16), kernel("Conv", (24, 48))),
            "table/embedding": ((5, 8), {"role": "embedding", "layer": "Embed"}),
            "position": ((7, 8), {}),
            "slope/negative_slope": ((), {"role": "scale"}),
            "norm/scale": ((8,), {"role": "scale"}),
            "scale": ((3, 2), {"role": "other"}),
        }
    )
    ticket = replace(ticket, state={"norm/mean": np.arange(8.0, dtype=np.float32), "count": np.array(3, np.int32)})
    found, effective = load(registry.load("exporters", "torch").encode(ticket)), ticket.effective()
    np.testing.assert_array_equal(found["attend.query.weight"], effective["attend/query/kernel"].reshape(8, 8).T)
    assert found["attend.query.bias"].shape == (8,)
    np.testing.assert_array_equal(found["attend.out.weight"], effective["attend/out/kernel"].reshape(8, 8).T)
    np.testing.assert_array_equal(found["line.weight"], effective["line/kernel"].transpose(2, 1, 0))
    assert {name: array.shape for name, array in found.items()} == {
        "attend.query.weight": (8, 8),
        "attend.query.bias": (8,),
        "attend.out.weight": (8, 8),
        "line.weight": (16, 8, 3),
        "table.weight": (5, 8),
        "position": (7, 8),
        "slope.weight": (1,),
        "norm.weight": (8,),
        "norm.running_mean": (8,),
        "scale": (3, 2),
        "count": (),
    }
    for name in ("npz", "safetensors"):
        exporter = registry.load("exporters", name)
        data = exporter.encode(ticket)
        arrays = np.load(io.BytesIO(data)) if exporter.SUFFIX.endswith(".npz") else load(data)
        np.testing.assert_array_equal(arrays["norm/mean"], ticket.state["norm/mean"])


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ((3, 3, 4, 8), kernel("", (36, 72))),
        ((2, 2, 4, 8), kernel("ConvTranspose", (4, 32))),
        ((3, 8, 8), kernel("Linear", (8, 8))),  # three stacked layers
        ((2, 8, 4), kernel("Einsum", (8, 8))),
    ],
    ids=["the network's own", "transposed", "stacked", "einsum"],
)
def test_torch_refuses_kernels_without_a_known_layout(shape, more):
    with pytest.raises(UsageError, match=r"^odd/kernel \(.*\), a kernel of .* export npz or safetensors"):
        registry.load("exporters", "torch").encode(of_layers(**{"odd/kernel": (shape, more)}))


def test_torch_reorders_the_inputs_of_the_layer_that_sees_the_flattened_image():
    exporter = registry.load("exporters", "torch")
    image = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    known = of_layers(**{"dense/kernel": ((24, 5), kernel("Linear", (24, 5), flattened=(2, 3, 4)))})
    ours = image.reshape(-1) @ known.effective()["dense/kernel"]
    theirs = load(exporter.encode(known))["dense.weight"] @ image.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    plain = load(exporter.encode(known, flattened="none"))["dense.weight"]
    np.testing.assert_array_equal(plain, known.effective()["dense/kernel"].T)
    rows = of_layers(**{"dense/kernel": ((24, 5), kernel("Linear", (24, 5), flattened=(6, 4)))})
    with pytest.raises(UsageError, match=r"images flattened from \(6, 4\).*--flattened none"):
        exporter.encode(rows)
    with pytest.raises(UsageError, match="unknown kernel for --flattened 'dens/kernel': did you mean dense/kernel"):
        exporter.encode(known, flattened="dens/kernel")
