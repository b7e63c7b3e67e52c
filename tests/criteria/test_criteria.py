"""Each criterion against its formula in NumPy, and what all of them have in common."""

import subprocess
import sys

import numpy as np
import pytest

from supermask import registry
from supermask.criteria._criterion import Criterion, full_name, make
from supermask.errors import UsageError
from supermask.masks.ranking import removal_order, removed_count, without

NAMES = registry.names("criteria")
every = pytest.mark.parametrize("name", NAMES)


def layer(size=400, seed=0):
    random = np.random.default_rng(seed)
    initial, gradient = random.normal(size=(2, size // 20, 20)).astype(np.float32)
    final = (initial + random.normal(size=initial.shape)).astype(np.float32)
    return initial, final, gradient


def scores(name, initial, final, gradient, alive=None):
    alive = np.ones(initial.shape, bool) if alive is None else alive
    criterion = make(name)
    return criterion.score(initial, final, alive, gradient if criterion.needs_gradient else None)


FORMULAS = {
    "large-final": lambda i, f, g: np.abs(f),
    "small-final": lambda i, f, g: -np.abs(f),
    "large-init": lambda i, f, g: np.abs(i),
    "small-init": lambda i, f, g: -np.abs(i),
    "magnitude-increase": lambda i, f, g: np.abs(f) - np.abs(i),
    "movement": lambda i, f, g: np.abs(f - i),
    "snip": lambda i, f, g: np.abs(g * i),
    "gradient": lambda i, f, g: np.abs(g),
    "large-final-same-sign": lambda i, f, g: np.maximum(0, i * f / np.abs(i)),  # as the paper writes it
    "large-final-diff-sign": lambda i, f, g: np.maximum(0, -i * f / np.abs(i)),
    "magnitude-increase-same-sign": lambda i, f, g: np.where(i * f > 0, np.abs(f) - np.abs(i), -np.inf),
    "magnitude-increase-diff-sign": lambda i, f, g: np.where(i * f < 0, np.abs(f) - np.abs(i), -np.inf),
    "large-final-same-sign-single": lambda i, f, g: i * f > 0,
    "large-final-diff-sign-single": lambda i, f, g: i * f < 0,
}
TESTED_BELOW = {"random", "large-init-large-final", "small-init-small-final"}


def test_all_published_criteria_are_there():
    assert set(NAMES) >= FORMULAS.keys() | TESTED_BELOW


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    initial, final, gradient = layer()
    np.testing.assert_allclose(scores(name, initial, final, gradient), FORMULAS[name](initial, final, gradient), 1e-6)


@every
def test_scores_are_a_pure_function_of_their_arguments(name):
    initial, final, gradient = layer()
    before = initial.copy(), final.copy(), gradient.copy()
    found = scores(name, initial, final, gradient)
    assert isinstance(make(name), Criterion)
    assert make(name).paper
    assert found.shape == initial.shape
    assert not np.isnan(found).any()
    np.testing.assert_array_equal(found, scores(name, initial, final, gradient))
    for one, other in zip(before, (initial, final, gradient), strict=True):
        np.testing.assert_array_equal(one, other)


@every
def test_what_is_pruned_does_not_move_the_others(name):
    """Scores of the weights that are alive rank them the same, whatever the dead ones are."""
    initial, final, gradient = layer()
    alive = np.random.default_rng(1).random(initial.shape) < 0.5
    other = np.where(alive, final, 100).astype(np.float32)
    ours, theirs = (scores(name, initial, values, gradient, alive)[alive] for values in (final, other))
    np.testing.assert_array_equal(ours, theirs)


@every
def test_zeros_and_equal_values_are_no_problem(name):
    zeros = np.zeros((3, 4), np.float32)
    assert not np.isnan(scores(name, zeros, zeros, zeros)).any()
    assert scores(name, zeros, zeros, zeros, np.zeros((3, 4), bool)).shape == (3, 4)


def test_names_may_have_underscores():
    assert make("large_final_same_sign") == make("large-final-same-sign")
    assert full_name("own_module:own_name") == "own_module:own_name"
    with pytest.raises(UsageError, match="unknown criterion 'large-finale': did you mean large-final"):
        make("large_finale")


def bisected(first, second, count):
    """The joint criterion as published: one percentile of both rankings, found by bisection."""
    low, high = 0.0, 1.0
    kept = np.ones(first.shape, bool)
    for _ in range(60):
        middle = (low + high) / 2
        thresholds = [
            np.sort(values.ravel())[min(int(middle * values.size), values.size - 1)] for values in (first, second)
        ]
        kept = (first >= thresholds[0]) & (second >= thresholds[1])
        if kept.sum() == count:
            break
        low, high = (middle, high) if kept.sum() > count else (low, middle)
    return kept


@pytest.mark.parametrize(("name", "sign"), [("large-init-large-final", 1), ("small-init-small-final", -1)])
@pytest.mark.parametrize("keep", [0.8, 0.5, 0.11, 0.03])
def test_lower_of_two_ranks_is_the_published_bisection(name, sign, keep):
    initial, final, _ = layer(2000)
    everything = np.ones(initial.shape, bool)
    order = removal_order(scores(name, initial, final, None), everything, "")
    kept = without(everything, order[: removed_count(order.size, keep)])
    expected = bisected(sign * np.abs(initial), sign * np.abs(final), kept.sum())
    # Two weights may have the same lower rank, one by |wi| and one by |wf|; the bisection steps over both at once.
    missing = kept.sum() - expected.sum()
    assert abs(missing) <= 1
    assert (kept != expected).sum() == abs(missing)


def test_single_masks_divide_the_weights():
    initial, final, _ = layer()
    same, diff = (scores(f"large-final-{sign}-sign-single", initial, final, None) > 0 for sign in ("same", "diff"))
    np.testing.assert_array_equal(same, ~diff)
    fixed = {name for name in NAMES if make(name).fixed}
    assert fixed == {"large-final-same-sign-single", "large-final-diff-sign-single"}


def test_weights_of_the_wrong_sign_go_first():
    initial, final, _ = layer()
    for name in ("large-final-same-sign", "magnitude-increase-same-sign"):
        order = removal_order(scores(name, initial, final, None), np.ones(initial.shape, bool), "")
        wrong = np.sort(np.flatnonzero(np.sign(initial) != np.sign(final)))
        np.testing.assert_array_equal(np.sort(order[: wrong.size]), wrong)


def test_random_scores_differ_between_weights_and_between_layers():
    (one, final, _), (other, _, _) = layer(seed=0), layer(seed=1)
    found = scores("random", one, final, None)
    assert np.unique(found).size == found.size
    assert abs(np.corrcoef(found.ravel(), scores("random", other, final, None).ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(found.ravel(), np.abs(one).ravel())[0, 1]) < 0.2


def test_criteria_need_no_jax():
    code = (
        "import sys; from supermask import registry; from supermask.criteria._criterion import make\n"
        "import supermask.masks.ranking\n"
        "for name in registry.names('criteria'): make(name)\n"
        "print(sorted({'jax', 'flax', 'optax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
