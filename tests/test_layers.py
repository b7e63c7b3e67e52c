"""The house rules: who may import whom, how long a module may be, what start-up may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

ROOT = Path(supermask.__file__).parent
LAYERS = [
    {"errors", "types", "config", "registry", "_version", "files", "signals", "streams"},
    {
        "inits",
        "defaults",
        "packing",
        "sealed",
        "ticket",
        "checkpoint",
        "controls",
        "existing",
        "run",
        "datasets",
        "exporters",
        "recipes",
    },
    {
        "masks",
        "allocation",
        "conv",
        "winograd",
        "images",
        "compiled",
        "selection",
        "layout",
        "precision",
        "methods",
        "archs",
    },
    {"core"},
    {"build", "cuts", "optimisers"},
    {"scoring", "training", "looking", "programs", "snapshots", "observer", "group"},
    {"loop", "evaluation", "bench"},
    {"cli", "trackers", "__main__"},
]
HEAVY = {"jax": 2, "flax": 2, "optax": 3, "torch": 9, "matplotlib": 9}
MODULES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def layer(name: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if name in rooms)


def imports(path: Path, everywhere: bool):
    """Imported module names, those inside functions too if `everywhere`; type-checking blocks are left out."""

    def visit(body):
        for node in body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                if node.module == "supermask":
                    yield from (f"supermask.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            elif not everywhere and isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            else:
                yield from visit(ast.iter_child_nodes(node))

    return set(visit(ast.parse(path.read_text()).body))


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p != ROOT / "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_imports_upward(path):
    mine = layer(room(path))
    for name in imports(path, everywhere=True):
        parts = name.split(".")
        if parts[0] == "supermask" and len(parts) > 1:
            other = parts[1]
            assert layer(other) <= mine, f"{name} is above"
            if other == room(path) and (ROOT / other).is_dir() and other != "cli":
                assert len(parts) == 2 or parts[2].startswith("_"), f"{name} is a sibling"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_stay_where_they_belong(path):
    name = room(path)
    if name == "__init__":
        return
    at_import = imports(path, everywhere=False)
    for library, lowest in HEAVY.items():
        used = any(module.split(".")[0] == library for module in at_import)
        assert not (used and (layer(name) < lowest or name == "cli")), f"{library} is imported by {path.name}"
        assert not (used and library == "flax" and name != "archs")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 250


def test_core_names_no_method_arch_or_dataset():
    from supermask import registry

    text = (ROOT / "core.py").read_text().replace("jax.random", "")
    for kind in ("methods", "archs", "datasets"):
        for name in registry.names(kind):
            assert name not in text


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, supermask, supermask.cli; print(sorted({'numpy', 'jax', 'flax', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_name_of_a_run_folder_is_known_before_jax_is_imported(tmp_path):
    """Of processes that start the same search at once, all but one can say so at once."""
    code = """
import sys
from pathlib import Path
from supermask.cli._searching import own_folder
from supermask.config import SearchConfig
from supermask.run import claimed
for method in ("edge-popup", "fedpm"):
    with claimed(own_folder(Path(sys.argv[1]), SearchConfig(method=method, dataset="cifar10"))):
        pass
print(sorted({"jax", "flax", "optax", "sklearn"} & set(sys.modules)))
"""
    words = [sys.executable, "-c", code, str(tmp_path / "runs")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"
    assert not (tmp_path / "runs").exists()


def test_every_public_name_is_there():
    for name in supermask.__all__:
        assert getattr(supermask, name) is not None
    from supermask import evaluation, loop  # a module never shadows an exported function

    assert callable(supermask.search)
    assert supermask.search is loop.search
    assert supermask.evaluate is evaluation.evaluate


def test_words_that_mean_their_opposite_appear_nowhere():
    for path in MODULES:
        text = path.read_text().lower()
        for word in ("prune_rate", "prune rate", "subnet", " twin"):
            assert word not in text, f"{word!r} in {path.name}"
