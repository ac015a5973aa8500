"""Layers that put something else in the place of pixels: those of another image, or noise."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina import random
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.layers.preprocessing.base import Augmentation, Draws, Factor, spread


class Mixing(Augmentation):
    """Base of layers that mix each image with another one of the batch, and their labels alike."""

    def labels(self, labels: Any, transformation: Any) -> Any:
        own = jnp.reshape(transformation["mix_weight"], (-1, *[1] * max(labels.ndim - 1, 1)))
        if own.shape[0] != labels.shape[0]:
            given = f"{own.shape[0]} and {labels.shape[0]}"
            raise ValueError(f"{self._who()}: images and labels must be as many, got {given}.")
        return own * labels + (1 - own) * labels[transformation["permutation_order"]]


@variant(arguments=("alpha", "data_format", "seed"))
class MixUp(Mixing):
    """`w x + (1 - w) x'` for another image x' of the batch, and the labels alike; boxes of both are kept.

    Zhang et al., 2018, https://arxiv.org/abs/1710.09412

    Args:
        alpha: w is drawn from Beta(alpha, alpha).

    Shapes: (height, width, channels) or (batch, height, width, channels) -> the same; labels (batch, classes), floats.
    """

    def __init__(self, alpha: float = 0.2, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = checks.positive(self._who, "alpha", alpha)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        order = random.shuffle(jnp.arange(draws.count), seed=draws.key())
        weight = random.beta((draws.count,), self.alpha, self.alpha, "float32", draws.key())
        return {"mix_weight": weight, "permutation_order": order}

    def pixels(self, images: Any, transformation: Any) -> Any:
        return self.labels(images, transformation)

    def masks(self, masks: Any, transformation: Any) -> Any:
        return self.labels(masks, transformation)

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        order = transformation["permutation_order"]
        both = {name: jnp.concatenate([boxes[name], boxes[name][order]], axis=1) for name in ("boxes", "labels")}
        return {**boxes, **both}


def _rectangle(draws: Draws, size: tuple[Any, Any], ratios: Sequence[Any]) -> tuple[Any, Any]:
    """The pixels (batch, height, width, 1) of a rectangle somewhere in each image, and its share of the image.

    `size` are height and width of the images, `ratios` how wide and high it is, in parts of these.
    """
    inside, share = True, 1.0
    for length, ratio, axis in zip(size[::-1], ratios, (2, 1)):
        covered = ratio * length
        start = draws.uniform() * (length - covered)
        places = jnp.expand_dims(jnp.arange(length), [i for i in range(4) if i != axis])
        inside = inside & (places >= spread(start)) & (places < spread(start + covered))
        share = share * ratio
    return inside, share


@variant(arguments=("factor", "seed", "data_format"))
class CutMix(Mixing):
    """A rectangle of another image of the batch in each image, and the labels mixed by its area.

    Yun et al., 2019, https://arxiv.org/abs/1905.04899

    Args:
        factor: from 0 to 1: areas are drawn from Beta(a, a), `a` from the range of two numbers or (0, number).

    Shapes: (height, width, channels), which stays, or (batch, height, width, channels) -> the same.

    Raises: ValueError if `factor` is outside its domain; NotImplementedError for boxes.
    """

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        alone = len(self._images_of(data).shape) == 3
        return None if alone else super().get_random_transformation(data, training, seed)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        alpha = draws.uniform(*self.factor, shape=()) + 1e-6
        kept = random.beta((draws.count,), alpha, alpha, "float32", draws.key())
        masks, share = _rectangle(draws, self.size_of(shape), [jnp.sqrt(1 - kept)] * 2)
        order = random.shuffle(jnp.arange(draws.count), seed=draws.key())
        return {"permutation_order": order, "batch_masks": masks, "mix_weight": 1 - share}

    def pixels(self, images: Any, transformation: Any) -> Any:
        inside = jnp.any(transformation["batch_masks"], axis=-1, keepdims=True)
        return jnp.where(inside, images[transformation["permutation_order"]], images)

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        raise NotImplementedError(f"{self._who()}: bounding_boxes must not be given; rectangles cut through them.")


@variant(arguments=("factor", "scale", "fill_value", "value_range", "seed", "data_format"))
class RandomErasing(Augmentation):
    """A rectangle of noise, or of one colour, in some of the images.

    Zhong et al., 2020, https://arxiv.org/abs/1708.04896

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        scale: the area, from 0 to 1: likewise.
        fill_value: a number, or one for each channel; noise if not given.
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: Factor = (0.02, 0.33),
        fill_value: float | Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, scale=scale, **kwargs)
        for each in np.ravel(0 if fill_value is None else fill_value).tolist():
            checks.number(self._who, "fill_value", each)
        self.fill_value = fill_value

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        ratios = jnp.sqrt(draws.uniform(*self.scale, shape=(draws.count, 2)))
        masks, _ = _rectangle(draws, self.size_of(shape), list(ratios.T))
        chosen = draws.chosen(self.factor)
        if self.fill_value is None:
            noise = random.normal(shape, dtype="float32", seed=draws.key()) * self.value_range[1]
            fill = jnp.moveaxis(noise, 1, -1) if self.data_format == "channels_first" else noise
        else:
            fill = jnp.asarray(self.fill_value, "float32")
        return {"apply_erasing": chosen, "batch_masks": masks, "fill_value": jnp.clip(fill, *self.value_range)}

    def pixels(self, images: Any, transformation: Any) -> Any:
        erased = transformation["batch_masks"] & spread(transformation["apply_erasing"])
        return jnp.where(erased, transformation["fill_value"], images)
