"""The file name is the registry: a new file in methods/, archs/, datasets/, exporters/ or recipes/ is all it takes.

`edge-popup` is methods/edge_popup.py. A trailing number is a depth: `conv4` is archs/conv.py, which lists
`DEPTHS`. `zhou2019-fc-sc` is the table `[fc-sc]` of recipes/zhou2019.toml. `pkg.module:attr` names a user's own.
Nothing is imported to list or describe: files are read as text, so `supermask list` needs no JAX.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from supermask.errors import BadFileError, SupermaskError, UsageError, one_line, require
from supermask.types import Recipe

KINDS = ("methods", "archs", "datasets", "tasks", "exporters", "recipes")
ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """What a file says of itself, read without importing it.

    Attributes:
        notes: what the class's docstring says of each field.
    """

    name: str
    summary: str
    constants: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@cache
def names(kind: str) -> tuple[str, ...]:
    """All valid names of one kind, sorted by file, then by depth; recipes of one file in its order.

    Raises:
        BadFileError: a recipe file cannot be read.
    """
    if kind == "recipes":
        files = sorted((ROOT / kind).glob("[!_]*.toml"))
        return tuple(f"{path.stem}-{cell}" for path in files for cell in recipe_tables(path) if cell != "defaults")
    found: list[str] = []
    for path in sorted((ROOT / kind).glob("[!_]*.py")):
        stem = path.stem.replace("_", "-")
        depths = _constants(_parse(path).body).get("DEPTHS")
        found += [f"{stem}{depth}" for depth in depths] if depths else [stem]
    return tuple(found)


def load(kind: str, name: str) -> Any:
    """The object behind a name: a Method or arch class, a dataset's or exporter's module, a `recipes.PublishedRecipe`.

    A family of several depths gives its class with the keyword `depth` still to be given, see `depth_of`.

    Raises:
        UsageError: no such name; the message lists the valid ones and the nearest match.
        SupermaskError: a user's own module cannot be imported.
        BadFileError: a recipe's file is malformed.
    """
    if kind == "recipes":
        return importlib.import_module("supermask.recipes").read(name)
    if is_own(kind, name):
        return _load_own(kind, name)
    check_name(kind, name)
    module = importlib.import_module(f"supermask.{kind}.{_stem(kind, name)}")
    if kind in ("datasets", "exporters"):
        return module
    return getattr(module, _class_name(_stem(kind, name)))


def check_name(kind: str, name: str) -> None:
    """Raise the error of `load` for an unknown name, without importing anything."""
    if is_own(kind, name):
        return
    require(kind.removesuffix("s"), base_name(name), names(kind), f" (`supermask list {kind}` describes them)")


def is_own(kind: str, name: str) -> bool:
    """Whether a name is `pkg.module:attr`, of something that is not built in."""
    return ":" in name and base_name(name) not in names(kind)


def base_name(name: str) -> str:
    """The registered name in `npz:PATH` and the like, where a colon starts an argument."""
    return name.split(":", 1)[0]


def depth_of(kind: str, name: str) -> int | None:
    """The trailing number of a family's member (`conv4` -> 4), None for a file of its own name."""
    return None if ":" in name or _path(kind, name).exists() else int(re.findall(r"\d+$", name)[0])


def describe(kind: str, name: str) -> Entry:
    """Docstring's first line, literal constants, and the fields of the class of that name with what is said of them.

    Of a recipe the summary alone: `load` reads the rest.
    """
    if kind == "recipes":
        path, cell = recipe_source(name)
        return Entry(name, str(recipe_tables(path)[cell].get("summary", "")))
    module = _parse(_path(kind, _stem(kind, name)))
    body, constants = module.body, _constants(module.body)
    own_fields: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == _class_name(_stem(kind, name)):
            for part in [*_bases(node, body), node]:
                constants |= _constants(part.body, whole=False)
                own_fields |= _annotated(part.body)
                notes |= _attributes(ast.get_docstring(part) or "")
    return Entry(name, (ast.get_docstring(module) or "").split("\n")[0], constants, own_fields, notes)


def recipe_source(name: str) -> tuple[Path, str]:
    """The file of a recipe and the name of its table there."""
    paper, _, cell = name.partition("-")
    return _path("recipes", paper), cell


@cache
def recipe_tables(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a recipe file by their names, `defaults` among them.

    Raises:
        BadFileError: it is no TOML file, something in it is outside of any table, or its name does not suit.
    """
    import tomllib  # most commands read no recipe

    if "-" in path.stem:
        raise BadFileError(f"{path}: the name of a recipe file cannot contain '-', which separates it from its tables")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # what is no TOML or no UTF-8 is a ValueError
        raise BadFileError(f"{path} is no TOML file: {one_line(error)}") from error
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise BadFileError(f"{path}: {key} must be a table, or be inside [defaults] or the table of a recipe")
    return tables


def _load_own(kind: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raised = UsageError if isinstance(error, ModuleNotFoundError) else SupermaskError
        what = f"{kind.removesuffix('s')} {name!r}"
        raise raised(f"cannot import {module_name!r} of {what}: {one_line(error)}") from error
    if not hasattr(module, attribute):
        raise UsageError(f"{module_name!r} has no attribute {attribute!r}")
    return getattr(module, attribute)


def _class_name(stem: str) -> str:
    return "".join(part.capitalize() for part in stem.split("_"))


def _path(kind: str, name: str) -> Path:
    return ROOT / kind / (name.replace("-", "_") + (".toml" if kind == "recipes" else ".py"))


def _stem(kind: str, name: str) -> str:
    stem = base_name(name)
    return (stem if _path(kind, stem).exists() else re.sub(r"\d+$", "", stem)).replace("-", "_")


def _bases(node: ast.ClassDef, body: list[ast.stmt]) -> list[ast.ClassDef]:
    """The classes of the same file, or of files with an underscore, that a class derives from, the furthest first."""
    found: list[ast.ClassDef] = []
    for base in (base.id for base in node.bases if isinstance(base, ast.Name)):
        for other in body:
            if isinstance(other, ast.ClassDef) and other.name == base:
                found += [*_bases(other, body), other]
        for line in body:
            folder, _, stem = (getattr(line, "module", "") or "").rpartition(".")
            if not (isinstance(line, ast.ImportFrom) and stem.startswith("_") and base in [n.name for n in line.names]):
                continue
            there = _parse(ROOT.joinpath(*folder.split(".")[1:], f"{stem}.py")).body
            for other in there:
                if isinstance(other, ast.ClassDef) and other.name == base:
                    found += [*_bases(other, there), other]
    return found


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return None
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Recipe":
        try:
            return Recipe(
                *map(ast.literal_eval, node.args), **{str(w.arg): ast.literal_eval(w.value) for w in node.keywords}
            )
        except (ValueError, TypeError) as error:
            raise SupermaskError(f"{ast.unparse(node)} is read without being run: give literals alone") from error
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _constants(body: list[ast.stmt], whole: bool = True) -> dict[str, Any]:
    """Literal values of a module's names, or of a class's class variables; not `whole`: of a class."""
    found: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = _literal(node.value)
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and (whole or _is_class_variable(node))
        ):
            found[node.target.id] = _literal(node.value)
    return {key: value for key, value in found.items() if value is not None}


def _annotated(body: list[ast.stmt]) -> dict[str, Any]:
    return {
        node.target.id: _literal(node.value)
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not _is_class_variable(node)
    }


def _attributes(docstring: str) -> dict[str, str]:
    """The entries of a docstring's section `Attributes:`, each on one line."""
    found = {}
    section = docstring.partition("\nAttributes:\n")[2].split("\n\n")[0]
    for entry in re.split(r"\n {4}(?! )", "\n" + section)[1:]:
        name, _, text = entry.partition(":")
        found[name.strip()] = " ".join(text.split())
    return found


def _is_class_variable(node: ast.AnnAssign) -> bool:
    return "ClassVar" in ast.unparse(node.annotation)
