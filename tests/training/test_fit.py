"""Laws of fit: however the steps are cut into launches, the same training comes out."""

import itertools

import jax
import numpy as np
import pytest

import lamina
from lamina.training import loop
from tests.training.conftest import X, Y, compiled


class EachBatch(lamina.callbacks.Callback):
    """A user's callback: it notes every batch, and so forces one step a launch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(("begin", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(("end", batch, logs["loss"]))


def noisy(seed=1, **options):
    """A model with a state of every kind: weights, statistics, a seed, slots, metrics."""
    lamina.utils.set_random_seed(seed)
    layers = lamina.layers
    return compiled(
        layers.Dense(4, "tanh"), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(1),
        optimizer="adam", metrics=["mae"], seed=seed, **options,
    )  # fmt: skip


def state_of(model):
    return [np.asarray(v.value) for v in (*model.variables, *model.optimizer.variables)]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def fitted(model, **options):
    options = {"x": X, "y": Y, "batch_size": 4, "epochs": 3, "verbose": 0, **options}
    return model.fit(**options).history, state_of(model)


def test_one_launch_of_many_steps_is_many_launches_of_one():
    many, state = fitted(noisy())
    callback = EachBatch()
    single, single_state = fitted(noisy(), callbacks=[callback])
    assert_close(state, single_state)
    for name in many:
        np.testing.assert_allclose(many[name], single[name], rtol=1e-6)
    assert len(callback.seen) == 2 * 3 * 6


def test_steps_through_python_are_the_compiled_ones():
    history, state = fitted(noisy())
    eager, eager_state = fitted(noisy(run_eagerly=True))
    for a, b in zip(state, eager_state, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for name in history:
        np.testing.assert_allclose(history[name], eager[name], rtol=1e-5)


def test_jax_may_be_told_to_run_through_python():
    results = []
    for disabled in (False, True):
        lamina.utils.set_random_seed(0)
        model = lamina.Sequential([lamina.Input((X.shape[1],)), lamina.layers.Dense(1)])
        model.compile("sgd", "mse")
        with jax.disable_jit(disabled):
            history = model.fit(X, Y, batch_size=len(X), verbose=0).history
            results.append((history["loss"][0], model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)[:3]))
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_arrays_on_an_accelerator_train_as_those_in_windows(monkeypatch):
    history, state = fitted(noisy())
    monkeypatch.setattr(loop, "reader", lambda source, fills: loop.Resident(source))
    resident, resident_state = fitted(noisy())
    assert_close(state, resident_state)
    for name in history:
        np.testing.assert_allclose(history[name], resident[name], rtol=1e-6)


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_two_fits_with_initial_epoch_are_one(shuffle):
    history, state = fitted(noisy(), epochs=5, shuffle=shuffle)
    model = noisy()
    first, _ = fitted(model, epochs=2, shuffle=shuffle)
    second, parts = fitted(model, epochs=5, initial_epoch=2, shuffle=shuffle)
    assert_equal(state, parts)
    assert first["loss"] + second["loss"] == history["loss"]


def test_a_seed_repeats_a_training_and_another_does_not():
    one, two, three = (fitted(noisy(seed=seed))[1] for seed in (3, 3, 4))
    assert_equal(one, two)
    assert any(np.any(a != b) for a, b in zip(one, three))


def test_rows_come_in_another_order_each_epoch_and_in_their_own_without_shuffle():
    class Order(lamina.Model):
        def __init__(self):
            super().__init__()
            self.first = lamina.metrics.Sum(name="first")

        def train_step(self, x):
            self.first.reset_state()
            self.first.update_state(x[0])
            return {"first": self.first.result()}

    def order(shuffle):
        lamina.utils.set_random_seed(0)
        seen = []

        class Note(lamina.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                seen.append(logs["first"])

        model = Order()
        model.fit(np.arange(20.0), batch_size=1, epochs=2, shuffle=shuffle, verbose=0, callbacks=[Note()])
        return seen[:20], seen[20:]

    first, second = order(True)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second and first != sorted(first)
    assert order(False) == (list(range(20)), list(range(20)))


def test_callbacks_see_every_batch_in_order():
    callback = EachBatch()
    fitted(compiled(), callbacks=[callback], epochs=2)
    steps = list(range(6))
    assert [batch for kind, batch, *_ in callback.seen if kind == "begin"] == steps * 2
    assert [batch for kind, batch, *_ in callback.seen if kind == "end"] == steps * 2
    kinds = [kind for kind, *_ in callback.seen]
    assert kinds == ["begin", "end"] * 12


def test_a_replaying_callback_sees_every_batch_of_a_launch():
    class Replayed(EachBatch):
        replays = True

        on_train_batch_begin = lamina.callbacks.Callback.on_train_batch_begin

    model, callback, single = compiled(), Replayed(), EachBatch()
    fitted(model, callbacks=[callback], shuffle=False)
    fitted(compiled(), callbacks=[single], shuffle=False)
    ends = [each[1:] for each in single.seen if each[0] == "end"]
    assert [batch for batch, _ in ends] == [batch for _, batch, _ in callback.seen]
    np.testing.assert_allclose([loss for _, loss in ends], [loss for *_, loss in callback.seen], rtol=1e-6)


def test_terminate_on_nan_stops_at_the_batch():
    x = X.copy()
    x[9] = np.nan  # in the third batch of four rows
    model = compiled()
    seen = EachBatch()
    history = model.fit(
        x, Y, batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=[lamina.callbacks.TerminateOnNaN(), seen]
    )
    assert [batch for kind, batch, *_ in seen.seen if kind == "end"] == [0, 1, 2]
    assert len(history.epoch) == 1


def test_terminate_on_nan_names_the_batch_inside_a_launch():
    x = X.copy()
    x[9] = np.nan
    model, callback = compiled(), lamina.callbacks.TerminateOnNaN(raise_error=True)
    fitted(model)  # from now on an epoch is one launch
    with pytest.raises(RuntimeError, match="got nan at batch 3 of epoch 1"):
        fitted(model, x=x, shuffle=False, callbacks=[callback])


def test_terminate_on_nan_ends_training_inside_a_stream():
    def batches():
        for index in range(10):
            yield (X[:4] if index != 7 else X[:4] * np.inf), Y[:4]

    model = compiled()
    history = model.fit(
        batches(), epochs=2, steps_per_epoch=5, verbose=0, callbacks=[lamina.callbacks.TerminateOnNaN()]
    )
    assert history.epoch == [0, 1]
    assert np.isfinite(history.history["loss"][0]) and not np.isfinite(history.history["loss"][1])


def test_a_callback_stops_training_within_an_epoch():
    class Stop(EachBatch):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = batch == 1

    model, stop = compiled(), Stop()
    history = model.fit(X, Y, batch_size=4, epochs=5, verbose=0, callbacks=[stop])
    assert len(stop.seen) == 4 and history.epoch == [0]
    assert int(model.optimizer.iterations.value) == 2


def test_an_epoch_that_begins_stopped_has_one_step():
    class Stop(lamina.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    model = compiled()
    assert model.fit(X, Y, batch_size=4, epochs=5, verbose=0, callbacks=[Stop()]).epoch == [0, 1, 2]
    assert int(model.optimizer.iterations.value) == 2 * -(-len(X) // 4) + 1


def test_a_callback_stops_training_after_an_epoch():
    class Stop(lamina.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model = compiled()
    assert model.fit(X, Y, epochs=5, verbose=0, callbacks=[Stop()]).epoch == [0, 1]
    assert model.fit(X, Y, epochs=3, verbose=0).epoch == [0, 1, 2]


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_begin", "on_epoch_end"])
def test_an_interrupt_leaves_valid_weights(hook):
    class Interrupt(lamina.callbacks.Callback):
        pass

    def interrupt(self, index, logs=None):
        if index == 1:
            raise KeyboardInterrupt

    setattr(Interrupt, hook, interrupt)
    model = noisy()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[Interrupt()])
    assert all(np.isfinite(value).all() for value in state_of(model))
    assert int(model.optimizer.iterations.value) > 0
    before = model.predict(X, verbose=0)
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0)
    assert np.abs(model.predict(X, verbose=0) - before).max() > 0


def test_a_fit_that_raises_leaves_a_model_that_trains_as_before():
    class Fails(lamina.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("on purpose")

    reference = compiled()
    fitted(reference, epochs=1, shuffle=False)
    expected = fitted(reference, epochs=2, shuffle=False)
    model = compiled()
    with pytest.raises(RuntimeError, match="on purpose"):
        fitted(model, epochs=1, shuffle=False, callbacks=[Fails()])
    found = fitted(model, epochs=2, shuffle=False)
    assert found[0]["loss"] == expected[0]["loss"][-2:]
    assert_equal(found[1], expected[1])


def test_bad_data_in_the_middle_of_a_stream_leaves_the_steps_before_it():
    def batches():
        yield X[:4], Y[:4]
        yield X[4:8], Y[4:8]
        raise OSError("the disk is gone")

    model = compiled()
    with pytest.raises(OSError, match="the disk is gone"):
        model.fit(batches(), steps_per_epoch=3, verbose=0)
    assert all(np.isfinite(value).all() for value in state_of(model))
    model.fit(X, Y, verbose=0)


class Counting(lamina.layers.Layer):
    """A layer that counts how often it is traced or run."""

    calls = 0

    def call(self, inputs):
        type(self).calls += 1
        return inputs * 1.0


@pytest.fixture
def counting():
    Counting.calls = 0
    return Counting


def test_many_fits_do_not_trace_again(counting):
    model = compiled(counting(), lamina.layers.Dense(1))
    options = {"batch_size": 4, "verbose": 0}
    model.fit(X, Y, epochs=2, **options)
    model.evaluate(X, Y, **options)
    model.predict(X, **options)
    traced = counting.calls
    for _ in range(5):
        model.fit(X, Y, epochs=2, **options)
        model.evaluate(X, Y, **options)
        model.predict(X, **options)
    assert counting.calls == traced


def test_compiling_again_traces_again(counting):
    model = compiled(counting(), lamina.layers.Dense(1))
    fitted(model, epochs=1)
    traced = counting.calls
    model.compile(lamina.optimizers.SGD(0.0), "mae")
    before = model.get_weights()
    history, _ = fitted(model, epochs=1)
    assert counting.calls > traced
    assert_equal(before, model.get_weights())
    np.testing.assert_allclose(history["loss"][-1], np.abs(model.predict(X, verbose=0) - Y).mean(), rtol=1e-5)


def test_a_frozen_layer_stands_still_after_compile():
    model = compiled(lamina.layers.Dense(4, name="below"), lamina.layers.Dense(1))
    below = model.get_layer("below")
    fitted(model, epochs=1)
    below.trainable = False
    model.compile("sgd", "mse")
    before = below.get_weights()
    fitted(model, epochs=1)
    assert_equal(before, below.get_weights())
    below.trainable = True
    model.compile("sgd", "mse")
    fitted(model, epochs=1)
    assert any(np.any(a != b) for a, b in zip(before, below.get_weights()))


def test_a_learning_rate_set_between_fits_holds():
    model = compiled()
    fitted(model, epochs=1)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    fitted(model, epochs=1)
    assert_equal(before, model.get_weights())


def test_weights_set_between_fits_are_trained_on():
    model = compiled()
    start = model.get_weights()
    first = fitted(model, epochs=1, shuffle=False)[0]["loss"]
    model.set_weights(start)
    model.optimizer.iterations.assign(0)
    assert fitted(model, epochs=1, shuffle=False)[0]["loss"][-1:] == first


def test_the_history_is_kept_on_the_model_and_holds_floats():
    model = noisy()
    history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0, validation_split=0.2)
    assert model.history is history and history.epoch == [0, 1]
    assert sorted(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    assert all(type(value) is float for values in history.history.values() for value in values)


def test_integers_and_wide_floats_are_taken():
    model = compiled()
    losses = [
        model.evaluate((X * 8).astype(dtype), Y.astype(dtype), verbose=0) for dtype in ("int64", "float64", "int8")
    ]
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-6)


@pytest.mark.parametrize("count", range(1, 10))
def test_any_number_of_rows_trains_on_each_row_once(count):
    model = compiled(lamina.layers.Dense(1, use_bias=False, kernel_initializer="zeros"), optimizer="sgd")
    model.compile(lamina.optimizers.SGD(0.0), "mse", metrics=["mse"])
    loss = model.fit(X[:count], Y[:count], batch_size=3, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, [np.mean(Y[:count] ** 2)], rtol=1e-5)


def test_a_step_with_a_convolution_trains_as_through_python():
    """On CPUs such steps run one at a time."""
    images = np.random.default_rng(0).normal(size=(10, 6, 6, 2)).astype("float32")
    results = []
    for run_eagerly in (False, True):
        lamina.utils.set_random_seed(1)
        model = lamina.Sequential([lamina.layers.Conv2D(3, 3), lamina.layers.Flatten(), lamina.layers.Dense(1)])
        model.compile("adam", "mse", run_eagerly=run_eagerly)
        history = model.fit(images, Y[:10], batch_size=3, epochs=3, shuffle=False, verbose=0).history
        results.append((history["loss"], model.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_steps_per_execution_is_the_least_number_of_steps():
    history, state = fitted(compiled(steps_per_execution=5), shuffle=False)
    plain, plain_state = fitted(compiled(), shuffle=False)
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-6)
    assert_close(state, plain_state)


def test_arrays_of_jax_may_be_given():
    one, _ = fitted(compiled(), x=jax.numpy.asarray(X), y=jax.numpy.asarray(Y), shuffle=False)
    other, _ = fitted(compiled(), shuffle=False)
    assert one == other


def test_a_model_trains_inside_another_process_of_names():
    """Two models of one structure do not disturb each other when they train in turns."""
    first, second = compiled(seed=1), compiled(seed=2)
    alone = [fitted(compiled(seed=seed), epochs=2, shuffle=False)[1] for seed in (1, 2)]
    for _, model in itertools.product(range(2), (first, second)):
        fitted(model, epochs=1, shuffle=False)
    assert_close(state_of(first), alone[0])
    assert_close(state_of(second), alone[1])
