"""What all layers on images have in common: which data they take, and what becomes of each part of it.

A layer draws a transformation, a dict of arrays with a number or more for each image, and applies it to the images and
to what belongs to them. Both halves are public, as in Keras: a program may apply a transformation of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jax.core import Tracer

from lamina import random
from lamina.core import checks, dtypes, registry, state
from lamina.core.jit import jit
from lamina.layers.preprocessing.foreign import PipelineLayer
from lamina.ops import boxes as ops_boxes
from lamina.ops.image import by_batch
from lamina.random import SeedGenerator
from lamina.random.seeds import draw_seed

Factor = float | Sequence[float]
BYTES = (0, 255)


class Draws:
    """Random numbers for the images of a batch, each draw with a key of its own.

    Args:
        seed: a `SeedGenerator`, which moves on; or a key or an integer, of which each draw has its part.
        count: the number of images.
    """

    def __init__(self, seed: Any, count: Any):
        self.seed, self.count = seed, count
        self._given = 0

    def key(self) -> Any:
        """A key that was not given before."""
        if isinstance(self.seed, SeedGenerator):
            return self.seed.next()
        self._given += 1
        return jax.random.fold_in(draw_seed(self.seed), self._given)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, shape: Sequence[Any] | None = None) -> Any:
        """A number from `low` to `high` for each image, or numbers of another shape."""
        shape = (self.count,) if shape is None else shape
        return random.uniform(shape, low, high, "float32", self.key())

    def chosen(self, factor: tuple[float, float]) -> Any:
        """Which images are changed, each with a probability that is drawn from the range `factor`."""
        probability = self.uniform(*factor)
        return self.uniform() < probability

    def signs(self) -> Any:
        """1 or -1 for each image."""
        return jnp.where(self.uniform() > 0.5, -1.0, 1.0)


def limits(who: str, name: str, value: Any, low: float, high: float) -> tuple[Any, Any]:
    """The range that a factor means, within `low` and `high`: two numbers, or from less one number to the number."""
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    numbers = [isinstance(each, (int, float, np.number)) and low <= each <= high for each in pair]
    if len(pair) not in (1, 2) or not all(numbers) or isinstance(value, bool):
        raise ValueError(f"{who}: {name} must be a number from {low} to {high}, or two of them, got {value!r}.")
    if len(pair) == 2:
        return min(pair), max(pair)
    return max(-abs(pair[0]), low), abs(pair[0])


def value_range_of(who: str, value: Any) -> Any:
    """The smallest and largest value of a pixel, in the form that was given."""
    pair = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(pair) != 2 or not all(isinstance(n, (int, float, np.number)) for n in pair) or pair[0] == pair[1]:
        raise ValueError(f"{who}: value_range must be two different numbers, got {value!r}.")
    return value


def scaled(images: Any, source: Sequence[float], target: Sequence[float]) -> Any:
    """Pixels of one range of values in another."""
    if tuple(source) == tuple(target):
        return images
    return (images - source[0]) / (source[1] - source[0]) * (target[1] - target[0]) + target[0]


def spread(numbers: Any) -> Any:
    """One number for each image, so that it broadcasts to pixels (batch, height, width, channels)."""
    return jnp.reshape(numbers, (-1, 1, 1, 1))


def _keys(data: Any) -> str:
    """What a message says of a dict: its keys; or of what should be one."""
    return ", ".join(map(str, data)) if isinstance(data, Mapping) else checks.shorten(data)


class ImageLayer(PipelineLayer):
    """Base of layers on images, alone or in batches, and on dicts of images and what belongs to them:

    {"images": ..., "labels": ..., "bounding_boxes": {"boxes": ..., "labels": ...}, "segmentation_masks": ...}

    What the dict holds besides comes back as it is. Without a `training` of its own or of a layer around, a call is
    training, as in Keras. A subclass defines `draw`, and of `pixels`, `masks`, `boxes` and `labels` what it changes.

    Args:
        data_format: where the channels are.
        bounding_box_format: that of bounding boxes, if there are any.

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same.
    """

    _further = ("data_format", "bounding_box_format")
    _omit_none = frozenset({"bounding_box_format"})
    always = False  # whether inference is no different from training
    integers = False  # whether integers stay integers
    channels: int | None = None  # how many the images must have

    def __init__(self, *, data_format: str | None = None, bounding_box_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = dtypes.standardize_data_format(data_format, self._who())
        if bounding_box_format is not None:
            ops_boxes.check_format(self._who(), "bounding_box_format", bounding_box_format)
        self.bounding_box_format = bounding_box_format
        self.autocast = False  # boxes and labels stay as they are

    def set_seed(self, seed: Any) -> None:
        """Draw from a generator with this seed."""
        self.seed = seed
        self.generator = SeedGenerator(seed)

    # Drawing ----------------------------------------------------------------------------------------------------

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """A transformation for these images, or `None` at inference.

        Args:
            data: what the layer is called on.
            training: whether this is training.
            seed: a `SeedGenerator` to draw from in place of the layer's own, an integer or a key.
        """
        images = self._images_of(data)
        batch = images.shape if len(images.shape) == 4 else (1, *images.shape)
        if not (training or self.always):
            return None
        return self.draw(Draws(getattr(self, "generator", None) if seed is None else seed, batch[0]), tuple(batch))

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> Any:
        """A transformation for a batch of images of this shape; `None` if nothing is drawn."""

    # Applying ---------------------------------------------------------------------------------------------------

    def call(self, data: Any, training: bool | None = True) -> Any:
        training = bool(training)
        return self.apply(data, self.get_random_transformation(data, training), training)

    def apply(self, data: Any, transformation: Any, training: bool) -> Any:
        """What the layer is called on after a transformation.

        One compiled call, where nothing is being traced and no method is the program's own.
        """
        self._check(data)
        traced = state.current.get() is not None or any(isinstance(x, Tracer) for x in tree_util.tree_leaves(data))
        eager = (training or self.always) and not traced and registry.is_own(type(self))
        return (self._compiled if eager else self.transformed)(data, transformation, training)

    def transformed(self, data: Any, transformation: Any, training: bool = True) -> Any:
        """The images, or the parts of a dict, after a transformation."""
        if not isinstance(data, Mapping):
            return self.transform_images(data, transformation, training=training)
        alone = len(self._images_of(data).shape) == 3
        out = dict(data)
        for name in ("images", "bounding_boxes", "labels", "segmentation_masks"):
            if out.get(name) is not None:
                part = tree_util.tree_map(lambda x: jnp.asarray(x)[None] if alone else jnp.asarray(x), out[name])
                part = getattr(self, f"transform_{name}")(part, transformation, training=training)
                out[name] = tree_util.tree_map(lambda x: x[0], part) if alone else part
        return out

    _compiled = jit(transformed, static_argnames="training")

    def _acts(self, transformation: Any, training: bool) -> bool:
        """Whether anything is changed: nothing was drawn for what has no choice."""
        return self.always or (training and not (transformation is None and type(self).draw is not ImageLayer.draw))

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Images, one or a batch, after a transformation; at inference as they are, in the layer's compute dtype."""
        images = jnp.asarray(images)
        if not self.integers or jnp.issubdtype(images.dtype, jnp.floating):
            images = images.astype(self.compute_dtype)
        return self._on_batch(self.pixels, images, transformation) if self._acts(transformation, training) else images

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        """Labels, one for each image, after a transformation."""
        return self.labels(jnp.asarray(labels), transformation) if self._acts(transformation, training) else labels

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """{"boxes": (batch, count, 4), "labels": (batch, count)} after a transformation."""
        if not self._acts(transformation, training):
            return bounding_boxes
        return self.boxes(tree_util.tree_map(jnp.asarray, dict(bounding_boxes)), transformation)

    def transform_segmentation_masks(self, segmentation_masks: Any, transformation: Any, training: bool = True) -> Any:
        """Masks, of the form of images, after a transformation; they keep their dtype."""
        masks = jnp.asarray(segmentation_masks)
        return self._on_batch(self.masks, masks, transformation) if self._acts(transformation, training) else masks

    def _on_batch(self, method: Callable, images: Any, transformation: Any) -> Any:
        """A method on a batch with channels last; the result in the order and the dtype of `images`."""
        out = by_batch(self._who(), images, self.data_format, lambda batch: method(batch, transformation))
        return out.astype(images.dtype)

    def pixels(self, images: Any, transformation: Any) -> Any:
        """Images (batch, height, width, channels) after a transformation."""
        raise NotImplementedError

    def masks(self, masks: Any, transformation: Any) -> Any:
        """Masks (batch, height, width, channels) after a transformation."""
        return masks

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        """Boxes and their labels after a transformation."""
        return boxes

    def labels(self, labels: Any, transformation: Any) -> Any:
        """Labels after a transformation."""
        return labels

    def _carry_boxes(self, bounding_boxes: Any, forward: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
        """Boxes after a change of their images.

        Args:
            bounding_boxes: boxes in the layer's format, and their labels.
            forward: matrices (batch, 3, 3) that take a place between pixels to where it comes to lie.
            before, after: height and width.
        """
        boxes = ops_boxes.convert_format(bounding_boxes, str(self.bounding_box_format), "xyxy", *before)
        boxes = {**boxes, "boxes": ops_boxes.carried(boxes["boxes"], forward)}
        boxes = ops_boxes.clip_to_image_size(boxes, *after)
        return ops_boxes.convert_format(boxes, "xyxy", str(self.bounding_box_format), *after)

    def size_of(self, shape: Sequence[Any]) -> tuple[Any, Any]:
        """Height and width in the shape of images in the layer's order."""
        height, width = shape[-2:] if self.data_format == "channels_first" else shape[-3:-1]
        return height, width

    # Checking ---------------------------------------------------------------------------------------------------

    def _images_of(self, data: Any) -> Any:
        images = data.get("images") if isinstance(data, Mapping) else data
        if images is None:
            raise ValueError(f"{self._who()}: must get images, or a dict with the key 'images', got {_keys(data)}.")
        shape = tuple(np.shape(images))
        rule = "images must have shape (height, width, channels), or (batch, height, width, channels)"
        checks.require(len(shape) in (3, 4), self._who, rule, got=f"shape {shape}")
        axis = -1 if self.data_format == "channels_last" else -3
        if self.channels is not None and shape[axis] != self.channels:
            raise ValueError(f"{self._who()}: images must have {self.channels} channels, got shape {shape}.")
        return images

    def _check(self, data: Any) -> None:
        """Whether the parts of a dict fit."""
        images = self._images_of(data)
        boxes = data.get("bounding_boxes") if isinstance(data, Mapping) else None
        if boxes is None:
            return
        if self.bounding_box_format is None:
            raise ValueError(f"{self._who()}: bounding_box_format must be given for bounding_boxes, got None.")
        rule = "bounding_boxes must have the keys 'boxes' and 'labels'"
        known = isinstance(boxes, Mapping) and {"boxes", "labels"} <= boxes.keys()
        checks.require(known, self._who, rule, got=_keys(boxes))
        shape, labels = np.shape(boxes["boxes"]), np.shape(boxes["labels"])
        batch = len(images.shape) == 4
        if len(shape) != 2 + batch or shape[-1] != 4 or labels[: 1 + batch] != shape[:-1]:
            wanted = "(batch, count, 4) and (batch, count)" if batch else "(count, 4) and (count,)"
            raise ValueError(f"{self._who()}: boxes and labels must have shapes {wanted}, got {shape} and {labels}.")


class Ranged(ImageLayer):
    """Base of layers that must know what values pixels may have.

    Args:
        value_range: the smallest and largest value of a pixel.
    """

    ordered = False  # whether the smaller value comes first in `value_range`

    def __init__(self, value_range: Sequence[float] = BYTES, **kwargs: Any):
        super().__init__(**kwargs)
        value_range = value_range_of(self._who(), value_range)
        self.value_range = sorted(value_range) if self.ordered else value_range


class Augmentation(Ranged):
    """Base of layers whose draws the same few arguments govern; a variant names those that it has.

    Args:
        factor: from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        scale: likewise.
        seed: makes the draws repeatable.
    """

    domains: Mapping[str, tuple[float, float]] = {}  # what a factor lies between, if not 0 and 1
    single: frozenset[str] = frozenset()  # the factors that are one number, no range

    def __init__(
        self,
        factor: Factor = 1.0,
        value_range: Sequence[float] = BYTES,
        scale: Factor = 1.0,
        seed: Any = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, **kwargs)
        self.factor: Any = self._strength("factor", factor)
        self.scale: Any = self._strength("scale", scale)
        self.set_seed(seed)

    def _strength(self, name: str, value: Any) -> Any:
        """A factor within its domain: a range, or one number."""
        check = checks.number if name in self.single else limits
        return check(self._who(), name, value, *self.domains.get(name, (0.0, 1.0)))


class Moving(ImageLayer):
    """Base of layers that move pixels: images, and masks with the interpolation "nearest"."""

    interpolation = "bilinear"

    def moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        """Images or masks (batch, height, width, channels) after a transformation."""
        raise NotImplementedError

    def pixels(self, images: Any, transformation: Any) -> Any:
        return self.moved(images, transformation, self.interpolation)

    def masks(self, masks: Any, transformation: Any) -> Any:
        return self.moved(masks, transformation, "nearest")


class Sized(Moving):
    """Base of layers that give images one size.

    Args:
        height, width: the size.

    Shapes: (rows, columns, channels) or (batch, rows, columns, channels) -> the same with this height and width.
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.height = checks.integer(self._who, "height", height)
        self.width = checks.integer(self._who, "width", width)
