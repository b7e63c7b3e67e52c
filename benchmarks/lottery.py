"""A round of iterative pruning of LeNet-300-100 on MNIST: ours beside PyTorch's, data included, in turn.

    python benchmarks/lottery.py --epochs 2 --rounds 3

The rule and the schedule are those of open_lth (Frankle 2020): SGD at 0.1, batch 128, 20 % of all weights but the
head's go in each round, over the layers together; kept weights go back to where they began. A round of ours is a round
of `supermask lottery`, from the end of the one before to its own: training, validation after each epoch, test, files.
The peer (`torch_peers.lottery_rounds`) trains, scores the test images once and prunes; it writes nothing, and trains on
the same number of images. It reads them once as open_lth does, each through Pillow, and once from an array. Prints a
table, then one JSON line. Needs the torch extra, and MNIST.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))  # as the command line does

from apart import apart
from facts import facts

import supermask
from supermask.data.splits import load_dataset


class Clock(supermask.Callback):
    """When each round of each group of seeds begins."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_note(self, text: str) -> None:
        if "branch ticket" in text:
            self.times.append(time.perf_counter())


def ours(config: supermask.LotteryConfig) -> list[float]:
    """Seconds of each round after the dense training, per seed."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        rows = supermask.lottery(config, run=f"{folder}/run", callbacks=[clock])
        clock.times.append(time.perf_counter())
    assert len(rows) == config.seeds * (config.rounds + 1)
    seconds = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    return [value / config.seeds for value in seconds[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    config = supermask.LotteryConfig(
        arch="lenet300",
        dataset="mnist",
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.0,
        batch_size=128,
        schedule="constant",
        ranking="global",
        keep="conv=0.8,dense=0.8,head=1",
        epochs=args.epochs,
        rounds=args.rounds,
    )
    dataset = load_dataset(config)
    data = (dataset.train.inputs, dataset.train.targets, dataset.test.inputs, dataset.test.targets)
    found: dict[str, list[float]] = {"ours, one seed": [], "ours, two seeds": [], "open_lth's way": [], "no Pillow": []}
    for _ in range(args.repeats):
        found["ours, one seed"] += ours(config)
        found["ours, two seeds"] += ours(config.replace(seeds=2))
        for name, pillow in (("open_lth's way", True), ("no Pillow", False)):
            found[name] += apart("lottery_rounds", *data, epochs=args.epochs, rounds=args.rounds, pillow=pillow)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        print(
            f"{name:<16} {medians[name]:7.2f} s a round and seed ({min(values):.2f} to {max(values):.2f}), "
            + " and ".join(f"{medians[peer] / medians[name]:.1f} times as fast as {peer}" for peer in list(found)[2:])
        )
    print(json.dumps({"seconds": found, "epochs": args.epochs, "images": len(dataset.train)} | facts()))


if __name__ == "__main__":
    main()
