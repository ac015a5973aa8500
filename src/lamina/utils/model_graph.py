"""A model as boxes, edges and frames, and these in the DOT language."""

import html
from typing import Any, NamedTuple

from lamina.core import figures
from lamina.core.budget import printable
from lamina.layer import Layer
from lamina.layer.parts import look
from lamina.models import Model, Sequential
from lamina.models.functional import graph_of
from lamina.models.summary import calls_in, input_shapes, output_shapes, parts_of

TITLE, EDGE, TRAINABLE, FROZEN = "#2B3A55", figures.GRAY, figures.BLUE, figures.ORANGE


class Box(NamedTuple):
    """A layer: the title and its color, what is said below it, and the keys of the frames around it."""

    title: str
    fill: str
    lines: list[str]
    around: tuple[str, ...]


class Graph:
    """The boxes of a model by key, the edges between them, and the titles of frames by key.

    A model whose `call` is its own is a tree of its layers: what follows what is not known.

    Args:
        model: the model.
        show: what boxes say: any of "shapes", "dtype", "layer_names", "layer_activations", "trainable".
        expand: whether models inside are frames.
    """

    def __init__(self, model: Any, show: set[str], expand: bool):
        self.boxes: dict[str, Box] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.frames: dict[str, str] = {}
        self._show, self._expand = show, expand
        self.is_tree = not _has_order(model)
        if self.is_tree:
            self._add_tree(model, ())
        else:
            self._add_inside(model, ())

    def _add_inside(self, model: Any, around: tuple[str, ...]) -> None:
        calls, parts = calls_in(model), parts_of(model)
        for part in parts:
            if self._opens(part):
                self.frames.setdefault(_key(part), printable(part.name))
                self._add_inside(part, (*around, _key(part)))
            else:
                self.boxes.setdefault(_key(part), self._box(part, calls.get(id(part), []), around))
        ways = [(a, 0, b, 0) for a, b in zip(parts, parts[1:])]
        if not isinstance(model, Sequential):
            pairs = [(node, i, t) for node in graph_of(model).nodes for i, t in enumerate(node.inputs)]
            ways = [(t.origin[0], t.origin[2], node.operation, i) for node, i, t in pairs]
        for source, out, target, place in ways:
            while self._opens(source):
                source, _, out = source.outputs[out].origin
            while self._opens(target):
                stack = isinstance(target, Sequential)
                target = target.layers[0] if stack else target.inputs[min(place, len(target.inputs) - 1)].origin[0]
            self.edges.setdefault((_key(source), _key(target)))

    def _add_tree(self, part: Any, above: tuple[Any, ...]) -> None:
        self.boxes.setdefault(_key(part), self._box(part, [], ()))
        for child in look(part).layers if not above or self._expand else ():
            if child not in above:
                self._add_tree(child, (*above, part))
                self.edges.setdefault((_key(part), _key(child)))

    def _opens(self, part: Any) -> bool:
        """Whether a part is a frame."""
        return self._expand and isinstance(part, Model) and _has_order(part) and part.outputs is not None

    def _box(self, part: Any, calls: list[Any], around: tuple[str, ...]) -> Box:
        name, show, lines, fill = type(part).__name__, self._show, [], TITLE
        activation = getattr(part, "activation", None)
        if "layer_activations" in show and activation is not None:
            name_of_it = getattr(activation, "name", None) or getattr(activation, "__name__", type(activation).__name__)
            lines.append(f"Activation: {name_of_it}")
        if "shapes" in show and name != "InputLayer":
            lines.append(f"Input shape: {input_shapes(part, calls)}")
        if "shapes" in show:
            lines.append(f"Output shape: {output_shapes(part, calls)}")
        if "dtype" in show:
            dtypes = dict.fromkeys(str(t.dtype) for node in calls for t in node.outputs)
            lines.append(f"Output dtype: {', '.join(dtypes) or getattr(part, 'compute_dtype', '?')}")
        if "trainable" in show and isinstance(part, Layer) and part.weights:
            fill, line = (TRAINABLE, "Trainable") if part.trainable else (FROZEN, "Non-trainable")
            lines.append(line)
        title = f"{part.name} ({name})" if "layer_names" in show else name
        return Box(printable(title), fill, list(map(printable, lines)), around)


def _key(part: Any) -> str:
    return str(id(part))  # as in Keras: programs look nodes up by it


def _has_order(model: Any) -> bool:
    return isinstance(model, Sequential) or graph_of(model) is not None


def dot_text(graph: Graph, name: str, subgraph: bool, **settings: Any) -> str:
    """The DOT text of a graph; with `subgraph`, of one with all in one more frame."""

    def inside(around: tuple[str, ...]) -> str:
        nodes = [f"{key} [label={_label(box)}];" for key, box in graph.boxes.items() if box.around == around]
        deeper = dict.fromkeys(box.around[: len(around) + 1] for box in graph.boxes.values())
        frames = [each for each in deeper if len(each) > len(around) and each[:-1] == around]
        return "\n".join([*nodes, *(frame(graph.frames[each[-1]], each[-1], inside(each)) for each in frames)])

    def frame(title: str, key: str, body: str) -> str:
        look = f'label=<{html.escape(title)}>; labeljust="l"; style="dashed"; fontname="Helvetica";'
        return f"subgraph cluster_{key} {{\n{look}\n{body}\n}}"

    edges = "\n".join(f"{a} -> {b};" for a, b in graph.edges)
    body = f"{inside(())}\n{edges}"
    if subgraph:
        body = frame(printable(name), "model", body)
    head = "\n".join(f'{key}="{value}";' for key, value in settings.items())
    arrows = f'edge [color="{EDGE}"{", dir=none" if graph.is_tree else ""}];'
    return f'digraph G {{\n{head}\nnode [shape="plain", fontname="Helvetica"];\n{arrows}\n{body}\n}}\n'


def _label(box: Box) -> str:
    """A table in Graphviz's own kind of HTML, escaped."""
    cells = [f'<td bgcolor="{box.fill}"><font color="white"><b>{html.escape(box.title)}</b></font></td>']
    cells += [f"<td>{html.escape(line)}</td>" for line in box.lines]
    rows = "".join(f"<tr>{cell}</tr>" for cell in cells)
    return f'<<table border="0" cellborder="1" cellspacing="0" cellpadding="6">{rows}</table>>'
