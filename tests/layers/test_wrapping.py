import jax
import numpy as np
import pytest

import lamina
from lamina import layers, ops

random = np.random.default_rng(0)
X = random.normal(size=(2, 4, 3)).astype("float32")
MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)


def same(a, b, tolerance=1e-6):
    for first, second in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(first, second, atol=tolerance, rtol=1e-5)


# Bidirectional --------------------------------------------------------------------------------------------------------


def test_both_directions_end_at_their_own_ends():
    layer = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    outputs = layer(X)
    same(outputs[..., :3], layer.forward_layer(X))
    same(outputs[..., 3:], np.flip(layer.backward_layer(X), axis=1))


def test_the_layers_are_new_ones():
    inner = layers.GRU(3, name="inner")
    inner(X)
    layer = layers.Bidirectional(inner)
    layer(X)
    assert (layer.forward_layer.name, layer.backward_layer.name) == ("forward_inner", "backward_inner")
    assert not {id(v) for v in inner.variables} & {id(v) for v in layer.variables}
    assert not np.allclose(layer.weights[0].value, layer.weights[3].value)


def test_weights_to_start_from():
    first = layers.Bidirectional(layers.LSTM(3))
    expected = first(X)
    second = layers.Bidirectional(layers.LSTM(3), weights=first.get_weights())
    same(second(X), expected)


def test_a_cell_of_the_program_need_not_be_registered():
    class Cell(layers.Layer):
        state_size = 3

        def call(self, inputs, states):
            return inputs + states[0], [inputs + states[0]]

    layer = layers.Bidirectional(layers.RNN(Cell()), merge_mode="sum")
    same(layer(X), 2 * X.sum(1))


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("state", [False, True])
def test_unknown_sizes(mode, state):
    inner = layers.GRU(3, return_sequences=True, return_state=state)
    inputs = lamina.Input((None, 3))
    outputs = layers.Bidirectional(inner, merge_mode=mode)(inputs)
    model = lamina.Model(inputs, outputs)
    symbolic, real = (jax.tree.leaves(each) for each in (outputs, model(X)))
    assert [len(s.shape) for s in symbolic] == [r.ndim for r in real]
    assert all(d in (None, n) for s, r in zip(symbolic, real) for d, n in zip(s.shape, r.shape))


@pytest.mark.parametrize(("mode", "arguments", "expected"), [
    ("concat", {}, None),
    ("concat", {"return_sequences": True}, MASK),
    (None, {}, (None, None)),
    (None, {"return_sequences": True}, (MASK, MASK)),
    ("sum", {"return_sequences": True, "return_state": True}, (MASK, None, None)),
    (None, {"return_sequences": True, "return_state": True}, (MASK, MASK, None, None)),
])  # fmt: skip
def test_compute_mask(mode, arguments, expected):
    found = layers.Bidirectional(layers.GRU(3, **arguments), merge_mode=mode).compute_mask(X, MASK)
    if isinstance(expected, tuple):
        assert list(map(id, found)) == list(map(id, expected))
    else:
        assert found is expected


def test_padding_changes_nothing():
    model = lamina.Sequential([
        lamina.Input((None,)),
        layers.Embedding(9, 4, mask_zero=True),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(2)),
        layers.Bidirectional(layers.GRU(2)),
    ])  # fmt: skip
    short = np.array([[1, 2], [3, 0]])
    same(model(short), model(np.pad(short, ((0, 0), (0, 4)))))


def test_reset_state():
    layer = layers.Bidirectional(layers.LSTM(3, stateful=True))
    first = layer(X)
    assert not np.allclose(layer(X), first)
    layer.reset_state()
    same(layer(X), first)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: layers.Bidirectional("lstm"), "Bidirectional: layer must be a Layer, got 'lstm'"),
    (lambda: layers.Bidirectional(layers.GRU(2), backward_layer=3), "backward_layer must be a Layer, got 3"),
    (lambda: layers.Bidirectional(layers.GRU(2), merge_mode="max"), "merge_mode must be one of 'concat', .* got 'max'"),
    (
        lambda: layers.Bidirectional(layers.GRU(2), backward_layer=layers.GRU(2)),
        "must differ in go_backwards, got False for both",
    ),
    (
        lambda: layers.Bidirectional(layers.GRU(2), backward_layer=layers.GRU(2, go_backwards=True, stateful=True)),
        "must have the same stateful, got False and True",
    ),
])  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_stateful_layers_are_reset():
    with pytest.raises(AttributeError, match="must be stateful to be reset"):
        layers.Bidirectional(layers.GRU(2)).reset_state()


# TimeDistributed ------------------------------------------------------------------------------------------------------


def test_each_time_by_itself():
    layer = layers.TimeDistributed(layers.Dense(5, activation="tanh"))
    outputs = layer(X)
    same([outputs[:, t] for t in range(4)], [layer.layer(X[:, t]) for t in range(4)])


def test_batch_and_time_may_be_unknown():
    images = lamina.Input((None, 8, 8, 1))
    outputs = layers.TimeDistributed(layers.Conv2D(2, 3))(images)
    assert outputs.shape == (None, None, 6, 6, 2)
    assert lamina.Model(images, outputs)(np.zeros((2, 3, 8, 8, 1))).shape == (2, 3, 6, 6, 2)


def test_a_model_inside():
    inputs = lamina.Input((3,))
    model = lamina.Model(inputs, layers.Dense(2)(inputs))
    assert layers.TimeDistributed(model)(X).shape == (2, 4, 2)


def test_several_outputs():
    layer = layers.TimeDistributed(layers.LSTM(5, return_state=True))
    assert [y.shape for y in layer(np.zeros((2, 4, 6, 3), "float32"))] == [(2, 4, 5)] * 3


def test_statistics_see_one_time_after_the_other():
    layer = layers.TimeDistributed(layers.BatchNormalization(momentum=0.5))
    layer(X, training=True)
    mean = np.zeros(3)
    for t in range(4):
        mean = 0.5 * mean + 0.5 * X[:, t].mean(0)
    same(layer.layer.moving_mean.value, mean.astype("float32"))


def test_frozen_statistics_need_no_single_times():
    layer = layers.TimeDistributed(layers.BatchNormalization(trainable=False))
    same(layer(X, training=True), layer(X, training=False))


def test_states_go_on_from_time_to_time():
    words = random.normal(size=(2, 4, 6, 3)).astype("float32")
    layer = layers.TimeDistributed(layers.GRU(5, stateful=True))
    outputs = layer(words)
    layer.layer.reset_state()
    same([outputs[:, t] for t in range(4)], [layer.layer(words[:, t]) for t in range(4)])


def test_dropout_differs_from_time_to_time():
    outputs = layers.TimeDistributed(layers.Dropout(0.5, seed=0))(np.ones((1, 4, 20)), training=True)
    assert len(np.unique(outputs[0], axis=0)) == 4


def test_the_mask_goes_on_behind_the_layer():
    layer = layers.TimeDistributed(layers.Dense(2))
    assert layer.compute_mask(X, MASK) is MASK


def test_the_mask_of_a_time_goes_to_the_layer():
    class Masked(layers.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            return inputs if mask is None else inputs * ops.cast(ops.expand_dims(mask, -1), inputs.dtype)

    for inner in (Masked(), lamina.Sequential([Masked()])):
        same(layers.TimeDistributed(inner)(X, mask=MASK), X * MASK[..., None])


def test_a_model_inside_leaves_the_mask_to_the_layers_behind():
    tower, lstm = lamina.Sequential([layers.Activation("tanh"), layers.Dropout(0.1)]), layers.LSTM(2)
    model = lamina.Sequential([lamina.Input((4, 3)), layers.Masking(), layers.TimeDistributed(tower), lstm])
    x = X * MASK[..., None]
    same(model(x), lstm(ops.tanh(x), mask=MASK))


@pytest.mark.parametrize(("call", "message"), [
    (lambda layer: layer(X[0]), "the input must have at least 3 axes"),
    (lambda layer: layer(X, mask=MASK[:, :2]), "mask must begin with the axes"),
    (lambda layer: layer(X, mask=MASK[0]), "mask must begin with the axes"),
    (lambda _: layers.TimeDistributed("dense"), "TimeDistributed: layer must be a Layer, got 'dense'"),
])  # fmt: skip
def test_errors_of_time_distributed(call, message):
    with pytest.raises(ValueError, match=message):
        call(layers.TimeDistributed(layers.Dense(2)))
