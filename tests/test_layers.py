"""The house rules: who may import whom, how long a module may be, what start-up may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

ROOT = Path(supermask.__file__).parent
FLOORS = [
    {"errors", "types", "config", "registry", "resolve", "_version"},
    {"runtime", "storage", "weights"},
    {"ticket"},
    {"runs", "datasets", "recipes", "exporters"},
    {"masks", "nn", "data", "tasks"},
    {"methods", "archs", "criteria"},
    {"core"},
    {"engine"},
    {"experiments"},
    {"trackers", "report", "launchers", "cli", "__main__"},
]
PLUGINS = {"methods", "archs", "criteria", "datasets", "exporters", "recipes", "tasks", "trackers", "launchers"}
LOWEST = {"jax": 4, "flax": 5, "optax": 4, "torch": 10, "matplotlib": 10}
MODULES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


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


def uses(path: Path) -> set[str]:
    """The rooms that a module imports from, its own left out."""
    parts = [name.split(".") for name in imports(path, everywhere=True)]
    return {part[1] for part in parts if part[0] == "supermask" and len(part) > 1} - {room(path)}


def test_the_house_is_small():
    rooms = {room(path) for path in MODULES} - {"__init__"}
    assert rooms <= set().union(*FLOORS)
    assert len(rooms) <= 35
    assert len(FLOORS) <= 10
    assert len([path for path in MODULES if path.parent == ROOT]) <= 10


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p != ROOT / "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_imports_upward(path):
    for other in uses(path) - {"__init__"}:
        if (ROOT / other).is_dir() or (ROOT / f"{other}.py").exists():
            assert floor(other) <= floor(room(path)), f"{other} is above"
    if room(path) not in PLUGINS:
        return
    for name in imports(path, everywhere=True):
        parts = name.split(".")
        if parts[:2] == ["supermask", room(path)] and len(parts) > 2:
            assert parts[2].startswith("_"), f"{name} is another plug-in"


def test_no_room_needs_itself():
    graph = {}
    for path in MODULES:
        graph.setdefault(room(path), set()).update(uses(path))
    for start in graph:
        seen, open_rooms = set(), list(graph[start])
        while open_rooms:
            name = open_rooms.pop()
            if name not in seen:
                seen.add(name)
                open_rooms += graph.get(name, ())
        assert start not in seen, f"{start} imports itself by way of others"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_stay_where_they_belong(path):
    name = room(path)
    if name == "__init__":
        return
    at_import = imports(path, everywhere=False)
    for library, lowest in LOWEST.items():
        used = any(module.split(".")[0] == library for module in at_import)
        assert not (used and (floor(name) < lowest or name == "cli")), f"{library} is imported by {path.name}"
        assert not (used and library == "flax" and name != "archs")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_are_short_and_take_few_parameters(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            names = [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
            is_command = any("command" in ast.unparse(d) for d in node.decorator_list)
            assert is_command or node.end_lineno - node.lineno < 60, f"{node.name} is too long"
            assert is_command or len(names) <= 7, f"{node.name} takes {len(names)} parameters"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 250


def test_core_names_no_method_arch_or_dataset():
    from supermask import registry

    text = (ROOT / "core.py").read_text().replace("jax.random", "")
    for kind in ("methods", "archs", "datasets"):
        for name in registry.names(kind):
            assert name not in text


def test_importing_the_package_and_its_commands_loads_nothing_heavy():
    code = """
import sys
import supermask
from supermask.cli import group
for name in group.list_commands(None):
    group.get_command(None, name)
print(sorted({'numpy', 'jax', 'flax', 'rich', 'safetensors'} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_name_of_a_run_folder_is_known_before_jax_is_imported(tmp_path):
    """Of processes that start the same search at once, all but one can say so at once."""
    code = """
import sys
from pathlib import Path
from supermask.experiments.run import run_path
from supermask.config import SearchConfig
from supermask.runs.folder import claimed
for method in ("edge-popup", "fedpm"):
    with claimed(run_path(Path(sys.argv[1]), SearchConfig(method=method, dataset="cifar10"))):
        pass
print(sorted({"jax", "flax", "optax", "sklearn"} & set(sys.modules)))
"""
    words = [sys.executable, "-c", code, str(tmp_path / "runs")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"
    assert not (tmp_path / "runs").exists()


def test_every_public_name_is_there():
    for name in supermask.__all__:
        assert getattr(supermask, name) is not None
    from supermask.experiments import evaluate, search

    assert callable(supermask.search)
    assert supermask.search is search.search
    assert supermask.evaluate is evaluate.evaluate


def test_words_that_mean_their_opposite_appear_nowhere():
    for path in MODULES:
        text = path.read_text().lower()
        for word in ("prune_rate", "prune rate", "subnet", " twin"):
            assert word not in text, f"{word!r} in {path.name}"
