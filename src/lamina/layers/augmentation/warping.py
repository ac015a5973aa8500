"""Layers that move pixels, and masks and boxes with them.

All but the last two are one thing: a map of places, the matrix of `ops/sampling.py`. Neighbours may be multiplied, so
that a chain of them draws an image once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina import ops, random
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.layers.augmentation.colors import BYTES, Factor
from lamina.layers.preprocessing.base import Draws, Moving, limits, spread, value_range_of
from lamina.ops import filters, sampling
from lamina.random.seeds import make_default_seed

ABOVE_MINUS_ONE = math.nextafter(-1, 0)
FLIPS = {"horizontal": (2,), "vertical": (1,), "horizontal_and_vertical": (1, 2)}  # axes


class Warp(Moving):
    """Base of layers that see images through a map of places; a subclass defines `draw` and `maps`."""

    fill_mode, fill_value = "constant", 0.0

    def _set_sampling(self, interpolation: str, fill_value: float, fill_mode: str | None = None) -> None:
        who = self._who()
        self.interpolation = checks.one_of(who, "interpolation", interpolation, sampling.INTERPOLATIONS)
        self.fill_value = checks.number(who, "fill_value", fill_value)
        if fill_mode is not None:
            self.fill_mode = checks.one_of(who, "fill_mode", fill_mode, ("reflect", "wrap", "constant", "nearest"))

    def sampling(self) -> tuple[Any, ...]:
        """What two layers must have in common, to be one map; `None` for what does not matter to this one."""
        how = (self.interpolation, self.fill_mode, self.fill_value)
        return (*how, self.data_format, self.bounding_box_format, self.compute_dtype)

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        """The maps (batch, 3, 3) of a transformation: from what is drawn to what is seen."""
        raise NotImplementedError

    def _maps(self, transformation: Any, height: Any, width: Any) -> Any:
        return transformation["maps"] if "maps" in transformation else self.maps(transformation, height, width)

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        maps = self._maps(transformation, *images.shape[1:3])
        return sampling.warp(images, maps, interpolation, self.fill_mode, self.fill_value)

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        size = self.size_of(transformation["input_shape"])
        one, two, three = jnp.moveaxis(self._maps(transformation, *size), 1, 0)
        # The inverse up to a factor; and boxes count from the edge of the first pixel, places from its middle.
        inverse = jnp.stack([jnp.cross(two, three), jnp.cross(three, one), jnp.cross(one, two)], axis=-1)
        half = jnp.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], inverse.dtype)
        back = half.at[:2, 2].set(-0.5)
        forward = jnp.einsum("ij,bjk,kl->bil", half, inverse, back, precision="highest")
        return self._carry_boxes(boxes, forward, size, size)


def affine(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """Maps (batch, 3, 3) to x = a[0] x + a[1] y + a[2] and y = b[0] x + b[1] y + b[2], of numbers (batch,) or one."""
    entries = jnp.broadcast_arrays(*(jnp.asarray(n, "float32") for n in (*a, *b, 0, 0, 1)))
    return jnp.stack(entries, axis=-1).reshape(-1, 3, 3)


def multiplied(layers: Sequence[Warp], data: Any) -> dict[str, Any]:
    """The transformation that does at once what each of the layers draws."""
    total: Any = None
    shape: tuple[Any, ...] = ()
    for layer in layers:
        drawn = layer.get_random_transformation(data)
        shape = tuple((data["images"] if isinstance(data, dict) else data).shape)
        maps = layer.maps(drawn, *layer.size_of(shape))
        total = maps if total is None else jnp.matmul(total, maps, precision="highest")
    return {"maps": total, "input_shape": shape}


class RandomFlip(Warp):
    """Half of the images in the mirror.

    Args:
        mode: "horizontal", "vertical", or "horizontal_and_vertical" for both at once.
        seed: makes the draws repeatable.
        data_format: where the channels are.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.

    Raises: ValueError if `mode` is another word.
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.mode = checks.one_of(self._who(), "mode", mode, FLIPS)
        self.set_seed(seed)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"flips": draws.uniform() <= 0.5, "input_shape": shape}

    def sampling(self) -> tuple[Any, ...]:
        return (None, None, None, *super().sampling()[3:])

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        flips = jnp.ravel(transformation["flips"])
        x, y = (jnp.where(flips, -1, 1) if axis in FLIPS[self.mode] else 1 for axis in (2, 1))
        return affine((x, 0, (1 - x) / 2 * (width - 1)), (0, y, (1 - y) / 2 * (height - 1)))

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        if "maps" in transformation:
            return super().moved(images, transformation, interpolation)
        return jnp.where(spread(transformation["flips"]), jnp.flip(images, FLIPS[self.mode]), images)


class RandomRotation(Warp):
    """Images turned around their middle.

    Args:
        factor: from -1 to 1, in parts of the full circle, against the clock: a number, or the two ends of a range.
        fill_mode: what lies outside: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest"; masks have "nearest".
        seed: makes the draws repeatable.
        fill_value: the constant.
        data_format: where the channels are.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.

    Raises: ValueError if an argument is outside its domain.
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.factor = limits(self._who(), "factor", factor, -1.0, 1.0)
        self._set_sampling(interpolation, fill_value, fill_mode)
        self.set_seed(seed)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"angle": draws.uniform(*(part * 360 for part in self.factor)), "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        angle, x, y = jnp.deg2rad(jnp.asarray(transformation["angle"])), (width - 1) / 2, (height - 1) / 2
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return affine((cos, -sin, x - x * cos + y * sin), (sin, cos, y - x * sin - y * cos))


class AlongAxes(Warp):
    """What takes a factor for height and one for width.

    Args:
        height_factor: from -1 to 1, in parts of the height: a number, or the two ends of a range.
        width_factor: likewise of the width.
        fill_mode: what lies outside: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest"; masks have "nearest".
        seed: makes the draws repeatable.
        fill_value: the constant.
        data_format: where the channels are.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.

    Raises: ValueError if an argument is outside its domain.
    """

    least = -1.0

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._ranges = [
            limits(self._who(), name, factor, self.least, 1.0)
            for name, factor in (("height_factor", height_factor), ("width_factor", width_factor))
            if factor is not None
        ]
        self._set_sampling(interpolation, fill_value, fill_mode)
        self.set_seed(seed)


@variant(defaults={"width_factor": Parameter.empty})
class RandomTranslation(AlongAxes):
    """Images moved down and to the right."""

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        down, right = (draws.uniform(*ends) * size for ends, size in zip(self._ranges, self.size_of(shape)))
        return {"translations": jnp.stack([right, down], axis=1), "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        right, down = jnp.asarray(transformation["translations"]).T
        return affine((1, 0, -right), (0, 1, -down))


@variant()
class RandomZoom(AlongAxes):
    """Images seen from farther off (factors above 0) or nearer; a width without a factor goes with the height."""

    least = ABOVE_MINUS_ONE

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        zooms = [draws.uniform(1 + low, 1 + high)[:, None] for low, high in self._ranges]
        return {"height_zoom": zooms[0], "width_zoom": zooms[-1], "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        y, x = (jnp.ravel(transformation[name]) for name in ("height_zoom", "width_zoom"))
        return affine((x, 0, (width - 1) / 2 * (1 - x)), (0, y, (height - 1) / 2 * (1 - y)))


class RandomShear(Warp):
    """Images with rows or columns moved along themselves, in proportion to their distance from the first.

    Args:
        x_factor: from 0 to 1, how far rows move: a number, or the two ends of a range; the sign is drawn too.
        y_factor: likewise columns.
        interpolation: "bilinear" or "nearest"; masks have "nearest".
        fill_mode: what lies outside: "reflect", "wrap", "constant" or "nearest".
        fill_value: the constant.
        data_format: where the channels are.
        seed: makes the draws repeatable.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.

    Raises: ValueError if an argument is outside its domain.
    """

    def __init__(
        self,
        x_factor: Factor = 0.0,
        y_factor: Factor = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        # From -1, since that is how configurations have it.
        self.x_factor = limits(self._who(), "x_factor", x_factor, -1.0, 1.0)
        self.y_factor = limits(self._who(), "y_factor", y_factor, -1.0, 1.0)
        self._set_sampling(interpolation, fill_value, fill_mode)
        self.set_seed(seed)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        sign, y, x = draws.signs(), draws.uniform(*self.y_factor), draws.uniform(*self.x_factor)
        return {"shear_factor": jnp.stack([x, y], axis=1) * sign[:, None], "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        x, y = jnp.asarray(transformation["shear_factor"]).T
        return affine((1, x, 0), (y, 1, 0))


class RandomPerspective(Warp):
    """Some of the images as seen at an angle: their corners move.

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        scale: from 0 to 1, how far the corners move.
        interpolation: "bilinear" or "nearest"; masks have "nearest".
        fill_value: what lies outside.
        seed: makes the draws repeatable.
        data_format: where the channels are.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.

    Raises: ValueError if an argument is outside its domain.
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.factor = limits(self._who(), "factor", factor, 0.0, 1.0)
        self.scale = checks.number(self._who(), "scale", scale, 0.0, 1.0)
        self._set_sampling(interpolation, fill_value)
        self.set_seed(seed)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        chosen = draws.chosen(self.factor)
        moves = draws.uniform(-0.5 * self.scale, 0.5 * self.scale, (draws.count, 4, 2))
        down, right = (size - 1 for size in self.size_of(shape))
        corners = [(0, 0), (right, 0), (0, down), (right, down)]
        start = jnp.stack([jnp.stack([jnp.asarray(n, "float32") for n in corner]) for corner in corners])
        start = jnp.broadcast_to(start, moves.shape)
        ends = start + start * moves
        return {"apply_perspective": chosen, "start_points": start, "end_points": ends, "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        start, end = (jnp.asarray(transformation[f"{name}_points"], "float32") for name in ("start", "end"))
        chosen = jnp.reshape(transformation["apply_perspective"], (-1, 1, 1))
        return jnp.where(chosen, sampling.homography(start, end), jnp.eye(3, dtype="float32"))


class RandomElasticTransform(Moving):
    """Some of the images as if on rubber: each place moves by a smooth random distance.

    Simard et al., 2003, Best practices for convolutional neural networks.

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        scale: how far and how smoothly, from 0 to 1: likewise; one number is drawn for a batch.
        interpolation: "bilinear" or "nearest"; masks have "nearest".
        fill_mode: what lies outside: "constant", "nearest", "wrap", "mirror" or "reflect".
        fill_value: the constant.
        value_range: the smallest and largest value of a pixel.
        seed: makes the draws repeatable.
        data_format: where the channels are.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.

    Raises: ValueError if an argument is outside its domain; NotImplementedError for boxes.
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: Factor = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Sequence[float] = BYTES,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        who = self._who()
        self.factor = limits(who, "factor", factor, 0.0, 1.0)
        self.scale = limits(who, "scale", scale, 0.0, 1.0)
        self.interpolation = checks.one_of(who, "interpolation", interpolation, sampling.INTERPOLATIONS)
        self.fill_mode = checks.one_of(who, "fill_mode", fill_mode, sampling.FILLS)
        self.fill_value = checks.number(who, "fill_value", fill_value)
        self.value_range = value_range_of(who, value_range)
        self.set_seed(seed)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any] | None:
        if 0 in (self.scale[1], self.factor[1]):
            return None
        chosen = draws.chosen(self.factor)
        distortion = draws.uniform(*self.scale, shape=())
        return {"apply_transform": chosen, "distortion_factor": distortion, "seed": draws.key()}

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        height, width = images.shape[1:3]
        distortion, dtype = transformation["distortion_factor"], images.dtype
        alpha, sigma = (
            part * size * distortion for part, size in ((0.1, max(height, width)), (0.05, min(height, width)))
        )
        largest = int(6 * 0.05 * min(height, width) * self.scale[1]) | 1
        weights = filters.gaussian(largest, sigma, "float32", jnp.floor(6 * sigma).astype("int32") | 1)
        draw = random.normal(images.shape[:3], dtype="float32", seed=transformation["seed"]) * sigma
        moved = alpha * filters.separable(draw[..., None], weights, weights)[..., 0]
        rows, columns = (places + moved for places in sampling.grid(height, width))
        out = sampling.sample(images, rows, columns, interpolation, self.fill_mode, self.fill_value)
        return jnp.where(spread(transformation["apply_transform"]), out, images).astype(dtype)

    def pixels(self, images: Any, transformation: Any) -> Any:
        return jnp.clip(super().pixels(images, transformation), *self.value_range)

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        raise NotImplementedError(f"{self._who()}: bounding_boxes must not be given; what becomes of one is no box.")


class RandomCrop(Moving):
    """A part of the images, the same of all in a batch; images that are too small are enlarged.

    Inference leaves images as they are, whatever their size, as in Keras.

    Args:
        height, width: the size of the part.
        seed: makes the draws repeatable.
        data_format: where the channels are.

    Shapes: (rows, columns, channels) or (batch, rows, columns, channels) -> the same with this height and width.

    Raises: ValueError if a size is not a positive integer.
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, name=name, **kwargs)
        self.height = checks.integer(self._who(), "height", height)
        self.width = checks.integer(self._who(), "width", width)
        self.set_seed(make_default_seed() if seed is None else seed)

    def _fixed(self, height: Any, width: Any) -> tuple[int, int] | None:
        """Where the part begins in an image that has no room for another one."""
        if height > self.height and width > self.width:
            return None
        fitting = int(width * self.height / self.width), int(height * self.width / self.height)
        return tuple((size - max(min(size, n), 1)) // 2 for size, n in zip((height, width), fitting))  # type: ignore[return-value]

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> Any:
        size = self.size_of(shape)
        start = self._fixed(*size)
        if start is None:
            room = ((n - part + 1) for n, part in zip(size, (self.height, self.width)))
            start = tuple(draws.uniform(0, 1.0 * n, ()).astype("int32") for n in room)
        return (*start, size)

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        height, width = images.shape[1:3]
        start = self._fixed(height, width)
        if start is None:
            row, column = (jnp.asarray(n, "int32") for n in transformation[:2])
            sizes = (images.shape[0], self.height, self.width, images.shape[3])
            return lax.dynamic_slice(images, (0, row, column, 0), sizes)
        part = images[:, start[0] : start[0] + self.height, start[1] : start[1] + self.width]
        if part.shape[1:3] == (self.height, self.width):
            return part
        return ops.image.resize(part, (self.height, self.width), interpolation, data_format="channels_last")

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        row, column, size = transformation
        parts = [jnp.minimum(part, n - start) for part, n, start in zip((self.height, self.width), size, (row, column))]
        down, across = self.height / parts[0], self.width / parts[1]
        forward = affine((across, 0, -across * column), (0, down, -down * row))
        return self._carry_boxes(boxes, forward, size, (self.height, self.width))
