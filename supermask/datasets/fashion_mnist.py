"""Zalando's articles of clothing: 60,000 + 10,000 greyscale images, 28x28, 10 classes.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
arXiv:1708.07747, 2017.
"""

from __future__ import annotations

from pathlib import Path

from supermask.datasets._fetch import Remote
from supermask.datasets._idx import IdxSource, load_idx
from supermask.types import Dataset

EPOCHS = 20
AUGMENT = "none"

SOURCE = IdxSource(
    name="fashion-mnist",
    torchvision="FashionMNIST",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    files=(
        Remote(
            "train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        Remote("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        Remote(
            "t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        Remote("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
)


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Four IDX files in data_dir/fashion-mnist or data_dir/FashionMNIST/raw; fetched into the former if in none.

    Returns:
        Images uint8 (60000, 28, 28, 1) and (10000, 28, 28, 1), labels int32 from 0 to 9.

    Raises:
        UsageError: an argument was given.
        BadFileError: a file is damaged, or the files are missing and cannot be fetched.
    """
    return load_idx(SOURCE, Path(data_dir), argument)
