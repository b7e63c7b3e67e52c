"""Handwritten digits: 60,000 + 10,000 greyscale images, 28x28, 10 classes.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits"; LeCun, Bottou, Bengio, Haffner,
"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11), 1998.
"""

from supermask.datasets._fetch import Remote
from supermask.datasets._idx import IdxSource

EPOCHS = 20
AUGMENT = "none"

load = IdxSource(
    name="mnist",
    classes=tuple("0123456789"),
    train=(60_000, 28, 28, 1),
    test=(10_000, 28, 28, 1),
    files=(
        Remote(
            "train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        Remote("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        Remote(
            "t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        Remote("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    # Fashion-MNIST and KMNIST use the same file names: files that lie loose in the data folder are taken for MNIST.
    folders=("MNIST/raw", "."),
    mean=(0.1307,),
    std=(0.3081,),
)
