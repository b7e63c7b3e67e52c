"""The examples of README.md, docs/ and CONTRIBUTING.md are run as they stand."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from supermask import SearchConfig, registry, search

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)

FILES = ("top_fraction", "mlp", "stripes", "hinge", "csv", "sign_flips", "nobody2026")

SHORT = {
    "SUPERMASK_EPOCHS": "1",
    "SUPERMASK_WIDTH": "0.1",
    "SUPERMASK_ROUNDS": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}
"""Options that the pages leave open, so that their searches are short here; most of the rest is compilation."""
SHORTER = {"pytorch.md": {"SUPERMASK_EPOCHS": "0"}, "own-network.md": {"SUPERMASK_WIDTH": "1.0"}}


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """A copy of the package with the examples of CONTRIBUTING.md in it, one file each."""
    real = registry._files
    for kind, name, text in zip(registry.KINDS, FILES, EXAMPLES, strict=True):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / (name + (".toml" if kind == "recipes" else ".py"))).write_text(text)
        module = __import__(f"supermask.{kind}", fromlist=["x"])
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path / kind)])
    monkeypatch.setattr(registry, "_files", lambda kind: [*real(kind), *(tmp_path / kind).glob("[!_]*.*")])
    monkeypatch.setattr(registry, "names", lambda kind: ADDED[kind])
    yield
    for kind, name in zip(registry.KINDS, FILES, strict=True):
        sys.modules.pop(f"supermask.{kind}.{name}", None)


ADDED = {
    "methods": ("top-fraction",),
    "archs": ("mlp2", "mlp3"),
    "datasets": ("stripes",),
    "tasks": ("hinge",),
    "exporters": ("csv",),
    "criteria": ("sign-flips",),
    "recipes": ("nobody2026-mlp2",),
}


def test_one_file_each_is_all_that_contributing_asks_for(extended):
    config = SearchConfig.from_dict(registry.load("recipes", "nobody2026-mlp2").config)
    [ticket] = search(config)
    assert ticket.config.options == {"margin": 0.01}
    assert ticket.metrics["val_accuracy"] == 1.0
    scores = registry.load("criteria", "sign-flips")().score(np.ones(2), np.array([0.5, -0.5]), np.ones(2, bool), None)
    assert scores.tolist() == [-0.5, 0.5]
    lines = registry.load("exporters", "csv").encode(ticket).decode().splitlines()
    assert lines[0] == "name,kept,total"
    assert len(lines) == 1 + 3


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """Page -> what its blocks came to, for the pages whose tests are wanted; two pages are run at a time."""
    name = test_the_blocks_of_a_page_run_in_order.__name__
    pages = [item.callspec.params["page"] for item in request.session.items if item.name.startswith(name)]
    with ThreadPoolExecutor(2) as pool:
        yield {page: pool.submit(run_blocks, page, tmp_path_factory.mktemp(page.stem)) for page in pages}


SLOW = (
    "runs.md",
    "data.md",
    "own-network.md",
    "own-method.md",
    "pytorch.md",
    "methods.md",
    "gpu-and-slurm.md",
    "reproducibility.md",
    "lottery.md",
    "sweeps.md",
    "pretrained.md",
    "sequences.md",
)  # what they run is run by other pages and tests as well


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=pytest.mark.slow if p.name in SLOW else ()) for p in PAGES],
)
def test_the_blocks_of_a_page_run_in_order(page, runs):
    """Those fenced as `sh` and `python`, in one folder; a `python` block that begins with `# FILE.py` is that file."""
    runs[page].result()


def run_blocks(page: Path, folder: Path) -> None:
    shim = folder / "bin" / "supermask"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m supermask "$@"\n')
    shim.chmod(0o755)
    path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **SHORT, **SHORTER.get(page.name, {}), "PATH": path, "PYTHONPATH": str(ROOT)}
    for language, text in BLOCK.findall(page.read_text()):
        if words := command_of(language, text, folder):
            done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def command_of(language: str, text: str, folder: Path) -> list[str] | None:
    """What runs a block; None where there is nothing to run, or PyTorch is missing."""
    if language == "sh":
        return ["bash", "-euo", "pipefail", "-c", text]
    if language == "python":
        if name := re.match(r"# (\S+\.py)\n", text):
            path = folder / name[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            return None
        return None if "torch" in text and find_spec("torch") is None else [sys.executable, "-c", text]
    assert language == "text", f"fence commands as sh, or as text if they cannot run here: {text}"
    return None


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"], ids=lambda p: p.name
)
def test_links_lead_to_files_and_headings(page):
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], link


def test_the_readme_is_a_map():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_commands_of_the_pages_are_those_that_exist():
    from supermask.cli import group

    known = group.list_commands(None)
    text = "\n".join(page.read_text() for page in PAGES)
    for command in set(re.findall(r"^supermask ([a-z]+)", text, re.MULTILINE)):
        assert command in known, command
    table = re.findall(r"^\| `supermask ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(table) == known
