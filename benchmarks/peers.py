"""Our search beside PyTorch's, in turn: edge-popup at density 0.5, signed constant, batch 128, float32.

    python benchmarks/peers.py --net conv4 --rounds 5
    python benchmarks/peers.py --net lenet300 --epoch 422

Ours is the step as `supermask search` runs it, with the batch gathered, augmented and normalised inside. The peers
(`torch_peers.py`) run bare steps on a batch that is ready; with `--epoch` they too load, augment and normalise every
image as such scripts do, and ours shuffles anew. Each round runs every tool once; the ratio is taken round by round,
because shared machines drift. Prints a table, then one JSON line. Needs the torch extra.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))  # as the command line does

from facts import facts

import supermask
from supermask.core import mask_search, weight_training
from supermask.engine.problem import build, on_this_machine
from supermask.engine.sharding import Sharding
from supermask.experiments.bench import SteadySteps, matmul_rate, random_images
from supermask.resolve import resolve

HERE = Path(__file__).parent


class Ours:
    """Steps of our search on random images; compilation is kept apart."""

    def __init__(self, net: str, norm: str | None = None) -> None:
        shape, augment = ((28, 28, 1), "none") if net == "lenet300" else ((32, 32, 3), "crop-flip")
        options = {"norm": norm} if norm else {}
        config = supermask.SearchConfig(arch=net, augment=augment, arch_options=options)
        self.problem = build(on_this_machine(resolve(config)), random_images(shape))
        self.run = SteadySteps(self.problem, self.parametrization(), seeds=1)
        self.rate(2)

    def parametrization(self) -> object:
        return mask_search(self.problem.method)

    def rate(self, steps: int) -> float:
        """Images per second over some steps, shuffling included."""
        began = time.perf_counter()
        self.run.begin_epoch()
        self.run.seconds(steps)
        return steps * self.problem.pipeline.batch_size / (time.perf_counter() - began)


class Dense(Ours):
    """The same step with the weights trained and no mask: what it takes longer to search is the mask's cost."""

    def parametrization(self) -> object:
        return weight_training


def peer(net: str, variant: str, steps: int, epoch: int | None) -> float:
    """Images per second of a PyTorch peer, in a process of its own; the median if it runs bare steps."""
    command = [sys.executable, HERE / "torch_peers.py", "--net", net, "--variant", variant, "--steps", str(steps)]
    command += ["--epoch", str(epoch)] if epoch else []
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result.get("median", float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--net", choices=["lenet300", "conv2", "conv4", "conv6", "vgg11", "resnet20", "vit-tiny"], default="conv4"
    )
    parser.add_argument("--variants", nargs="*", default=["published", "kthvalue", "tuned"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="[default: 4, and 200 for lenet300]")
    parser.add_argument("--epoch", type=int, metavar="BATCHES", help="so much of an epoch, with data and augmentation")
    parser.add_argument("--norm", help="of our network, such as ghost:8; that of the peers is batch norm")
    args = parser.parse_args()
    steps = args.epoch or args.steps or (200 if args.net == "lenet300" else 4)
    ours = Ours(args.net, args.norm)
    tools = {"supermask": ours.rate, "dense": Dense(args.net, args.norm).rate}
    tools |= {name: lambda n, name=name: peer(args.net, name, min(n, 30), args.epoch) for name in args.variants}
    rates = {name: [] for name in tools}
    matmul = []
    for _ in range(args.rounds):
        for name, measure in tools.items():
            rates[name].append(measure(steps))
        matmul.append(matmul_rate("f32", Sharding(ours.problem.config.devices)))
    report(args.net + (f" with {args.norm}" if args.norm else ""), args.epoch, rates, matmul)


def report(net: str, epoch: int | None, rates: dict[str, list[float]], matmul: list[float]) -> None:
    work = f"an epoch cut to {epoch} batches, with its data" if epoch else "steps"
    rounds = len(matmul)
    print(f"{net}, {work}, batch 128, images/s: median (lowest - highest) of {rounds} rounds, ratio round by round")
    for name, column in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["supermask"], column, strict=True))
        middle, low, high = statistics.median(column), min(column), max(column)
        print(f"{name:10} {middle:9,.0f} ({low:,.0f} - {high:,.0f})   ours / this {ratio:.2f}")
    print(f"float32 matrix products: {statistics.median(matmul):.0f} GFLOP/s")
    print(json.dumps({"net": net, "epoch": epoch, "rates": rates, "matmul_gflops": matmul, **facts()}))


if __name__ == "__main__":
    main()
