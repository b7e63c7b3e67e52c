"""Sanity checks of a ticket: what they exchange, what they leave, and that a learned mask loses by them."""

import dataclasses

import numpy as np
import pytest

import supermask
from supermask.config.words import CONTROLS
from supermask.errors import UsageError
from supermask.experiments.controls import control

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def ticket():
    [found] = supermask.search(supermask.SearchConfig(arch="lenet300", epochs=15, density=0.3))
    return found


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_learned_mask_loses_by_every_control(ticket, kind):
    learned, left = supermask.evaluate(ticket), supermask.evaluate(ticket, control=kind)
    assert learned.accuracy > 0.9
    assert left.accuracy < learned.accuracy - 0.3
    assert left.reproduced  # the ticket itself is checked before anything is exchanged
    assert left.density == pytest.approx(learned.density, abs=1e-9)
    if kind == "redrawn":
        assert left.accuracy < 0.3  # chance is 0.1


def test_what_each_control_keeps(ticket):
    rows = ticket.layers()
    shuffled, inverted, random = (control(ticket, kind) for kind in ("shuffled", "inverted", "random"))
    assert [row["kept"] for row in shuffled.layers()] == [row["kept"] for row in rows]
    assert [row["kept"] for row in inverted.layers()] == [row["kept"] for row in rows]
    assert sum(row["kept"] for row in random.layers()) == sum(row["kept"] for row in rows)
    for name, mask in ticket.mask.items():
        assert not (inverted.mask[name] & mask).any()  # density 0.3: there is room among the removed
        overlap = (shuffled.mask[name] & mask).mean()
        assert overlap == pytest.approx(0.09, abs=0.03)
    redrawn = control(ticket, "redrawn")
    np.testing.assert_array_equal(redrawn.mask["head/kernel"], ticket.mask["head/kernel"])
    assert not np.array_equal(redrawn.weights()["head/kernel"], ticket.weights()["head/kernel"])
    again = control(ticket, "shuffled")
    np.testing.assert_array_equal(again.mask["dense1/kernel"], shuffled.mask["dense1/kernel"])


def test_inverting_turns_the_order_of_values_round(ticket):
    values = np.random.default_rng(0).permutation(np.arange(300_000) % 100).astype(np.int8)
    mask = {name: values[: array.size].reshape(array.shape) for name, array in ticket.mask.items()}
    turned = control(dataclasses.replace(ticket, mask=mask), "inverted").mask
    for name, array in mask.items():
        np.testing.assert_array_equal(np.sort(turned[name].ravel()), np.sort(array.ravel()))
        assert np.corrcoef(turned[name].ravel(), array.ravel())[0, 1] < -0.9


def test_an_unknown_control_is_answered_with_the_nearest(ticket):
    with pytest.raises(UsageError, match="did you mean shuffled"):
        supermask.evaluate(ticket, control="shufled")
