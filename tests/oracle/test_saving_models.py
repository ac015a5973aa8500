"""Models of one's own classes, and models in training, that go from Keras to us and from us to Keras."""

import warnings
from typing import Any

import numpy as np
import pytest

import lamina
from tests.oracle.test_saving import graph, with_random_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras

# Models of one's own ---------------------------------------------------------------------------------------------


def blocks(k) -> type:
    """A class of models that holds layers in every way: attributes, lists in lists, dicts, twice, hidden."""

    class Blocks(k.Model):
        def __init__(self, width=3, **kwargs):
            super().__init__(**kwargs)
            self.width = width
            self.stack = [
                k.layers.Dense(width),
                k.layers.Dense(width),
                [k.layers.Dense(width), {"a": k.layers.Dense(2)}],
            ]
            self.named = {"y": k.layers.Dense(2), "x": k.layers.BatchNormalization()}
            self._hidden = k.layers.Dense(2)
            self.again = self.stack[0]
            self.inner = k.Sequential([k.layers.Dense(2), k.layers.Dropout(0.5)])
            self.scale = self.add_weight(shape=(2,), initializer="ones", name="scale")
            self.offset = k.Variable(np.zeros(2, "float32"))

        def get_config(self):
            return {**super().get_config(), "width": self.width}

        def call(self, x):
            x = self.stack[2][0](self.stack[1](self.again(x)))
            x = self.named["x"](self.named["y"](self.stack[2][1]["a"](x)))
            return self.inner(self._hidden(x)) * self.scale + self.offset

    return Blocks


def interleaved(k) -> type:
    """A class that fills two lists of one kind of layer in turns: the order of its weights is that of the making."""

    class Interleaved(k.Model):
        def __init__(self, last=None, **kwargs):
            super().__init__(**kwargs)
            made_before = k.layers.Dense(4)
            self.queries, self.keys, self.norms = [], [], []
            for _ in range(3):
                self.queries.append(k.layers.Dense(4))
                self.keys.append(k.layers.Dense(4))
                self.norms.append(k.layers.BatchNormalization())
            self.out = k.layers.Dense(2)
            self.first = made_before

        def call(this, x):
            x = this.first(x)
            for query, key, norm in zip(this.queries, this.keys, this.norms):
                x = norm(query(x) + 2.0 * key(x))
            return this.out(x)

    return Interleaved


def wired(k) -> type:
    """A class of graph models with layers in attributes besides."""

    class Wired(k.Model):
        def __init__(self, units=3, **kwargs):
            inputs = k.Input((4,))
            first, second = k.layers.Dense(units), k.layers.Dense(2)
            super().__init__(inputs=inputs, outputs=second(first(inputs)), **kwargs)
            self.best = second
            self.units = units

        def get_config(self):
            return {"units": self.units, "name": self.name}

    return Wired


def own_layer(k) -> type:
    """A layer with variables under keys of its own."""

    class Affine(k.layers.Layer):
        def build(self, input_shape):
            self.a = self.add_weight(shape=(input_shape[-1],), name="a")
            self.b = self.add_weight(shape=(), name="b")

        def call(self, x):
            return self.a * x + self.b

        def save_own_variables(self, store):
            store["slope"], store["shift"] = np.asarray(self.a), np.asarray(self.b)

        def load_own_variables(self, store):
            self.a.assign(store["slope"])
            self.b.assign(store["shift"])

    return Affine


@pytest.mark.parametrize("make_class", [blocks, interleaved, wired, own_layer])
@pytest.mark.parametrize(("source", "target"), [(keras, lamina), (lamina, keras)], ids=["from Keras", "to Keras"])
@pytest.mark.filterwarnings("ignore")
def test_classes_of_ones_own(make_class, source, target, tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    cls, other = make_class(source), make_class(target)
    model = cls()
    if not isinstance(model, source.Model):
        model = source.Sequential([source.Input((4,)), model])
    model(x)
    with_random_weights(model).save(tmp_path / "model.keras")
    twin = target.saving.load_model(tmp_path / "model.keras", custom_objects={cls.__name__: other})
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(np.asarray(twin(x)), np.asarray(model(x)), rtol=1e-5, atol=1e-5)


# Training --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_layers_train_though_keras_wrote_that_they_do_not(tmp_path):
    """Keras writes `training=False` for a Dropout that nobody said anything about."""
    graph(lambda k, x: k.layers.Dropout(0.5)(x))(keras).save(tmp_path / "model.keras")
    twin = lamina.saving.load_model(tmp_path / "model.keras")
    x = np.ones((8, 4), "float32")
    assert np.any(np.asarray(twin(x, training=True)) == 0)
    np.testing.assert_array_equal(twin(x, training=False), x)


@pytest.mark.filterwarnings("ignore")
def test_training_that_was_given_stays(tmp_path):
    model = graph(lambda k, x: k.layers.Dropout(0.5)(x, training=False))(lamina)
    model.save(tmp_path / "model.keras")
    x = np.ones((8, 4), "float32")
    np.testing.assert_array_equal(lamina.saving.load_model(tmp_path / "model.keras")(x, training=True), x)
    assert keras.saving.load_model(tmp_path / "model.keras").name == model.name


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "Adam": {"amsgrad": True},
    "AdamW": {"weight_decay": 0.01},
    "Nadam": {},
    "Adamax": {},
    "Adagrad": {},
    "Adadelta": {},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Ftrl": {},
    "Lion": {},
    "Adafactor": {},
    "Lamb": {},
    "Muon": {},
}


def compiled(k, name: str, options: dict[str, Any]):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(3, activation="tanh"), k.layers.Dense(1)])
    optimizer = getattr(k.optimizers, name)(0.01, **options)
    model.compile(
        optimizer, k.losses.BinaryCrossentropy(from_logits=True), metrics=["mae", k.metrics.RootMeanSquaredError()]
    )
    return with_random_weights(model)


def fit(model, epochs: int) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(24, 4)).astype("float32"), rng.integers(0, 2, (24, 1)).astype("float32")
    model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("source", "target"), [(keras, lamina), (lamina, keras)], ids=["from Keras", "to Keras"])
@pytest.mark.filterwarnings("ignore")
def test_training_goes_on(name, source, target, tmp_path):
    model = compiled(source, name, OPTIMIZERS[name])
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    twin = target.saving.load_model(tmp_path / "model.keras")
    for theirs, ours in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    fit(model, 2)
    fit(twin, 2)
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("source", "target"), [(keras, lamina), (lamina, keras)], ids=["from Keras", "to Keras"])
@pytest.mark.parametrize("limit", [None, 64 / 2**30], ids=["one file", "shards"])
@pytest.mark.filterwarnings("ignore")
def test_files_of_weights(source, target, limit, tmp_path):
    path = tmp_path / ("m.weights.h5" if limit is None else "m.weights.json")
    model, twin = compiled(source, "SGD", {}), compiled(target, "SGD", {})
    fit(model, 1)
    model.save_weights(path, max_shard_size=limit)
    twin.load_weights(path)
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Our shards have other names at each writing; an empty one has the name that Keras asks for first.
    assert len(list(tmp_path.iterdir())) == (1 if limit is None else 3 if source is keras else 4)


def test_keras_opens_a_model_whose_loss_and_metric_are_functions(tmp_path):
    model = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", lamina.losses.binary_crossentropy, metrics=[lamina.metrics.binary_accuracy])
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").loss is keras.losses.binary_crossentropy
