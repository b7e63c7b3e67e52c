"""Test accuracy at equal epochs: our search beside PyTorch's, with the same recipe and seeds in turn.

    python benchmarks/accuracy.py --net resnet20 --epochs 3 --seeds 3 --data-dir DATA

Edge-popup at density 0.5, signed constant, batch 128, SGD 0.1 with momentum 0.9 and decay 1e-4, a cosine by epochs, all
training images. A seed means something else to each of the two, so it is the spreads that compare. Ours estimates the
statistics of batch norm anew under the mask that is found; of the peer, `torch_peers.train`, there is the accuracy by
its running statistics and that by statistics estimated anew. Prints a table, then one JSON line. Needs the torch extra,
and the dataset.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))  # as the command line does

from apart import apart
from facts import facts

import supermask
from supermask.data.splits import load_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--net", choices=["lenet300", "conv2", "conv4", "conv6", "vgg11", "resnet20"], default="resnet20"
    )
    parser.add_argument("--variant", default="kthvalue", help="of torch_peers.py")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    name, augment = ("mnist", "none") if args.net == "lenet300" else ("cifar10", "crop-flip")
    config = supermask.SearchConfig(
        arch=args.net, dataset=name, augment=augment, epochs=args.epochs, validation=0.0, batch_size=128
    )
    dataset = load_dataset(config, args.data_dir)
    data = [(split.inputs, split.targets) for split in (dataset.train, dataset.test)]

    def ours(seed: int) -> float:
        [ticket] = supermask.search(config.replace(seed=seed), data_dir=args.data_dir)
        return supermask.evaluate(ticket, data_dir=args.data_dir).accuracy

    found: dict[str, list[float]] = {"supermask": [], "PyTorch": [], "PyTorch, statistics anew": []}
    seconds = {"supermask": 0.0, "PyTorch": 0.0}
    for seed in range(args.seeds):
        began = time.perf_counter()
        found["supermask"].append(ours(seed))
        between = time.perf_counter()
        theirs = apart("train", args.net, args.variant, *data, augment != "none", args.epochs, seed=seed)
        found["PyTorch"].append(theirs["running"])
        found["PyTorch, statistics anew"].append(theirs["anew"])
        seconds["supermask"] += between - began
        seconds["PyTorch"] += time.perf_counter() - between
    print(f"{args.net}, {name}, {args.epochs} epochs of {len(dataset.train):,} images, test accuracy of the last")
    for tool, accuracies in found.items():
        values = ", ".join(f"{value:.4f}" for value in accuracies)
        print(f"{tool:24} {values}   mean {statistics.mean(accuracies):.4f}")
    print(", ".join(f"{tool} {value:,.0f} s" for tool, value in seconds.items()))
    print(
        json.dumps(
            {
                "net": args.net,
                "epochs": args.epochs,
                "accuracy": found,
                "variant": args.variant,
                "seconds": seconds,
                **facts(),
            }
        )
    )


if __name__ == "__main__":
    main()
