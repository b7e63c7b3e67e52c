"""What kept and pruned weights become: the invariants of Zhou et al. 2019."""

import numpy as np
import pytest

from supermask.config import lottery
from supermask.weights.actions import KEPT, PRUNED, Action, shuffled

RNG = np.random.default_rng(0)
INITIAL = {"a/kernel": RNG.normal(size=(20, 30)).astype("f"), "a/bias": np.zeros(30, "f")}
FINAL = {name: array + RNG.normal(scale=0.5, size=array.shape).astype("f") for name, array in INITIAL.items()}
MASK = {"a/kernel": RNG.random((20, 30)) < 0.3}
WI, WF, KEEP = INITIAL["a/kernel"], FINAL["a/kernel"], MASK["a/kernel"]


def applied(**action):
    start, trained, pruned = Action(**action)(7, INITIAL, FINAL, MASK)
    assert np.array_equal(start["a/bias"], INITIAL["a/bias"])
    assert start["a/kernel"].dtype == pruned["a/kernel"].dtype == np.float32
    return start["a/kernel"], trained["a/kernel"], pruned["a/kernel"]


def test_the_names_of_the_config_are_those_of_the_actions():
    assert tuple(KEPT) == lottery.KEPT
    assert tuple(PRUNED) == lottery.PRUNED


@pytest.mark.parametrize("kept", KEPT)
def test_pruned_weights_are_zero_and_kept_ones_are_trained(kept):
    start, trained, pruned = applied(kept=kept)
    assert np.array_equal(trained, KEEP)
    assert not pruned.any()
    assert not start[~KEEP].any()
    assert start[KEEP].all()


def test_rewinding_gives_the_initial_weights():
    assert np.array_equal(applied()[0][KEEP], WI[KEEP])


def test_a_random_reinit_permutes_the_whole_layer():
    dense = {name: np.ones_like(kept) for name, kept in MASK.items()}
    start = Action("random-reinit")(7, INITIAL, FINAL, dense)[0]["a/kernel"]
    assert np.array_equal(np.sort(start, axis=None), np.sort(WI, axis=None))
    assert (start != WI).mean() > 0.9


def test_a_reshuffle_permutes_what_is_kept():
    start = applied(kept="random-reshuffle")[0]
    assert np.array_equal(np.sort(start[KEEP]), np.sort(WI[KEEP]))
    assert (start[KEEP] != WI[KEEP]).mean() > 0.9


@pytest.mark.parametrize(("signed", "values"), [("signed-reinit", WI), ("signed-reshuffle", WI[KEEP])])
def test_signed_actions_keep_signs_and_take_magnitudes_from_the_layer(signed, values):
    start = applied(kept=signed)[0]
    assert np.array_equal(np.sign(start[KEEP]), np.sign(WI[KEEP]))
    assert np.isin(np.abs(start[KEEP]), np.abs(values)).all()
    assert (start[KEEP] != WI[KEEP]).mean() > 0.9


def test_a_signed_constant_is_the_deviation_of_the_whole_layer():
    start = applied(kept="signed-constant")[0]
    assert np.allclose(np.unique(np.abs(start[KEEP])), WI.std(), rtol=1e-6)
    assert np.array_equal(np.sign(start[KEEP]), np.sign(WI[KEEP]))
    other = applied(kept="random-signed-constant")[0]
    assert np.array_equal(np.abs(other), np.abs(start))
    assert 0.3 < (np.sign(other[KEEP]) == np.sign(WI[KEEP])).mean() < 0.7


def test_rescaling_multiplies_by_size_over_kept():
    assert np.allclose(applied(rescale=True)[0][KEEP], WI[KEEP] * KEEP.size / KEEP.sum(), rtol=1e-6)


def test_frozen_weights_keep_their_initial_values():
    start, trained, pruned = applied(pruned="freeze-init")
    assert np.array_equal(start, WI)
    assert np.array_equal(pruned, WI)
    assert np.array_equal(trained, KEEP)


def test_variant_1_zeroes_what_moved_toward_zero():
    pruned = applied(pruned="freeze-init-zero-mask")[2]
    toward = np.abs(WF) < np.abs(WI)
    assert np.array_equal((pruned == 0) & ~KEEP, toward & ~KEEP)
    assert np.array_equal(pruned[~toward], WI[~toward])


def test_variant_2_starts_kept_weights_at_zero_too():
    start, trained, _ = applied(pruned="freeze-init-zero-all")
    toward = np.abs(WF) < np.abs(WI)
    assert np.array_equal(start == 0, toward)
    assert np.array_equal(trained, KEEP)


def test_the_reverse_control_zeroes_the_others_and_the_reshuffled_one_as_many():
    first = applied(pruned="freeze-init-zero-mask")[2] == 0
    reverse = applied(pruned="freeze-init-zero-reverse")[2] == 0
    assert np.array_equal(first[~KEEP], ~reverse[~KEEP])
    mixed = applied(pruned="freeze-init-zero-reshuffle")[2] == 0
    assert mixed[~KEEP].sum() == first[~KEEP].sum()
    assert (mixed[~KEEP] != first[~KEEP]).any()


def test_masking_the_start_only_trains_all_weights():
    start, trained, _ = applied(pruned="zero-start")
    assert trained.all()
    assert np.array_equal(start == 0, ~KEEP)


def test_a_shuffled_mask_keeps_as_many_of_each_layer():
    other = shuffled(7, "round 1", MASK)["a/kernel"]
    assert other.sum() == KEEP.sum()
    assert (other != KEEP).any()


def test_random_actions_depend_on_seed_and_round_alone():
    one, same = (Action("random-reinit", tag="round 1")(7, INITIAL, FINAL, MASK)[0]["a/kernel"] for _ in range(2))
    assert np.array_equal(one, same)
    for seed, tag in ((8, "round 1"), (7, "round 2")):
        assert not np.array_equal(Action("random-reinit", tag=tag)(seed, INITIAL, FINAL, MASK)[0]["a/kernel"], one)
