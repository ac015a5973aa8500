"""Programs on text: masks from the embedding to the loss."""

import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

TOKENS = np.array([[3, 1, 4, 0, 0], [1, 5, 0, 0, 0], [9, 2, 6, 5, 3], [5, 8, 9, 7, 0]])
LABELS = np.array([0, 1, 1, 0])


def attention_model(length):
    tokens = lamina.Input((length,), dtype="int32")
    h = lamina.layers.Embedding(10, 8, mask_zero=True)(tokens)
    h = h + lamina.layers.MultiHeadAttention(2, 4)(h, h)
    return lamina.Model(tokens, lamina.layers.GlobalAveragePooling1D()(h))


@pytest.mark.parametrize("call", [lambda model, x: model(x), lambda model, x: model.predict(x, verbose=0)])
def test_a_sum_with_attention_keeps_the_mask(call):
    """Each row's output is that of its tokens alone, without the padding (Keras loses the mask in the sum)."""
    model = attention_model(None)
    outputs = np.asarray(call(model, TOKENS))
    for row, tokens in zip(outputs, TOKENS):
        alone = model(tokens[tokens > 0][None])
        np.testing.assert_allclose(row, np.asarray(alone)[0], rtol=1e-5, atol=1e-6)


def test_a_sum_with_attention_keeps_the_mask_when_layers_are_called_one_by_one():
    embed, attention = lamina.layers.Embedding(10, 8, mask_zero=True), lamina.layers.MultiHeadAttention(2, 4)
    pool = lamina.layers.GlobalAveragePooling1D()

    def outputs(tokens):
        h = embed(tokens)
        return np.asarray(pool(lamina.layers.add([h, attention(h, h)])))

    whole = outputs(TOKENS)
    for row, tokens in zip(whole, TOKENS):
        np.testing.assert_allclose(row, outputs(tokens[tokens > 0][None])[0], rtol=1e-5, atol=1e-6)


def test_a_sum_written_with_a_plus_keeps_the_mask_in_a_subclass():
    class Text(lamina.Model):
        def __init__(self):
            super().__init__()
            self.embed = lamina.layers.Embedding(10, 8, mask_zero=True)
            self.attention = lamina.layers.MultiHeadAttention(2, 4)
            self.pool = lamina.layers.GlobalAveragePooling1D()

        def call(self, tokens):
            h = self.embed(tokens)
            return self.pool(lamina.ops.add(h, self.attention(h, h)))

    model = Text()
    outputs = model.predict(TOKENS, verbose=0)
    for row, tokens in zip(outputs, TOKENS):
        np.testing.assert_allclose(row, np.asarray(model(tokens[tokens > 0][None]))[0], rtol=1e-5, atol=1e-6)


def test_padding_does_not_train():
    """The gradient of a masked classifier is that of the tokens alone: row 0 of the table stays."""
    model = lamina.Sequential([attention_model(5), lamina.layers.Dense(1, "sigmoid")])
    model.compile(lamina.optimizers.SGD(0.5), "binary_crossentropy")
    table = model.weights[0].numpy()
    model.fit(TOKENS, LABELS, batch_size=2, epochs=3, verbose=0)
    after = model.weights[0].numpy()
    np.testing.assert_array_equal(after[0], table[0])
    assert np.abs(after[1:] - table[1:]).max() > 0


def test_a_loss_along_time_is_masked():
    def program(keras):
        tokens = keras.Input((5,), dtype="int32")
        x = keras.layers.Embedding(10, 4, mask_zero=True)(tokens)
        model = keras.Model(tokens, keras.layers.Dense(10)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
        history = model.fit(TOKENS, TOKENS, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        return history, model.evaluate(TOKENS, TOKENS, verbose=0, return_dict=True)

    same_in_both(program)


def test_masking_of_numbers():
    def program(keras):
        series = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
        series[0, 3:] = series[1, 2:] = 0.0
        model = keras.Sequential(
            [keras.layers.Masking(), keras.layers.Dense(4, "tanh"), keras.layers.GlobalAveragePooling1D()]
        )
        return model(series), model.predict(series, verbose=0)

    same_in_both(program)


def test_a_recurrent_classifier():
    def program(keras):
        model = keras.Sequential(
            [
                keras.layers.Embedding(10, 4, mask_zero=True),
                keras.layers.LSTM(3, return_sequences=True),
                keras.layers.LSTM(2),
                keras.layers.Dense(1, "sigmoid"),
            ]
        )
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        history = model.fit(TOKENS, LABELS, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        return history, model.predict(TOKENS, verbose=0)

    same_in_both(program)
