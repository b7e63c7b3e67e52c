"""Small photographs: 50,000 + 10,000 colour images, 32x32, 10 classes.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from supermask.datasets._cifar import CifarSource, Layout
from supermask.datasets._fetch import Remote

EPOCHS = 100
AUGMENT = "crop-flip"

_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

load = CifarSource(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train=(50_000, 32, 32, 3),
    test=(10_000, 32, 32, 3),
    mean=(0.491, 0.482, 0.447),
    std=(0.247, 0.243, 0.262),
    layouts=(
        Layout(
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            train=tuple(f"{name}.bin" for name in _BATCHES),
            test="test_batch.bin",
            pickled=False,
        ),
        Layout(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            train=_BATCHES,
            test="test_batch",
            pickled=True,
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    remote=Remote(
        "cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    ),
    extras=("batches.meta.txt", "readme.html"),
    label_bytes=(10,),
    label_key="labels",
)
