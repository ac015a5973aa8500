"""Graphs of models, masks over images and tables of layers, beside those of Keras."""

import re

import keras
import numpy as np
import pytest

import lamina

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 10, 3)).astype("uint8")
MASKS = np.random.default_rng(1).integers(0, 5, (2, 8, 10, 1)).astype("int32")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_classes": 5},
        {"num_classes": 3, "alpha": 0.3},
        {"num_classes": 5, "ignore_index": 0},
        {"num_classes": 5, "blend": False},
        {"num_classes": 5, "color_mapping": {i: (i * 20, 5, 200) for i in range(5)}},
        {"num_classes": 8, "alpha": 1.0},
    ],
    ids=str,
)
def test_masks_have_the_colors_of_keras(settings):
    ours, theirs = (
        np.asarray(library.visualization.draw_segmentation_masks(IMAGES, MASKS, **settings))
        for library in (lamina, keras)
    )
    assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def nested(library):
    """Two inputs and outputs, a residual, a shared layer, a stack inside and one in that."""
    layers = library.layers
    a, b = library.Input((4,), name="a"), library.Input((4,), name="b")
    deep = library.Sequential([library.Input((4,)), layers.Dense(4, name="deep")], name="deep_stack")
    stack = library.Sequential([library.Input((4,)), deep, layers.Dense(4, name="inner")], name="stack")
    x, y = library.Input((4,), name="x"), library.Input((4,), name="y")
    model = library.Model([x, y], [layers.Add(name="sum")([stack(x), x]), layers.Dense(4, name="right")(y)], name="two")
    shared = layers.Dense(4, name="shared")
    left, right = model([shared(a), shared(b)])
    return library.Model([a, b], [layers.Add(name="last")([left, a]), right], name="net")


def stack(library):
    return nested(library).get_layer("two").get_layer("stack")


def chain(library):
    x = library.Input((4,), name="x")
    return library.Model(x, library.layers.Dense(3, name="d")(library.layers.Dropout(0.5, name="o")(x)), name="chain")


def named_edges(library, model, **settings):
    """The edges of the graph by the names of layers."""
    walk = [model, *model.layers]
    for layer in walk:
        walk += [inner for inner in getattr(layer, "layers", ()) if not any(inner is one for one in walk)]
    names = {str(id(layer)): layer.name for layer in walk}
    dot = library.utils.model_to_dot(model, **settings)
    graphs, edges, nodes = [dot], set(), set()
    for graph in graphs:
        graphs += graph.get_subgraphs()
        edges.update((names[e.get_source()], names[e.get_destination()]) for e in graph.get_edges())
        nodes.update(names[n.get_name()] for n in graph.get_nodes() if n.get_name() in names)
    return nodes, edges


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("make", [nested, stack, chain])
def test_a_graph_has_the_nodes_and_edges_of_keras(make, expand):
    ours, theirs = (named_edges(library, make(library), expand_nested=expand) for library in (lamina, keras))
    assert ours == theirs


def rows(library, make, **settings):
    """The cells of the printed table, and the lines behind it."""
    lines = []
    model = make(library)
    model.compile("adam", "mse")
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=150, **settings)
    table = [
        [re.sub(r"[└\s]+", " ", cell).strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in "\n".join(lines).splitlines()
        if line[:1] in "│┃"
    ]
    totals = re.findall(r"^ (.*params): ", "\n".join(lines), re.MULTILINE)
    return table, totals


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"expand_nested": True},
        {"show_trainable": True},
        {"positions": [0.3, 0.6, 0.8, 1.0]},
        {"layer_range": ("b", "two")},
    ],
    ids=str,
)
def test_a_summary_has_the_rows_of_keras(settings, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    (ours, totals), (theirs, their_totals) = (rows(library, nested, **settings) for library in (lamina, keras))
    if settings.get("expand_nested"):  # in stacks Keras names inputs that have no row
        ours, theirs = ([row[:3] for row in table] for table in (ours, theirs))
    names = [[re.sub(r"[,\s]+", " ", " ".join(column)).strip() for column in zip(*table)] for table in (ours, theirs)]
    assert names[0] == names[1]
    assert totals[:3] == their_totals[:3]


def test_a_chain_says_nothing_of_connections(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert rows(lamina, chain)[0][0] == rows(keras, chain)[0][0] == ["Layer (type)", "Output Shape", "Param #"]
