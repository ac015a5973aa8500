"""Noise and penalties that act during training only."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina import random, regularizers
from lamina.core import checks, dtypes
from lamina.core.configurable import variant
from lamina.layers.activation import Elementwise
from lamina.layers.spatial import Spatial
from lamina.random import SeedGenerator

__all__ = [
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D",
]  # fmt: skip

BELOW_ONE = math.nextafter(1, 0)


class Noise(Elementwise):
    """Base of the layers that draw random numbers during training.

    A subclass names its strength in `strength`, its limit in `largest`, and defines `disturb(inputs, strength)`.

    Args:
        seed: makes the draws repeatable.
    """

    strength, largest = "rate", 1.0

    def __init__(self, rate: float, seed: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        setattr(self, self.strength, checks.number(self._who, self.strength, rate, 0, self.largest))
        self.seed = seed
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        strength = getattr(self, self.strength)
        return self.disturb(inputs, strength) if training and strength > 0 else inputs

    def disturb(self, inputs: Any, strength: float) -> Any:
        """The inputs with noise."""
        raise NotImplementedError


class Dropout(Noise):
    """Zero with probability `rate`, all else times `1 / (1 - rate)`.

    Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html

    Args:
        rate: the share of elements that are dropped.
        noise_shape: the shape of the draws, which are broadcast to the inputs; `None` for an axis of the inputs' size.

    Raises: ValueError if `rate` is not from 0 to 1.

    >>> x = np.ones((1, 4), "float32")
    >>> layers.Dropout(0.5)(x).tolist()  # nothing is dropped but in training
    [[1.0, 1.0, 1.0, 1.0]]
    >>> sorted(set(layers.Dropout(0.5, seed=1)(np.ones((100, 100), "float32"), training=True).ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Any = None, **kwargs: Any):
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = checks.integers(noise_shape)
        if noise_shape is not None and not all(n is None or checks.is_integer(n) for n in self.noise_shape):
            raise ValueError(f"{self._who()}: noise_shape must have positive integers and None, got {noise_shape!r}.")

    def disturb(self, inputs: Any, strength: float) -> Any:
        return random.dropout(inputs, strength, self.noise_shape, self.seed_generator)


class SpatialDropout(Dropout, Spatial):
    """Dropout of whole channels: the draws have size 1 along the spatial axes.

    Args:
        rate: the share of channels that are dropped.

    Shapes: (batch, *spatial, channels) -> the same.
    """

    rank = 1
    rate: float

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(rate, seed=seed, data_format=data_format, name=name, dtype=dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        # All that Keras takes.
        config = {"rate": self.rate, "seed": self.seed, "name": self.name, "dtype": self.dtype_policy.name}
        return config if self.rank == 1 else {**config, "data_format": self.data_format}

    def disturb(self, inputs: Any, strength: float) -> Any:
        shape = [1 if axis in self._axes else size for axis, size in enumerate(inputs.shape)]
        return random.dropout(inputs, strength, shape, self.seed_generator)


@variant(defaults={"data_format": "channels_last"}, without=["data_format"])
class SpatialDropout1D(SpatialDropout):
    """Dropout of whole channels of sequences."""


class SpatialDropout2D(SpatialDropout, rank=2):
    """Dropout of whole channels of images."""


class SpatialDropout3D(SpatialDropout, rank=3):
    """Dropout of whole channels of volumes."""


class GaussianNoise(Noise):
    """`x + n`, `n` normal with mean 0.

    Args:
        stddev: the standard deviation of the noise.

    Raises: ValueError if `stddev` is below 0.
    """

    strength, largest = "stddev", None

    def __init__(self, stddev: float, seed: Any = None, **kwargs: Any):
        super().__init__(stddev, seed, **kwargs)

    def disturb(self, inputs: Any, strength: float) -> Any:
        dtype = self.compute_dtype
        return inputs + random.normal(inputs.shape, 0.0, strength, dtype=dtype, seed=self.seed_generator)


class GaussianDropout(Noise):
    """`x * n`, `n` normal with mean 1 and standard deviation `sqrt(rate / (1 - rate))`.

    Args:
        rate: as the rate of the dropout with noise as strong, below 1.

    Raises: ValueError if `rate` is not from 0 to below 1.
    """

    largest = BELOW_ONE

    def disturb(self, inputs: Any, strength: float) -> Any:
        deviation = math.sqrt(strength / (1.0 - strength))
        return inputs * random.normal(inputs.shape, 1.0, deviation, dtype=self.compute_dtype, seed=self.seed_generator)


class AlphaDropout(Dropout):
    """Dropout that keeps mean and variance of what SELU put out: dropped elements get SELU's limit, not 0.

    Klambauer et al., 2017, https://arxiv.org/abs/1706.02515

    Args:
        rate: the share of elements that are dropped, below 1.

    Raises: ValueError if `rate` is not from 0 to below 1.
    """

    largest = BELOW_ONE
    LIMIT = -1.6732632423543772 * 1.0507009873554805  # SELU of minus infinity

    def disturb(self, inputs: Any, strength: float) -> Any:
        inputs = inputs.astype(dtypes.floating(inputs.dtype))
        shape = [size if n is None else n for n, size in zip(self.noise_shape or inputs.shape, inputs.shape)]
        kept = random.uniform(shape, seed=self.seed_generator) >= strength
        scale = ((1 - strength) * (1 + strength * self.LIMIT**2)) ** -0.5
        shift = -scale * self.LIMIT * strength
        return scale * jnp.where(kept, inputs, jnp.asarray(self.LIMIT, inputs.dtype)) + shift


class ActivityRegularization(Elementwise):
    """The inputs; `l1 * sum|x| + l2 * sum x^2` is added to the loss.

    Args:
        l1, l2: the factors.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "l1": self.l1, "l2": self.l2}
        del config["activity_regularizer"]
        return config

    def call(self, inputs: Any) -> Any:
        return inputs
