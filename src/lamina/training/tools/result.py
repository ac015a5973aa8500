"""What the tools give back: numbers as attributes, a table as text, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lamina.callbacks.progress import Progbar, is_interactive_logging_enabled
from lamina.core.later import Later

if TYPE_CHECKING:
    import matplotlib.pyplot
    import rich.box
    import rich.console
    import rich.table
else:
    rich = Later("rich.box", "rich.console", "rich.table")
    matplotlib = Later("matplotlib.pyplot", install="lamina[plot]")


class Table(NamedTuple):
    """A title, the heads of columns, rows of texts, and lines below."""

    title: str
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    below: Sequence[str] = ()


class Drawing(NamedTuple):
    """Curves `{label: (x, y)}`, or rows of bars behind each other `{label: lengths}` with names; a place marked."""

    x: str
    y: str = ""
    curves: Mapping[str, tuple[Any, Any]] = {}
    bars: Mapping[str, Sequence[float]] = {}
    names: Sequence[str] = ()
    marked: float | None = None
    scales: tuple[str, str] = ("linear", "linear")
    bounds: tuple[float, float] | None = None  # of y


@dataclass(frozen=True, repr=False)
class Result:
    """Base of results: `_table` says what their text shows, and `_drawing` their picture."""

    def _table(self) -> Table:
        raise NotImplementedError

    def _drawing(self) -> Drawing:
        raise NotImplementedError

    def __repr__(self) -> str:
        title, heads, rows, below = self._table()
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for i, head in enumerate(heads):
            table.add_column(head, justify="right" if i else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console = rich.console.Console(width=110, color_system=None, highlight=False, markup=False)
        with console.capture() as captured:
            console.print(table)
        lines = [line.rstrip() for line in captured.get().splitlines()]
        return "\n".join([title, *(line for line in lines if line), *below])

    def plot(self, ax: Any = None) -> Any:
        """Draw it with matplotlib on `ax`, or on axes of its own, and return the axes."""
        drawn = self._drawing()
        if ax is None:
            height = max(3.5, 1 + 0.22 * len(drawn.names))
            ax = matplotlib.pyplot.subplots(layout="constrained", figsize=(7, height))[1]
        for label, (x, y) in drawn.curves.items():
            ax.plot(x, y, label=label, marker="." if len(x) < 20 else "")
        places, done = np.arange(len(drawn.names)), np.zeros(len(drawn.names))
        for label, lengths in drawn.bars.items():
            ax.barh(places, lengths, left=done, label=label)
            done = done + np.asarray(lengths)
        if drawn.names:
            ax.set_yticks(places, drawn.names)
            ax.invert_yaxis()
        if drawn.marked is not None:
            ax.axvline(drawn.marked, color="C3", linestyle="--", label=f"suggested: {drawn.marked:.3g}")
        ax.set(title=self._table().title, xlabel=drawn.x, ylabel=drawn.y, xscale=drawn.scales[0], yscale=drawn.scales[1])
        ax.set_ylim(drawn.bounds)
        ax.legend()
        return ax


def quantity(value: float | None, unit: str = "") -> str:
    """A number of a unit, in about three digits: `1.23 ms`, `45.6 MB`."""
    if value is None or not math.isfinite(value):
        return "?" if value is None else str(value)
    if unit == "s" and abs(value) >= 120:
        return f"{value / 3600:.1f} h" if abs(value) >= 7200 else f"{value / 60:.1f} min"
    large = [] if unit == "s" else [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
    small = [(1, ""), (1e-3, "m"), (1e-6, "µ")] if unit == "s" else [(1, "")]
    scale, prefix = next((pair for pair in [*large, *small] if abs(value) >= pair[0]), small[-1])
    digits = max(0, 3 - len(str(int(abs(value / scale))))) if scale != 1 or unit == "s" else 0
    return f"{value / scale:.{digits}f} {prefix}{unit}".rstrip()


def progress(target: int | None, verbose: Any, unit: str = "step") -> Progbar:
    """The library's bar; `"auto"` draws it where progress goes to stdout."""
    shown = int(is_interactive_logging_enabled()) if verbose == "auto" else int(verbose)
    return Progbar(target, verbose=shown, unit_name=unit, stateless_metrics=())
