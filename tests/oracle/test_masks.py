"""Masks beside Keras: which layers pass them on, and what graphs in its files compute of them."""

import warnings

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import lamina
from lamina.core import masking
from lamina.layers.preprocessing.base import ImageLayer
from tests.laws.descriptors import ROWS

# Keras warns of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
    pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning"),
]

TOKENS = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 1]], "int32")


@pytest.mark.parametrize("row", {row.layer: row for row in ROWS}.values(), ids=lambda row: row.layer)
def test_layers_claim_masks_as_those_of_keras(row):
    assert row.make().supports_masking == row.make(keras.layers).supports_masking


def lengths(x):
    return jnp.arange(x.shape[1])[None, :] < jnp.arange(1, x.shape[0] + 1)[:, None]


def outcome(row, library, put, get):
    """The masks of the outputs, and how often it was said that one ends."""
    layer, args = row.make(library), jax.tree.map(jnp.asarray, row.data())
    for x in jax.tree.leaves(args):
        if x.ndim > 2:
            put(x, lengths(x))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        outputs = layer(*args, **row.call)
    masks = [get(x) for x in jax.tree.leaves(outputs)]
    return [None if m is None else np.asarray(m).tolist() for m in masks], sum("mask" in str(w.message) for w in told)


# Rows on which Keras fails with a mask.
KERAS_FAILS = {
    "Softmax()", "Softmax(axis=(-1, -2))", "GlobalAveragePooling1D(keepdims=True, data_format=channels_first)",
}  # fmt: skip


def keras_takes(row):
    image = row.layer == "BatchNormalization" and len(row.inputs) == 4
    sizes = row.layer == "MultiHeadAttention" and ("value_dim" in row.arguments or "attention_axes" in row.arguments)
    # Keras's ConvLSTM fails on JAX, and the projections in its GroupQueryAttention warn that they end the mask.
    otherwise = row.layer.startswith("ConvLSTM") or row.layer == "GroupQueryAttention"
    # Images come back as they are at inference, with what is attached to them; Keras warns all the same.
    otherwise = otherwise or issubclass(getattr(lamina.layers, row.layer), ImageLayer)
    return not (repr(row) in KERAS_FAILS or image or sizes or otherwise)


@pytest.mark.parametrize("row", [row for row in ROWS if keras_takes(row)], ids=repr)
def test_masks_pass_through_every_row_as_in_keras(row):
    ours = outcome(row, lamina.layers, masking.set_mask, masking.get_mask)
    theirs = outcome(
        row, keras.layers, lambda x, m: setattr(x, "_keras_mask", m), lambda x: getattr(x, "_keras_mask", None)
    )
    assert ours == theirs


# Graphs ---------------------------------------------------------------------------------------------------------------


def plus_positions(k, h):
    positions = k.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))
    return h + positions


BETWEEN = {
    "scaled": lambda k, h: h * 2 + 1,
    "positions": plus_positions,
    "residual": lambda k, h: h + k.layers.Dense(3, name="dense")(h),
    "an op": lambda k, h: k.ops.tanh(h),
    "a layer of sums": lambda k, h: k.layers.Add(name="sum")([h, k.layers.Dense(3, name="dense")(h)]),
    "nothing": lambda k, h: h,
}
USERS = {
    "LSTM": lambda k: k.layers.LSTM(4, name="user"),
    "GRU": lambda k: k.layers.GRU(4, return_sequences=True, name="user"),
    "pooling": lambda k: k.layers.GlobalAveragePooling1D(name="user"),
    "states": lambda k: lambda h: k.layers.GRU(3, name="user")(h, initial_state=h[:, 0]),
}


def model_of(k, between, user="LSTM"):
    k.utils.set_random_seed(0)
    tokens = k.Input((5,), dtype="int32", name="tokens")
    h = k.layers.Embedding(9, 3, mask_zero=True, name="embedding")(tokens)
    return k.Model(tokens, USERS[user](k)(BETWEEN[between](k, h)))


quiet = pytest.mark.filterwarnings("ignore:.*gets no mask:UserWarning")


@quiet
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("between", BETWEEN)
def test_a_file_of_keras_predicts_as_there(between, user, tmp_path):
    theirs = model_of(keras, between, user)
    theirs.save(tmp_path / "model.keras")
    ours = lamina.saving.load_model(tmp_path / "model.keras")
    expected = theirs.predict(TOKENS, verbose=0)
    np.testing.assert_allclose(ours.predict(TOKENS, verbose=0), expected, rtol=1e-5, atol=1e-6)
    ours.save(tmp_path / "again.keras")
    np.testing.assert_allclose(
        lamina.saving.load_model(tmp_path / "again.keras").predict(TOKENS, verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    twin = lamina.models.clone_model(ours)
    twin.set_weights(ours.get_weights())
    np.testing.assert_allclose(twin.predict(TOKENS, verbose=0), expected, rtol=1e-5, atol=1e-6)


@quiet
def test_a_file_of_keras_keeps_its_rule_in_layers_of_the_program(tmp_path):
    def twice(k):
        class Twice(k.layers.Layer):
            def call(self, x):
                return k.ops.multiply(x, 2.0)

        return Twice

    made = {}
    for k in (keras, lamina):
        made[k] = twice(k)
    layers = keras.layers
    stack = [layers.Embedding(9, 3, mask_zero=True), made[keras](), layers.LSTM(4)]
    theirs = keras.Sequential([keras.Input((5,), dtype="int32"), *stack])
    expected = theirs(TOKENS)
    theirs.save(tmp_path / "model.keras")
    ours = lamina.saving.load_model(tmp_path / "model.keras", custom_objects={"Twice": made[lamina]})
    with pytest.warns(UserWarning, match='Twice ".*": does not support masking'):
        np.testing.assert_allclose(ours(TOKENS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("between", ["scaled", "positions", "residual", "an op"])
def test_saving_what_keras_would_change_warns_once_and_names_the_op(between, tmp_path):
    model = model_of(lamina, between)
    names = {"scaled": "multiply, add", "positions": "add", "residual": "add", "an op": "tanh"}[between]
    with pytest.warns(UserWarning, match=rf"Keras will not pass masks on through {names}, so .*layers\.Add"):
        model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "model.keras")
    again = lamina.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(TOKENS), model(TOKENS), rtol=1e-6)
    theirs = keras.saving.load_model(tmp_path / "model.keras")  # and opens it all the same
    full = TOKENS[2:]
    np.testing.assert_allclose(theirs(full), model(full), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(lamina, "a layer of sums"),
        lambda: model_of(lamina, "nothing"),
        lambda: lamina.Sequential([lamina.Input((5,)), lamina.layers.Embedding(9, 3, mask_zero=True)]),
    ],
)
def test_what_keras_computes_alike_is_saved_in_silence_and_opens_there(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    theirs = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(theirs(TOKENS), model(TOKENS), rtol=1e-5, atol=1e-6)


def test_an_op_whose_mask_nobody_uses_is_saved_in_silence(tmp_path):
    tokens = lamina.Input((5,), dtype="int32")
    h = lamina.layers.Embedding(9, 3, mask_zero=True)(tokens) * 2
    model = lamina.Model(tokens, lamina.ops.mean(lamina.layers.Dense(2)(h), axis=1))
    model.save(tmp_path / "model.keras")


def test_saving_warns_of_a_mask_that_keras_would_not_give_beside_states(tmp_path):
    model = model_of(lamina, "nothing", "states")
    with pytest.warns(UserWarning, match=r'Keras will not give GRU ".*" mask, which gets several arrays'):
        model.save(tmp_path / "model.keras")
