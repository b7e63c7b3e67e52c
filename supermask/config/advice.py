"""Advice in warnings: only what the experiment has an option for."""

from __future__ import annotations

import re
from typing import Any

from supermask.config.forget import USED_BY

ADVICE = re.compile(r"(?P<before>.*)[;:] try (?P<advice>[^;:]*)")


def fitting(text: str, config: Any) -> str:
    """A warning that ends in "try A, B or C", without what this config has no option for.

    Weights that are given, or a ticket's, are not drawn, so neither their distribution nor their scale can be chosen.
    """
    found = ADVICE.fullmatch(text)
    if not found:
        return text
    drawn = getattr(config, "weights", None) is None and getattr(config, "ticket", None) is None
    there = {
        "--density": hasattr(config, "density"),
        "--method": hasattr(config, "method"),
        "a method": hasattr(config, "method"),
        "--allocation": hasattr(config, "method"),
        "--scale-by-density": drawn and hasattr(config, "scale_by_density"),
        "--init": drawn,
    }
    parts = re.split(r", or | or |, ", found["advice"])
    kept = [part for part in parts if all(there[word] for word in there if word in part)]
    if len(kept) == len(parts):
        return text
    keeps = hasattr(config, "keep") and getattr(config, "op", None) in (None, *USED_BY["keep"])
    if keeps and "--density" in found["advice"]:
        kept.append("a higher --keep")
    if not kept:
        return found["before"]
    return f"{found['before']}; try {' or '.join([', '.join(kept[:-1]), kept[-1]] if kept[1:] else kept)}"
