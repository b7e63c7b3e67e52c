"""The line of the live bar, fitted to the terminal's width. It imports rich, so only the bar imports this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

GAP = "  "
BAR = (10, 40)
"""The bar takes the free columns, up to 40. Numbers are dropped before it gets fewer than 10."""
CONCESSIONS = ("rate", "density", "epoch", "seed", "loss", "rate", "val", "epoch", "val")
"""What is shortened as the terminal gets narrower, first to last; each entry switches to its next shorter form."""

SHORT = {"images": "img", "sequences": "seq"}


def forms(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the texts for each number on the line, in order: from the fullest form to "".

    Args:
        values: seed, epoch, epochs and loss; also val_accuracy, density and images_per_second once an epoch is done.
    """
    epoch = f"{values['epoch']}/{values['epochs']}"
    found = {
        "seed": [f"seed {values['seed']}"],
        "epoch": [f"epoch {epoch}", epoch],
        "loss": [f"loss {values['loss']:.4f}"],
    }
    if "val_accuracy" in values:
        rate, noun = values["images_per_second"], values.get("noun", "images")
        found["val"] = [f"val {values['val_accuracy']:.4f}", f"val {values['val_accuracy']:.2f}"]
        found["density"] = [f"density {values['density']:.3f}"]
        found["rate"] = [f"{rate:,.0f} {noun}/s", f"{_short(rate)} {SHORT[noun]}/s"]
    return {name: [*texts, ""] for name, texts in found.items()}


def fit(values: Mapping[str, Any], columns: int) -> list[str]:
    """Return the texts to show, at most `columns` wide including the gaps between them; [] if none fits.

    Args:
        values: see `forms`.
        columns: the columns that the bar, the time left and their gaps leave free.
    """
    found = forms(values)
    for name in ("", *CONCESSIONS):
        if name in found:
            del found[name][0]
        texts = [left[0] for left in found.values() if left[0]]
        if len(GAP.join(texts)) <= columns:
            return texts
    return []


class Line(ProgressColumn):
    """Shows seed, bar, epoch, loss, validation accuracy, density, images/s and the time left, on a line of any width.

    The task's fields are the values that `forms` takes.
    """

    def render(self, task: Task) -> _Fitted:
        return _Fitted(task)


class _Fitted:
    """Reads the width each time it is drawn, so it adapts when the terminal is resized."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left = TimeRemainingColumn().render(self._task)
        free = options.max_width - len(left) - len(GAP)
        texts = fit(self._task.fields, free - BAR[0] - len(GAP))
        bar = max(0, min(BAR[1], free - sum(len(text) + len(GAP) for text in texts)))
        seed = [texts.pop(0)] if texts and texts[0].startswith("seed") else []
        parts = [*(Text(text, "bold") for text in seed), self._bar(bar, options.ascii_only), *map(Text, texts), left]
        line = Text(GAP, no_wrap=True, overflow="crop").join(part for part in parts if part)
        line.no_wrap, line.overflow = True, "crop"
        yield line

    def _bar(self, width: int, ascii_only: bool) -> Text:
        """Draw the bar. The done part also differs in shape from the rest, for terminals without colour."""
        done, rest = ("=", "-") if ascii_only else ("━", "─")
        count = int(width * self._task.percentage / 100)
        style = "bar.finished" if self._task.finished else "bar.complete"
        return Text.assemble((done * count, style), (rest * (width - count), "bar.back"))


def _short(number: float) -> str:
    """Shorten a number: 1234 becomes 1.2k."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{0 if number >= 10 * size else 1}f}{unit}"
    return f"{number:.0f}"
