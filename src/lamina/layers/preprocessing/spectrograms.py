"""Signals in time as what frequencies they have at each time."""

import math
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina import initializers, ops
from lamina.core import checks, dtypes
from lamina.core.budget import spend
from lamina.layer import InputSpec, Layer
from lamina.layers.preprocessing.foreign import PipelineLayer


class MelSpectrogram(PipelineLayer):
    """The power of a signal in bands of frequencies as wide as the ear tells apart.

    The short-time Fourier transform's magnitude to the power `mag_exp`, summed over overlapping triangles between
    places that are equally far apart in mel, `1127 log(1 + f / 700)`; in decibels if wanted.

    Args:
        fft_length: the size of the Fourier transform.
        sequence_stride: the step of its window.
        sequence_length: how many values a window sees; `fft_length` if not given.
        window: "hann", "hamming", the window's values, or `None`.
        sampling_rate: values a second.
        num_mel_bins: how many bands.
        min_freq, max_freq: the lowest and highest frequency; half the sampling rate if not given.
        power_to_db: whether to give decibels, `10 log10(power / ref_power)`.
        top_db: how far the lowest value of a batch may lie below its highest.
        mag_exp: 1 for magnitudes, 2 for power.
        min_power: what less power counts as.
        ref_power: the power of 0 decibels.

    Shapes: (time,) or (batch, time) -> (num_mel_bins, frames) or (batch, num_mel_bins, frames).
    """

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        sequence_length: int | None = None,
        window: Any = "hann",
        sampling_rate: float = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.fft_length = checks.integer(self._who, "fft_length", fft_length)
        self.sequence_stride = checks.integer(self._who, "sequence_stride", sequence_stride)
        self.sequence_length = checks.integer(self._who, "sequence_length", sequence_length or fft_length)
        rule = f"sequence_length must be at most fft_length ({fft_length})"
        checks.require(self.sequence_length <= self.fft_length, self._who, rule, self.sequence_length)
        self.window, self.power_to_db = window, power_to_db
        self.sampling_rate = checks.positive(self._who, "sampling_rate", sampling_rate)
        self.num_mel_bins = checks.integer(self._who, "num_mel_bins", num_mel_bins)
        self.max_freq = checks.positive(self._who, "max_freq", sampling_rate // 2 if max_freq is None else max_freq)
        self.min_freq = checks.number(self._who, "min_freq", min_freq, 0, self.max_freq)
        self.top_db = checks.number(self._who, "top_db", top_db, 0)
        self.mag_exp = checks.positive(self._who, "mag_exp", mag_exp)
        self.min_power = checks.positive(self._who, "min_power", min_power)
        self.ref_power = checks.number(self._who, "ref_power", ref_power)
        self.autocast = False  # the transform is taken of what comes in

    def call(self, inputs: Any) -> Any:
        inputs = jnp.asarray(inputs)
        if inputs.ndim not in (1, 2):
            raise ValueError(f"{self._who()}: the input must have shape (time,) or (batch, time), got {inputs.shape}.")
        inputs = inputs.astype(dtypes.wide(dtypes.floating(inputs.dtype)))
        frames = self.sequence_length, self.sequence_stride, self.fft_length
        real, imaginary = ops.stft(inputs, *frames, self.window)
        # (frames, frequencies) @ (frequencies, bands); the root is taken of the power, so it needs none for 2.
        power = (real**2 + imaginary**2) ** (self.mag_exp / 2)
        out = power @ jnp.asarray(self._bands(power.shape[-1]), power.dtype)
        if self.power_to_db:
            out = 10 * jnp.log10(jnp.maximum(out, self.min_power))
            out = out - 10 * math.log10(max(abs(self.ref_power), self.min_power))
            out = jnp.maximum(out, out.max() - self.top_db)
        return jnp.swapaxes(out, -1, -2).astype(self.compute_dtype)

    def _bands(self, frequencies: int) -> np.ndarray:
        """How much of each frequency belongs to each band: (frequencies, bands)."""
        spend(f"{self._who()}: bands", (frequencies, self.num_mel_bins), nbytes=8, work=1)

        def mel(hertz: Any) -> Any:
            return 1127 * np.log1p(hertz / 700)

        places = mel(np.linspace(0, self.sampling_rate / 2, frequencies)[1:])[:, None]
        edges = np.linspace(mel(self.min_freq), mel(self.max_freq), self.num_mel_bins + 2)
        low, middle, high = edges[:-2], edges[1:-1], edges[2:]
        rising, falling = (places - low) / (middle - low), (high - places) / (high - middle)
        return np.pad(np.maximum(np.minimum(rising, falling), 0), ((1, 0), (0, 0)))  # nothing of a constant


class STFTSpectrogram(Layer):
    """The short-time Fourier transform as a convolution, whose kernels may be trained.

    Args:
        mode: "log", "magnitude", "psd" (power), "real", "imag", "angle", or "stft" for real and imaginary parts.
        frame_length: how many values a window sees.
        frame_step: the step of the window; half the frame if not given.
        fft_length: the size of the transform; the next power of two if not given.
        window: a name that `scipy.signal.get_window` knows, the window's values, or `None`.
        periodic: whether a named window is periodic rather than symmetric.
        scaling: "density", "spectrum", or `None`.
        padding: "valid" or "same".
        expand_dims: whether channels and frequencies are axes of their own.
        data_format: where the channels are.

    Shapes: (batch, time, channels) -> (batch, frames, channels * frequencies), or (batch, frames, frequencies,
    channels) with `expand_dims`.
    """

    MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")

    def __init__(
        self,
        mode: str = "log",
        frame_length: int = 256,
        frame_step: int | None = None,
        fft_length: int | None = None,
        window: Any = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
        expand_dims: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        who = self._who()
        self.mode = checks.one_of(who, "mode", mode, self.MODES)
        self.frame_length = checks.integer(who, "frame_length", frame_length, 2)
        self.frame_step, self.fft_length = frame_step, fft_length
        self._step = self.frame_length // 2 if frame_step is None else checks.integer(who, "frame_step", frame_step)
        if self._step > self.frame_length:
            raise ValueError(f"{who}: frame_step must be at most frame_length ({frame_length}), got {frame_step}.")
        self._size = 2 ** math.ceil(math.log2(frame_length)) if fft_length is None else fft_length
        checks.integer(who, "fft_length", self._size, self.frame_length)
        if self._size & (self._size - 1):
            warnings.warn(f"{who}: fft_length should be a power of two, got {fft_length}.", stacklevel=2)
        self.scaling = checks.one_of(who, "scaling", scaling, ("density", "spectrum", None))
        self.padding = checks.one_of(who, "padding", padding, ("valid", "same"))
        self.window, self.periodic, self.expand_dims = window, periodic, expand_dims
        self._start("real")
        self.data_format = dtypes.standardize_data_format(data_format, who)
        self.input_spec = InputSpec(ndim=3)
        self.autocast = False  # sums are taken of what comes in

    def _start(self, side: str) -> Any:
        return initializers.STFT(side, self.window, self.scaling, self.periodic)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.frame_length, 1, self._size // 2 + 1)
        if self.mode != "imag":
            self.real_kernel = self.add_weight(shape, self._start("real"), name="real_kernel")
        if self.mode != "real":
            self.imag_kernel = self.add_weight(shape, self._start("imag"), name="imag_kernel")

    def _transformed(self, inputs: Any, kernel: Any) -> Any:
        """(batch, channels, time) -> (batch, channels, frames, frequencies)."""
        batch, channels, time = inputs.shape
        signals, windows = inputs.reshape(batch * channels, time, 1), kernel.value.astype(inputs.dtype)
        out = ops.conv(signals, windows, self._step, self.padding, "channels_last")
        return out.reshape(batch, channels, *out.shape[1:])

    def call(self, inputs: Any) -> Any:
        inputs = jnp.asarray(inputs)
        inputs = inputs.astype(dtypes.wide(dtypes.floating(inputs.dtype)))
        last = self.data_format == "channels_last"
        signal = jnp.swapaxes(inputs, 1, 2) if last else inputs
        real = self._transformed(signal, self.real_kernel) if self.mode != "imag" else None
        imaginary = self._transformed(signal, self.imag_kernel) if self.mode != "real" else None
        out = self._seen(real, imaginary).astype(self.compute_dtype)  # (batch, channels, frames, frequencies)
        if not self.expand_dims:
            # (batch, channels * frequencies, frames), or the last two the other way round
            out = jnp.swapaxes(out, 2, 3).reshape(out.shape[0], -1, out.shape[2])
            return jnp.swapaxes(out, 1, 2) if last else out
        return jnp.moveaxis(out, 1, 3) if last else out

    def _seen(self, real: Any, imaginary: Any) -> Any:
        if self.mode == "stft":
            return jnp.concatenate([real, imaginary], axis=-1)
        if self.mode == "angle":
            return jnp.arctan2(imaginary, real)
        if self.mode in ("real", "imag"):
            return real if self.mode == "real" else imaginary
        power = real**2 + imaginary**2
        if self.mode == "psd":  # frequencies that stand for two count twice
            return power * jnp.pad(jnp.full(power.shape[-1] - 2, 2, power.dtype), 1, constant_values=1)
        magnitude = jnp.sqrt(jnp.maximum(power, dtypes.epsilon()))
        return magnitude if self.mode == "magnitude" else jnp.log(jnp.maximum(magnitude, dtypes.epsilon()))
