"""Searches of networks that have more than kernels: what is masked, trained, kept, and written into the ticket."""

import json
import sys

import numpy as np
import pytest
from helpers import problem_of

import supermask
from supermask.cli import group
from supermask.ticket import Ticket
from supermask.weights.inits import of_config
from supermask.weights.parameters import rows_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")

NETS = """
import jax, jax.numpy as jnp
from flax import nnx

class Net(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        self.first = nnx.Linear(64, 16, bias_init=nnx.initializers.constant(0.1), rngs=rngs)
        self.gamma = nnx.Param(jnp.full((16,), 1e-4))
        self.table = nnx.Param(jax.random.normal(rngs.params(), (1, 16)))
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.head = nnx.Linear(16, classes, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.first(x.reshape(len(x), -1)) + self.table)
        return self.head(self.norm(x) + self.gamma * x)

class Conv(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        self.mean = jnp.full(image_shape, 0.3)
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv(x - self.mean)).mean((1, 2)))
"""


@pytest.fixture
def arch(tmp_path, monkeypatch):
    (tmp_path / "whole_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield "whole_nets:Net"
    sys.modules.pop("whole_nets", None)


def searched(arch, **fields):
    config = {"arch": arch, "epochs": 2, "batch_size": 64, "init": "kaiming-normal", **fields}
    [ticket] = supermask.search(supermask.SearchConfig(**config))
    again = Ticket.load(ticket.save("ticket.safetensors"))
    assert supermask.evaluate(again).reproduced
    for name, array in ticket.weights().items():
        np.testing.assert_array_equal(again.weights()[name], array)
    assert {n: (p.role, p.masked, p.trained) for n, p in again.parameters.items()} == {
        n: (p.role, p.masked, p.trained) for n, p in ticket.parameters.items()
    }
    return again


def test_kernels_are_masked_and_all_else_keeps_its_own_values(arch):
    ticket = searched(arch, seed=3)
    assert set(ticket.mask) == {"first/kernel", "head/kernel"}
    weights, own = ticket.weights(), problem_of(arch=arch, seed=3).initial(3)[0]
    for name, value in (("first/bias", 0.1), ("gamma", 1e-4), ("norm/scale", 1), ("norm/bias", 0), ("head/bias", 0)):
        np.testing.assert_array_equal(weights[name], np.full(weights[name].shape, np.float32(value)), err_msg=name)
    np.testing.assert_array_equal(weights["table"], own["table"])
    assert len(np.unique(weights["table"])) == 16


@pytest.mark.slow
def test_what_is_masked_can_be_said(arch):
    assert set(searched(arch, maskable="table", unmasked="head").mask) == {"first/kernel", "table"}


def test_values_are_trained_beside_the_mask(arch):
    ticket = searched(arch, train="bias,head", gates="one")
    assert set(ticket.mask) == {"first/kernel"}
    weights, drawn = ticket.weights(), of_config(ticket.config, 0, problem_of(arch=arch).parameters)
    assert (weights["first/bias"] != np.float32(0.1)).any()  # trained, as is what counts as a bias by its role
    assert (weights["head/kernel"] != drawn["head/kernel"]).all()
    np.testing.assert_array_equal(weights["first/kernel"], drawn["first/kernel"])
    np.testing.assert_array_equal(weights["gamma"], np.ones(16))
    assert ticket.parameters["head/kernel"].trained
    [row] = [row for row in rows_of(ticket.parameters, ticket.own, "the init") if row["name"] == "head/kernel"]
    assert " to " in row["values"]  # those that were trained, not the distribution that they began with


@pytest.mark.slow
def test_fixed_arrays_do_not_keep_a_batch_whole(arch):
    """And they come back from the ticket."""
    ticket = searched("whole_nets:Conv", devices=1, micro_batch=16)
    np.testing.assert_array_equal(ticket.state["mean"], np.full((8, 8, 1), np.float32(0.3)))


def test_a_dry_run_and_inspect_show_what_becomes_of_each_parameter(arch, capsys):
    group.main(["search", "--arch", arch, "--dry-run", "--unmasked", "head"], standalone_mode=False)
    out, err = capsys.readouterr()
    assert json.loads(out)["unmasked"] == "head"
    rows = {line.split()[0]: line.split()[1:] for line in err.splitlines()}
    assert rows["first/kernel"] == ["64x16", "kernel", "masked", "signed-constant"]
    assert rows["head/kernel"] == ["16x10", "kernel", "signed-constant"]
    assert rows["gamma"] == ["16", "scale", "0.0001"]
    searched(arch)
    group.main(["inspect", "ticket.safetensors"], standalone_mode=False)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["gamma", "16", "scale", "0.0001"] in shown
