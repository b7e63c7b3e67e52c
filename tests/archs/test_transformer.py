"""The transformer decoder: against NumPy, its roles, and its options."""

import json
import math
import re

import jax
import numpy as np
import pytest

import supermask
from supermask.archs._build import build_model, check_outputs
from supermask.cli import main
from supermask.errors import UsageError
from supermask.resolve import make_arch
from supermask.weights.inits import draw
from supermask.weights.parameters import chosen

pytestmark = pytest.mark.usefixtures("compiled_quickly")

LENGTH, TOKENS = 7, 11
EMBEDDINGS = {"embeddings/wte/embedding", "embeddings/wpe/embedding", "embeddings/head/kernel"}


def net(width=0.25, length=LENGTH, **options):
    arch, rest = make_arch(supermask.SearchConfig(arch="transformer", width=width, arch_options=options))
    example = jax.ShapeDtypeStruct((2, length), "int32")
    model = build_model(arch, rest, example, TOKENS)
    check_outputs(model, "transformer", example, (2, length, TOKENS))
    return model


def weights_of(model):
    left = [name for name, found in model.parameters.items() if not found.drawn]
    own, state = model.initial(0, left)
    assert state == {}
    return draw("kaiming-normal", 0, model.parameters, own=own)


def logits(model, weights, tokens):
    return np.asarray(model.apply(weights, {}, tokens, train=False, key=None)[0])


def some_tokens(count=3, length=LENGTH):
    return np.random.default_rng(0).integers(0, TOKENS, (count, length)).astype(np.int32)


def normed(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def turned(x):
    """As complex numbers: feature i and feature i + half are one, turned by place / 10000^(i / half)."""
    half = x.shape[-1] // 2
    place = np.arange(x.shape[1])[:, None, None]
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * place / 10000 ** (np.arange(half) / half))
    return np.concatenate([z.real, z.imag], -1)


def by_hand(w, tokens, heads, factor, rotary, norm):
    """One token after another, one head after another, in float64."""
    w = {name: np.asarray(array, np.float64) for name, array in w.items()}
    x = w["embeddings/wte/embedding"][tokens]
    x = x if rotary else x + w["embeddings/wpe/embedding"]
    for block in range(2):
        part = {name.split("/", 2)[2]: array for name, array in w.items() if name.startswith(f"blocks/{block}/")}
        y = norm(x)
        q, k, v = (
            (y @ part[f"attn/{name}/kernel"]).reshape(*x.shape[:2], heads, -1) for name in ("query", "key", "value")
        )
        if rotary:
            q, k = turned(q), turned(k)
        q, k, seen = factor * q, factor * k, np.zeros_like(v)
        for b, place, head in np.ndindex(*v.shape[:3]):
            score = k[b, : place + 1, head] @ q[b, place, head] / math.sqrt(q.shape[-1])
            share = np.exp(score - score.max())
            seen[b, place, head] = (share / share.sum()) @ v[b, : place + 1, head]
        x = x + seen.reshape(x.shape) @ part["attn/proj/kernel"]
        y = norm(x) @ part["mlp/fc1/kernel"]
        y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + y @ part["mlp/fc2/kernel"]
    return norm(x) @ w["embeddings/head/kernel"]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_it_is_the_decoder_of_the_formulas(positions, norm):
    model, tokens = net(positions=positions, norm=norm, qk_scale="1.5"), some_tokens()
    weights = weights_of(model)
    expected = by_hand(weights, tokens, 4, 1.5, positions == "rotary", normed if norm == "layer" else lambda x: x)
    np.testing.assert_allclose(logits(model, weights, tokens), expected, rtol=2e-4, atol=2e-4)
    assert ("embeddings/wpe/embedding" in weights) == (positions == "learned")


def test_no_token_sees_what_follows():
    model, tokens = net(), some_tokens()
    weights, other = weights_of(model), some_tokens().copy()
    other[:, 4:] = (other[:, 4:] + 1) % TOKENS
    before, after = logits(model, weights, tokens), logits(model, weights, other)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (np.abs(before - after)[:, 4:].max(-1) > 1e-3).all()


def test_the_automatic_factor_is_the_fourth_root_of_the_features_of_a_head():
    tokens, weights = some_tokens(), weights_of(net(heads=2))
    auto, same, one = (logits(net(heads=2, qk_scale=q), weights, tokens) for q in ("auto", str(16**0.25), "1"))
    np.testing.assert_array_equal(auto, same)
    assert np.abs(auto - one).max() > 1e-3


def test_what_is_a_kernel_and_what_an_embedding():
    roles = {name: found.role for name, found in net(norm="affine").parameters.items()}
    assert {name for name in roles if name.startswith("embeddings/")} == EMBEDDINGS
    assert roles["embeddings/wte/embedding"] == "embedding"
    assert roles["embeddings/wpe/embedding"] == "bias"
    assert {name for name, role in roles.items() if role == "kernel"} == {n for n in roles if n.endswith("/kernel")}
    assert roles["norm/scale"] == roles["blocks/0/norm1/scale"] == "scale"
    assert len([name for name in net().parameters if "norm" in name]) == 0


def test_one_word_masks_or_trains_all_embeddings():
    parameters = net().parameters
    assert {n for n, found in chosen(parameters, train="embeddings").items() if found.trained} == EMBEDDINGS
    masked = {n for n, found in chosen(parameters, maskable="embeddings").items() if found.masked}
    assert masked == set(parameters)
    blocks = {n for n, found in chosen(parameters, train="embeddings").items() if found.masked}
    assert blocks == set(parameters) - EMBEDDINGS


def test_without_blocks_a_token_is_answered_by_itself():
    model, tokens = net(layers=0), some_tokens()
    assert set(model.weights) == EMBEDDINGS
    other = np.roll(tokens, 1, axis=1)
    other[:, -1] = tokens[:, -1]
    weights = weights_of(model)
    np.testing.assert_array_equal(logits(model, weights, tokens)[:, -1], logits(model, weights, other)[:, -1])


def test_width_and_mlp_are_factors():
    model = net(width=0.5, mlp=1.5, heads=2, layers=1)
    assert model.weights["blocks/0/attn/query/kernel"] == (64, 64)
    assert model.weights["blocks/0/mlp/fc1/kernel"] == (64, 96)
    assert net(width=0.25, embedding_std=0.02).initial(0, ["embeddings/wte/embedding"])[0][
        "embeddings/wte/embedding"
    ].std() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "batch"}, "option norm.*layer, affine, none"),
        ({"positions": "sine"}, "option positions.*learned, rotary"),
        ({"layers": -1}, "option layers is -1; it must be at least 0"),
        ({"heads": 0}, "option heads is 0; it must be at least 1"),
        ({"mlp": 0.0}, "option mlp is 0.0; it must be above 0"),
        ({"embedding_std": -1.0}, "option embedding_std is -1.0; it must be above 0"),
        ({"qk_scale": "much"}, "option qk_scale is 'much'; it must be a number"),
        ({"qk_scale": "-2"}, "option qk_scale is -2; it must be above 0, or auto"),
        ({"positions": "rotary", "heads": 32}, "rotary positions turn pairs of features, and a head has 1"),
    ],
)
def test_what_an_option_cannot_be(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        net(**options)
    assert not re.search("\n", str(caught.value))


def test_options_are_words_with_dashes_too(capsys):
    words = ["--arch", "transformer", "--dataset", "modadd:7", "-a", "qk-scale=2", "--width", "0.1"]
    with pytest.raises(SystemExit) as stop:
        main(["search", "--dry-run", "--json", *words])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    assert json.loads(out)["arch_options"]["qk_scale"] == "2"
