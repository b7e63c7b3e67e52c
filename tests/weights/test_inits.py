"""Frozen weights: the same bits for ever, and the distributions that their names promise."""

import hashlib

import numpy as np
import pytest
from scipy.special import ndtri

from supermask.weights import inits
from supermask.weights.parameters import by_rank, masked_shapes
from supermask.weights.shapes import fingerprint

SHAPES = {"conv1/kernel": (3, 3, 4, 16), "dense1/kernel": (200, 50), "dense1/bias": (50,), "norm/scale": (16,)}
GOLDEN = {
    "kaiming-normal": "62fd3d38934f39b0",
    "kaiming-uniform": "f75433b9b11c267e",
    "signed-constant": "2e890017e7adcd8e",
    "glorot-normal": "7b88024dcb1ba8bc",
    "signed-constant-elu": "8a56cef6ddb8f913",
    "signed-constant-e": "a78ed80ebfbbac26",
    "signed-constant-std": "9ba24c3c3cfdd210",
    "uniform-glorot": "2b2773ba53acc519",
    "signed-constant-2020": "9be0190a1f7f77b3",
    "glorot-uniform": "007d1ebc93635c38",
}


@pytest.mark.parametrize("init", inits.INITS)
def test_golden_values(init):
    weights = inits.draw(init, 7, SHAPES)
    digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in SHAPES)).hexdigest()[:16]
    assert digest == GOLDEN[init]


def test_quantile_agrees_with_scipy():
    p = np.concatenate([np.linspace(1e-6, 1 - 1e-6, 100_001), 10.0 ** -np.arange(1, 17), 1 - 10.0 ** -np.arange(1, 16)])
    np.testing.assert_allclose(inits.normal_quantile(p.copy()), ndtri(p), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("init", inits.INITS)
def test_variance_and_mean(init):
    shape = (3, 3, 64, 256)
    w = inits.draw(init, 0, {"k": shape})["k"].astype(np.float64)
    fan_in, fan_out = 3 * 3 * 64, 3 * 3 * 256
    glorot = 2 / (fan_in + fan_out)
    expected = {
        "glorot-normal": glorot,
        "signed-constant-std": glorot,
        "uniform-glorot": glorot / 3,  # uniform on +-sqrt(glorot)
        "glorot-uniform": glorot,
        "signed-constant-elu": 3 / fan_in,
        "signed-constant-2020": 6 / fan_in,
        "signed-constant-e": np.e**2 / fan_in,
    }.get(init, 2 / fan_in)
    assert w.var() == pytest.approx(expected, rel=0.02)
    assert abs(w.mean()) < 5 * np.sqrt(expected / w.size)


def test_normals_are_normal():
    w = np.sort(inits.draw("kaiming-normal", 3, {"k": (100, 2000)})["k"].ravel()) * np.sqrt(100 / 2)
    ranks = (np.arange(w.size) + 0.5) / w.size
    assert np.abs(w - ndtri(ranks))[1000:-1000].max() < 0.03


def test_glorot_is_cut_at_two_deviations():
    w = inits.draw("glorot-normal", 0, {"k": (300, 300)})["k"]
    raw_deviation = np.sqrt(2 / 600) / 0.87962566
    assert np.abs(w).max() <= 2 * raw_deviation * (1 + 1e-6)
    assert np.abs(w).max() > 1.9 * raw_deviation


def test_signed_constant_has_one_magnitude_and_both_signs():
    w = inits.draw("signed-constant", 0, {"k": (50, 33)})["k"]
    assert set(np.unique(np.abs(w))) == {np.float32(np.sqrt(2 / 50))}
    assert 0.4 < (w > 0).mean() < 0.6


def test_signed_constant_std_has_the_deviation_and_signs_of_its_draw():
    drawn, constant = (inits.draw(init, 0, {"k": (50, 33)})["k"] for init in ("glorot-normal", "signed-constant-std"))
    np.testing.assert_array_equal(np.sign(drawn), np.sign(constant))
    np.testing.assert_allclose(np.abs(constant), drawn.astype(np.float64).std(), rtol=1e-5)


@pytest.mark.parametrize("init", inits.INITS)
@pytest.mark.parametrize("density", [0.1, 0.3, 0.5])
def test_scaling_divides_by_the_root_of_the_density_kept(init, density):
    plain, scaled = (inits.draw(init, 0, {"k": (40, 30)}, d)["k"] for d in (1.0, density))
    np.testing.assert_allclose(scaled, plain / np.sqrt(density), rtol=1e-6)


def test_a_layer_depends_on_its_name_and_seed_alone():
    alone = inits.draw("kaiming-normal", 5, {"b": (10, 10)})["b"]
    among = inits.draw("kaiming-normal", 5, {"c": (4, 4), "b": (10, 10), "a": (3, 3)})["b"]
    np.testing.assert_array_equal(alone, among)
    assert not np.array_equal(alone, inits.draw("kaiming-normal", 6, {"b": (10, 10)})["b"])
    assert not np.array_equal(alone, inits.draw("kaiming-normal", 5, {"d": (10, 10)})["d"])


def test_small_parameters_are_constants_and_not_maskable():
    weights = inits.draw("kaiming-normal", 0, SHAPES)
    assert (weights["dense1/bias"] == 0).all()
    assert (weights["norm/scale"] == 1).all()
    assert list(masked_shapes(by_rank(SHAPES))) == ["conv1/kernel", "dense1/kernel"]


def test_fingerprint_names_the_layer_that_differs():
    weights = inits.draw("kaiming-uniform", 0, SHAPES)
    other = {**weights, "conv1/kernel": np.nextafter(weights["conv1/kernel"], np.float32(1))}
    before, after = fingerprint(weights), fingerprint(other)
    assert [name for name in before if before[name] != after[name]] == ["conv1/kernel"]
