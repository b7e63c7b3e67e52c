"""Conv4 on CIFAR-10: a learned mask over weights of one size per layer, rescaled by what was kept.

Table 1, column CIFAR Conv4; the value as other papers quote it. Batch, learning rate, its cosine and the epochs are
those with which Ramanujan et al. 2020 ran this method in their code; what Zhou et al. trained for is not known to us.
5,000 images are held out, as published; the last epoch counts.
"""

PAPER = "Zhou et al. 2019, arXiv 1905.01067"
TABLE = "zhou2019-table1"
CONFIG = {
    "arch": "conv4",
    "dataset": "cifar10",
    "method": "bernoulli",
    "options": {"draw": "sample", "rescale": True, "hard": "sample"},
    "density": 0.5,
    "init": "signed-constant-std",
    "scale_by_density": False,
    "activation": "relu",
    "normalise": "unit",
    "augment": "none",
    "validation": 0.1,
    "epochs": 100,
    "batch_size": 60,
    "optimizer": "sgd",
    "learning_rate": 50.0,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "cosine",
}
PUBLISHED = {"test_accuracy": 0.725, "source": "third party"}
GPU_HOURS = 0.2  # our estimate for one data-centre GPU in float32, not measured
