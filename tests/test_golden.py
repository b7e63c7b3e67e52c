"""Tickets written by older versions load, evaluate and export as they did.

`golden/expected.json` holds what the version that wrote them said of each: accuracies, and hashes of what is exported.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

import supermask
from supermask import registry

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def digest(data: bytes) -> str:
    found = hashlib.sha256()
    arrays = np.load(io.BytesIO(data))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_ticket_means_what_it_meant(name):
    ticket, expected = supermask.Ticket.load(GOLDEN / name), EXPECTED[name]
    assert ticket.kind == expected["kind"]
    assert ticket.density == expected["density"]
    encode = lambda kind: registry.load("exporters", kind).encode(ticket)  # noqa: E731
    assert digest(encode("mask")) == expected["mask"]
    assert digest(encode("npz")) == expected["weights"]
    assert hashlib.sha256(encode("torch")).hexdigest() == expected["torch"]
    found = supermask.evaluate(ticket)
    # One image of 144 and 360: another processor may round a sum differently.
    assert found.val_accuracy == pytest.approx(expected["val_accuracy"], abs=1 / 143)
    assert found.accuracy == pytest.approx(expected["accuracy"], abs=1 / 359)
