"""Callbacks that write down what happens, or hand it to functions."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from typing import IO, Any

from lamina.callbacks.base import HOOKS, Callback, nearest, require


class CSVLogger(Callback):
    """Writes the logs of each epoch as a row of a CSV file.

    The columns are `epoch` and the names in the logs of the first epoch; what a later epoch lacks is `NA`.

    Args:
        filename: where to.
        separator: what stands between two values: one character.
        append: whether to write behind what the file holds, in its columns, rather than anew.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        super().__init__()
        single = isinstance(separator, str) and len(separator) == 1
        require(single, self, "separator must be one character", separator)
        self.filename = os.fspath(filename)
        self.sep = separator
        self.append = append
        self.keys: list[str] | None = None
        self.csv_file: IO[str] | None = None
        self.writer: Any = None
        self._headed = False  # whether the file has its first row

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._close()
        header = self._existing_header() if self.append else None
        self._headed = header is not None
        self.keys = header[1:] if header and header[0] == "epoch" else None
        self.csv_file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self.writer = csv.writer(self.csv_file, delimiter=self.sep)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(name.startswith("val_") for name in logs):  # validation may come in later epochs
                self.keys += [f"val_{name}" for name in self.keys]
        if not self._headed:
            self.writer.writerow(["epoch", *self.keys])
            self._headed = True
        self.writer.writerow([epoch, *(_cell(logs.get(name, "NA")) for name in self.keys)])
        assert self.csv_file is not None
        self.csv_file.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._close()

    def _existing_header(self) -> list[str] | None:
        if not os.path.exists(self.filename):
            return None
        with open(self.filename, newline="", encoding="utf-8") as file:
            return next(csv.reader(file, delimiter=self.sep), None)

    def _close(self) -> None:
        if self.csv_file is not None:
            self.csv_file.close()
        self.csv_file = self.writer = None


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
        kwargs: functions for the other hooks of `Callback`, by name.
    """

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
            if hook not in HOOKS:
                hint = nearest(hook, HOOKS)
                raise ValueError(f"LambdaCallback: arguments must be hooks of Callback, got {hook!r}.{hint}")
            require(function is None or callable(function), self, f"{hook} must be a function", function)
            if function is not None:
                setattr(self, hook, function)
