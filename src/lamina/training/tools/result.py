"""What the tools give back: numbers as attributes, a table as text, and a picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lamina.callbacks.progress import Progbar, is_interactive_logging_enabled
from lamina.core import figures
from lamina.core.later import rich


class Table(NamedTuple):
    """A title, the heads of columns, rows of texts, and lines below."""

    title: str
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    below: Sequence[str] = ()


class Drawing(NamedTuple):
    """Curves `{label: (x, y)}`, or bars with names, one behind the other `{label: lengths}`; a place marked."""

    x: str
    y: str = ""
    curves: Mapping[str, tuple[Any, Any]] = {}
    bars: Mapping[str, Sequence[float]] = {}
    names: Sequence[str] = ()
    marked: float | None = None
    scales: tuple[str, str] = ("linear", "linear")
    bounds: tuple[float, float] | None = None  # of y


@dataclass(frozen=True, repr=False, eq=False)
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
            table.add_column(head, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
        for row in rows:
            table.add_row(*row)
        console = rich.console.Console(width=140, color_system=None, highlight=False, markup=False)
        with console.capture() as captured:
            console.print(table)
        lines = [line.rstrip() for line in captured.get().splitlines()]
        return "\n".join([title, *(line for line in lines if line), *below])

    def plot(self, ax: Any = None) -> Any:
        """Draw it with matplotlib on `ax`, or on axes of its own, and return the axes."""
        drawn, names = self._drawing(), list(self._drawing().names)
        if ax is None:
            size = (7, max(3.5, 1 + 0.25 * len(names)))
            ax = figures.screen.pyplot.subplots(layout="constrained", figsize=size)[1]
        ax.set(title=self._table().title, xlabel=drawn.x, ylabel=drawn.y, xscale=drawn.scales[0])
        ax.set(yscale=drawn.scales[1], **({} if drawn.bounds is None else {"ylim": drawn.bounds}))
        for label, (x, y) in drawn.curves.items():
            ax.plot(x, y, label=label, marker="." if len(x) < 20 else "")
            if len(x) < 20:
                ax.minorticks_off()
                ax.set_xticks(x, x)
        places, done = np.arange(len(names)), np.zeros(len(names))
        for label, lengths in drawn.bars.items():
            ax.barh(places, lengths, left=done, label=label)
            done = done + np.asarray(lengths)
        if names:
            ax.set_yticks(places, names)
            ax.invert_yaxis()
        if drawn.marked is not None:
            ax.axvline(drawn.marked, color="C3", linestyle="--", label=f"suggested: {drawn.marked:.3g}")
        ax.legend()
        return ax


def quantity(value: float | None, unit: str = "") -> str:
    """A number of a unit, in about three digits: `1.23 ms`, `45.6 MB`."""
    if value is None or not math.isfinite(value):
        return "?" if value is None else str(value)
    size, small = abs(value), unit == "s"
    if small and size >= 120:
        return f"{value / 3600:.1f} h" if size >= 7200 else f"{value / 60:.1f} min"
    scales = (
        [(1, ""), (1e-3, "m"), (1e-6, "µ")] if small else [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
    )
    scale, prefix = next((pair for pair in scales if size >= pair[0]), scales[-1])
    digits = max(0, 3 - len(str(int(size / scale)))) if (scale != 1 or small) and value else 0
    return f"{value / scale:.{digits}f} {prefix if value else ''}{unit}".rstrip()


def progress(target: int | None, verbose: Any, unit: str = "step") -> Progbar:
    """The library's bar; `"auto"` draws it where progress goes to stdout."""
    shown = int(is_interactive_logging_enabled()) if verbose == "auto" else int(verbose)
    return Progbar(target, verbose=shown, unit_name=unit, stateless_metrics=())
