"""Kuzushiji, cursive Japanese characters: 60,000 + 10,000 greyscale images, 28x28, 10 classes.

Source: Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha, "Deep learning for classical Japanese literature",
arXiv:1812.01718, 2018; KMNIST dataset, created by CODH (CC BY-SA 4.0), adapted from the Kuzushiji dataset of NIJL.
"""

from supermask.datasets._fetch import Remote
from supermask.datasets._idx import IdxSource

EPOCHS = 20
AUGMENT = "none"

load = IdxSource(
    name="kmnist",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    train=(60_000, 28, 28, 1),
    test=(10_000, 28, 28, 1),
    files=(
        Remote(
            "train-images-idx3-ubyte.gz", 18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
        ),
        Remote("train-labels-idx1-ubyte.gz", 29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        Remote(
            "t10k-images-idx3-ubyte.gz", 3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"
        ),
        Remote("t10k-labels-idx1-ubyte.gz", 5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
    ),
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    folders=("KMNIST/raw",),
)
