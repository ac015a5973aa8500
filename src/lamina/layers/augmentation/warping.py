"""Layers that move pixels, and masks and boxes with them.

All but the last two are one thing: a map of places, the matrix of `ops/sampling.py`. Neighbours may be multiplied, so
that a chain of them draws an image once.
"""

import math
from collections.abc import Collection, Sequence
from functools import partial, reduce
from inspect import Parameter
from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina import ops, random
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.layers.preprocessing.base import Augmentation, Draws, Factor, Moving, Sized, spread
from lamina.ops import filters, sampling
from lamina.ops.sampling import affine
from lamina.random.seeds import make_default_seed

__all__ = [
    "RandomCrop", "RandomElasticTransform", "RandomFlip", "RandomPerspective", "RandomRotation", "RandomShear",
    "RandomTranslation", "RandomZoom",
]  # fmt: skip

FLIPS = {"horizontal": (2,), "vertical": (1,), "horizontal_and_vertical": (1, 2)}  # axes


class Sampled(Moving, Augmentation):
    """Base of layers that see images at other places, between pixels and beyond the edges.

    Args:
        fill_mode: what lies outside: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest"; masks have "nearest".
        fill_value: the constant.
    """

    fills: Collection[str] = ("reflect", "wrap", "constant", "nearest")

    def __init__(
        self,
        factor: Factor = 1.0,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(factor, **kwargs)
        self.interpolation = checks.one_of(self._who, "interpolation", interpolation, sampling.INTERPOLATIONS)
        self.fill_value = checks.number(self._who, "fill_value", fill_value)
        self.fill_mode = checks.one_of(self._who, "fill_mode", fill_mode, self.fills)


class Warp(Sampled):
    """Base of layers that see images through a map of places; a subclass defines `draw` and `maps`."""

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


def multiplied(layers: Sequence[Warp], data: Any) -> dict[str, Any]:
    """The transformation that does at once what each of the layers draws."""
    drawn = [layer.get_random_transformation(data) for layer in layers]
    shape = tuple((data["images"] if isinstance(data, dict) else data).shape)
    maps = [layer.maps(each, *layer.size_of(shape)) for layer, each in zip(layers, drawn)]
    return {"maps": reduce(partial(jnp.matmul, precision="highest"), maps), "input_shape": shape}


@variant(arguments=("mode", "seed", "data_format"))
class RandomFlip(Warp):
    """Half of the images in the mirror.

    Args:
        mode: "horizontal", "vertical", or "horizontal_and_vertical" for both at once.
    """

    def __init__(self, mode: str = "horizontal_and_vertical", **kwargs: Any):
        super().__init__(fill_mode="constant", **kwargs)
        self.mode = checks.one_of(self._who, "mode", mode, FLIPS)

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


@variant(
    arguments=("factor", "fill_mode", "interpolation", "seed", "fill_value", "data_format"),
    defaults={"factor": Parameter.empty},
)
class RandomRotation(Warp):
    """Images turned around their middle.

    Args:
        factor: from -1 to 1, in parts of the full circle, against the clock: a number, or the two ends of a range.
    """

    domains = {"factor": (-1.0, 1.0)}

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"angle": draws.uniform(*(part * 360 for part in self.factor)), "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        angle, x, y = jnp.deg2rad(jnp.asarray(transformation["angle"])), (width - 1) / 2, (height - 1) / 2
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return affine((cos, -sin, x - x * cos + y * sin), (sin, cos, y - x * sin - y * cos))


@variant(arguments=("height_factor", "width_factor", "fill_mode", "interpolation", "seed", "fill_value", "data_format"))
class AlongAxes(Warp):
    """What takes a factor for height and one for width.

    Args:
        height_factor: from -1 to 1, in parts of the height: a number, or the two ends of a range.
        width_factor: likewise of the width.
    """

    domains = {"height_factor": (-1.0, 1.0), "width_factor": (-1.0, 1.0)}

    def __init__(self, height_factor: Factor, width_factor: Factor | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        given = {"height_factor": height_factor, "width_factor": width_factor}
        self._ranges = [self._strength(name, factor) for name, factor in given.items() if factor is not None]


class RandomTranslation(AlongAxes, width_factor=Parameter.empty):
    """Images moved down and to the right."""

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        down, right = (draws.uniform(*ends) * size for ends, size in zip(self._ranges, self.size_of(shape)))
        return {"translations": jnp.stack([right, down], axis=1), "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        right, down = jnp.asarray(transformation["translations"]).T
        return affine((1, 0, -right), (0, 1, -down))


class RandomZoom(AlongAxes):
    """Images seen from farther off (factors above 0) or nearer; a width without a factor goes with the height."""

    domains = dict.fromkeys(AlongAxes.domains, (math.nextafter(-1, 0), 1.0))

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        zooms = [draws.uniform(1 + low, 1 + high)[:, None] for low, high in self._ranges]
        return {"height_zoom": zooms[0], "width_zoom": zooms[-1], "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        y, x = (jnp.ravel(transformation[name]) for name in ("height_zoom", "width_zoom"))
        return affine((x, 0, (width - 1) / 2 * (1 - x)), (0, y, (height - 1) / 2 * (1 - y)))


@variant(arguments=("x_factor", "y_factor", "interpolation", "fill_mode", "fill_value", "data_format", "seed"))
class RandomShear(Warp):
    """Images with rows or columns moved along themselves, in proportion to their distance from the first.

    Args:
        x_factor: from 0 to 1, how far rows move: a number, or the two ends of a range; the sign is drawn too.
        y_factor: likewise columns.
    """

    # From -1, since that is how configurations have it.
    domains = {"x_factor": (-1.0, 1.0), "y_factor": (-1.0, 1.0)}

    def __init__(self, x_factor: Factor = 0.0, y_factor: Factor = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.x_factor = self._strength("x_factor", x_factor)
        self.y_factor = self._strength("y_factor", y_factor)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        sign, y, x = draws.signs(), draws.uniform(*self.y_factor), draws.uniform(*self.x_factor)
        return {"shear_factor": jnp.stack([x, y], axis=1) * sign[:, None], "input_shape": shape}

    def maps(self, transformation: Any, height: Any, width: Any) -> Any:
        x, y = jnp.asarray(transformation["shear_factor"]).T
        return affine((1, x, 0), (y, 1, 0))


@variant(arguments=("factor", "scale", "interpolation", "fill_value", "seed", "data_format"))
class RandomPerspective(Warp):
    """Some of the images as seen at an angle: their corners move.

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        scale: from 0 to 1, how far the corners move.
        fill_value: what lies outside.
    """

    single = frozenset({"scale"})

    def __init__(self, factor: Factor = 1.0, scale: float = 1.0, **kwargs: Any):
        super().__init__(factor, scale=scale, fill_mode="constant", **kwargs)

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


@variant(
    arguments=(
        "factor", "scale", "interpolation", "fill_mode", "fill_value", "value_range", "seed", "data_format",
    ),
)  # fmt: skip
class RandomElasticTransform(Sampled):
    """Some of the images as if on rubber: each place moves by a smooth random distance.

    Simard et al., 2003, Best practices for convolutional neural networks.

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        scale: how far and how smoothly, from 0 to 1: likewise; one number is drawn for a batch.
        fill_mode: what lies outside: "constant", "nearest", "wrap", "mirror" or "reflect".

    Raises: ValueError if an argument is outside its domain; NotImplementedError for boxes.
    """

    fills = sampling.FILLS

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any] | None:
        if 0 in (self.scale[1], self.factor[1]):
            return None
        chosen = draws.chosen(self.factor)
        distortion = draws.uniform(*self.scale, shape=())
        return {"apply_transform": chosen, "distortion_factor": distortion, "seed": draws.key()}

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        height, width = images.shape[1:3]
        distortion, dtype = transformation["distortion_factor"], images.dtype
        alpha, sigma = 0.1 * max(height, width) * distortion, 0.05 * min(height, width) * distortion
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


@variant(arguments=("height", "width", "seed", "data_format", "name"))
class RandomCrop(Sized, Augmentation):
    """A part of the images, the same of all in a batch; images that are too small are enlarged.

    Inference leaves images as they are, whatever their size, as in Keras.

    Args:
        height, width: the size of the part.
    """

    def __init__(self, height: int, width: int, seed: Any = None, **kwargs: Any):
        super().__init__(height, width, seed=make_default_seed() if seed is None else seed, **kwargs)

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
