"""Whatever is in a file, what comes of it is a result or an error of ours, soon and in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

ROOT = Path(supermask.__file__).parent.parent


def damage(*words):
    script = ROOT / "benchmarks" / "damage.py"
    process = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
    found = json.loads(process.stdout.splitlines()[-1])
    assert process.returncode == 0, found["rows"]
    return found


@pytest.mark.parametrize("engine", ["random", pytest.param("hypothesis", marks=pytest.mark.slow)])
def test_damaged_files_are_refused_or_read(engine):
    found = damage("--engine", engine, "--inputs", "390")
    assert found["inputs"] >= 390
    assert len(found["rows"]) == 15
    for name, row in found["rows"].items():
        assert row["wrong"] == 0
        assert row["refused"] > 0, name  # a damage that nobody noticed anywhere would be none


@pytest.mark.slow
def test_the_script_notices_what_it_looks_for(tmp_path):
    """An error of another kind, and memory that a file does not justify, both fail it."""
    broken = (ROOT / "benchmarks" / "damage.py").read_text()
    for there, instead in (
        ("lambda: Ticket.load(path)", "lambda: json.loads(path.read_bytes()[-1:])"),
        ("TIMES, SPARE = 1.0, 4.0, 1 << 20", "TIMES, SPARE = 1.0, 0.0, 0"),
    ):
        assert there in broken
        script = tmp_path / "damage.py"
        script.write_text(broken.replace(there, instead).replace("kind.read()  # imports", "pass  # imports"))
        (tmp_path / "facts.py").write_bytes((ROOT / "benchmarks" / "facts.py").read_bytes())
        words = [sys.executable, script, "--kind", "ticket", "--inputs", "5"]
        process = subprocess.run(words, capture_output=True, text=True, check=False)
        assert process.returncode == 1, process.stderr
        assert json.loads(process.stdout.splitlines()[-1])["rows"]["ticket"]["wrong"] == 5
