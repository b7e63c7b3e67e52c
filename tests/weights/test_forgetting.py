"""What forgetting keeps, against plain loops, and its new values."""

import numpy as np
import pytest

from supermask.errors import UsageError
from supermask.weights import forgetting
from supermask.weights.parameters import Parameter, by_rank

LAYERS = ("conv1/kernel", "conv2/kernel", "dense/kernel", "head/kernel")
SHAPES = {
    "conv1/kernel": (3, 3, 3, 10),
    "conv2/kernel": (3, 3, 10, 5),
    "dense/kernel": (2 * 2 * 5, 7),
    "head/bias": (4,),
    "head/kernel": (7, 4),
}
NETWORK = by_rank(SHAPES)
FLATTENED = {"dense/kernel": (2, 2, 5)}


def sliced(split=0.5):
    return forgetting.leading_slices(LAYERS, NETWORK, FLATTENED, split)


def test_slices_are_the_first_outputs_for_the_first_inputs():
    kept = sliced()
    assert list(kept) == [name for name in SHAPES if name != "head/bias"]
    for (_, _, _, o), value in np.ndenumerate(kept["conv1/kernel"]):
        assert value == (o < 5)  # all channels of the images
    for (_, _, i, o), value in np.ndenumerate(kept["conv2/kernel"]):
        assert value == (i < 5 and o < 3)
    for (i, o), value in np.ndenumerate(kept["dense/kernel"]):
        assert value == (i % 5 < 3 and o < 4)  # channels come last in a flattened image
    for (i, _), value in np.ndenumerate(kept["head/kernel"]):
        assert value == (i < 4)  # all classes


def test_a_fraction_is_rounded_up_and_not_by_the_error_of_floats():
    shapes = {"a/kernel": (4, 100), "b/kernel": (100, 100), "c/kernel": (100, 2)}
    kept = forgetting.leading_slices(list(shapes), by_rank(shapes), {}, 0.55)
    assert kept["b/kernel"].sum() == 55 * 55


def test_slices_that_fit_no_next_layer_are_refused():
    shapes = {"stem/kernel": (4, 8), "attn/qkv/kernel": (8, 24), "attn/proj/kernel": (8, 8), "head/kernel": (8, 2)}
    with pytest.raises(UsageError, match=r"as many as attn/qkv/kernel \(8, 24\) has outputs: take --op wels"):
        forgetting.leading_slices(list(shapes), by_rank(shapes), {}, 0.5)


def test_random_weights_are_kept_with_their_probability_and_for_ever():
    kept = forgetting.random_weights(3, {"a": (200, 300), "b": (200, 300)}, 0.8)
    again, other = (forgetting.random_weights(seed, {"a": (200, 300)}, 0.8) for seed in (3, 4))
    for mask in kept.values():
        assert mask.mean() == pytest.approx(0.8, abs=5 * np.sqrt(0.8 * 0.2 / mask.size))
    assert np.array_equal(kept["a"], again["a"])
    for different in (kept["b"], other["a"]):
        assert (kept["a"] == different).mean() == pytest.approx(0.8**2 + 0.2**2, abs=0.02)


@pytest.mark.parametrize(
    ("asked", "place"),
    [(None, 2), ("1", 1), ("0", 0), ("dense", 2), ("dense/kernel", 2), ("head", 3), ("conv*", 0), ("conv2", 1)],
)
def test_a_layer_is_named_or_counted(asked, place):
    first = forgetting.first_reset(LAYERS, NETWORK, asked)
    assert first == place
    kept = forgetting.earlier_layers(LAYERS, {name: SHAPES[name] for name in LAYERS}, first)
    assert [bool(kept[name].all()) for name in LAYERS] == [i < place for i in range(4)]
    assert [bool(kept[name].any()) for name in LAYERS] == [i < place for i in range(4)]


@pytest.mark.parametrize("asked", ["4", "dense2", "-1"])
def test_an_unknown_layer_is_refused_with_those_that_there_are(asked):
    with pytest.raises(UsageError, match=f"--layer {asked} is not one of .*2 dense/kernel, 3 head/kernel"):
        forgetting.first_reset(LAYERS, NETWORK, asked)


def test_new_values_have_their_distribution_and_differ_in_each_generation():
    parameters = {
        "a/kernel": Parameter((300, 200), "kernel", True, (300, 200)),
        "a/bias": Parameter((200,), "bias", False),
    }
    found = forgetting.fresh("pytorch", 0, 2, parameters)
    assert list(found) == ["a/kernel"]
    values, bound = found["a/kernel"], 300**-0.5
    assert values.dtype == np.float32
    assert 0.99 * bound < np.abs(values).max() <= bound
    shares = np.histogram(values, 10, (-bound, bound))[0] / values.size
    assert shares == pytest.approx(0.1, abs=5 * np.sqrt(0.1 * 0.9 / values.size))
    others = [
        forgetting.fresh("pytorch", 0, 3, parameters),
        forgetting.fresh("pytorch", 1, 2, parameters),
        forgetting.fresh("kaiming-normal", 0, 2, parameters),
    ]
    assert all(np.abs(np.corrcoef(values.ravel(), o["a/kernel"].ravel())[0, 1]) < 0.03 for o in others)
    assert others[2]["a/kernel"].std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)


def test_what_is_kept_is_left_as_it_is_bit_by_bit():
    rng = np.random.default_rng(0)
    trained = {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}
    kept, values = sliced(), forgetting.fresh("kaiming-normal", 0, 2, NETWORK)
    found = forgetting.replaced(trained, kept, values)
    assert np.array_equal(found["head/bias"], trained["head/bias"])
    for name, mask in kept.items():
        assert np.array_equal(found[name][mask], trained[name][mask])
        assert np.array_equal(found[name][~mask], values[name][~mask])
