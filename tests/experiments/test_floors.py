"""What guessing gives on sequences."""

import numpy as np

from supermask.experiments.floors import beside, floors_of, guesses, said
from supermask.types import Dataset, Split

TOKENS = np.zeros((4, 3), np.int32)


def test_guesses_are_those_of_the_training_sequences():
    train = Split(TOKENS, np.array([[-1, 1, 2], [-1, 1, 2], [-1, 1, 3], [-1, 2, -1]], np.int32))
    asked = Split(TOKENS[:2], np.array([[-1, 1, 3], [-1, 2, 2]], np.int32))
    assert guesses(train, asked) == {"uniform": 1 / 3, "majority": 1 / 4, "place": 2 / 4}
    alone = Split(TOKENS[:3], np.array([5, 5, 6], np.int32))
    assert guesses(alone, alone) == {"uniform": 1 / 2, "majority": 2 / 3}


def test_floors_are_of_sequences_alone_and_the_highest_is_told():
    split = Split(TOKENS, np.array([0, 1, 1, 1], np.int32))
    dataset = Dataset(split, split, ("a", "b"), (), (), split, "next-token", lambda split: {"own": len(split) / 5})
    found = floors_of(dataset, "validation")
    assert found == {"uniform": 0.5, "majority": 0.75, "own": 0.8}
    assert said(found) == "own 0.8000, majority 0.7500, uniform 0.5000"
    assert beside(found) == "  floor 0.8000"
    images = Split(np.zeros((4, 2, 2, 1), np.uint8), split.targets)
    assert floors_of(Dataset(images, images, ("a", "b"), (0.0,), (1.0,)), "test") == {}
    assert beside({}) == ""
