"""The table of docs/archs.md says what is so."""

import math
import re
from pathlib import Path

import pytest
from helpers import built

from supermask import registry
from supermask.config.inputs import inputs_of
from supermask.errors import UsageError
from supermask.resolve import arch_options

PAGE = Path(__file__).parents[2] / "docs" / "archs.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([\d,]+) \| (\d+)x(\d+)x(\d), (\d+) \| (\w+) \| (\d+) \| (.*)\|$", re.MULTILINE)
ROWS = {name: rest for name, *rest in ROW.findall(PAGE.read_text())}
CHEAP = {"conv4", "vgg-small", "wrn-16"}  # tracing the others takes seconds


def test_all_networks_are_in_the_table():
    of_images = [name for name in registry.names("archs") if inputs_of("archs", name) == "images"]
    assert sorted(ROWS) == sorted(of_images)
    for name, (*_, norm, _, _) in ROWS.items():
        assert norm == arch_options(name).get("norm", "none"), name


def marked(name):
    return pytest.param(name, marks=[] if name in CHEAP else pytest.mark.slow)


@pytest.mark.parametrize("name", [marked(name) for name in ROWS])
def test_the_numbers_of_a_row(name):
    weights, height, across, channels, classes, _, smallest, _ = ROWS[name]
    model = built(name, (int(height), int(across), int(channels)), int(classes))
    masked = sum(math.prod(found.shape) for found in model.parameters.values() if found.masked)
    assert masked == int(weights.replace(",", ""))
    size = int(smallest)
    assert built(name, (size, size, 3), width=0.1).outputs.shape == (2, 10)
    if size > 1:
        with pytest.raises(UsageError, match=f"at least {size}x{size}"):
            built(name, (size - 1, size - 1, 3), width=0.1)
