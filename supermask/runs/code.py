"""A fingerprint of a user's own code, `pkg.module:attr`: the statements that it is made of.

Those are the definition itself and all that it uses, in its module and in the modules of the user's own that this one
imports. They are parsed and written anew, so comments, docstrings, layout, definitions that it does not use, and where
the files lie have no influence. Installed libraries count by the names imported from them, not by their content.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

from supermask.runs.content import shortened

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def fingerprint(name: str) -> str:
    """The fingerprint of `pkg.module:attr`; of a module without a source, that of its file."""
    module, _, attribute = name.partition(":")
    walk = _Walk(module.partition(".")[0])
    walk.add(module, attribute)
    return shortened(hashlib.sha256("\n".join(sorted(walk.texts)).encode()).hexdigest())


@dataclass(frozen=True)
class _Module:
    """The statements of a module.

    Attributes:
        bound: name -> the statements that bind or change it.
        loose: those that bind nothing; they run whatever is used.
        stars: the modules of which it imports `*`.
    """

    name: str
    package: str
    bound: dict[str, list[ast.stmt]]
    loose: list[ast.stmt]
    stars: list[str]


@dataclass
class _Walk:
    """Collects the texts of all statements that something is made of.

    Attributes:
        own: the user's top-level package, which counts even if it is installed.
    """

    own: str
    texts: set[str] = field(default_factory=set)
    _seen: set[object] = field(default_factory=set)
    _modules: dict[str, _Module | None] = field(default_factory=dict)

    def add(self, name: str, attribute: str | None) -> bool:
        """Add what a name in a module is made of, None for all of it; return whether it is a module of the user's."""
        module = self._module(name)
        if module is None or (name, attribute) in self._seen:
            return module is not None
        self._seen.add((name, attribute))
        names = module.bound if attribute is None else (attribute,)
        chosen = [(key, statement) for key in names for statement in module.bound.get(key, ())]
        for key, statement in [*chosen, *(("", statement) for statement in module.loose)]:
            self._statement(module, statement, key)
        if attribute is None or not chosen:
            for star in module.stars:
                if not self.add(star, attribute):
                    self.texts.add(f"{star} {attribute or '*'}")
            if attribute:
                self.add(f"{name}.{attribute}", None)
        return True

    def _statement(self, module: _Module, statement: ast.stmt, name: str) -> None:
        is_import = isinstance(statement, ast.Import | ast.ImportFrom)
        key = (id(statement), name if is_import else "")
        if key in self._seen:
            return
        self._seen.add(key)
        if not is_import:
            self.texts.add(ast.unparse(statement))
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and (node.id in module.bound or module.stars):
                self.add(module.name, node.id)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(module, node, name if is_import else "")

    def _import(self, module: _Module, node: ast.Import | ast.ImportFrom, name: str) -> None:
        """Follow an import, or only what it calls `name`, into the user's own modules; note those of libraries."""
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            if name and bound != name:
                continue
            if isinstance(node, ast.Import):
                source, attribute = alias.name, None
            else:
                source, attribute = _absolute(node, module.package), alias.name
            if not self.add(source, None if attribute == "*" else attribute):
                self.texts.add(f"{source} {attribute} as {bound}")

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> _Module | None:
        path = _source(name)
        if path is None or name.partition(".")[0] == "supermask":
            return None
        if name.partition(".")[0] != self.own and any(path.is_relative_to(folder) for folder in _LIBRARIES):
            return None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        module = _Module(name, package, {}, [], [])
        try:
            statements = ast.parse(path.read_bytes()).body
        except (SyntaxError, ValueError):  # a compiled extension
            self.texts.add(hashlib.sha256(path.read_bytes()).hexdigest())
            return module
        for statement in statements:
            _strip(statement)
            names = set(_bound(statement))
            for bound in names - {"*"}:
                module.bound.setdefault(bound, []).append(statement)
            if "*" in names and isinstance(statement, ast.ImportFrom):
                module.stars.append(_absolute(statement, package))
            if not names and not _is_idle(statement):
                module.loose.append(statement)
        return module


def _source(name: str) -> Path | None:
    """The file of a module, found without importing it; None if it has none."""
    found = getattr(sys.modules.get(name), "__file__", None)
    if found is None:
        top, *rest = name.split(".")
        try:
            spec = importlib.util.find_spec(top)
            for i in range(len(rest)):
                places = spec.submodule_search_locations if spec else None
                spec = None if places is None else PathFinder.find_spec(".".join([top, *rest[: i + 1]]), places)
        except (ImportError, ValueError):
            return None
        found = spec.origin if spec and spec.has_location else None
    return Path(found).resolve() if found and Path(found).is_file() else None


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The full name of the module that is imported from."""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module binds or changes."""
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            root: ast.expr = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                yield root.id
        elif isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _is_idle(statement: ast.stmt) -> bool:
    """Whether it does nothing when the module is imported: a constant, such as a docstring, or a script's main part."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test).replace('"', "'") == "__name__ == '__main__'"
    return isinstance(statement, ast.Pass)


def _strip(statement: ast.stmt) -> None:
    """Remove the docstrings of a statement and of all that is defined in it."""
    for node in ast.walk(statement):
        if isinstance(node, _DEFINITIONS) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
