"""`EarlyStopping`, `ReduceLROnPlateau`, `LearningRateScheduler`, `TerminateOnNaN`."""

import types

import numpy as np
import pytest

from lamina.callbacks import (
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)


def run(callback, model, values, name="loss"):
    """Train on made-up logs, as many epochs as there are values; the epochs that were run."""
    callbacks = CallbackList(callback, model=model)
    callbacks.on_train_begin()
    for epoch, value in enumerate(values):
        callbacks.on_epoch_begin(epoch)
        model.weights = [epoch]
        callbacks.on_epoch_end(epoch, {name: value})
        if model.stop_training:
            break
    callbacks.on_train_end()
    return epoch + 1


def metric(name, direction=None):
    return types.SimpleNamespace(name=name, direction=direction)


@pytest.mark.parametrize("patience, epochs", [(0, 3), (1, 3), (2, 4), (3, 7)])
def test_early_stopping_waits_for_its_patience(model, patience, epochs):
    assert run(EarlyStopping("loss", patience=patience), model, [3, 2, 2.5, 2.4, 1, 2, 3]) == epochs


def test_early_stopping_takes_a_change_below_min_delta_for_none(model):
    assert run(EarlyStopping("loss", min_delta=-0.5, patience=1), model, [3, 2.6, 2.4, 1]) == 2


def test_early_stopping_restores_the_best_weights(model):
    run(EarlyStopping("loss", patience=2, restore_best_weights=True), model, [3, 1, 2, 2])
    assert model.weights == [1]


def test_early_stopping_keeps_the_last_weights_unless_asked(model):
    run(EarlyStopping("loss", patience=2), model, [3, 1, 2, 2])
    assert model.weights == [3]


def test_early_stopping_waits_until_the_baseline_is_beaten(model):
    assert run(EarlyStopping("loss", baseline=0.5, patience=2), model, [3, 2, 2.5, 1, 0.4]) == 3


def test_early_stopping_ignores_the_first_epochs(model):
    assert run(EarlyStopping("loss", start_from_epoch=3), model, [1, 2, 3, 4, 5]) == 5


def test_early_stopping_says_when_it_stopped(model, capsys):
    run(EarlyStopping("loss", verbose=1, restore_best_weights=True), model, [1, 2])
    assert capsys.readouterr().out == (
        "Epoch 2: early stopping\nRestoring model weights from the end of the best epoch: 1.\n"
    )


MONITORS = {
    "EarlyStopping": lambda **options: EarlyStopping("loss", patience=2, **options),
    "ModelCheckpoint": lambda **options: ModelCheckpoint("{epoch}.keras", "loss", save_best_only=True, **options),
    "ReduceLROnPlateau": lambda **options: ReduceLROnPlateau("loss", patience=2, **options),
}


@pytest.mark.parametrize("mode", ["min", "max", "auto"])
@pytest.mark.parametrize("make", MONITORS.values(), ids=MONITORS)
@pytest.mark.parametrize(
    "values, best",
    [
        ([np.nan] * 3, None),
        ([np.nan, 2.0, np.nan], 2.0),
        ([2.0, np.nan, np.nan], 2.0),
        ([np.nan, np.inf], np.inf),
        ([-np.inf, np.nan], -np.inf),
    ],
    ids=str,
)
def test_nan_is_never_the_best(model, make, mode, values, best):
    callback = make(mode=mode)
    run(callback, model, values)
    assert callback.best == best


def test_early_stopping_counts_nan_from_the_first_epoch(model):
    assert run(EarlyStopping("loss", patience=3), model, [np.nan] * 50) == 3


def test_early_stopping_counts_nan_behind_the_epochs_that_are_not_looked_at(model):
    assert run(EarlyStopping("loss", patience=2, start_from_epoch=3), model, [np.nan] * 50) == 5


@pytest.mark.parametrize("baseline", [None, 5.0, np.inf])
def test_early_stopping_does_not_restore_an_epoch_of_nan(model, baseline):
    callback = EarlyStopping("loss", patience=2, baseline=baseline, restore_best_weights=True)
    run(callback, model, [np.nan, 2.0, np.nan, np.nan])
    assert model.weights == [1]


def test_nothing_to_restore_is_a_warning(model):
    with pytest.warns(UserWarning, match="EarlyStopping: 'loss' must be a number in some epoch .* got none"):
        run(EarlyStopping("loss", restore_best_weights=True), model, [np.nan] * 2)
    assert model.weights == [1]


def test_a_plateau_of_nan_reduces_the_rate(model):
    run(ReduceLROnPlateau("loss", factor=0.5, patience=2), model, [np.nan] * 4)
    assert model.optimizer.learning_rate == pytest.approx(0.025)


def test_no_model_of_nan_is_kept_as_the_best(model, capsys):
    run(ModelCheckpoint("{epoch}.keras", "loss", save_best_only=True, verbose=1), model, [np.nan, 3.0, np.nan, 2.0])
    assert model.saved == ["2.keras", "4.keras"]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Epoch 1: loss is nan: not saved"
    assert "Epoch 3: loss did not improve from 3.00000" in said


@pytest.mark.parametrize("margin, best", [(0.0, 2.5), (1.0, 3.0)])
def test_nan_between_does_not_move_the_value_to_beat(model, margin, best):
    callback = EarlyStopping("loss", patience=5, min_delta=margin)
    run(callback, model, [3.0, np.nan, 2.5])
    assert callback.best == best


def test_a_number_is_better_than_nan(model):
    callback = EarlyStopping("loss", patience=3)
    run(callback, model, [np.nan, 2.0, 3.0])
    assert callback.best == 2.0


@pytest.mark.parametrize(
    "monitor, mode",
    [
        ("loss", "min"),
        ("val_loss", "min"),
        ("decoder_loss", "min"),
        ("val_accuracy", "max"),
        ("binary_accuracy", "max"),
        ("val_head_mae", "min"),
        ("scaled_loss", "max"),
    ],
)
def test_the_metrics_of_the_model_tell_the_mode(make_model, monitor, mode):
    accuracy, error = metric("binary_accuracy", "max"), metric("mae", "min")
    metrics = [accuracy, error, metric("loss"), metric("scaled_loss", "max"), metric("decoder_loss", "both")]
    model = make_model({metric.name: metric for metric in metrics} | {"accuracy": accuracy, "head_mae": error})
    callback = EarlyStopping(monitor)
    run(callback, model, [1.0], monitor)
    assert callback.monitor_op is {"min": np.less, "max": np.greater}[mode]


@pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau], ids=lambda cls: cls.__name__)
def test_a_mode_that_nothing_tells_is_an_error(model, make):
    with pytest.raises(ValueError, match=r"mode must be 'max' or 'min' .* got 'auto' for 'score'"):
        run(make("score"), model, [1.0], "score")


def test_a_given_mode_needs_no_metric(model):
    assert run(EarlyStopping("score", mode="max", patience=1), model, [1, 2, 1.5, 3], "score") == 3


def test_an_unknown_mode_is_a_warning():
    with pytest.warns(UserWarning, match="EarlyStopping mode 'lowest' is unknown, 'auto' is taken"):
        assert EarlyStopping(mode="lowest").mode == "auto"


@pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau], ids=lambda cls: cls.__name__)
def test_a_monitor_that_is_not_in_the_logs_is_a_warning(model, make):
    with pytest.warns(UserWarning, match="monitor 'val_loss' must be among the logs, .*Did you mean 'loss'"):
        assert run(make(), model, [1.0]) == 1


def test_a_monitored_array_is_an_error(model):
    with pytest.raises(ValueError, match="EarlyStopping: the monitored 'loss' must be one number"):
        run(EarlyStopping("loss"), model, [np.ones(2)])


def test_one_number_may_be_in_an_array(model):
    assert run(EarlyStopping("loss"), model, [np.array([loss]) for loss in (3.0, 2.0, 2.5, 2.0)]) == 3


def test_a_second_run_of_early_stopping_starts_anew(model):
    callback = EarlyStopping("loss")
    run(callback, model, [1, 2])
    model.stop_training = False
    assert run(callback, model, [3, 2.5, 2.4]) == 3


def test_early_stopping_goes_on_from_its_state(model, make_model):
    first = EarlyStopping("loss", patience=3)
    run(first, model, [3, 2, 2.5])
    second, other = EarlyStopping("loss", patience=3), make_model()
    callbacks = CallbackList(second, model=other)
    callbacks.on_train_begin()
    second.set_state(first.get_state())
    for epoch in (3, 4):
        callbacks.on_epoch_end(epoch, {"loss": 2.2})
    assert other.stop_training and second.stopped_epoch == 4


def test_reduce_lr_multiplies_by_the_factor_after_its_patience(model):
    run(ReduceLROnPlateau("loss", factor=0.5, patience=2), model, [3, 3, 3])
    assert model.optimizer.learning_rate == pytest.approx(0.05)


def test_reduce_lr_stays_above_its_lower_bound(model):
    run(ReduceLROnPlateau("loss", factor=0.1, patience=1, min_lr=0.03), model, [3] * 5)
    assert model.optimizer.learning_rate == pytest.approx(0.03)


def test_reduce_lr_does_not_count_epochs_of_its_cooldown(model):
    run(ReduceLROnPlateau("loss", factor=0.5, patience=1, cooldown=3), model, [3] * 4)
    assert model.optimizer.learning_rate == pytest.approx(0.05)


def test_reduce_lr_says_what_it_does(model, capsys):
    run(ReduceLROnPlateau("loss", factor=0.5, patience=1, verbose=1), model, [3, 3])
    assert capsys.readouterr().out == "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.05.\n"


def test_reduce_lr_acts_on_each_of_several_optimizers(model, make_optimizer, capsys):
    model.optimizer.optimizers = [make_optimizer(0.1, "a"), make_optimizer(0.01, "b")]
    run(ReduceLROnPlateau("loss", factor=0.5, patience=1, verbose=1), model, [3, 3])
    assert [o.learning_rate for o in model.optimizer.optimizers] == pytest.approx([0.05, 0.005])
    assert "reducing a learning rate to 0.05" in capsys.readouterr().out


@pytest.mark.parametrize("callback", [ReduceLROnPlateau("loss"), LearningRateScheduler(lambda e, lr: lr)])
def test_the_learning_rate_is_logged(model, callback):
    logs = {"loss": 1.0}
    callback.set_model(model)
    callback.on_epoch_end(0, logs)
    assert logs["learning_rate"] == 0.1


@pytest.mark.parametrize("name, near", [("epsilon", "min_delta"), ("patence", "patience")])
def test_reduce_lr_warns_of_unknown_arguments(name, near):
    with pytest.warns(UserWarning, match=f"unknown argument '{name}' has no effect. Did you mean '{near}'"):
        ReduceLROnPlateau(**{name: 3})


def test_the_schedule_gets_epoch_and_learning_rate(model):
    run(LearningRateScheduler(lambda epoch, rate: rate / (epoch + 1)), model, [1, 1, 1])
    assert model.optimizer.learning_rate == pytest.approx(0.1 / 6)


def test_the_schedule_may_be_of_the_epoch_alone(model):
    run(LearningRateScheduler(lambda epoch: 0.5**epoch), model, [1, 1])
    assert model.optimizer.learning_rate == 0.5


def test_an_error_within_the_schedule_is_not_hidden(model):
    def schedule(epoch, rate):
        raise TypeError("broken")

    with pytest.raises(TypeError, match="broken"):
        run(LearningRateScheduler(schedule), model, [1])


@pytest.mark.parametrize("value", [None, "0.1", np.ones(2), float("nan")], ids=str)
def test_a_schedule_that_returns_no_number_is_an_error(model, value):
    with pytest.raises(ValueError, match="LearningRateScheduler: schedule must return a finite float"):
        run(LearningRateScheduler(lambda epoch: value), model, [1])
    assert model.optimizer.learning_rate == 0.1


def test_the_scheduler_says_what_it_sets(model, capsys):
    run(LearningRateScheduler(lambda epoch: 0.25, verbose=1), model, [1])
    assert capsys.readouterr().out == "Epoch 1: LearningRateScheduler setting learning rate to 0.25.\n"


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_terminate_on_nan_stops_training(model, loss, capsys):
    callbacks = CallbackList(TerminateOnNaN(), model=model)
    callbacks.on_epoch_begin(1)
    callbacks.replay("train", 4, {"loss": np.array([1.0, loss, loss])})
    assert model.stop_training
    assert capsys.readouterr().out == (
        f"TerminateOnNaN: the loss must be finite, got {loss} at batch 6 of epoch 2; training stops.\n"
    )


def test_terminate_on_nan_lets_finite_losses_pass(model):
    CallbackList(TerminateOnNaN(), model=model).replay("train", 0, {"loss": np.array([1.0, 2.0])})
    assert not model.stop_training


def test_terminate_on_nan_may_raise(model):
    with pytest.raises(RuntimeError, match="got nan at batch 1 of epoch 1"):
        CallbackList(TerminateOnNaN(raise_error=True), model=model).on_train_batch_end(0, {"loss": np.nan})
    assert not model.stop_training


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EarlyStopping(patience=-1), "EarlyStopping: patience must be a number of at least 0, got -1"),
        (lambda: EarlyStopping(start_from_epoch=-1), "start_from_epoch must be a number of at least 0"),
        (lambda: EarlyStopping(monitor=None), "monitor must be a name in the logs, got None"),
        (lambda: EarlyStopping(patience="3"), "EarlyStopping: patience must be a number of at least 0, got '3'"),
        (lambda: EarlyStopping(baseline="low"), "EarlyStopping: baseline must be a number, got 'low'"),
        (lambda: EarlyStopping(min_delta=None), "EarlyStopping: min_delta must be a number, got None"),
        (lambda: ModelCheckpoint(3), "ModelCheckpoint: filepath must be a path, got 3"),
        (
            lambda: ModelCheckpoint("a.keras", initial_value_threshold="low"),
            "ModelCheckpoint: initial_value_threshold must be a number, got 'low'",
        ),
        (lambda: CSVLogger(None), "CSVLogger: filename must be a path, got None"),
        (lambda: ReduceLROnPlateau(factor="0.1"), "ReduceLROnPlateau: factor must be a number, got '0.1'"),
        (lambda: ReduceLROnPlateau(factor=1.0), "factor must be at least 0 and below 1, got 1.0"),
        (lambda: ReduceLROnPlateau(cooldown=-1), "cooldown must be a number of at least 0"),
        (lambda: ReduceLROnPlateau(min_lr=-1), "min_lr must be a number of at least 0"),
        (lambda: LearningRateScheduler(0.1), "LearningRateScheduler: schedule must be a function"),
        (lambda: ModelCheckpoint("a.keras", save_freq=0), "save_freq: it must be 'epoch' or a positive integer"),
        (lambda: ModelCheckpoint("a.keras", save_freq="batch"), "Unrecognized save_freq.*got 'batch'"),
        (lambda: ModelCheckpoint("a.weights"), r"ModelCheckpoint: .*filepath must end in \.keras .*, got"),
        (
            lambda: ModelCheckpoint("a.weights.h5"),
            r"must end in \.keras \(save_weights_only=True writes \.weights\.h5\)",
        ),
        (lambda: ModelCheckpoint("a.keras", save_weights_only=True), r"filepath must end in \.weights\.h5"),
        (lambda: ModelCheckpoint("{epoch.keras"), "filepath must be a format string, got"),
        (lambda: ModelCheckpoint("{}.keras"), "a format string whose fields have names"),
    ],
)
def test_arguments_are_checked_when_constructed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
