"""The words that fields of a config may hold, and groups of fields."""

OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw")
SCHEDULES = ("cosine", "constant", "staircase", "step-staircase", "multistep")
ACTIVATIONS = ("relu", "elu")
NORMALISATIONS = ("dataset", "unit", "image")
RANDOM_CROPS = "random-resized-crop"
AUGMENTATIONS = ("none", "flip", "crop-flip", RANDOM_CROPS)
ORDERS = ("file", "once")
SELECTIONS = ("last", "best")
PRECISIONS = ("f32", "bf16", "tf32")
CONVOLUTIONS = ("auto", "xla")
GATES = ("own", "one")
SPLITS = ("test", "validation", "train")
OF_TICKET = (
    *("arch", "arch_options", "width", "activation", "init"),
    *("dataset", "image_size", "normalise", "augment", "validation", "seed"),
)
"""Fields that training under a ticket takes from the search that found it."""
OF_WITHIN = (*OF_TICKET, "maskable", "unmasked", "train", "gates")
"""Fields that a search within a ticket takes from the search that found it."""
CONTROLS = ("shuffled", "redrawn", "inverted", "random")
