"""Graphs: structures of inputs and outputs, shared layers, order, rebuilding from a configuration, errors."""

import copy
import json
import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import lamina
from lamina import layers, ops
from lamina.core.symbolic import node_of

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def same(one, other, x=X):
    other.set_weights(one.get_weights())
    np.testing.assert_allclose(np.asarray(one(x)), np.asarray(other(x)), rtol=1e-6, atol=1e-6)


def rebuilt(model):
    """The model made anew from its configuration, by way of JSON."""
    return lamina.Model.from_config(json.loads(json.dumps(model.get_config())))


@pytest.mark.parametrize(
    "wrap",
    [lambda a, b: [a, b], lambda a, b: (a, b), lambda a, b: {"b": b, "a": a}, lambda a, b: {"x": [a, {"y": b}]}],
    ids=["list", "tuple", "dict", "nested"],
)
def test_inputs_and_outputs_keep_their_structure(wrap):
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    model = lamina.Model(wrap(a, b), wrap(a + b, a - b))
    found, expected = model(wrap(X, 2 * X)), wrap(3 * X, -X)
    lamina.tree.assert_same_structure(found, expected)
    for one, other in zip(lamina.tree.flatten(found), lamina.tree.flatten(expected)):
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-6)


def test_inputs_in_a_list_may_be_given_by_name():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    model = lamina.Model([a, b], a - b)
    np.testing.assert_allclose(np.asarray(model({"b": X, "a": 3 * X})), 2 * X, rtol=1e-6)


# Which input is which


class Offer(NamedTuple):
    price: Any
    cost: Any


def gain(wrap):
    price, cost = lamina.Input((3,), name="p"), lamina.Input((3,), name="c")
    return lamina.Model(wrap(price, cost), price - cost)


PRICE, COST = 3 * X, X
BY_KEY = lambda price, cost: {"price": price, "cost": cost}  # noqa: E731
WRAPS = {
    "dict": BY_KEY,
    "nested dict": lambda price, cost: {"here": {"price": price, "cost": cost}},
    "dict in a list": lambda price, cost: [{"price": price, "cost": cost}],
    "list": lambda price, cost: [price, cost],
    "named tuple": Offer,
    "dict of lists": lambda price, cost: {"b": [price], "a": [cost]},
}


@pytest.mark.parametrize("kind", WRAPS)
def test_inputs_go_where_their_structure_says(kind):
    np.testing.assert_allclose(gain(WRAPS[kind])(WRAPS[kind](PRICE, COST)), 2 * X, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("list", {"c": COST, "p": PRICE}),
        ("list", (PRICE, COST)),
        ("list", Offer(PRICE, COST)),
        ("dict", Offer(price=PRICE, cost=COST)),
        pytest.param(
            "dict",
            {"cost": COST, "more": X, "price": PRICE},
            marks=pytest.mark.filterwarnings("ignore:.*which are not used:UserWarning"),
        ),
        ("named tuple", {"cost": COST, "price": PRICE}),
        ("named tuple", {"c": COST, "p": PRICE}),
        ("named tuple", [PRICE, COST]),
        ("nested dict", {"here": Offer(PRICE, COST)}),
    ],
)
def test_other_structures_go_by_name_or_by_place(kind, given):
    np.testing.assert_allclose(gain(WRAPS[kind])(given), 2 * X, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("dict", [PRICE, COST]),
        ("dict", (PRICE, COST)),
        ("nested dict", {"here": [PRICE, COST]}),
        ("dict in a list", [[PRICE, COST]]),
        ("dict in a list", [PRICE, COST]),
    ],
)
def test_a_list_for_a_dict_is_an_error(kind, given):
    message = r"must have the keys \['cost', 'price'\], got a (list|tuple), whose order does not say"
    with pytest.raises(ValueError, match=message):
        gain(WRAPS[kind])(given)


@pytest.mark.parametrize("use", [
    lambda model, x: model.predict(x, verbose=0),
    lambda model, x: model.fit(x, X, verbose=0),
    lambda model, x: model.evaluate(x, X, verbose=0),
])  # fmt: skip
def test_training_and_prediction_refuse_a_list_for_a_dict(use):
    model = gain(BY_KEY)
    model.compile("sgd", "mse")
    use(model, {"cost": COST, "price": PRICE})
    with pytest.raises(ValueError, match="must have the keys"):
        use(model, [PRICE, COST])


def test_one_input_needs_no_key():
    inputs = lamina.Input((3,), name="x")
    model = lamina.Model({"only": inputs}, inputs * 2)
    for given in (X, [X], {"only": X}):
        np.testing.assert_allclose(model(given), 2 * X)


def test_integers_are_cast_to_the_dtype_of_the_input():
    tokens = lamina.Input((2,), dtype="int32")
    model = lamina.Model(tokens, layers.Embedding(5, 2)(tokens))
    for dtype in ("int64", "uint8", "float32"):
        assert model(np.array([[1, 2]], dtype)).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("shape", "given"), [((3, 1), (4, 3)), ((3,), (4, 3, 1))], ids=["an axis is added", "an axis is taken off"]
)
def test_an_axis_of_size_one_is_matched(shape, given):
    inputs = lamina.Input(shape)
    assert lamina.Model(inputs, inputs * 1.0)(np.zeros(given)).shape == (4, *shape)


def test_a_shared_layer_is_called_once_for_each_node():
    calls = []

    class Counts(layers.Layer):
        def call(self, x):
            calls.append(1)
            return x + 1.0

    shared = Counts()
    inputs = lamina.Input((3,))
    model = lamina.Model(inputs, shared(shared(shared(inputs))))
    calls.clear()
    np.testing.assert_allclose(np.asarray(model(X)), X + 3, rtol=1e-6)
    assert len(calls) == 3 and len(model.layers) == 2


def test_what_no_output_needs_is_not_in_the_model():
    inputs = lamina.Input((3,))
    layers.Dense(7, name="aside")(inputs)
    model = lamina.Model(inputs, layers.Dense(2)(inputs))
    assert [layer.name for layer in model.layers if layer.name == "aside"] == []
    assert len(model.weights) == 2


def test_an_input_that_no_output_needs_is_taken():
    a, b = lamina.Input((3,)), lamina.Input((2,))
    model = lamina.Model([a, b], a * 2)
    np.testing.assert_allclose(np.asarray(model([X, X[:, :2]])), 2 * X)


def test_a_model_may_begin_in_the_middle_of_another():
    inputs = lamina.Input((3,))
    hidden = layers.Dense(4, "tanh")(inputs)
    whole = lamina.Model(inputs, layers.Dense(2)(hidden))
    first, second = lamina.Model(inputs, hidden), lamina.Model(hidden, whole.output)
    np.testing.assert_allclose(np.asarray(second(first(X))), np.asarray(whole(X)), rtol=1e-6)
    assert second.weights[0] is whole.weights[2]
    same(second, rebuilt(second), np.ones((4, 4), "float32"))


def test_weights_of_a_shared_layer_count_once():
    inputs = lamina.Input((3,))
    layer = layers.Dense(3)
    assert lamina.Model(inputs, layer(layer(inputs))).count_params() == 12


def test_constants_and_numbers_are_part_of_the_graph():
    inputs = lamina.Input((3,))
    model = lamina.Model(inputs, np.full(3, 2.0) * inputs + ops.array([1.0, 2.0, 3.0]) - ops.ones((1, 3)))
    np.testing.assert_allclose(np.asarray(model(X)), 2 * X + [0, 1, 2], rtol=1e-6)
    same(model, rebuilt(model))


def wide():
    inputs = lamina.Input((3,), name="in")
    a, b = layers.Dense(4, "relu", name="left")(inputs), layers.Dense(4, name="right")(inputs)
    shared = layers.Dense(2, name="shared")
    x = layers.concatenate([shared(a), shared(b), inputs[:, :1]])
    return lamina.Model(inputs, ops.softmax(x / 2.0, axis=-1), name="wide")


def nested():
    inner = wide()
    inputs = lamina.Input((3,))
    stack = lamina.Sequential([layers.Dense(3), layers.Dense(3, "tanh")], name="stack")
    return lamina.Model(inputs, layers.add([inner(stack(inputs)), inner(inputs)]))


def frozen():
    inputs = lamina.Input((3,))
    return lamina.Model(inputs, layers.Dense(2)(inputs), trainable=False)


@pytest.mark.parametrize("make", [wide, nested, frozen])
def test_a_model_from_a_configuration_is_equal(make):
    model = make()
    twin = rebuilt(model)
    assert [w.shape for w in twin.weights] == [w.shape for w in model.weights]
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    assert twin.get_config() == model.get_config()
    same(model, twin)


@pytest.mark.parametrize("make", [wide, nested])
def test_a_clone_is_equal_and_has_weights_of_its_own(make):
    model = make()
    twin = lamina.models.clone_model(model)
    assert not {id(w) for w in model.weights} & {id(w) for w in twin.weights}
    same(model, twin)


def test_a_clone_through_a_function():
    model = lamina.models.clone_model(
        wide(),
        clone_function=lambda layer: (
            layers.Dense(layer.units, use_bias=False)
            if isinstance(layer, layers.Dense)
            else type(layer).from_config(layer.get_config())
        ),
    )
    assert [w.shape for w in model.weights] == [(3, 4), (3, 4), (4, 2)]


def test_json_holds_the_architecture():
    model = wide()
    same(model, lamina.models.model_from_json(model.to_json()))


def test_a_mask_rides_through_the_graph():
    tokens = lamina.Input((None,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    model = lamina.Model(tokens, layers.GlobalAveragePooling1D()(ops.relu(x * 2.0 + x)))
    padded, alone = np.array([[1, 2, 0, 0]]), np.array([[1, 2]])
    np.testing.assert_allclose(np.asarray(model(padded)), np.asarray(model(alone)), rtol=1e-6)


def test_training_reaches_the_layers_unless_a_call_has_said_otherwise():
    class Flag(layers.Layer):
        def call(self, x, training=None):
            return x + (1.0 if training else 0.0)

    inputs = lamina.Input((3,))
    flag = Flag()
    model = lamina.Model(inputs, [flag(inputs), flag(inputs, training=True), flag(inputs, training=False)])
    added = [[float(np.asarray(y - X).mean().round(3)) for y in model(X, training=t)] for t in (None, False, True)]
    assert added == [[0, 1, 0], [0, 1, 0], [1, 1, 0]]


def test_a_subclass_of_model_may_be_a_graph():
    class Graph(lamina.Model):
        def extra(self):
            return "mine"

    inputs = lamina.Input((3,))
    model = Graph(inputs, layers.Dense(2)(inputs))
    assert model.extra() == "mine" and model(X).shape == (4, 2)
    assert isinstance(lamina.Model(inputs, inputs * 1.0), lamina.models.Functional)


# What is wrong


def raises(message, act):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        act()


def test_inputs_must_be_connected_to_the_outputs():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    raises(
        'Functional "net": every input that an output needs must be among the inputs; "b" is not.',
        lambda: lamina.Model(a, layers.Dense(2)(b), name="net"),
    )


def test_names_of_layers_must_differ():
    inputs = lamina.Input((3,))
    outputs = [layers.Dense(1, name="d")(inputs), layers.Dense(1, name="d")(inputs)]
    raises(
        'Functional "net": names of layers must be unique, got "d" twice.',
        lambda: lamina.Model(inputs, outputs, name="net"),
    )


def test_an_input_must_be_given_once():
    inputs = lamina.Input((3,))
    raises(
        'Function "net": inputs must be different tensors, got one twice.',
        lambda: lamina.Model([inputs, inputs], inputs * 1.0, name="net"),
    )


def test_outputs_must_be_symbolic():
    inputs = lamina.Input((3,))
    raises(
        'Functional "net": outputs must be symbolic tensors, got ndarray.', lambda: lamina.Model(inputs, X, name="net")
    )
    with pytest.raises(TypeError, match="Model: must be given symbolic inputs and outputs or keywords, got int"):
        lamina.Model(3)


def chain():
    inputs = lamina.Input((3,), name="in")
    return lamina.Model(inputs, layers.Dense(3, name="z")(layers.Dense(3, name="y")(inputs)), name="chain")


def test_a_configuration_with_a_cycle_is_refused():
    config = copy.deepcopy(chain().get_config())
    (y,) = (form for form in config["layers"] if form["name"] == "y")
    y["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["z", 0, 0]
    raises(
        'Functional "chain": the saved graph has a cycle or a gap at y, z.', lambda: lamina.Model.from_config(config)
    )


def test_a_graph_with_a_cycle_is_refused():
    inputs = lamina.Input((3,))
    first = layers.Dense(3, name="first")(inputs)
    last = layers.Dense(3, name="last")(first)
    node_of(first).inputs[:] = [last]
    with pytest.raises(
        ValueError, match=r'^Functional "net": the graph must have no cycle, got one at "(first|last)"\.$'
    ):
        lamina.Model(inputs, last, name="net")


def test_a_configuration_with_a_gap_is_refused():
    config = copy.deepcopy(chain().get_config())
    config["layers"] = [form for form in config["layers"] if form["name"] != "y"]
    with pytest.raises(ValueError, match='Functional "chain": the saved graph has a cycle or a gap at z'):
        lamina.Model.from_config(config)


def test_one_sample_without_a_batch_axis_gets_the_remedy():
    raises(
        'Functional "chain": input "in" must have shape (None, 3), got (3,); if that is one sample, add a batch axis: '
        "x[None].",
        lambda: chain()(np.zeros(3)),
    )


@pytest.mark.parametrize("given", [np.zeros((4, 2)), np.zeros((4, 3, 2)), np.zeros(4)])
def test_the_shape_of_an_input_is_checked(given):
    raises(f'Functional "chain": input "in" must have shape (None, 3), got {given.shape}.', lambda: chain()(given))


def test_an_error_inside_a_model_names_the_way_to_it():
    class Outer(lamina.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.inner = chain()

        def call(self, x):
            return self.inner(x[:, :2])

    raises('Functional "outer/chain": input "in" must have shape (None, 3), got (4, 2).', lambda: Outer()(X))


def test_an_input_that_is_not_optional_must_be_there():
    with pytest.raises(ValueError, match='Functional "chain": '):
        chain()([None])


def test_outputs_may_be_given_by_name_behind_the_inputs():
    class Backbone(lamina.Model):
        def __init__(self, units, **kwargs):
            x = {"x": lamina.Input((3,), name="x")}
            super().__init__(x, outputs={"y": layers.Dense(units)(x["x"])}, **kwargs)
            self.units = units

        def get_config(self):
            return {"units": self.units}

    model = Backbone(2)
    assert model.output_shape == (None, 2) and model({"x": X})["y"].shape == (4, 2)


@pytest.mark.parametrize("kind", ["graph", "stack"])
def test_a_clone_is_compiled_as_the_model_is(kind):
    layers = [lamina.Input((3,)), lamina.layers.Dense(1)]
    model = lamina.Sequential(layers) if kind == "stack" else lamina.Model(layers[0], layers[1](layers[0]))
    model.compile(lamina.optimizers.SGD(0.2), lambda y, z: (y - z) ** 2, metrics=[lamina.metrics.MeanAbsoluteError()])
    twin = lamina.models.clone_model(model)
    assert twin.loss is model.loss and float(twin.optimizer.learning_rate) == pytest.approx(0.2)
    assert twin.optimizer is not model.optimizer
    x = np.ones((4, 3), "float32")
    before = model.get_weights()
    assert set(twin.fit(x, x[:, :1], verbose=0).history) == {"loss", "mean_absolute_error"}
    assert np.array_equal(model.get_weights()[0], before[0]) and int(model.optimizer.iterations) == 0


def test_a_graph_that_was_made_for_a_size_of_batches_takes_others():
    inputs = lamina.Input(batch_shape=(3, 5))
    model = lamina.Model(inputs, lamina.layers.Dense(2)(inputs))
    assert model.output_shape == (3, 2)
    assert model(np.ones((7, 5), "float32")).shape == model.predict(np.ones((7, 5)), verbose=0).shape == (7, 2)


def test_a_graph_may_begin_with_plain_symbolic_tensors():
    first, second = lamina.KerasTensor((None, 3)), lamina.KerasTensor((None, 3), name="second")
    added = first + second
    function = lamina.Function([first, second], {"sum": added, "square": added**2})
    found = function([np.ones((2, 3)), np.ones((2, 3))])
    assert float(found["sum"][0, 0]) == 2 and float(found["square"][1, 2]) == 4
    assert function([lamina.KerasTensor((4, 3)), lamina.KerasTensor((4, 3))])["sum"].shape == (4, 3)
    assert lamina.Model([first, second], added).input_names == [first.name, "second"]


def test_a_function_begins_at_its_inputs_and_tells_shapes():
    x = lamina.Input((3,), dtype="int32")
    middle = layers.Embedding(5, 2)(x)
    function = lamina.Function(middle, ops.sum(middle, axis=1))
    assert [operation.name for operation in function.operations] == [function.outputs[0].origin.operation.name]
    assert function.compute_output_shape((4, 3, 2)) == (4, 2)
    whole = lamina.Function([x], {"out": middle})
    assert whole.compute_output_shape([(7, 3)]) == {"out": (7, 3, 2)}
    np.testing.assert_array_equal(function(np.ones((1, 3, 2))), [[3, 3]])
