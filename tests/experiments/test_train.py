"""Weight training: the same step with the roles exchanged, checked against PyTorch where that is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import problem_of
from safetensors.numpy import load

import supermask
from supermask import core, registry
from supermask.errors import BadFileError, UsageError
from supermask.experiments.bench import SteadySteps
from supermask.runs.results import load_result

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 3}


@pytest.fixture(scope="module")
def ticket():
    return supermask.search(supermask.SearchConfig(**SMALL, density=0.3))[0]


@pytest.fixture(scope="module")
def trained(ticket, tmp_path_factory):
    """Trained weights, dense and under the ticket."""
    path = ticket.save(tmp_path_factory.mktemp("trained") / "ticket.safetensors")
    [dense] = supermask.train(supermask.TrainConfig(**SMALL | {"epochs": 1}))
    [masked] = supermask.train(supermask.TrainConfig.under(path, ticket.config).replace(epochs=1))
    return dense, masked


@pytest.mark.usefixtures("optimised")
def test_dense_training_learns_repeats_and_is_its_own_alone_and_beside_others():
    config = supermask.TrainConfig(arch="lenet300", epochs=20)
    [one] = supermask.train(config)
    assert one.kind == "dense"
    assert one.density == 1
    assert one.mask == {}
    assert supermask.evaluate(one).reproduced
    assert supermask.evaluate(one).accuracy > 0.9
    zero, first = supermask.train(config.replace(seeds=2))
    assert zero.to_bytes() == one.to_bytes() != first.to_bytes()


def test_training_begins_with_the_random_weights_of_its_seed():
    config = supermask.TrainConfig(**SMALL | {"epochs": 0}, init="signed-constant", seed=3)
    [found] = supermask.train(config)
    for name, array in problem_of(config).weights(3).items():
        np.testing.assert_array_equal(found.weights[name], array)


def test_under_a_ticket_pruned_weights_have_no_say(ticket, tmp_path):
    path = ticket.save(tmp_path / "ticket.safetensors")
    [found] = supermask.train(supermask.TrainConfig.under(path, ticket.config).replace(epochs=5))
    assert found.kind == "binary"
    assert found.density == ticket.density
    assert found.metrics["val_accuracy"] >= ticket.metrics["val_accuracy"]
    first = ticket.weights()
    for name, mask in ticket.mask.items():
        np.testing.assert_array_equal(found.mask[name], mask)
        np.testing.assert_array_equal(found.weights[name][~mask], first[name][~mask])  # no gradient reached them
        assert (found.weights[name][mask] != first[name][mask]).mean() > 0.5
        assert (found.effective()[name][~mask] == 0).all()
    assert supermask.evaluate(found).reproduced
    path.unlink()
    assert supermask.evaluate(found).reproduced  # the weights hold all that they need


@pytest.mark.slow
@pytest.mark.parametrize("method", ["signed", "bernoulli", "biprop", "slot-machines"])
def test_under_tickets_of_every_kind(method, tmp_path):
    [ticket] = supermask.search(supermask.SearchConfig(**SMALL | {"epochs": 1}, method=method))
    path = ticket.save(tmp_path / "ticket.safetensors")
    [start] = supermask.train(supermask.TrainConfig.under(path, ticket.config).replace(epochs=0))
    if method != "bernoulli":  # of which the most likely mask is taken
        for name, array in ticket.effective().items():
            np.testing.assert_allclose(start.effective()[name], array, rtol=1e-6)
    [found] = supermask.train(supermask.TrainConfig.under(path, ticket.config).replace(epochs=10))
    assert found.metrics["val_accuracy"] > max(0.2, start.metrics["val_accuracy"])


def test_a_ticket_of_another_network_is_refused(ticket, tmp_path):
    path = ticket.save(tmp_path / "ticket.safetensors")
    with pytest.raises(BadFileError, match=r"ticket\.safetensors is of lenet300 .* not of conv2"):
        supermask.train(supermask.TrainConfig(arch="conv2", ticket=str(path)))
    with pytest.raises(BadFileError, match="it should be a ticket to train under"):
        supermask.train(supermask.TrainConfig(ticket=str(tmp_path / "none")))


def test_files_of_weights_and_tickets_are_told_apart(ticket, trained, tmp_path):
    found, _ = trained
    weights, other = found.save(tmp_path / "w.safetensors"), ticket.save(tmp_path / "t.safetensors")
    assert load_result(weights).to_bytes() == found.to_bytes()
    assert load_result(other).to_bytes() == ticket.to_bytes()
    with pytest.raises(BadFileError, match="holds weights; it should be a ticket"):
        supermask.Ticket.load(weights)
    with pytest.raises(BadFileError):
        supermask.TrainedWeights.load(other)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BadFileError, match="altered"):
        load_result(weights)


@pytest.mark.parametrize("name", registry.names("exporters"))
def test_every_exporter_takes_trained_weights(name, trained):
    dense, masked = trained
    encode = registry.load("exporters", name).encode
    assert encode(masked)
    if name == "mask":
        with pytest.raises(UsageError, match="dense"):
            encode(dense)
    else:
        assert encode(dense)


def test_controls_are_of_tickets_alone():
    [found] = supermask.train(supermask.TrainConfig(**SMALL | {"epochs": 0}))
    with pytest.raises(UsageError, match="controls replace the mask or the frozen weights of a ticket"):
        supermask.evaluate(found, control="shuffled")


def test_steps_are_those_of_pytorch():
    """Three steps of Adam on the same weights and batches, to 1e-5."""
    torch = pytest.importorskip("torch")
    config = supermask.TrainConfig(arch="lenet300", width=0.3, learning_rate=1.2e-3, batch_size=60, schedule="constant")
    problem = problem_of(config.replace(epochs=1))
    run = SteadySteps(problem, core.weight_training, seeds=1)
    order = np.asarray(run._chunk.per_seed)[0]
    weights = problem.weights(0)
    parameters = {name: torch.tensor(np.array(w), requires_grad=True) for name, w in weights.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=1.2e-3)
    for step in range(3):
        chosen = order[60 * step : 60 * (step + 1)]
        images = np.asarray(problem.pipeline.normalise(jnp.asarray(problem.dataset.train.inputs[chosen])))
        x = torch.tensor(images.reshape(60, -1))
        y = torch.tensor(problem.dataset.train.targets[chosen].astype(np.int64))
        hidden = torch.relu(torch.relu(x @ parameters["dense1/kernel"]) @ parameters["dense2/kernel"])
        loss = torch.nn.functional.cross_entropy(hidden @ parameters["head/kernel"], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.seconds(1, first=step)
    trained = jax.device_get(run.state.train.trainable)
    for name, parameter in parameters.items():
        np.testing.assert_allclose(trained[name][0], parameter.detach().numpy(), atol=1e-5)
        assert not np.allclose(trained[name][0], weights[name], atol=1e-4)


def test_an_export_to_pytorch_has_the_trained_weights():
    [found] = supermask.train(supermask.TrainConfig(**SMALL | {"epochs": 1}))
    state = load(registry.load("exporters", "torch").encode(found))
    np.testing.assert_array_equal(state["head.weight"], found.weights["head/kernel"].T)


@pytest.mark.slow
def test_a_sampled_ticket_that_rescales_starts_rescaled(tmp_path):
    """Dynamic weight rescaling: what is kept counts size / kept times as much."""
    [ticket] = supermask.search(supermask.SearchConfig(**SMALL | {"epochs": 1}, method="bernoulli"))
    weights, mask = ticket.for_training()
    frozen = ticket.weights()
    for name, kept in mask.items():
        expected = frozen[name] * kept * (kept.size / kept.sum())
        np.testing.assert_allclose(weights[name] * kept, expected, rtol=1e-5)
        np.testing.assert_array_equal(kept, ticket.mask[name] >= 128)


def test_where_a_ticket_lies_has_no_influence(ticket, tmp_path):
    path, other = tmp_path / "ticket.safetensors", tmp_path / "other.safetensors"
    config = supermask.TrainConfig.under(ticket.save(path), ticket.config).replace(epochs=1)
    [one] = supermask.train(config, run=tmp_path / "run")
    [same] = supermask.train(supermask.TrainConfig.under(ticket.save(other), ticket.config).replace(epochs=1))
    assert same.weights["head/kernel"].tobytes() == one.weights["head/kernel"].tobytes()
    path.unlink()
    other.unlink()
    finished = supermask.Run.open(tmp_path / "run").config
    [again] = supermask.train(finished, run=tmp_path / "run")  # its ticket is gone, its result is not
    assert again.to_bytes() == one.to_bytes()
