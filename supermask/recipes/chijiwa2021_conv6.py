"""Conv6 on CIFAR-10: edge-popup by value, weights that are not kept drawn again now and then.

The value as another paper quotes it; over which weights is not known to us, here they are Kaiming-uniform, the default
of the published code. That crops at random scales as well; here crops are padded and of one size. 10 % of the images
are held out, as published.
"""

PAPER = "Chijiwa et al. 2021, arXiv 2106.09269"
TABLE = "chijiwa2021-cifar10"
CONFIG = {
    "arch": "conv6",
    "dataset": "cifar10",
    "method": "iterand",
    "options": {"period": 300, "rate": 0.1},
    "density": 0.5,
    "init": "kaiming-uniform",
    "scale_by_density": False,
    "activation": "relu",
    "normalise": "dataset",
    "augment": "crop-flip",
    "validation": 0.1,
    "epochs": 100,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.3,
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "schedule": "cosine",
}
PUBLISHED = {"test_accuracy": 0.888, "density": 0.5, "source": "third party"}
GPU_HOURS = 0.3  # our estimate for one data-centre GPU in float32, not measured
