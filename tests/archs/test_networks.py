"""Networks as people write them: what each parameter is, what it starts from, how the network is called."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, struct
from jax.example_libraries import stax

from supermask.archs._build import build_model
from supermask.errors import SupermaskError, UsageError
from supermask.types import Model
from supermask.weights.parameters import by_rank, chosen, from_document, to_document

pytestmark = pytest.mark.usefixtures("compiled_quickly")

EXAMPLE = jax.ShapeDtypeStruct((2, 6, 6, 1), jnp.float32)
HEAD = {"head/kernel": ("kernel", (8, 3)), "head/bias": ("bias", None)}


def build(arch, **options):
    return build_model(arch, options, EXAMPLE, 3)


def roles(model):
    """Role and, of what is masked, fans."""
    return {name: (found.role, found.fans if found.masked else None) for name, found in model.parameters.items()}


class Base(nnx.Module):
    """Subclasses make (batch, 8) of images."""

    def __init__(self, image_shape, classes, rngs):
        self.prepare(image_shape, rngs)
        self.head = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.body(x)))


class Attention(Base):
    def prepare(self, image_shape, rngs):
        self.embed = nnx.Linear(6, 8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, 8)))
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 7, 8)))
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.gamma = nnx.Param(jnp.full(8, 1e-4))

    def body(self, x):
        x = self.embed(x[..., 0])
        x = jnp.concatenate([jnp.tile(self.token[...], (len(x), 1, 1)), x], 1) + self.position[...]
        return (x + self.gamma[...] * self.attend(self.norm(x)))[:, 0]


def test_attention():
    found = roles(build(Attention))
    for part in ("query", "key", "value"):
        assert found.pop(f"attend/{part}/kernel") == ("kernel", (8, 8))  # (8, 2, 4): the heads are outputs
        assert found.pop(f"attend/{part}/bias") == ("bias", None)  # (2, 4)
    assert found == HEAD | {
        "embed/kernel": ("kernel", (6, 8)),
        "embed/bias": ("bias", None),
        "attend/out/kernel": ("kernel", (8, 8)),  # (2, 4, 8): the heads are inputs
        "attend/out/bias": ("bias", None),
        "token": ("other", None),
        "position": ("bias", None),
        "norm/scale": ("scale", None),
        "norm/bias": ("bias", None),
        "gamma": ("scale", None),
    }


class Convolutions(Base):
    def prepare(self, image_shape, rngs):
        self.grouped = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.depthwise = nnx.Conv(4, 4, (3, 3), feature_group_count=4, use_bias=False, rngs=rngs)
        self.up = nnx.ConvTranspose(4, 8, (2, 2), strides=(2, 2), use_bias=False, rngs=rngs)
        self.own = nnx.Param(jnp.ones((8, 8, 3, 3)))  # out, in, height, width

    def body(self, x):
        x = self.up(self.depthwise(self.grouped(x)))
        x = jax.lax.conv_general_dilated(x, self.own[...], (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC"))
        return x.mean((1, 2))


def test_convolutions():
    assert roles(build(Convolutions)) == HEAD | {
        "grouped/kernel": ("kernel", (9, 36)),
        "grouped/bias": ("bias", None),
        "depthwise/kernel": ("kernel", (9, 36)),
        "up/kernel": ("kernel", (4, 32)),  # with a stride of 2, an output meets one of the four places
        "own": ("kernel", (72, 72)),
    }


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.dense = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        return x + jax.nn.relu(self.dense(self.norm(x)))


class Stacked(Base):
    def prepare(self, image_shape, rngs):
        self.first = nnx.Linear(36, 8, use_bias=False, rngs=rngs)
        self.blocks = nnx.split_rngs(splits=3)(nnx.vmap(Block))(rngs)
        self.experts = nnx.Param(jax.random.normal(rngs.params(), (4, 8, 8)))
        self.query = nnx.Einsum("bd,hdk->bhk", (2, 8, 4), rngs=rngs)

    def body(self, x):
        x = self.first(x.reshape(len(x), -1))
        x = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)
        x = jnp.einsum("bi,eio->beo", x, self.experts[...]).mean(1)
        return self.query(x).reshape(len(x), 8)


def test_stacked_layers_experts_and_heads():
    found = roles(build(Stacked))
    assert found.pop("query/bias", ("bias", None)) == ("bias", None)
    assert found == HEAD | {
        "first/kernel": ("kernel", (36, 8)),
        "blocks/dense/kernel": ("kernel", (8, 8)),  # (3, 8, 8): three layers of 8 inputs
        "blocks/dense/bias": ("bias", None),
        "blocks/norm/scale": ("scale", None),
        "blocks/norm/bias": ("bias", None),
        "experts": ("kernel", (8, 32)),
        "query/kernel": ("kernel", (8, 8)),
    }


class Values(Base):
    """Parameters and state with initial values of their own."""

    def prepare(self, image_shape, rngs):
        self.first = nnx.WeightNorm(nnx.Linear(36, 8, bias_init=nnx.initializers.ones, rngs=rngs), rngs=rngs)
        self.table = nnx.Embed(4, 36, rngs=rngs)
        self.slope = nnx.PReLU(0.25)
        self.weight = nnx.Param(jnp.full(8, 0.5))
        self.shifted = nnx.Param(jnp.zeros(8))
        self.temperature = nnx.Param(jnp.float32(3))
        self.mean = jnp.full(image_shape, 0.3)
        self.features = jax.random.normal(rngs.params(), (8,))
        self.calls = nnx.Variable(jnp.int32(0))
        self.unused = nnx.Linear(5, 7, rngs=rngs)

    def body(self, x):
        self.calls[...] += 1
        tokens = jnp.clip(jnp.round(x), 0, 3).astype(jnp.int32)[:, 0, 0, 0]
        x = self.first((x - self.mean).reshape(len(x), -1) + self.table(tokens))
        return self.slope(x) * self.weight[...] * (1 + self.shifted[...]) / self.temperature[...] + self.features


def test_what_is_not_drawn_keeps_the_network_s_own_value():
    model = build(Values)
    found = roles(model)
    norm = "first/scales/kernel"  # state in some versions of Flax, a parameter in others
    assert {name: role for name, (role, _) in found.items() if not name.startswith(("head", norm))} == {
        "first/layer_instance/bias": "bias",
        "first/layer_instance/kernel": "kernel",
        "shifted": "other",
        "slope/negative_slope": "scale",
        "table/embedding": "embedding",
        "temperature": "scale",
        "unused/bias": "unused",
        "unused/kernel": "unused",
        "weight": "scale",
    }
    assert found["first/layer_instance/kernel"] == ("kernel", (36, 8))
    names = [name for name, parameter in model.parameters.items() if not parameter.drawn]
    own, state = model.initial(7, names)
    made = Values((6, 6, 1), 3, nnx.Rngs(jax.random.key(7)))
    for name, value in (
        ("first/layer_instance/bias", np.ones(8)),
        ("table/embedding", made.table.embedding[...]),
        ("slope/negative_slope", np.float32(0.25)),
        ("weight", np.full(8, 0.5)),
        ("shifted", np.zeros(8)),
        ("temperature", np.float32(3)),
    ):
        np.testing.assert_allclose(own[name], value, rtol=1e-6, err_msg=name)
    assert set(model.state) - {norm} == {"calls", "features", "mean"}
    assert model.changes == {"calls"}
    np.testing.assert_allclose(state["features"], made.features, rtol=1e-6)
    np.testing.assert_array_equal(state["mean"], np.full((6, 6, 1), np.float32(0.3)))
    assert state["calls"].dtype == np.int32
    other, more = model.initial(8, names)
    assert not np.array_equal(more["features"], state["features"])
    assert not np.array_equal(other["table/embedding"], own["table/embedding"])
    # what a file says of them gives the same again
    own = {name: np.asarray(array) for name, array in own.items()}
    document, tensors = to_document(model.parameters, own)
    assert set(tensors) == {"own/table/embedding", "own/unused/kernel"}
    stored = {name.removeprefix("own/"): array for name, array in tensors.items()}
    parameters, read = from_document(document, stored, model.weights)
    assert {name: (p.role, p.masked) for name, p in parameters.items() if len(p.shape) > 1} == {
        name: (p.role, p.masked) for name, p in model.parameters.items() if len(p.shape) > 1
    }
    for name, array in own.items():
        np.testing.assert_array_equal(read.get(name, np.zeros_like(array)), array, err_msg=name)


class Concrete(Base):
    """Its constructor needs values, so it cannot be traced."""

    def prepare(self, image_shape, rngs):
        self.rates = tuple(float(rate) for rate in jnp.linspace(0, 0.1, 3))
        self.first = nnx.Linear(36, 8, bias_init=nnx.initializers.constant(self.rates[-1]), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)

    def body(self, x):
        return self.norm(self.first(x.reshape(len(x), -1)))


def test_a_constructor_that_needs_values_is_run():
    model = build(Concrete)
    own, state = model.initial(0, ["first/bias"])
    np.testing.assert_array_equal(own["first/bias"], np.full(8, np.float32(0.1)))
    assert model.changes == state.keys() == {"norm/mean", "norm/var"}
    np.testing.assert_array_equal(state["norm/var"], np.ones(8))


class Flagged(nnx.Module):
    """Adds 1 in training, 2 if told so by another word."""

    def __init__(self, num_classes=1000, in_channels=3, *, rngs, img_size=224):
        assert (in_channels, img_size) == (1, 6)
        self.head = nnx.Linear(36, num_classes, rngs=rngs)
        self.off = nnx.Dropout(0.5, deterministic=True)
        self.drop = nnx.Dropout(0.5)

    def __call__(self, x, training=True, *, deterministic, rngs=None):
        assert training is not deterministic
        x = self.head(self.off(x.reshape(len(x), -1)))
        return {"logits": x + training, "dropped": self.drop(x), "noise": rngs.dropout() if training else None}


def test_flags_and_the_usual_words_are_passed_by_signature():
    with pytest.raises(UsageError, match=r"Flagged returns a dict of logits, dropped, noise: .*-a output=logits"):
        build(Flagged)
    model = build(Flagged, output="logits")
    assert model.outputs.shape == (2, 3)
    weights = {"head/kernel": np.ones((36, 3), np.float32), "head/bias": np.zeros(3, np.float32)}
    x = np.ones((2, 6, 6, 1), np.float32)
    training, _ = model.apply(weights, {}, x, train=True, key=jax.random.key(0))
    evaluating, _ = model.apply(weights, {}, x, train=False, key=None)
    np.testing.assert_array_equal(training - evaluating, np.ones((2, 3)))
    dropped = build(Flagged, output="dropped")
    some, _ = dropped.apply(weights, {}, x, train=True, key=jax.random.key(0))
    assert (np.asarray(some) == 0).any()
    with pytest.raises(UsageError, match="no output 'logit': it returns a dict of logits, dropped, noise"):
        build(Flagged, output="logit")


class Linen(linen.Module):
    classes: int

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Conv(4, (3, 3))(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(self.classes)(x.mean((1, 2)))


def test_a_linen_module():
    model = build(lambda classes: Linen(classes))
    assert roles(model) == {
        "BatchNorm_0/bias": ("bias", None),
        "BatchNorm_0/scale": ("scale", None),
        "Conv_0/bias": ("bias", None),
        "Conv_0/kernel": ("kernel", (9, 36)),
        "Dense_0/bias": ("bias", None),
        "Dense_0/kernel": ("kernel", (4, 3)),
    }
    assert {name: found.layer for name, found in model.parameters.items()}["Dense_0/kernel"] == "Linear"
    assert (
        set(model.changes)
        == set(model.state)
        == {
            "batch_stats/BatchNorm_0/mean",
            "batch_stats/BatchNorm_0/var",
        }
    )
    own, state = model.initial(0, ["BatchNorm_0/scale"])
    assert (own["BatchNorm_0/scale"] == 1).all()
    assert (state["batch_stats/BatchNorm_0/var"] == 1).all()


class Idioms(linen.Module):
    """Tells training from evaluation by a field, by whether state may change, and by whether there is a stream."""

    classes: int
    train: bool = False
    width: float = 1.0

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(self.classes)(x.mean((1, 2)))
        x = linen.BatchNorm(use_running_average=not self.is_mutable_collection("batch_stats"))(x)
        self.sow("losses", "size", jnp.square(x).mean())
        return x + 10 * self.train + 100 * self.has_rng("dropout")


def test_the_ways_in_which_linen_modules_tell_training_from_evaluation():
    model = build(Idioms)
    assert set(model.state) == {"batch_stats/BatchNorm_0/mean", "batch_stats/BatchNorm_0/var"}
    weights = {name: np.ones(shape, np.float32) for name, shape in model.weights.items()}
    state = {name: np.full(shape, 4, np.float32) for name, shape in model.state.items()}
    x = np.linspace(0, 1, 72, dtype=np.float32).reshape(2, 6, 6, 1)
    found, after = model.apply(weights, state, x, train=True, key=jax.random.key(0))
    np.testing.assert_allclose(found, [[110] * 3, [112] * 3], atol=0.01)  # normalised: -1 and 1, and the bias
    assert (after["batch_stats/BatchNorm_0/mean"] < 4).all()
    found, after = model.apply(weights, state, x, train=False, key=None)
    expected = (x.mean((1, 2, 3)) + 1 - 4) / np.sqrt(4 + 1e-5) + 1
    np.testing.assert_allclose(found, np.tile(expected[:, None], 3), rtol=1e-4)
    np.testing.assert_array_equal(after["batch_stats/BatchNorm_0/mean"], np.full(3, 4))


class ClassAttention(linen.Module):
    """Pools by a learned query, as ViTs without a class token do."""

    classes: int

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(8)(x[..., 0])
        query = jnp.tile(self.param("query", linen.initializers.normal(), (1, 1, 8)), (len(x), 1, 1))
        return linen.Dense(self.classes)(linen.MultiHeadAttention(2)(linen.LayerNorm()(query), x)[:, 0])


def test_a_learned_query_is_data_where_it_is_projected():
    found = roles(build(lambda classes: ClassAttention(classes)))
    assert found.pop("query") == ("other", None)
    assert found.pop("LayerNorm_0/scale")[1] is found.pop("LayerNorm_0/bias")[1] is None
    kernels = {name: fans for name, (role, fans) in found.items() if role == "kernel"}
    assert kernels.pop("Dense_0/kernel") == (6, 8)
    assert kernels.pop("Dense_1/kernel") == (8, 3)
    parts = ("query", "key", "value", "out")
    assert kernels == {f"MultiHeadAttention_0/{part}/kernel": (8, 8) for part in parts}
    assert {role for name, (role, _) in found.items() if name.endswith("bias")} == {"bias"}


def normalised(axis_name, other=None):
    class Net(nnx.Module):
        def __init__(self, image_shape, classes, rngs):
            self.head = nnx.Linear(36, classes, rngs=rngs)
            self.norm = nnx.BatchNorm(classes, axis_name=axis_name, rngs=rngs)
            self.more = nnx.BatchNorm(classes, axis_name=other, rngs=rngs)

        def __call__(self, x):
            return self.more(self.norm(self.head(x.reshape(len(x), -1))))

    return Net


def test_batch_norm_over_a_named_axis_of_devices():
    """The axis that the network was trained over elsewhere has one batch here."""
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)
    results = []
    for axis in ("batch", "devices", None):
        model = build(normalised(axis))
        weights = {
            name: np.arange(1, 1 + math.prod(s), dtype=np.float32).reshape(s) for name, s in model.weights.items()
        }
        state = {name: np.ones(shape, np.float32) for name, shape in model.state.items()}
        results.append(model.apply(weights, state, x, train=True, key=jax.random.key(0)))
        assert len(model.changes) == 4
    for result in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, result, results[0])
    with pytest.raises(SupermaskError, match="Net needs two named axes: batch, seeds"):
        build(normalised("batch", "seeds"))


class Noisy(nnx.Module):
    """Annotations say which of the usual words is a key, and which is `nnx.Rngs`."""

    def __init__(self, classes, rngs):
        self.head = nnx.Linear(36, classes, rngs=rngs)
        self.training = self.train = False

    def __call__(self, x, *, rngs: jax.Array, rng: nnx.Rngs | None = None):
        noise = jax.random.uniform(rngs) + jax.random.uniform(rng.params()) - 100
        return self.head(x.reshape(len(x), -1)) + noise * (self.training and self.train)


def test_keys_by_annotation_and_flags_as_attributes():
    model = build(Noisy)
    weights = {name: np.zeros(shape, np.float32) for name, shape in model.weights.items()}
    x = np.ones((2, 6, 6, 1), np.float32)
    assert (model.apply(weights, {}, x, train=True, key=jax.random.key(0))[0] < -90).all()
    assert (model.apply(weights, {}, x, train=False, key=None)[0] == 0).all()


def test_what_takes_any_words_is_given_a_stream_only_if_it_takes_it():
    assert build(lambda classes, **more: Idioms(classes, **more), width=2.0).outputs.shape == (2, 3)
    assert build(lambda classes, **more: nnx.Linear(1, classes, **more)).weights["kernel"] == (1, 3)


class Required(linen.Module):
    """Its flag is a field that has no default."""

    num_classes: int
    deterministic: bool

    @linen.compact
    def __call__(self, x):
        kernel_init = linen.with_partitioning(linen.initializers.lecun_normal(), (None, "model"))
        return linen.Dense(self.num_classes, kernel_init=kernel_init)(x.mean((1, 2))) + 10 * self.deterministic


def test_a_flag_without_default_and_parameters_with_a_sharding():
    model = build(Required)
    weights, x = {"Dense_0/bias": np.zeros(3), "Dense_0/kernel": np.zeros((1, 3))}, np.ones((2, 6, 6, 1))
    assert (model.apply(weights, {}, x, train=True, key=jax.random.key(0))[0] == 0).all()
    assert (model.apply(weights, {}, x, train=False, key=None)[0] == 10).all()
    kernel_init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
    model = build(lambda classes, rngs: nnx.Linear(1, classes, kernel_init=kernel_init, rngs=rngs))
    assert model.weights["kernel"] == (1, 3)


class Fields(NamedTuple):
    logits: jax.Array
    features: jax.Array


@struct.dataclass
class Record:
    features: jax.Array
    logits: jax.Array


@pytest.mark.parametrize("kind", [Fields, Record])
def test_outputs_with_names(kind):
    def net(classes):
        def apply(w, x):
            x = x.reshape(len(x), -1)
            return kind(logits=x @ w, features=x)

        return lambda key: jnp.zeros((36, classes)), apply

    assert build(net, output="logits").outputs.shape == (2, 3)
    with pytest.raises(UsageError, match=rf"returns a {kind.__name__} of .*features.*: say which"):
        build(net)


def test_a_linen_module_that_cannot_be_made_is_one_line():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(x) @ jnp.ones((5, 5))

    with pytest.raises(SupermaskError, match=r"cannot make the network .*: "):
        build(lambda: Net())


def pair(image_shape, classes):
    def init(key):
        return {"w": jax.random.normal(key, (math.prod(image_shape), classes)), "b": jnp.full(classes, 2.0)}

    def apply(parameters, x, train):
        return x.reshape(len(x), -1) @ parameters["w"] + parameters["b"] * train

    return init, apply


def test_a_pair_of_functions():
    model = build(pair)
    assert roles(model) == {"b": ("bias", None), "w": ("kernel", (36, 3))}
    own, _ = model.initial(0, ["b"])
    np.testing.assert_array_equal(own["b"], np.full(3, 2.0))


def stateful_pair(classes):
    """As Haiku's: state and a key by place; `is_training` by name, in `init` too."""

    def init(rng, x, is_training):
        return {"w": jnp.ones((36, classes))}, {"mean": jnp.zeros(()) + is_training}

    def apply(params, state, rng, x, is_training):
        outputs = x.reshape(len(x), -1) @ params["w"] + jax.random.uniform(rng) * is_training
        return outputs, {"mean": x.mean() if is_training else state["mean"]}

    return init, apply


def test_a_pair_with_state():
    model = build(stateful_pair)
    assert roles(model) == {"w": ("kernel", (36, 3))}
    assert model.changes == {"mean"}
    assert model.initial(0, [])[1]["mean"] == 1
    weights, x = {"w": np.zeros((36, 3), np.float32)}, np.full((2, 6, 6, 1), 2, np.float32)
    outputs, state = model.apply(weights, {"mean": np.float32(5)}, x, train=True, key=jax.random.key(0))
    assert state["mean"] == 2
    assert (outputs > 0).all()
    outputs, state = model.apply(weights, {"mean": np.float32(5)}, x, train=False, key=None)
    assert state["mean"] == 5
    assert (outputs == 0).all()
    with pytest.raises(UsageError, match=r"init of .* returns a dict; it must return \(parameters, state\)"):
        build(lambda: (lambda key: {"w": jnp.ones((36, 3))}, lambda w, state, x: (x @ w, state)))


def test_a_pair_of_stax():
    model = build(lambda classes: stax.serial(stax.Flatten, stax.Dense(8), stax.Relu, stax.Dense(classes)))
    assert roles(model) == {
        "1/0": ("kernel", (36, 8)),
        "1/1": ("bias", None),
        "3/0": ("kernel", (8, 3)),
        "3/1": ("bias", None),
    }


def test_a_model_of_ones_own():
    def apply(weights, state, inputs, *, train, key):
        return inputs.reshape(len(inputs), -1) @ weights["w"].T, state

    model = build(lambda image_shape, classes: Model({"w": (classes, 36)}, {}, apply))
    assert roles(model) == {"w": ("kernel", (36, 3))}


def test_an_equinox_module():
    equinox = pytest.importorskip("equinox")

    class Net(equinox.Module):
        first: equinox.nn.Linear
        drop: equinox.nn.Dropout
        slope: jax.Array

        def __init__(self, classes, key):
            self.first = equinox.nn.Linear(36, classes, key=key)
            self.drop = equinox.nn.Dropout(0.5)
            self.slope = jnp.ones(())

        def __call__(self, x, key=None):
            return self.slope * self.drop(self.first(x.ravel()), key=key)

    model = build(Net)
    assert roles(model) == {
        "first/bias": ("bias", None),
        "first/weight": ("kernel", (36, 3)),  # (out, in)
        "slope": ("scale", None),
    }
    own, _ = model.initial(0, ["slope"])
    assert own["slope"] == 1


def test_an_equinox_module_with_state():
    equinox = pytest.importorskip("equinox")

    class Net(equinox.Module):
        first: equinox.nn.Linear
        norm: equinox.nn.BatchNorm

        def __init__(self, classes, key):
            self.first = equinox.nn.Linear(36, classes, key=key)
            self.norm = equinox.nn.BatchNorm(classes, axis_name="images", mode="batch", momentum=0.5)

        def __call__(self, x, state):
            return self.norm(self.first(x.ravel()), state)

    model = build(lambda classes, key: equinox.nn.make_with_state(Net)(classes, key))
    assert roles(model)["first/weight"] == ("kernel", (36, 3))
    assert model.changes == set(model.state)
    weights = {name: np.ones(shape, np.float32) for name, shape in model.weights.items()}
    _, state = model.initial(0, [])
    x = np.stack([np.zeros((6, 6, 1), np.float32), np.ones((6, 6, 1), np.float32)])
    outputs, state = model.apply(weights, state, x, train=True, key=jax.random.key(0))
    np.testing.assert_allclose(outputs, [[0] * 3, [2] * 3], atol=1e-5)  # -1 and 1, and the bias
    again, same = model.apply(weights, state, x[:1], train=False, key=None)
    assert (again != outputs[:1]).all()
    jax.tree.map(np.testing.assert_array_equal, same, state)


def test_ordinary_networks_need_nothing_in_a_ticket():
    """Kernels of dense layers and convolutions, biases at 0 and scales at 1 follow from names and ranks."""
    shapes = {"conv/kernel": (3, 3, 1, 4), "head/kernel": (4, 3), "head/bias": (3,), "norm/scale": (4,)}
    own = {"head/bias": np.zeros(3, np.float32), "norm/scale": np.ones(4, np.float32)}
    assert to_document(by_rank(shapes), own) == ({}, {})


def test_patterns():
    parameters = build(Attention).parameters
    masked = lambda **words: {name for name, found in chosen(parameters, **words).items() if found.masked}  # noqa: E731
    usual = masked()
    assert masked(maskable="position, norm") == usual | {"position", "norm/scale", "norm/bias"}
    assert masked(unmasked="head,attend/*/kernel") == {"embed/kernel"}
    trained = chosen(parameters, train="bias,head")
    assert {name for name, found in trained.items() if found.trained} == {
        name for name, found in parameters.items() if found.role == "bias" or name.startswith("head/")
    }
    assert not trained["head/kernel"].masked
    with pytest.raises(UsageError, match="--unmasked haed names no parameter; there are: attend/key/bias"):
        chosen(parameters, unmasked="haed")
    with pytest.raises(UsageError, match="--maskable names head/bias, and so does --train"):
        chosen(parameters, maskable="head", train="head")
