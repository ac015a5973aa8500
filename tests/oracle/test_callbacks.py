"""Callbacks decide, write and print as those of Keras do, over the same sequences of logs."""

import inspect
import itertools
import re
import types

import keras
import numpy as np
import pytest

import lamina
from lamina import callbacks as lamina_callbacks
from lamina.callbacks import progress

NAN = float("nan")
RANDOM = np.random.RandomState(0)
SEQUENCES = {
    "falling": [3.0, 2.5, 2.0, 1.5, 1.0],
    "rising": [1.0, 1.5, 2.0, 2.5, 3.0],
    "flat": [1.0] * 6,
    "valley": [3.0, 2.0, 1.0, 1.5, 2.0, 2.5, 0.5],
    "steps of 0.1": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
    "nan later": [2.0, 1.5, 1.0, NAN, 1.5, NAN, 0.5],  # where NaN is first, Keras keeps it as best
    "random": RANDOM.rand(30).round(2).tolist(),
    "slow": (1 / np.arange(1.0, 20.0)).tolist(),
}
BOTH = {"lamina": lamina_callbacks, "keras": keras.callbacks}


class Model:
    """What callbacks ask of a model, with a note of what they do to it."""

    def __init__(self):
        self.stop_training = False
        self.optimizer = types.SimpleNamespace(learning_rate=np.float32(0.1))
        self.metrics = []
        self.weights = [0]
        self.saved = []

    def get_weights(self):
        return list(self.weights)

    def set_weights(self, weights):
        self.weights = list(weights)

    def save(self, path, overwrite):
        self.saved.append(path)

    save_weights = save


def callback_list(library, *callbacks, **arguments):
    made = BOTH[library].CallbackList(list(callbacks), **arguments)
    made._async_train = False  # Keras would call batch hooks from threads, some time later
    return made


def train(library, name, arguments, losses, batches=0, monitor="loss"):
    """Run one callback over made-up epochs; what it did: after each epoch, and to the model."""
    model, note = Model(), []
    callback = getattr(BOTH[library], name)(**arguments)
    callbacks = callback_list(library, callback, add_history=True, model=model, epochs=len(losses))
    callbacks.on_train_begin()
    for epoch, loss in enumerate(losses):
        callbacks.on_epoch_begin(epoch)
        for batch in range(batches):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch, {"loss": loss})
        model.weights = [epoch]
        callbacks.on_epoch_end(epoch, {monitor: loss})
        rate, wait = float(model.optimizer.learning_rate), getattr(callback, "wait", None)
        note.append((rate, wait, repr(callback.best)))
        if model.stop_training:
            break
    callbacks.on_train_end()
    return note, model.weights, model.saved, repr(model.history.history)


def assert_same(name, arguments, losses, **options):
    ours, theirs = (train(library, name, arguments, losses, **options) for library in BOTH)
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name in lamina_callbacks.__all__ if name != "LayerStatistics"])
def test_signatures(name):
    def arguments(library):
        parameters = inspect.signature(getattr(BOTH[library], name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert arguments("lamina") == arguments("keras")


@pytest.mark.parametrize("losses", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("mode", ["min", "max", "auto"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 1},
        {"patience": 3, "restore_best_weights": True},
        {"min_delta": 0.1, "patience": 2},
        {"min_delta": -0.1, "patience": 2},
        {"baseline": 0.5, "patience": 2, "restore_best_weights": True},
        {"start_from_epoch": 2, "patience": 1, "restore_best_weights": True},
    ],
    ids=str,
)
def test_early_stopping(losses, mode, options):
    assert_same("EarlyStopping", {"monitor": "loss", "mode": mode, **options}, losses)


@pytest.mark.parametrize("losses", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("mode", ["min", "max", "auto"])
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 0},
        {"patience": 1, "factor": 0.5},
        {"patience": 1, "cooldown": 2, "min_delta": 0.1},
        {"patience": 2, "factor": 0.2, "min_lr": 0.01},
    ],
    ids=str,
)
def test_reduce_lr_on_plateau(losses, mode, options):
    assert_same("ReduceLROnPlateau", {"monitor": "loss", "mode": mode, **options}, losses)


@pytest.mark.parametrize("losses", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save_best_only": True},
        {"save_best_only": True, "mode": "max"},
        {"save_best_only": True, "initial_value_threshold": 0.75},
        {"save_freq": 1},
        {"save_freq": 4},
        {"save_freq": 4, "save_best_only": True, "mode": "min"},
    ],
    ids=str,
)
def test_model_checkpoint(losses, options, tmp_path):
    batch = "-{batch}" if "save_freq" in options else ""
    path = str(tmp_path / f"{{epoch:03d}}{batch}-{{loss:.2f}}.keras")
    if {"save_freq", "save_best_only"} <= set(options):
        losses = losses[:1]  # where two saves fall into the first epoch, Keras does not know its mode yet
    assert_same("ModelCheckpoint", {"filepath": path, "monitor": "loss", **options}, losses, batches=5)


@pytest.mark.parametrize("value", [0.5, np.float32(0.25), np.float64(0.125)], ids=lambda v: type(v).__name__)
def test_learning_rate_scheduler(value):
    def rates(library):
        model = Model()
        schedule = BOTH[library].LearningRateScheduler(lambda epoch, rate: value * rate + 0.01 * epoch)
        callbacks = callback_list(library, schedule, add_history=True, model=model)
        callbacks.on_train_begin()
        for epoch in range(5):
            callbacks.on_epoch_begin(epoch)
            callbacks.on_epoch_end(epoch, {"loss": 1.0})
        return model.history.history

    assert rates("lamina") == rates("keras")


@pytest.mark.parametrize(
    "epochs",
    [
        [{"loss": 1.5, "accuracy": 0.25, "val_loss": 2.0}, {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0}],
        [{"loss": 1.5}, {"loss": 1.0, "val_loss": 2.0}],
        [{"val_loss": 1.5, "loss": 1.0}, {"loss": 1.0, "new": 2.0}],
        [{"f1": np.array([0.5, 0.25]), "loss": 1.0}],
        [{}],
    ],
    ids=["validated", "validated later", "a name lacks", "arrays", "nothing"],
)
@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("append", [False, True])
def test_csv_logger(epochs, separator, append, tmp_path):
    for library, module in BOTH.items():
        for _ in range(2):
            callback = module.CSVLogger(tmp_path / library, separator, append)
            callbacks = callback_list(library, callback)
            callbacks.on_train_begin()
            for epoch, logs in enumerate(epochs):
                callbacks.on_epoch_end(epoch, logs)
            callbacks.on_train_end()
    assert (tmp_path / "lamina").read_bytes() == (tmp_path / "keras").read_bytes()


class Clock:
    """Both libraries' time."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        clock = types.SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr("keras.src.utils.progbar.time", clock)
        monkeypatch.setattr(progress, "time", clock)


def visible(text):
    """What stays readable of a text: no colors, and of each line what follows the last carriage return.

    Ours makes the bar shorter, and then takes another row, where a line would be longer than 80 characters.
    """
    text = re.sub(r"\x1b\[\d+m|\x08", "", text).replace("\n - ", " - ")
    lines = re.sub(r" ━+ ", " ", text).split("\n")
    return [line.split("\r")[-1].rstrip() for line in lines]


@pytest.mark.parametrize("seconds", [3e-5, 0.004, 0.7, 2.0, 40.0])
@pytest.mark.parametrize("verbose", [1, 2])
@pytest.mark.parametrize("steps", [1, 5, 120])
@pytest.mark.parametrize("known", [True, False])
def test_the_lines_of_fit(seconds, verbose, steps, known, monkeypatch, capsys):
    texts = {}
    monkeypatch.setattr(progress, "QUIET_SECONDS", float("inf"))  # Keras prints nothing on the way
    for library in BOTH:
        clock = Clock(monkeypatch)
        params = {"verbose": verbose, "epochs": 2, "steps": steps if known else None}
        callbacks = callback_list(library, add_progbar=True, model=Model(), **params)
        callbacks.on_train_begin()
        for epoch in range(2):
            callbacks.on_epoch_begin(epoch)
            for batch in range(steps):
                clock.now += seconds
                callbacks.on_train_batch_end(batch, {"loss": 2.0, "accuracy": 0.5})
            callbacks.on_epoch_end(epoch, {"loss": 1 / 3, "accuracy": 5e-4, "val_loss": 12345.678})
        texts[library] = visible(capsys.readouterr().out)
    assert texts["lamina"] == texts["keras"]


@pytest.mark.parametrize("target", [None, 7, 100, 12345])
@pytest.mark.parametrize("seconds", [0.002, 1.5, 70.0, 999.0])
@pytest.mark.parametrize("kwargs", [{}, {"stateful_metrics": ["loss"]}, {"stateless_metrics": ["loss"]}])
def test_the_live_line(target, seconds, kwargs, monkeypatch, capsys):
    texts = {}
    monkeypatch.setattr(progress, "_redraws", lambda: True)  # as Keras does, whatever stdout is
    for library, make in (("lamina", progress.Progbar), ("keras", keras.utils.Progbar)):
        clock = Clock(monkeypatch)
        bar = make(target, interval=0, unit_name="batch", **kwargs)
        for step in range(1, 5):
            clock.now += seconds
            bar.update(step, [("loss", 1 / step), ("accuracy", step / 2)])
        texts[library] = visible(capsys.readouterr().out)
    assert texts["lamina"] == texts["keras"]


@pytest.mark.parametrize("every", [1, 3, 101])
@pytest.mark.parametrize("kind", ["arrays", "stream", "eager"])
def test_batch_hooks_are_told_of_as_many_batches_at_once_as_in_keras(every, kind):
    x, y = np.ones((100, 2), "float32"), np.ones((100, 1), "float32")
    hooks = [f"on_{phase}_batch_{edge}" for phase in ("train", "test") for edge in ("begin", "end")]

    def heard(keras):
        notes = []
        recorder = keras.callbacks.Callback()
        for hook in (*hooks, "on_epoch_end", "on_test_begin"):
            setattr(recorder, hook, lambda batch=None, logs=None, hook=hook: notes.append((hook, batch, bool(logs))))
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=every, run_eagerly=kind == "eager")
        data = {"x": x, "y": y, "batch_size": 16}
        if kind == "stream":
            data = {
                "x": (batch for batch in itertools.repeat((x[:16], y[:16]))),
                "steps_per_epoch": 7,
                "shuffle": False,
            }
        model.fit(
            **data,
            epochs=2,
            validation_data=(x[:50], y[:50]),
            validation_batch_size=16,
            callbacks=[recorder],
            verbose=0,
        )
        return [note[:2] if "begin" in note[0] or "epoch" in note[0] else note for note in notes]

    assert heard(lamina) == heard(keras)
