"""What all trackers share."""

from typing import Any


def by_seed(row: dict[str, Any]) -> dict[str, Any]:
    """The values of a row of metrics.jsonl, with the seed in their names: `seed0/loss`."""
    return {f"seed{row['seed']}/{key}": value for key, value in row.items() if key not in ("seed", "epoch")}
