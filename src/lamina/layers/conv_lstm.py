"""LSTMs over images and the like, whose products are convolutions: the rank is data."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lamina import ops
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.core.constructors import parameters
from lamina.core.symbolic import KerasTensor, infer
from lamina.layer import InputSpec
from lamina.layers.cells import LSTMCell
from lamina.layers.recurrent import Recurrent
from lamina.layers.scanning import Rule, zeros
from lamina.layers.spatial import Windowed


class Sliding(NamedTuple):
    """The convolution of (..., *places, channels), with whatever axes in front; equal ones share a compiled scan."""

    strides: tuple[int, ...]
    padding: str = "same"
    dilation: int | tuple[int, ...] = 1

    def __call__(self, x: Any, kernel: Any) -> Any:
        inner = len(self.strides) + 1
        flat = x.reshape(-1, *x.shape[-inner:])
        out = ops.conv(flat, kernel, self.strides, self.padding, "channels_last", self.dilation)
        return out.reshape(*x.shape[:-inner], *out.shape[1:])


class ConvLSTMCell(LSTMCell, Windowed):
    """`LSTMCell` with convolutions for products: that of the output before keeps its size.

    Args and errors: those of `ConvLSTM` and of `LSTMCell`, and `rank`, the number of spatial axes.

    Shapes: (batch, *spatial, channels), states of (batch, *other spatial, filters) -> the first state, and states.
    """

    draws_seed_first = True

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        *,
        rank: int,
        **kwargs: Any,
    ):
        self.rank = rank
        super().__init__(filters, data_format=data_format, **kwargs)
        self.filters, self.implementation = self.units, 1
        self._set_window(kernel_size, strides, padding, dilation_rate)
        self._check_strides()
        self.features_last = self.data_format == "channels_last"
        self._places: tuple[int, ...] = ()

    def _sizes_of(self, input_shape: tuple[int | None, ...]) -> tuple[tuple[int, ...], int]:
        channels = self._check_channels(input_shape)
        self._check_size(input_shape)
        places = [checks.known_size(self._who, input_shape, axis) for axis in self._axes]
        images = KerasTensor((None, *places, channels))
        kernel = KerasTensor((*self.kernel_size, channels, self.filters))
        self._places = infer(self.rule.of_inputs, (images, kernel)).shape[1:-1]
        return self.kernel_size, channels

    @property
    def rule(self) -> Rule:
        """What a step computes."""
        of_inputs = Sliding(self.strides, self.padding, self.dilation_rate)
        return super().rule._replace(of_inputs=of_inputs, of_output=Sliding((1,) * self.rank))

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Zeros for each state; the layer must be built, since its inputs tell how large these are."""
        shape = (*self._places, self.filters) if self.features_last else (self.filters, *self._places)
        return zeros([shape] * 2, batch_size, self.compute_dtype)


_WINDOW = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate")
_LACKING = ("units", "unroll", "reset_after", "use_cudnn", "kwargs")


@variant(arguments=[*_WINDOW, *(name for name in parameters(Recurrent) if name not in _LACKING)])
class ConvLSTM(Recurrent, cell_class=ConvLSTMCell):
    """An LSTM whose products with inputs and with the output before are convolutions over `rank` spatial axes.

    Shi et al., 2015, https://arxiv.org/abs/1506.04214

    Args:
        filters: the number of output channels.
        kernel_size, strides, dilation_rate: one integer, or one for each spatial axis.
        padding: "valid" or "same".
        data_format: where the channels are.

    Shapes: (batch, time, *spatial, channels) -> (batch, *other spatial, filters), with `return_sequences` also the
    time axis; or channels before spatial with "channels_first".

    Raises: ValueError if an argument is outside its domain, or a spatial size is not known.
    """

    _further = ("unroll", "zero_output_for_mask")  # which files have, and Keras's signature does not name

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        **kwargs: Any,
    ):
        checks.integer(type(self).__name__, "filters", filters)
        window = dict(zip(_WINDOW, (filters, kernel_size, strides, padding, data_format, dilation_rate)))
        super().__init__(filters, **window, **kwargs)

    def build(self, sequences_shape: tuple[int | None, ...], initial_state_shape: Any = None) -> None:
        super().build(sequences_shape, initial_state_shape)
        self.input_spec = InputSpec(shape=(None, None, *sequences_shape[2:]))


class ConvLSTM1D(ConvLSTM, rank=1):
    """An LSTM over sequences of signals."""


class ConvLSTM2D(ConvLSTM, rank=2):
    """An LSTM over sequences of images."""


class ConvLSTM3D(ConvLSTM, rank=3):
    """An LSTM over sequences of volumes."""
