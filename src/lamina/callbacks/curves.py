"""What a history says: which epoch was best, in words, as a figure, and as a table for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lamina.core import checks, figures
from lamina.core.budget import printable

Logs = dict[str, list[Any]]


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


def _curve(history: Logs, epochs: Sequence[int], model: Any, name: str) -> Curve | None:
    """That of a name, `None` where the logs hold something else than numbers. Epochs count from 1, as in the logs."""
    try:
        values = np.asarray(history[name], dtype=float)
    except (TypeError, ValueError):
        return None
    if values.ndim != 1 or not len(values):
        return None
    total = max(map(len, history.values()))
    numbers = [n + 1 for n in epochs] if len(epochs) == total else list(range(1, total + 1))
    step = total // len(values)  # validation may come every other epoch
    numbers = numbers[step - 1 :: step][: len(values)]
    direction = better(model, name)
    known = direction is not None and not np.all(np.isnan(values))
    best = int((np.nanargmax if direction == "max" else np.nanargmin)(values)) if known else None
    return Curve(name, numbers, values, best)


def panels(history: Logs, epochs: Sequence[int], model: Any, metrics: Any = None) -> list[list[Curve]]:
    """The curves, each metric's with that of its validation."""
    names = sorted(history, key=lambda name: name.removeprefix("val_") != "loss") if metrics is None else metrics
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in history:
            known = ", ".join(map(repr, history)) or "nothing: call fit first"
            hint = checks.did_you_mean(str(name), history)
            raise ValueError(f"History: metrics must be names in the logs ({known}), got {name!r}.{hint}")
    groups = [[name, f"val_{name}"] for name in names if name.removeprefix("val_") not in names or name[:4] != "val_"]
    curves = [[_curve(history, epochs, model, name) for name in group if name in history] for group in groups]
    return [found for found in ([c for c in group if c is not None] for group in curves) if found]


def figure_of(history: Logs, epochs: Sequence[int], model: Any, metrics: Any) -> Any:
    """The figure of `History.plot`."""
    groups = panels(history, epochs, model, metrics)
    if not groups:
        raise ValueError("History: plot needs an epoch in the logs, and there is none; call fit first.")
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure = figures.new_figure(4.8 * columns, 3.4 * rows, layout="constrained")
    for group, axes in zip(groups, figure.subplots(rows, columns, squeeze=False).flat):
        _draw(axes, group)
    for axes in figure.axes[len(groups) :]:
        axes.remove()
    return figure


def _draw(axes: Any, group: list[Curve]) -> None:
    last = group[-1]
    for curve in group:
        kind, color = ("training", figures.BLUE)
        if curve.name.startswith("val_"):
            kind, color = ("validation", figures.ORANGE)
        marker = "o" if len(curve.values) <= 20 else None  # one epoch alone is a point, not a line
        axes.plot(curve.epochs, curve.values, color=color, marker=marker, markersize=3, label=kind)
    if last.best is not None:
        place = last.epochs[last.best], last.values[last.best]
        best = f"best: {place[1]:.4g} in epoch {place[0]}"
        axes.plot(*place, "*", color="black", markersize=11, label=best, zorder=3)
    axes.set_title(printable(group[0].name), parse_math=False)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if len(set(last.epochs)) == 1:
        axes.set_xticks(last.epochs[:1])
    axes.grid(alpha=0.3)
    if len(group) > 1 or last.best is not None:
        axes.legend(fontsize="small")


def rows_of(history: Logs, epochs: Sequence[int], model: Any) -> tuple[str, list[tuple[str, ...]]]:
    """How many epochs there are, and for each name: it, its first and last value, and the best one with its epoch."""
    count = max(map(len, history.values()), default=0)
    rows = []
    for curve in [curve for group in panels(history, epochs, model) for curve in group]:
        ends = [f"{curve.values[i]:.4g}" for i in (0, -1)]
        best = "" if curve.best is None else f"{curve.values[curve.best]:.4g} in epoch {curve.epochs[curve.best]}"
        rows.append((printable(curve.name), *ends, best))
    return f"{count} epoch{'' if count == 1 else 's'}", rows


def text_of(history: Logs, epochs: Sequence[int], model: Any) -> str:
    """`3 epochs; loss 0.31 -> 0.12, best 0.12 in epoch 3; val_loss 0.4 -> 0.3, best 0.28 in epoch 2`."""
    title, rows = rows_of(history, epochs, model)
    parts = [f"{name} {first} -> {last}{', best ' if best else ''}{best}" for name, first, last, best in rows]
    return "; ".join([title, *parts])


def html_of(history: Logs, epochs: Sequence[int], model: Any) -> str:
    """A table with a line for each name, all escaped."""
    title, rows = rows_of(history, epochs, model)
    cells = [[f"<td>{html.escape(cell)}</td>" for cell in row] for row in rows]
    lines = ["<th></th><th>first</th><th>last</th><th>best</th>", *map("".join, cells)]
    return f"<table><caption>History of {title}</caption>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
