"""What a history says: which epoch was best, in words, as a figure, and as a table for notebooks."""

import html
from typing import Any, NamedTuple

import numpy as np

from lamina.core import checks, figures
from lamina.core.budget import printable


def better(model: Any, name: str) -> str | None:
    """Whether the "max" or the "min" of a logged value is best, as its metric says; losses fall."""
    find, bare = getattr(model, "metric_in_logs", {}.get), name.removeprefix("val_")
    for each in (name, bare):
        direction = getattr(find(each), "direction", None)
        if direction in ("max", "min"):  # a class of a program may mean something else by the word
            return direction
    return "min" if bare == "loss" or bare.endswith("_loss") else None


class Curve(NamedTuple):
    """The numbers of one name in the logs, the epochs that they belong to, and the place of the best one."""

    name: str
    epochs: list[int]
    values: np.ndarray
    best: int | None

    @property
    def best_text(self) -> str:
        """`0.28 in epoch 2`, or nothing."""
        return "" if self.best is None else f"{self.values[self.best]:.4g} in epoch {self.epochs[self.best]}"


def _curve(history: Any, name: str) -> Curve | None:
    """That of a name, `None` where the logs hold something else than numbers. Epochs count from 1."""
    try:
        values = np.asarray(history.history[name], dtype=float)
    except (TypeError, ValueError):
        return None
    if values.ndim != 1 or not len(values):
        return None
    numbers = [epoch + 1 for epoch in history.logged_in.get(name, ())]
    if len(numbers) != len(values) or numbers != sorted(set(numbers)):  # of several fits, or not from a fit
        step = max(map(len, history.history.values())) // len(values)
        numbers = [step * (i + 1) for i in range(len(values))]
    direction = better(history.model, name)
    known = direction is not None and not np.all(np.isnan(values))
    best = int((np.nanargmax if direction == "max" else np.nanargmin)(values)) if known else None
    return Curve(name, numbers, values, best)


def panels(history: Any, metrics: Any = None) -> list[list[Curve]]:
    """The curves, each metric's with that of its validation."""
    logs = history.history
    names = sorted(logs, key=lambda name: name.removeprefix("val_") != "loss") if metrics is None else metrics
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in logs:
            known = ", ".join(map(repr, logs)) or "nothing: call fit first"
            hint = checks.did_you_mean(str(name), logs)
            raise ValueError(f"History: metrics must be names in the logs ({known}), got {name!r}.{hint}")
    groups = [[name, f"val_{name}"] for name in names if name[:4] != "val_" or name[4:] not in names]
    curves = [[_curve(history, name) for name in group if name in logs] for group in groups]
    return [found for found in ([c for c in group if c is not None] for group in curves) if found]


def figure_of(history: Any, metrics: Any) -> Any:
    """The figure of `History.plot`."""
    groups = panels(history, metrics)
    if not groups:
        raise ValueError("History: plot needs an epoch in the logs, and there is none; call fit first.")
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure = figures.new_figure(4.8 * columns, 3.4 * rows, layout="constrained")
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if i < len(groups):
            _draw(axes, groups[i])
        else:
            axes.remove()
    return figure


def _draw(axes: Any, group: list[Curve]) -> None:
    last = group[-1]
    for curve in group:
        validates = curve.name.startswith("val_")
        style = {"color": figures.ORANGE, "label": "validation"} if validates else {"color": figures.BLUE}
        marker = "o" if len(curve.values) <= 20 else None  # one epoch alone is a point, not a line
        axes.plot(curve.epochs, curve.values, marker=marker, markersize=3, **{"label": "training", **style})
    if last.best is not None:
        place = last.epochs[last.best], last.values[last.best]
        axes.plot(*place, "*", color="black", markersize=11, label=f"best: {last.best_text}", zorder=3)
    axes.set_title(printable(group[0].name), parse_math=False)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if len(last.epochs) == 1:
        axes.set_xticks(last.epochs)
    axes.grid(alpha=0.3)
    if len(group) > 1 or last.best is not None:
        axes.legend(fontsize="small")


def _rows(history: Any) -> tuple[str, list[tuple[str, ...]]]:
    """How many epochs there are, and for each name: it, its first and last value, and the best one with its epoch."""
    count = max(map(len, history.history.values()), default=0)
    curves = [curve for group in panels(history) for curve in group]
    rows = [(printable(c.name), f"{c.values[0]:.4g}", f"{c.values[-1]:.4g}", c.best_text) for c in curves]
    return f"{count} epoch{'' if count == 1 else 's'}", rows


def text_of(history: Any) -> str:
    """`3 epochs; loss 0.31 -> 0.12, best 0.12 in epoch 3; val_loss 0.4 -> 0.3, best 0.28 in epoch 2`."""
    title, rows = _rows(history)
    parts = [f"{name} {first} -> {last}{', best ' if best else ''}{best}" for name, first, last, best in rows]
    return "; ".join([title, *parts])


def html_of(history: Any) -> str:
    """A table with a line for each name, all escaped."""
    title, rows = _rows(history)
    cells = [[f"<td>{html.escape(cell)}</td>" for cell in row] for row in rows]
    lines = ["<th></th><th>first</th><th>last</th><th>best</th>", *map("".join, cells)]
    return f"<table><caption>History of {title}</caption>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
