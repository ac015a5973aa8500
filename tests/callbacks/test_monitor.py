"""What `mode="auto"` finds out about a name in the logs of real models."""

import numpy as np
import pytest

import lamina
from lamina.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint, ReduceLROnPlateau

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 3)).astype("float32")
KIND = RANDOM.integers(0, 2, (8, 1)).astype("float32")
SIZE = RANDOM.normal(size=(8, 1)).astype("float32")


class Both(lamina.metrics.Metric):
    """Two results, both better when higher."""

    direction = "max"

    def __init__(self, name="both"):
        super().__init__(name=name)
        self.total = self.add_weight((), name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(1.0)

    def result(self):
        return {"left": self.total + 1, "right": self.total + 2}


def accuracy(y_true, y_pred):
    """A program's own function under a known name."""
    return lamina.ops.abs(y_true - y_pred)


def score(y_true, y_pred):
    return lamina.ops.abs(y_true - y_pred)


def metrics_of(output):
    """Metrics of every kind; they hold state, so each model gets its own."""
    if output == "kind":
        own = [lamina.metrics.AUC(name="area"), lamina.metrics.FalsePositives(name="alarms"), Both()]
        return ["accuracy", "mse", accuracy, lamina.metrics.binary_accuracy, *own]
    return ["mae", lamina.metrics.R2Score(name="fit"), lamina.losses.huber]


def outputs():
    inputs = lamina.Input((3,))
    kind = lamina.layers.Dense(1, activation="sigmoid", name="kind")(inputs)
    return inputs, kind, lamina.layers.Dense(1, name="size")(inputs)


def one():
    inputs, kind, _ = outputs()
    model = lamina.Model(inputs, kind)
    model.compile("sgd", "binary_crossentropy", metrics=metrics_of("kind"), weighted_metrics=["accuracy", "mae"])
    return model, KIND


def two():
    inputs, kind, size = outputs()
    model = lamina.Model(inputs, [kind, size])
    metrics = [metrics_of("kind"), metrics_of("size")]
    model.compile("sgd", ["binary_crossentropy", "mse"], metrics=metrics, weighted_metrics=[["accuracy"], ["mae"]])
    return model, [KIND, SIZE]


def named():
    inputs, kind, size = outputs()
    model = lamina.Model(inputs, {"kind": kind, "size": size})
    metrics = {name: metrics_of(name) for name in ("size", "kind")}
    losses = {"size": "mse", "kind": "binary_crossentropy"}
    model.compile("sgd", losses, metrics=metrics, weighted_metrics={"kind": ["accuracy"], "size": ["mae"]})
    return model, {"kind": KIND, "size": SIZE}


KIND_MODES = {"accuracy": "max", "mse": "min", "binary_accuracy": "max", "area": "max", "alarms": "min"}
SIZE_MODES = {"mae": "min", "fit": "max", "huber": "min"}
SETTINGS = {
    one: KIND_MODES | {"accuracy_1": "max", "weighted_accuracy": "max", "mae": "min", "loss": "min"},
    two: {f"kind_{name}": mode for name, mode in KIND_MODES.items()}
    | {f"size_{name}": mode for name, mode in SIZE_MODES.items()}
    | {"kind_accuracy_1": "max", "kind_weighted_accuracy": "max", "size_weighted_mae": "min"}
    | {"kind_loss": "min", "size_loss": "min", "loss": "min"},
}
for modes in SETTINGS.values():
    modes |= {"left": "max", "right": "max"}
    modes |= {f"val_{name}": mode for name, mode in modes.items()}
SETTINGS[named] = SETTINGS[two]


def fit(model, y, *callbacks, **options):
    return model.fit(X, y, verbose=0, callbacks=list(callbacks), **options).history


@pytest.mark.parametrize("make", SETTINGS, ids=lambda make: make.__name__)
def test_every_name_in_the_logs_has_its_direction(make):
    model, y = make()
    callbacks = {name: EarlyStopping(name, patience=9) for name in SETTINGS[make]}
    logs = fit(model, y, *callbacks.values(), validation_data=(X, y))
    assert sorted(logs) == sorted(callbacks)
    found = {name: "min" if callback.monitor_op is np.less else "max" for name, callback in callbacks.items()}
    assert found == SETTINGS[make]


@pytest.mark.parametrize("make", [EarlyStopping, ModelCheckpoint, ReduceLROnPlateau], ids=lambda cls: cls.__name__)
def test_a_metric_that_says_nothing_needs_a_mode(make, tmp_path):
    model = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[score])
    best = {"save_best_only": True, "filepath": tmp_path / "best.keras"} if make is ModelCheckpoint else {}
    with pytest.raises(ValueError, match=f"{make.__name__}: mode must be 'max' or 'min' .* got 'auto' for 'score'"):
        fit(model, SIZE, make(monitor="score", **best))


class OwnStep(lamina.Model):
    """A step of its own, whose logs have names of its choice."""

    def __init__(self):
        super().__init__()
        self.layer = lamina.layers.Dense(1)
        self.share = lamina.metrics.BinaryAccuracy(name="share")
        self.weight_loss = lamina.metrics.Mean(name="weight_loss")

    def call(self, x):
        return self.layer(x)

    def train_step(self, data):
        x, y = data
        self.share.update_state(y, self(x))
        self.weight_loss.update_state(1.0)
        logs = {metric.name: metric.result() for metric in self.metrics}
        return logs | {"own_loss": self.weight_loss.result(), "val_of_mine": 1.0}


def test_the_logs_of_a_step_of_ones_own():
    model = OwnStep()
    model.compile("sgd", "mse", metrics=["mae"])
    modes = {"share": "max", "weight_loss": "min", "own_loss": "min"}
    callbacks = {name: EarlyStopping(name, patience=9) for name in modes}
    fit(model, KIND, *callbacks.values())
    assert {n: "min" if c.monitor_op is np.less else "max" for n, c in callbacks.items()} == modes


def test_an_output_whose_name_looks_like_validation():
    inputs, kind, size = outputs()
    model = lamina.Model(inputs, {"val_kind": kind, "size": size})
    model.compile("sgd", "mse", metrics={"val_kind": ["accuracy"]})
    callback = EarlyStopping("val_kind_accuracy", patience=9)
    fit(model, {"val_kind": KIND, "size": SIZE}, callback)
    assert callback.monitor_op is np.greater


def test_the_loss_of_an_output_stops_training_when_it_rises():
    model, y = two()
    losses = iter([1.0, 0.9, 0.8, 0.9])
    made_up = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_kind_loss=next(losses)))
    logs = fit(model, y, made_up, EarlyStopping("val_kind_loss"), epochs=9, validation_data=(X, y))
    assert logs["val_kind_loss"] == [1.0, 0.9, 0.8, 0.9]
