"""Recurrent layers beside those of Keras 3.15.1: values, gradients, weights, configurations, signatures."""

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import lamina

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 6
random = np.random.default_rng(3)
X = random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
STATES = [random.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(4)]
# A gap in the middle, one at the start, and right padding.
MASK = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)

KINDS = {
    "SimpleRNN": lambda L, **k: L.SimpleRNN(UNITS, **k),
    "LSTM": lambda L, **k: L.LSTM(UNITS, **k),
    "GRU": lambda L, **k: L.GRU(UNITS, **k),
    "GRU, reset before": lambda L, **k: L.GRU(UNITS, reset_after=False, **k),
    "RNN": lambda L, **k: L.RNN(L.LSTMCell(UNITS), **k),
    "stack": lambda L, **k: L.RNN([L.LSTMCell(4), L.GRUCell(UNITS), L.SimpleRNNCell(UNITS)], **k),
}
# name, arguments of the layer, arguments of the call
WAYS = [
    ("plain", {}, {}),
    ("sequences", {"return_sequences": True}, {}),
    ("state", {"return_state": True}, {}),
    ("backwards", {"go_backwards": True, "return_sequences": True, "return_state": True}, {}),
    ("unrolled", {"unroll": True, "return_sequences": True, "return_state": True}, {}),
    ("mask", {"return_sequences": True, "return_state": True}, {"mask": MASK}),
    ("mask, last", {"return_state": True}, {"mask": MASK}),
    ("mask, backwards", {"go_backwards": True, "return_sequences": True}, {"mask": MASK}),
    ("mask, zeros", {"zero_output_for_mask": True, "return_sequences": True, "return_state": True}, {"mask": MASK}),
    ("mask, zeros, last", {"zero_output_for_mask": True}, {"mask": MASK}),
    ("mask, unrolled", {"unroll": True, "return_sequences": True}, {"mask": MASK}),
    ("penalty", {"activity_regularizer": "l2", "return_sequences": True}, {}),
]
CELL_ARGUMENTS = [
    {"use_bias": False},
    {"activation": "relu", "bias_initializer": "ones"},
    {"kernel_regularizer": "l2", "recurrent_constraint": "max_norm", "bias_regularizer": "l1"},
    {"dropout": 0.5, "recurrent_dropout": 0.3, "seed": 3},
]


def pair(make, *shape, **arguments):
    """The layer of both libraries, with the weights of Keras's."""
    theirs, ours = make(keras.layers, **arguments), make(lamina.layers, **arguments)
    for layer in (theirs, ours):
        layer.build(shape or X.shape)
    ours.set_weights([np.asarray(v.value) for v in theirs.weights])
    return theirs, ours


def assert_equal(ours, theirs, tolerance=1e-6):
    first, second = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(first) == len(second)
    for a, b in zip(first, second):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.astype("float32"), np.asarray(b, "float32"), atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind, way):
    _, arguments, call = way
    theirs, ours = pair(KINDS[kind], **arguments)
    assert_equal(ours(X, **call), theirs(X, **call))
    if kind != "SimpleRNN":  # Keras's forgets its activity regularizer
        assert_equal(ours.losses, theirs.losses)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU", "GRU, reset before"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
def test_gradients(kind, mask, sequences):
    theirs, ours = pair(KINDS[kind], return_sequences=sequences)

    def gradients(layer):
        def loss(values, x):
            outputs, _ = layer.stateless_call(values, [v.value for v in layer.non_trainable_variables], x, mask=mask)
            return jnp.sum(jnp.sin(outputs))

        return jax.jit(jax.grad(loss, (0, 1)))([v.value for v in layer.trainable_variables], X)

    assert_equal(gradients(ours), gradients(theirs), 3e-6)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("arguments", CELL_ARGUMENTS, ids=str)
def test_values_with_arguments_of_the_cell(kind, arguments):
    theirs, ours = pair(KINDS[kind], **arguments)
    assert_equal(ours(X), theirs(X))
    assert_equal(ours.losses, theirs.losses)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU", "GRU, reset before", "stack"])
def test_initial_state(kind):
    theirs, ours = pair(KINDS[kind], return_sequences=True, return_state=True)
    states = [STATES[0], STATES[1]] if kind == "LSTM" else [STATES[0]]
    if kind == "stack":
        states = [[s[:, :4] for s in STATES[:2]], [STATES[2]], [STATES[3]]]
    assert_equal(ours(X, initial_state=states), theirs(X, initial_state=states))
    assert_equal(ours(X, initial_state=states, mask=MASK), theirs(X, initial_state=states, mask=MASK))


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU", "RNN"])
def test_stateful_calls_go_on(kind):
    theirs, ours = pair(KINDS[kind], stateful=True)
    for _ in range(3):
        assert_equal(ours(X), theirs(X))
    assert_equal([v.value for v in ours.states], [v.value for v in theirs.states])
    for layer in (ours, theirs):
        layer.reset_state()
    assert_equal(ours(X), theirs(X))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision(kind, dtype):
    # Keras's orthogonal initializer knows no 16-bit floats.
    options = {"dtype": dtype, "recurrent_initializer": "glorot_uniform"}

    def make(L, **arguments):
        if kind == "stack":
            cells = L.StackedRNNCells([L.LSTMCell(4, **options), L.GRUCell(UNITS, **options)], dtype=dtype)
            return L.RNN(cells, dtype=dtype, **arguments)
        if kind == "RNN":
            return L.RNN(L.LSTMCell(UNITS, **options), dtype=dtype, **arguments)
        return KINDS[kind](L, **options, **arguments)

    theirs, ours = pair(make, return_sequences=True)
    assert_equal(ours(X), theirs(X), 2e-3 if "b" not in dtype else 2e-2)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4), (0.4, 0.4)])
def test_dropout_draws_what_keras_draws(kind, rates):
    theirs, ours = pair(KINDS[kind], dropout=rates[0], recurrent_dropout=rates[1], seed=11, return_sequences=True)
    assert_equal(ours(X, training=True), theirs(X, training=True))
    assert_equal(ours(X, training=True), theirs(X, training=True))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_the_same_names_and_first_values(kind):
    def weights(library):
        library.utils.set_random_seed(5)
        library.backend.clear_session()
        layer = KINDS[kind](library.layers)
        layer.build(X.shape)
        return layer

    theirs, ours = weights(keras), weights(lamina)
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    assert_equal([v.value for v in ours.weights], [v.value for v in theirs.weights])


CELLS = {
    "SimpleRNNCell": lambda L, **k: L.SimpleRNNCell(UNITS, **k),
    "LSTMCell": lambda L, **k: L.LSTMCell(UNITS, **k),
    "GRUCell": lambda L, **k: L.GRUCell(UNITS, **k),
    "GRUCell, reset before": lambda L, **k: L.GRUCell(UNITS, reset_after=False, **k),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("arguments", [{}, {"use_bias": False}], ids=["bias", "no bias"])
def test_cells(kind, arguments):
    theirs, ours = pair(CELLS[kind], BATCH, FEATURES, **arguments)
    states = STATES[: len(theirs.get_initial_state(BATCH))]
    assert_equal(ours(X[:, 0], states), theirs(X[:, 0], states))
    assert ours.state_size == theirs.state_size
    assert ours.output_size == theirs.output_size
    assert_equal(ours.get_initial_state(BATCH), theirs.get_initial_state(BATCH))


def test_stacked_cells():
    def make(L):
        return L.StackedRNNCells([L.LSTMCell(4), L.GRUCell(UNITS)])

    theirs, ours = pair(make, BATCH, FEATURES)
    states = [[s[:, :4] for s in STATES[:2]], [STATES[2]]]
    assert_equal(ours(X[:, 0], states), theirs(X[:, 0], states))
    assert ours.state_size == theirs.state_size
    assert ours.output_size == theirs.output_size


CONFIGURED = {
    **KINDS,
    **CELLS,
    "StackedRNNCells": lambda L: L.StackedRNNCells([L.LSTMCell(2), L.GRUCell(3)]),
    "Bidirectional": lambda L: L.Bidirectional(L.LSTM(3, return_sequences=True)),
    "Bidirectional of two": lambda L: L.Bidirectional(L.LSTM(3), backward_layer=L.GRU(3, go_backwards=True)),
    "TimeDistributed": lambda L: L.TimeDistributed(L.Dense(3)),
}


@pytest.mark.parametrize("kind", CONFIGURED)
def test_configurations(kind):
    configs = []
    for library in (keras, lamina):
        library.backend.clear_session()
        configs.append(library.saving.serialize_keras_object(CONFIGURED[kind](library.layers)))
    theirs, ours = configs
    assert ours == theirs


@pytest.mark.parametrize("name", [
    "RNN", "StackedRNNCells", "SimpleRNNCell", "LSTMCell", "GRUCell", "SimpleRNN", "LSTM", "GRU", "Bidirectional",
    "TimeDistributed",
])  # fmt: skip
def test_signatures(name):
    def arguments(library):
        parameters = inspect.signature(getattr(library.layers, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert arguments(lamina) == arguments(keras)


# Bidirectional and TimeDistributed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("state", [False, True], ids=["output", "state"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_bidirectional(kind, mode, sequences, state):
    def make(L):
        return L.Bidirectional(getattr(L, kind)(UNITS, return_sequences=sequences, return_state=state), merge_mode=mode)

    theirs, ours = pair(make)
    assert_equal(ours(X), theirs(X))
    assert_equal(ours(X, mask=MASK), theirs(X, mask=MASK))


def test_bidirectional_with_initial_state():
    theirs, ours = pair(lambda L: L.Bidirectional(L.LSTM(UNITS)))
    assert_equal(ours(X, initial_state=STATES), theirs(X, initial_state=STATES))


def test_bidirectional_with_an_own_backward_layer():
    def make(L):
        backward = L.GRU(UNITS, go_backwards=True, return_sequences=True, name="back")
        return L.Bidirectional(L.SimpleRNN(UNITS, return_sequences=True), backward_layer=backward)

    theirs, ours = pair(make)
    assert_equal(ours(X), theirs(X))


def test_bidirectional_stateful():
    theirs, ours = pair(lambda L: L.Bidirectional(L.GRU(UNITS, stateful=True)))
    for _ in range(2):
        assert_equal(ours(X), theirs(X))
    assert len(ours.states) == len(theirs.states) == 2


def test_bidirectional_weights_have_the_same_names():
    paths = []
    for library in (keras, lamina):
        library.backend.clear_session()
        layer = library.layers.Bidirectional(library.layers.LSTM(UNITS))
        layer.build(X.shape)
        paths.append([v.path for v in layer.variables])
    assert paths[0] == paths[1]


IMAGES = random.normal(size=(2, 3, 6, 6, 2)).astype("float32")
WORDS = random.normal(size=(2, 3, 5, FEATURES)).astype("float32")


@pytest.mark.parametrize(("inner", "x"), [
    (lambda L: L.Dense(3, activation="relu"), X),
    (lambda L: L.Conv2D(3, 3), IMAGES),
    (lambda L: L.LSTM(UNITS, return_sequences=True), WORDS),
    (lambda L: L.BatchNormalization(), WORDS),
    (lambda L: L.Flatten(), WORDS),
], ids=["Dense", "Conv2D", "LSTM", "BatchNormalization", "Flatten"])  # fmt: skip
@pytest.mark.parametrize("training", [False, True])
def test_time_distributed(inner, x, training):
    theirs, ours = pair(lambda L: L.TimeDistributed(inner(L)), *x.shape)
    assert_equal(ours(x, training=training), theirs(x, training=training), 3e-6)
    assert_equal([v.value for v in ours.weights], [v.value for v in theirs.weights])


def test_time_distributed_gives_masks_to_the_layer():
    theirs, ours = pair(lambda L: L.TimeDistributed(L.LSTM(UNITS)), *WORDS.shape)
    mask = random.random((2, 3, 5)) < 0.7
    assert_equal(ours(WORDS, mask=mask), theirs(WORDS, mask=mask))


FILM = random.normal(size=(BATCH, TIME, 4, 5, 2)).astype("float32")
IMAGES = [random.normal(size=(BATCH, 4, 5, 3)).astype("float32") for _ in range(2)]


def film_layer(L, **arguments):
    return L.ConvLSTM2D(3, (2, 3), padding="same", **arguments)


@pytest.mark.parametrize("way", [way for way in WAYS if not way[2]], ids=lambda way: way[0])
def test_values_of_films(way):  # Keras's take no masks on JAX
    _, arguments, _ = way
    theirs, ours = pair(film_layer, *FILM.shape, **arguments)
    assert_equal(ours(FILM), theirs(FILM))
    assert_equal(ours.losses, theirs.losses)


def test_films_with_channels_first_and_an_initial_state():
    theirs, ours = pair(film_layer, BATCH, TIME, 2, 4, 5, data_format="channels_first", return_state=True)
    film, states = np.moveaxis(FILM, -1, 2), [np.moveaxis(image, -1, 1) for image in IMAGES]
    for call in ({}, {"initial_state": states}):
        assert_equal(ours(film, **call), theirs(film, **call))


def test_stateful_films_go_on():
    theirs, ours = pair(film_layer, *FILM.shape, stateful=True, go_backwards=True)
    for _ in range(2):
        assert_equal(ours(FILM), theirs(FILM))
    assert_equal([v.value for v in ours.states], [v.value for v in theirs.states])
