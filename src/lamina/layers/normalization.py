"""Normalization: of each channel over the batch, of each sample over its features or groups of them, of a kernel."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina import initializers, ops
from lamina.core import checks, dtypes, masking, scope
from lamina.layer import InputSpec, Layer, Wrapper
from lamina.layer.masks import check_broadcasts
from lamina.layers.weights import resolve_arguments, weight

__all__ = [
    "BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "SpectralNormalization",
    "UnitNormalization",
]  # fmt: skip


class Normalization(Layer):
    """Base of the layers that divide by statistics of what comes in; some have a trained scale and offset behind.

    Args:
        epsilon: added to the variance.
        center, scale: whether there is a `beta`, a `gamma`.
        beta_initializer, gamma_initializer: what the weights start from.
        beta_regularizer, gamma_regularizer: added to the loss.
        beta_constraint, gamma_constraint: applied after each step.

    Shapes: (batch, ..., features) -> the same.

    Raises: ValueError if an axis is not there or of unknown size.
    """

    input_spec = InputSpec()  # one array

    axis: Any
    center: bool
    scale: Any
    gamma: Any = None
    beta: Any = None
    rms_scaling = False  # an older mistake of Keras, with a `gamma` and without a `beta` in any case

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        resolve_arguments(self)
        self.supports_masking = True
        self.autocast = False  # statistics of what comes in, not of what is left of it in 16 bits

    @property
    def _axes(self) -> list[int]:
        return [self.axis] if isinstance(self.axis, int) else self.axis

    def _sizes(self, input_shape: tuple[int | None, ...]) -> list[int]:
        """Those along the axes, which are in order from now on, the least number first: so weights lie in files."""
        self.axis = self.axis if isinstance(self.axis, int) else sorted(self.axis)
        once = len({axis % len(input_shape) for axis in self._axes}) == len(self._axes)
        checks.require(once, self._who, "axis must name each axis once", self.axis)
        return [checks.known_size(self._who, input_shape, axis) for axis in self._axes]

    def _make_scale_and_offset(self, shape: Sequence[Any]) -> None:
        self.gamma = weight(self, "gamma", shape, autocast=False) if self.scale or self.rms_scaling else None
        self.beta = weight(self, "beta", shape, autocast=False) if self.center and not self.rms_scaling else None

    def _scale_and_offset(self) -> tuple[Any, Any]:
        return tuple(None if v is None else v.value for v in (self.gamma, self.beta))  # type: ignore[return-value]


class BatchNormalization(Normalization):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, for each element of an axis.

    In training mean and variance are those of the batch, and moving averages of them are kept; otherwise, and when the
    layer is frozen (`trainable = False`), they are the moving averages.

    Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167

    Args:
        axis: the axis that keeps its elements apart, usually the channels.
        momentum: of the moving averages.
        moving_mean_initializer, moving_variance_initializer: what they start from.
        renorm: whether training corrects what it normalizes towards moving averages: by the factor
            `r = stddev / renorm_stddev`, then the shift `d = (mean - renorm_mean) / renorm_stddev`, both taken as
            constants by gradients (Ioffe, 2017, https://arxiv.org/abs/1702.03275).
        renorm_clipping: bounds `{"rmin": ..., "rmax": ..., "dmax": ...}` of r and |d|; those left out do not bind.
        renorm_momentum: of the moving averages of `renorm`.
        synchronized: kept for Keras programs: under sharding a batch is one array anyway.

    Shapes: (batch, ..., channels) -> the same.

    Raises: ValueError if the axis is not there or of unknown size, or a number out of its range.

    >>> layer = layers.BatchNormalization(epsilon=0.0)
    >>> layer(np.array([[1.0], [3.0]], "float32"), training=True).tolist()
    [[-1.0], [1.0]]
    >>> float(layer.moving_mean.value[0])  # 0.99 * 0 + 0.01 * 2
    0.019999999552965164
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = axis
        self.momentum = float(checks.number(self._who, "momentum", momentum, 0, 1))
        self.epsilon = float(checks.number(self._who, "epsilon", epsilon, 0))
        self.center, self.scale, self.synchronized = center, scale, synchronized
        self.renorm = renorm
        self.renorm_clipping = {} if renorm and renorm_clipping is None else renorm_clipping
        bounds, known = self.renorm_clipping or {}, ("rmax", "rmin", "dmax")
        fit = bounds.get("rmin", 0) <= bounds.get("rmax", math.inf) and bounds.get("dmax", 0) >= 0
        if not fit or not set(bounds) <= set(known):
            rule = f"have keys of {', '.join(known)}, rmin not above rmax and dmax not below 0"
            raise ValueError(f"{self._who()}: renorm_clipping must {rule}, got {bounds}.")
        self.renorm_momentum = float(checks.number(self._who, "renorm_momentum", renorm_momentum, 0, 1))
        self.moving_mean_initializer: Any
        self.moving_variance_initializer: Any
        self.moving_mean: Any = None
        self.moving_variance: Any = None
        self.moving_stddev: Any = None  # the last three are there with renorm only
        self.renorm_mean: Any = None
        self.renorm_stddev: Any = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rank, shape = len(input_shape), (checks.known_size(self._who, input_shape, self.axis),)
        self._make_scale_and_offset(shape)
        mean, variance = self.moving_mean_initializer, self.moving_variance_initializer
        averages = {"moving_mean": mean, "moving_variance": variance}
        if self.renorm:

            def stddev(shape: Any, dtype: Any) -> Any:
                return np.sqrt(variance(shape, dtype=dtype))

            averages |= {"moving_stddev": stddev, "renorm_mean": mean, "renorm_stddev": stddev}
        for name, initializer in averages.items():
            new = weight(self, name, shape, initializer=initializer, trainable=False, autocast=False)
            setattr(self, name, new)
        self.input_spec = InputSpec(ndim=rank, axes={self.axis: input_shape[self.axis]})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None:
            check_broadcasts(self._who(), mask, inputs.shape[: mask.ndim])
        x = inputs.astype(dtypes.wide(inputs.dtype))
        scale, offset = self._scale_and_offset()
        if training and self.trainable:
            mean, variance = self._batch_statistics(x, masking.with_rows(mask, x.shape[0]))
            if self.renorm:
                scale, offset = self._renormalized(mean, variance, scale, offset)
            else:
                _follow(self.moving_variance, variance, self.momentum)
            _follow(self.moving_mean, mean, self.momentum)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        outputs = ops.batch_normalization(
            x, mean, variance, axis=self.axis, offset=offset, scale=scale, epsilon=self.epsilon
        )
        return outputs.astype(self.compute_dtype)

    def _renormalized(self, mean: Any, variance: Any, scale: Any, offset: Any) -> tuple[Any, Any]:
        """Scale and offset that have the corrections r and d in them: `scale (r x + d) + offset`."""
        bounds: dict[str, float] = self.renorm_clipping or {}
        mean, stddev = lax.stop_gradient((mean, jnp.sqrt(variance + self.epsilon)))
        center, spread = self.renorm_mean.value, self.renorm_stddev.value
        r = jnp.clip(stddev / spread, bounds.get("rmin"), bounds.get("rmax"))
        d = (mean - center) / spread
        if "dmax" in bounds:
            d = jnp.clip(d, -bounds["dmax"], bounds["dmax"])
        _follow(self.renorm_mean, mean, self.renorm_momentum)
        _follow(self.renorm_stddev, stddev, self.renorm_momentum)
        moving = _follow(self.moving_stddev, stddev, self.momentum)
        self.moving_variance.assign(jnp.square(moving) - self.epsilon)
        scale = 1.0 if scale is None else scale
        return r * scale, d * scale + (0.0 if offset is None else offset)

    def _batch_statistics(self, x: Any, mask: Any) -> tuple[Any, Any]:
        """Mean and variance of each channel, of the places that the mask lets through."""
        axes = tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
        if mask is None:
            mean = x.mean(axes)
            # E[x^2] - E[x]^2 would lose digits where the mean is large
            return mean, jnp.var(x, axes)
        weights = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape).astype(x.dtype)
        total = jnp.maximum(weights.sum(axes), 1e-7)
        shape = [1] * x.ndim
        shape[self.axis] = x.shape[self.axis]
        mean = (x * weights).sum(axes) / total
        variance = (weights * (x - mean.reshape(shape)) ** 2).sum(axes) / total
        return mean, variance


def _follow(moving: Any, now: Any, momentum: float) -> Any:
    """A moving average's next value, assigned."""
    return moving.assign(moving.value * momentum + now * (1.0 - momentum))


def _listed(axis: Any) -> Any:
    """An axis, or axes as a list, as configurations have them."""
    listed = checks.integers(axis)
    return list(listed) if isinstance(listed, tuple) else listed


class LayerNormalization(Normalization):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta` of each sample, mean and variance over some axes.

    Ba et al., 2016, https://arxiv.org/abs/1607.06450

    Args:
        axis: the axes that are normalized over.
    """

    _further = ("rms_scaling",)

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        self.rms_scaling = bool(kwargs.pop("rms_scaling", False))  # an older way to say RMSNormalization
        super().__init__(**kwargs)
        self.axis = _listed(axis)
        self.epsilon = checks.number(self._who, "epsilon", epsilon, 0)
        self.center, self.scale = center, scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._make_scale_and_offset(self._sizes(input_shape))

    def call(self, inputs: Any) -> Any:
        x = inputs.astype(dtypes.wide(inputs.dtype))
        options = {"axis": self.axis, "epsilon": self.epsilon, "rms_scaling": self.rms_scaling}
        outputs = ops.layer_normalization(x, *self._scale_and_offset(), **options)
        return outputs.astype(self.compute_dtype)


class GroupNormalization(Normalization):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, mean and variance of each sample and group of channels.

    Wu and He, 2018, https://arxiv.org/abs/1803.08494

    Args:
        groups: the number of groups; -1 makes one of each channel.
        axis: that of the channels.
        center, scale: whether there is a `beta`, a `gamma`, for each channel.

    Shapes: (batch, ..., channels) -> the same.

    Raises: ValueError if the channels cannot be split into the groups.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if groups != -1 and not checks.is_integer(groups):
            raise ValueError(f"{self._who()}: groups must be a positive integer or -1, got {groups!r}.")
        self.groups, self.axis = groups, axis
        self.epsilon = checks.number(self._who, "epsilon", epsilon, 0)
        self.center, self.scale = center, scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = checks.known_size(self._who, input_shape, self.axis)
        self.groups = channels if self.groups == -1 else self.groups
        rule = f"axis {self.axis} must be one of channels that groups={self.groups} divides"
        checks.require(not channels % self.groups and self.axis % len(input_shape) != 0, self._who, rule, input_shape)
        self._make_scale_and_offset((channels,))
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Any) -> Any:
        x = inputs.astype(dtypes.wide(inputs.dtype))
        options = self.axis % x.ndim, self.groups, self.epsilon
        return _group_normalized(x, *self._scale_and_offset(), *options).astype(self.compute_dtype)


@functools.partial(jax.jit, static_argnums=(3, 4, 5), inline=True)
def _group_normalized(x: Any, scale: Any, offset: Any, axis: int, groups: int, epsilon: float) -> Any:
    shape, split = x.shape, (groups, x.shape[axis] // groups)
    x = x.reshape(*shape[:axis], *split, *shape[axis + 1 :])
    axes = tuple(i for i in range(1, x.ndim) if i != axis)
    scale, offset = (None if v is None else v.reshape(*split, *(1,) * (x.ndim - axis - 2)) for v in (scale, offset))
    mean, factor = x.mean(axes, keepdims=True), lax.rsqrt(x.var(axes, keepdims=True) + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor
    return (x * factor + (shift if offset is None else shift + offset)).reshape(shape)


class RMSNormalization(Normalization):
    """`scale * x / sqrt(mean(x^2) + epsilon)` of each sample, the mean over some axes.

    Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467

    Args:
        axis: the axes of the mean, along which `scale` has a number for each place.
        epsilon: added to the mean.
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = False  # as in Keras
        self.axis = _listed(axis)
        self.epsilon = checks.number(self._who, "epsilon", epsilon, 0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = weight(self, "scale", self._sizes(input_shape), initializer="ones")

    def call(self, x: Any) -> Any:
        wide = x.astype(dtypes.wide(x.dtype))
        axes = [axis % x.ndim for axis in self._axes]
        scale = self.scale.value.reshape([size if i in axes else 1 for i, size in enumerate(x.shape)])
        factor = lax.rsqrt(jnp.mean(jnp.square(wide), axes, keepdims=True) + self.epsilon)
        return (wide * factor * scale).astype(self.compute_dtype)


class UnitNormalization(Normalization):
    """`x / |x|` of each sample, the Euclidean norm over some axes.

    Args:
        axis: the axes of the norm.

    Raises: ValueError if an axis is not there.
    """

    _has_no_weights = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = _listed(axis)

    def call(self, inputs: Any) -> Any:
        if not all(-inputs.ndim <= axis < inputs.ndim for axis in self._axes):
            raise ValueError(f"{self._who()}: axis must be an axis of the input, got {self.axis} for {inputs.shape}.")
        wide = inputs.astype(dtypes.wide(inputs.dtype))
        return ops.normalize(wide, self.axis, order=2, epsilon=1e-12).astype(self.compute_dtype)


class SpectralNormalization(Wrapper):
    """A layer whose kernel is divided by its largest singular value, at each call in training.

    Power iteration finds that value: `v = normalize(u kernel^T)`, `u = normalize(v kernel)`, and `v kernel u^T` comes
    near it. The layer keeps the divided kernel, and u for the next call.

    Miyato et al., 2018, https://arxiv.org/abs/1802.05957

    Args:
        layer: one with a `kernel` or `embeddings`.
        power_iterations: the number of iterations at a call.

    Shapes: those of the layer.

    Raises: ValueError if `layer` is not a layer, or has neither weight, or `power_iterations` is not positive.
    """

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.power_iterations = checks.integer(self._who, "power_iterations", power_iterations)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        found = [getattr(self.layer, name) for name in ("kernel", "embeddings") if hasattr(self.layer, name)]
        checks.require(found, self._who, "layer must have a kernel or embeddings", self.layer)
        self.kernel = found[0]
        options = {"initializer": initializers.TruncatedNormal(stddev=0.02), "dtype": self.kernel.dtype}
        self.vector_u = weight(self, "vector_u", (1, self.kernel.shape[-1]), trainable=False, **options)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            vector_u, kernel = self.normalized_weights()
            self.vector_u.assign(vector_u)
            self.kernel.assign(kernel)
        outputs = self.layer(inputs)
        return outputs.astype(inputs.dtype) if dtypes.is_float(inputs.dtype) else outputs

    def normalized_weights(self) -> tuple[Any, Any]:
        """The next u and the divided kernel; those of now if the kernel is 0."""
        with scope.autocast(None):
            u, kernel = self.vector_u.value, self.kernel.value
        wide = kernel.astype(dtypes.wide(kernel.dtype))
        weights, vector_u = wide.reshape(-1, kernel.shape[-1]), u.astype(wide.dtype)
        vector_v: Any = None
        for _ in range(self.power_iterations):
            vector_v = ops.normalize(vector_u @ weights.T, axis=None)
            vector_u = ops.normalize(vector_v @ weights, axis=None)
        vector_u, vector_v = lax.stop_gradient((vector_u, vector_v))
        nothing = (weights == 0).all()
        norm = jnp.where(nothing, 1, vector_v @ weights @ vector_u.T)[0, 0]
        return jnp.where(nothing, u, vector_u.astype(u.dtype)), (wide / norm).astype(kernel.dtype)
