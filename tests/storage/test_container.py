"""Sealed files: what cannot be one is refused in little memory."""

import os
import tracemalloc

import pytest

from supermask.errors import BadFileError
from supermask.runs.results import load_result

MB = 1 << 20


@pytest.mark.parametrize("size", [MB, 1 << 60], ids=["of the whole file", "far above the file's size"])
def test_a_header_that_is_no_text_takes_no_memory_beyond_that_of_one_attempt(tmp_path, size):
    path = tmp_path / "ticket.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"\xff" + os.urandom(MB))
    with pytest.raises(BadFileError, match="was not written by supermask"):
        load_result(path)
    tracemalloc.start()
    try:
        with pytest.raises(BadFileError):
            load_result(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    copies = 4 if size == MB else 1  # the file; its header, the text that it was to become, the error's copy
    assert peak < (copies + 0.5) * MB
