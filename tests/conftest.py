"""What all tests share: a CPU, no network, and strictness."""

import os
import tempfile
from importlib.metadata import version

# Searches that differ in data alone compile the same programs; the workers of one test run share them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="supermask-tests-"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ["SUPERMASK_OFFLINE"] = "1"

import pytest

REAL_DATA = os.environ.pop("SUPERMASK_DATA_DIR", None)  # for slow tests alone


LONGEST = ("tests/test_docs.py", "tests/runs/test_resume.py", "tests/engine/test_devices.py")
"""Files that take minutes."""


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that no worker of `--dist loadfile` is left with one of them at the end."""
    items.sort(key=lambda item: item.location[0] not in LONGEST)


def pytest_report_header():
    """The versions that pip chose for this Python."""
    return ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax", "numpy"))


@pytest.fixture
def real_data():
    """The folder of datasets that SUPERMASK_DATA_DIR named."""
    if REAL_DATA is None:
        pytest.skip("needs SUPERMASK_DATA_DIR")
    return REAL_DATA


@pytest.fixture
def strict():
    """No silent change of dtype or rank in the numeric kernel."""
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
