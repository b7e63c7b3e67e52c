"""One contract for every dataset that needs no file; the others' files have their own tests."""

import numpy as np
import pytest

from supermask import registry
from supermask.config.words import AUGMENTATIONS
from supermask.errors import SupermaskError


@pytest.mark.parametrize("name", registry.names("datasets"))
def test_contract(name, tmp_path):
    module = registry.load("datasets", name)
    assert isinstance(module.EPOCHS, int)
    assert module.AUGMENT in AUGMENTATIONS
    if getattr(module, "INPUTS", "images") == "tokens":
        pytest.skip("see test_sequences.py and test_tokens.py")
    if name != "digits":  # its files are not here, and there is no network
        with pytest.raises(SupermaskError, match=r"^[^\n]+$"):
            module.load(tmp_path)
        return
    dataset = module.load(tmp_path)
    assert dataset.task == "classification"
    for split in (dataset.train, dataset.test):
        assert split.inputs.dtype == np.uint8
        assert split.inputs.ndim == 4
        assert split.targets.dtype == np.int32
        assert len(split.inputs) == len(split.targets) > 0
        assert split.targets.min() >= 0
        assert split.targets.max() < len(dataset.classes)
    pixels = dataset.train.inputs / 255.0
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), dataset.mean, atol=1e-6)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), dataset.std, atol=1e-6)
    assert dataset.train.inputs.shape[1:] == dataset.test.inputs.shape[1:]
