"""Layers that give images one size and one range of values."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina import ops
from lamina.core import checks, dtypes
from lamina.core.configurable import variant
from lamina.layer.masks import check_broadcasts
from lamina.layers.preprocessing.base import Draws, ImageLayer, Sized
from lamina.layers.preprocessing.foreign import PipelineLayer
from lamina.layers.preprocessing.pipelines import numbers
from lamina.ops.sampling import affine


class Rescaling(PipelineLayer):
    """`x * scale + offset`.

    Args:
        scale: a number, or one for each channel.
        offset: likewise.

    Shapes: (...) -> the same.

    Raises: ValueError if `scale` or `offset` are no numbers.
    """

    def __init__(self, scale: float | Sequence[float], offset: float | Sequence[float] = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        for name, value in (("scale", scale), ("offset", offset)):
            try:
                kind = jnp.asarray(value).dtype.kind
            except (TypeError, ValueError):
                kind = "O"
            checks.require(kind in "iuf", self._who, f"{name} must be a number, or one for each channel", value)
        self.scale, self.offset = scale, offset
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        scale, offset = (jnp.asarray(value, self.compute_dtype) for value in (self.scale, self.offset))
        if scale.ndim and dtypes.image_data_format() == "channels_first":
            scale = scale.reshape(*scale.shape, *[1] * (3 - scale.ndim))
        inputs = jnp.asarray(numbers(inputs, self._who())).astype(self.compute_dtype)
        for name, value in (("scale", scale), ("offset", offset)):
            check_broadcasts(self._who(), value, inputs.shape, name)
        return inputs * scale + offset


class Resized(Sized):
    """Base of layers that give images the size `height`, `width`, at inference as in training."""

    always = True

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> Any:
        return {"input_shape": shape}

    def placed(self, height: Any, width: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """(scale, start) of rows and of columns: the place `y` of an image of this size comes to `scale y + start`."""
        raise NotImplementedError

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        size = self.size_of(transformation["input_shape"])
        (down, top), (across, left) = self.placed(*size)
        forward = affine((across, 0, left), (0, down, top))
        carried = self._carry_boxes(boxes, forward, size, (self.height, self.width))
        filling = jnp.isin(boxes["boxes"], jnp.array([-1, 0])).all(axis=-1, keepdims=True)  # those that fill up a batch
        return {**carried, "boxes": jnp.where(filling, 0, carried["boxes"])}


@variant(
    arguments=(
        "height", "width", "interpolation", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "fill_mode", "fill_value",
        "antialias", "data_format",
    ),
)  # fmt: skip
class Resizing(Resized):
    """Images in another size; integers stay integers.

    Args:
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5"; masks have "nearest".
        crop_to_aspect_ratio: cut the longer side first, so that nothing is stretched.
        pad_to_aspect_ratio: pad the shorter side first, so that nothing is stretched.
        fill_mode: "constant".
        fill_value: what to pad with.
        antialias: whether to smooth what is made smaller.
    """

    integers = True

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        **kwargs: Any,
    ):
        super().__init__(height, width, **kwargs)
        self.interpolation = checks.one_of(self._who, "interpolation", interpolation, ops.image.RESIZES)
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ValueError(f"{self._who()}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be set.")
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode = checks.one_of(self._who, "fill_mode", fill_mode, ("constant",))
        self.fill_value = checks.number(self._who, "fill_value", fill_value)
        self.antialias = bool(antialias)

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        aspect = self.crop_to_aspect_ratio, self.pad_to_aspect_ratio
        filling = self.fill_mode, self.fill_value
        size = self.height, self.width
        return ops.image.resize(images, size, interpolation, self.antialias, *aspect, *filling, "channels_last")

    def placed(self, height: Any, width: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        down, across = self.height / height, self.width / width
        if not (self.crop_to_aspect_ratio or self.pad_to_aspect_ratio):
            return (down, 0), (across, 0)
        scale = (jnp.minimum if self.pad_to_aspect_ratio else jnp.maximum)(down, across)
        rest = self.height - height * scale, self.width - width * scale
        return (scale, jnp.trunc(rest[0] / 2)), (scale, jnp.trunc(rest[1] / 2))


@variant(arguments=("height", "width", "data_format"))
class CenterCrop(Resized):
    """The middle of images; those that are too small are enlarged so that they fill the size."""

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        top, left = ((n - size) // 2 for n, size in zip(images.shape[1:3], (self.height, self.width)))
        if top >= 0 and left >= 0:
            return images[:, top : top + self.height, left : left + self.width]
        size = (self.height, self.width)
        return ops.image.resize(images, size, interpolation, crop_to_aspect_ratio=True, data_format="channels_last")

    def placed(self, height: Any, width: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        room = (height >= self.height) & (width >= self.width)
        fitting = (width * self.height / self.width) // 1, (height * self.width / self.height) // 1
        out = []
        for size, target, fit in zip((height, width), (self.height, self.width), fitting):
            part = jnp.where(room, target, jnp.maximum(jnp.minimum(size, fit), 1))
            out.append((target / part, -((size - part) // 2) * (target / part)))
        return out[0], out[1]


class MaxNumBoundingBoxes(ImageLayer):
    """The first boxes of each image, or as many more as it takes that fill up; images stay.

    Args:
        max_number: how many boxes each image gets.
        fill_value: the numbers and the label of boxes that fill up.

    Shapes: boxes (batch, count, 4) -> (batch, max_number, 4), labels (batch, count) -> (batch, max_number).

    Raises: ValueError if `max_number` is not a positive integer.
    """

    always = integers = True

    def __init__(self, max_number: int, fill_value: float = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_number = checks.integer(self._who, "max_number", max_number)
        self.fill_value = int(checks.number(self._who, "fill_value", fill_value, -(2**31), 2**31 - 1))

    def pixels(self, images: Any, transformation: Any) -> Any:
        return images

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        out = dict(boxes)
        for name in ("boxes", "labels"):
            part = out[name][:, : self.max_number]
            widths = [(0, 0), (0, self.max_number - part.shape[1]), *[(0, 0)] * (part.ndim - 2)]
            out[name] = jnp.pad(part, widths, constant_values=self.fill_value)
        return out
