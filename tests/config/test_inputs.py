"""Networks and options that do not fit the inputs of a dataset are refused in one line that says what fits."""

import numpy as np
import pytest

import supermask
from supermask.config.inputs import inputs_of
from supermask.engine.problem import build, on_this_machine
from supermask.errors import UsageError
from supermask.resolve import resolve
from supermask.types import Dataset, Split

TOKENS = {"arch": "transformer", "dataset": "modadd:7"}


def own(data_dir, argument=""):
    tokens = np.arange(40, dtype=np.int32).reshape(10, 4) % 5
    return Dataset(Split(tokens, tokens[:, 0]), Split(tokens, tokens[:, 0]), tuple("abcde"), (), (), task="next-token")


def test_who_takes_what():
    assert (inputs_of("archs", "transformer"), inputs_of("archs", "conv4")) == ("tokens", "images")
    assert (inputs_of("datasets", "modadd:97"), inputs_of("datasets", "mnist")) == ("tokens", "images")
    assert inputs_of("archs", "pkg.nets:Net") is inputs_of("datasets", "pkg.data:load") is None


@pytest.mark.parametrize("kind", [supermask.SearchConfig, supermask.TrainConfig])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dataset": "modadd:7"}, "^conv4 takes images, and modadd:7 has tokens: take transformer, a network"),
        ({"arch": "transformer"}, "^transformer takes tokens, and digits has images: take .*another dataset: "),
        ({**TOKENS, "image_size": 8}, "^--image-size 8 is about images, and modadd:7 has tokens: leave it out$"),
        ({**TOKENS, "normalise": "unit"}, "^--normalise unit is about images"),
        ({**TOKENS, "augment": "crop-flip"}, "^--augment crop-flip is about images"),
    ],
)
def test_what_does_not_fit(kind, fields, words):
    with pytest.raises(UsageError, match=words) as caught:
        resolve(kind(**fields))
    assert "\n" not in str(caught.value)


def test_a_resolved_config_of_tokens_has_no_word_for_images():
    config = resolve(supermask.SearchConfig(**TOKENS, method="signed"))  # whose recipe normalises each image
    assert (config.normalise, config.image_size, config.augment) == (None, None, "none")
    assert resolve(config) == config


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arch": "conv4"}, "conv4 takes images, and pkg:own has tokens"),
        ({"arch": "transformer", "normalise": "image"}, "--normalise image is about images"),
        ({"arch": "transformer", "augment": "crop-flip"}, "--augment crop-flip is about images"),
        ({"arch": "transformer", "image_size": 4}, "--image-size 4 is about images"),
    ],
)
def test_tokens_of_a_users_own_are_found_when_they_are_read(monkeypatch, fields, words):
    monkeypatch.setattr("supermask.registry.import_own", lambda name: type("Module", (), {"own": own}))
    config = on_this_machine(resolve(supermask.SearchConfig(dataset="pkg:own", width=0.1, **fields)))
    with pytest.raises(UsageError, match=words):
        build(config, own(None))
