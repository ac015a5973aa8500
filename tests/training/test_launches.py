"""Launches: errors in them, other threads beside them, JAX's settings around them, and what they compile."""

import contextlib
import copy
import math
import pickle
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.callbacks import Callback
from lamina.core import handover
from tests.compilations import compilations
from tests.training.conftest import X, Y


def net(body=(), **options):
    model = lamina.Sequential([layers.Input((X.shape[1],)), layers.Dense(8), *body, layers.Dense(Y.shape[1])])
    model.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["mae"], **options})
    return model


class CallsHost(layers.Layer):
    """Fails on the host in the call of a number."""

    def __init__(self, fail_at):
        super().__init__()
        self.fail_at, self.count = fail_at, 0

    def call(self, x):
        def host(value):
            self.count += 1
            if self.count == self.fail_at:
                raise RuntimeError("on purpose")
            return value

        zero = jax.lax.stop_gradient(0 * jnp.sum(x))
        return x + jax.pure_callback(host, jax.ShapeDtypeStruct((), x.dtype), zero)


@pytest.mark.parametrize("fail_at", [1, 2, 5])
def test_weights_are_valid_after_an_error_inside_a_launch(fail_at):
    layer = CallsHost(fail_at)
    model = net([layer])
    before = model.get_weights()
    with pytest.raises(Exception, match="on purpose"):
        model.fit(X, Y, batch_size=4, epochs=3, verbose=0)
    state = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    assert all(np.isfinite(v.numpy()).all() for v in state)
    if fail_at == 1:
        for now, was in zip(model.get_weights(), before):
            np.testing.assert_array_equal(now, was)
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0)


def test_weights_are_valid_where_jax_finds_nan():
    model = net()
    broken = np.where(np.arange(len(X))[:, None] == 9, np.nan, X)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        model.fit(broken, Y, batch_size=4, epochs=1, verbose=0, shuffle=False)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_first_launch_that_fails_leaves_the_weights(monkeypatch):
    model = net()
    before = model.get_weights()

    def out_of_memory(self, *arguments):
        for leaf in jax.tree.leaves(arguments[0]):
            leaf.delete()
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("lamina.training.step.Program.__call__", out_of_memory)
        with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
            model.fit(X, Y, verbose=0)
    for now, was in zip(model.get_weights(), before):
        np.testing.assert_array_equal(now, was)


# Threads


def in_threads(count, act):
    failures = []

    def work(number):
        try:
            act(number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_predict_and_evaluate_beside_a_fit_see_one_launch():
    model = net()
    model.fit(X, Y, batch_size=4, verbose=0)
    plain = copy.deepcopy(model)
    histories, stop = [], threading.Event()
    # All rows of one value: any weights that belong together give equal rows, and the loss of a fit stays its own.
    same = np.ones((8, X.shape[1]), "float32")

    def act(number):
        if number == 0:
            try:
                histories.append(model.fit(X, Y, batch_size=4, epochs=40, verbose=0, shuffle=False).history)
            finally:
                stop.set()  # or the others would go on for ever
        while not stop.is_set():
            if number % 2:
                out = model.predict(same, verbose=0)
                assert np.isfinite(out).all() and (out == out[0]).all()
            else:
                assert np.isfinite(model.evaluate(X, Y, verbose=0)).all()

    in_threads(4, act)
    alone = plain.fit(X, Y, batch_size=4, epochs=40, verbose=0, shuffle=False).history
    assert histories[0] == alone


def beside_a_fit(model, acts):
    """Call each of `acts` over and over, in a thread of its own, while the model trains."""
    stop = threading.Event()

    def act(number):
        if number == 0:
            try:
                model.fit(X, Y, batch_size=4, epochs=40, verbose=0)
            finally:
                stop.set()
        while not stop.is_set():
            acts[number - 1]()

    in_threads(len(acts) + 1, act)


@pytest.mark.parametrize(
    "read",
    [
        lambda model: model.get_weights(),
        lambda model: [np.asarray(v.value) for v in model.weights],
        lambda model: np.asarray(model(X, training=True)),
        lambda model: pickle.dumps(model),
        lambda model: copy.deepcopy(model).get_weights(),
        lambda model: [str(v) for v in model.weights],
    ],
    ids=["get_weights", "value", "call", "pickle", "deepcopy", "repr"],
)
def test_whatever_reads_weights_beside_a_fit_gets_arrays(read):
    model = net([layers.BatchNormalization(), layers.Dropout(0.5)])
    model.fit(X, Y, batch_size=4, verbose=0)  # or the model is copied while its optimizer and metrics are made
    beside_a_fit(model, [lambda: read(model)] * 2)


def test_what_runs_steps_beside_a_fit_does_not_disturb_it():
    model = net([layers.BatchNormalization(), layers.Dropout(0.5)])
    beside_a_fit(model, [lambda: model.test_on_batch(X, Y), lambda: model.evaluate(X, Y, verbose=0)])
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_code_on_the_host_may_read_and_assign_variables_in_a_launch():
    seen, sums = lamina.Variable(0.0), []

    class Counts(layers.Layer):
        def call(self, x):
            def host(value):
                seen.assign(seen.value + 1)
                sums.append(model.layers[0].kernel.numpy().sum())
                return value

            zero = jax.lax.stop_gradient(0 * jnp.sum(x))
            return x + jax.experimental.io_callback(host, jax.ShapeDtypeStruct((), x.dtype), zero)

    model = net([Counts()])
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    jax.effects_barrier()
    assert float(seen) == len(sums) == 2 * math.ceil(len(X) / 4)


def test_a_value_read_in_the_middle_of_a_launch_is_the_one_after_it():
    variable, got = lamina.Variable(np.zeros(3)), []
    variable.take(jnp.arange(3.0))  # that nobody else holds
    with handover.exchange():
        given = variable.give()
        reader = threading.Thread(target=lambda: got.append(variable.value))
        reader.start()
        reader.join(0.1)  # it reads now, if nothing holds it up
        given.delete()
        variable.take(jnp.ones(3))
    reader.join()
    np.testing.assert_array_equal(got[0], np.ones(3))
    assert variable.give() is not got[0]


def test_the_first_predict_in_many_threads_builds_once():
    model = lamina.Sequential([layers.Dense(4), layers.Dense(2)])
    in_threads(16, lambda _: model.predict(X, verbose=0))
    assert len(model.weights) == 4


def test_evaluate_in_a_batch_callback_leaves_the_epochs_logs_alone():
    class Evaluates(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.evaluate(X[:4], Y[:4], verbose=0)

    class Nothing(Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    one, two = net(), net()
    two.set_weights(one.get_weights())
    options = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False}
    first = one.fit(X, Y, callbacks=[Evaluates()], **options).history
    assert first == two.fit(X, Y, callbacks=[Nothing()], **options).history


# Copies


@pytest.mark.parametrize(
    "use",
    [
        lambda m: None,
        lambda m: m.predict(X, verbose=0),
        lambda m: m.evaluate(X, Y, verbose=0),
        lambda m: m.fit(X, Y, verbose=0, validation_split=0.25),
        lambda m: m.train_on_batch(X, Y),
    ],
    ids=["compiled", "predict", "evaluate", "fit", "train_on_batch"],
)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_model_its_history_and_its_optimizer_can_be_copied_at_every_time(use, how):
    model = net([layers.Dropout(0.5)])
    use(model)
    twin, _, optimizer = how((model, getattr(model, "history", None), model.optimizer))
    np.testing.assert_array_equal(twin.predict(X, verbose=0), model.predict(X, verbose=0))
    assert twin.optimizer is optimizer
    assert twin.train_on_batch(X, Y) == model.train_on_batch(X, Y)  # seeds and optimizer too


def test_a_graph_of_any_depth_can_be_copied():
    x = inputs = layers.Input((2,))
    for _ in range(400):
        x = x + 1.0
    model = lamina.Model(inputs, x)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert twin.predict(np.zeros((1, 2)), verbose=0)[0, 0] == 400
    assert [operation.name for operation in twin.operations] == [operation.name for operation in model.operations]


def test_two_graphs_that_share_layers_share_them_when_copied():
    inputs = layers.Input((3,))
    middle = layers.Dense(4, name="shared")(inputs)
    whole, part = lamina.Model(inputs, layers.Dense(1)(middle)), lamina.Model(inputs, middle)
    whole, part = copy.deepcopy((whole, part))
    assert whole.get_layer("shared") is part.get_layer("shared")
    assert whole.get_layer("shared").output is part.outputs[0]


# Settings


class Precision(layers.Layer):
    """Notes what JAX's settings are when it is traced."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        self.seen.append(str(jax.config.jax_default_matmul_precision))
        return x


def test_everything_is_traced_under_the_callers_settings():
    layer = Precision()
    model = net([layer])
    layer.seen.clear()
    with jax.default_matmul_precision("highest"):
        model.fit(X, Y, batch_size=5, epochs=1, verbose=0, validation_data=(X[:7], Y[:7]))  # short batches in both
    assert set(layer.seen) == {"highest"}


def test_settings_are_part_of_what_is_compiled():
    layer = Precision()
    model = net([layer])
    model.fit(X, Y, batch_size=5, verbose=0)
    layer.seen.clear()
    with jax.default_matmul_precision("highest"):
        model.fit(X, Y, batch_size=5, verbose=0)
        first = len(layer.seen)
        model.fit(X, Y, batch_size=5, verbose=0)
    assert first > 0 and len(layer.seen) == first
    model.fit(X, Y, batch_size=5, verbose=0)
    assert len(layer.seen) == first


def test_without_jit_steps_run_through_python():
    histories = []
    for context in (contextlib.nullcontext(), jax.disable_jit()):
        lamina.utils.set_random_seed(0)
        model = net([layers.Dense(3)])
        with context:
            logs = model.fit(X, Y, batch_size=5, epochs=2, verbose=0, validation_data=(X, Y)).history
            by_batch = [model.train_on_batch(X, Y), model.evaluate(X, Y, verbose=0)]
        histories.append([logs["loss"], logs["val_loss"], *by_batch])
    np.testing.assert_allclose(*histories, rtol=1e-5)


ENDS = """
    import atexit, sys, threading
    from lamina.core import runtime
    atexit.register(print, "said goodbye")
    runtime.in_background({work})
    {end}
"""


def ending(tmp_path, **parts):
    script = tmp_path / "ends.py"
    script.write_text(textwrap.dedent(ENDS).format(**parts))
    return subprocess.run([sys.executable, str(script)], timeout=60, capture_output=True, text=True)


def test_a_program_that_fails_does_not_wait_for_a_compilation(tmp_path):
    run = ending(tmp_path, work="threading.Event().wait", end="raise KeyError('on purpose')")
    assert (run.returncode, run.stdout) == (1, "said goodbye\n") and "on purpose" in run.stderr


def test_a_program_that_ends_well_lets_a_compilation_finish(tmp_path):
    run = ending(tmp_path, work="lambda: sys.stdout.write('compiled' + chr(10))", end="raise SystemExit(3)")
    assert (run.returncode, sorted(run.stdout.splitlines())) == (3, ["compiled", "said goodbye"])


# What is compiled


def rows(count):
    return np.resize(X, (count, X.shape[1])), np.resize(Y, (count, Y.shape[1]))


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_data_of_another_length_compile_nothing(kind):
    def rows(count):
        return tuple(kind(np.resize(array, (count, array.shape[1]))) for array in (X, Y))

    model = net()
    x, y = rows(16)
    model.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y))
    model.evaluate(x, y, batch_size=4, verbose=0)
    data = [rows(count) for count in (4, 8, 64, 400, 1200)]
    held_out = rows(8)
    with compilations() as found:
        for x, y in data:
            model.fit(x, y, batch_size=4, verbose=0, validation_data=held_out)
            model.evaluate(x, y, batch_size=4, verbose=0)
    assert found == []


def test_streams_of_another_length_compile_nothing():
    def stream(count):
        return (rows(4) for _ in range(count))

    model = net()
    model.fit(stream(3), verbose=0)
    with compilations() as found:
        for count in (1, 2, 7, 100):
            model.fit(stream(count), verbose=0)
    assert found == []


def test_freezing_in_a_callback_holds_from_the_next_launch_on():
    class Freezes(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].trainable = epoch != 1
            self.before = self.model.layers[0].get_weights()

        def on_epoch_end(self, epoch, logs=None):
            same = [np.array_equal(a, b) for a, b in zip(self.before, self.model.layers[0].get_weights())]
            changed.append(not all(same))

    changed = []
    net().fit(X, Y, epochs=3, verbose=0, callbacks=[Freezes()])
    assert changed == [True, False, True]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the option is for CPUs; run where JAX has no accelerator")
def test_a_gradient_that_a_kernel_sees_many_times_is_computed_once():
    """Else XLA computes what leads to it again in each of the copies that the product by the kernel needs."""
    image = layers.Input((8, 8, 3))
    h = layers.Concatenate()([image, layers.Conv2D(12, 3, padding="same")(image)])
    h = layers.BatchNormalization()(layers.Conv2D(12, 3, padding="same")(layers.BatchNormalization()(h)))
    model = lamina.Model(image, layers.GlobalAveragePooling2D()(h))
    model.compile("sgd", "mse")
    program, _ = model.compiled_step(np.ones((4, 8, 8, 3)), np.ones((4, 12)))
    barriers = [line for line in program.as_text().splitlines() if " opt-barrier(" in line]
    assert any("f32[4,8,8,12]" in line for line in barriers)


@pytest.mark.parametrize("loop", [layers.SimpleRNN(2), layers.ConvLSTM1D(1, 1)], ids=lambda layer: type(layer).__name__)
def test_barriers_in_small_loops_compile(loop):
    """XLA makes one operation of such a loop, and refuses a barrier in it."""
    image = layers.Input((4, 4, 1))
    h = layers.Conv2D(2, 3, padding="same")(image)
    h = loop(h if isinstance(loop, layers.ConvLSTM1D) else layers.Reshape((4, 8))(h))
    model = lamina.Model(image, layers.Dense(1)(layers.Flatten()(h)))
    model.compile("sgd", "mse")
    history = model.fit(np.ones((4, 4, 4, 1)), np.ones((4, 1)), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
