"""Finds plug-ins by file name: to add one, add a file to one of the folders in KINDS.

`edge-popup` is methods/edge_popup.py. A family is one file: `conv4` is in the `MEMBERS` of archs/conv.py.
`zhou2019-fc-sc` is the table `[fc-sc]` in recipes/zhou2019.toml. `pkg.module:attr` is a user's own plug-in.
Listing and describing read the files as text and import nothing, so `supermask list` needs no JAX.
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

KINDS = ("methods", "archs", "datasets", "tasks", "exporters", "criteria", "recipes")
_ONE = dict(zip(KINDS, ("method", "arch", "dataset", "task", "exporter", "criterion", "recipe"), strict=True))
ROOT = Path(__file__).parent
import_own: Any = importlib.import_module  # a user's own module; the command has it look in the current folder, too


@dataclass(frozen=True)
class Entry:
    """The description of a plug-in, read from its file without importing it.

    Attributes:
        constants, fields: literal constants and class variables; options and their defaults.
        notes: what the class's docstring says about each field.
    """

    name: str
    summary: str
    constants: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@cache
def names(kind: str) -> tuple[str, ...]:
    """List the valid names of one kind, file by file; raise a BadFileError if a recipe file cannot be read."""
    if kind == "recipes":
        return tuple(
            f"{path.stem}-{cell}" for path in _files(kind) for cell in recipe_tables(path) if cell != "defaults"
        )
    return tuple(_members(kind))


def load(kind: str, name: str) -> Any:
    """Load what a name stands for: a method, arch or task class, a dataset or exporter module, a `PublishedRecipe`.

    For a family this is the class; the fields that make up the member are still to be given, see `member`.

    Raises:
        UsageError: the name is unknown; the message lists the valid names and the nearest match.
        SupermaskError: a user's own module cannot be imported.
        BadFileError: a recipe file is malformed.
    """
    if kind == "recipes":
        return importlib.import_module("supermask.recipes").read(name)
    if is_own(kind, name):
        return _load_own(kind, name)
    check_name(kind, name)
    stem = _path(kind, name).stem
    module = importlib.import_module(f"supermask.{kind}.{stem}")
    return module if kind in ("datasets", "exporters") else getattr(module, _class_name(stem))


def check_name(kind: str, name: str) -> None:
    """Raise the UsageError of `load` if the name is unknown, without importing anything."""
    if is_own(kind, name):
        return
    require(_ONE[kind], base_name(name), names(kind), f" (`supermask list {kind}` describes them)")


def is_own(kind: str, name: str) -> bool:
    """Whether a name is a user's own `pkg.module:attr`, not a built-in one."""
    return ":" in name and base_name(name) not in names(kind)


def base_name(name: str) -> str:
    """Return the registered part of names like `npz:PATH`, where a colon starts an argument."""
    return name.split(":", 1)[0]


def member(kind: str, name: str) -> dict[str, Any]:
    """Return the fields that the name of a family's member stands for, such as a depth of 4; else {}."""
    return _members(kind)[base_name(name)][1] if not is_own(kind, name) else {}


def describe(kind: str, name: str) -> Entry:
    """Describe a built-in plug-in: the docstring's first line, literal constants, and the class's documented fields.

    For a recipe this is only the summary; `load` reads the rest.
    """
    if kind == "recipes":
        path, cell = recipe_source(name)
        return Entry(name, str(recipe_tables(path)[cell].get("summary", "")))
    path = _path(kind, name)
    module = _parse(path)
    body, constants = module.body, _constants(module.body)
    own_fields: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == _class_name(path.stem):
            for part in [*_bases(node, body), node]:
                found = _constants(part.body, whole=False)
                if "added" in found:  # beside what its base classes have added
                    found["added"] = constants.get("added", {}) | found["added"]
                constants |= found
                own_fields |= _annotated(part.body)
                notes |= _attributes(ast.get_docstring(part) or "")
    return Entry(name, (ast.get_docstring(module) or "").split("\n")[0], constants, own_fields, notes)


def recipe_source(name: str) -> tuple[Path, str]:
    """Return the file of a recipe and the name of its table in the file."""
    paper, _, cell = name.partition("-")
    return next(path for path in _files("recipes") if path.stem == paper), cell


@cache
def recipe_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Read the tables of a recipe file by name, including `defaults`.

    Raises:
        BadFileError: the file is not valid TOML, has a key outside any table, or has a '-' in its name.
    """
    import tomllib  # most commands read no recipe

    if "-" in path.stem:
        raise BadFileError(f"{path}: the name of a recipe file cannot contain '-', which separates it from its tables")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # both invalid TOML and invalid UTF-8 raise a ValueError
        raise BadFileError(f"{path} is not a TOML file: {one_line(error)}") from error
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise BadFileError(f"{path}: {key} must be a table, or belong to [defaults] or a recipe's table")
    return tables


def _load_own(kind: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = import_own(module_name)
    except Exception as error:
        raised = UsageError if isinstance(error, ModuleNotFoundError) else SupermaskError
        raise raised(f"cannot import {module_name!r} for {_ONE[kind]} {name!r}: {one_line(error)}") from error
    if not hasattr(module, attribute):
        raise UsageError(f"{module_name!r} has no attribute {attribute!r}")
    return getattr(module, attribute)


def _class_name(stem: str) -> str:
    return "".join(part.capitalize() for part in stem.split("_"))


def _files(kind: str) -> list[Path]:
    return sorted((ROOT / kind).glob("[!_]*.toml" if kind == "recipes" else "[!_]*.py"))


def _members(kind: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Each name of a kind, with its file and the fields that it stands for."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in _files(kind):
        members = _constants(_parse(path).body).get("MEMBERS", {path.stem.replace("_", "-"): {}})
        found |= {name: (path, fields) for name, fields in members.items()}
    return found


def _path(kind: str, name: str) -> Path:
    return _members(kind)[base_name(name)][0]


def _bases(node: ast.ClassDef, body: list[ast.stmt]) -> list[ast.ClassDef]:
    """Return the base classes found in the same file or in files that start with an underscore, most distant first."""
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
            raise SupermaskError(f"{ast.unparse(node)} is read as text and not run: use only literals in it") from error
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _constants(body: list[ast.stmt], whole: bool = True) -> dict[str, Any]:
    """Read literal values: of a module's names or, if not `whole`, of a class's class variables."""
    found: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = _literal(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and (whole or _of_class(node)):
            found[node.target.id] = _literal(node.value)
    return {key: value for key, value in found.items() if value is not None}


def _annotated(body: list[ast.stmt]) -> dict[str, Any]:
    return {
        node.target.id: _literal(node.value)
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not _of_class(node)
    }


def _attributes(docstring: str) -> dict[str, str]:
    """Read the entries of a docstring's section `Attributes:`, each joined to one line."""
    found = {}
    section = docstring.partition("\nAttributes:\n")[2].split("\n\n")[0]
    for entry in re.split(r"\n {4}(?! )", "\n" + section)[1:]:
        name, _, text = entry.partition(":")
        found[name.strip()] = " ".join(text.split())
    return found


def _of_class(node: ast.AnnAssign) -> bool:
    return "ClassVar" in ast.unparse(node.annotation)
