"""Small photographs: 50,000 + 10,000 colour images, 32x32, 100 classes (the fine labels).

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from supermask.datasets._cifar import CifarSource, Layout
from supermask.datasets._fetch import Remote

EPOCHS = 100
AUGMENT = "crop-flip"

CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""

load = CifarSource(
    name="cifar100",
    classes=tuple(CLASSES.split()),
    train=(50_000, 32, 32, 3),
    test=(10_000, 32, 32, 3),
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    layouts=(
        Layout("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", pickled=False),
        Layout("cifar-100-python", "cifar-100-python.tar.gz", ("train",), "test", pickled=True),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    remote=Remote(
        "cifar-100-binary.tar.gz", 168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
    ),
    extras=("coarse_label_names.txt", "fine_label_names.txt"),
    label_bytes=(20, 100),
    label_key="fine_labels",
)
