import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers, ops
from lamina.layers import scanning

BATCH, TIME, FEATURES, UNITS = 2, 4, 3, 5
random = np.random.default_rng(0)
X = random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
KINDS = {
    "SimpleRNN": lambda **k: layers.SimpleRNN(UNITS, **k),
    "LSTM": lambda **k: layers.LSTM(UNITS, **k),
    "GRU": lambda **k: layers.GRU(UNITS, **k),
    "GRU, reset before": lambda **k: layers.GRU(UNITS, reset_after=False, **k),
}
MASKED = {"whole": None, "masked": MASK}


class Plain(layers.Layer):
    """A cell without `build`, whose parts build themselves."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.dense, self.recurrent = layers.Dense(units), layers.Dense(units, use_bias=False)

    def call(self, inputs, states):
        h = ops.tanh(self.dense(inputs) + self.recurrent(states[0]))
        return h, (h,)


class Wide(layers.Layer):
    """A cell whose output is no state, that counts its steps and drops inputs."""

    state_size, output_size = (UNITS, 1), 2 * FEATURES

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.5, seed=1)

    def get_initial_state(self, batch_size=None):
        return ops.ones((batch_size, UNITS)), ops.zeros((batch_size, 1))

    def call(self, inputs, states, training=False):
        x = self.dropout(inputs, training=training)
        return ops.concatenate([x, x], axis=-1), [states[0], states[1] + 1]


class Adding:
    """A cell that is no layer."""

    state_size = FEATURES

    def call(self, inputs, states):
        return inputs + states[0], [inputs + states[0]]


def same(a, b, tolerance=1e-6):
    for first, second in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(first, second, atol=tolerance, rtol=1e-5)


def step_by_step(layer, x, mask=None):
    """What a recurrent layer computes, one call of its cell after the other."""
    states = layer.get_initial_state(len(x))
    outputs = []
    for t in range(x.shape[1]):
        _, new = layer.cell(x[:, t], states)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        states = [jnp.where(keep, n, o) for n, o in zip(new, states)]
        outputs.append(states[0])
    return jnp.stack(outputs, axis=1), *states


@pytest.mark.parametrize("mask", MASKED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_scan_is_the_cell_step_by_step(kind, mask):
    layer = KINDS[kind](return_sequences=True, return_state=True)
    same(layer(X, mask=MASKED[mask]), step_by_step(layer, X, MASKED[mask]))


@pytest.mark.parametrize("mask", MASKED)
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_derivative_is_that_of_the_steps(kind, sequences, mask):
    layer = KINDS[kind](return_sequences=sequences)
    layer.build(X.shape)
    fn, state = lamina.functional(layer)

    def fast(weights, x):
        return jnp.sum(jnp.sin(fn(state._replace(trainable=weights), x, mask=MASKED[mask])[0]))

    def plain(weights, x):
        from_cell = lamina.functional(layer.cell)[0]
        states, outputs = layer.get_initial_state(BATCH), []
        for t in range(TIME):
            (_, new), _ = from_cell(state._replace(trainable=weights), x[:, t], states)
            keep = np.ones((BATCH, 1), bool) if mask == "whole" else MASK[:, t, None]
            states = [jnp.where(keep, n, o) for n, o in zip(new, states)]
            outputs.append(states[0])
        return jnp.sum(jnp.sin(jnp.stack(outputs) if sequences else outputs[-1]))

    same(jax.grad(fast, (0, 1))(state.trainable, X), jax.grad(plain, (0, 1))(state.trainable, X))


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_derivatives_agree(kind):
    layer = KINDS[kind](recurrent_dropout=0.3, seed=2)
    layer.build(X.shape)
    fn, state = lamina.functional(layer)

    def loss(weights):
        return jnp.sum(fn(state._replace(trainable=weights), X, training=True)[0] ** 2)

    gradient = jax.grad(loss)(state.trainable)
    _, forward = jax.jvp(loss, (state.trainable,), (gradient,))  # along it nothing cancels, whatever the weights
    backward = sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose(forward, backward, rtol=1e-5)


def test_second_derivatives():
    layer = layers.GRU(2)
    layer.build((1, 2, 1))
    x = jnp.array([[[0.3], [-0.2]]])

    def f(x):
        return layer(x).sum()

    hessian, step = jax.hessian(f)(x).reshape(2, 2), 1e-2

    def slope(i):
        above, below = (jax.grad(f)(x.at[0, i, 0].add(sign * step)) for sign in (1, -1))
        return (above - below) / (2 * step)

    moved = [slope(i) for i in range(2)]
    np.testing.assert_allclose(hessian, np.reshape(moved, (2, 2)), atol=1e-4)


def test_eager_calls_compile_once():
    layer, twin = layers.LSTM(7), layers.LSTM(7)
    layer(X)
    count = scanning.compiled_scan._cache_size()
    layer(2 * X)
    twin(X)
    assert scanning.compiled_scan._cache_size() == count


def test_an_activation_with_weights_is_read_at_each_call():
    activation = layers.PReLU()
    layer = layers.SimpleRNN(UNITS, activation=activation)
    before = layer(X)
    activation.alpha.assign(activation.alpha.value + 1)
    assert not np.allclose(layer(X), before)


def test_an_activation_with_weights_is_trained():
    start = {"kernel_initializer": lambda shape, dtype: -np.ones(shape, dtype), "recurrent_initializer": "ones"}
    layer = layers.SimpleRNN(1, activation=layers.PReLU("ones"), **start)
    layer.build(X.shape)
    layer.cell.activation.build((None, 1))

    def loss():
        return ops.sum(layer(np.ones((1, 2, 3), "float32")))

    # With the slope a = 1 the outputs are -3 a and a (-3 - 3 a).
    (gradient,) = lamina.grad(loss, [layer.cell.activation.alpha])()
    np.testing.assert_allclose(gradient, [-9.0], rtol=1e-6)


def test_in_jit_in_vmap_and_eagerly():
    layer = layers.LSTM(UNITS)
    eager = layer(X)
    same(lamina.jit(layer)(X), eager)
    same(jax.vmap(layer)(jnp.stack([X, X]))[1], eager)


def test_copies():
    layer = layers.GRU(UNITS)
    expected = layer(X)
    same(copy.deepcopy(layer)(X), expected)
    same(pickle.loads(pickle.dumps(layer))(X), expected)


# Sizes and masks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unroll", [False, True])
def test_unknown_sizes(unroll):
    inputs = lamina.Input((None, FEATURES))
    outputs = layers.LSTM(UNITS, return_sequences=True, return_state=True, unroll=unroll)(inputs)
    assert [o.shape for o in outputs] == [(None, None, UNITS), (None, UNITS), (None, UNITS)]
    model = lamina.Model(inputs, outputs)
    assert model(X)[0].shape == (BATCH, TIME, UNITS)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    layer = KINDS[kind]()
    padded = np.pad(X, ((0, 0), (0, 3), (0, 0)), constant_values=9)
    mask = np.arange(TIME + 3) < TIME
    same(layer(padded, mask=np.tile(mask, (BATCH, 1))), layer(X))


def test_masks_ride_on():
    embedding, inner = layers.Embedding(9, 4, mask_zero=True), layers.GRU(3, return_sequences=True)
    model = lamina.Sequential([lamina.Input((None,)), embedding, inner, layers.LSTM(2)])
    short = np.array([[1, 2], [3, 0]])
    same(model(short), model(np.pad(short, ((0, 0), (0, 4)))))


@pytest.mark.parametrize(("arguments", "expected"), [
    ({}, None),
    ({"return_state": True}, [None, None, None]),
    ({"return_sequences": True}, MASK),
    ({"return_sequences": True, "return_state": True}, [MASK, None, None]),
])  # fmt: skip
def test_compute_mask(arguments, expected):
    found = layers.LSTM(UNITS, **arguments).compute_mask(X, MASK)
    assert found is expected if not isinstance(expected, list) else list(map(id, found)) == list(map(id, expected))


# States ---------------------------------------------------------------------------------------------------------------


def test_states_go_from_encoder_to_decoder():
    source, target = lamina.Input((None, FEATURES)), lamina.Input((None, FEATURES))
    _, *states = layers.LSTM(UNITS, return_state=True)(source)
    outputs = layers.LSTM(UNITS, return_sequences=True)(target, initial_state=states)
    model = lamina.Model([source, target], outputs)
    assert not np.allclose(model([X, X]), model([2 * X, X]))


def test_stateful_inside_jit():
    layer = layers.GRU(UNITS, stateful=True)
    expected = [layer(X), layer(X)]
    layer.reset_state()
    run = lamina.jit(layer)
    same([run(X), run(X)], expected)


def test_states_are_no_weights_and_are_carried_by_training():
    model = lamina.Sequential([lamina.Input(batch_shape=(BATCH, TIME, FEATURES)), layers.LSTM(2, stateful=True)])
    model.compile("sgd", "mse")
    model.fit(np.concatenate([X, X]), np.zeros((2 * BATCH, 2)), batch_size=BATCH, shuffle=False, verbose=0)
    states = model.layers[0].states
    assert np.all(np.asarray(states[0].value) != 0)
    assert not {id(v) for v in states} & {id(v) for v in model.weights}
    assert {id(v) for v in states} <= {id(v) for v in model.non_trainable_variables}


def test_stacked_states_are_reset():
    layer = layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], stateful=True)
    first = layer(X)
    layer(X)
    layer.reset_state()
    same(layer(X), first)


def test_reading_and_inferring_change_no_state():
    layer = layers.LSTM(UNITS, stateful=True)
    layer.build(X.shape)
    layer.compute_output_shape(X.shape)
    assert not np.any(layer.states[0].value)


# Cells of a program ---------------------------------------------------------------------------------------------------


def test_a_cell_that_builds_itself():
    layer = layers.RNN(Plain(UNITS), return_sequences=True, return_state=True)
    layer.build((None, None, FEATURES))
    assert [v.shape for v in layer.weights] == [(FEATURES, UNITS), (UNITS,), (UNITS, UNITS)]
    assert all(v.path.startswith(f"{layer.name}/{layer.cell.name}/dense") for v in layer.weights)
    same(layer(X, mask=MASK), step_by_step(layer, X, MASK))


def test_a_cell_whose_output_is_no_state():
    layer = layers.RNN(Wide(), return_sequences=True, return_state=True)
    outputs, first, count = layer(X, mask=MASK)
    kept = np.concatenate([X, X], axis=-1)
    expected = [[kept[0, 0], kept[0, 1], kept[0, 1], kept[0, 3]], [0 * kept[1, 0], kept[1, 1], kept[1, 2], kept[1, 2]]]
    same(outputs, np.array(expected))
    same([first, count], [np.ones((BATCH, UNITS)), MASK.sum(1, keepdims=True)])


def test_a_cell_draws_anew_at_each_time():
    layer = layers.RNN(Wide(), return_sequences=True)
    ones = np.ones((1, 8, FEATURES), "float32")
    outputs = np.asarray(layer(ones, training=True))
    assert len(np.unique(outputs[0], axis=0)) > 1
    assert int(layer.cell.dropout.seed_generator.state.value[1]) == 8


def test_dropout_is_the_same_at_all_times():
    layer = layers.SimpleRNN(
        FEATURES, activation=None, dropout=0.5, seed=4, return_sequences=True, kernel_initializer="identity",
        recurrent_initializer="zeros",
    )  # fmt: skip
    outputs = np.asarray(layer(np.ones((1, 8, FEATURES), "float32"), training=True))
    assert set(np.unique(outputs)) == {0.0, 2.0}
    assert len(np.unique(outputs[0], axis=0)) == 1


def test_a_cell_that_is_no_layer():
    same(layers.RNN(Adding())(X), X.sum(1))


def test_a_stack_of_all_kinds_of_cells():
    layer = layers.RNN([Plain(4), layers.LSTMCell(2), Adding.__new__(type("Two", (Adding,), {"state_size": 2}))])
    assert layer(X).shape == (BATCH, 2)
    assert layers.RNN([Plain(4), layers.GRUCell(2)])(lamina.Input((None, FEATURES))).shape == (None, 2)


def test_the_state_of_a_cell_in_a_stack_is_one_array_where_its_size_is_one():
    layer = layers.RNN([Plain(4), layers.GRUCell(2), Plain(3)], return_state=True)
    outputs, first, second, third = layer(X)  # library cells, here and in Keras, have lists
    assert (first.shape, [x.shape for x in second], third.shape) == ((BATCH, 4), [(BATCH, 2)], (BATCH, 3))
    same(outputs, third)


def test_a_cell_of_a_program_comes_back_from_its_configuration():
    layer = layers.RNN(Plain(UNITS), go_backwards=True, name="own")
    twin = layers.RNN.from_config(layer.get_config(), custom_objects={"Plain": Plain})
    assert (twin.name, twin.go_backwards, type(twin.cell), twin.cell.units) == ("own", True, Plain, UNITS)


def test_an_overridden_step_is_used():
    class Shifted(layers.LSTMCell):
        def call(self, inputs, states, training=False):
            output, states = super().call(inputs, states, training)
            return output + 1, states

    plain, shifted = layers.RNN(layers.LSTMCell(UNITS)), layers.RNN(Shifted(UNITS))
    plain.build(X.shape)
    shifted.build(X.shape)
    shifted.set_weights(plain.get_weights())
    same(shifted(X), plain(X) + 1)


# Configurations and errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_round_trip(kind):
    layer = KINDS[kind](seed=3, dropout=0.1, zero_output_for_mask=True, stateful=True, dtype="bfloat16")
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    assert (twin.cell.seed, twin.cell.dtype, twin.zero_output_for_mask) == (3, "bfloat16", True)


@pytest.mark.parametrize("make", [
    *KINDS.values(),
    lambda: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)]),
    lambda: layers.Bidirectional(layers.LSTM(2)),
    lambda: layers.TimeDistributed(layers.Dense(2)),
])  # fmt: skip
def test_build_from_config(make):
    layer = make()
    layer(X)
    twin = type(layer).from_config(layer.get_config())
    twin.build_from_config(layer.get_build_config())
    assert twin.built
    assert [v.shape for v in twin.weights] == [v.shape for v in layer.weights]


def test_arguments_of_the_cell_are_attributes():
    layer = layers.GRU(UNITS, activation="relu", dropout=0.2)
    assert (layer.units, layer.activation, layer.dropout) == (UNITS, layer.cell.activation, 0.2)
    with pytest.raises(AttributeError, match="'GRU' object has no attribute 'unit_forget_bias'"):
        _ = layer.unit_forget_bias


@pytest.mark.parametrize(("make", "message"), [
    (lambda: layers.LSTM(0), 'LSTMCell "lstm_cell": units must be a positive integer, got 0.'),
    (lambda: layers.GRUCell(2, dropout=1.5), "dropout must be from 0 to 1, got 1.5"),
    (lambda: layers.GRU(3, unit_forget_bias=True), "GRU: must not be given unknown arguments, got unit_forget_bias."),
    (lambda: layers.LSTM(3, colour=1), "must not be given unknown arguments, got colour"),
    (lambda: layers.LSTM(3, use_cudnn="yes"), "use_cudnn must be one of 'auto', True, False, got 'yes'"),
    (lambda: layers.RNN(layers.Dense(2)), "a cell must have call and state_size, got <Dense"),
    (lambda: layers.LSTM(3)(X[0]), "the input must have 3 axes, got shape"),
    (lambda: layers.LSTM(3, stateful=True)(lamina.Input((4, 2))), "the batch size must be known with stateful=True"),
])  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_missing_arguments_name_the_class():
    with pytest.raises(TypeError, match="LSTM: must be given units"):
        layers.LSTM()


def test_other_sizes_than_built_for():
    layer = layers.LSTM(UNITS, stateful=True)
    layer(X)
    with pytest.raises(ValueError, match="the batch size must be 2"):
        layer(X[:1])
    with pytest.raises(ValueError, match=r"the input must have size 3 on axis -1.*built for \(2, 4, 3\)"):
        layer(X[..., :1])
