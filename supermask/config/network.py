"""Options that a network does not use: an activation that it does not take, norms without parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any

from supermask import registry
from supermask.errors import UsageError

_FROM_TICKET = ("ticket", "within")


def activation_of(config: Any, default: str) -> str | None:
    """Return the activation of a config's network, or None if the network chooses its own.

    Args:
        config: one whose activation may be open.
        default: the recipe's. Configs of earlier versions name it, or what a ticket's recipe had, for every network.

    Raises:
        UsageError: another activation is given to a network that takes none.
    """
    if takes_activation(config.arch):
        return config.activation or default
    inherited = any(getattr(config, field, None) for field in _FROM_TICKET)
    if config.activation not in (None, default) and not inherited:
        raise no_activation(config.arch)
    return None


def no_activation(arch: str) -> UsageError:
    """Return the error for an activation that is given to a network that takes none."""
    return UsageError(f"{arch} has an activation of its own: leave out --activation")


def takes_activation(arch: str) -> bool:
    """Whether a built-in network has a field `activation`, or a user's own one a parameter of that name."""
    registry.check_name("archs", arch)
    if not registry.is_own("archs", arch):
        return "activation" in registry.describe("archs", arch).fields
    own = registry.load("archs", arch)
    if is_dataclass(own) and hasattr(own, "build"):
        return "activation" in own.__dataclass_fields__
    with suppress(TypeError, ValueError):  # no callable, or one without a signature
        # The metaclass of nnx.Module hides the signature of the class.
        return "activation" in inspect.signature(own.__init__ if inspect.isclass(own) else own).parameters
    return False


def check_norms(config: Any, options: Mapping[str, Any]) -> None:
    """Check that the words `norm` and `bias` name something in a built-in network, whose norms alone have biases.

    Args:
        config: a SearchConfig.
        options: all options of its network.

    Raises:
        UsageError: they name nothing.
    """
    if registry.is_own("archs", config.arch) or options.get("norm") == "affine":
        return
    for field in ("train", "maskable", "unmasked"):
        for word in (word.strip() for word in (getattr(config, field) or "").split(",")):
            if word not in ("norm", "bias"):
                continue
            if "norm" not in options:
                raise UsageError(f"--{field} {word}: {config.arch} has neither norms nor biases; leave {word} out")
            raise UsageError(
                f"--{field} {word}: {config.arch} with norm={options['norm']} has no norm parameter; "
                f"give -a norm=affine, or leave {word} out"
            )
