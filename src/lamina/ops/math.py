"""The rest of `keras.ops`: segments, ranks, special functions, and Fourier transforms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special

from lamina.core import checks
from lamina.core.budget import spend
from lamina.core.symbolic import op
from lamina.ops.binding import bound, operand, reduction, unary

erf = unary(special.erf)
erfc = unary(special.erfc)
erfinv = unary(special.erfinv)
logsumexp = reduction(special.logsumexp, compiled=True)


def _segments(reduce: Callable, name: str) -> Any:
    """`reduce` over the parts of `data` that have the same number in `segment_ids`."""

    def call(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Any:
        data, segment_ids = jnp.asarray(data), jnp.asarray(segment_ids)
        if segment_ids.shape != data.shape[:1]:
            raise ValueError(
                f"{name}: segment_ids must be one integer for each part of data, "
                f"got shapes {segment_ids.shape} and {data.shape}."
            )
        if num_segments is None:  # which only values tell
            num_segments = int(segment_ids.max()) + 1 if segment_ids.size else 0
        return reduce(data, segment_ids, num_segments, indices_are_sorted=sorted)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{name}` of JAX over the parts of `data` that have the same number in `segment_ids`."
    return op(call)


segment_max = _segments(jax.ops.segment_max, "segment_max")
segment_min = _segments(jax.ops.segment_min, "segment_min")
segment_prod = _segments(jax.ops.segment_prod, "segment_prod")
segment_sum = _segments(jax.ops.segment_sum, "segment_sum")


logdet = bound(lambda x: jnp.linalg.slogdet(x)[1], "x", "log |det(x)|.", name="logdet")
rsqrt = bound(lax.rsqrt, "x", "1 / sqrt(x).", elementwise=True, x=jnp.asarray)


@op
def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Any, Any]:
    """The `k` largest values along the last axis, in descending order, and their indices."""
    del sorted  # they always are
    values, indices = lax.top_k(jnp.asarray(x), k)
    return values, indices


@op
def in_top_k(targets: Any, predictions: Any, k: int) -> Any:
    """Whether fewer than `k` predictions along the last axis exceed that of the target."""
    targets, predictions = jnp.asarray(targets), jnp.asarray(predictions)
    chosen = jnp.take_along_axis(predictions, targets[..., None], axis=-1)
    chosen = jnp.where(jnp.isnan(chosen), -jnp.inf, chosen)
    return jnp.sum(predictions > chosen, axis=-1) < k


@op
def cdist(x: Any, y: Any) -> Any:
    """The Euclidean distance of each row of `x` to each row of `y`."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(f"cdist: x and y must have rows of one length, got shapes {x.shape} and {y.shape}.")
    return jnp.sqrt(jnp.sum(jnp.square(x[..., :, None, :] - y[..., None, :, :]), axis=-1))


@op
def view_as_complex(x: Any) -> Any:
    """x[..., 0] + i x[..., 1]."""
    x = jnp.asarray(x)
    if x.ndim < 1 or x.shape[-1] != 2:
        raise ValueError(f"view_as_complex: x must have a last axis of 2 (real and imaginary), got shape {x.shape}.")
    return (x[..., 0] + 1j * x[..., 1]).astype("complex64")


@op
def view_as_real(x: Any) -> Any:
    """The real and imaginary part along a new last axis."""
    x = jnp.asarray(x)
    return jnp.stack([x.real, x.imag], axis=-1)


# Fourier transforms. Complex arrays are pairs (real, imaginary), as in Keras.


def _complex(x: Any, who: str) -> Any:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"{who}: x must be a pair (real, imaginary), got {type(x).__name__}.")
    real, imaginary = (jnp.asarray(part) for part in x)
    if real.shape != imaginary.shape or not all(jnp.issubdtype(p.dtype, jnp.floating) for p in (real, imaginary)):
        raise ValueError(
            f"{who}: x must be a pair of float arrays of one shape, got {real.dtype.name}{real.shape} "
            f"and {imaginary.dtype.name}{imaginary.shape}."
        )
    return lax.complex(real, imaginary)


def _pair(z: Any) -> tuple[Any, Any]:
    return jnp.real(z), jnp.imag(z)


def _transform(fn: Callable, doc: str) -> Any:
    """`fn` of JAX on pairs."""
    name = fn.__name__
    return bound(lambda z: _pair(fn(z)), "x", doc, name=name, x=lambda x: _complex(x, name))


fft = _transform(jnp.fft.fft, "The discrete Fourier transform along the last axis.")
fft2 = _transform(jnp.fft.fft2, "The discrete Fourier transform along the last two axes.")
ifft2 = _transform(jnp.fft.ifft2, "The inverse of `fft2`.")


@op
def rfft(x: Any, fft_length: int | None = None) -> tuple[Any, Any]:
    """The Fourier transform of real values along the last axis: its half that is not redundant."""
    return _pair(jnp.fft.rfft(operand(x), n=fft_length))


@op
def irfft(x: Any, fft_length: int | None = None) -> Any:
    """The inverse of `rfft`."""
    return jnp.fft.irfft(_complex(x, "irfft"), n=fft_length)


def _frame_index(length: Any, size: int, stride: int) -> Any:
    """The places of each frame: (frames, size)."""
    return jnp.arange(0, length - size + 1, stride)[:, None] + jnp.arange(size)


@op
def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> Any:
    """The windows of the last axis: (..., windows, sequence_length)."""
    x = jnp.asarray(x)
    return x[..., _frame_index(x.shape[-1], sequence_length, sequence_stride)]


_WINDOWS = {"hann": np.hanning, "hamming": np.hamming}


def _window(window: Any, length: int, fft_length: int, dtype: Any, who: str) -> Any:
    """The window's values, in the middle of `fft_length` places."""
    if not isinstance(length, int) or length > fft_length:
        raise ValueError(f"{who}: fft_length must be at least sequence_length, got {fft_length} and {length}.")
    spend(f"{who}: a window", fft_length, nbytes=8, work=1)
    if isinstance(window, str):
        checks.require(window in _WINDOWS, who, "window must be 'hann', 'hamming', an array or None", window)
        window = _WINDOWS[window](length + 1)[:-1]  # periodic
    values = jnp.ones(fft_length, dtype) if window is None else jnp.asarray(window, dtype)
    if window is not None and values.shape != (length,):
        raise ValueError(f"{who}: window must have shape ({length},), got {values.shape}.")
    before = (fft_length - length) // 2
    return values if window is None else jnp.pad(values, (before, fft_length - length - before))


@op
def stft(
    x: Any, sequence_length: int, sequence_stride: int, fft_length: int, window: Any = "hann", center: bool = True
) -> tuple[Any, Any]:
    """The Fourier transform of each window of the last axis: (..., windows, fft_length / 2 + 1).

    Args:
        x: a signal of dtype float32 or float64.
        sequence_length: how many values a window sees.
        sequence_stride: the step of the window.
        fft_length: the size of the transform, at least `sequence_length`.
        window: `"hann"`, `"hamming"`, the window's values, or `None`.
        center: whether the first window's middle is the signal's first value; the signal is mirrored at its ends.
    """
    checks.integer("stft", "sequence_stride", sequence_stride)
    x = jnp.asarray(x)
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"stft: x must be float32 or float64, got {x.dtype.name}.")
    weights = _window(window, sequence_length, fft_length, x.dtype, "stft")
    if center:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(fft_length // 2,) * 2], mode="reflect")
    frames = x[..., _frame_index(x.shape[-1], fft_length, sequence_stride)]
    return _pair(jnp.fft.rfft(frames * weights))


@op
def istft(
    x: Any,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Any:
    """The signal whose `stft` is `x`: windows are added where they overlap and divided by the squared weights."""
    checks.integer("istft", "sequence_stride", sequence_stride)
    frames = jnp.fft.irfft(_complex(x, "istft"), n=fft_length)
    weights = _window(window, sequence_length, fft_length, frames.dtype, "istft")
    total = fft_length + sequence_stride * (frames.shape[-2] - 1)
    index = _frame_index(total, fft_length, sequence_stride)
    signal = jnp.zeros((*frames.shape[:-2], total), frames.dtype).at[..., index].add(frames * weights)
    power = jnp.zeros(total, frames.dtype).at[index].add(jnp.square(weights))
    signal = signal / jnp.where(power > 1e-10, power, 1)
    if window is None:
        signal = signal * (fft_length / sequence_stride)  # as in Keras: a sum where windows overlap
    start = fft_length // 2 if center else 0
    end = total - start if length is None else start + length
    return signal[..., start:end]
