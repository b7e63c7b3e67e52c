"""Whether a network predicts one class only, by the program that scores it."""

import numpy as np
import pytest
from helpers import problem_of

from supermask.core import mask_search
from supermask.engine.constant import constant_class
from supermask.engine.evaluator import Evaluator

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_the_class_that_a_network_always_predicts():
    problem = problem_of(arch="lenet300", width=0.1, devices=2)
    sharding, split = problem.side_by_side(2), problem.dataset.validation
    weights = problem.weights(0)
    random = {name: np.random.default_rng(0).random(array.shape) < 0.5 for name, array in weights.items()}
    nothing = {name: np.zeros(array.shape, bool) for name, array in weights.items()}  # equal logits: the first class
    evaluator = Evaluator(problem, mask_search(problem.method), split, sharding)
    trees = [sharding.stack_seeds(pair) for pair in ([nothing, random], [{}, {}], [weights, weights])]
    assert constant_class(evaluator, split.targets, 10, *trees, [0, 1]) == [0, None]
    assert constant_class(evaluator.relabelled(split.targets * 0 + 3), split.targets * 0 + 3, 10, *trees, [0, 1]) == [
        *(0, None)
    ]
    assert evaluator.program is evaluator.relabelled(split.targets).program
