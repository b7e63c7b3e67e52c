"""Flags of training and evaluation reach every layer of a Sequential of Flax."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import linen, nnx

from supermask.archs._build import build_model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

EXAMPLE = jax.ShapeDtypeStruct((2, 1, 1, 16), "float32")
X = np.float32(np.random.default_rng(0).standard_normal((8, 1, 1, 16)))


class Norm(nnx.Module):
    """Batch norm whose flag a caller may forget."""

    def __init__(self, rngs, default=False):
        self.norm, self.default = nnx.BatchNorm(16, use_running_average=False, rngs=rngs), default

    def __call__(self, x, train=None):
        return self.norm(x, use_running_average=not (self.default if train is None else train))


class LinenNorm(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return linen.BatchNorm(use_running_average=not train)(x)


class Own(nnx.Sequential):
    """A class of one's own that is called as Flax's."""


class Calling(nnx.Module):
    """Gives a flag to the first layer itself."""

    def __init__(self, rngs):
        self.net = nnx.Sequential(Norm(rngs), head(rngs))

    def __call__(self, x, train):
        return self.net(x, train)


def head(rngs):
    return nnx.Linear(16, 10, rngs=rngs)


NETS = {
    "a module": lambda rngs: nnx.Sequential(nnx.relu, Norm(rngs), head(rngs)),
    "true unless told": lambda rngs: nnx.Sequential(nnx.relu, Norm(rngs, True), head(rngs)),
    "the first": lambda rngs: nnx.Sequential(Norm(rngs), head(rngs)),
    "one in another": lambda rngs: nnx.Sequential(nnx.relu, nnx.Sequential(nnx.relu, Norm(rngs)), head(rngs)),
    "a class of one's own": lambda rngs: Own(nnx.relu, Norm(rngs), head(rngs)),
    "a flag given by place": Calling,
    "layers of Flax": lambda rngs: nnx.Sequential(nnx.relu, nnx.BatchNorm(16, rngs=rngs), nnx.Dropout(0.5), head(rngs)),
    "linen": lambda: linen.Sequential([linen.relu, LinenNorm(), linen.Dense(10)]),
    "linen's own layers": lambda: linen.Sequential(
        [linen.relu, linen.BatchNorm(), linen.Dropout(0.5), linen.Dense(10)]
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_training_moves_the_statistics_and_evaluation_does_not(name):
    model = build_model(NETS[name], {}, EXAMPLE, 10)
    assert len(model.changes) == 2
    assert {model.layers[name] for name in model.changes} == {"BatchStat"}
    state = {key: value + 0.5 for key, value in model.initial(0, ())[1].items()}
    weights = {key: np.full(shape, 0.1, np.float32) for key, shape in model.weights.items()}
    evaluate = lambda x: model.apply(weights, state, x, train=False, key=None)  # noqa: E731
    outputs, after = evaluate(X)
    assert all(np.array_equal(after[key], value) for key, value in state.items())
    np.testing.assert_allclose(outputs[:4], evaluate(X[:4])[0], atol=1e-5)
    after = model.apply(weights, state, X, train=True, key=jax.random.key(0))[1]
    assert not any(np.array_equal(after[key], state[key]) for key in model.changes)


def doubled(x, is_training=False):
    return 2 * x if is_training else x


@pytest.mark.parametrize(("layer", "factor"), [(doubled, 2), (partial(doubled, is_training=False), 1)])
def test_functions_are_given_what_their_author_has_not_set(layer, factor):
    model = build_model(lambda rngs: nnx.Sequential(nnx.relu, layer, head(rngs)), {}, EXAMPLE, 10)
    weights = {key: np.ones(shape, np.float32) for key, shape in model.weights.items()}
    weights = {key: value * (value.ndim == 2) for key, value in weights.items()}
    trained, evaluated = (model.apply(weights, {}, X, train=train, key=None)[0] for train in (True, False))
    np.testing.assert_array_equal(trained, factor * evaluated)
