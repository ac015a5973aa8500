"""Layers that change the colours of pixels, and leave them where they are.

`pixels(images, transformation)` sees a batch with channels last in the layer's compute dtype. Where integers come in,
floats go out.
"""

from collections.abc import Sequence
from inspect import Parameter
from typing import Any

import jax.numpy as jnp

from lamina import ops, random
from lamina.core import checks, dtypes
from lamina.core.configurable import variant
from lamina.layers.preprocessing.base import BYTES, Augmentation, Draws, Factor, scaled, spread
from lamina.ops import filters
from lamina.ops.image import planes

__all__ = [
    "RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHue", "RandomInvert", "RandomPosterization", "RandomSaturation", "RandomSharpness", "Solarization",
]  # fmt: skip

COLOR = ("factor", "value_range", "data_format", "seed")


@variant(arguments=COLOR, defaults={"factor": Parameter.empty})
class Color(Augmentation):
    """Base of layers that change colours by one random number for each image.

    Args:
        factor: how strongly: a number, or the two ends of a range.
    """

    domains = {"factor": (-1.0, 1.0)}
    ordered = True

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"factor": draws.uniform(*self.factor)}

    def _clip(self, images: Any) -> Any:
        return jnp.clip(images, *self.value_range)


class RandomColorDegeneration(Color):
    """Images faded to gray: `x + factor (gray(x) - x)`."""

    def pixels(self, images: Any, transformation: Any) -> Any:
        gray = ops.image.rgb_to_grayscale(images, data_format="channels_last")
        return self._clip(images + spread(transformation["factor"]) * (gray - images))


@variant(arguments=COLOR)
class RandomHue(Color):
    """Hues turned by up to half the circle, in either direction.

    Args:
        factor: from 0 to 1, in parts of half the circle: a number, or the two ends of a range.
    """

    domains, ordered, channels = {}, False, 3

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"factor": draws.signs() * draws.uniform(*self.factor) * 0.5}

    def pixels(self, images: Any, transformation: Any) -> Any:
        hue, *rest = planes(ops.image.rgb_to_hsv(scaled(images, self.value_range, (0, 1)), "channels_last"), -1)
        hue = hue + jnp.reshape(transformation["factor"], (-1, 1, 1))
        hue = jnp.where(hue > 1, hue - 1, jnp.where(hue < 0, hue + 1, hue))
        turned = ops.image.hsv_to_rgb(jnp.stack([hue, *rest], axis=-1), "channels_last")
        return scaled(jnp.clip(turned, 0, 1), (0, 1), self.value_range)


class RandomSaturation(Color):
    """Saturations times `factor / (1 - factor)`: 0 is gray, 0.5 no change, 1 as colourful as can be."""

    channels = 3

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        factor = draws.uniform(*self.factor)
        return {"factor": factor / (1 - factor + dtypes.epsilon())}

    def pixels(self, images: Any, transformation: Any) -> Any:
        hue, saturation, value = planes(ops.image.rgb_to_hsv(images, "channels_last"), -1)
        saturation = self._clip(saturation * jnp.reshape(transformation["factor"], (-1, 1, 1)))
        return ops.image.hsv_to_rgb(jnp.stack([hue, saturation, value], axis=-1), "channels_last")


@variant(arguments=COLOR)
class RandomSharpness(Color):
    """Images smoothed or sharpened: `x + (1 - 2 factor) (smooth(x) - x)`, so 0.5 is no change.

    Args:
        factor: from 0 to 1: a number, or the two ends of a range.
    """

    domains = {}

    def pixels(self, images: Any, transformation: Any) -> Any:
        # The window is 1/13 all around and 5/13 in the middle; outside are zeros.
        smooth = filters.separable(images, (1, 1, 1), (1, 1, 1)) / 13 + images * (4 / 13)
        return self._clip(images + (1 - 2 * spread(transformation["factor"])) * (smooth - images))


@variant(arguments=COLOR)
class RandomPosterization(Color):
    """Pixels with only their highest bits left.

    Args:
        factor: how many bits, from 1 to 8: a number, or the two ends of a range.
    """

    domains = {"factor": (1, 8)}

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        low, high = self.factor
        if low == high:
            bits = jnp.full((draws.count,), low, "uint8")
        else:
            bits = random.randint((draws.count,), low, high, "uint8", draws.key())
        return {"shift_factor": jnp.uint8(8) - bits}

    def pixels(self, images: Any, transformation: Any) -> Any:
        shift = spread(transformation["shift_factor"])
        whole = scaled(images, self.value_range, BYTES).astype("uint8")
        return scaled(((whole >> shift) << shift).astype(images.dtype), BYTES, self.value_range)


@variant(arguments=("factor", "value_range", "seed"))
class RandomBrightness(Color):
    """`x + d`, `d` drawn from the range `factor` times that of the values.

    Args:
        factor: from -1 to 1: a number, or the two ends of a range.
    """

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        low, high = self.value_range
        return {"rgb_delta": draws.uniform(*self.factor) * (high - low)}

    def pixels(self, images: Any, transformation: Any) -> Any:
        return self._clip(images + spread(transformation["rgb_delta"]))


@variant(arguments=("factor", "value_range", "seed"))
class RandomContrast(Color):
    """`(x - mean) c + mean` for the mean of each channel, `c` from `1 - factor[0]` to `1 + factor[1]`.

    Args:
        factor: from 0 to 1: a number, which stands for (0, number), or two.
    """

    domains, ordered = {}, False

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"contrast_factor": draws.uniform(1 - self.factor[0], 1 + self.factor[1])}

    def pixels(self, images: Any, transformation: Any) -> Any:
        mean = images.mean(1, dtypes.wide(images.dtype), keepdims=True)
        mean = mean.mean(2, keepdims=True)  # one axis at a time is faster
        return self._clip((images - mean) * spread(transformation["contrast_factor"]) + mean)


@variant(arguments=("factor", "value_range", "seed", "data_format"), defaults={"factor": 1.0})
class RandomInvert(Color):
    """`value_range[1] - x` for some of the images.

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range
            from which the share is drawn.
    """

    domains, ordered = {}, False

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"apply_inversion": draws.chosen(self.factor)}

    def pixels(self, images: Any, transformation: Any) -> Any:
        return jnp.where(spread(transformation["apply_inversion"]), self.value_range[1] - images, images)


@variant(arguments=("factor", "data_format", "seed"), defaults={"factor": 0.5})
class RandomGrayscale(Augmentation):
    """Some of the images in gray, in three equal channels.

    Args:
        factor: the share of images, from 0 to 1.
    """

    integers = True
    domains, single = {"factor": (0, 1)}, frozenset({"factor"})

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {"should_apply": draws.uniform() < self.factor}

    def pixels(self, images: Any, transformation: Any) -> Any:
        gray = ops.image.rgb_to_grayscale(images, data_format="channels_last")
        return jnp.where(spread(transformation["should_apply"]), gray, images)


@variant(arguments=("addition_factor", "threshold_factor", "value_range", "seed"))
class Solarization(Augmentation):
    """`y = x + addition`; what is not below a threshold is inverted. Both are drawn for each image.

    Args:
        addition_factor: from 0 to 1, in parts of the range of values: a number, which stands for (0, number), or two.
        threshold_factor: likewise.
    """

    ordered = True

    def __init__(
        self,
        addition_factor: Factor = 0.0,
        threshold_factor: Factor = 0.0,
        value_range: Sequence[float] = BYTES,
        **kwargs: Any,
    ):
        super().__init__(value_range=value_range, **kwargs)
        self.addition_factor = self._strength("addition_factor", addition_factor)
        self.threshold_factor = self._strength("threshold_factor", threshold_factor)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        pairs = {"additions": self.addition_factor, "thresholds": self.threshold_factor}
        # Keras scales the upper end only.
        return {name: draws.uniform(low, high * 255) for name, (low, high) in pairs.items()}

    def pixels(self, images: Any, transformation: Any) -> Any:
        images = scaled(images, self.value_range, BYTES)
        images = jnp.clip(images + spread(transformation["additions"]), *BYTES)
        images = jnp.where(images < spread(transformation["thresholds"]), images, 255 - images)
        return scaled(images, BYTES, self.value_range)


@variant(arguments=("factor", "kernel_size", "sigma", "value_range", "data_format", "seed"))
class RandomGaussianBlur(Augmentation):
    """Some of the images smoothed by a Gaussian window; its width and height are drawn once a call.

    Args:
        factor: the share of images, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        kernel_size: the size of the window, an odd number, or (width, height).
        sigma: the standard deviation, from 0 to 1: a number, which stands for (0, number), or two.
    """

    def __init__(self, factor: Factor = 1.0, kernel_size: int | Sequence[int] = 3, sigma: Factor = 1.0, **kwargs: Any):
        super().__init__(factor, **kwargs)
        plain = checks.integers(kernel_size) if isinstance(kernel_size, (int, list, tuple)) else ()
        self.kernel_size = (plain,) * 2 if isinstance(plain, int) else plain
        if len(self.kernel_size) != 2 or not all(checks.is_integer(n) and n % 2 for n in self.kernel_size):
            raise ValueError(f"{self._who()}: kernel_size must be an odd number, or two, got {kernel_size!r}.")
        self.sigma = self._strength("sigma", sigma)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        chosen = draws.chosen(self.factor)
        return {"should_apply_blur": chosen, "blur_factor": draws.uniform(*self.sigma, shape=(2,)) + 1e-6}

    def pixels(self, images: Any, transformation: Any) -> Any:
        sigma = transformation["blur_factor"]
        blurred = ops.image.gaussian_blur(images, self.kernel_size, sigma, data_format="channels_last")
        return jnp.clip(jnp.where(spread(transformation["should_apply_blur"]), blurred, images), *self.value_range)
