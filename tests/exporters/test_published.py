"""What a published model has beside an arch's parameters is written as what changes nothing."""

import numpy as np
import pytest

from supermask.exporters._published import completed


def tree(**shapes):
    random = np.random.default_rng(0)
    return {name.replace("__", "."): random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_batch_norm_gets_what_pytorch_has_besides():
    found = tree(layer1__0__bn1__running_mean=(4,), layer1__0__bn1__running_var=(4,))
    whole = completed(found, {}, "batch")
    layer = "layer1.0.bn1"
    assert whole.keys() == found.keys() | {f"{layer}.weight", f"{layer}.bias", f"{layer}.num_batches_tracked"}
    np.testing.assert_array_equal(whole[f"{layer}.weight"], np.ones(4, np.float32))
    np.testing.assert_array_equal(whole[f"{layer}.bias"], np.zeros(4, np.float32))
    assert whole[f"{layer}.num_batches_tracked"].dtype == np.int64
    assert whole[f"{layer}.num_batches_tracked"].shape == ()


def test_what_the_network_has_itself_is_kept():
    found = tree(bn__running_mean=(4,), bn__running_var=(4,), bn__weight=(4,), bn__bias=(4,), fc__weight=(2, 4))
    found |= tree(fc__bias=(2,))
    whole = completed(found, {"TORCH_BIASES": ("fc",)}, "affine")
    assert whole.keys() == found.keys() | {"bn.num_batches_tracked"}
    for name, array in found.items():
        np.testing.assert_array_equal(whole[name], array)


def test_biases_are_as_long_as_a_layer_has_outputs():
    found = tree(features__0__weight=(8, 3, 3, 3), features__0__deep__weight=(8, 3, 3, 3), fc__weight=(5, 8))
    whole = completed(found, {"TORCH_BIASES": ("fc", "features.*")}, "batch")
    assert {name: array.shape for name, array in whole.items() if name not in found} == {
        "features.0.bias": (8,),
        "fc.bias": (5,),
    }


def test_layer_norms_without_parameters_are_known_by_their_neighbours():
    facts = {"TORCH_NORMS": {"blocks.*.norm1": "before blocks.*.qkv", "stem.1": "after stem.0", "norm": "before head"}}
    found = tree(blocks__0__qkv__weight=(12, 4), blocks__11__qkv__weight=(18, 6), stem__0__weight=(5, 1, 7, 7))
    whole = completed(found, facts, "layer")
    assert {name: array.shape for name, array in whole.items() if name not in found} == {
        "blocks.0.norm1.weight": (4,),
        "blocks.0.norm1.bias": (4,),
        "blocks.11.norm1.weight": (6,),
        "blocks.11.norm1.bias": (6,),
        "stem.1.weight": (5,),
        "stem.1.bias": (5,),
    }
    assert whole["stem.1.weight"].min() == 1
    assert not whole["stem.1.bias"].any()


@pytest.mark.parametrize("kind", ["none", "batch", "group", "affine"])
def test_a_norm_of_another_kind_is_left_out_so_that_the_published_model_refuses_it(kind):
    found = tree(head__weight=(3, 4))
    assert completed(found, {"TORCH_NORMS": {"norm": "before head"}}, kind).keys() == found.keys()
