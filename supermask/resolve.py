"""Fills in what a config leaves open: a method's recipe and options, an arch's options, a dataset's epochs.

Built-in plug-ins are read as text (see `registry`), so a run folder's name can be computed without JAX.
"""

from __future__ import annotations

import ast
import inspect
import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, TypeVar, Union

from supermask import registry
from supermask.config import Config, SearchConfig
from supermask.config.files import located
from supermask.config.inputs import TOKENS, check_inputs, inputs_of
from supermask.config.network import activation_of, check_norms
from supermask.errors import UsageError, require
from supermask.types import Method, Recipe, Spec

EPOCHS = 30
AUGMENT = "none"
TRAINING = Recipe(optimizer="adam", learning_rate=1e-3, weight_decay=0.0, init="kaiming-normal")
"""The defaults of weight training."""

OF_METHODS = ("density",)
OF_ARCHS = ("width", "activation")
"""Fields of methods and archs that are not options, because the config has fields of its own for them."""
DECLARED = ("recipe", "learned", "keeps_density", "least_epochs")  # class variables of methods

AnyConfig = TypeVar("AnyConfig", bound=Config)


@dataclass(frozen=True)
class MethodFacts:
    """What a method's class declares. `options` maps each name to its type and its default, or MISSING."""

    options: Mapping[str, tuple[Any, Any]]
    recipe: Recipe
    learned: bool
    keeps_density: bool
    least_epochs: int


def resolve(config: AnyConfig) -> AnyConfig:
    """Replace every None for which the method's recipe or the dataset has a value.

    `devices` may stay None, since it depends on the machine; so may `micro_batch` and `image_size`, where None has a
    meaning. `activation` becomes None for a network that takes none, and `normalise` stays None for tokens. The result
    lists all options of the method, after the method's own `__post_init__`. For a method that is not trained, epochs
    become 0 unless `train` names what is.

    Raises:
        UsageError: a name is unknown, an option is unknown or of the wrong type, or the network has no use for a word.
        BadFileError: a file that the config names cannot be read.
    """
    registry.check_name("archs", config.arch)
    registry.check_name("datasets", config.dataset)
    dataset, inputs = _facts_of_dataset(config.dataset), inputs_of("datasets", config.dataset)
    check_inputs(config, inputs)
    changes: dict[str, Any] = {}
    if isinstance(config, SearchConfig):
        method = facts_of(config.method)
        recipe = method.recipe
        changes["options"] = _typed(Spec(config.method, config.options), method.options, "-o")
        if not (method.learned or config.train):
            changes["epochs"] = 0
        if registry.is_own("methods", config.method):
            settled = make_method(config)
            changes["options"] = {key: getattr(settled, key) for key in changes["options"]}
    else:
        recipe = TRAINING
    if hasattr(config, "criterion"):
        changes["criterion"] = config.criterion.replace("_", "-")
        registry.check_name("criteria", changes["criterion"])
    changes |= located(config)
    changes["arch_options"] = _arch_options(config)
    changes["activation"] = activation_of(config, recipe.activation)
    if isinstance(config, SearchConfig):
        check_norms(config, changes["arch_options"])
    found = asdict(recipe) | {key.lower(): dataset.get(key, default) for key, default in _OF_DATASET.items()}
    if isinstance(config, SearchConfig):
        found["epochs"] = max(found["epochs"], method.least_epochs)
    if getattr(config, "weights", None) or getattr(config, "ticket", None):
        del found["init"]  # nothing is drawn: a file brings the weights
    if inputs == TOKENS:
        del found["normalise"]
    open_fields = {key: value for key, value in found.items() if getattr(config, key) is None}
    return config.replace(**open_fields | changes)


def check_dataset(config: Config, inputs: str) -> None:
    """Check that the network and the options of a resolved config suit what its dataset holds, see `check_inputs`."""
    recipe = facts_of(config.method).recipe if isinstance(config, SearchConfig) else TRAINING
    check_inputs(config, inputs, recipe.normalise)


_OF_DATASET = {"EPOCHS": EPOCHS, "AUGMENT": AUGMENT}


def facts_of(name: str) -> MethodFacts:
    """Look up what a method declares, by its name.

    Raises:
        UsageError: there is no method of that name, or it is not a `Method`.
    """
    registry.check_name("methods", name)
    if not registry.is_own("methods", name):
        entry = registry.describe("methods", name)
        return MethodFacts(
            options={key: (type(value), value) for key, value in entry.fields.items()},
            **{key: entry.constants.get(key, getattr(Method, key)) for key in DECLARED},
        )
    kind = _method_class(name)
    return MethodFacts(fields_of(kind, OF_METHODS), **{key: getattr(kind, key) for key in DECLARED})


def make_method(config: SearchConfig) -> Method:
    """Make the method of a config, with its density and options. Imports JAX.

    Raises:
        UsageError: an option is unknown, of the wrong type or out of range.
    """
    options = _typed(Spec(config.method, config.options), facts_of(config.method).options, "-o")
    return _method_class(config.method)(density=config.density, **options)


def make_arch(config: Config) -> tuple[Any, dict[str, Any]]:
    """Return (arch, options still to be passed to it). Imports Flax.

    The first is an `Arch` with its fields set, and no options are left; or a user's own module class or function, which
    is still to be called with the options.

    Raises:
        UsageError: an option is unknown, missing, of the wrong type or out of range.
    """
    kind = registry.load("archs", config.arch)
    if not _is_arch(kind):
        return kind, dict(config.arch_options)
    known = {item.name for item in fields(kind)}
    ours = {**registry.member("archs", config.arch), "width": config.width, "activation": config.activation}
    if config.width != 1 and "width" not in known:
        raise UsageError(f"{config.arch} has no width to multiply: leave out --width")
    chosen = {key: value for key, value in ours.items() if key in known and value is not None}
    return kind(**chosen, **_arch_options(config)), {}


def arch_options(name: str) -> dict[str, Any]:
    """List the options of a built-in arch with their defaults, without the fields that its name stands for."""
    entry = registry.describe("archs", name)
    taken = (*OF_ARCHS, *registry.member("archs", name))
    return {key: value for key, value in entry.fields.items() if key not in taken}


def fields_of(kind: type, taken: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """List the options of a plug-in's dataclass, without those `taken`: name -> (type, default or MISSING)."""
    hints = typing.get_type_hints(kind)
    return {
        item.name: (hints[item.name], item.default if item.default_factory is MISSING else item.default_factory())
        for item in fields(kind)
        if item.init and item.name not in taken
    }


def as_type(what: str, value: Any, kind: Any) -> Any:
    """Convert an option's value to the type of the plug-in's field; strings from a command line are parsed.

    Values of types other than numbers, strings and booleans are returned as they are: the plug-in checks them itself.

    Raises:
        UsageError: the value cannot be converted to that type.
    """
    choices = (
        typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is Union else (kind,)
    )
    if value is None and type(None) in choices:
        return None
    kind = next(choice for choice in choices if choice is not type(None))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    if kind not in words:
        return value
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        if kind is float and not math.isfinite(float(value)):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{what} is {value!r}; it must be {words[kind]}") from None


def _method_class(name: str) -> type[Method]:
    kind = registry.load("methods", name)
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        raise UsageError(f"{name} is not a subclass of supermask.Method")
    return kind


def _is_arch(kind: Any) -> bool:
    return is_dataclass(kind) and hasattr(kind, "build")


def _arch_options(config: Config) -> dict[str, Any]:
    """Return the options of the arch, typed; those of a user's own class or function are read as literals."""
    spec = Spec(config.arch, config.arch_options)
    if not registry.is_own("archs", config.arch):
        known = {key: (type(value), value) for key, value in arch_options(config.arch).items()}
        return _typed(spec, known, "-a")
    kind = registry.load("archs", config.arch)
    if _is_arch(kind):
        return _typed(spec, fields_of(kind, OF_ARCHS), "-a")
    return {key: _literal(value) for key, value in spec.options.items()}


def _literal(value: Any) -> Any:
    """Read a number, a truth value, None or a tuple; any other text stays text."""
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value.lower(), value))
    return value


def _facts_of_dataset(name: str) -> Mapping[str, Any]:
    if not registry.is_own("datasets", name):
        return registry.describe("datasets", name).constants
    own = registry.load("datasets", name)
    return {str(key): getattr(own, key) for key in _OF_DATASET if hasattr(own, key)}


def _typed(spec: Spec, known: Mapping[str, tuple[Any, Any]], flag: str) -> dict[str, Any]:
    """Return all options of a plug-in, defaults included, each converted to the type of its field."""
    for key in spec.options:
        require(f"option of {spec.name}", key, known)
    found = {
        key: as_type(f"option {key}", spec.options[key], kind) if key in spec.options else default
        for key, (kind, default) in known.items()
    }
    for key, value in found.items():
        if value is MISSING:
            raise UsageError(f"{spec.name} needs the option {key}: give {flag} {key}=VALUE")
    return found
