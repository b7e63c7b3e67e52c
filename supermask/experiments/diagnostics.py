"""What masking has to do with training, by the weights before and after it (Zhou et al. 2019, section 5). NumPy only.

All functions take trees of the masked parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from supermask.types import Tree

BINS = 41


def moving_to_zero(initial: Tree, final: Tree, mask: Tree) -> tuple[float | None, float]:
    """Share of weights that training brought nearer to zero: among the pruned ones (None without any), among all."""
    nearer = {name: np.abs(final[name]) < np.abs(initial[name]) for name in mask}
    pruned = np.concatenate([nearer[name][~mask[name]] for name in mask])
    everywhere = np.concatenate([array.ravel() for array in nearer.values()])
    return float(pruned.mean()) if pruned.size else None, float(everywhere.mean())


def alignment(initial: Tree, final: Tree, mask: Tree) -> float | None:
    """Cosine between the step that masking makes from the initial weights and the step that training made.

    None if either step is zero.
    """
    masking = np.concatenate([np.where(mask[name], 0, -initial[name]).ravel() for name in mask]).astype(np.float64)
    training = np.concatenate([(final[name] - initial[name]).ravel() for name in mask]).astype(np.float64)
    lengths = np.linalg.norm(masking) * np.linalg.norm(training)
    return float(masking @ training / lengths) if lengths else None


def of_layers(initial: Tree, final: Tree) -> list[dict[str, Any]]:
    """One row per layer: name, share of weights whose sign changed, joint histogram of both values.

    The histogram has BINS x BINS equal bins from -`limit` to `limit`, initial values first; `limit` is the largest
    magnitude of the layer, before or after training.
    """
    rows = []
    for name in initial:
        before, after = initial[name].ravel(), final[name].ravel()
        limit = float(max(np.abs(before).max(), np.abs(after).max())) or 1.0
        counts, _, _ = np.histogram2d(before, after, BINS, [[-limit, limit]] * 2)
        flips = float((np.sign(before) != np.sign(after)).mean())
        rows.append({"layer": name, "sign_flips": flips, "limit": limit, "histogram": counts.astype(int).tolist()})
    return rows
