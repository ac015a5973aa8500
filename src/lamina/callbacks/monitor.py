"""`MonitorCallback`: whether a number in the logs is better than another, by name and mode."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.callbacks.base import Callback
from lamina.callbacks.curves import better
from lamina.core import checks, dtypes, registry
from lamina.core.checks import require

_BETTER: dict[str, Callable] = {"min": np.less, "max": np.greater}


class MonitorCallback(Callback):
    """Base of callbacks that act on whether a monitored value improves.

    Args:
        monitor: name of the value in the logs.
        mode: `"min"` if lower is better, `"max"` if higher is, `"auto"` to tell by the name.
        baseline: the first value to beat.
        min_delta: a smaller change is no improvement.

    Raises: ValueError if an argument is not of its kind; or in training, if `mode` is `"auto"` and nothing tells.
    """

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", baseline: float | None = None, min_delta: float = 0
    ):
        super().__init__()
        require(isinstance(monitor, str), self, "monitor must be a name in the logs", monitor)
        if mode not in ("auto", *_BETTER):
            warnings.warn(
                f"{type(self).__name__} mode {mode!r} is unknown, 'auto' is taken: it must be 'auto', 'min' or 'max'.",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(checks.number(type(self).__name__, "min_delta", min_delta))
        self.monitor_op: Callable | None = None  # found when first needed: the model's metrics exist by then

    def set_model(self, model: Any) -> None:
        """Take the model; a name that is nearly one of its metrics' is an error before training rather than after."""
        super().set_model(model)
        if not registry.is_own(getattr(type(model), "train_step", None)):  # which may log what it likes
            return
        names = [getattr(metric, "name", "") for metric in getattr(model, "metrics", ())]
        near = checks.nearest(self.monitor, [*names, *(f"val_{name}" for name in names)])
        if near not in (None, self.monitor) and self.mode == "auto" and better(model, self.monitor) is None:
            raise ValueError(
                f"{type(self).__name__}: monitor must be among the logs, which hold {', '.join(names)} and these of "
                f"validation (val_...), got {self.monitor!r}. Did you mean {near!r}?"
            )

    def get_monitor_value(self, logs: Mapping[str, Any] | None) -> Any:
        """The monitored value in the logs; `None`, and a warning, if it is not there."""
        logs = logs or {}
        self._resolve_mode(logs)
        if self.monitor in logs:
            value = logs[self.monitor]
            return np.asarray(value).item() if np.size(value) == 1 else value  # an F1Score has one number a class
        warnings.warn(
            f"{type(self).__name__}: monitor {self.monitor!r} must be among the logs, which hold "
            f"{', '.join(logs) or 'nothing'}.{checks.did_you_mean(self.monitor, logs)}",
            stacklevel=3,
        )
        return None

    def _resolve_mode(self, logs: Mapping[str, Any] | None) -> None:
        if self.monitor_op is None:
            mode = self.mode if self.mode != "auto" else better(self.model, self.monitor)
            if mode is None:
                hint = "" if self.monitor in (logs or ()) else checks.did_you_mean(self.monitor, logs or ())
                raise ValueError(
                    f"{type(self).__name__}: mode must be 'max' or 'min' where no metric of the model tells "
                    f"which is better, got 'auto' for {self.monitor!r}.{hint}"
                )
            self.monitor_op = _BETTER[mode]

    def _is_improvement(self, value: Any, reference: Any) -> bool:
        """Whether `value` beats `reference` by more than `min_delta`: NaN beats nothing, a number NaN and nothing."""
        require(np.ndim(value) == 0, self, f"the monitored {self.monitor!r} must be one number", value)
        if np.isnan(value):
            return False
        if reference is None or np.isnan(reference):
            return True
        self._resolve_mode(None)
        assert self.monitor_op is not None
        margin = -self.min_delta if self.monitor_op is np.less else self.min_delta
        # In the precision that metrics are computed in: rounding of a double is no improvement.
        first, second = np.asarray([value - margin, reference], jnp.dtype(dtypes.floatx()))
        return bool(self.monitor_op(first, second))
