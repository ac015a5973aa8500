"""What a model is made of, a row a layer: the table that `model.summary()` prints, and the one that notebooks show."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from lamina.callbacks.progress import is_interactive_logging_enabled, say
from lamina.core import checks, errors
from lamina.core.budget import printable
from lamina.core.later import rich
from lamina.core.symbolic import Node, Operation, calls_of
from lamina.core.tree import is_shape
from lamina.layer import Layer
from lamina.layer.signature import shape_of
from lamina.layers.core import InputLayer
from lamina.models.functional import graph_of

_SHOWN_OPEN = 40  # rows of a table that a notebook shows without being asked


class Row(NamedTuple):
    """What is said of one layer; `inside` are the rows of the layers that it has."""

    name: str
    kind: str
    shape: str
    count: str
    connected: str
    trainable: str
    inside: list[Row]


@errors.entry
def summary(
    self: Any, line_length: int | None = None, positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None, expand_nested: bool = False, show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Print a table of the model's layers with their output shapes and numbers of weights.

    Args:
        line_length: the number of columns; the terminal's if not given.
        positions: where the columns of the table end, in parts of the line.
        print_fn: is called with the text; the default prints.
        expand_nested: whether models and layers that have layers are followed by these.
        show_trainable: whether there is a column that says which layers train.
        layer_range: names, or regular expressions that their beginnings match, of the first and last layer to show.

    Raises: ValueError if an argument is none of these.
    """
    who = f'summary of "{printable(self.name)}"'
    if line_length is not None:
        checks.integer(who, "line_length", line_length, least=20)
    show = ("trainable",) if show_trainable else ()
    fields = ("shape", "count", *(() if _is_chain(self) else ("connected",)), *show)
    widths = _widths(who, positions, len(fields) + 1, bool(show_trainable))
    rows = _flat(_rows(self, _in_range(who, self, layer_range), expand_nested))
    if print_fn is None and is_interactive_logging_enabled():
        console = rich.console.Console(width=line_length, highlight=False)
        _print(console, self, rows, fields, widths)
        return
    text = io.StringIO()
    plain: dict[str, Any] = {"color_system": None, "force_terminal": False, "force_jupyter": False}
    _print(rich.console.Console(file=text, width=line_length, highlight=False, **plain), self, rows, fields, widths)
    (print_fn or say)(text.getvalue().rstrip("\n"))


_COLUMNS = {
    "shape": ("Output Shape", "left", "green"),
    "count": ("Param #", "right", "yellow"),
    "connected": ("Connected to", "left", ""),
    "trainable": ("Trainable", "center", ""),
}


def _print(console: Any, model: Any, rows: list[tuple[Row, int]], fields: Sequence[str], widths: Sequence[Any]) -> None:
    def text(value: str, style: str = "") -> rich.text.Text:
        encoding = console.encoding  # an ASCII terminal gets names spelt out
        return rich.text.Text(value.encode(encoding, "backslashreplace").decode(encoding), style)

    table = rich.table.Table(width=console.width if any(widths) else None, show_lines=True)
    table.add_column("Layer (type)", ratio=widths[0], overflow="fold")
    for field, ratio in zip(fields, widths[1:]):
        title, justify, style = _COLUMNS[field]
        table.add_column(title, justify=justify, ratio=ratio, style=style, overflow="fold")  # type: ignore[arg-type]
    for row, depth in rows:
        name = text(f"{'  ' * depth}{row.name}") + text(f" ({row.kind})", "cyan")
        table.add_row(name, *[text(getattr(row, field)) for field in fields])
    console.print(rich.text.Text("Model: ") + text(f'"{printable(model.name)}"', "bold"))
    console.print(table)
    for label, count, size in _totals(model):
        numbers = text(f"{count:,}", "yellow") + f" ({readable_size(size)})"
        console.print(rich.text.Text(f" {label}: ", "bold") + numbers)


def _widths(who: str, positions: Sequence[float] | None, count: int, has_trainable: bool) -> list[int | None]:
    """Parts of the line for the columns, from where they end; the last, on what trains, may be left to us."""
    if positions is None:
        return [None] * count
    ends = list(positions)
    if has_trainable and len(ends) == count - 1:
        ends = [end * 0.9 for end in ends] + [ends[-1]]
    steps = [b - a for a, b in zip([0, *ends], ends)]
    if len(ends) != count or min(steps) <= 0:
        raise ValueError(f"{who}: positions must be {count} numbers that rise, got {list(positions)}.")
    return [max(1, round(1000 * step / ends[-1])) for step in steps]


# Rows --------------------------------------------------------------------------------------------------------------


def is_stack(model: Any) -> bool:
    """Whether a model is its layers, one after the other as far as is known, and not the operations of a graph."""
    return graph_of(model) is None or not any(isinstance(layer, InputLayer) for layer in model.layers)


def parts_of(model: Any) -> list[Any]:
    """What a model shows of its inside: the operations of a graph; the layers of others."""
    return list(model.layers if is_stack(model) else model.operations)


def _is_chain(model: Any) -> bool:
    """Whether each layer takes what the one before it gives, so that nothing need be said of that."""
    if is_stack(model):
        return True
    nodes: list[Node] = graph_of(model).nodes
    taken = [(a.outputs, b.inputs) for a, b in zip(nodes, nodes[1:])]
    once = len(nodes) == len(model.operations)
    return once and all(len(a) == len(b) == 1 and a[0] is b[0] for a, b in taken)


def _in_range(who: str, model: Any, layer_range: Sequence[str] | None) -> list[Any]:
    parts = parts_of(model)
    if layer_range is None:
        return parts
    try:
        found = [[i for i, part in enumerate(parts) if re.match(name, part.name)] for name in layer_range]
    except (re.error, TypeError):
        found = []
    known = f"there are {checks.some([printable(part.name) for part in parts])}"
    two = len(found) == 2 and all(found)
    checks.require(two, who, "layer_range must be two names of layers", list(layer_range), known)
    first, last = found if found[0][0] <= found[1][-1] else reversed(found)
    return parts[first[0] : last[-1] + 1]


def _rows(model: Any, parts: Iterable[Any], expand: bool, around: tuple[int, ...] = ()) -> list[Row]:
    calls = calls_in(model)
    rows = []
    for part in parts:
        inside = getattr(part, "layers", ()) if expand and id(part) not in around else ()
        inside = parts_of(part) if hasattr(part, "operations") and inside else inside
        inside = inside if isinstance(inside, (list, tuple)) else ()  # a program's layer may hold anything there
        own = calls.get(id(part), [])
        origins = [] if is_stack(model) else [t.origin for node in own for t in node.inputs if t.origin]
        weights = getattr(part, "weights", ())
        rows.append(
            Row(
                printable(part.name),
                printable(type(part).__name__),
                printable(output_shapes(part, own)),
                f"{sum(math.prod(v.shape) for v in weights):,}" if getattr(part, "built", True) else "0 (unbuilt)",
                "\n".join(f"{printable(o.name)}[{i}][{t}]" for o, i, t in origins) or "-",
                ("Y" if part.trainable else "N") if weights else "-",
                _rows(part, [x for x in inside if isinstance(x, Operation)], expand, (*around, id(part))),
            )
        )
    return rows


def _flat(rows: list[Row], depth: int = 0) -> list[tuple[Row, int]]:
    return [pair for row in rows for pair in ((row, depth), *_flat(row.inside, depth + 1))]


def calls_in(model: Any) -> dict[int, list[Node]]:
    """The calls of each operation in the graph of a model, by the operation's id."""
    graph = graph_of(model)
    calls: dict[int, list[Node]] = {}
    for node in graph.nodes if graph is not None else ():
        calls.setdefault(id(node.operation), []).append(node)
    return calls


def input_shapes(part: Any, calls: Sequence[Node]) -> str:
    """What a layer gets, in words: the different shapes in these calls, or else those that it was built for."""
    return _told([shape_of(node.input) for node in calls] or list(_built_for(part).values()))


def output_shapes(part: Any, calls: Sequence[Node]) -> str:
    """What a layer gives, in words: the different shapes in these calls, or else for what it was built for."""
    shapes = [shape_of(node.output) for node in calls or calls_of(part)[:1]]
    given = {} if shapes else _built_for(part)
    try:
        if given:
            one = len(given) == 1
            shapes = [part.compute_output_shape(*given.values() if one else (), **{} if one else given)]
    except Exception:  # a layer that cannot be inferred still has a row
        shapes = []
    return _told(shapes)


def _built_for(part: Any) -> dict[str, Any]:
    config = (part.get_build_config() or {}) if getattr(part, "built", False) and isinstance(part, Layer) else {}
    return config.get("shapes_dict") or config


def _told(shapes: list[Any]) -> str:
    return ", ".join(dict.fromkeys(map(_shape_text, shapes))) or "?"


def _shape_text(shapes: Any) -> str:
    if is_shape(shapes):
        return str(tuple(shapes))
    if isinstance(shapes, dict):
        return f"{{{', '.join(f'{key}: {_shape_text(shape)}' for key, shape in shapes.items())}}}"
    return f"[{', '.join(map(_shape_text, shapes))}]" if isinstance(shapes, (list, tuple)) else "?"


def _totals(model: Any) -> list[tuple[str, int, float]]:
    """(what, number of values, bytes) for each kind of weights."""
    optimizer = model.optimizer.variables if getattr(model, "optimizer", None) is not None else []
    kinds = {
        "Total params": [*model.weights, *optimizer],
        "Trainable params": model.trainable_weights,
        "Non-trainable params": model.non_trainable_weights,
        **({"Optimizer params": optimizer} if optimizer else {}),
    }
    sizes = {label: [(math.prod(v.shape), _item_bytes(v.dtype)) for v in kind] for label, kind in kinds.items()}
    return [(label, sum(n for n, _ in of), sum(n * size for n, size in of)) for label, of in sizes.items()]


def _item_bytes(dtype: str) -> float:
    digits = "".join(c for c in dtype.split("_", maxsplit=1)[0] if c.isdigit())
    return int(digits or 8) / 8  # without digits: bool


def readable_size(size: float) -> str:
    """Bytes as `12.30 KB`."""
    unit = min(int(math.log(size, 1024)), 4) if size >= 1 else 0
    return f"{size / 1024**unit:.2f} {('B', 'KB', 'MB', 'GB', 'TB')[unit]}"


# Notebooks ---------------------------------------------------------------------------------------------------------


def html_summary(model: Any) -> str:
    """The table for a notebook. Names may come from a stranger's file: all are escaped, and nothing in it runs."""
    rows = _rows(model, parts_of(model), expand=True)
    fields = ("shape", "count", *(() if _is_chain(model) else ("connected",)), "trainable")
    totals = [f"{label}: {count:,} ({readable_size(size)})" for label, count, size in _totals(model)]
    title = f'Model "{html.escape(printable(model.name))}" ({html.escape(printable(type(model).__name__))})'
    opened = " open" if len(_flat(rows)) <= _SHOWN_OPEN else ""
    return (
        f"<details{opened}><summary>{title}, {totals[0]}</summary>{_html_table(rows, fields)}"
        f"<div>{'<br>'.join(totals)}</div></details>"
    )


def _html_table(rows: list[Row], fields: Sequence[str]) -> str:
    def cell(tag: str, text: str, style: str = "left") -> str:
        return f'<{tag} style="text-align:{style};vertical-align:top">{text}</{tag}>'

    def line(row: Row) -> str:
        name = f"{html.escape(row.name)} (<i>{html.escape(row.kind)}</i>)"
        if row.inside:
            name = f"<details><summary>{name}</summary>{_html_table(row.inside, fields)}</details>"
        texts = [(html.escape(getattr(row, field)).replace("\n", "<br>"), _COLUMNS[field][1]) for field in fields]
        return cell("td", name) + "".join(cell("td", *text) for text in texts)

    head = cell("th", "Layer (type)") + "".join(cell("th", *_COLUMNS[field][:2]) for field in fields)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line(row)}</tr>' for row in rows)}</table>"
