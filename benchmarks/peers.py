"""Our search step beside PyTorch's, in turn: edge-popup at density 0.5, signed constant, batch 128, float32.

    python benchmarks/peers.py --net conv4 --rounds 5

Ours is the step as `supermask search` runs it, with the batch gathered, augmented and normalised inside. The peers'
(`torch_peers.py`) are bare steps on a batch that is ready. Each round runs every tool once; the ratio is taken round by
round, because shared machines drift. Prints a table, then one JSON line. Needs the torch extra.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import supermask
from supermask import core
from supermask.build import build
from supermask.training import training_program

HERE = Path(__file__).parent


class Ours:
    """Steps of our search on random images; `compile_seconds` is kept apart."""

    def __init__(self, net: str) -> None:
        shape = "mnist" if net == "lenet300" else "cifar"
        augment = "none" if shape == "mnist" else "crop-flip"
        parts = build(supermask.SearchConfig(arch=net, dataset=f"shapes:{shape}", augment=augment))
        weights = jax.device_put(parts.weights(0))
        scores = parts.method.init(jax.random.key(0), weights)
        train = parts.dataset.train
        state = core.State(scores, parts.optimiser.init(scores), {})
        self.carry = (state, jnp.float32(0), jnp.int32(0))
        order = jnp.asarray(np.random.default_rng(0).permutation(len(train)), jnp.int32)
        self.fixed = (weights, jnp.asarray(train.images), jnp.asarray(train.labels), order, jax.random.key(1))
        self.batch = parts.batch_size
        program = jax.jit(training_program(parts, core.searching(parts.method)), donate_argnums=0)
        began = time.perf_counter()
        self.program = program.lower(self.carry, *self.fixed, jnp.int32(0), jnp.int32(1)).compile()
        self.compile_seconds = time.perf_counter() - began
        self.rate(1)

    def rate(self, steps: int) -> float:
        """Images per second over some steps."""
        began = time.perf_counter()
        self.carry = self.program(self.carry, *self.fixed, jnp.int32(0), jnp.int32(steps))
        float(self.carry[1])
        return steps * self.batch / (time.perf_counter() - began)


def peer(net: str, variant: str, steps: int) -> float:
    """Median images per second of a PyTorch peer, in a process of its own."""
    command = [sys.executable, HERE / "torch_peers.py", "--net", net, "--variant", variant, "--steps", str(steps)]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result.get("median", float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=["lenet300", "conv2", "conv4", "conv6"], default="conv4")
    parser.add_argument("--variants", nargs="+", default=["published", "kthvalue", "tuned"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="[default: 3, and 50 for lenet300]")
    args = parser.parse_args()
    steps = args.steps or (50 if args.net == "lenet300" else 3)
    ours, rates = Ours(args.net), {name: [] for name in ["supermask", *args.variants]}
    for _ in range(args.rounds):
        rates["supermask"].append(ours.rate(steps))
        for variant in args.variants:
            rates[variant].append(peer(args.net, variant, steps))
    print(f"{args.net}, batch 128, images/s: median (lowest - highest) of {args.rounds} rounds")
    for name, column in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["supermask"], column, strict=True))
        middle, low, high = statistics.median(column), min(column), max(column)
        print(f"{name:10} {middle:9.0f} ({low:.0f} - {high:.0f})   ours / this {ratio:.2f}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    facts = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "commit": commit.stdout.strip(),
    }
    print(json.dumps({"net": args.net, "rates": rates, "compile_seconds": ours.compile_seconds, **facts}))


if __name__ == "__main__":
    main()
