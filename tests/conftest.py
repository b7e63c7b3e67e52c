"""What all tests share: a CPU, no network, and strictness."""

import gc
import os
import shutil
import tempfile
from contextlib import contextmanager
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ["SUPERMASK_OFFLINE"] = "1"

import pytest

REAL_DATA = os.environ.pop("SUPERMASK_DATA_DIR", None)  # for slow tests alone


LONGEST = ("tests/test_docs.py", "tests/runs/test_resume.py", "tests/test_golden.py")
"""Files that take minutes, and the longest of those that would come last."""


def pytest_configure(config):
    """Let all workers and processes of one test run share what they compile, small programs too."""
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # as it is in a worker
        folder = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="supermask-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that no worker of `--dist loadfile` is left with one of them at the end."""
    items.sort(key=lambda item: item.location[0] not in LONGEST)


def pytest_collection_finish():
    """Let Python look for garbage seldom, and never among what stays: thousands of tests and all of JAX.

    Tracing makes many objects, and each of these searches takes the longer the more there is in memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


def pytest_report_header():
    """The versions that pip chose for this Python."""
    return ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax", "numpy"))


@pytest.fixture
def real_data():
    """The folder of datasets that SUPERMASK_DATA_DIR named."""
    if REAL_DATA is None:
        pytest.skip("needs SUPERMASK_DATA_DIR")
    return REAL_DATA


@contextmanager
def compiled(quickly):
    """Programs are compiled quickly and run slowly, or as users have them, here and in processes that tests start."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(int(quickly)))
        jax.clear_caches()  # of programs compiled the other way
        jax.config.update("jax_disable_most_optimizations", quickly)
        yield
        jax.config.update("jax_disable_most_optimizations", before)
        jax.clear_caches()


@pytest.fixture(scope="module")
def compiled_quickly():
    """Compiling takes half the time: for files that ask what a program does, not whether two programs round alike."""
    with compiled(quickly=True):
        yield


@pytest.fixture
def optimised():
    """As users have it, for a test of such a file that compares two programs bit for bit."""
    with compiled(quickly=False):
        yield


@pytest.fixture
def strict():
    """No silent change of dtype or rank in the numeric kernel."""
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
