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


def panels(history: Logs, epochs: Sequence[int], model: Any, metrics: str | Sequence[str] | None = None) -> list[list]:
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


def figure_of(history: Logs, epochs: Sequence[int], model: Any, metrics: str | Sequence[str] | None = None) -> Any:
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


def text_of(history: Logs, epochs: Sequence[int], model: Any) -> str:
    """`3 epochs; loss 0.31 -> 0.12; val_loss 0.4 -> 0.3, best 0.28 in epoch 2`."""
    found = [curve for group in panels(history, epochs, model) for curve in group]
    count = max(map(len, history.values()), default=0)
    parts = [f"{count} epoch{'' if count == 1 else 's'}"]
    for curve in found:
        ends = dict.fromkeys(f"{curve.values[i]:.4g}" for i in (0, -1))
        best = "" if curve.best is None or count < 2 else f", best {_best(curve)}"
        parts.append(f"{printable(curve.name)} {' -> '.join(ends)}{best}")
    return "; ".join(parts)


def _best(curve: Curve) -> str:
    assert curve.best is not None
    return f"{curve.values[curve.best]:.4g} in epoch {curve.epochs[curve.best]}"


def html_of(history: Logs, epochs: Sequence[int], model: Any) -> str:
    """A table with a line for each name, all escaped."""
    lines = ["<th></th><th>first</th><th>last</th><th>best</th><th></th>"]
    for curve in [curve for group in panels(history, epochs, model) for curve in group]:
        best = "" if curve.best is None else _best(curve)
        ends = [f"{curve.values[i]:.4g}" for i in (0, -1)]
        cells = (html.escape(printable(curve.name)), *ends, best, _spark(curve.values))
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    count = max(map(len, history.values()), default=0)
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>History of {count} epoch{'' if count == 1 else 's'}</caption>{rows}</table>"


def _spark(values: np.ndarray, width: int = 120, height: int = 24) -> str:
    """A curve as small as a line of text."""
    finite = np.isfinite(values)
    if finite.sum() < 2:
        return ""
    low, high = values[finite].min(), values[finite].max()
    across = np.linspace(2, width - 2, len(values))[finite]
    down = height - 2 - (values[finite] - low) / ((high - low) or 1) * (height - 4)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down))
    line = f'<polyline points="{points}" fill="none" stroke="{figures.BLUE}" stroke-width="1.5"/>'
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{line}</svg>'
