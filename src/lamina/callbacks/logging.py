"""Callbacks that write down what happens, send it to a server, or hand it to functions."""

import csv
import http.client
import json
import os
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lamina.callbacks.base import HOOKS, Callback
from lamina.core import checks, placement
from lamina.core.checks import require

TIMEOUT_SECONDS = 10  # that a server has to answer


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


class RemoteMonitor(Callback):
    """Posts `{"epoch": ..., "loss": ..., ...}` to a server after each epoch. One that is away gets a warning.

    Args:
        root: the server, `http://` or `https://`.
        path: where on it.
        field: the field of the form that holds the JSON, unless it is sent as JSON.
        headers: more headers, by name.
        send_as_json: whether to send `application/json` rather than a form.

    Raises: ValueError if `root` is no such address.
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: Mapping[str, str] | None = None,
        send_as_json: bool = False,
    ):
        super().__init__()
        address = isinstance(root, str) and root.startswith(("http://", "https://"))
        require(address, self, "root must start with http:// or https://", root)
        self.root, self.path, self.field = root, path, field
        self.headers, self.send_as_json = headers, send_as_json

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not placement.is_first():
            return
        text = json.dumps(
            {"epoch": epoch, **{name: np.asarray(value).tolist() for name, value in (logs or {}).items()}}
        )
        body = text if self.send_as_json else urllib.parse.urlencode({self.field: text})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind, **(self.headers or {})}
        try:
            request = urllib.request.Request(self.root + self.path, body.encode(), headers)
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            warnings.warn(f"Could not reach RemoteMonitor root server at {self.root}: {error}", stacklevel=2)


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
        named = {name: function for name, function in locals().items() if name.startswith("on_")}
        super().__init__()
        for hook, function in (named | kwargs).items():
            if hook.startswith("on_") and hook not in HOOKS:
                hint = checks.did_you_mean(hook, HOOKS)
                raise ValueError(f"LambdaCallback: arguments must be hooks of Callback, got {hook!r}.{hint}")
            require(function is None or callable(function), self, f"{hook} must be a function", function)
            if function is not None:
                setattr(self, hook, function)
