"""The examples in CONTRIBUTING.md and README.md are run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from supermask import SearchConfig, registry, search

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)

FILES = ("top_fraction", "mlp", "stripes", "csv", "nobody2026")


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """A copy of the package with the examples of CONTRIBUTING.md in it, one file each."""
    real = registry._path
    for kind, name, text in zip(registry.KINDS, FILES, EXAMPLES, strict=True):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / real(kind, name).name).write_text(text)
        module = __import__(f"supermask.{kind}", fromlist=["x"])
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path / kind)])
    monkeypatch.setattr(
        registry, "_path", lambda kind, name: _first(tmp_path / kind / real(kind, name).name, real(kind, name))
    )
    monkeypatch.setattr(registry, "names", lambda kind: ADDED[kind])
    yield
    for kind, name in zip(registry.KINDS, FILES, strict=True):
        sys.modules.pop(f"supermask.{kind}.{name}", None)


ADDED = {
    "methods": ("top-fraction",),
    "archs": ("mlp2", "mlp3"),
    "datasets": ("stripes",),
    "exporters": ("csv",),
    "recipes": ("nobody2026-mlp2",),
}


def _first(*paths):
    return next((path for path in paths if path.exists()), paths[-1])


def test_one_file_each_is_all_that_contributing_asks_for(extended):
    config = SearchConfig.from_dict(registry.load("recipes", "nobody2026-mlp2").config)
    [ticket] = search(config)
    assert ticket.config.options == {"margin": 0.01}
    assert ticket.metrics["val_accuracy"] == 1.0
    lines = registry.load("exporters", "csv").encode(ticket).decode().splitlines()
    assert lines[0] == "name,kept,total"
    assert len(lines) == 1 + 3


def test_the_library_example_of_the_readme_runs(tmp_path):
    [example] = re.findall(r"```python\n(import supermask.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "lenet300.safetensors").exists()


def test_the_commands_of_the_readme_exist():
    from supermask.cli import group

    text = (ROOT / "README.md").read_text()
    for command in set(re.findall(r"^(?:\$ )?supermask ([a-z]+)", text, re.MULTILINE)):
        assert command in group.list_commands(None), command
