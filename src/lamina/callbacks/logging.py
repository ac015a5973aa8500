"""Callbacks that write down what happens, or hand it to functions."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from typing import Any

from lamina.callbacks.base import HOOKS, Callback, require
from lamina.core import checks, placement


class CSVLogger(Callback):
    """Writes the logs of each epoch as a row of a CSV file.

    The columns are `epoch` and the names in the logs of the first epoch; what a later epoch lacks is `NA`.
    An old file stays until the first row comes, so that a resumed run can go on with the rows that it had.

    Args:
        filename: where to.
        separator: what stands between two values: one character.
        append: whether to write behind what the file holds, in its columns, rather than anew.

    Raises: ValueError if `filename` is no path, or `separator` not one character.
    """

    state_fields = ("keys", "size")

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        super().__init__()
        single = isinstance(separator, str) and len(separator) == 1
        require(single, self, "separator must be one character", separator)
        self.filename = checks.path("CSVLogger", "filename", filename)
        self.sep = separator
        self.append = append
        CSVLogger.on_train_begin(self)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.keys: list[str] | None = None
        self.size: int | None = None  # bytes of the file up to the last row of this run
        self._ready = False  # whether the file is known to end where the next row belongs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not placement.is_first():  # of processes that train together one writes
            return
        logs = logs or {}
        headed = self._ready or self._make_ready()
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(name.startswith("val_") for name in logs):  # validation may come in later epochs
                self.keys += [f"val_{name}" for name in self.keys]
        with open(self.filename, "a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, delimiter=self.sep)
            if not headed:
                rows.writerow(["epoch", *self.keys])
            rows.writerow([epoch, *(_cell(logs.get(name, "NA")) for name in self.keys)])
        self.size = os.path.getsize(self.filename)

    def _make_ready(self) -> bool:
        """Cut from the file what is not to stay, take over its columns, and tell whether it has them."""
        self._ready = True
        if not os.path.exists(self.filename):
            return False
        keep = os.path.getsize(self.filename)
        if self.size is not None:
            keep = min(keep, self.size)  # behind it are rows of epochs that are run again
        elif not self.append:
            keep = 0
        os.truncate(self.filename, keep)
        with open(self.filename, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file, delimiter=self.sep), None)
        if header and header[0] == "epoch":
            self.keys = header[1:]
        return header is not None


def _cell(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        return value
    return f'"[{", ".join(map(str, value))}]"'


class LambdaCallback(Callback):
    """Calls a function at each stage that one is given for: a callback without a class.

    Functions of epochs and batches get the index and the logs, the others the logs.

    Args:
        on_epoch_begin, on_epoch_end: called before and after each epoch.
        on_train_begin, on_train_end: called before and after training.
        on_train_batch_begin, on_train_batch_end: called before and after each training batch.
        kwargs: functions for the other hooks of `Callback`, by name; others become methods of the object.

    Raises: ValueError if no hook has this name, or no function is given for it.
    """

    calls_functions = True

    def __init__(
        self,
        on_epoch_begin: Callable | None = None,
        on_epoch_end: Callable | None = None,
        on_train_begin: Callable | None = None,
        on_train_end: Callable | None = None,
        on_train_batch_begin: Callable | None = None,
        on_train_batch_end: Callable | None = None,
        **kwargs: Callable | None,
    ):
        super().__init__()
        named = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for hook, function in (named | kwargs).items():
            if hook.startswith("on_") and hook not in HOOKS:
                hint = checks.did_you_mean(hook, HOOKS)
                raise ValueError(f"LambdaCallback: arguments must be hooks of Callback, got {hook!r}.{hint}")
            require(function is None or callable(function), self, f"{hook} must be a function", function)
            if function is not None:
                setattr(self, hook, function)
