"""A network in pieces has the outputs, the batch statistics and the gradients of the whole batch."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.extend.core import Literal
from jax.sharding import Mesh, PartitionSpec

from supermask.archs._build import build_model
from supermask.archs._norm import norm
from supermask.archs._pure import state_of
from supermask.nn.batch_axis import SUM, MixesExamplesError, of_outputs
from supermask.nn.flat import flat_jaxpr
from supermask.nn.microbatches import can_split, in_microbatches
from supermask.nn.pooling import max_pool_2x2
from supermask.nn.replace import suited
from supermask.nn.stage_loop import over_microbatches
from supermask.types import Model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

COUNT, SIZE = 8, 8
X = np.float32(np.random.default_rng(0).standard_normal((COUNT, SIZE, SIZE, 3)))
Y = np.arange(COUNT) % 5
EXAMPLE = jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), jnp.float32)


class Residual(nnx.Module):
    """Strides, a pool, a shortcut, batch norm of both kinds, and a wide layer that sees a small image."""

    def __init__(self, classes: int, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        self.conv1, self.norm1 = conv(3, 8, (3, 3)), norm("affine", 8, rngs)
        self.conv2, self.norm2 = conv(8, 16, (3, 3), strides=2), nnx.BatchNorm(16, rngs=rngs)
        self.shortcut = conv(8, 16, (1, 1), strides=2)
        self.conv3, self.norm3 = conv(16, 64, (3, 3)), norm("batch", 64, rngs)
        self.head = nnx.Linear(64, classes, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm1(self.conv1(x)))
        x = jax.nn.relu(self.norm2(self.conv2(x)) + self.shortcut(x))
        x = self.norm3(self.conv3(max_pool_2x2(x)))
        return self.head(jax.nn.gelu(x).mean((1, 2)))


class TwoPasses(nnx.Module):
    """A norm of one's own: the variance is a mean of squares around the mean."""

    def __init__(self, classes: int, rngs: nnx.Rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.head = nnx.Linear(8 * SIZE * SIZE, classes, rngs=rngs)
        self.seen = nnx.BatchStat(jnp.zeros(8))

    def __call__(self, x):
        x = self.conv(x)
        centred = x - x.mean((0, 1, 2))
        var = jnp.var(x, (0, 1, 2))
        self.seen[...] = var
        return self.head((centred / jnp.sqrt(var + 1e-3)).reshape(len(x), -1))


def made(kind) -> tuple[Model, dict, dict]:
    model = suited(build_model(kind, {}, EXAMPLE, 5, width=1.0, activation=jax.nn.relu), "auto")
    own, state = model.initial(0, tuple(model.weights))
    return model, own, state


def loss(apply, state, images, labels, weights):
    outputs, after = apply(weights, state, images, train=True, key=None)
    return -jax.nn.log_softmax(outputs)[jnp.arange(len(labels)), labels].sum(), (outputs, after)


@pytest.mark.parametrize("kind", [pytest.param(Residual, marks=pytest.mark.slow), TwoPasses])
def test_pieces_are_the_whole(kind):
    model, weights, state = made(kind)
    assert splits(model)
    of = lambda apply: jax.jit(jax.value_and_grad(partial(loss, apply, state, X, Y), has_aux=True))(weights)  # noqa: E731
    whole, cut = of(model.apply), of(in_microbatches(model.apply, 4))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1, float(jnp.abs(one).max())))
    assert any(np.abs(cut[0][1][1][name] - state[name]).max() > 1e-3 for name in state)  # the statistics did move


def test_a_wide_layer_sees_all_of_its_images_at_once():
    """Its kernel would be read for each piece otherwise."""
    model, weights, state = made(Residual)
    jaxpr = str(jax.make_jaxpr(partial(loss, in_microbatches(model.apply, 4), state, X, Y))(weights))
    assert "length=1" in jaxpr  # the last convolution
    assert "length=4" in jaxpr


def test_a_network_that_was_traced_to_see_whether_it_can_be_cut_is_not_traced_again():
    traced = []

    def apply(*arguments, **options):
        traced.append("once")
        return model.apply(*arguments, **options)

    model, weights, state = made(TwoPasses)
    assert can_split(replace(model, apply=apply), state_of(model), jax.ShapeDtypeStruct(X.shape, X.dtype), 2, COUNT)
    known = len(traced)
    key = jax.random.key(1)
    jax.make_jaxpr(lambda weights: in_microbatches(apply, COUNT // 2)(weights, state, X, train=True, key=key))(weights)
    assert len(traced) == known > 0


@pytest.mark.slow
def test_statistics_are_of_the_shards_of_all_devices():
    model, weights, state = made(Residual)
    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))

    def shard(weights, images, labels):
        apply = in_microbatches(model.apply, 2, "d", 2)
        grad, (outputs, after) = jax.grad(partial(loss, apply, state, images, labels), has_aux=True)(weights)
        return lax.psum(grad, "d"), outputs, after

    whole, batch = PartitionSpec(), PartitionSpec("d")
    specs = {"in_specs": (whole, batch, batch), "out_specs": (whole, batch, whole), "check_vma": False}
    grad, outputs, after = jax.jit(jax.shard_map(shard, mesh=mesh, **specs))(weights, X, Y)
    expected, (alone, stats) = jax.jit(jax.grad(partial(loss, model.apply, state, X, Y), has_aux=True))(weights)
    for one, other in zip(
        jax.tree.leaves((expected, alone, stats)), jax.tree.leaves((grad, outputs, after)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1, float(jnp.abs(one).max())))


def splits(model, size=2) -> bool:
    return can_split(model, state_of(model), jax.ShapeDtypeStruct((4, SIZE, SIZE, 3), "float32"), size, COUNT)


class Around(nnx.Module):
    """Batch norm, and a function of one's own before it."""

    def __init__(self, function, rngs: nnx.Rngs):
        self.conv, self.norm, self.function = nnx.Conv(3, 4, (1, 1), rngs=rngs), norm("batch", 4, rngs), function

    def __call__(self, x):
        return self.norm(self.function(self.conv(x), self.conv.kernel[...])).mean((1, 2))


def around(function) -> Model:
    return suited(build_model(lambda rngs: Around(function, rngs), {}, EXAMPLE, 4), "auto")


@jax.custom_jvp
def over_the_count(x):
    return x / len(x)


over_the_count.defjvp(lambda primals, tangents: (over_the_count(*primals), over_the_count(*tangents)))


@jax.custom_vjp
def of_unit_gradient(x):
    return x * 2


of_unit_gradient.defvjp(lambda x: (x * 2, None), lambda _, g: (g / jnp.sqrt(jnp.sum(g * g)),))


def dropped(x):
    return jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), x, 0)


def ghost(x, kernel):
    groups = x.reshape(2, -1, *x.shape[1:])
    return (groups - groups.mean(1, keepdims=True)).reshape(x.shape)


def two_outputs(x, kernel):
    y, square = lax.cond(kernel.sum() < 9, lambda x, k: (x, k * k), lambda x, k: (x + 1, k), x, kernel)
    return y * square.sum()


WHOLE = {
    "images normalised in groups": ghost,
    "numbers for each image": lambda x, kernel: x + jnp.asarray(np.arange(len(x))).reshape(-1, 1, 1, 1),
    "random numbers for each image": lambda x, kernel: dropped(x),
    "random numbers in a condition": lambda x, kernel: lax.cond(kernel.sum() < 9, dropped, lambda x: x, x),
    "the number of images in a rule": lambda x, kernel: over_the_count(x),
    "a gradient of one's own": lambda x, kernel: of_unit_gradient(x),
    "a condition that also returns weights": two_outputs,
    "a barrier for images and weights": lambda x, kernel: lax.optimization_barrier((x, kernel))[0],
    "largest of the batch": lambda x, kernel: x - x.max(0),
}


@pytest.mark.parametrize("function", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("size", [2, 4])
def test_these_networks_need_the_whole_batch(function, size):
    assert not splits(around(function), size)


def test_a_dense_layer_along_other_axes_is_no_obstacle_wherever_the_images_lie():
    def dense(x, kernel):
        rows_first = x.transpose(1, 0, 2, 3) @ kernel[0, 0, :1].repeat(4, axis=0)
        return rows_first.transpose(1, 0, 2, 3)

    assert splits(around(dense))


class Drawn(Around):
    def __init__(self, function, rngs: nnx.Rngs):
        super().__init__(function, rngs)
        self.dropout = nnx.Dropout(0.5, broadcast_dims=(0, 1, 2), rngs=rngs)

    def __call__(self, x):
        return super().__call__(self.dropout(x))


def test_noise_that_is_the_same_for_all_images_needs_the_whole_batch():
    """Each device would draw its own."""
    model = build_model(lambda rngs: Drawn(lambda x, kernel: x, rngs), {}, EXAMPLE, 4)
    assert not splits(suited(model, "auto"))


def test_constant_state_and_whole_numbers_are_no_obstacle():
    class Counting(Around):
        def __init__(self, function, rngs: nnx.Rngs):
            super().__init__(function, rngs)
            self.flag, self.count = nnx.BatchStat(jnp.float32(0)), nnx.BatchStat(jnp.int32(0))

        def __call__(self, x):
            factor = jnp.ones(3)[self.count[...]]
            self.flag[...], self.count[...] = jnp.float32(1), self.count[...] + 1
            return super().__call__(x) * factor

    model = build_model(lambda rngs: Counting(lambda x, kernel: x, rngs), {}, EXAMPLE, 4)
    assert splits(model)
    own, state = model.initial(0, tuple(model.weights))
    _, after = jax.jit(partial(in_microbatches(model.apply, 4), train=True, key=None))(own, state, X)
    assert after["flag"] == 1
    assert after["count"] == state["count"] + 1


def test_gradients_of_bfloat16_are_added_up_in_float32():
    """bfloat16 itself cannot count beyond 256."""
    pieces = jnp.ones((400, 1), jnp.bfloat16)

    def total(weight):
        _, [summed] = over_microbatches(
            lambda read, whole: [read[0] * whole[0]], lambda found, read, whole: [found[0].sum()], [pieces], [weight]
        )
        return summed.astype(jnp.float32)

    value, gradient = jax.value_and_grad(total)(jnp.bfloat16(1))
    assert value == gradient == 400
    assert gradient.dtype == jnp.bfloat16


APART = {
    "matrix product": lambda x: x.reshape(len(x), -1) @ jnp.ones((48, 3)),
    "attention": lambda x: jnp.einsum("bqhc,bkhc->bqkh", x, x),
    "softmax": lambda x: jax.nn.softmax(x),
    "layer norm": lambda x: (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True),
    "transposed": lambda x: jnp.moveaxis(x, 0, 2) * 2,
    "merged": lambda x: x.reshape(-1, 3) @ jnp.ones((3, 3)),
    "pooled": lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
    "padded and flipped": lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))[:, ::-1, 1:],
    "joined": lambda x: jnp.concatenate([x, x * x], -1),
    "summed along": lambda x: jnp.cumsum(x, 1),
    "largest": lambda x: x.argmax(-1),
}
SUMMED = {
    "mean": lambda x: x.mean((0, 1, 2)),
    "squares": lambda x: jnp.einsum("bhwc,bhwc->c", x, x),
}
MIXED = {
    "product of images": lambda x: x.reshape(len(x), -1) @ x.reshape(len(x), -1).T,
    "next image": lambda x: jnp.roll(x, 1, 0),
    "flipped batch": lambda x: x[::-1],
    "summed along the batch": lambda x: jnp.cumsum(x, 0),
    "largest of the batch": lambda x: x.max(0),
    "sorted": lambda x: jnp.sort(x, 0),
    "folded into the image": lambda x: x.reshape(4, -1, 3),
    "half": lambda x: x[::2],
    "joined batches": lambda x: jnp.concatenate([x, x]),
    "across": lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, 3),
}


def axes(f) -> list:
    """The axes of f's outputs."""
    closed, _ = flat_jaxpr(f, jax.ShapeDtypeStruct((3, 4, 4, 3), jnp.float32))
    known = {closed.jaxpr.invars[0]: 0}
    read = lambda atom: None if isinstance(atom, Literal) else known.get(atom)  # noqa: E731
    for eqn in closed.jaxpr.eqns:
        axis = of_outputs(eqn, [read(atom) for atom in eqn.invars], 3)
        known.update(dict.fromkeys(eqn.outvars, None if axis == SUM else axis))
    return [read(atom) for atom in closed.jaxpr.outvars]


@pytest.mark.parametrize("f", APART.values(), ids=APART)
def test_what_keeps_images_apart_has_an_axis_of_them(f):
    [axis] = axes(f)
    x = np.float32(np.random.default_rng(2).standard_normal((3, 4, 4, 3)))
    parts = [np.asarray(f(x[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(np.concatenate(parts, axis), f(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("f", SUMMED.values(), ids=SUMMED)
def test_sums_over_the_batch_have_none(f):
    assert axes(f) == [None]


@pytest.mark.parametrize("f", MIXED.values(), ids=MIXED)
def test_what_mixes_images_is_refused(f):
    with pytest.raises(MixesExamplesError):
        axes(f)
