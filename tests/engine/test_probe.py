"""What is told of a network before its first step."""

import math

import pytest
from helpers import problem_of, watch

import supermask
from supermask.core import mask_search, weight_training
from supermask.engine.probe import Probe, probe
from supermask.engine.saliency import first_scores

pytestmark = pytest.mark.usefixtures("compiled_quickly")

NETS = """
import jax
from flax import linen, nnx
from supermask import Model

def net(image_shape, classes, depth=2, units=24, factor=1.0, shift=0.0):
    sizes = [image_shape[0] * image_shape[1] * image_shape[2], *[units] * (depth - 1), classes]
    shapes = {f"layer{i}/kernel": pair for i, pair in enumerate(zip(sizes, sizes[1:]))}

    def apply(weights, state, inputs, *, train, key):
        x = inputs.reshape(len(inputs), -1)
        for i in range(depth):
            x = x @ weights[f"layer{i}/kernel"]
            x = jax.nn.relu(x) if i < depth - 1 else x
        return x * factor + shift, state

    return Model(weights=shapes, state={}, apply=apply)

class Module(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        self.dense = nnx.Linear(image_shape[0] * image_shape[1] * image_shape[2], 16, use_bias=False, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(16, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(16, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(self.norm(self.dense(x.reshape(len(x), -1)))))

class Gated(Module):
    def __init__(self, image_shape, classes, rngs):
        super().__init__(image_shape, classes, rngs)
        self.gamma = nnx.Param(jax.numpy.full((16,), 1e-4))
        self.branch = nnx.Linear(16, 16, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.dense(x.reshape(len(x), -1)))
        return self.head(x + self.gamma * self.branch(x))

class Norm(nnx.Module):
    def __init__(self, **words):
        self.norm = nnx.BatchNorm(16, **words)

    def __call__(self, x, train=False):
        return self.norm(x, use_running_average=not train)

class Frozen(Module):
    def __init__(self, image_shape, classes, rngs):
        super().__init__(image_shape, classes, rngs)
        self.norm = Norm(rngs=rngs)

class Batch(Frozen):
    def __call__(self, x):
        return self.head(self.norm(self.dense(x.reshape(len(x), -1)), train=True))

class LinenNorm(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Dense(16)(x.reshape(len(x), -1))
        return linen.Dense(10)(linen.BatchNorm(use_running_average=True)(x))

def unused(image_shape, classes):
    model = net(image_shape, classes)
    return Model(weights=model.weights | {"unused/kernel": (3, 3)}, state={}, apply=model.apply)
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A function of the fields of a config that returns the warnings about seed 0."""
    (tmp_path / "probed_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)

    def look(name="net", config=supermask.SearchConfig, arch_options=None, **fields):
        config = config(arch=f"probed_nets:{name}", epochs=1, arch_options=arch_options or {}, **fields)
        problem = problem_of(config)
        weights = problem.weights(0)
        if problem.method is None:
            return Probe(problem, weight_training)(0, {}, (weights, {}))
        scores, state = first_scores(problem)(0, weights)
        start = scores | {name: weights[name] for name in problem.trained}, state
        return Probe(problem, mask_search(problem.method, problem.trained))(0, weights, start)

    return look


@pytest.mark.slow
def test_an_ordinary_network_is_not_told_of(told):
    assert told() == []
    assert told(config=supermask.TrainConfig) == []
    assert told("Module") == []  # with batch statistics and dropout


@pytest.mark.parametrize("factor", [0.0, 1e-8])
def test_outputs_that_do_not_depend_on_the_image(told, factor):
    found = told(arch_options={"factor": factor, "shift": 0.5})
    assert "the same for 16 different images" in found[0]
    assert "no gradient reaches layer0/kernel, layer1/kernel," in found[1] if factor == 0 else found[1:] == []


def test_outputs_that_explode(told):
    [text] = told(arch_options={"factor": 1e6})
    assert "explode" in text
    assert "layer" in text


def test_outputs_that_are_not_finite(told):
    assert "not finite" in told(arch_options={"shift": math.inf})[0]


@pytest.mark.slow
def test_a_deep_sparse_network_vanishes_and_is_mended_by_what_the_warning_says(told):
    deep, sparse = {"depth": 7, "units": 64}, {"density": 0.02, "init": "kaiming-normal"}
    [text, *_] = told(arch_options=deep, **sparse, scale_by_density=False)
    assert "--scale-by-density" in text
    assert told(arch_options=deep, **sparse, scale_by_density=True) == []


def test_a_layer_that_keeps_nothing_at_first_is_named(told):
    found = told(density=0.002, options={"allocation": "global"})
    assert "all effective weights of layer0/kernel are 0" in found[0]  # the most inputs, so the smallest scores
    assert "no gradient reaches" in found[1]


def test_a_layer_that_the_outputs_do_not_depend_on_is_named(told):
    [text] = told("unused")
    assert "the outputs do not depend on unused/kernel" in text


def test_factors_near_zero_are_named_and_opened(told):
    [text] = [text for text in told("Gated") if "gamma" in text]
    assert "next to nothing passes gamma, factors of at most 0.01" in text
    assert told("Gated", gates="one") == []
    assert told("Gated", train="gamma") == []
    assert told("Gated", config=supermask.TrainConfig) == []


@pytest.mark.parametrize("name", ["Frozen", "LinenNorm"])
def test_statistics_that_training_leaves_alone_are_named(told, name):
    [text] = told(name)
    assert text.startswith("training never changes ")
    assert "/mean, " in text
    assert "/var, so evaluation divides by their first values" in text


def test_statistics_that_evaluation_changes_are_named(told):
    [text] = told("Batch")
    assert "evaluation changes norm/norm/mean, norm/norm/var, so it depends on what else is in a batch" in text


def test_own_networks_alone_are_looked_at_and_callbacks_told(told, monkeypatch):
    problem = problem_of(arch="lenet300", width=0.1)
    assert not isinstance(probe(problem, mask_search(problem.method)), Probe)
    notes = []
    config = supermask.SearchConfig(arch="probed_nets:unused", epochs=1)
    supermask.search(config, callbacks=[watch(note=notes.append)])
    [note] = [note for note in notes if "unused/kernel" in note]
    assert note.startswith("warning: seed 0: the outputs do not depend on")
