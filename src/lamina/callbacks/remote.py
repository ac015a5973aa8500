"""`RemoteMonitor`: sends the logs of each epoch to a server."""

from __future__ import annotations

import http.client
import json
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lamina.callbacks.base import Callback, require
from lamina.core import placement

TIMEOUT_SECONDS = 10


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
