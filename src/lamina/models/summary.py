"""The table that `model.summary()` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lamina.core import dtypes
from lamina.core.later import Later
from lamina.core.symbolic import Node, calls_of
from lamina.layer import Layer
from lamina.layer.signature import shape_of
from lamina.models.functional import graph_of

if TYPE_CHECKING:
    import rich.console
    import rich.table
    import rich.text
else:
    rich = Later("rich.console", "rich.table", "rich.text")

_BYTES = {"bool": 1}


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Print a table of the model's layers with their output shapes and numbers of weights."""
    if line_length is not None and line_length < 20:
        raise ValueError(f'summary of "{model.name}": line_length must be at least 20, got {line_length}.')
    graph = graph_of(model) is not None and type(model).__name__ != "Sequential"
    table = rich.table.Table(width=line_length, show_lines=True)
    columns = ["Layer (type)", "Output Shape", "Param #"]
    columns += ["Connected to"] if graph else []
    columns += ["Trainable"] if show_trainable else []
    ratios = _ratios(positions, len(columns))
    for column, ratio in zip(columns, ratios):
        table.add_column(column, justify="right" if column == "Param #" else "left", ratio=ratio, overflow="fold")
    for layer, depth in _rows(model, expand_nested, layer_range):
        row = [
            rich.text.Text.assemble(("  " * depth + layer.name, ""), (f" ({type(layer).__name__})", "cyan")),
            rich.text.Text(_shape_text(layer), style="green"),
            rich.text.Text(_count_text(layer), style="yellow"),
        ]
        row += [rich.text.Text("\n".join(_connections(model, layer)), style="")] if graph else []
        row += (
            [rich.text.Text("yes" if layer.trainable else "no")]
            if show_trainable and layer.weights
            else ([rich.text.Text("-")] if show_trainable else [])
        )
        table.add_row(*row)
    lines = [rich.text.Text.assemble("Model: ", (f'"{model.name}"', "bold")), table, *_totals(model)]
    console = rich.console.Console(width=line_length, highlight=False)
    if print_fn is None:
        for line in lines:
            console.print(line)
        return
    with console.capture() as captured:
        for line in lines:
            rich.console.Console.print(console, line, style=None)
    print_fn(rich.text.Text.from_ansi(captured.get()).plain.rstrip("\n"))


def _ratios(positions: Sequence[float] | None, count: int) -> list[int | None]:
    """Column widths from the relative positions at which columns end."""
    if positions is None or len(positions) < count:
        return [None] * count
    scale = 1 if positions[-1] > 1 else 100
    ends = [0, *positions[:count]]
    return [max(1, round((b - a) * scale)) for a, b in zip(ends, ends[1:])]


def _rows(model: Any, expand: bool, layer_range: Sequence[str] | None) -> list[tuple[Layer, int]]:
    layers = list(model.layers)
    if layer_range is not None:
        names = [layer.name for layer in layers]
        missing = [name for name in layer_range if name not in names]
        if missing or len(layer_range) != 2:
            raise ValueError(
                f'summary of "{model.name}": layer_range must be two names of layers, got {list(layer_range)}.'
            )
        first, last = sorted(map(names.index, layer_range))
        layers = layers[first : last + 1]
    rows: list[tuple[Layer, int]] = []

    def add(layer: Layer, depth: int) -> None:
        rows.append((layer, depth))
        inside = getattr(layer, "layers", ()) if expand else ()  # a program's layer may hold anything there
        for child in inside if isinstance(inside, (list, tuple)) else ():
            if isinstance(child, Layer):
                add(child, depth + 1)

    for layer in layers:
        add(layer, 0)
    return rows


def _shape_text(layer: Layer) -> str:
    if calls_of(layer):
        shapes = shape_of(calls_of(layer)[0].output)
    elif layer._build_shapes and layer.built:
        try:
            shapes = layer.compute_output_shape(**{f"{k}_shape": v for k, v in layer._build_shapes.items()})
        except Exception:  # a layer that cannot be inferred still has a row
            return "?"
    else:
        return "?"
    if isinstance(shapes, dict):
        return ", ".join(f"{key}: {shape}" for key, shape in shapes.items())
    return ", ".join(map(str, shapes)) if isinstance(shapes, list) else str(shapes)


def _count_text(layer: Layer) -> str:
    if not layer.built:
        return "0 (unbuilt)"
    return f"{sum(math.prod(v.shape) for v in layer.weights):,}"


def _connections(model: Any, layer: Layer) -> list[str]:
    """The tensors that a layer of the graph is called on, as `name[node][tensor]`."""
    kept = {id(node) for node in graph_of(model).nodes}
    nodes: list[Node] = [node for node in calls_of(layer) if id(node) in kept]
    sources = [t.origin for node in nodes for t in node.inputs if t.origin]
    return [f"{operation.name}[{index}][{tensor}]" for operation, index, tensor in sources] or ["-"]


def _totals(model: Any) -> list[rich.text.Text]:
    def line(label: str, variables: Sequence[Any]) -> rich.text.Text:
        count = sum(math.prod(v.shape) for v in variables)
        size = sum(math.prod(v.shape) * _item_bytes(v.dtype) for v in variables)
        return rich.text.Text.assemble((f" {label}: ", "bold"), (f"{count:,}", "yellow"), f" ({readable_size(size)})")

    optimizer = model.optimizer.variables if getattr(model, "optimizer", None) is not None else []
    lines = [
        line("Total params", [*model.weights, *optimizer]),
        line("Trainable params", model.trainable_weights),
        line("Non-trainable params", model.non_trainable_weights),
    ]
    return [*lines, line("Optimizer params", optimizer)] if optimizer else lines


def _item_bytes(dtype: str) -> int:
    digits = "".join(c for c in dtype.split("_", maxsplit=1)[0] if c.isdigit())
    return _BYTES.get(dtype, max(1, int(digits or 8) // 8))


def readable_size(size: float) -> str:
    """Bytes as `12.30 KB`."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            return f"{size:.2f} {unit}"
        size /= 1024
    raise AssertionError


__all__ = ["dtypes", "print_summary", "readable_size"]
