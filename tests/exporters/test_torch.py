"""Exported networks in PyTorch: a plain module in NCHW gives the same logits. Needs the torch extra."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import problem_of, random_ticket
from safetensors.numpy import load

import supermask
from supermask import registry

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


class Conv(nn.Module):
    def __init__(self, state):
        super().__init__()
        for name, weight in state.items():
            layer = nn.Conv2d if weight.ndim == 4 else nn.Linear
            more = {"kernel_size": 3, "padding": 1} if weight.ndim == 4 else {}
            setattr(self, name.removesuffix(".weight"), layer(weight.shape[1], weight.shape[0], bias=False, **more))
        self.depth = sum(weight.ndim == 4 for weight in state.values())

    def forward(self, x):
        for i in range(1, self.depth + 1):
            x = torch.relu(getattr(self, f"conv{i}")(x))
            if i % 2 == 0:
                x = torch.max_pool2d(x, 2)
        x = x.flatten(1)
        x = torch.relu(self.dense1(x))
        return self.head(torch.relu(self.dense2(x)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("arch", ["lenet300", "conv2", "conv4", "conv6"])
def test_logits_agree(arch, channels):
    ticket, model = random_ticket(arch, (16, 16, channels), width=0.5)
    state = load(registry.load("exporters", "torch").encode(ticket))
    net = Conv(state)
    net.load_state_dict({name: torch.from_numpy(weight) for name, weight in state.items()})
    x = np.random.default_rng(0).normal(size=(40, 16, 16, channels)).astype(np.float32)
    apply = jax.jit(lambda weights, x: model.apply(weights, ticket.state, x, train=False, key=None)[0])
    ours = np.asarray(apply(ticket.effective(), x))
    with torch.no_grad():
        theirs = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.abs(ours).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_network_of_the_page_gives_the_same_logits(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "pytorch.md").read_text()
    [example] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "load_file" in block]
    config = supermask.SearchConfig(arch="conv4", epochs=0)
    [ticket] = supermask.search(config)
    (tmp_path / "conv4.safetensors").write_bytes(registry.load("exporters", "torch").encode(ticket))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    problem = problem_of(config)
    x = np.asarray(problem.pipeline.normalise(jnp.asarray(problem.dataset.test.inputs[:50])))
    ours = np.asarray(problem.model.apply(ticket.effective(), ticket.state, x, train=False, key=None)[0])
    with torch.no_grad():
        theirs = names["net"](torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
