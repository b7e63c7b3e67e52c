"""Tells the configs of experiments apart by their keys."""

from __future__ import annotations

from typing import Any

from supermask.config import Config, SearchConfig, TrainConfig
from supermask.config.forget import ForgetConfig
from supermask.config.lottery import LotteryConfig


def config_class(values: dict[str, Any]) -> type[Config]:
    """Tell from the values of a config.json which config class they belong to."""
    if "rounds" in values:
        return LotteryConfig
    if "generations" in values:
        return ForgetConfig
    return SearchConfig if "method" in values or "ticket" not in values else TrainConfig
