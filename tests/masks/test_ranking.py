"""Pruning by rank: the published numbers of weights, ties, the dead, and both rankings against plain NumPy."""

import math

import numpy as np
import pytest

from supermask.errors import UsageError
from supermask.masks.ranking import head_of, keep_fractions, prune, removed_count
from supermask.weights.parameters import Parameter, by_rank

FC = {"dense1/kernel": (784, 300), "dense2/kernel": (300, 100), "head/kernel": (100, 10)}


def conv(*channels, flat):
    shapes, before = {}, 3
    for number, after in enumerate(channels, 1):
        shapes[f"conv{number}/kernel"] = (3, 3, before, after)
        before = after
    return {**shapes, "dense1/kernel": (flat, 256), "dense2/kernel": (256, 256), "head/kernel": (256, 10)}


NETS = {
    "fc": (FC, {"conv": 1.0, "dense": 0.8, "head": 0.9}),
    "conv2": (conv(64, 64, flat=16384), {"conv": 0.9, "dense": 0.8, "head": 0.9}),
    "conv4": (conv(64, 64, 128, 128, flat=8192), {"conv": 0.9, "dense": 0.8, "head": 0.9}),
    "conv6": (conv(64, 64, 128, 128, 256, 256, flat=4096), {"conv": 0.85, "dense": 0.8, "head": 0.9}),
}
TOTALS = {
    "fc": {1: 213_063, 2: 170_541, 5: 87_498, 10: 28_833, 24: 1_344},
    "conv2": {1: 3_444_912, 5: 1_420_175, 10: 471_761, 24: 23_420},
    "conv4": {1: 1_966_257, 5: 863_592, 10: 323_709, 24: 31_170},
    "conv6": {1: 1_866_433, 5: 874_425, 10: 345_867, 24: 28_652},
}
LAYERS = {
    ("fc", 1): [188_161, 24_001, 901],
    ("fc", 5): [77_073, 9_832, 593],
    ("fc", 24): [1_114, 145, 85],
    ("conv2", 24): [143, 2_945, 19_810, 313, 209],
    ("conv4", 24): [143, 2_945, 5_886, 11_768, 9_906, 313, 209],
    ("conv6", 24): [38, 748, 1_495, 2_987, 5_970, 11_937, 4_955, 313, 209],
}
PERCENT = {
    "fc": "80.0 64.1 51.3 41.1 32.9 26.3 16.9 10.8 6.95 3.58 1.85 1.19 0.50",
    "conv2": "80.1 64.2 51.4 41.2 33.0 26.5 17.0 11.0 7.08 3.68 1.93 1.26 0.54",
    "conv4": "81.1 65.8 53.6 43.6 35.6 29.1 19.6 13.4 9.18 5.37 3.23 2.34 1.28",
    "conv6": "82.5 68.2 56.4 46.7 38.7 32.1 22.1 15.3 10.6 6.18 3.62 2.54 1.27",
}


def counts(net):
    """Kept weights by layer after each of 24 rounds, from the dense network on."""
    shapes, bases = NETS[net]
    keep = keep_fractions(by_rank(shapes), **bases)
    alive = {name: math.prod(shape) for name, shape in shapes.items()}
    rounds = [list(alive.values())]
    for _ in range(24):
        alive = {name: count - removed_count(count, keep[name]) for name, count in alive.items()}
        rounds.append(list(alive.values()))
    return rounds


@pytest.mark.parametrize("net", NETS)
def test_published_numbers_of_weights_come_out_exactly(net):
    rounds = counts(net)
    assert {k: sum(rounds[k]) for k in TOTALS[net]} == TOTALS[net]
    for (name, k), expected in LAYERS.items():
        if name == net:
            assert rounds[k] == expected


@pytest.mark.parametrize("net", NETS)
def test_published_fractions_are_those_of_the_bases(net):
    """Of powers of the bases, that is, to two places and then to those printed; rounds keep a few weights more."""
    shapes, bases = NETS[net]
    keep = keep_fractions(by_rank(shapes), **bases)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    for k, text in zip((1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 20, 24), PERCENT[net].split(), strict=True):
        percent = 100 * sum(size * keep[name] ** k for name, size in sizes.items()) / sum(sizes.values())
        places = len(text.partition(".")[2])
        assert abs(round(percent, 2) - float(text)) < 0.5 * 10**-places + 1e-9


def test_the_trap_of_floats_is_kept():
    assert removed_count(235_200, 0.8) == 47_039  # 20 % of them are 47,040
    assert removed_count(235_200, 1.0) == 0
    assert removed_count(0, 0.5) == 0


@pytest.mark.parametrize("keep", [0.9, 0.8, 0.2, 0.001])
def test_masks_of_rounds_are_nested_and_keep_the_highest(keep):
    random = np.random.default_rng(0)
    mask = {"a/kernel": np.ones((20, 30), bool), "b/kernel": np.ones((4, 5), bool)}
    fractions = {"a/kernel": keep, "b/kernel": 1.0}
    for number in range(4):
        scores = {name: random.normal(size=array.shape) for name, array in mask.items()}
        after = prune(scores, mask, fractions, key=f"0/{number}")
        for name, array in mask.items():
            assert not (after[name] & ~array).any()
            assert after[name].sum() == array.sum() - removed_count(int(array.sum()), fractions[name])
            gone = array & ~after[name]
            assert not gone.any() or scores[name][gone].max() <= scores[name][after[name]].min()
        mask = after


def test_ties_are_broken_at_random_and_by_the_key_alone():
    scores = {"a/kernel": np.r_[np.zeros(2000), np.ones(100)].reshape(100, 21)}
    mask, keep = {"a/kernel": np.ones((100, 21), bool)}, {"a/kernel": 0.5}
    one, same, other = (prune(scores, mask, keep, key=key)["a/kernel"] for key in ("0/1", "0/1", "0/2"))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert one.ravel()[2000:].all()
    kept = one.ravel()[:2000]
    assert kept.sum() == 2100 - removed_count(2100, 0.5) - 100
    assert abs(kept[:1000].sum() - kept[1000:].sum()) < 150  # 20 is the standard deviation


def test_global_ranking_keeps_what_is_strictly_above_its_threshold():
    random = np.random.default_rng(0)
    scores = {"a/kernel": random.normal(size=(20, 30)), "b/kernel": random.normal(size=(6, 5)) * 3}
    mask = {"a/kernel": random.random((20, 30)) < 0.7, "b/kernel": np.ones((6, 5), bool)}
    after = prune(scores, mask, dict.fromkeys(scores, 0.8), "global")
    pooled = np.sort(np.concatenate([scores[name][mask[name]] for name in scores]))
    threshold = pooled[-(-len(pooled) // 5)]
    for name in scores:
        np.testing.assert_array_equal(after[name], mask[name] & (scores[name] > threshold))
    tied = prune({"a/kernel": np.array([1.0, 1, 1, 2, 3])}, {"a/kernel": np.ones(5, bool)}, {"a/kernel": 0.8}, "global")
    assert tied["a/kernel"].tolist() == [False, False, False, True, True]


def test_global_ranking_leaves_a_layer_alone_that_keeps_everything():
    scores = {"a/kernel": np.arange(10.0), "head/kernel": -np.arange(10.0)}
    mask = {name: np.ones(10, bool) for name in scores}
    after = prune(scores, mask, {"a/kernel": 0.5, "head/kernel": 1.0}, "global")
    assert after["a/kernel"].sum() == 4  # element 5 of the sorted ten goes, too
    assert after["head/kernel"].all()
    assert prune(scores, mask, dict.fromkeys(scores, 1.0), "global")["a/kernel"].all()


def test_what_cannot_be_ranked_is_refused():
    scores, mask = (
        {"a/kernel": np.ones(10), "b/kernel": np.ones(10)},
        {n: np.ones(10, bool) for n in ("a/kernel", "b/kernel")},
    )
    with pytest.raises(UsageError, match=r"one fraction to keep for all layers that it prunes, not 0\.5, 0\.8"):
        prune(scores, mask, {"a/kernel": 0.5, "b/kernel": 0.8}, "global")
    with pytest.raises(UsageError, match="keeps none"):
        prune(scores, mask, dict.fromkeys(scores, 0.5), "global")
    with pytest.raises(UsageError, match="unknown ranking"):
        prune(scores, mask, dict.fromkeys(scores, 0.5), "layer")
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        prune(scores, mask, {"a/kernel": 0.5, "b/kernel": 0.0})


def kernel(*shape, layer="Linear", role="kernel", masked=True):
    return Parameter(shape, role, masked, (1, 1), layer)


def test_the_head_is_what_nothing_reads():
    """Whatever the names: parameters of a residual network are not in the order of its layers."""
    parameters = {
        "conv1/kernel": kernel(3, 3, 3, 16, layer="Conv"),
        "fc/kernel": kernel(32, 10),
        "layer1/conv1/kernel": kernel(3, 3, 16, 32, layer="Conv"),
        "layer1/conv2/kernel": kernel(3, 3, 32, 32, layer="Conv"),
        "norm/scale": kernel(32, layer="BatchNorm", role="scale", masked=False),
    }
    assert head_of(parameters) == "fc/kernel"
    assert keep_fractions(parameters, conv=0.9, dense=0.8, head=0.7) == {
        "conv1/kernel": 0.9,
        "fc/kernel": 0.7,
        "layer1/conv1/kernel": 0.9,
        "layer1/conv2/kernel": 0.9,
    }
    transformer = {
        "blocks/0/qkv/kernel": kernel(8, 24),
        "blocks/0/proj/kernel": kernel(8, 8),
        "head/kernel": kernel(8, 10),
    }
    assert head_of(transformer) == "head/kernel"
    narrow = by_rank({"dense1/kernel": (64, 30), "dense2/kernel": (30, 10), "head/kernel": (10, 10)})
    assert head_of(narrow) == "head/kernel"
    assert head_of(by_rank({"conv1/kernel": (3, 3, 3, 8), "conv2/kernel": (1, 1, 8, 10)})) == "conv2/kernel"
