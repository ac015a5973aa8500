"""Callbacks that save while a model trains: `ModelCheckpoint`, and the base of others."""

import os
import string
import warnings
from typing import Any

import numpy as np

from lamina.callbacks.monitor import MonitorCallback
from lamina.callbacks.progress import say
from lamina.core import checks
from lamina.core.checks import require


class Checkpoint(MonitorCallback):
    """Base of callbacks that save after each epoch or some number of batches.

    A subclass says where, in `place(epoch, logs, batch)`, and saves there, in `write(place)`.

    Args: as for `ModelCheckpoint`.

    Raises: ValueError if `save_freq` is neither.
    """

    state_fields = ("best", "batches_since_save", "last_batch")
    needs_monitored = False  # whether nothing is saved where the monitored value is missing, rather than all

    def __init__(
        self,
        save_freq: Any,
        monitor: str = "val_loss",
        mode: str = "auto",
        initial_value_threshold: float | None = None,
        save_best_only: bool = False,
        verbose: int = 0,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        who = type(self).__name__
        if initial_value_threshold is not None:
            checks.number(who, "initial_value_threshold", initial_value_threshold)
        rule = "Unrecognized save_freq: it must be 'epoch' or a positive integer"
        require(save_freq == "epoch" or checks.is_integer(save_freq), self, rule, save_freq)
        self.save_freq = save_freq
        self.save_best_only = save_best_only
        self.verbose = verbose
        self.batches_since_save = 0
        self.last_batch = -1
        self._epoch = 0

    def steps_until_needed(self) -> int | None:
        """The number of batches until the next save."""
        return None if isinstance(self.save_freq, str) else max(1, self.save_freq - self.batches_since_save)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        self.last_batch = -1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if isinstance(self.save_freq, str):
            return
        self.batches_since_save += batch - self.last_batch  # the last launch may have been of several batches
        self.last_batch = batch
        if self.batches_since_save >= self.save_freq:
            self.batches_since_save = 0
            self.save(self._epoch, logs or {}, batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.save_freq == "epoch":
            self.save(epoch, logs or {}, None)

    def save(self, epoch: int, logs: dict[str, Any], batch: int | None) -> None:
        """Save after an epoch, or after a batch of it, what is good enough."""
        place = self.place(epoch, logs, batch)
        best, news = self.best, f"saving model to {place}"
        current = self._monitored(logs) if self.save_best_only else None
        if current is not None:
            if not self._is_improvement(current, self.best):
                told = f"is {current}: not saved" if best is None else f"did not improve from {_five(best)}"
                self._say(epoch, f"{self.monitor} {told}")
                return
            best, news = current, f"{self.monitor} improved from {_five(best)} to {_five(current)}, {news}"
        elif self.save_best_only and self.needs_monitored:
            return
        self._say(epoch, news)
        self.write(place)
        self.best = best  # only now: a save that failed is no best model
        self._say(epoch, f"finished saving model to {place}")

    def place(self, epoch: int, logs: dict[str, Any], batch: int | None) -> str:
        """Where to save after an epoch, or after a batch of it."""
        raise NotImplementedError(f"{type(self).__name__}: place must be written.")

    def write(self, place: str) -> None:
        """Save the model."""
        raise NotImplementedError(f"{type(self).__name__}: write must be written.")

    def _monitored(self, logs: dict[str, Any]) -> float | None:
        """The monitored value; `None`, after a warning, if it cannot tell the best."""
        current = self.get_monitor_value(logs)
        if np.ndim(current) == 0:
            return current
        warnings.warn(
            f"{type(self).__name__}: monitor {self.monitor!r} must be one number to tell the best model, got "
            f"{current}; {'nothing' if self.needs_monitored else 'each model'} is saved.",
            stacklevel=3,
        )
        return None

    def _say(self, epoch: int, message: str) -> None:
        if self.verbose:
            say(f"Epoch {epoch + 1}: {message}")


class ModelCheckpoint(Checkpoint):
    """Saves the model, or its weights, after each epoch or some number of batches.

    Args:
        filepath: where to; ends in `.keras`, with `save_weights_only` in `.weights.h5`. May hold
            fields: `{epoch:02d}` and `{batch}`, counted from 1, and names in the logs, as `{val_loss:.2f}`.
        monitor: name of the value in the logs that tells which model is best.
        verbose: 1 prints a line for each file.
        save_best_only: whether to save only if the monitored value is better than at all times before.
        save_weights_only: whether to save the weights only.
        mode: `"min"`, `"max"`, or `"auto"` to tell by the name.
        save_freq: `"epoch"`, or after how many batches.
        initial_value_threshold: the first monitored value to beat.

    Raises: ValueError if the name or its fields do not fit, or `save_freq` is neither.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(save_freq, monitor, mode, initial_value_threshold, save_best_only, verbose)
        self.filepath = checks.path("ModelCheckpoint", "filepath", filepath)
        weights, models = self.filepath.endswith(".weights.h5"), self.filepath.endswith((".keras", ".h5", ".hdf5"))
        ending = ".weights.h5" if save_weights_only else ".keras (save_weights_only=True writes .weights.h5)"
        rule = f"with save_weights_only={save_weights_only}, filepath must end in {ending}"
        require(weights if save_weights_only else models and not weights, self, rule, self.filepath)
        _check_fields(self, self.filepath)
        self.save_weights_only = save_weights_only

    def write(self, place: str) -> None:
        if os.path.isdir(place):
            raise IsADirectoryError(f"ModelCheckpoint: filepath must not be a directory, got {place!r}.")
        os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(place, overwrite=True)

    def place(self, epoch: int, logs: dict[str, Any], batch: int | None) -> str:
        fields = {"epoch": epoch + 1, **({} if batch is None else {"batch": batch + 1}), **logs}
        try:
            return self.filepath.format(**fields)
        except KeyError as error:
            name = error.args[0]
            raise KeyError(
                f"ModelCheckpoint: the fields of filepath must be among {', '.join(fields)}, "
                f"got {name!r} in {self.filepath!r}.{checks.did_you_mean(name, fields)}"
            ) from None
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"ModelCheckpoint: filepath must format these values, got {self.filepath!r}: {error}."
            ) from None


def _check_fields(owner: Any, filepath: str) -> None:
    rule = "filepath must be a format string"
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(filepath) if name is not None]
    except ValueError as error:
        raise ValueError(f"ModelCheckpoint: {rule}, got {filepath!r}: {error}.") from None
    named = all(name and not name[0].isdigit() for name in names)
    require(named, owner, f"{rule} whose fields have names, such as {{epoch}}", filepath)


def _five(value: float | None) -> str:
    return "None" if value is None else f"{value:.5f}"
