"""`build`: who may call whom, and that one which fails leaves nothing."""

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.layer.parts import walk
from tests.programs.both import same_in_both

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


# super().build(input_shape), the way that programs end their own


def plain_layer(keras):
    class Own(keras.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 2), "ones")
            super().build(input_shape)

        def call(self, x):
            return keras.ops.matmul(x, self.w)

    return Own(), X


def first_of_all(keras):
    class Own(keras.layers.Layer):
        def build(self, input_shape):
            super().build(input_shape)
            self.w = self.add_weight((input_shape[-1], 2), "ones")

        def call(self, x):
            return keras.ops.matmul(x, self.w)

    return Own(), X


def named_parent(keras):
    class Own(keras.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 2), "ones")
            keras.layers.Layer.build(self, input_shape)

        def call(self, x):
            return keras.ops.matmul(x, self.w)

    return Own(), X


def children(keras):
    class Own(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.one = keras.layers.Dense(2, kernel_initializer="ones")
            self.two = keras.layers.Dense(2, kernel_initializer="ones")

        def build(self, input_shape):
            self.one.build(input_shape)
            super().build(input_shape)

        def call(self, x):
            return self.two(self.one(x))

    return Own(), X


def model(keras):
    class Own(keras.Model):
        def build(self, input_shape):
            self.dense = keras.layers.Dense(2, kernel_initializer="ones")
            self.dense.build(input_shape)
            super().build(input_shape)

        def call(self, x):
            return self.dense(x)

    return Own(), X


def dict_inputs(keras):
    class Own(keras.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape["a"][-1], 2), "ones")
            super().build(input_shape)

        def call(self, inputs):
            return keras.ops.matmul(inputs["a"] + inputs["b"], self.w)

    return Own(), {"a": X, "b": 2 * X}


def three_classes(keras):
    class First(keras.layers.Layer):
        def build(self, input_shape):
            self.a = self.add_weight((input_shape[-1],), "ones")
            super().build(input_shape)

    class Second(First):
        def build(self, input_shape):
            self.b = self.add_weight((input_shape[-1],), "ones")
            super().build(input_shape)

    class Third(Second):
        def build(self, input_shape):
            super().build(input_shape)
            self.c = self.add_weight((input_shape[-1],), "ones")

        def call(self, x):
            return x * self.a + self.b + self.c

    return Third(), X


def beside_the_layers(keras):
    class Beside:
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 2), "ones")
            super().build(input_shape)

    class Own(Beside, keras.layers.Layer):
        def call(self, x):
            return keras.ops.matmul(x, self.w)

    return Own(), X


def wrapper(keras):
    class Own(keras.layers.Wrapper):
        def build(self, input_shape):
            self.scale = self.add_weight((), "ones")
            super().build(input_shape)

        def call(self, x):
            return self.layer(x) * self.scale

    return Own(keras.layers.Dense(2, kernel_initializer="ones")), X


def subclass_of_dense(keras):
    class Own(keras.layers.Dense):
        def build(self, input_shape):
            self.scale = self.add_weight((), "ones")
            super().build(input_shape)

        def call(self, x):
            return super().call(x) * self.scale

    return Own(2, kernel_initializer="ones"), X


def cell(keras):
    class Cell(keras.layers.Layer):
        state_size = output_size = 2

        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 2), "ones")
            super().build(input_shape)

        def call(self, x, states):
            out = keras.ops.matmul(x, self.w) + states[0]
            return out, [out]

    return keras.layers.RNN(Cell()), np.stack([X, X], 1)


IDIOMS = [
    plain_layer, first_of_all, named_parent, children, model, dict_inputs, three_classes, beside_the_layers, wrapper,
    subclass_of_dense, cell,
]  # fmt: skip


@pytest.mark.parametrize("make", IDIOMS, ids=lambda make: make.__name__)
def test_an_own_build_may_call_that_of_the_class_above(make):
    def program(keras):
        layer, inputs = make(keras)
        outputs = layer(inputs)
        return outputs, layer.built, [w.shape for w in layer.weights], layer(inputs)

    assert same_in_both(program)[1]


@pytest.mark.parametrize("make", IDIOMS, ids=lambda make: make.__name__)
def test_an_own_build_may_be_called_by_hand(make):
    layer, inputs = make(lamina)
    layer.build(lamina.tree.map_structure(lambda x: (None, *x.shape[1:]), inputs))
    assert layer.built
    outputs = layer(inputs)
    twin, _ = make(lamina)
    np.testing.assert_array_equal(np.asarray(outputs), np.asarray(twin(inputs)))


def test_a_layer_may_be_called_in_its_own_build():
    class Own(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 2), "ones")
            self.size = self(np.zeros((1, input_shape[-1]), "float32")).shape

        def call(self, x):
            return lamina.ops.matmul(x, self.w)

    layer = Own()
    layer(X)
    assert layer.size == (1, 2) and len(layer.weights) == 1


@pytest.mark.parametrize("base", [layers.Layer, lamina.Model])
def test_build_without_an_own_one_takes_calls_of_two_arrays(base):
    class Two(base):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x, y):
            return self.dense(x) + y

    layer = Two()
    layer.build((None, 3))
    assert layer.built
    assert layer(X, X[:, :2]).shape == (4, 2) and len(layer.weights) == 2


def test_build_without_an_own_one_builds_the_children():
    class One(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x, training, scale=2.0):
            return self.dense(x) * scale

    layer = One()
    layer.build((None, 3))
    assert layer.dense.kernel.shape == (3, 2)


def test_build_gets_the_shape_of_a_mask_if_it_asks_for_it():
    def program(keras):
        class Weighted(keras.layers.Layer):
            def build(self, x_shape, attention_mask_shape=None):
                self.w = self.add_weight(attention_mask_shape[1:], "ones")

            def call(self, x, attention_mask=None):
                return x * attention_mask * self.w

        layer = Weighted()
        return layer(X, attention_mask=X[:, :1]), layer.w.shape

    assert same_in_both(program)[1] == (1,)


# What fails leaves nothing


class Fails(layers.Layer):
    """Builds all kinds of things, and then fails as often as it is told."""

    def __init__(self, times=1):
        super().__init__(name="fails")
        self.times = [times]  # in a list that the layer puts back too
        self.seen, self.table, self.nested = [], {"a": 1}, {"inner": [[]]}
        self.ready = layers.Dense(2)
        self.listed = [layers.Dense(2)]
        self.chosen = {1}

    def build(self, input_shape):
        self.w = self.add_weight((2,))
        self.made = layers.Dense(2)
        self.made.build(input_shape)
        self.ready.build(input_shape)
        self.listed[0].build(input_shape)
        self.listed.append(layers.Dense(3))
        self.listed[1].build(input_shape)
        self.seen.append("built")
        self.table["b"] = layers.Dense(1)
        self.table["a"] = 2
        self.nested["inner"][0].append(layers.Dense(1))
        self.chosen.add(2)
        self.late()

    def late(self):
        if broken:
            raise RuntimeError("on purpose")

    def call(self, x):
        return x


class Around(layers.Layer):
    """Builds its children by calling them."""

    def __init__(self):
        super().__init__()
        self.before, self.inner = layers.Dense(3), Fails()

    def call(self, x):
        self.later = layers.Dense(1)
        return self.inner(self.before(x))


class AroundModel(lamina.Model):
    def __init__(self):
        super().__init__()
        self.parts_ = [layers.Dense(3), layers.BatchNormalization(), Fails()]

    def call(self, x):
        for part in self.parts_:
            x = part(x)
        return x


broken = True
KINDS = {
    "layer": Fails,
    "around": Around,
    "model": AroundModel,
    "wrapper": lambda: layers.TimeDistributed(Fails()),
    "sequential": lambda: lamina.Sequential([layers.Dense(3), Around()]),
    "nested": lambda: lamina.Sequential([layers.Dense(3), lamina.Sequential([layers.Dense(3), Fails()])]),
}


def state_of(layer):
    """All that a layer and those below it hold, without what only counts calls."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return id(value)

    return [
        {name: plain(value) for name, value in vars(each).items() if name not in ("_uids", "_launchers")}
        for each in walk(layer)
    ]


@pytest.mark.parametrize("way", ["called", "called on a symbol", "built"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_while_it_builds_leaves_nothing(kind, way, monkeypatch):
    layer = KINDS[kind]()
    inputs = np.stack([X, X], 1) if kind == "wrapper" else X
    act = {
        "called": lambda: layer(inputs),
        "called on a symbol": lambda: layer(lamina.Input(inputs.shape[1:])),
        "built": lambda: layer.build((None, *inputs.shape[1:])),
    }[way]
    before = state_of(layer)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            act()
        assert state_of(layer) == before
        assert layer.weights == [] and not any(each.built for each in walk(layer))
    monkeypatch.setattr(f"{__name__}.broken", False)
    act()
    assert layer.built and len(layer.weights) > 0


def test_a_layer_that_does_not_fit_leaves_a_stack_as_it_was():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2)])
    before = state_of(model)
    wrong = Fails()
    with pytest.raises(RuntimeError, match="on purpose"):
        model.add(wrong)
    assert model.layers[-1].units == 2 and model.built and model.output_shape == (None, 2)
    assert len(state_of(model)) == len(before) and wrong.weights == [] and not wrong.built
    model.add(layers.Dense(5))
    assert model.output_shape == (None, 5)


class Lookup(layers.Layer):
    """Without a build of its own, of which it is told a shape that it is not called with."""

    def call(self, x):
        return x @ np.ones((3, 2), "float32")


def test_a_layer_with_nothing_to_build_takes_any_shape():
    layer = Lookup()
    layer.build((None,))
    assert layer.built and layer(X).shape == (4, 2)


@pytest.mark.parametrize(
    ("base", "arguments"),
    [
        ("Dropout", (0.5,)), ("Identity", ()), ("ReLU", ()), ("GlobalMaxPooling1D", ()), ("UnitNormalization", ()),
        ("ActivityRegularization", ()), ("MaxPooling1D", (2,)), ("Reshape", ((3,),)),
    ],
)  # fmt: skip
def test_a_layer_without_weights_takes_those_of_a_subclass(base, arguments):
    class Own(getattr(layers, base)):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1],), "ones")

        def call(self, x):
            return x * self.w

    assert getattr(layers, base)(*arguments).built
    layer = Own(*arguments)
    assert not layer.built
    inputs = X[:, None]
    assert layer(inputs).shape == inputs.shape and layer.built and [w.shape for w in layer.weights] == [(3,)]
