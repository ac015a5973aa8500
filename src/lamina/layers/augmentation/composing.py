"""Layers made of other augmentations: all of them, some of them, chains of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, tree_util

from lamina import random
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.core.constructors import parameters
from lamina.layer import Layer
from lamina.layer.signature import signature_of
from lamina.layers.augmentation import colors, histograms, warping
from lamina.layers.preprocessing.base import BYTES, Augmentation, Draws, Factor
from lamina.layers.preprocessing.foreign import PipelineLayer
from lamina.ops.sampling import INTERPOLATIONS

_JITTERS = {
    "brightness": colors.RandomBrightness,
    "contrast": colors.RandomContrast,
    "saturation": colors.RandomSaturation,
    "hue": colors.RandomHue,
}


@variant(arguments=("value_range", *(f"{name}_factor" for name in _JITTERS), "seed", "data_format"))
class RandomColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue changed, one after the other.

    Args:
        brightness_factor, contrast_factor, saturation_factor, hue_factor: as those of `RandomBrightness`,
            `RandomContrast`, `RandomSaturation` and `RandomHue`; what is not given stays.
    """

    def __init__(
        self,
        value_range: Sequence[float] = BYTES,
        brightness_factor: Factor | None = None,
        contrast_factor: Factor | None = None,
        saturation_factor: Factor | None = None,
        hue_factor: Factor | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range=value_range, **kwargs)
        self.brightness_factor, self.contrast_factor = brightness_factor, contrast_factor
        self.saturation_factor, self.hue_factor = saturation_factor, hue_factor
        for name, cls in _JITTERS.items():
            factor = getattr(self, f"{name}_factor")
            options = {"seed": self.seed, "data_format": self.data_format, "dtype": self.dtype_policy}
            setattr(self, f"random_{name}", None if factor is None else cls(factor, value_range, **options))
        self.channels = next((layer.channels for layer in self._steps().values() if layer.channels is not None), None)

    def _steps(self) -> dict[str, Any]:
        return {name: layer for name in _JITTERS if (layer := getattr(self, f"random_{name}")) is not None}

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        return {name: layer.draw(draws, shape) for name, layer in self._steps().items()}

    def pixels(self, images: Any, transformation: Any) -> Any:
        for name, layer in self._steps().items():
            images = layer.pixels(images, transformation[name])
        return images


# Name -> class, and the factors that it gets; in the order in which the layers are made.
_CHOICE: dict[str, tuple[Any, Callable[[tuple[float, float]], tuple[Any, ...]]]] = {
    "random_shear": (warping.RandomShear, lambda factor: (factor, factor)),
    "random_translation": (warping.RandomTranslation, lambda factor: (factor, factor)),
    "random_rotation": (warping.RandomRotation, lambda factor: (factor,)),
    "random_brightness": (colors.RandomBrightness, lambda factor: (factor,)),
    "random_color_degeneration": (colors.RandomColorDegeneration, lambda factor: (factor,)),
    "random_contrast": (colors.RandomContrast, lambda factor: (factor,)),
    "random_sharpness": (colors.RandomSharpness, lambda factor: (factor,)),
    "solarization": (colors.Solarization, lambda factor: (factor, factor)),
    "random_posterization": (colors.RandomPosterization, lambda factor: (max(1, int(8 * factor[1])),)),
    "auto_contrast": (histograms.AutoContrast, lambda factor: ()),
    "equalization": (histograms.Equalization, lambda factor: ()),
}
# Those that Hendrycks et al. test with.
_TESTED = ("random_brightness", "random_color_degeneration", "random_contrast", "random_sharpness")


class Chosen(Augmentation):
    """Base of layers that choose among the augmentations of the library, which are their children.

    Args:
        factor: how strongly, from 0 to 1: a number, which stands for (0, number), or the two ends of a range.
        interpolation: "bilinear" or "nearest"; masks have "nearest".
    """

    # In the order of the choice.
    NAMES = (
        "random_shear", "random_translation", "random_rotation", "random_brightness", "random_color_degeneration",
        "random_contrast", "random_sharpness", "random_posterization", "solarization", "auto_contrast", "equalization",
    )  # fmt: skip

    def __init__(self, interpolation: str = "bilinear", **kwargs: Any):
        super().__init__(**kwargs)
        self.interpolation = checks.one_of(self._who, "interpolation", interpolation, INTERPOLATIONS)

    def _make_layers(self, names: Iterable[str]) -> None:
        every = {"bounding_box_format": self.bounding_box_format, "dtype": self.dtype_policy}
        every["data_format"] = self.data_format
        some = {"value_range": self.value_range, "interpolation": self.interpolation, "seed": self.seed}
        for name in names:
            cls, strengths = _CHOICE[name]
            taken = {key: value for key, value in some.items() if key in parameters(cls)}
            setattr(self, name, cls(*strengths(self.factor), **taken, **every))

    def _children(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.NAMES if hasattr(self, name)}


@variant(arguments=("value_range", "num_ops", "factor", "interpolation", "seed", "data_format"))
class RandAugment(Chosen):
    """Some augmentations, drawn for the whole batch, one after the other.

    Cubuk et al., 2020, https://arxiv.org/abs/1909.13719

    Args:
        num_ops: how many.
    """

    def __init__(self, value_range: Sequence[float] = BYTES, num_ops: int = 2, factor: Factor = 0.5, **kwargs: Any):
        super().__init__(value_range=value_range, factor=factor, **kwargs)
        self.num_ops = checks.integer(self._who, "num_ops", num_ops, 0)
        self._make_layers(_CHOICE)

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        chosen = random.randint((self.num_ops,), 0, len(self.NAMES), seed=draws.key())
        return {"layer_idxes": chosen, "transforms": {k: v.draw(draws, shape) for k, v in self._children().items()}}

    def _through(self, part: Any, transformation: Any, method: str) -> Any:
        def branch(name: str, layer: Any) -> Callable[[Any], Any]:
            step = getattr(layer, method)
            return lambda part: tree_util.tree_map(_like, step(part, transformation["transforms"][name]), part)

        branches = [branch(name, layer) for name, layer in self._children().items()]
        for i in range(self.num_ops):
            part = lax.switch(transformation["layer_idxes"][i], branches, part)
        return part

    def pixels(self, images: Any, transformation: Any) -> Any:
        return self._through(images, transformation, "pixels")

    def masks(self, masks: Any, transformation: Any) -> Any:
        return self._through(masks, transformation, "masks")

    def boxes(self, boxes: dict[str, Any], transformation: Any) -> dict[str, Any]:
        part = {"boxes": boxes["boxes"].astype("float32"), "labels": boxes["labels"]}
        return {**boxes, **self._through(part, transformation, "boxes")}


@variant(
    arguments=(
        "value_range", "num_chains", "chain_depth", "factor", "alpha", "all_ops", "interpolation", "seed",
        "data_format",
    ),
)  # fmt: skip
class AugMix(Chosen):
    """Images mixed with the mean of chains of augmentations; boxes and masks, which cannot be mixed, stay.

    Hendrycks et al., 2020, https://arxiv.org/abs/1912.02781

    Args:
        num_chains: how many chains.
        chain_depth: how many augmentations a chain has; each may be none.
        alpha: the chains' parts are drawn from Dirichlet(alpha), the images' own from Beta(alpha, alpha).
        all_ops: whether those that Hendrycks et al. test with are among them: brightness, colour, contrast, sharpness.
    """

    def __init__(
        self,
        value_range: Sequence[float] = BYTES,
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: Factor = 0.3,
        alpha: float = 1.0,
        all_ops: bool = True,
        **kwargs: Any,
    ):
        super().__init__(value_range=value_range, factor=factor, **kwargs)
        self.num_chains = checks.integer(self._who, "num_chains", num_chains)
        self.chain_depth = checks.integer(self._who, "chain_depth", chain_depth)
        self.alpha = checks.positive(self._who, "alpha", alpha)
        self.all_ops = all_ops
        self._make_layers([*(name for name in _CHOICE if name not in _TESTED), *(_TESTED if all_ops else ())])

    def draw(self, draws: Draws, shape: tuple[Any, ...]) -> dict[str, Any]:
        parts = random.gamma((self.num_chains,), self.alpha, "float32", draws.key())
        own = random.beta((), self.alpha, self.alpha, "float32", draws.key())
        steps = (self.num_chains, self.chain_depth)
        chosen = random.randint(steps, 0, len(self._children()) + 1, seed=draws.key())
        # A key for each step, which its augmentation draws from.
        keys = jax.random.split(draws.key(), self.num_chains * self.chain_depth).reshape(*steps, -1)
        parts = {"chain_mixing_weights": parts / parts.sum(), "weight_sample": own}
        return {**parts, "chosen": chosen, "keys": keys}

    def pixels(self, images: Any, transformation: Any) -> Any:
        count, *size = images.shape[:3]
        shape = (count, *size, 3) if self.data_format == "channels_last" else (count, 3, *size)

        def branch(layer: Any) -> Callable[[Any, Any], Any]:
            return lambda x, key: _like(layer.pixels(x, layer.draw(Draws(key, count), shape)), x)

        branches = [lambda x, key: x, *map(branch, self._children().values())]

        def step(x: Any, at: tuple[Any, Any]) -> tuple[Any, None]:
            return lax.switch(at[0], branches, x, at[1]), None

        def chain(total: Any, at: tuple[Any, Any, Any]) -> tuple[Any, None]:
            chosen, keys, part = at
            return total + lax.scan(step, images, (chosen, keys))[0] * part.astype(total.dtype), None

        each = transformation["chosen"], transformation["keys"], transformation["chain_mixing_weights"]
        own = transformation["weight_sample"].astype(images.dtype)
        mixed, _ = lax.scan(chain, jnp.zeros_like(images), each)
        return jnp.clip(own * images + (1 - own) * mixed, *self.value_range)


def _like(x: Any, other: Any) -> Any:
    return x.astype(other.dtype)


class Pipeline(PipelineLayer):
    """Layers one after the other. Those that move pixels and follow one another draw the images once.

    Args:
        layers: the layers.

    Shapes: what the first layer takes -> what the last one gives.

    Raises: ValueError if `layers` are not layers.
    """

    def __init__(self, layers: Sequence[Any], name: str | None = None):
        super().__init__(name=name)
        if not isinstance(layers, (list, tuple)) or not all(isinstance(layer, Layer) for layer in layers):
            raise ValueError(f"{self._who()}: layers must be a list of layers, got {checks.shorten(layers)}.")
        self._pipeline_layers = list(layers)
        self.autocast = False

    @property
    def layers(self) -> list[Any]:
        """The layers."""
        return self._pipeline_layers

    def call(self, inputs: Any, training: bool | None = True, mask: Any = None) -> Any:
        for layers in self._together() if training else [self._pipeline_layers]:
            # What is filled in, and how, is read off one that is not a flip.
            sampler = next((layer for layer in layers if not isinstance(layer, warping.RandomFlip)), None)
            if training and sampler is not None and len(layers) > 1:
                inputs = sampler.apply(inputs, warping.multiplied(layers, inputs), True)
                continue
            for layer in layers:
                takes = signature_of(type(layer))
                more = {"training": training} if takes.takes_training else {}
                inputs = layer(inputs, **more, **({"mask": mask} if "mask" in takes.all and mask is not None else {}))
        return inputs

    def _together(self) -> list[list[Any]]:
        """The layers in groups, of which those of several layers are one map of places."""
        groups: list[tuple[list[Any], Any]] = []
        for layer in self._pipeline_layers:
            own = layer.sampling() if isinstance(layer, warping.Warp) else None
            both = _joined(groups[-1][1], own) if groups else None
            if both is None:
                groups.append(([layer], own))
            else:
                groups[-1] = ([*groups[-1][0], layer], both)
        return [layers for layers, _ in groups]


def _joined(one: tuple | None, other: tuple | None) -> tuple | None:
    """How two layers sample, if one map can stand for both; what is `None` does not matter to a layer."""
    if one is None or other is None or any(a != b and None not in (a, b) for a, b in zip(one[:3], other[:3])):
        return None
    return None if one[3:] != other[3:] else tuple(b if a is None else a for a, b in zip(one, other))
