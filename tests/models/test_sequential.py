"""Stacks of layers: built from an input, from the first data, or rebuilt as they grow and shrink."""

import copy
import pickle
import re

import numpy as np
import pytest

import lamina
from lamina import layers
from tests.programs.both import same_in_both

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def test_a_stack_builds_itself_from_an_input_shape_or_the_first_data():
    ways = [
        lamina.Sequential([lamina.Input((3,)), layers.Dense(2)]),
        lamina.Sequential([layers.Dense(2, input_shape=(3,))]),
        lamina.Sequential([layers.Dense(2, input_dim=3)]),
        lamina.Sequential([layers.Dense(2)]),
        lamina.Sequential([layers.Dense(2)]),
        lamina.Sequential([layers.Dense(2)]),
    ]
    assert [model.built for model in ways] == [True] * 3 + [False] * 3
    ways[3].build((None, 3))
    ways[4](X)
    ways[5].predict(X, verbose=0)
    assert {model.weights[0].shape for model in ways} == {(3, 2)}
    assert {model.built for model in ways} == {True}


def test_a_stack_built_on_one_batch_takes_any_number_of_rows():
    model = lamina.Sequential([layers.Dense(2)])
    model(X)
    assert model(X[:1]).shape == (1, 2) and model.output_shape == (None, 2)


def test_the_layers_do_not_count_the_input():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2, name="a"), layers.Dense(1, name="b")])
    assert [layer.name for layer in model.layers] == ["a", "b"]
    assert model.get_layer("a") is model.get_layer(index=0) is model.layers[0]


def test_packages_that_draw_a_stack_find_its_input_before_the_layers():
    given, built, waiting = (lamina.Sequential([*first, layers.Dense(2)]) for first in ([lamina.Input((3,))], [], []))
    built(X)
    kinds = [[type(layer).__name__ for layer in model._layers] for model in (given, built, waiting)]
    assert kinds == [["InputLayer", "Dense"], ["InputLayer", "Dense"], ["Dense"]]


def test_adding_and_popping_keep_the_weights_of_the_others():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(4)])
    kernel = model.weights[0]
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)
    popped = model.pop()
    assert popped.units == 2 and model.output_shape == (None, 4) and model.weights[0] is kernel
    np.testing.assert_allclose(np.asarray(model(X)), X @ kernel.numpy(), rtol=1e-5)


def test_a_stack_of_integers_casts_nothing():
    model = lamina.Sequential([layers.Embedding(5, 2), layers.Flatten()])
    assert model(np.array([[1, 2], [3, 4]])).shape == (2, 4)
    assert model.inputs[0].dtype.startswith("int")


def test_stacks_and_functions_may_be_layers():
    inner = lamina.Sequential([layers.Dense(4), layers.Dense(2)])
    model = lamina.Sequential([lamina.Input((3,)), inner, layers.Activation(lamina.ops.tanh)])
    np.testing.assert_allclose(np.asarray(model(X)), np.tanh(np.asarray(inner(X))), rtol=1e-5)
    assert inner.built and len(model.weights) == 4


def test_a_layer_may_come_more_than_once(tmp_path):
    twice, act = layers.Dense(3, name="twice"), layers.ReLU()
    model = lamina.Sequential([twice, act, twice, act, layers.Dense(1)])
    kernel, bias, *head = [np.asarray(w) for w in (model(X), model.get_weights())[1]]
    hidden = np.maximum(np.maximum(X @ kernel + bias, 0) @ kernel + bias, 0)
    np.testing.assert_allclose(np.asarray(model(X)), hidden @ head[0] + head[1], rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    made = lamina.models.clone_model(model)
    made.set_weights(model.get_weights())
    for twin in (made, lamina.models.load_model(tmp_path / "model.keras"), copy.deepcopy(model)):
        assert len(twin.layers) == 5 and len(twin.weights) == 4 and twin.layers[0] is twin.layers[2]
        np.testing.assert_array_equal(np.asarray(twin(X)), np.asarray(model(X)))


@pytest.mark.parametrize("with_input", [True, False])
def test_a_stack_from_its_configuration_is_equal(with_input):
    first = [lamina.Input((3,))] if with_input else []
    model = lamina.Sequential([*first, layers.Dense(4, "relu"), layers.Dropout(0.5), layers.Dense(2)], name="stack")
    model(X)
    twin = lamina.Sequential.from_config(model.get_config())
    assert twin.name == "stack" and twin.built
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(np.asarray(model(X)), np.asarray(twin(X)))


def test_the_shape_of_outputs_is_told_before_building():
    model = lamina.Sequential([layers.Dense(4), layers.Flatten(), layers.Dense(2)])
    assert model.compute_output_shape((None, 3)) == (None, 2)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: lamina.Sequential(name="s")(X), 'Sequential "s": must have a layer to be built, got none.'),
        (lambda: lamina.Sequential(name="s").pop(), 'Sequential "s": pop needs a layer, and there is none.'),
        (
            lambda: lamina.Sequential([layers.Dense(1, name="d"), layers.Dense(1, name="d")], name="s"),
            'Sequential "s": names of layers must be unique, got "d" twice.',
        ),
        (
            lambda: lamina.Sequential([layers.Dense(1)], name="s").build(),
            'Sequential "s": input_shape must be a tuple, got None.',
        ),
        (
            lambda: lamina.Sequential([layers.Dense(1, name="d")], name="s")([X, X]),
            'Dense "s/d": must get one array, got a list.',
        ),
        (
            lambda: lamina.Sequential([layers.Dense(1, name="d")], name="s").count_params(),
            'Sequential "s": must be built to count its weights; call it on data or call build().',
        ),
        (
            lambda: lamina.Sequential([lamina.Input((None,)), layers.Dense(1, name="d")], name="s"),
            'Dense "s/d": axis -1 must be an axis of known size, got (None, None).',
        ),
    ],
)
def test_errors(act, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        act()


def test_a_failed_add_leaves_the_stack_as_it_was():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2, name="d")])
    with pytest.raises(ValueError, match="must"):
        model.add(layers.Conv2D(2, 3))
    with pytest.raises(ValueError, match="must"):
        model.add(layers.Dense(2, name="d"))
    with pytest.raises((ValueError, TypeError)):
        model.add("a layer")
    assert [layer.name for layer in model.layers] == ["d"]
    assert model(X).shape == (4, 2)


# A stack that changes


def test_a_stack_that_was_built_on_data_is_what_it_is_now():
    def program(keras):
        model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
        model(X)
        seen = []

        def look():
            seen.append((model.built, model.output_shape[1:], [w.shape for w in model.weights], model(X).shape))

        look()
        model.pop()
        look()
        model.add(keras.layers.Dense(5))
        look()
        model.add(keras.layers.Dense(1))
        look()
        model.pop(), model.pop(), model.pop()
        seen.append((model.built, model.weights))
        model.add(keras.layers.Dense(4))
        look()
        return seen

    same_in_both(program)


def test_a_stack_that_is_not_rebuilt_builds_at_its_next_call():
    def program(keras):
        model = keras.Sequential([keras.layers.Dense(3)])
        model(X)
        model.add(keras.layers.Dense(2), rebuild=False)
        before = model.built, len(model.weights)
        outputs = model(X)
        model.pop(rebuild=False)
        return before, outputs.shape, model.built, model(X).shape, len(model.weights)

    same_in_both(program)


def test_programs_of_a_stack_are_those_of_now():
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(2), layers.Lambda(lambda x: 10.0 * x)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    scaled, loss = model.predict(x, verbose=0), model.test_on_batch(x, 0 * x)
    model.pop()
    np.testing.assert_allclose(model.predict(x, verbose=0) * 10, scaled, rtol=1e-6)
    np.testing.assert_allclose(model.test_on_batch(x, 0 * x) * 100, loss, rtol=1e-5)


def test_adding_a_layer_calls_no_other():
    class Counts(layers.Layer):
        def call(self, x):
            calls.append(self.name)
            return x

    calls = []
    model = lamina.Sequential([lamina.Input((3,))])
    for i in range(20):
        model.add(Counts(name=f"layer{i}"))
    assert calls == [f"layer{i}" for i in range(20)]
    assert [layer.name for layer in model.layers] == calls and model.output_shape == (None, 3)
    model.pop()
    assert len(calls) == 20 and len(model.layers) == 19


def test_inputs_and_outputs_of_layers_are_those_of_the_first_call():
    def program(keras):
        layer = keras.layers.Dense(2)
        first, second = keras.Input((3,)), keras.Input((3,))
        outputs = layer(first)
        layer(second)
        return layer.input is first, layer.output is outputs

    assert same_in_both(program) == (True, True)


def test_a_copy_keeps_optional_inputs():  # Keras makes them required
    class Maybe(layers.Layer):
        def call(self, a, b=None):
            return a if b is None else a + b

    first, second = lamina.Input((3,), name="a"), lamina.Input((3,), name="b", optional=True)
    model = lamina.Model([first, second], Maybe()(first, second))
    twin = lamina.models.clone_model(model, clone_function=lambda layer: Maybe())
    np.testing.assert_array_equal(np.asarray(twin([X, None])), X)
    np.testing.assert_array_equal(np.asarray(twin([X, X])), 2 * X)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_stack_that_was_never_asked_for_its_graph_is_copied_with_it(twin_of):
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2)])
    twin = twin_of(model)
    np.testing.assert_array_equal(twin.predict(X, verbose=0), model.predict(X, verbose=0))


def test_sizes_that_nobody_declared_may_change():
    batches = [(np.ones((2, n, 3), "float32") / n, np.ones((2, 1), "float32")) for n in (5, 7, 6)]
    histories = []
    for first in ([], [lamina.Input((None, 3))]):
        lamina.utils.set_random_seed(0)
        model = lamina.Sequential([*first, layers.LSTM(2), layers.Dense(1)])
        model.compile("sgd", "mse")
        histories.append(model.fit(iter(batches), verbose=0).history["loss"])
        assert model.predict(batches[0][0], verbose=0).shape == (2, 1)
    assert histories[0] == histories[1]
    model = lamina.Sequential([layers.Flatten(), layers.Dense(2)])
    model.build((None, 4, 3))
    with pytest.raises(ValueError, match=r'Dense "stack/dense.*": the input must have size 12'):
        lamina.Sequential.from_config({**model.get_config(), "name": "stack"})(np.ones((1, 5, 3)))


@pytest.mark.parametrize("wrong", [{}, 3])
def test_what_is_no_layer_in_a_configuration(wrong):
    with pytest.raises(TypeError, match='Sequential "s": layers must be layers or Input, got'):
        lamina.Sequential.from_config({"name": "s", "layers": [wrong]})
