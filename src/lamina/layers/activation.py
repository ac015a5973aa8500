"""Activations as layers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina import activations, ops
from lamina.core import checks, dtypes
from lamina.layer import InputSpec, Layer
from lamina.layer.masks import check_broadcasts
from lamina.layers.weights import resolve_arguments, weight


class Elementwise(Layer):
    """Base of layers without weights whose output lies on the axes of the input.

    Shapes: (batch, ...) -> the same.
    """

    supports_masking = _has_no_weights = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)


class Activation(Elementwise):
    """`activation(x)`.

    Args:
        activation: a name or function.
    """

    def __init__(self, activation: str | Callable | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class ReLU(Elementwise):
    """`min(max(x, 0), max_value)` above `threshold`, `negative_slope * (x - threshold)` below.

    Args:
        max_value: the largest output, `None` for no limit.
        negative_slope: the slope below the threshold.
        threshold: where the function begins to rise.

    Raises: ValueError if an argument is not a number of at least 0.
    """

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else checks.number(self._who, "max_value", max_value, 0)
        self.negative_slope = checks.number(self._who, "negative_slope", negative_slope, 0)
        self.threshold = checks.number(self._who, "threshold", threshold, 0)

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Elementwise):
    """`x` where it is positive, else `negative_slope * x`.

    Args:
        negative_slope: the slope below zero; `alpha` is its older name.

    Raises: ValueError if an argument is not a number of at least 0.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = checks.number(self._who, "negative_slope", negative_slope, 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)


class ELU(Elementwise):
    """`x` where it is positive, else `alpha * (exp(x) - 1)`.

    Args:
        alpha: the limit below zero, negated.

    Raises: ValueError if an argument is not a number.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = checks.number(self._who, "alpha", alpha)

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, alpha=self.alpha)


class PReLU(Layer):
    """`x` where it is positive, else `alpha * x` with trained `alpha`.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: of the slopes.
        shared_axes: axes along which all elements have one slope.

    Shapes: (batch, ...) -> the same; the slopes are (...), with size 1 on shared axes.
    """

    input_spec = InputSpec()  # one array

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        resolve_arguments(self)
        self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes and list(shared_axes)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            checks.require(abs(axis) < len(input_shape), self._who, "shared_axes must be axes of the input", axis)
            shape[axis - 1] = 1
        self.alpha = weight(self, "alpha", shape)
        axes = {i: size for i, size in enumerate(input_shape) if i and i not in (self.shared_axes or ())}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs: Any) -> Any:
        inputs = inputs.astype(dtypes.floating(inputs.dtype))
        return jax.nn.relu(inputs) - self.alpha.value * jax.nn.relu(-inputs)


class Softmax(Elementwise):
    """`exp(x) / sum(exp(x))` along an axis; masked places get 0.

    Args:
        axis: one axis or several.
    """

    _misses_mask = False  # along an axis of features a mask over time changes nothing

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any, mask: Any = None) -> Any:
        axis = list(self.axis) if isinstance(self.axis, (list, tuple)) else self.axis
        if mask is None:
            return ops.softmax(inputs, axis=axis)
        if mask.ndim < inputs.ndim and mask.shape == inputs.shape[: mask.ndim]:  # one that rides on the inputs
            mask = mask.reshape(mask.shape + (1,) * (inputs.ndim - mask.ndim))
        rule = f"mask must have at most the {inputs.ndim} axes of the inputs"
        checks.require(mask.ndim <= inputs.ndim, self._who, rule, mask.shape)
        mask = mask if mask.dtype == bool else mask > 0.5
        inputs = inputs.astype(dtypes.floating(inputs.dtype))
        check_broadcasts(self._who(), mask, inputs.shape)
        outputs = ops.softmax(jnp.where(mask, inputs, jnp.finfo(inputs.dtype).min / 2), axis=axis)
        return jnp.where(mask, outputs, 0)  # also where all is masked
