"""Plain tables for stdout, easy to read and to grep."""

from __future__ import annotations

from typing import Any


def table(rows: list[list[str]], right: set[int] | frozenset[int] = frozenset()) -> str:
    """Format rows as columns, each as wide as its widest cell; columns in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def parameter_table(rows: list[dict[str, Any]]) -> str:
    """Format the rows of `weights.parameters.rows_of`."""
    cells = [["parameter", "shape", "role", "", "values"]]
    for row in rows:
        what = "masked" if row["masked"] else "trained" if row["trained"] else ""
        cells.append([row["name"], "x".join(map(str, row["shape"])) or "1", row["role"], what, row["values"]])
    return table(cells)


def layer_table(layers: list[dict[str, Any]]) -> str:
    """Format the rows of `Ticket.layers`, with their total."""
    kept, total = sum(row["kept"] for row in layers), sum(row["total"] for row in layers)
    whole = {"name": "total", "shape": "", "kept": kept, "total": total, "density": kept / total}
    cells = [["layer", "shape", "kept", "total", "density"]]
    for row in [*layers, whole]:
        shape = "x".join(map(str, row["shape"]))
        cells.append([row["name"], shape, f"{row['kept']:,}", f"{row['total']:,}", f"{row['density']:.4f}"])
    return table(cells, right={2, 3, 4})
