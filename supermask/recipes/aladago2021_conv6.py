"""Conv6 on CIFAR-10: the best of eight random values for every weight.

The value is remembered, checked against no source. The published learning rate starts anew at epochs 25 and 75; here
it is one cosine. Whether images were augmented is not known to us; here they are cropped and flipped. 10 % are held
out, as published.
"""

PAPER = "Aladago & Torresani 2021, arXiv 2101.06475"
TABLE = "aladago2021-cifar10"
CONFIG = {
    "arch": "conv6",
    "dataset": "cifar10",
    "method": "slot-machines",
    "options": {"values": 8},
    "init": "uniform-glorot",
    "scale_by_density": False,
    "activation": "relu",
    "normalise": "dataset",
    "augment": "crop-flip",
    "validation": 0.1,
    "epochs": 200,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "schedule": "cosine",
}
PUBLISHED = {"test_accuracy": 0.884, "source": "memory (unverified)"}
GPU_HOURS = 0.5  # our estimate for one data-centre GPU in float32, not measured
