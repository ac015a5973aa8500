"""Models in general: weights, layers by name, freezing, copies, and models without a graph."""

import copy
import pickle
import re

import numpy as np
import pytest

import lamina
from lamina import layers, ops

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


class Net(lamina.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, name="first")
        self.blocks = {"a": [layers.BatchNormalization(name="norm")], "b": (layers.Dense(2, name="second"),)}

    def call(self, x, training=None):
        return self.blocks["b"][0](self.blocks["a"][0](self.first(x), training=training))


@pytest.fixture
def net():
    model = Net(name="net")
    model(X)
    return model


def test_layers_are_found_in_attributes_lists_tuples_and_dicts(net):
    assert [layer.name for layer in net.layers] == ["first", "norm", "second"]
    assert net.get_layer("norm") is net.blocks["a"][0]


class Joined(lamina.Model):
    """The inputs side by side, in the order in which the dict has them, and that of the keywords."""

    def call(self, fields, training=None, **more):
        return ops.concatenate([*fields.values(), *more.values()], axis=-1)


def test_dicts_and_keywords_come_in_the_order_of_the_program_and_not_of_the_alphabet():
    fields = {"b": np.full((4, 1), 1.0, "float32"), "c": np.full((4, 2), 2.0, "float32"), "a": X[:, :1]}
    joined, model = np.concatenate([*fields.values()], axis=-1), Joined()
    np.testing.assert_array_equal(model(fields), joined)
    np.testing.assert_array_equal(model({"b": fields["b"]}, **dict([*fields.items()][1:])), joined)
    tensors = {name: lamina.Input(x.shape[1:]) for name, x in fields.items()}
    graph = lamina.Model(tensors, Joined()(tensors))
    for given in (fields, dict(sorted(fields.items()))):
        np.testing.assert_array_equal(graph(given), joined)
        np.testing.assert_array_equal(graph.predict(given, verbose=0), joined)


def test_weights_are_in_order_and_named_by_their_path(net):
    assert [w.path for w in net.weights][:3] == ["net/first/kernel", "net/first/bias", "net/norm/gamma"]
    assert len(net.trainable_weights) == 6 and len(net.non_trainable_weights) == 2


def test_freezing_a_model_freezes_all_below(net):
    net.trainable = False
    assert net.trainable_weights == [] and not net.get_layer("second").trainable
    net.trainable = True
    net.get_layer("first").trainable = False
    assert net.trainable_weights[0].path == "net/norm/gamma"


def test_set_weights_takes_all_or_none(net):
    before = net.get_weights()
    bad = [np.ones_like(w) for w in before[:-1]] + [np.ones(99)]
    with pytest.raises(ValueError, match=re.escape('Net "net": the array for net/second/bias must have shape (2,)')):
        net.set_weights(bad)
    with pytest.raises(ValueError, match='Net "net": set_weights must get 8 arrays, got 1'):
        net.set_weights(before[:1])
    for a, b in zip(before, net.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_deep_copy_has_weights_of_its_own(net):
    twin = copy.deepcopy(net)
    np.testing.assert_array_equal(np.asarray(twin(X)), np.asarray(net(X)))
    twin.set_weights([w * 0 for w in twin.get_weights()])
    assert np.abs(net.get_weights()[0]).max() > 0


def test_a_compiled_model_can_be_copied_after_training(net):
    net.compile("adam", "mse")
    net.fit(X, X[:, :2], verbose=0)
    twin = copy.deepcopy(net)
    np.testing.assert_array_equal(np.asarray(twin(X)), np.asarray(net(X)))
    twin.compile("adam", "mse")
    twin.fit(X, X[:, :2], verbose=0)


def test_a_model_can_be_pickled(net):
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(np.asarray(twin(X)), np.asarray(net(X)))


def graph(units=2):
    inputs = lamina.Input((3,))
    return inputs, layers.Dense(units)(inputs)


class OfGraph(lamina.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(*graph(units), **kwargs)


class Stack(lamina.Sequential):
    def __init__(this, units=4, **kwargs):
        super().__init__([layers.Dense(units), layers.Dense(2)], **kwargs)


class Above(Net):
    def __init__(self, half, **kwargs):
        super().__init__(2 * half, **kwargs)


class Around(layers.Wrapper):
    def __init__(self, layer, units=4, **kwargs):
        super().__init__(layer, **kwargs)
        self.head = layers.Dense(units)

    def call(self, x):
        return self.head(self.layer(x))


class Leaky(layers.LeakyReLU):
    def __init__(self, tenths=3, **kwargs):
        super().__init__(0.1 * tenths, **kwargs)


class Passes(lamina.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Named(lamina.Model):
    def __init__(self, inputs, outputs, name=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)


class Trains(lamina.Sequential):
    def train_step(self, data):
        return super().train_step(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Net(5), lambda: OfGraph(5), lambda: Stack(5), lambda: Above(half=3), lambda: Net(units=1, name="one"),
        lambda: Around(layers.Dense(2), 5), lambda: Leaky(1), lambda: Passes(*graph()),
        lambda: Passes(inputs=(g := graph())[0], outputs=g[1]), lambda: Named(*graph()),
        lambda: Trains([layers.Dense(2)]),
    ],
)  # fmt: skip
def test_what_a_class_of_the_program_was_given_is_its_configuration(make, tmp_path):
    model = make()
    expected = np.asarray(model(X))
    twin = type(model).from_config(model.get_config())
    assert twin(X).shape == expected.shape and twin.get_config() == model.get_config()
    whole = lamina.Sequential([model])
    whole(X)
    whole.save(tmp_path / "model.keras")
    opened = lamina.models.load_model(tmp_path / "model.keras", custom_objects={type(model).__name__: type(model)})
    assert type(opened.layers[0]) is type(model)
    np.testing.assert_array_equal(np.asarray(opened(X)), expected)


def test_a_clone_of_a_subclass_is_made_of_its_configuration():
    net = Net(5, name="net")
    net(X)
    twin = lamina.models.clone_model(net)
    twin(X)
    assert [w.shape for w in twin.weights] == [w.shape for w in net.weights]
    with pytest.raises(ValueError, match=r'a subclassed model has no graph.*got "net"'):
        lamina.models.clone_model(net, clone_function=lambda layer: layer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "get_layer must get a name or an index, one of the two."),
        ({"name": "a", "index": 0}, "get_layer must get a name or an index, one of the two."),
        ({"name": "thrid"}, "get_layer must get the name of a layer (first, norm, second), got 'thrid'."),
        ({"index": 7}, "get_layer's index must be below 3, got 7."),
    ],
)
def test_get_layer(net, given, message):
    with pytest.raises(ValueError, match=f'^Net "net": {re.escape(message)}$'):
        net.get_layer(**given)


def test_a_subclass_must_define_call():
    class Empty(lamina.Model):
        pass

    with pytest.raises(NotImplementedError, match=r'^Empty "empty": a subclass of Model must define call'):
        Empty(name="empty")(X)


def test_build_makes_the_weights_for_a_shape():
    model = Net()
    model.build((None, 3))
    assert model.built and len(model.weights) == 8


def test_an_error_in_a_layer_names_the_way_to_it(net):
    message = 'Dense "net/first": the input must have size 3 on axis -1, got shape (4, 5); it was built for (4, 3).'
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        net(np.zeros((4, 5)))


def test_the_summary_counts_weights(net):
    lines = []
    net.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert 'Model: "net"' in text and "first (Dense)" in text
    assert "Total params: 42" in text and "Trainable params: 34" in text and "Non-trainable params: 8" in text


def test_two_models_may_share_a_layer():
    shared = layers.Dense(3, name="shared")
    models = [lamina.Sequential([lamina.Input((3,)), shared, layers.Dense(1)]) for _ in range(2)]
    for model in models:
        model.compile("sgd", "mse")
    before = shared.kernel.numpy()
    models[0].fit(X, X[:, :1], verbose=0)
    after = shared.kernel.numpy()
    assert np.abs(after - before).max() > 0
    models[1].fit(X, X[:, :1], verbose=0)
    assert np.abs(shared.kernel.numpy() - after).max() > 0


def test_layers_of_a_graph_are_those_of_the_graph():
    class Graph(lamina.Model):
        def __init__(self):
            self.early = layers.Dense(1)
            inputs = lamina.Input((3,))
            super().__init__(inputs, layers.Dense(2)(inputs))
            self.late = layers.Dense(1)
            self.early.build((None, 3))
            self.late.build((None, 3))

    model = Graph()
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Dense"]
    assert len(model.weights) == 6  # the others are parts all the same


@pytest.mark.parametrize("held", [12, [1, 2], {"a": 1}])
def test_a_summary_takes_layers_that_keep_something_else_in_layers(held, capsys):
    layer = layers.Dense(2, name="odd")
    layer.layers = held
    lamina.Sequential([lamina.Input((3,)), layer]).summary(expand_nested=True)
    assert "odd" in capsys.readouterr().out
