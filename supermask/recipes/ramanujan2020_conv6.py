"""Conv6 on CIFAR-10: edge-popup over signed constants, half of the weights kept.

The value is the one in Table 2 of Aladago & Torresani 2021, as the paper itself shows curves only. Weights are not
scaled by density. The published code trains on all 50,000 images and reports the best epoch on the test images; here
1,000 are held out, and the last epoch counts.
"""

PAPER = "Ramanujan et al. 2020, arXiv 1911.13299"
TABLE = "ramanujan2020-cifar10"
CONFIG = {
    "arch": "conv6",
    "dataset": "cifar10",
    "method": "edge-popup",
    "options": {"rank": "magnitude"},
    "density": 0.5,
    "init": "signed-constant",
    "scale_by_density": False,
    "activation": "relu",
    "normalise": "dataset",
    "augment": "crop-flip",
    "validation": 0.02,
    "epochs": 100,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "schedule": "cosine",
}
PUBLISHED = {"test_accuracy": 0.881, "density": 0.5, "source": "third party"}
GPU_HOURS = 0.3  # our estimate for one data-centre GPU in float32, not measured
