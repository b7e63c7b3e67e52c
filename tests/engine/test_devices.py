"""Fast paths change nothing but rounding: devices, seeds side by side, convolutions, precision."""

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import problem_of

import supermask
from supermask.archs._norm import GhostNorm
from supermask.core import mask_search
from supermask.engine import batching
from supermask.engine.batch_statistics import BatchStatistics
from supermask.engine.sharding import Sharding
from supermask.errors import UsageError
from supermask.experiments.bench import SteadySteps
from supermask.weights.parameters import masked_shapes

pytestmark = pytest.mark.usefixtures("compiled_quickly")

STEPS = 20


class WithBatchNorm(nnx.Module):
    """A small net with batch statistics."""

    def __init__(self, image_shape, classes, rngs):
        self.conv = nnx.Conv(image_shape[-1], 8, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_scale=False, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(8, classes, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.norm(self.conv(x))).mean((1, 2)))


class WithGhosts(WithBatchNorm):
    """The same with the statistics of 8 examples."""

    def __init__(self, image_shape, classes, rngs):
        super().__init__(image_shape, classes, rngs)
        self.norm = GhostNorm(8, 8, rngs=rngs)


GHOSTS = "tests.engine.test_devices:WithGhosts"


def losses(seeds=1, **fields):
    """The summed loss of each of 20 steps, (steps, seeds), and the scores after them."""
    # Signed constants cancel to zero exactly on an even background, where rounding would decide the ReLU's slope.
    fields = {"arch": "conv2", "width": 0.1, "batch_size": 32, "epochs": 1, "init": "kaiming-normal"} | fields
    problem = problem_of(**fields)
    run, found = SteadySteps(problem, mask_search(problem.method), seeds), []
    for step in range(STEPS):
        run.seconds(1, first=step)
        found.append(np.asarray(run.state.sums.loss, float))
    return np.diff(np.array(found), axis=0, prepend=0), jax.device_get(run.state.train.trainable)


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"devices": 1},
        {"devices": 1, "micro_batch": 4},
        {"micro_batch": 16},
        {"conv": "xla"},
    ],
    ids=["one device", "one device in micro-batches", "micro-batches", "XLA's convolution"],
)
def test_twenty_steps_lose_the_same(other):
    fast, slow = losses(devices=2, micro_batch=8)[0], losses(**{"devices": 2} | other)[0]
    np.testing.assert_allclose(fast / 32, slow / 32, atol=1e-3)
    assert not np.allclose(fast[0], fast[-1])


@pytest.mark.slow
def test_batch_statistics_are_of_the_whole_batch_on_any_number_of_devices():
    arch = "tests.engine.test_devices:WithBatchNorm"
    two, one = (losses(arch=arch, devices=devices, width=1.0)[0] for devices in (2, 1))
    np.testing.assert_allclose(two / 32, one / 32, atol=1e-3)
    with pytest.raises(UsageError, match="batch statistics"):
        losses(arch=arch, micro_batch=8, width=1.0, conv="xla")


@pytest.mark.parametrize(
    "other", [{"devices": 1, "micro_batch": 32}, {"devices": 2, "micro_batch": 16}, {"devices": 1, "conv": "xla"}]
)
def test_ghost_batches_are_the_same_however_a_batch_is_cut(other):
    def after(**fields):
        problem = problem_of(arch=GHOSTS, batch_size=32, epochs=1, init="kaiming-normal", width=1.0, **fields)
        run = SteadySteps(problem, mask_search(problem.method), 1)
        run.seconds(2)
        return jax.device_get((run.state.sums.loss, run.state.train.model_state, run.state.train.trainable)), problem

    (found, cut), (expected, other_way) = after(devices=2), after(**other)
    assert cut.batching.num_microbatches == 2
    assert not cut.batching.in_stages
    assert other_way.batching.num_microbatches == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    state = found[1]
    assert abs(state["norm/mean"]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch_size": 5000}, "ghost batches of 8 do not divide a batch of 1293: --batch-size 1288 would fit"),
        ({"batch_size": 36}, "ghost batches of 8 do not divide a batch of 36: --batch-size 32 would fit"),
        ({"batch_size": 32, "devices": 2, "micro_batch": 4}, "micro-batches of 4 would cut ghost batches of 8"),
    ],
)
def test_a_ghost_batch_is_never_cut(fields, words):
    with pytest.raises(UsageError, match=words):
        problem_of(arch=GHOSTS, width=1.0, **fields)


def test_running_statistics_of_ghost_batches_are_estimated_alike_on_two_devices():
    found = []
    for devices in (1, 2):
        problem = problem_of(arch=GHOSTS, width=1.0, batch_size=32, devices=devices)
        rule, sharding = mask_search(problem.method), problem.side_by_side()
        statistics = BatchStatistics(problem, rule, sharding)
        weights = problem.weights(0)
        ones = {name: np.ones(weights[name].shape, np.uint8) for name in masked_shapes(problem.parameters)}
        trees = [sharding.stack_seeds([tree]) for tree in (ones, problem.initial(0)[1], weights)]
        found.append(jax.device_get(statistics(*trees, [0])))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)


@pytest.mark.parametrize(
    ("fields", "images"),
    [
        ({"arch": "conv4"}, 8),
        ({"arch": "conv8"}, 32),
        ({"arch": "vgg11", "arch_options": {"norm": "ghost:8"}}, 32),
        ({"arch": "resnet20", "arch_options": {"norm": "ghost:8"}}, 8),
    ],
)
def test_micro_batches_are_larger_where_weights_count_for_more(fields, images):
    problem = problem_of(batch_size=256, devices=2, image_size=32, **fields)
    assert 128 // problem.batching.num_microbatches == images


def test_devices_share_whole_ghost_batches():
    assert problem_of(arch=GHOSTS, width=1.0, batch_size=24, devices=2).sharding.num_shards == 1
    assert problem_of(arch=GHOSTS, width=1.0, batch_size=48, devices=2).sharding.num_shards == 2


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("arch", ["conv2", "lenet300"])
def test_a_seed_does_not_depend_on_the_seeds_beside_it(arch):
    alone, scores = losses(arch=arch, devices=2)
    beside, both = losses(arch=arch, devices=2, seeds=2)
    np.testing.assert_array_equal(alone[:, 0], beside[:, 0])
    assert (alone[:, 0] != beside[:, 1]).any()
    for name, array in scores.items():
        np.testing.assert_array_equal(array[0], both[name][0])


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_seeds_that_do_not_fill_the_devices_are_all_found():
    config = supermask.SearchConfig(arch="lenet300", width=0.1, epochs=1, seed=5, seeds=3)
    together = supermask.search(config)
    assert [ticket.config.seed for ticket in together] == [5, 6, 7]
    [alone] = supermask.search(config.replace(seed=7, seeds=1))
    assert together[2].to_bytes() == alone.to_bytes()


def test_which_seeds_lie_side_by_side():
    def laid(**fields):
        return problem_of(**{"width": 0.1} | fields).side_by_side().seeds

    assert laid(arch="conv2", seeds=1) == 1
    assert laid(arch="conv2", seeds=2) == laid(arch="conv2", seeds=9) == 2
    assert laid(arch="lenet300", seeds=2, devices=1) == 1
    assert laid(arch="tests.engine.test_devices:WithBatchNorm", seeds=4, width=1.0) == 1


def test_bfloat16_is_near_float32_and_scores_stay_float32():
    exact, _ = losses(arch="lenet300")
    rough, scores = losses(arch="lenet300", precision="bf16")
    assert 1e-7 < abs(exact[0] - rough[0]).max() / 32 < 0.05
    assert np.abs(exact - rough).max() / 32 < 0.3
    assert {array.dtype for array in scores.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"devices": 3}, "devices is 3; JAX sees 2"),
        ({"devices": 2, "batch_size": 33}, "33 examples"),
        ({"micro_batch": 5}, "do not divide"),
        ({"precision": "tf32"}, "GPU"),
        ({"precision": "f16"}, "f32"),
        ({"conv": "fft"}, "auto"),
    ],
)
def test_what_cannot_be(fields, words):
    with pytest.raises(UsageError, match=words):
        problem_of(**{"arch": "conv2", "width": 0.1} | fields)


@pytest.mark.parametrize(("fields", "traced"), [({}, []), ({"micro_batch": 16}, ["traced"])], ids=["own", "asked for"])
def test_only_training_and_a_micro_batch_of_ones_own_trace_a_network_with_batch_norm(monkeypatch, fields, traced):
    """Tracing takes seconds for a deep network, which `eval` and `--dry-run` would only lose."""
    found, trace = [], batching.can_split
    monkeypatch.setattr(batching, "can_split", lambda *arguments: found.append("traced") or trace(*arguments))
    problem = problem_of(arch="tests.engine.test_devices:WithBatchNorm", batch_size=32, devices=2, **fields)
    assert found == traced
    assert not problem.sharding.whole
    assert problem.batching.in_stages
    assert not problem.side_by_side().whole
    assert found == ["traced"]


def test_a_problem_that_cannot_be_split_is_trained_whole_and_evaluated_in_shards():
    problem = problem_of(arch="tests.engine.test_devices:WithBatchNorm", batch_size=32, devices=2, conv="xla")
    assert problem.side_by_side().whole
    assert problem.to_train(problem.sharding).axis is None
    assert problem.sharding.axis is not None


@pytest.mark.slow
def test_a_ticket_of_two_devices_evaluates_on_one(monkeypatch):
    config = supermask.SearchConfig(arch="conv2", width=0.1, epochs=1)
    [ticket] = supermask.search(config)
    assert ticket.config.devices == 2
    monkeypatch.setattr("jax.local_device_count", lambda: 1)
    assert supermask.evaluate(ticket).reproduced


def test_every_device_has_its_shard_of_a_batch():
    sharding = Sharding(num_shards=2)
    shard = lambda x: sharding.local_shard(x) - jax.lax.axis_index("devices")  # noqa: E731
    program = jax.jit(sharding.program(shard, own=0))
    shards = program(np.arange(4)).addressable_shards
    assert sorted(np.asarray(s.data)[0].tolist() for s in shards) == [[0, 1], [1, 2]]
