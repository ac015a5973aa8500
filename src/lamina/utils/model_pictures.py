"""`plot_model` and `model_to_dot`, and the drawing that they make where Graphviz is not installed."""

import importlib.util
import os
import re
import shutil
import subprocess
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lamina.core import checks, figures
from lamina.core.figures import matplotlib
from lamina.core.files import write_whole
from lamina.core.later import Later
from lamina.models import Model
from lamina.utils.layout import arrange
from lamina.utils.model_graph import EDGE, Box, Graph, dot_text

if TYPE_CHECKING:
    import pydot
else:
    pydot = Later("pydot", install="pydot")

_FONT, _LINE, _PAD, _ARROW, _MARGIN = 10.0, 14.0, 7.0, 6.0, 10.0  # points
_FOLD = 44  # characters of a line in a box
_MOST_PIXELS = 30_000  # of a side, which programs that show images still take


class Picture:
    """An image that a notebook shows: `data` are the bytes of a file of `format`."""

    def __init__(self, data: bytes, file_format: str):
        self.data, self.format = data, file_format

    def _repr_png_(self) -> bytes | None:
        return self.data if self.format == "png" else None

    def _repr_svg_(self) -> str | None:
        return self.data.decode() if self.format == "svg" else None


class Drawn:
    """A graph that makes files: with Graphviz where its program is there, else of a drawing of our own."""

    to_string: Callable[[], str]
    draw: Callable[[str], bytes]

    def create(self, prog: Any = None, format: str = "ps", encoding: str | None = None) -> bytes:
        """The bytes of an image in a format such as "png"; `prog` is Graphviz's program, or a list with arguments."""
        command = [prog] if isinstance(prog, str) else list(prog or ["dot"])
        text = self.to_string().encode(encoding or "utf-8")
        if format in ("raw", "dot", "gv"):
            return text
        if shutil.which(command[0]) is None:
            return self.draw(format)
        done = subprocess.run([*command, f"-T{format}"], input=text, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]} could not draw the model: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def write(self, path: Any, prog: Any = None, format: str = "raw", encoding: str | None = None) -> bool:
        """Write a file, all or nothing: the DOT text, or an image in a format such as "png"."""
        write_whole(path, self.create(prog, format, encoding))
        return True

    def _repr_svg_(self) -> str:
        return self.create(format="svg").decode()


class Dot(Drawn):
    """What `model_to_dot` gives where pydot is not installed; `create_png`, `write_svg` and the like work too."""

    def __init__(self, text: str, draw: Callable[[str], bytes]):
        self.to_string, self.draw = lambda: text, draw

    def __getattr__(self, name: str) -> Any:
        verb, _, file_format = name.partition("_")
        if verb == "create" and file_format:
            return lambda prog=None, encoding=None: self.create(prog, file_format, encoding)
        if verb == "write" and file_format:
            return lambda path, prog=None, encoding=None: self.write(path, prog, file_format, encoding)
        raise AttributeError(f"A graph has no {name!r} without pydot; pip install pydot.")


def model_to_dot(
    model: Any, show_shapes: bool = False, show_dtype: bool = False, show_layer_names: bool = True,
    rankdir: str = "TB", expand_nested: bool = False, dpi: int = 200, subgraph: bool = False,
    show_layer_activations: bool = False, show_trainable: bool = False, splines: str = "ortho", **kwargs: Any,
) -> Any:  # fmt: skip
    """The graph of a model in the DOT language; of a model whose `call` is its own, the tree of its layers.

    Args:
        model: the model, built.
        show_shapes, show_dtype: whether boxes say the shapes and dtypes that go in and out.
        show_layer_names: whether they say the names of layers beside their classes.
        rankdir: "TB" from the top down, "LR" from the left to the right; "BT" and "RL" are for Graphviz.
        expand_nested: whether models inside are frames with their layers.
        dpi: dots an inch, of images.
        subgraph: whether the result is a cluster, to be put into another graph.
        show_layer_activations, show_trainable: whether boxes name the activation, and say if the layer trains.
        splines: how Graphviz draws edges: "ortho", "curved", "polyline", "spline" or "line".

    Returns:
        A `pydot.Dot` or `pydot.Cluster`; where pydot is not installed, an object with `to_string`, `create` and
        `write`. Without the programs of Graphviz images are drawings of our own.

    Raises: ValueError if the model is not built or an argument is outside its domain.
    """
    dot = _dot("model_to_dot", SimpleNamespace(**locals()))
    if importlib.util.find_spec("pydot") is None:
        return dot
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between versions of pydot and of what it parses with
        parsed: Any = pydot.graph_from_dot_data(dot.to_string())[0]  # type: ignore[index]
    parsed = parsed.get_subgraphs()[0] if subgraph else parsed
    drawn = type("Dot", (Drawn, pydot.Dot), {"draw": staticmethod(dot.draw)})
    parsed.__class__ = pydot.Cluster if subgraph else drawn
    return parsed


def plot_model(
    model: Any, to_file: Any = "model.png", show_shapes: bool = False, show_dtype: bool = False,
    show_layer_names: bool = False, rankdir: str = "TB", expand_nested: bool = False, dpi: int = 200,
    show_layer_activations: bool = False, show_trainable: bool = False, splines: str = "ortho", **kwargs: Any,
) -> Any:  # fmt: skip
    """Draw a model as an image: with Graphviz, if it is installed, else with a drawing of our own.

    Args:
        model: the model, built.
        to_file: the file to write, PNG if its name has no ending; `None` for none.
        show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, dpi, splines: as in `model_to_dot`.
        show_layer_activations, show_trainable: as in `model_to_dot`.

    Returns:
        The picture, which a notebook shows.

    Raises: ValueError if the model is not built or an argument is outside its domain.
    """
    dot = _dot("plot_model", SimpleNamespace(**locals(), subgraph=False))
    path = None if to_file is None else checks.path("plot_model", "to_file", to_file)
    file_format = os.path.splitext(path or "")[1][1:].lower() or "png"
    picture = Picture(dot.create(format=file_format), file_format)
    if path is not None:
        write_whole(path, picture.data)
    return picture


def _dot(who: str, asked: Any) -> Dot:
    """The graph that `who` was asked for, with these arguments."""
    model, unknown, dpi = asked.model, asked.kwargs, asked.dpi
    names = ("shapes", "dtype", "layer_names", "layer_activations", "trainable")
    if unknown.pop("layer_range", None) is not None:
        raise ValueError(f"{who}: layer_range must not be given; plot a model of these layers instead.")
    if unknown:
        raise checks.unknown_arguments(who, unknown, ["rankdir", "dpi", *(f"show_{name}" for name in names)])
    if not isinstance(model, Model):
        raise TypeError(f"{who}: model must be a model, got {type(model).__name__}; put layers into a Sequential.")
    if not model.built:
        raise ValueError(f'{who}: the model "{model.name}" must be built; call model.build(shape) or it on data first.')
    rankdir = checks.one_of(who, "rankdir", asked.rankdir, ("TB", "LR", "BT", "RL"))
    graph = Graph(model, {name for name in names if getattr(asked, f"show_{name}")}, bool(asked.expand_nested))
    resolution = {"dpi": checks.positive(who, "dpi", dpi), "splines": asked.splines}
    text = dot_text(graph, model.name, asked.subgraph, rankdir=rankdir, concentrate="true", **resolution)
    return Dot(text, lambda kind: _draw(graph, rankdir in ("TB", "BT"), dpi, kind))


# The drawing, in points from the top left. ---------------------------------------------------------------------------


def _lines(text: str) -> list[str]:
    whole = re.sub(r"(?<!\)), ", ",\u00a0", text)  # lines do not end within a shape
    return textwrap.wrap(whole, _FOLD, break_on_hyphens=False) or [""]


def _advance(character: str) -> float:
    """The width of a character in parts of the font's size, rather too much than too little."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in "iljftrI.,:;'|!()[] \u00a0":
        return 0.4
    return 1.0 if character in "mwMW@%" else 0.77 if character.isupper() else 0.64


def text_size(text: str, bold: bool = False) -> tuple[float, float]:
    """The room that a text in its lines takes, in points."""
    widths = [sum(map(_advance, line)) * _FONT * (1.12 if bold else 1.0) for line in _lines(text)]
    return max(widths) + 2 * _PAD, len(widths) * _LINE + _PAD


def _box_size(box: Box) -> tuple[float, float]:
    sizes = [text_size(box.title, bold=True), *map(text_size, box.lines)]
    return max(width for width, _ in sizes), sum(height for _, height in sizes)


def _draw(graph: Graph, upright: bool, dpi: float, file_format: str) -> bytes:
    around = {key: box.around for key, box in graph.boxes.items()}
    sizes = {key: _box_size(box) for key, box in graph.boxes.items()}
    titles = {key: text_size(title)[0] for key, title in graph.frames.items()}
    layout = arrange(sizes, [edge for edge in graph.edges if edge[0] != edge[1]], around, titles, upright)
    width, height = (side + 2 * _MARGIN for side in layout.size)
    figure = figures.new_figure(width / 72, height / 72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-_MARGIN, width - _MARGIN), ylim=(height - _MARGIN, -_MARGIN))
    axes.set_axis_off()
    for place in layout.frames.values():
        _rectangle(axes, place, "none", linestyle="dashed")
    for points in layout.routes.values():
        _edge(axes, points, int(upright), arrow=not graph.is_tree)
    for key, (x, y, *_) in layout.frames.items():  # over the edges, so that they can be read
        text = _text(axes, x + titles[key] / 2, y + _LINE / 2 + 3, graph.frames[key], EDGE)
        text.set_bbox({"facecolor": "white", "linewidth": 0, "pad": 1})
    for key, (x, y, width, _) in layout.boxes.items():
        box = graph.boxes[key]
        if (key, key) in graph.edges:
            _loop(axes, x + width, y + _LINE)
        for text, fill in [(box.title, box.fill), *((line, "white") for line in box.lines)]:
            title = text is box.title
            height = text_size(text, bold=title)[1]
            _rectangle(axes, (x, y, width, height), fill)
            look = ("white", "bold") if title else ("black", "normal")
            _text(axes, x + width / 2, y + height / 2, "\n".join(_lines(text)), *look)
            y += height
    dpi = min(dpi, _MOST_PIXELS / max(figure.get_size_inches()))
    return figures.image_of("plot_model", figure, file_format, dpi=dpi)


def _rectangle(axes: Any, place: Sequence[float], fill: str, **style: Any) -> None:
    x, y, width, height = place
    axes.add_patch(matplotlib.patches.Rectangle((x, y), width, height, facecolor=fill, edgecolor=EDGE, **style))


def _text(axes: Any, x: float, y: float, text: str, color: str, weight: str = "normal") -> Any:
    return axes.text(x, y, text, color=color, weight=weight, fontsize=_FONT, ha="center", va="center", parse_math=False)


def _edge(axes: Any, points: list[Any], axis: int, arrow: bool) -> None:
    """Curves through points that leave each along the axis: so they move across between the rows alone."""
    tip = points[-1]
    back = -_ARROW if next(p[axis] for p in points[::-1] if p[axis] != tip[axis]) < tip[axis] else _ARROW
    base, *sides = (tuple(tip[k] + (back if k == axis else side) for k in (0, 1)) for side in (0, -3.5, 3.5))
    ends = [p for p in points if p != tip] + [base, tip]
    curves = ends[:1]
    for a, b in zip(ends, ends[1:]):
        half = (a[axis] + b[axis]) / 2
        curves += [tuple(half if k == axis else end[k] for k in (0, 1)) for end in (a, b)] + [b]
    _curve(axes, curves, [tip, *sides] if arrow else [])


def _loop(axes: Any, x: float, y: float) -> None:
    """An edge from a box to itself, in the gap beside it."""
    curve = [(x, y - 7), (x + 12, y - 7), (x + 12, y + 7), (x, y + 7)]
    _curve(axes, curve, [(x, y + 7), (x + _ARROW, y + 3.5), (x + _ARROW, y + 10.5)])


def _curve(axes: Any, points: list[Any], head: list[Any]) -> None:
    kind = matplotlib.path.Path
    path = kind(points, [kind.MOVETO, *[kind.CURVE4] * (len(points) - 1)])
    axes.add_patch(matplotlib.patches.PathPatch(path, facecolor="none", edgecolor=EDGE))
    if head:
        axes.add_patch(matplotlib.patches.Polygon(head, facecolor=EDGE, linewidth=0))
