"""`Loss`: what turns the losses of the samples into one number, with sample weights and masks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import configurable, dtypes, masking, policy, scope, tree
from lamina.core.configurable import Configurable
from lamina.core.variable import Variable

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


class Loss(Configurable):
    """`reduce(call(y_true, y_pred) · sample_weight)`; a subclass defines `call`.

    Args:
        name: the snake case of the class name if not given.
        reduction: `"sum_over_batch_size"` or `"mean"` (sum divided by the number of losses), `"sum"`,
            `"mean_with_sample_weight"` (sum divided by the sum of the weights), `"none"` or `None`.
        dtype: what is computed in, a dtype or a policy; the default float dtype if not given.

    Shapes:
        `y_true`, `y_pred`: arrays `(batch, ...)` or structures of them, as `call` takes them;
        `sample_weight`: what broadcasts to the losses; result: `()`, or the losses if they are not reduced.
    """

    _omit_none = frozenset({"dtype"})
    dtype: str = "float32"
    _keeps_integers = False  # whether `call` gets integer targets as they are

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        self.name = name or scope.unique_name(scope.snake_case(type(self).__name__))
        if reduction not in REDUCTIONS:
            names = ", ".join(map(repr, REDUCTIONS))
            raise ValueError(f"{self._who}: reduction must be one of {names}, got {reduction!r}.")
        self.reduction = reduction
        self.dtype = policy.get_policy(dtype or dtypes.floatx()).compute_dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        mask = masking.get_mask(y_pred)
        y_true = _arrays(y_true, None if self._keeps_integers else self.dtype)
        losses = self.call(y_true, _arrays(y_pred, self.dtype))
        mask = masking.merge_masks((mask, masking.get_mask(losses)))
        return reduce_weighted(losses, sample_weight, mask, self.reduction, self.dtype, self._who)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses, one for each sample or for each place in it."""
        raise NotImplementedError(f"{type(self).__name__}: a subclass must define call.")

    @property
    def _who(self) -> str:
        return f'{type(self).__name__} "{self.name}"'

    def _base_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction}

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        return argument_or_none(self, owner, name, super()._argument(owner, name, recorded))


class LossFunctionWrapper(Loss):
    """The loss of a function: `reduce(fn(y_true, y_pred, **kwargs) · sample_weight)`.

    Args:
        fn: called with the targets, the predictions, and `kwargs`.
        reduction, name, dtype: see `Loss`.
        kwargs: further arguments of `fn`; each is kept as an attribute too.
    """

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name, reduction, dtype)
        self.fn, self._fn_kwargs = fn, kwargs
        vars(self).update(kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        aligned = (tree.map_structure(lambda *pair, i=i: align(*pair)[i], y_true, y_pred) for i in (0, 1))
        return self.fn(*aligned, **self._fn_kwargs)


def argument_or_none(obj: Configurable, owner: type, name: str, value: Any) -> Any:
    """What a configuration holds of an argument.

    Files of Keras have no key for those in `_omit_none`: they are left out (`None`) while they have their
    defaults, so that configurations are those of Keras and yet nothing is lost.
    """
    if name == "fn":
        return configurable.serialize(value)
    if name not in obj._omit_none:
        return value
    parameter = inspect.signature(owner.__init__).parameters.get(name)
    default = dtypes.floatx() if name == "dtype" else parameter and parameter.default
    return None if value == default else value


def _is_literal(x: Any) -> bool:
    """Whether `x` is a number or lists of numbers: one array, and not a structure of arrays."""
    return isinstance(x, (bool, int, float)) or (isinstance(x, (list, tuple)) and all(map(_is_literal, x)))


def _arrays(structure: Any, dtype: Any) -> Any:
    if _is_literal(structure):
        return as_array(structure, dtype)
    return tree.map_structure(lambda x: as_array(x, dtype), structure)


def as_array(x: Any, dtype: Any = None) -> jax.Array:
    """`x` (an array, a variable, numbers) as an array, of `dtype` if that is given."""
    return jnp.asarray(x.value if isinstance(x, Variable) else x, dtype)


def align(first: Any, second: Any, expand_vectors: bool = True) -> tuple[Any, Any]:
    """The two arrays with as many axes, where they differ by one last axis of size 1.

    `(batch,)` beside `(batch, 1)` becomes `(batch, 1)` unless `expand_vectors` is false; else that axis goes.
    """
    if second.ndim > first.ndim:
        return align(second, first, expand_vectors)[::-1]
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        if second.ndim == 1 and expand_vectors:
            return first, second[:, None]
        return first[..., 0], second
    return first, second


def mask_weights(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Any:
    """Sample weights that are 0 where `mask` is false.

    Where a reduction divides by the number of losses, those that are left weigh more: it becomes their mean.
    """
    if mask is None:
        return sample_weight
    weight = as_array(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        weight = weight * divide_no_nan(jnp.asarray(weight.size, dtype), jnp.sum(weight))
    if sample_weight is None:
        return weight
    weight, sample_weight = align(weight, as_array(sample_weight, dtype))
    return sample_weight * weight


def reduce_weighted(
    values: Any,
    sample_weight: Any = None,
    mask: Any = None,
    reduction: str | None = "sum_over_batch_size",
    dtype: Any = None,
    who: str = "loss",
) -> Any:
    """`values · sample_weight`, 0 where `mask` is false, reduced as `Loss` says."""
    values = as_array(values, dtype)
    weight = None if sample_weight is None else as_array(sample_weight, values.dtype)
    try:
        weight = mask_weights(weight, mask, values.dtype, reduction)
        if weight is not None:
            values, weight = align(values, weight)
            values = values * weight
    except TypeError:
        given = " and ".join(str(np.shape(x)) for x in (sample_weight, mask) if x is not None)
        rule = f"sample_weight and mask must broadcast to the losses of shape {values.shape}"
        raise ValueError(f"{who}: {rule}, got {given}.") from None
    if reduction in ("none", None) or values.ndim == 0:
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weight is not None:
        return divide_no_nan(total, jnp.sum(weight))
    return divide_no_nan(total, jnp.asarray(values.size, total.dtype))


def divide_no_nan(x: Any, y: Any) -> Any:
    """`x / y`, and 0 where `y` is 0."""
    zero = y == 0
    return jnp.where(zero, 0, x / jnp.where(zero, 1, y))


def target_kind(y_true: Any, y_pred: Any) -> str:
    """`"binary"`, `"sparse_categorical"` or `"categorical"`, as the shapes of a target and an output tell."""
    if y_pred.shape[-1:] == (1,):
        return "binary"
    if len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1:] == (1,):
        return "sparse_categorical"
    return "categorical"
