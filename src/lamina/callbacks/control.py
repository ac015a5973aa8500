"""Callbacks that steer training: when it stops, and the learning rate."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lamina.callbacks.base import Callback
from lamina.callbacks.monitor import MonitorCallback
from lamina.callbacks.progress import say
from lamina.core import checks
from lamina.core.checks import require


class EarlyStopping(MonitorCallback):
    """Stops training when a monitored value has not improved for `patience` epochs.

    Args:
        monitor: name of the value in the logs.
        min_delta: a smaller change is no improvement.
        patience: epochs without improvement after which training stops.
        verbose: 1 prints a line on stopping.
        mode: `"min"`, `"max"`, or `"auto"` to tell by the name.
        baseline: improvements that do not beat it do not restart the wait.
        restore_best_weights: whether to end with the weights of the best epoch rather than the last.
        start_from_epoch: the number of first epochs that are not looked at.

    Raises: ValueError if a number is not one, or below 0.

    >>> model = lamina.Sequential([layers.Dense(1)])
    >>> model.compile(lamina.optimizers.SGD(0.0), "mse")
    >>> stop = lamina.callbacks.EarlyStopping("loss", patience=2)
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=9, verbose=0, callbacks=[stop])
    >>> len(history.epoch)
    3
    """

    state_fields = ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: float = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: float = 0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        who = type(self).__name__
        self.patience = checks.number(who, "patience", patience, 0)
        self.start_from_epoch = checks.number(who, "start_from_epoch", start_from_epoch, 0)
        self.baseline = None if baseline is None else checks.number(who, "baseline", baseline)
        self.verbose = verbose
        self.restore_best_weights = restore_best_weights
        EarlyStopping.on_train_begin(self)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best: float | None = None
        self.best_weights: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        current = self.get_monitor_value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self._is_improvement(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_improvement(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                say(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)
        elif self.restore_best_weights and self.wait:
            warnings.warn(
                f"EarlyStopping: {self.monitor!r} must be a number in some epoch to restore the best weights, "
                "got none; those of the last epoch stay.",
                stacklevel=2,
            )


class TerminateOnNaN(Callback):
    """Stops training at the first loss that is not finite.

    Args:
        raise_error: whether to raise `RuntimeError` at once instead of ending the run in order.

    Raises: RuntimeError in training, if asked to.
    """

    replays = True

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        where = f"batch {batch + 1} of epoch {self._epoch + 1}"
        message = f"TerminateOnNaN: the loss must be finite, got {loss} at {where}"
        if self.raise_error:
            raise RuntimeError(f"{message}.")
        say(f"{message}; training stops.")
        self.model.stop_training = True


class LearningRateScheduler(Callback):
    """Sets the learning rate to `schedule(epoch, learning_rate)` before each epoch, and logs it after.

    Args:
        schedule: a function of the epoch (from 0) and the learning rate so far, or of the epoch alone.
        verbose: 1 prints each new learning rate.

    Raises: ValueError if `schedule` is no function, or returns anything but a finite number.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__()
        require(callable(schedule), self, "schedule must be a function of epoch and learning rate", schedule)
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, optimizer in _optimizers(self.model):
            known = hasattr(optimizer, "learning_rate")
            require(known, self, "the model's optimizer must have a learning_rate", optimizer)
            rate = self._scheduled(epoch, _rate(optimizer))
            optimizer.learning_rate = rate
            if self.verbose:
                say(f"Epoch {epoch + 1}: LearningRateScheduler setting {name}learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        log_rates(self.model, logs)

    def _scheduled(self, epoch: int, rate: float) -> float:
        try:
            inspect.signature(self.schedule).bind(epoch, rate)
            arguments: tuple = (epoch, rate)
        except TypeError:  # a function of the epoch alone
            arguments = (epoch,)
        except ValueError:  # built in: its signature is not known
            arguments = (epoch, rate)
        new = self.schedule(*arguments)
        number = isinstance(new, (int, float)) or (hasattr(new, "__array__") and np.ndim(new) == 0)
        require(number and np.isfinite(new), self, "schedule must return a finite float", new)
        return float(new)


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by `factor` when a monitored value has not improved for `patience` epochs.

    Args:
        monitor, mode, min_delta: as for `EarlyStopping`.
        factor: new learning rate over old, below 1.
        patience: epochs without improvement before a reduction.
        verbose: 1 prints each reduction.
        cooldown: epochs after a reduction in which none are counted.
        min_lr: the learning rate does not go below it.
        kwargs: ignored, with a warning.

    Raises: ValueError if a number is not one, or out of its range.
    """

    state_fields = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: float = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: float = 0,
        min_lr: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        who = type(self).__name__
        require(0 <= checks.number(who, "factor", factor) < 1, self, "factor must be at least 0 and below 1", factor)
        self.factor = factor
        self.verbose = verbose
        self.patience = checks.number(who, "patience", patience, 0)
        self.cooldown = checks.number(who, "cooldown", cooldown, 0)
        self.min_lr = checks.number(who, "min_lr", min_lr, 0)
        for name in kwargs:
            meant = "min_delta" if name == "epsilon" else name  # what old programs call it
            hint = checks.did_you_mean(meant, inspect.signature(ReduceLROnPlateau).parameters)
            warnings.warn(f"ReduceLROnPlateau: unknown argument {name!r} has no effect.{hint}", stacklevel=2)
        ReduceLROnPlateau.on_train_begin(self)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.best: float | None = None
        self.cooldown_counter = self.wait = 0

    def in_cooldown(self) -> bool:
        """Whether the last reduction is too recent for epochs to be counted."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        log_rates(self.model, logs)
        current = self.get_monitor_value(logs)
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def _reduce(self, epoch: int) -> bool:
        """Lower each learning rate that is above `min_lr`, and tell whether there was one."""
        # `min_lr` is rounded as the rate is, or a rate that has reached it would seem to be above it.
        above = [pair for pair in _optimizers(self.model) if _rate(pair[1]) > np.float32(self.min_lr)]
        for name, optimizer in above:
            rate = max(_rate(optimizer) * self.factor, self.min_lr)
            optimizer.learning_rate = rate
            if self.verbose:
                say(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing {name}learning rate to {rate}.")
        return bool(above)


def _optimizers(model: Any) -> Iterator[tuple[str, Any]]:
    """The optimizers of a model, each behind its name in messages: nothing where there is one only."""
    many = getattr(model.optimizer, "optimizers", None)
    yield from [("", model.optimizer)] if many is None else ((f"{each.name} ", each) for each in many)


def _rate(optimizer: Any) -> float:
    return float(np.asarray(optimizer.learning_rate))


def log_rates(model: Any, logs: dict[str, Any] | None) -> None:
    """Put the learning rates into the logs, where the callbacks behind this one find them."""
    if logs is None:
        return
    for name, optimizer in _optimizers(model):
        if not hasattr(optimizer, "learning_rate"):
            continue
        logs[f"learning_rate_{name.strip()}" if name else "learning_rate"] = _rate(optimizer)
