"""Several epochs in one launch, where nobody looks between them: they give the bits of epochs one by one."""

import signal
import threading

import jax
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.callbacks import Callback, History
from lamina.data import windows
from lamina.data.lazy import LazyRows
from lamina.data.sources import make_source
from lamina.training import loop
from lamina.training.step import Launcher
from tests.compilations import compilations
from tests.pairs import pairwise
from tests.training.conftest import X, Y, compiled

EPOCHS, BATCH, SEED = 7, 4, 5
OPTIONS = {"batch_size": 4, "verbose": 0}
WAYS = {
    "rows": [20, 22],  # with a short last batch, or without
    "shuffle": [False, True, "batch"],
    "weights": ["none", "of rows", "of classes"],
    "inputs": ["array", "dict", "int64"],
    "inner": ["plain", "dropout", "norm"],
    "metrics": ["none", "accuracy", "auc", "iou"],
    "accumulation": [None, 3],
    "ema": [False, True],
    "policy": ["float32", "mixed_bfloat16", "mixed_float16"],
    "rate": ["number", "schedule"],
}
CASES = pairwise(WAYS)


class Looks(Callback):
    """Any code may stand in this hook, so that an epoch is a launch of its own."""

    def on_epoch_end(self, epoch, logs=None):
        pass


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """The numbers of epochs in the launches, which read windows and take as long as they like."""
    found, launch = [], Launcher.launch

    def noted(self, program, feed, *args, **kwargs):
        found.append(feed.epochs)
        return launch(self, program, feed, *args, **kwargs)

    monkeypatch.setattr(Launcher, "launch", noted)
    monkeypatch.setattr(loop, "TARGET_SECONDS", 1e6)
    monkeypatch.setattr(loop, "reader", loop.Windowed)  # on accelerators too
    return found


def make(case):
    lamina.utils.set_random_seed(SEED)
    inner = {"plain": [], "dropout": [layers.Dropout(0.4)], "norm": [layers.BatchNormalization()]}[case["inner"]]
    x = layers.Input((3,), name="a")
    hidden = lamina.Sequential([layers.Dense(5, "tanh"), *inner, layers.Dense(1, "sigmoid", dtype="float32")])(x)
    model = lamina.Model({"a": x} if case["inputs"] == "dict" else x, hidden)
    schedule = lamina.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)
    optimizer = lamina.optimizers.Adam(
        schedule if case["rate"] == "schedule" else 0.05, gradient_accumulation_steps=case["accumulation"],
        use_ema=case["ema"], ema_overwrite_frequency=4 if case["ema"] else None,
    )  # fmt: skip
    auc, iou = lamina.metrics.AUC(num_thresholds=9, name="auc"), lamina.metrics.BinaryIoU(name="iou")
    metrics = {"none": [], "accuracy": ["accuracy"], "auc": [auc], "iou": [iou]}[case["metrics"]]
    model.compile(optimizer, "binary_crossentropy", metrics=metrics, weighted_metrics=metrics and ["mae"])
    return model


def data_of(case):
    rows = case["rows"]
    x, y = X[:rows], (Y[:rows] > 0).astype("float32")
    x = {"a": x} if case["inputs"] == "dict" else (9 * x).astype("int64") if case["inputs"] == "int64" else x
    weights = {
        "none": {},
        "of rows": {"sample_weight": np.linspace(0.5, 2, rows).astype("float32")},
        "of classes": {"class_weight": {0: 0.5, 1: 2.0}},
    }[case["weights"]]
    return {"x": x, "y": y, "shuffle": case["shuffle"], **weights}


def variables_of(model):
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(v).replace(" ", "_") for v in case.values()))
def test_epochs_in_one_launch_are_the_epochs_one_by_one(case, launched):
    lamina.config.set_dtype_policy(case["policy"])
    try:
        model, data = make(case), data_of(case)
    finally:
        lamina.config.set_dtype_policy("float32")
    model.optimizer.build(model.trainable_variables)
    start = [np.asarray(v) for v in variables_of(model)]
    one = model.fit(**data, **OPTIONS, epochs=EPOCHS)
    state = [np.asarray(v) for v in variables_of(model)]
    # A short batch that may not be filled up has a program of its own, so its epochs stay apart.
    stay_apart = case["rows"] % BATCH and case["metrics"] == "iou"
    assert launched[-1] == (1 if stay_apart else EPOCHS - 1)
    for variable, value in zip(variables_of(model), [*start, *[0.0] * len(state)]):
        variable.assign(np.broadcast_to(value, variable.shape))
    lamina.utils.set_random_seed(SEED - 1)  # the orders of the second run are those of the first
    with compilations() as found:
        other = model.fit(**data, **OPTIONS, epochs=EPOCHS, callbacks=[Looks()])
    assert launched[-1] == 1 and found == []
    assert (one.history, one.epoch, one.logged_in) == (other.history, other.epoch, other.logged_in)
    assert all(type(value) is float for values in one.history.values() for value in values)
    for value, variable in zip(state, variables_of(model), strict=True):
        np.testing.assert_array_equal(value, np.asarray(variable))


def test_a_window_of_epochs_holds_the_batches_of_each():
    source = make_source(np.arange(19), batch_size=4, shuffle=True, seed=3)
    (window,) = windows.of_arrays(source, 2, fills=True, epochs=3)
    data, counted = window.data
    found = [data[i][: counted[i]].tolist() for i in range(window.count)]
    assert found == [batch.tolist() for epoch in (2, 3, 4) for batch in source.epoch(epoch)]


class Ends(Callback):
    """Looks at nothing while epochs go on."""

    def on_train_end(self, logs=None):
        self.logs = logs


class OwnHistory(History):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.model.stop_training = epoch == 2


@pytest.mark.parametrize(
    ("options", "together"),
    [
        ({}, True),
        ({"callbacks": [Ends()]}, True),
        ({"callbacks": [OwnHistory()]}, False),
        ({"callbacks": [lamina.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: None)]}, False),
        ({"callbacks": [lamina.callbacks.TerminateOnNaN()]}, False),
        ({"validation_data": (X, Y)}, False),
        ({"steps_per_epoch": 2}, False),
        ({"verbose": 2}, False),
        ({"x": LazyRows(X.__getitem__, X.shape, X.dtype)}, False),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_epochs_go_together_where_nobody_looks_between_them(options, together, launched):
    compiled().fit(**{"x": X, "y": Y, **OPTIONS, **options}, epochs=9)
    assert (max(launched) > 1) == together


def test_epochs_are_handed_out_as_they_are_without_such_a_launch():
    model, ends = compiled(), Ends()
    first = model.fit(X, Y, **OPTIONS, epochs=5)
    more = model.fit(X, Y, **OPTIONS, epochs=12, initial_epoch=5, callbacks=[ends])
    assert (first.epoch, more.epoch) == (list(range(5)), list(range(5, 12)))
    assert ends.logs == {"loss": more.history["loss"][-1]} and model.history is more
    assert int(model.optimizer.iterations) == 12 * 6


def test_many_epochs_compile_nothing_anew():
    model = compiled()
    model.fit(X, Y, **OPTIONS)
    with compilations() as found:
        model.fit(X, Y, **OPTIONS, epochs=40)
        model.fit(X, Y, **OPTIONS, epochs=4, callbacks=[Looks()])
    assert found == []


def test_more_epochs_than_a_launch_keeps_logs_of_take_several(launched):
    history = compiled().fit(X, Y, **OPTIONS, epochs=601)
    assert [count for count in launched if count > 1] == [256, 256, 88]  # the first epoch finds out about the step
    assert len(history.history["loss"]) == 601


@pytest.mark.parametrize(("seconds", "most"), [(0.5, 1), (1.3, 2), (2.0, 3)])
def test_a_launch_of_epochs_takes_no_longer_than_others(seconds, most, monkeypatch, launched):
    measured = loop.Pace.measured
    monkeypatch.setattr(
        loop.Pace, "measured", lambda self, _, steps, program: measured(self, 0.1 * steps, steps, program)
    )
    monkeypatch.setattr(loop, "TARGET_SECONDS", seconds)  # an epoch takes 0.6
    compiled().fit(X, Y, **OPTIONS, epochs=8)
    assert max(launched) == most


def test_an_interrupt_finds_the_epochs_of_its_launch_in_the_history(monkeypatch, launched):
    model, launch = compiled(), Launcher._exchange

    def interrupted(self, program, arguments, run):
        out = launch(self, program, arguments, run)
        if launched[-1] > 1:
            signal.raise_signal(signal.SIGINT)
        return out

    monkeypatch.setattr(Launcher, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, **OPTIONS, epochs=20)
    assert int(model.optimizer.iterations) == 20 * 6
    assert model.history.epoch == list(range(19))  # the last one has not ended


def test_a_stop_from_another_thread_ends_a_run_after_the_launch(monkeypatch, launched):
    model, launch = compiled(), Launcher._exchange

    def stopped(self, program, arguments, run):
        out = launch(self, program, arguments, run)
        if launched[-1] > 1:
            thread = threading.Thread(target=lambda: setattr(model, "stop_training", True))
            thread.start()
            thread.join()
        return out

    monkeypatch.setattr(Launcher, "_exchange", stopped)
    history = model.fit(X, Y, **OPTIONS, epochs=1000)
    assert len(history.epoch) * 6 == int(model.optimizer.iterations) < 6000


def test_code_of_the_host_in_a_step_may_stop_training_after_its_epoch():
    class Stops(layers.Layer):
        def call(self, x):
            def host(value):
                if int(model.optimizer.iterations) >= 6:
                    model.stop_training = True
                return value

            zero = jax.lax.stop_gradient(0 * x.sum())
            return x + jax.experimental.io_callback(host, jax.ShapeDtypeStruct((), x.dtype), zero)

    model = compiled(Stops(), layers.Dense(1))
    assert len(model.fit(X, Y, **OPTIONS, epochs=9).epoch) == 2


def test_epochs_whose_logs_are_arrays_stay_apart(launched):
    class Both(lamina.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.sums = layers.Dense(1), lamina.metrics.Sum()

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            self.sums.update_state(data[0])
            return {"sum": self.sums.result(), "both": jax.numpy.stack([self.sums.result(), data[0].max()])}

    model = Both()
    model.compile("sgd", "mse")
    history = model.fit(X, Y, **OPTIONS, epochs=5).history
    assert max(launched) == 1 and len(history["both"]) == 5
    np.testing.assert_allclose(history["sum"], [X.sum()] * 5, rtol=1e-5)


def test_locate_nan_tells_the_epoch_inside_of_a_launch(launched):
    model, plain = (compiled(optimizer=lambda: lamina.optimizers.SGD(1.0)) for _ in range(2))
    with pytest.raises(FloatingPointError) as found:
        model.fit(X, Y, **OPTIONS, epochs=40, locate_nan=True)
    assert max(launched) > 1 and model.history.epoch == [0]  # the weights are those after it
    losses = plain.fit(X, Y, **OPTIONS, epochs=40).history["loss"]
    assert found.value.place.epoch == np.isfinite(losses).argmin() > 0
