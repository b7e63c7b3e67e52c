"""Degenerate data, masks and results are told; ordinary ones are not."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import watch

import supermask
from supermask.experiments import warnings
from supermask.experiments.warnings import Chance
from supermask.types import Dataset, Split

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 2}


def split(labels, seed=0):
    labels = np.asarray(labels, np.int32)
    return Split(np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 1), np.uint8), labels)


def dataset(train, validation, test=(0, 1, 2)):
    parts = {"train": split(train), "validation": split(validation, 1), "test": split(test, 2)}
    return Dataset(**parts, classes=("ant", "bee", "cow"), mean=(0.5,), std=(0.5,))


def equal(part):
    return replace(part, inputs=np.full_like(part.inputs, 7))


def test_ordinary_data_are_not_told_of():
    assert warnings.of_data(dataset([0, 1, 2] * 200, [2, 1])) == []
    assert warnings.of_data(dataset([0, 1] * 4, [0, 1])) == []  # a class that nobody asks for
    assert warnings.of_data(dataset([0, 1, 2], [1])) == []  # one image alone


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (dataset([1] * 8, [1, 1]), [["all 8 training", "one class, bee"], ["all 2 validation", "one class, bee"]]),
        (dataset([0, 1] * 4, [1, 1]), [["all 2 validation images are of one class, bee"]]),
        (dataset([0, 1] * 4, [0, 1, 2, 2, 2]), [["3 of 5 validation images", "without a training image", "cow"]]),
    ],
)
def test_labels_that_nothing_can_be_learned_from(data, words):
    found = warnings.of_data(data)
    assert len(found) == len(words)
    for text, expected in zip(found, words, strict=True):
        assert [word for word in expected if word not in text] == []


def test_equal_images():
    data = dataset([0, 1] * 300, [0, 1, 0])
    [text] = warnings.of_data(replace(data, train=equal(data.train)))
    assert "all 600 training images are equal" in text
    images = equal(data.train).inputs.copy()
    images[-1, 0, 0, 0] = 8
    assert warnings.of_data(replace(data, train=Split(images, data.train.targets))) == []
    data = dataset([0, 1, 2] * 300, [0, 1, 0])
    [text] = warnings.of_data(replace(data, test=equal(data.test)), "test")
    assert "all 3 test images are equal" in text


def test_chance_is_two_standard_errors_above_the_largest_class():
    chance = Chance.of(np.array([0] * 60 + [1] * 40 + [-1] * 9, np.int32))
    assert (chance.examples, chance.share) == (100, 0.6)
    assert chance.bound == pytest.approx(0.6 + 2 * np.sqrt(0.6 * 0.4 / 100))
    assert [chance.explains(accuracy) for accuracy in (0.1, 0.6, 0.69, 0.7)] == [True, True, True, False]
    assert [chance.may_be_constant(accuracy) for accuracy in (0.4, 0.6, 0.61)] == [True, True, False]


@pytest.mark.parametrize("labels", [[0, 1], [1] * 50, [-1, -1]])
def test_too_few_images_or_classes_tell_nothing_of_chance(labels):
    chance = Chance.of(np.array(labels))
    assert not chance.explains(0.5)
    assert not chance.explains(1.0)
    assert not chance.may_be_constant(1.0)


def test_chance_is_told_of_what_was_learned_alone():
    chance = Chance.of(np.arange(500) % 10)
    [text] = warnings.of_predictions("validation", chance, 0.12)
    assert "validation accuracy 0.1200 is chance" in text
    assert "0.1000" in text
    assert warnings.of_predictions("validation", chance, 0.12, learned=False) == []
    assert warnings.of_predictions("validation", chance, 0.2) == []
    [text] = warnings.of_predictions("test", chance, 0.1, always="bee", learned=False)
    assert "class bee for all 500 test images" in text


@pytest.mark.parametrize(
    ("best", "last", "still"),
    [
        ((1, 2.3026), (5, 2.3027), True),
        ((1, 2.3026), (5, 2.29), False),
        ((4, 0.01), (5, 0.01), False),
        ((1, 2.3), (1, 2.3), False),
    ],
)
def test_a_loss_that_did_not_move(best, last, still):
    found = warnings.of_loss(*({"epochs": epochs, "loss": loss} for epochs, loss in (best, last)))
    assert bool(found) == still
    assert all("did not move" in text and "epoch 5" in text for text in found)


def test_a_density_that_is_not_the_asked_one():
    mask = {"a": np.arange(1000) < 100, "b": np.arange(10) < 1}
    assert warnings.of_density(mask, 0.1) == []
    assert warnings.of_density(mask, 0.105) == []
    [text] = warnings.of_density(mask, 0.5)
    assert "0.5 was asked for" in text
    assert "101 of 1,010" in text
    assert warnings.of_density({"a": np.arange(20) < 1}, 0.01) == []  # a layer keeps one weight at least


def test_layers_that_keep_nothing_are_named():
    none, some = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    assert warnings.of_mask({"a": some}) == []
    [text] = warnings.of_mask({"a": some, "b/kernel": none, "c/kernel": none.astype(np.int8)})
    assert "no weight of b/kernel, c/kernel," in text
    [text] = warnings.of_mask({f"layer{i}": none for i in range(9)})
    assert "layer4 and 4 more" in text


@pytest.fixture(scope="module")
def still():
    """A search whose scores hardly move: (notes, ticket)."""
    notes = []
    config = supermask.SearchConfig(**SMALL, learning_rate=1e-12)
    [ticket] = supermask.search(config, callbacks=[watch(note=notes.append)])
    return notes, ticket


def test_a_search_that_learns_nothing_says_so(still):
    notes, ticket = still
    chance, loss = notes
    assert chance.startswith(f"warning: seed 0: validation accuracy {ticket.metrics['val_accuracy']:.4f} is chance")
    assert loss.startswith("warning: seed 0: the training loss did not move")
    assert f"{ticket.metrics['loss']:.4f} in epoch 2;" in loss


def test_a_mask_that_keeps_everything(still):
    _, ticket = still
    assert warnings.of_ticket(ticket) == []
    full = replace(ticket, mask={name: np.ones_like(array) for name, array in ticket.mask.items()})
    [text] = warnings.of_ticket(full)
    assert "keeps all weights" in text
    assert warnings.of_ticket(replace(full, config=ticket.config.replace(density=1.0))) == []
    assert warnings.of_ticket(replace(full, transforms=True)) == []  # slot-machines exchanges weights, and drops none


def test_layers_that_keep_fewer_weights_than_they_have_units():
    shapes = {"conv1/kernel": (3, 3, 16, 32), "head/kernel": (100, 10)}
    assert warnings.of_units({"conv1/kernel": 32, "head/kernel": 10}, shapes, 0.01) == []
    [text] = warnings.of_units({"conv1/kernel": 28, "head/kernel": 6}, shapes, 0.006)
    assert "density 0.006 leaves conv1/kernel, head/kernel fewer weights than output units" in text
    assert "6 for the 10 of head/kernel, so at least 4 of them are dead" in text
    advice = "try --allocation global, --allocation erk, --layer-density 'head/kernel=1.0' or a higher --density"
    assert text.endswith(f"; {advice}")


@pytest.mark.parametrize(("allocation", "count"), [("uniform", 1), ("global", 0)])
def test_a_search_that_leaves_units_without_weights_says_so_before_it_begins(allocation, count):
    notes = []
    config = supermask.SearchConfig(
        arch="lenet300", width=0.1, density=0.006, epochs=0, options={"allocation": allocation}
    )
    supermask.search(config, callbacks=[watch(note=notes.append)])
    found = [text for text in notes if "fewer weights than output units" in text]
    assert len(found) == count
    assert all("0.006" in text and "head/kernel" in text for text in found)
