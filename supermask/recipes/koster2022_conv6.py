"""Conv6 on CIFAR-10: a mask that keeps, hides or inverts weights of one size.

Accuracy and density as in the table of the authors' readme. How they held out images is not known to us; here 2 %
are, and the last epoch counts. Density is not set but follows from the decay.
"""

PAPER = "Koster et al. 2022, arXiv 2201.13361"
TABLE = "koster2022-readme"
CONFIG = {
    "arch": "conv6",
    "dataset": "cifar10",
    "method": "signed",
    "options": {"threshold": 0.4, "decay": 0.0005},
    "init": "signed-constant-elu",
    "scale_by_density": False,
    "activation": "elu",
    "normalise": "image",
    "augment": "none",
    "validation": 0.02,
    "epochs": 100,
    "batch_size": 128,
    "optimizer": "nesterov",
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "staircase",
}
PUBLISHED = {"test_accuracy": 0.7917, "density": 0.0236, "source": "readme"}
GPU_HOURS = 0.3  # our estimate for one data-centre GPU in float32, not measured
