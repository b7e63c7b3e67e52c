"""LeNet-300-100 on MNIST: a learned mask over weights as drawn.

Table 1, column MNIST FC; the value as other papers quote it. Epochs, batch and learning rate are those of the
published code's own example. 5,000 images are held out, as published; the last epoch counts.
"""

PAPER = "Zhou et al. 2019, arXiv 1905.01067"
TABLE = "zhou2019-table1"
CONFIG = {
    "arch": "lenet300",
    "dataset": "mnist",
    "method": "bernoulli",
    "options": {"draw": "sample", "rescale": False, "hard": "sample"},
    "density": 0.5,
    "init": "glorot-normal",
    "scale_by_density": False,
    "activation": "relu",
    "normalise": "unit",
    "augment": "none",
    "validation": 0.0833333,
    "epochs": 2000,
    "batch_size": 250,
    "optimizer": "sgd",
    "learning_rate": 100.0,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
}
PUBLISHED = {"test_accuracy": 0.953, "source": "third party"}
GPU_HOURS = 0.1  # our estimate for one data-centre GPU in float32, not measured
