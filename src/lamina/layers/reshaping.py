"""Layers that move elements around."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina import ops
from lamina.core import checks, dtypes
from lamina.core.configurable import variant
from lamina.layer import InputSpec, Layer
from lamina.layers.spatial import Spatial

__all__ = [
    "Cropping1D", "Cropping2D", "Cropping3D", "Flatten", "Permute", "RepeatVector", "Reshape", "UpSampling1D",
    "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
]  # fmt: skip


class Flatten(Layer):
    """All axes but the first as one.

    Args:
        data_format: with "channels_first" the channels are moved to the end before.

    Shapes: (batch, ...) -> (batch, product of the rest).
    """

    _keeps_sparse = True

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = dtypes.standardize_data_format(data_format, self._who())
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Any) -> Any:
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = ops.moveaxis(inputs, 1, -1)
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))


class Reshape(Layer):
    """The elements of each sample in another shape.

    Args:
        target_shape: the shape without the batch axis; one size may be -1.

    Shapes: (batch, ...) -> (batch, *target_shape).

    Raises: ValueError if the elements do not fit.
    """

    input_spec = InputSpec()  # one array
    _keeps_sparse = True
    _has_no_weights = True

    def __init__(self, target_shape: Sequence[int] | int, **kwargs: Any):
        super().__init__(**kwargs)
        sizes = checks.integers(target_shape)
        self.target_shape = (sizes,) if isinstance(sizes, int) else sizes
        if self.target_shape.count(-1) > 1 or any(size < -1 for size in self.target_shape):
            raise ValueError(f"{self._who()}: target_shape must have sizes and at most one -1, got {target_shape}.")

    def call(self, inputs: Any) -> Any:
        sizes, target = inputs.shape[1:], self.target_shape
        if all(isinstance(size, int) for size in sizes):
            known, total = math.prod(size for size in target if size != -1), math.prod(sizes)
            fits = total % known == 0 if -1 in target and known else total == known
            if not fits:
                raise ValueError(f"{self._who()}: cannot reshape samples of shape {sizes} to {target}.")
            target = tuple(total // known if size == -1 else size for size in target)
        return ops.reshape(inputs, (inputs.shape[0], *target))


class Permute(Layer):
    """The axes of each sample in another order.

    Args:
        dims: the axes of the input, counted from 1, in the order of the output.

    Shapes: (batch, ...) -> (batch, the axes in the order of `dims`).

    Raises: ValueError if `dims` does not have each axis once.
    """

    _keeps_sparse = True

    def __init__(self, dims: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"{self._who()}: dims must have each of 1, ..., {len(self.dims)} once, got {dims}.")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Any) -> Any:
        return ops.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """Each vector `n` times along a new time axis.

    Args:
        n: how often.

    Shapes: (batch, features) -> (batch, n, features).

    Raises: ValueError if `n` is not a positive integer.
    """

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.n = checks.integer(self._who, "n", n)
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Any) -> Any:
        return jnp.broadcast_to(inputs[:, None], (inputs.shape[0], self.n, inputs.shape[1]))


class Resizing(Spatial):
    """Base of padding, cropping and upsampling.

    Shapes: (batch, *spatial, channels) -> (batch, *other spatial, channels).
    """

    def _along_axes(self, name: str, each: tuple) -> None:
        """Keep what belongs to each axis; sequences have one axis, and their attribute is not nested."""
        self._each = each
        setattr(self, name, each[0] if self.rank == 1 else each)


class ZeroPadding(Resizing):
    """Zeros before and after along each spatial axis.

    Args:
        padding: a number for all sides, one for each axis, or (before, after) for each axis.

    Raises: ValueError if a number is below 0.
    """

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self._along_axes("padding", self._pairs("padding", padding))

    def call(self, inputs: Any) -> Any:
        widths = [(0, 0)] * inputs.ndim
        for axis, pair in zip(self._axes, self._each):
            widths[axis] = pair
        return jnp.pad(inputs, widths)


class ZeroPadding1D(ZeroPadding, rank=1):
    """Zeros before and after in time."""


class ZeroPadding2D(ZeroPadding, rank=2, padding=(1, 1)):
    """Zeros around images."""


class ZeroPadding3D(ZeroPadding, rank=3, padding=((1, 1), (1, 1), (1, 1))):
    """Zeros around volumes."""


class Cropping(Resizing):
    """Elements taken away before and after along each spatial axis.

    Args:
        cropping: a number for all sides, one for each axis, or (before, after) for each axis.

    Raises: ValueError if nothing would be left.
    """

    def __init__(self, cropping: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self._along_axes("cropping", self._pairs("cropping", cropping))

    def call(self, inputs: Any) -> Any:
        for axis, (before, after) in zip(self._axes, self._each):
            size = inputs.shape[axis]
            if isinstance(size, int) and before + after >= size:
                raise ValueError(f"{self._who()}: cropping must leave something of size {size}, got {(before, after)}.")
            inputs = jax.lax.slice_in_dim(inputs, before, size - after, axis=axis)
        return inputs


@variant(defaults={"cropping": (1, 1), "data_format": "channels_last"}, without=["data_format"])
class Cropping1D(Cropping, rank=1):
    """Sequences without their ends."""


class Cropping2D(Cropping, rank=2, cropping=((0, 0), (0, 0))):
    """Images without their margins."""


class Cropping3D(Cropping, rank=3, cropping=((1, 1), (1, 1), (1, 1))):
    """Volumes without their margins."""


class UpSampling(Resizing):
    """Each element repeated along the spatial axes.

    Args:
        size: how often, for all axes or each.

    Raises: ValueError if a factor is not a positive integer.
    """

    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self._along_axes("size", self._sizes("size", size))

    def call(self, inputs: Any) -> Any:
        for axis, times in zip(self._axes, self._each):
            inputs = jnp.repeat(inputs, times, axis=axis)
        return inputs


@variant(defaults={"data_format": "channels_last"}, without=["data_format"])
class UpSampling1D(UpSampling, rank=1):
    """Each time step `size` times."""


class UpSampling2D(UpSampling, rank=2):
    """Images enlarged by whole factors.

    Args:
        size: a factor, or (height, width).
        interpolation: "nearest" repeats; "bilinear", "bicubic", "lanczos3" and "lanczos5" interpolate.

    Shapes: (batch, height, width, channels) -> (batch, more height, more width, channels).

    Raises: ValueError if `interpolation` is another word.
    """

    METHODS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")

    def __init__(
        self, size: Any = (2, 2), data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any
    ):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = checks.one_of(self._who, "interpolation", interpolation, self.METHODS)

    def call(self, inputs: Any) -> Any:
        if self.interpolation == "nearest":
            return super().call(inputs)
        size = [inputs.shape[axis] * times for axis, times in zip(self._axes, self._each)]
        return ops.image.resize(inputs, size, self.interpolation, data_format=self.data_format)


class UpSampling3D(UpSampling, rank=3, size=(2, 2, 2)):
    """Volumes enlarged by whole factors."""
