"""Losses, metrics and targets in the nesting of the outputs, by its keys, by those above, by names of layers."""

from collections import namedtuple

import keras
import numpy as np
import pytest

import lamina
from lamina import layers

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's
X = RNG.normal(size=(8, 3)).astype("float32")
A, B, C = X[:, :1], X[:, :2], X[:, 1:2]
Pair = namedtuple("Pair", "p q")


def both(target, output):
    return abs(target[0] - output[0]) + 2 * (target[1] - output[1]) ** 2


# (outputs made of those of three layers, targets, what to compile with)
ROWS = {
    "dicts": (lambda a, b, c: {"u": {"x": a, "y": b}, "v": c}, {"u": {"x": A, "y": B}, "v": C},
              {"loss": {"u": {"x": "mse", "y": "mae"}, "v": "mse"},
               "metrics": {"u": {"x": ["mae"], "y": None}, "v": "mse"}}),
    "lists": (lambda a, b, c: [a, [b, c]], [A, [B, C]],
              {"loss": ["mse", ["mae", "mse"]], "metrics": ["mae", [["mae"], None]]}),
    "tuples": (lambda a, b, c: (a, (b, c)), (A, (B, C)), {"loss": ("mse", ("mae", "mse"))}),
    "named tuple": (lambda a, b, c: Pair(a, b), Pair(A, B), {"loss": Pair("mse", "mae")}),
    "layers of a list": (lambda a, b, c: [a, b], {"a": A, "b": B},
                         {"loss": {"a": "mse", "b": "mae"}, "metrics": {"b": ["mae", "mse"]}}),
    "layers, targets in a list": (lambda a, b, c: [a, b], [A, B],
                                  {"loss": {"a": "mse", "b": "mae"}, "loss_weights": {"a": 2.0, "b": 1.0}}),
    "lists of one": (lambda a, b, c: [a], [A], {"loss": ["mse"], "metrics": [["mae"]]}),
    "lists of one for one": (lambda a, b, c: a, [A], {"loss": ["mse"], "metrics": ["mae"], "loss_weights": [2.0]}),
    "dicts of one for one": (lambda a, b, c: a, A, {"loss": {"a": "mse"}, "metrics": {"a": "mae"}}),
    "one without a loss": (lambda a, b, c: [a, b], [A, B], {"loss": ["mse", None]}),
    "targets of those with a loss": (lambda a, b, c: [a, b, c], [A, C], {"loss": ["mse", None, "mae"]}),
    "the target of the one with a loss": (lambda a, b, c: {"u": a, "v": b}, B, {"loss": {"v": "mse"}}),
    "lists inside": (lambda a, b, c: [a, b], [A, B], {"loss": ["mse", ["mae"]], "loss_weights": [0.5, 2.0]}),
    "lists in dicts": (lambda a, b, c: {"u": a, "v": b}, {"u": A, "v": B}, {"loss": {"u": ["mse"], "v": "mae"}}),
    "a list by name for one": (lambda a, b, c: a, A, {"loss": {"a": ["mse"]}}),
    "a loss of two outputs": (lambda a, b, c: {"u": (a, c), "v": b}, {"u": (A, C), "v": B},
                              {"loss": {"u": both, "v": "mse"}}),
    "a name for two outputs": (lambda a, b, c: {"u": (a, c), "v": b}, {"u": (A, C), "v": B},
                               {"loss": {"u": "mse", "v": "mse"}}),
    "of two, and of one of them": (lambda a, b, c: {"u": (a, c), "v": b}, {"u": (A, C), "v": B},
                                   {"loss": {"u": [both, (None, "mae")], "v": "mse"},
                                    "loss_weights": {"u": [2.0, (1.0, 3.0)], "v": 0.5}}),
    "of all, and of each": (lambda a, b, c: (a, c), (A, C), {"loss": [both, ("mse", "mae")]}),
}  # fmt: skip


def fitted(library, outputs, targets, given):
    inputs = library.Input((3,))
    made = [
        library.layers.Dense(n, name=name, kernel_initializer="ones")(inputs)
        for n, name in ((1, "a"), (2, "b"), (1, "c"))
    ]
    model = library.Model(inputs, outputs(*made))
    model.compile("sgd", **given)
    return model.fit(X, targets, epochs=2, shuffle=False, verbose=0).history


@pytest.mark.parametrize("row", ROWS)
def test_a_structure_means_what_it_means_in_keras(row):
    ours, theirs = (fitted(library, *ROWS[row]) for library in (lamina, keras))
    assert sorted(ours) == sorted(theirs)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5)


NESTED = lambda a, b, c: {"u": {"x": a, "y": b}, "v": c}  # noqa: E731
TARGETS = {"u": {"x": A, "y": B}, "v": C}


@pytest.mark.parametrize(
    "loss", [{"u": "mse", "v": "mae"}, {"a": "mse", "b": "mse", "c": "mae"}, {"u/x": "mse", "u/y": "mse", "v": "mae"}]
)
def test_an_outer_key_is_for_all_below_and_names_of_layers_do_as_well(loss):
    wanted = fitted(lamina, NESTED, TARGETS, {"loss": {"u": {"x": "mse", "y": "mse"}, "v": "mae"}})
    assert fitted(lamina, NESTED, TARGETS, {"loss": loss}) == wanted


def test_a_key_that_names_nothing():
    with pytest.raises(ValueError, match=r"compile: loss: keys must be names of outputs \(u/x, u/y, v\), got w"):
        fitted(lamina, NESTED, TARGETS, {"loss": {"u": "mse", "w": "mae"}})


class Both(layers.Layer):
    def call(self, given):
        return given["p"] + given["q"]


@pytest.mark.parametrize(("first", "x"), [(layers.Add, [X, X]), (Both, {"p": X, "q": X})], ids=["list", "dict"])
def test_a_stack_on_several_arrays(first, x, tmp_path):
    lamina.saving.register_keras_serializable("structures")(Both)
    model = lamina.Sequential([first(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, A, verbose=0)
    whole = model.predict(x, verbose=0)
    np.testing.assert_allclose(model(x), whole, rtol=1e-6)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(lamina.models.load_model(tmp_path / "m.keras").predict(x, verbose=0), whole)


def named_inputs():
    return {name: lamina.Input((3,), name=name) for name in ("p", "q")}


def test_keys_that_no_input_has_warn():
    inputs = named_inputs()
    model = lamina.Model(inputs, layers.Add()(list(inputs.values())))
    with pytest.warns(UserWarning, match=r"must have the keys \['p', 'q'\], got \['r'\] too, which are not used"):
        model({"p": X, "q": X, "r": X})


@pytest.mark.filterwarnings("error")
def test_a_model_on_a_list_takes_what_it_wants_of_a_dict():
    inputs = list(named_inputs().values())
    assert lamina.Model(inputs, layers.Add()(inputs))({"p": X, "q": X, "r": X}).shape == X.shape


def test_the_list_of_layers_cannot_be_set():
    for model in (lamina.Sequential([layers.Dense(1)]), lamina.Model(*[lamina.Input((2,))] * 2)):
        with pytest.raises(AttributeError, match="layers is what lists the layers of a model and cannot be set"):
            model.layers = []


def compiled(library):
    model = library.Sequential([library.Input((3,)), library.layers.Dense(1, name="d")], name="s")
    model.compile(library.optimizers.Adam(name="o"), "mse", metrics=["mae"])
    model.fit(X, A, verbose=0)
    return model


def test_the_state_as_a_tree():
    ours, theirs = (compiled(library).get_state_tree("numpy_array") for library in (lamina, keras))
    shapes = [lamina.tree.map_structure(np.shape, each) for each in (ours, theirs)]
    assert shapes[0] == shapes[1]
    model, other = compiled(lamina), compiled(lamina)
    other.set_state_tree(model.get_state_tree())
    for mine, its in zip(other.weights, model.weights):
        np.testing.assert_array_equal(mine, its)


def test_a_tree_of_other_variables_changes_nothing():
    model = compiled(lamina)
    before = model.get_weights()
    given = {"trainable_variables": {"s": {"d": {"kernel": np.zeros((3, 1)), "scale": np.zeros(1)}}}}
    with pytest.raises(
        ValueError, match="state_tree must hold variables of the model, got trainable_variables/s/d/scale"
    ):
        model.set_state_tree(given)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    with pytest.raises(ValueError, match="value_format must be 'backend_tensor' or 'numpy_array'"):
        model.get_state_tree("tensor")
