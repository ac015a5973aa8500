"""`ModelCheckpoint`: when it saves, under which name, and what it says."""

import numpy as np
import pytest

from lamina.callbacks import CallbackList, ModelCheckpoint


def train(callback, model, losses, batches=0, launch=1):
    """Epochs with these losses, of so many batches each, run in launches of at most `launch` steps."""
    callbacks = CallbackList(callback, model=model)
    callbacks.on_train_begin()
    for epoch, loss in enumerate(losses):
        callbacks.on_epoch_begin(epoch)
        first = 0
        while first < batches:
            count = min(launch, batches - first, callbacks.launch_limit("train") or launch)
            callbacks.replay("train", first, {"loss": np.full(count, loss)})
            first += count
        callbacks.on_epoch_end(epoch, {"loss": loss})
    callbacks.on_train_end()


def test_saves_after_each_epoch(model, tmp_path):
    train(ModelCheckpoint(tmp_path / "{epoch:02d}-{loss:.2f}.keras"), model, [2, 1.5])
    assert model.saved == ["01-2.00.keras", "02-1.50.keras"]


def test_saves_weights_if_asked(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "save", None)
    model.save_weights = lambda path, overwrite: model.saved.append((path, overwrite))
    train(ModelCheckpoint(str(tmp_path / "a.weights.h5"), save_weights_only=True), model, [2])
    assert model.saved == [(str(tmp_path / "a.weights.h5"), True)]


def test_saves_only_the_best_if_asked(model, tmp_path):
    callback = ModelCheckpoint(tmp_path / "{epoch}.keras", "loss", save_best_only=True)
    train(callback, model, [2, 3, 1, 1])
    assert model.saved == ["1.keras", "3.keras"] and callback.best == 1


def test_the_best_must_beat_the_threshold(model, tmp_path):
    path = tmp_path / "{epoch}.keras"
    train(ModelCheckpoint(path, "loss", save_best_only=True, initial_value_threshold=2), model, [3, 2, 1])
    assert model.saved == ["3.keras"]


def test_the_best_is_kept_over_runs(model, tmp_path):
    callback = ModelCheckpoint(tmp_path / "{epoch}.keras", "loss", save_best_only=True)
    train(callback, model, [1])
    train(callback, model, [2])
    assert model.saved == ["1.keras"]


@pytest.mark.parametrize("launch", [1, 2, 5, 100])
def test_saves_after_so_many_batches_however_they_are_launched(model, tmp_path, launch):
    callback = ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=4)
    train(callback, model, [1, 1, 1], batches=5, launch=launch)
    assert model.saved == ["1-4.keras", "2-3.keras", "3-2.keras"]


def test_a_missing_monitor_is_a_warning_and_saves(model, tmp_path):
    with pytest.warns(UserWarning, match="monitor 'val_loss' must be among the logs, which hold loss"):
        train(ModelCheckpoint(tmp_path / "a.keras", save_best_only=True), model, [1])
    assert model.saved == ["a.keras"]


def test_a_monitored_array_is_a_warning_and_saves(model, tmp_path):
    callback = ModelCheckpoint(tmp_path / "a.keras", "loss", save_best_only=True)
    with pytest.warns(UserWarning, match="must be one number to tell the best model"):
        train(callback, model, [np.ones(2)])
    assert model.saved == ["a.keras"]


def test_an_unknown_field_is_an_error_with_the_nearest_name(model, tmp_path):
    with pytest.raises(KeyError, match=r"must be among epoch, loss, got 'los' .* Did you mean 'loss'"):
        train(ModelCheckpoint(tmp_path / "{los}.keras"), model, [1])


def test_a_format_that_does_not_fit_is_an_error(model, tmp_path):
    with pytest.raises(ValueError, match=r"filepath must format these values.*'d'"):
        train(ModelCheckpoint(tmp_path / "{loss:d}.keras"), model, [1])


def test_a_directory_is_an_error(model, tmp_path):
    (tmp_path / "a.keras").mkdir()
    with pytest.raises(OSError, match="ModelCheckpoint: filepath must not be a directory"):
        train(ModelCheckpoint(tmp_path / "a.keras"), model, [1])


def test_missing_directories_are_made(model, tmp_path):
    train(ModelCheckpoint(tmp_path / "run" / "{epoch}" / "a.keras"), model, [1])
    assert (tmp_path / "run" / "1").is_dir()


def test_a_save_that_fails_is_no_best_model(model, tmp_path, monkeypatch):
    def fail(path, overwrite):
        raise OSError("disk full")

    callback = ModelCheckpoint(tmp_path / "a.keras", "loss", save_best_only=True)
    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        train(callback, model, [1])
    assert callback.best is None


def test_says_what_it_does(model, tmp_path, capsys):
    path = tmp_path / "a.keras"
    train(ModelCheckpoint(path, "loss", verbose=1, save_best_only=True), model, [2, 3])
    assert capsys.readouterr().out.splitlines() == [
        f"Epoch 1: loss improved from None to 2.00000, saving model to {path}",
        f"Epoch 1: finished saving model to {path}",
        "Epoch 2: loss did not improve from 2.00000",
    ]
