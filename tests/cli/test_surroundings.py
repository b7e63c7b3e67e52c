"""The command where its surroundings are unusual: the environment, the current folder, the encoding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

ROOT = Path(supermask.__file__).parent.parent
DRY_RUN = ("search", "--arch", "lenet300", "--dry-run", "--json")
LIBRARIES = (
    *("random", "copy", "string", "types", "typing", "signal", "select", "calendar", "logging", "pathlib", "codecs"),
    *("contextlib", "importlib", "json", "jax", "numpy", "click", "torch"),
)


def call(folder, *words, text=True, **environment):
    """A call of the command in a process of its own; variables that are None are unset."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-m", "supermask", *words],
        cwd=folder,
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=text,
        timeout=600,
        check=False,
    )


def refused(process, code=2):
    assert (process.returncode, process.stdout) == (code, ""), process.stderr
    [line] = process.stderr.splitlines()
    assert line.startswith("supermask: ")
    return line


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (DRY_RUN, {"JAX_PLATFORMS": "abacus"}, ["JAX_PLATFORMS=abacus", "--device cpu"]),
        ((*DRY_RUN, "--device", "gpu"), {"JAX_PLATFORMS": "abacus,cpu"}, ["JAX_PLATFORMS=abacus,cpu"]),
        (("bench", "--arch", "conv2"), {"JAX_PLATFORMS": None, "JAX_PLATFORM_NAME": "abacus"}, ["JAX_PLATFORM_NAME"]),
        (("search", "--arch", "lenet300"), {"JAX_NUM_CPU_DEVICES": "many"}, ['"many"', "unset JAX_NUM_CPU_DEVICES"]),
        (("train", "--arch", "lenet300"), {"JAX_ENABLE_X64": "perhaps"}, ["'perhaps'", "unset JAX_ENABLE_X64"]),
        (DRY_RUN, {"XLA_FLAGS": "--abacus=1"}, ["XLA_FLAGS=--abacus=1", "nknown flag"]),
    ],
)
def test_what_jax_cannot_be_is_one_line(tmp_path, words, environment, said):
    line = refused(call(tmp_path, *words, **environment))
    assert [text for text in said if text not in line] == []
    assert list(tmp_path.iterdir()) == []


def test_an_option_goes_before_the_environment(tmp_path):
    environment = {"JAX_PLATFORMS": "abacus", "JAX_PLATFORM_NAME": "abacus"}
    process = call(tmp_path, *DRY_RUN, "--device", "cpu", XLA_FLAGS="--xla_cpu_enable_fast_math=false", **environment)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["arch"] == "lenet300"


@pytest.mark.slow
def test_files_of_the_current_folder_replace_no_library(tmp_path):
    for name in LIBRARIES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the current folder')\n")
    for words in (("list", "methods"), DRY_RUN):
        process = call(tmp_path, *words)
        assert (process.returncode, process.stderr) == (0, "")
        assert "of the current folder" not in process.stdout
    (tmp_path / "mynet.py").write_text("from supermask.archs.lenet300 import Lenet300 as Net\n")
    process = call(tmp_path, *DRY_RUN[:2], "mynet:Net", *DRY_RUN[3:])
    assert process.returncode == 0, process.stderr
    line = refused(call(tmp_path, *DRY_RUN[:2], "random:Net", *DRY_RUN[3:]))
    assert "random.py" in line
    assert "rename yours" in line


def test_tilde_is_the_home_folder_wherever_a_path_is_taken(tmp_path):
    """Shells leave ~ alone in --out=~/x, and nobody replaces it in the environment."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    for words, environment in (
        (("inspect", "~/ticket"), {}),
        (("search", "--config=~/ticket"), {}),
        (("search",), {"SUPERMASK_CONFIG": "~/ticket"}),
        (("train",), {"SUPERMASK_TICKET": "~/ticket"}),
    ):
        assert f"{home}/ticket does not exist" in refused(call(here, *words, HOME=str(home), **environment), 3)
    assert "you have no home folder" in refused(call(here, *DRY_RUN, "--out=~/x", HOME="nowhere"))
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "数é".encode()),
        ("latin-1", b"\\u6570\xe9"),
        ("latin-1:strict", b"\\u6570\xe9"),
        ("utf-8", "数é".encode()),
    ],
)
def test_text_that_an_encoding_lacks_is_escaped(tmp_path, encoding, shown):
    """And a file name that is no text is printed as the bytes that it is."""
    code = "import sys, click; from supermask.runtime import stdio; stdio.secure()\nclick.echo(sys.argv[1])\n"
    code += "print(sys.argv[1], file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", code, "数é".encode() + b"\xff"],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=False,
    )
    assert process.stdout == shown + b"\xff\n"
    assert process.returncode == 0
    assert process.stderr.endswith(b"\xff\n")


def test_a_message_is_shown_in_any_encoding(tmp_path):
    for encoding in ("ascii", "latin-1"):
        process = call(tmp_path, "inspect", "数", text=False, PYTHONIOENCODING=encoding)
        assert process.returncode == 3
        assert b"does not exist" in process.stderr


def test_a_current_folder_that_is_deleted_is_said(tmp_path):
    (tmp_path / "gone").mkdir()
    program = "import os; os.rmdir(os.getcwd()); from supermask.__main__ import main; main()"
    for words, code in ((["list", "methods"], 0), (["search", "--arch", "lenet300"], 2)):
        (tmp_path / "gone").mkdir(exist_ok=True)
        process = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path / "gone",
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr
