"""Warnings advise only what there is an option for."""

import pytest

import supermask
from supermask.config.advice import fitting

SEARCH = supermask.SearchConfig()
GIVEN = supermask.SearchConfig(weights="w.safetensors")
UNDER = supermask.TrainConfig(ticket="t.safetensors")
DENSE = supermask.TrainConfig()
LOTTERY = supermask.LotteryConfig()
ONE_CLASS = "it predicts class 7: try another --learning-rate, a higher --density, --scale-by-density or another --init"
EMPTY = "nothing passes: try a higher --density, or a method or --allocation that leaves each layer some"


@pytest.mark.parametrize(
    ("text", "config", "expected"),
    [
        (ONE_CLASS, SEARCH, ONE_CLASS),
        (ONE_CLASS, GIVEN, "it predicts class 7; try another --learning-rate or a higher --density"),
        (ONE_CLASS, UNDER, "it predicts class 7; try another --learning-rate"),
        (ONE_CLASS, DENSE, "it predicts class 7; try another --learning-rate or another --init"),
        (ONE_CLASS, LOTTERY, "it predicts class 7; try another --learning-rate, another --init or a higher --keep"),
        (EMPTY, SEARCH, EMPTY),
        (EMPTY, UNDER, "nothing passes"),
        (EMPTY, LOTTERY, "nothing passes; try a higher --keep"),
        (EMPTY, supermask.ForgetConfig(op="imp"), "nothing passes; try a higher --keep"),
        (EMPTY, supermask.ForgetConfig(op="llf"), "nothing passes"),
        ("no advice at all", UNDER, "no advice at all"),
    ],
)
def test_advice_is_of_options_that_there_are(text, config, expected):
    assert fitting(text, config) == expected
