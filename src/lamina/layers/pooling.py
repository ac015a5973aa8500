"""Pooling: a reduction over windows of a size, over a number of windows, or over everything."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina import ops
from lamina.core import checks, dtypes
from lamina.layer.masks import check_mask, only_passes
from lamina.layers.spatial import Spatial

__all__ = [
    "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D", "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "AvgPool1D", "AvgPool2D", "AvgPool3D", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalAveragePooling3D", "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D", "GlobalMaxPool1D",
    "GlobalMaxPool2D", "GlobalMaxPool3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "MaxPool1D", "MaxPool2D", "MaxPool3D", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D",
]  # fmt: skip


class Reducing(Spatial):
    """Base of pooling: `reduce` is the function that makes one number of many."""

    reduce: Any = None

    def __init_subclass__(cls, reduce: Any = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.reduce = reduce or cls.reduce


class Pooling(Reducing):
    """A reduction over windows along `rank` spatial axes.

    Args:
        pool_size: the size of a window: an integer, or one for each axis.
        strides: from window to window, `pool_size` if not given.
        padding: "valid" or "same".

    Shapes: (batch, *spatial, channels) -> (batch, *fewer, channels).

    Raises: ValueError if a size is not a positive integer.
    """

    _has_no_weights = True

    def __init__(
        self,
        pool_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format, name=name, **kwargs)
        self.pool_size = self._sizes("pool_size", pool_size)
        self.strides = self._sizes("strides", pool_size if strides is None else strides)
        self.padding = checks.one_of(self._who, "padding", str(padding).lower(), ("valid", "same"))

    def call(self, inputs: Any) -> Any:
        return type(self).reduce(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class MaxPooling1D(Pooling, rank=1, reduce=ops.max_pool, pool_size=2):
    """The largest value of each window in time."""


class MaxPooling2D(Pooling, rank=2, reduce=ops.max_pool, pool_size=(2, 2)):
    """The largest value of each window of an image."""


class MaxPooling3D(Pooling, rank=3, reduce=ops.max_pool, pool_size=(2, 2, 2)):
    """The largest value of each window of a volume."""


class AveragePooling1D(Pooling, rank=1, reduce=ops.average_pool):
    """The mean of each window in time; padding does not count."""


class AveragePooling2D(Pooling, rank=2, reduce=ops.average_pool):
    """The mean of each window of an image; padding does not count."""


class AveragePooling3D(Pooling, rank=3, reduce=ops.average_pool):
    """The mean of each window of a volume; padding does not count."""


class GlobalPooling(Reducing):
    """A reduction over all of `rank` spatial axes.

    Args:
        keepdims: whether the axes stay, with size 1.

    Shapes: (batch, *spatial, channels) -> (batch, channels).
    """

    _has_no_weights = True

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.keepdims = keepdims

    def call(self, inputs: Any) -> Any:
        return type(self).reduce(inputs, axis=self._axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(GlobalPooling, rank=1, reduce=jnp.max):
    """The largest value in time."""


class GlobalMaxPooling2D(GlobalPooling, rank=2, reduce=jnp.max):
    """The largest value of an image."""


class GlobalMaxPooling3D(GlobalPooling, rank=3, reduce=jnp.max):
    """The largest value of a volume."""


class GlobalAveragePooling2D(GlobalPooling, rank=2, reduce=jnp.mean):
    """The mean of an image."""


class GlobalAveragePooling3D(GlobalPooling, rank=3, reduce=jnp.mean):
    """The mean of a volume."""


class GlobalAveragePooling1D(GlobalPooling, rank=1, reduce=jnp.mean):
    """The mean in time, of the times that the mask lets through if there is one."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        check_mask(self._who(), mask, jnp.moveaxis(inputs, self._axes[0], 1))
        steps = self._axes[0]
        weights = jnp.expand_dims(mask.astype(dtypes.wide(inputs.dtype)), 3 - steps)
        total, count = (x.sum(steps, keepdims=self.keepdims) for x in (inputs * weights, weights))
        return (total / count).astype(dtypes.floating(inputs.dtype))

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """None: the time axis is gone."""


class AdaptivePooling(Reducing):
    """A reduction over windows, nearly equal, of which there are as many as the output is to have places.

    Window i of n along an axis of size d begins at floor(i d / n) and ends below ceil((i + 1) d / n).

    Args:
        output_size: the number of windows: an integer, or one for each axis.

    Shapes: (batch, *spatial, channels) -> (batch, *output_size, channels).

    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(self, output_size: int | Sequence[int], data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.output_size = self._sizes("output_size", output_size)

    def call(self, inputs: Any) -> Any:
        return type(self).reduce(inputs, self.output_size, self.data_format)


class AdaptiveAveragePooling1D(AdaptivePooling, rank=1, reduce=ops.adaptive_average_pool):
    """The mean of each of `output_size` windows in time."""


class AdaptiveAveragePooling2D(AdaptivePooling, rank=2, reduce=ops.adaptive_average_pool):
    """The mean of each of `output_size` windows of an image."""


class AdaptiveAveragePooling3D(AdaptivePooling, rank=3, reduce=ops.adaptive_average_pool):
    """The mean of each of `output_size` windows of a volume."""


class AdaptiveMaxPooling1D(AdaptivePooling, rank=1, reduce=ops.adaptive_max_pool):
    """The largest value of each of `output_size` windows in time."""


class AdaptiveMaxPooling2D(AdaptivePooling, rank=2, reduce=ops.adaptive_max_pool):
    """The largest value of each of `output_size` windows of an image."""


class AdaptiveMaxPooling3D(AdaptivePooling, rank=3, reduce=ops.adaptive_max_pool):
    """The largest value of each of `output_size` windows of a volume."""


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)
