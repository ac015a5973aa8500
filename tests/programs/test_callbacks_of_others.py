"""Callbacks that others have written for Keras, and what their users write, unmodified."""

import os
import sys

import keras as real_keras
import numpy as np
import pytest

import lamina as keras

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def fit(callback, epochs=3, rate=0.01, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(options.pop("optimizer", None) or keras.optimizers.SGD(rate), "mse", metrics=["mae"])
    data = {"batch_size": 5, "validation_data": (X, Y)}
    return model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[callback], **data)


def both(make, **options):
    """The `History` with Keras's own callback, and with the library's of the same name."""
    return fit(make(real_keras.callbacks), **options), fit(make(keras.callbacks), **options)


STEERING = {
    "EarlyStopping": lambda c: c.EarlyStopping("mae", patience=1, min_delta=0.5, restore_best_weights=True),
    "ReduceLROnPlateau": lambda c: c.ReduceLROnPlateau("val_mae", patience=1, min_delta=0.5, factor=0.5),
    "LearningRateScheduler": lambda c: c.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
    "TerminateOnNaN": lambda c: c.TerminateOnNaN(),
    "LambdaCallback": lambda c: c.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(more=float(epoch))),
    "SwapEMAWeights": lambda c: c.SwapEMAWeights(),
}


@pytest.mark.parametrize("name", STEERING)
def test_keras_callbacks_that_steer(name):
    options = {"optimizer": keras.optimizers.SGD(0.01, use_ema=True)} if name == "SwapEMAWeights" else {}
    theirs = fit(STEERING[name](real_keras.callbacks), epochs=5, **options)
    options = {"optimizer": keras.optimizers.SGD(0.01, use_ema=True)} if options else {}
    ours = fit(STEERING[name](keras.callbacks), epochs=5, **options)
    assert ours.epoch == theirs.epoch
    assert ours.history.pop("learning_rate", []) == theirs.history.pop("learning_rate", [])
    assert ours.history == theirs.history


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorflow, which Keras's TensorBoard needs
def test_keras_callbacks_that_write(tmp_path):
    both(lambda c: c.CSVLogger(tmp_path / f"{c.__name__}.csv"))
    written = [path.read_text() for path in tmp_path.glob("*.csv")]
    assert len(written) == 2 and written[0] == written[1]
    fit(real_keras.callbacks.ModelCheckpoint(tmp_path / "m.keras", "val_mae", save_best_only=True))
    fit(real_keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True, save_freq=4))
    fit(real_keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    assert keras.saving.load_model(tmp_path / "m.keras").count_params() == 5
    assert sorted(path.name for path in tmp_path.glob("*.weights.h5")) == [f"{i}.weights.h5" for i in (1, 2, 3)]
    fit(real_keras.callbacks.TensorBoard(tmp_path / "logs", histogram_freq=1, update_freq=1))
    assert list((tmp_path / "logs" / "train").glob("events.*"))


def test_optuna():
    optuna = pytest.importorskip("optuna", reason="pip install optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Pruning(keras.callbacks.Callback):
        def __init__(self, trial):
            super().__init__()
            self.trial = trial

        def on_epoch_end(self, epoch, logs=None):
            self.trial.report(logs["val_loss"], step=epoch)
            if self.trial.should_prune():
                raise optuna.TrialPruned(f"pruned at epoch {epoch}")

    def objective(trial):
        rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        return fit(Pruning(trial), rate=rate).history["val_loss"][-1]

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.GridSampler({"rate": [1e-1, 1e-4]}, seed=1))
    study.enqueue_trial({"rate": 1e-1})
    study.enqueue_trial({"rate": 1e-4})
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert len(study.trials[0].intermediate_values) == 3 and len(study.trials[1].intermediate_values) == 1


@pytest.mark.filterwarnings("ignore")  # MLflow's of itself
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    monkeypatch.setitem(os.environ, "MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())

    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            mlflow.log_metrics(logs, step=epoch)

    with mlflow.start_run() as run:
        history = fit(Logs())
    found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")
    assert [metric.value for metric in found] == history.history["val_loss"]


@pytest.mark.parametrize(("verbose", "bars"), [(1, "epoch"), (2, "batch")])
def test_tqdm(verbose, bars, capsys):
    progress = pytest.importorskip("tqdm.keras", reason="pip install tqdm")
    fit(progress.TqdmCallback(verbose=verbose))
    shown = capsys.readouterr().err
    assert "3/3" in shown and bars in shown and "val_loss=" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="livelossplot clears the console by a command of Unix")
def test_livelossplot(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    livelossplot = pytest.importorskip("livelossplot", reason="pip install livelossplot")
    outputs = pytest.importorskip("livelossplot.outputs")
    fit(livelossplot.PlotLossesKeras(outputs=[outputs.ExtremaPrinter()]))
    assert capsys.readouterr().out.count("validation") == 6
