"""House numbers in photographs: 73,257 + 26,032 colour images, 32x32, 10 classes; `svhn:extra` trains on 531,131 more.

Source: Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading digits in natural images with unsupervised feature learning",
NIPS workshop, 2011; http://ufldl.stanford.edu/housenumbers.
"""

from supermask.datasets._fetch import Remote
from supermask.datasets._mat import MatSource

EPOCHS = 20
AUGMENT = "none"
ARGUMENT = "[extra]"

load = MatSource(
    name="svhn",
    classes=tuple("0123456789"),
    train=(73_257, 32, 32, 3),
    test=(26_032, 32, 32, 3),
    files=(
        Remote("train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        Remote("test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    ),
    more=Remote("extra_32x32.mat", 1329278602, "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3"),
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
    folders=("SVHN", "."),
)
