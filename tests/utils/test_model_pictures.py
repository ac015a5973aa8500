"""Models as pictures and in the DOT language."""

import io
import re
import sys

import numpy as np
import pydot
import pytest
from matplotlib.textpath import TextPath
from PIL import Image

import lamina
from lamina import layers
from lamina.utils import model_graph, model_pictures, model_to_dot, plot_model

EVERYTHING = {f"show_{what}": True for what in ("shapes", "dtype", "layer_names", "layer_activations", "trainable")} | {
    "expand_nested": True
}


def net():
    """Two inputs and outputs, a residual, a shared layer and a nested stack in a nested model."""
    a, b = lamina.Input((4,), name="a"), lamina.Input((4,), name="b")
    stack = lamina.Sequential([lamina.Input((4,)), layers.Dense(4, "relu", name="inner")], name="stack")
    x = lamina.Input((4,), name="x")
    nested = lamina.Model(x, [stack(x), x + 1.0], name="nested")
    nested.trainable = False
    shared = layers.Dense(4, name="shared")
    left, right = nested(shared(a))
    return lamina.Model([a, b], {"left": left + shared(b), "right": right}, name="net")


class Own(lamina.Model):
    def __init__(self):
        super().__init__(name="own")
        self.parts = [layers.Dense(3, name=f"part_{i}") for i in range(2)]
        self.inner = lamina.Sequential([layers.Dense(3, name="deep")], name="inner_stack")

    def call(self, x):
        return self.parts[1](self.parts[0](x))


@pytest.fixture(params=[True, False], ids=["pydot", "no pydot"])
def with_pydot(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(model_pictures.importlib.util, "find_spec", lambda name: None)
    return request.param


@pytest.fixture(autouse=True)
def no_graphviz(monkeypatch):
    """What is drawn does not depend on the machine."""
    monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize("rankdir", ["TB", "LR", "BT", "RL"])
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_file_of_each_kind_is_written(tmp_path, rankdir, ending):
    path = tmp_path / f"net.{ending}"
    picture = plot_model(net(), path, rankdir=rankdir, dpi=50, **EVERYTHING)
    data = path.read_bytes()
    assert picture.data == data and data.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    assert (picture._repr_png_() == data) == (ending == "png")
    assert picture._repr_svg_() == (data.decode() if ending == "svg" else None)


def test_the_file_is_png_unless_its_name_says_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plot_model(net(), "net", dpi=30)
    plot_model(net(), dpi=30)
    assert (tmp_path / "net").read_bytes()[:4] == (tmp_path / "model.png").read_bytes()[:4] == b"\x89PNG"
    assert plot_model(net(), to_file=None, dpi=30)._repr_png_() and len(list(tmp_path.iterdir())) == 2


def test_a_picture_has_all_names_and_texts():
    svg = model_to_dot(net(), **EVERYTHING).create(format="svg").decode()
    for text in ("a (InputLayer)", "inner (Dense)", "Activation: relu", "Output dtype: float32", "Non-trainable"):
        assert text in svg.replace("\u00a0", " ")
    assert svg.count("Output shape") == 7 and "nested" in svg and "stack" in svg


def test_no_picture_is_larger_than_programs_take():
    model = lamina.Sequential([lamina.Input((2,)), *[layers.Dense(2) for _ in range(150)]])
    image = Image.open(io.BytesIO(plot_model(model, None, dpi=400).data))
    assert max(image.size) <= 30_000 and min(image.size) > 50


def test_nothing_is_drawn_over_the_edge():
    for options in ({}, EVERYTHING):
        image = np.asarray(Image.open(io.BytesIO(plot_model(net(), None, dpi=60, **options).data)).convert("L"))
        border = np.concatenate([image[:4].ravel(), image[-4:].ravel(), image[:, :4].ravel(), image[:, -4:].ravel()])
        assert border.min() == 255 and image.min() < 100


def test_texts_lie_in_their_boxes():
    """What the font of the drawing needs is no more than what was reckoned."""
    for text in (
        "conv2d_1 (Conv2D)",
        "WWMM mmww",
        "Input shape: (None, 224, 224, 3)",
        "iiiiillll",
        "Ünïcode_ÄÖ",
        "0123456789",
    ):
        width = TextPath((0, 0), text, size=10).get_extents().width
        assert model_pictures.text_size(text)[0] >= width + 2


@pytest.mark.parametrize("kind", ["functional", "stack", "own"])
def test_a_graph_in_dot_has_a_node_for_each_layer(with_pydot, kind):
    own = Own()
    own.build((None, 3))
    model = {"functional": net(), "stack": net().get_layer("nested").get_layer("stack"), "own": own}[kind]
    text = model_to_dot(model).to_string()
    shown = model.operations if kind == "functional" else [*([own] if kind == "own" else []), *model.layers]
    assert all(re.search(rf"{id(part)} \[label=.*{part.name}", text) for part in shown)
    assert text.count("->") == {"functional": 5, "stack": 0, "own": 3}[kind]


def test_names_cannot_leave_their_labels(with_pydot):
    name = '"><x|]; evil -> "\\'
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1, name=name)], name='"}<')
    outer = lamina.Sequential([lamina.Input((2,)), model, layers.Dense(2, name="after")])
    text = model_to_dot(outer, expand_nested=True).to_string()
    assert "&quot;&gt;&lt;x|]; evil -&gt;" in text and text.count("->") == 1
    assert plot_model(outer, None, expand_nested=True, show_layer_names=True, dpi=30).data


def test_what_programs_call_of_a_graph_is_there(with_pydot, tmp_path):
    dot = model_to_dot(net(), expand_nested=True)
    assert dot.write(tmp_path / "a.dot") and (tmp_path / "a.dot").read_text() == dot.to_string()
    assert dot.create_png()[:4] == dot.create("dot", "png")[:4] == dot.create(format="png")[:4] == b"\x89PNG"
    dot.write_svg(tmp_path / "a.svg")
    dot.write(str(tmp_path / "a.png"), format="png")
    assert (tmp_path / "a.svg").read_text() and (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert dot._repr_svg_().startswith("<?xml")
    if with_pydot:
        assert isinstance(dot, pydot.Dot) and len(dot.get_nodes()) >= 5
        part = model_to_dot(net(), subgraph=True)
        assert isinstance(part, pydot.Cluster) and part.get_name().startswith("cluster_")
    else:
        with pytest.raises(AttributeError, match="pip install pydot"):
            dot.get_nodes()


def test_graphviz_draws_where_it_is_installed(tmp_path, monkeypatch):
    (tmp_path / "dot").write_text(
        f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:], 'digraph' in sys.stdin.read())\n"
    )
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert model_to_dot(net()).create(format="png") == b"['-Tpng'] True\n"
    (tmp_path / "dot").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('a syntax error')\n")
    with pytest.raises(RuntimeError, match="dot could not draw the model: a syntax error"):
        plot_model(net(), None)


def test_a_shared_layer_that_follows_itself_has_an_edge_to_itself():
    x, shared = lamina.Input((2,)), layers.Dense(2, name="shared")
    model = lamina.Model(x, shared(shared(x)))
    for rankdir in ("TB", "LR"):
        assert plot_model(model, None, dpi=40, rankdir=rankdir).data
    assert f"{id(shared)} -> {id(shared)}" in model_to_dot(model).to_string()


def test_a_model_of_its_own_call_is_a_tree():
    model = Own()
    model.build((None, 3))
    graph = model_graph.Graph(model, {"layer_names"}, expand=False)
    assert graph.is_tree and len(graph.boxes) == 4 and len(graph.edges) == 3
    deeper = model_graph.Graph(model, {"layer_names"}, expand=True)
    assert len(deeper.boxes) == 5
    assert "dir=none" in model_to_dot(model).to_string()


@pytest.mark.parametrize("draw", [plot_model, model_to_dot])
@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (
            lambda: lamina.Sequential([layers.Dense(2)], name="raw"),
            {},
            ValueError,
            'the model "raw" must be built; call',
        ),
        (net, {"rankdir": "UP"}, ValueError, "rankdir must be one of 'TB', .*got 'UP'"),
        (net, {"dpi": 0}, ValueError, "dpi must be a number above 0, got 0"),
        (net, {"show_shape": True}, TypeError, "unknown arguments, got show_shape; did you mean show_shapes"),
        (net, {"layer_range": ["a", "b"]}, ValueError, "layer_range must not be given"),
        (lambda: layers.Dense(2), {}, TypeError, "model must be a model, got Dense"),
    ],
)
def test_mistakes_are_told(tmp_path, monkeypatch, draw, model, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"{draw.__name__}: .*{message}"):
        draw(model(), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_of_file_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"plot_model: the format must be one of .*'png'.*got 'xyz'"):
        plot_model(net(), tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []
