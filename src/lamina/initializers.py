"""Initial values of weights: objects called with a shape and a dtype.

They are computed by NumPy: `jax.numpy` would compile each of them for each shape.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lamina import random
from lamina.core import checks, configurable, dtypes
from lamina.core.arrays import send
from lamina.core.configurable import Configurable
from lamina.random import seeds

V = TypeVar("V", bound="VarianceScaling")
_ALIASES = {"normal": "RandomNormal", "uniform": "RandomUniform", "one": "Ones", "zero": "Zeros"}
# The standard deviation of the standard normal distribution cut off at -2 and 2.
_TRUNCATED_STDDEV = 0.8796256610342398


class Initializer(Configurable):
    """Base of initializers: a subclass defines `__call__(shape, dtype=None)`."""

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: a subclass must define __call__.")

    def clone(self) -> Self:
        """An initializer of the same configuration."""
        return self.from_config(self.get_config())


class Constant(Initializer):
    """Arrays filled with `value`.

    Args:
        value: a number, or an array that broadcasts to the shapes asked for.

    Raises:
        ValueError: for what is not numbers, or does not broadcast.
    """

    _exact = False  # an array in place of an initializer has the shape that is asked for

    def __init__(self, value: Any = 0.0):
        kind = np.asarray(value).dtype
        if not (jnp.issubdtype(kind, np.number) or jnp.issubdtype(kind, np.bool_)):
            raise ValueError(f"Constant: value must be a number or an array of numbers, got {value!r}.")
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        value, shape = np.asarray(self.value).astype(dtypes.standardize_dtype(dtype)), tuple(shape)
        sizes = zip(value.shape[::-1], shape[::-1])
        fits = value.ndim <= len(shape) and all(a in (1, b) for a, b in sizes) and not self._exact
        rule = f"value must {'have' if self._exact else 'broadcast to'} the shape {shape}"
        checks.require(fits or value.shape == shape, self, rule, value.shape)
        return send(np.broadcast_to(value, shape))


class Zeros(Initializer):
    """Arrays of zeros."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return send(np.zeros(tuple(shape), dtypes.standardize_dtype(dtype)))


class Ones(Initializer):
    """Arrays of ones."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return send(np.ones(tuple(shape), dtypes.standardize_dtype(dtype)))


class Identity(Initializer):
    """`gain` on the diagonal of a matrix and zeros elsewhere."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        checks.require(len(shape) == 2, self, "shape must have 2 axes", tuple(shape))
        eye = self.gain * np.eye(shape[0], shape[1])
        return send(eye.astype(dtypes.standardize_dtype(dtype)))


class RandomInitializer(Initializer):
    """Base of the random ones. The seed is fixed at construction: equal shapes get equal values.

    Args:
        seed: an integer, a `SeedGenerator` (each call then gives other values), or `None`: a seed from
            Python's `random`, which `set_random_seed` governs.
    """

    def __init__(self, seed: Any = None):
        if isinstance(seed, Mapping):
            seed = configurable.deserialize(seed)
        known = isinstance(seed, (int, np.integer, random.SeedGenerator, type(None)))
        checks.require(known, self, "seed must be an integer, a SeedGenerator or None", seed)
        self.seed = seeds.make_default_seed() if seed is None else seed

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        # A configuration without a seed stays so: what is made from it draws its own.
        return recorded if name == "seed" else super()._argument(owner, name, recorded)


class RandomNormal(RandomInitializer):
    """Samples of N(mean, stddev²).

    Args:
        mean: of the normal distribution.
        stddev: its standard deviation.
    """

    _draw = staticmethod(random.normal)

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        checks.require(np.all(np.asarray(stddev) >= 0), self, "stddev must be at least 0", stddev)
        self.mean = mean
        self.stddev = stddev
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return self._draw(shape, self.mean, self.stddev, dtype=dtype, seed=self.seed)


class TruncatedNormal(RandomNormal):
    """Samples of N(mean, stddev²), given that they lie within two standard deviations of the mean."""

    _draw = staticmethod(random.truncated_normal)


class RandomUniform(RandomInitializer):
    """Samples of the uniform distribution on [minval, maxval).

    Args:
        minval: the smallest value.
        maxval: the end of the range.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        ordered = np.all(np.asarray(maxval) >= np.asarray(minval))
        checks.require(ordered, self, f"maxval must be at least {minval!r}", maxval)
        self.minval = minval
        self.maxval = maxval
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return random.uniform(shape, self.minval, self.maxval, dtype=dtype, seed=self.seed)


class VarianceScaling(RandomInitializer):
    """Samples of mean 0 and variance scale / n, n the number of inputs or outputs of a unit.

    Args:
        scale: the factor, positive.
        mode: what n counts: `"fan_in"` inputs, `"fan_out"` outputs, `"fan_avg"` the mean of both.
        distribution: `"truncated_normal"` (or `"normal"`), `"untruncated_normal"` or `"uniform"`.
        input_axes, output_axes: axes of the shape whose sizes, multiplied, are the numbers of inputs and
            outputs; if not both given, the last two axes, with all axes before them as a receptive field.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        who = type(self).__name__
        self.scale = checks.positive(who, "scale", scale)
        self.mode = checks.one_of(who, "mode", mode, ("fan_in", "fan_out", "fan_avg"))
        distribution = str(distribution).lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        known = ("truncated_normal", "untruncated_normal", "uniform")
        self.distribution = checks.one_of(who, "distribution", distribution, known)
        self.input_axes = input_axes
        self.output_axes = output_axes
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, count)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(shape, -limit, limit, dtype=dtype, seed=self.seed)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, math.sqrt(variance), dtype=dtype, seed=self.seed)
        return random.truncated_normal(shape, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, dtype=dtype, seed=self.seed)


def _scaled(scale: float, mode: str, distribution: str) -> Callable[[type[V]], type[V]]:
    """A decorator of a `VarianceScaling` that always has these arguments."""
    given = {"scale": scale, "mode": mode, "distribution": distribution}
    return configurable.variant(defaults=given, without=given)


@_scaled(1.0, "fan_avg", "uniform")
class GlorotUniform(VarianceScaling):
    """Uniform, variance 2 / (inputs + outputs) (Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a)."""


@_scaled(1.0, "fan_avg", "truncated_normal")
class GlorotNormal(VarianceScaling):
    """Truncated normal, variance 2 / (inputs + outputs) (Glorot and Bengio 2010)."""


@_scaled(1.0, "fan_in", "uniform")
class LecunUniform(VarianceScaling):
    """Uniform, variance 1 / inputs (LeCun et al. 1998, Efficient BackProp)."""


@_scaled(1.0, "fan_in", "truncated_normal")
class LecunNormal(VarianceScaling):
    """Truncated normal, variance 1 / inputs (LeCun et al. 1998, Efficient BackProp)."""


@_scaled(2.0, "fan_in", "uniform")
class HeUniform(VarianceScaling):
    """Uniform, variance 2 / inputs (He et al. 2015, https://arxiv.org/abs/1502.01852)."""


@_scaled(2.0, "fan_in", "truncated_normal")
class HeNormal(VarianceScaling):
    """Truncated normal, variance 2 / inputs (He et al. 2015, https://arxiv.org/abs/1502.01852)."""


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """The numbers of inputs and outputs of one unit of a weight of this shape."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


class Orthogonal(RandomInitializer):
    """`gain` · Q, where Q · R is a matrix of normal samples, Q is orthogonal, and R's diagonal is positive.

    With more than two axes, all but the last are flattened into rows. Saxe et al. 2014,
    https://arxiv.org/abs/1312.6120

    Args:
        gain: the factor.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None):
        self.gain = gain
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        checks.require(len(shape) >= 2, self, "shape must have at least 2 axes", tuple(shape))
        rows, columns = math.prod(shape[:-1]), shape[-1]
        dtype = dtypes.standardize_dtype(dtype)
        wide = dtype if dtype in ("float32", "float64") else "float32"  # no QR in 16 bits
        sample = random.normal((max(rows, columns), min(rows, columns)), dtype=wide, seed=self.seed)
        xp: Any = jnp if isinstance(sample, Tracer) else np
        q, r = xp.linalg.qr(xp.asarray(sample))
        q = q * xp.where(xp.diagonal(r) < 0, -1, 1)
        q = q.T if rows < columns else q
        return send((self.gain * q.reshape(shape)).astype(dtype))


class STFT(Initializer):
    """The kernel (frame, 1, frequencies) with which a convolution is a short-time Fourier transform.

    Element (t, ·, f) is window(t) · cos(-2πtf / n), or sin, divided by the scaling; n = 2 (frequencies - 1).

    Args:
        side: `"real"` (cosines) or `"imag"` (sines).
        window: a name for `scipy.signal.get_window`, an array of the frame's length, or `None`.
        scaling: divide by the root of the window's summed squares (`"density"`), by its sum
            (`"spectrum"`), or not at all (`None`).
        periodic: whether a named window is periodic rather than symmetric.
    """

    def __init__(
        self, side: str = "real", window: Any = "hann", scaling: str | None = "density", periodic: bool = False
    ):
        self.side = checks.one_of("STFT", "side", side, ("real", "imag"))
        self.window = window
        self.scaling = checks.one_of("STFT", "scaling", scaling, ("density", "spectrum", None))
        self.periodic = periodic
        if isinstance(window, str):
            self._window(1)

    def _window(self, length: int) -> np.ndarray:
        if not isinstance(self.window, str):
            return np.asarray(self.window)
        from scipy import signal  # noqa: PLC0415 (JAX brings it along; it is slow to import)

        try:
            return np.asarray(signal.get_window(self.window, length, self.periodic))
        except ValueError:
            rule = "window must be a name that scipy.signal.get_window knows"
            raise ValueError(f"STFT: {rule}, got {self.window!r}.") from None

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        checks.require(len(shape) == 3, self, "shape must be (frame, channels, frequencies)", tuple(shape))
        frame, _, frequencies = shape
        time = np.arange(frame).reshape(frame, 1, 1)
        angle = -2 * np.pi * time * np.arange(frequencies) / (2 * (frequencies - 1))
        kernel = np.cos(angle) if self.side == "real" else np.sin(angle)
        if self.window is not None:
            window = self._window(frame)
            checks.require(window.shape == (frame,), self, f"window must have shape {(frame,)}", window.shape)
            scale = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}
            kernel = kernel * window.reshape(frame, 1, 1) / scale[self.scaling]
        return send(kernel.astype(dtypes.standardize_dtype(dtype)))


constant, zeros, ones, identity, stft, orthogonal = Constant, Zeros, Ones, Identity, STFT, Orthogonal
IdentityInitializer, STFTInitializer, OrthogonalInitializer = Identity, STFT, Orthogonal
random_normal, truncated_normal, random_uniform = RandomNormal, TruncatedNormal, RandomUniform
variance_scaling = VarianceScaling
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
he_uniform, he_normal = HeUniform, HeNormal


def _of_array(value: Any) -> Constant | None:
    if not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return None
    made = Constant(value)
    made._exact = value.ndim > 0
    return made


get, serialize, deserialize = configurable.namespace_functions(
    "initializers", "initializer", Initializer, aliases=_ALIASES, special=_of_array
)

__all__ = [
    "STFT", "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "IdentityInitializer", "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal",
    "OrthogonalInitializer", "RandomNormal", "RandomUniform", "STFTInitializer", "TruncatedNormal",
    "VarianceScaling", "Zeros", "constant", "deserialize", "get", "glorot_normal", "glorot_uniform",
    "he_normal", "he_uniform", "identity", "lecun_normal", "lecun_uniform", "ones", "orthogonal",
    "random_normal", "random_uniform", "serialize", "stft", "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip
