"""Models whose inputs are strings: they train, evaluate, predict and save as any other."""

import numpy as np
import pandas as pd
import pytest

import lamina
from lamina import layers

TEXTS = ["the good film", "a bad bad film", "good good", "bad plot", "fine good fun", "awful bad mess"] * 8
LABELS = np.array([1, 0, 1, 0, 1, 0] * 8)


def vectorization(**arguments):
    layer = layers.TextVectorization(**{"output_sequence_length": 5, **arguments})
    layer.adapt(TEXTS)
    return layer


def rest():
    return [layers.Embedding(30, 8), layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")]


def with_input():
    return lamina.Sequential([lamina.Input((1,), dtype="string"), vectorization(), *rest()])


def without_input():
    return lamina.Sequential([vectorization(), *rest()])


def of_counts():
    counts = vectorization(output_mode="count", output_sequence_length=None)
    return lamina.Sequential([lamina.Input((1,), dtype="string"), counts, layers.Dense(1, activation="sigmoid")])


def functional():
    x = lamina.Input((1,), dtype="string")
    h = vectorization()(x)
    for layer in rest():
        h = layer(h)
    return lamina.Model(x, h)


def nested():
    inner, x = with_input(), lamina.Input((1,), dtype="string")
    return lamina.Model(x, inner(x))


KINDS = {"list": list, "array": np.array, "column": lambda x: np.array(x)[:, None], "series": pd.Series}


@pytest.mark.parametrize("make", [with_input, without_input, of_counts, functional, nested])
@pytest.mark.parametrize("kind", ["list", "array"])
def test_a_model_on_texts_trains_and_is_saved(make, kind, tmp_path):
    lamina.utils.set_random_seed(0)
    model, x = make(), KINDS[kind](TEXTS)
    model.compile(lamina.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(x, LABELS, validation_data=(x, LABELS), epochs=20, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] == 1.0 == model.evaluate(x, LABELS, verbose=0)[1]
    outputs = model.predict(x, verbose=0)
    np.testing.assert_allclose(model(x), outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict_on_batch(x), outputs, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = lamina.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), outputs)
    again.fit(x, LABELS, validation_split=0.25, verbose=0)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_any_kind_give_the_same(kind):
    model = functional()
    np.testing.assert_array_equal(model.predict(KINDS[kind](TEXTS), verbose=0), model.predict(TEXTS, verbose=0))


def batches():
    return [(np.array(TEXTS[at : at + 16]), LABELS[at : at + 16]) for at in range(0, len(TEXTS), 16)]


class Dataset(lamina.utils.PyDataset):
    def __len__(self):
        return len(batches())

    def __getitem__(self, i):
        return batches()[i]


def of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(16)


@pytest.mark.parametrize("make", [with_input, without_input])
@pytest.mark.parametrize("stream", [lambda: iter(batches() * 3), Dataset, of_tensorflow])
def test_streams_of_texts_train_the_same_model(make, stream):
    models = []
    for _ in range(2):
        lamina.utils.set_random_seed(0)
        models.append(make())
        models[-1].compile("sgd", "binary_crossentropy")
    models[0].fit(stream(), epochs=3, steps_per_epoch=3, shuffle=False, verbose=0)
    models[1].fit(np.array(TEXTS), LABELS, batch_size=16, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(models[0].get_weights(), models[1].get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_texts_beside_numbers():
    text, number = lamina.Input((1,), dtype="string", name="text"), lamina.Input((2,), name="number")
    h = layers.GlobalAveragePooling1D()(layers.Embedding(30, 4)(vectorization()(text)))
    model = lamina.Model({"text": text, "number": number}, layers.Dense(1)(layers.concatenate([h, number])))
    model.compile("adam", "mse")
    data = {"text": TEXTS, "number": np.ones((48, 2))}
    model.fit(data, LABELS, verbose=0)
    np.testing.assert_allclose(model.predict(data, verbose=0), model(data), rtol=1e-5, atol=1e-6)


def test_what_a_layer_learns_later_counts_for_a_model_that_is_compiled_already():
    lookup, x = layers.IntegerLookup(vocabulary=[5, 7]), lamina.Input((1,), dtype="int64")
    model = lamina.Model(x, layers.Embedding(3, 1, embeddings_initializer="uniform")(lookup(x)))
    ids = np.array([[2**40], [5], [7]])
    before = model.predict(ids, verbose=0)
    lookup.set_vocabulary([2**40, 5])
    np.testing.assert_array_equal(model.predict(ids, verbose=0)[[2, 0, 1]], before[[0, 1, 2]])


def test_a_layer_with_weights_on_strings_is_refused():
    class Own(lamina.layers.Layer):
        def __init__(self):
            super().__init__()
            self.text, self.scale = vectorization(), self.add_weight((), "ones")

        def compute_output_spec(self, inputs):
            return lamina.KerasTensor((None, 5), "float32")

        def call(self, inputs):
            return self.text(inputs) * self.scale

    x = lamina.Input((1,), dtype="string")
    model = lamina.Model(x, layers.Dense(1)(Own()(x)))
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r'"own.*" must have no weights, since it gets strings'):
        model.fit(TEXTS, LABELS, verbose=0)


def test_numbers_in_place_of_texts_are_refused():
    with pytest.raises(ValueError, match="must hold strings, got dtype"):
        functional().predict(np.ones((3, 1)), verbose=0)


class Looks(layers.Layer):
    """A lookup and a table in one layer."""

    def __init__(self):
        super().__init__()
        self.text, self.table = vectorization(), layers.Embedding(30, 4)

    def call(self, inputs):
        return self.table(self.text(inputs))


@pytest.mark.parametrize("use", [lambda x: Looks()(x), lambda x: lamina.ops.add(x, 1)])
def test_strings_where_a_device_computes_are_refused_by_name(use):
    with pytest.raises(TypeError, match=r'Tensor "query": must hold numbers .*, got strings; let StringLookup, '):
        use(lamina.Input((1,), dtype="string", name="query"))
