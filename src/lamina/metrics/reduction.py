"""Sums and means of values, and of functions of `(y_true, y_pred)`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from lamina import losses
from lamina.core import functions, masking
from lamina.core.arrays import as_array
from lamina.losses.weighting import align, mask_weights
from lamina.metrics.metric import Metric
from lamina.ops.numpy import divide_no_nan

_LOSSES = [getattr(losses, name) for name in losses.__all__]


class Sum(Metric):
    """`sum(values · sample_weight)` over all batches."""

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self.add_variable((), dtype=self.dtype, name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        values, _ = by_sample(values, sample_weight, jnp.sum, self.dtype)
        self.total.assign_add(jnp.sum(values))

    def result(self) -> Any:
        return self.total.value


class Mean(Metric):
    """`sum(values · sample_weight) / sum(sample_weight)` over all batches.

    Shapes:
        values: `(batch, ...)`, whose inner axes are averaged first; sample_weight: `(batch,)` or like values.
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self.add_variable((), dtype=self.dtype, name="total")
        self.count = self.add_variable((), dtype=self.dtype, name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        values, sample_weight = by_sample(values, sample_weight, jnp.mean, self.dtype)
        self.total.assign_add(jnp.sum(values))
        self.count.assign_add(values.size if sample_weight is None else jnp.sum(sample_weight))

    def result(self) -> Any:
        return divide_no_nan(self.total.value, self.count.value)


class MeanMetricWrapper(Mean):
    """`sum(fn(y_true, y_pred) · sample_weight) / sum(sample_weight)` over all batches.

    Args:
        fn: called with the targets, the predictions, and `kwargs`.
        kwargs: further arguments of `fn`; each is kept as an attribute too.

    Shapes: y_true, y_pred: such that there is a value for each sample; sample_weight: `(batch,)` or like these values.
    """

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name, dtype)
        self._fn, self._fn_kwargs = fn, kwargs
        vars(self).update(kwargs)
        if self.direction is None and (isinstance(fn, losses.Loss) or any(fn is loss for loss in _LOSSES)):
            self.direction = "min"

    @property
    def fn(self) -> Callable:
        """The function of which this is the mean."""
        return self._fn

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask = masking.get_mask(y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        super().update_state(values, mask_weights(sample_weight, mask, self.dtype, "sum"))


class MeanOf(MeanMetricWrapper):
    """Base of the means named by a function: `class LogCoshError(MeanOf, fn=log_cosh, name="logcosh"): ...`.

    The class statement makes the constructor and the docstring from those of `fn`. `order` is the order of the
    arguments, `*` those of `fn` behind `(y_true, y_pred)`; further keywords are other defaults than those of `fn`.
    """

    def __init_subclass__(
        cls, fn: Callable | None = None, order: str = "name dtype *", direction: str | None = None, **defaults: Any
    ) -> None:
        if fn is not None:
            defaults = {"name": getattr(fn, "__name__", None), "dtype": None} | defaults
            cls.__init__ = functions.constructor(cls, fn, order, defaults)
            cls.__doc__ = functions.documentation(cls, fn, "Mean of ")
            cls.direction = direction or ("min" if any(fn is loss for loss in _LOSSES) else cls.direction)
        super().__init_subclass__()

    def __init__(self, *args: Any, **kwargs: Any):  # of subclasses without `fn`, which give it here
        super().__init__(*args, **kwargs)


def by_sample(values: Any, sample_weight: Any, reduce: Callable, dtype: Any) -> tuple[Any, Any]:
    """One value and one weight (`None` if none was given) for each sample: inner axes are reduced."""
    mask = masking.get_mask(values)
    values = as_array(values, dtype)
    if sample_weight is not None:
        weight = mask_weights(as_array(sample_weight, dtype), mask, dtype, "sum")
        values, weight = align(values, weight)
        if weight.ndim > values.ndim == 0:
            given = f"got one number for weights of shape {weight.shape}"
            raise ValueError(f"metric: its function must return a value for each sample to be weighted, {given}.")
        values = reduce(values, tuple(range(weight.ndim, values.ndim)))
        weight = jnp.broadcast_to(weight, values.shape)
        values, sample_weight = values * weight, reduce(weight, tuple(range(1, weight.ndim)))
    return reduce(values, tuple(range(1, values.ndim))), sample_weight
