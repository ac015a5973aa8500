"""evaluate and predict: one batch or many, arrays or streams, from many threads, for a long time."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import lamina
from tests.training.conftest import X, Y, compiled


def two_outputs():
    inputs = lamina.Input((3,))
    outputs = {"a": lamina.layers.Dense(2)(inputs), "b": [lamina.layers.Dense(1)(inputs), inputs]}
    return lamina.Model(inputs, outputs)


@pytest.mark.parametrize("batch_size", [1, 4, 22, 100, None])
def test_predict_is_the_call_on_all_rows(batch_size, model):
    found = model.predict(X, batch_size=batch_size, verbose=0)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, np.asarray(model(X)), rtol=1e-6, atol=1e-6)


def test_predict_keeps_the_structure_of_the_outputs():
    model = two_outputs()
    found, expected = model.predict(X, batch_size=5, verbose=0), model(X)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_predict_needs_no_compile():
    model = lamina.Sequential([lamina.layers.Dense(2)])
    assert model.predict(X, verbose=0).shape == (22, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X[i : i + 4] for i in (0, 4, 8)),
        lambda: ((X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)),
        lambda: ((X[i : i + 4],) for i in (0, 4, 8)),
    ],
    ids=["x", "x, y", "(x,)"],
)
def test_predict_of_a_generator(make, model):
    given = make()
    if not isinstance(next(iter(make())), tuple):  # batches of an iterator are tuples, as in Keras
        with pytest.raises(ValueError, match="must be a tuple"):
            model.predict(given, verbose=0)
        return
    np.testing.assert_allclose(model.predict(given, verbose=0), np.asarray(model(X[:12])), rtol=1e-6, atol=1e-6)


def test_predict_turns_dropout_off_and_leaves_seeds_alone():
    model = compiled(lamina.layers.Dropout(0.5), lamina.layers.Dense(2))
    seeds = [np.asarray(v.value) for v in model.non_trainable_variables]
    first, second = model.predict(X, verbose=0), model.predict(X, verbose=0)
    np.testing.assert_array_equal(first, second)
    for before, variable in zip(seeds, model.non_trainable_variables):
        np.testing.assert_array_equal(before, variable.value)


def test_predict_with_steps(model):
    assert model.predict(X, batch_size=4, steps=2, verbose=0).shape == (8, 1)


def test_a_callback_may_stop_predict_and_evaluate(model):
    class Stop(lamina.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            self.model.stop_predicting = batch == 1

        def on_test_batch_end(self, batch, logs=None):
            self.model.stop_evaluating = batch == 1

    assert model.predict(X, batch_size=4, verbose=0, callbacks=[Stop()]).shape == (8, 1)
    loss = model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[Stop()])
    np.testing.assert_allclose(loss, model.evaluate(X[:8], Y[:8], verbose=0), rtol=1e-6)


def test_predict_from_eight_threads_at_once():
    model = compiled(lamina.layers.Dense(8, "tanh"), lamina.layers.Dropout(0.5), lamina.layers.Dense(2))
    weights = [np.asarray(w) for w in model.get_weights()]

    def expected(x):
        return np.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]

    def work(number):
        rng = np.random.default_rng(number)
        for size in rng.integers(1, 6, 20):  # the first calls of all threads compile
            x = rng.normal(size=(size, 3)).astype("float32")
            np.testing.assert_allclose(model.predict(x, verbose=0), expected(x), rtol=1e-4, atol=1e-5)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [True] * 8


def test_layers_called_from_eight_threads_at_once_keep_apart():
    model = compiled(lamina.layers.Dense(4), lamina.layers.Dropout(0.5))

    def work(training):
        return [np.count_nonzero(np.asarray(model(X, training=training)) == 0) > 10 for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        flags = [True, False] * 4
        assert list(pool.map(work, flags)) == [[flag] * 10 for flag in flags]


def test_ten_thousand_predictions_leave_no_arrays_behind(model):
    x = X[:2]
    for _ in range(10):
        model.predict(x, verbose=0)
    before = len(jax.live_arrays())
    for _ in range(10_000):
        model.predict(x, verbose=0)
    assert len(jax.live_arrays()) <= before + 4


def test_many_small_fits_leave_no_arrays_behind(model):
    def fit():
        model.fit(X[:8], Y[:8], batch_size=3, verbose=0)
        model.evaluate(X[:8], Y[:8], batch_size=3, verbose=0)

    for _ in range(3):
        fit()
    before = len(jax.live_arrays())
    for _ in range(50):
        fit()
    assert len(jax.live_arrays()) <= before + 8


def test_predict_sees_new_weights(model):
    model.predict(X, verbose=0)
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    np.testing.assert_allclose(model.predict(X, verbose=0), X.sum(1, keepdims=True), rtol=1e-5)


def test_predict_takes_integers_and_wide_floats(model):
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    whole = np.arange(6).reshape(2, 3)
    for dtype in ("int32", "int64", "float64", "uint8"):
        np.testing.assert_allclose(model.predict(whole.astype(dtype), verbose=0), [[3.0], [12.0]])


def test_evaluate_is_the_mean_over_rows_whatever_the_batches(model):
    losses = [model.evaluate(X, Y, batch_size=size, verbose=0) for size in (1, 5, 22)]
    np.testing.assert_allclose(losses, np.mean((np.asarray(model(X)) - Y) ** 2), rtol=1e-5)


def test_evaluate_returns_a_float_a_list_or_a_dict():
    model = compiled(metrics=["mae", "mse"])
    as_list = model.evaluate(X, Y, verbose=0)
    as_dict = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert [type(value) for value in as_list] == [float] * 3
    assert as_list == [as_dict[name] for name in ("loss", "mae", "mse")] == [as_dict[n] for n in model.metrics_names]
    assert type(compiled().evaluate(X, Y, verbose=0)) is float


def test_evaluate_does_not_change_weights_or_statistics():
    model = compiled(lamina.layers.BatchNormalization(), lamina.layers.Dense(1))
    before = model.get_weights()
    model.evaluate(X, Y, verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_stream_of_batches_of_several_sizes_is_evaluated_row_by_row(model):
    batches = [(X[:5], Y[:5]), (X[5:7], Y[5:7]), (X[7:], Y[7:])]
    np.testing.assert_allclose(model.evaluate(iter(batches), verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)


def test_predict_on_batch_is_the_call(model):
    found = model.predict_on_batch(X)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, np.asarray(model(X)), rtol=1e-6, atol=1e-6)


def test_what_predict_returns_may_be_written_to(model):
    """As programs do that set the targets of a few actions: `targets = model.predict_on_batch(x)`."""
    for outputs in (model.predict(X[:1], verbose=0), model.predict(X, verbose=0), model.predict_on_batch(X)):
        outputs[0] = 7.0
        assert outputs[0, 0] == 7.0
