"""Conv6 on CIFAR-10: ten clients learn probabilities, a server averages a sample of each.

The values as another paper quotes them. 200 rounds of three local epochs are 600 epochs here. Published biases are
random and masked, here there are none; published pixels are (x - 0.5) / 0.5, here less the dataset's mean over its
deviation. How images were held out is not known to us; here 2 % are.
"""

PAPER = "Isik et al. 2023, arXiv 2209.15328"
TABLE = "isik2023-cifar10"
CONFIG = {
    "arch": "conv6",
    "dataset": "cifar10",
    "method": "fedpm",
    "options": {"clients": 10, "local_epochs": 3},
    "init": "signed-constant-e",
    "scale_by_density": False,
    "activation": "relu",
    "normalise": "dataset",
    "augment": "none",
    "validation": 0.02,
    "epochs": 600,
    "batch_size": 128,
    "optimizer": "adam",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
}
PUBLISHED = {"test_accuracy": 0.8025, "bits_per_parameter": 0.606, "source": "third party"}
GPU_HOURS = 1.5  # our estimate for one data-centre GPU in float32, not measured
EPOCHS_PER_ROUND = 3  # a budget is cut to whole rounds
