"""Convolutions, transposed ones, and those of each channel by itself: the rank is data."""

from collections.abc import Callable, Sequence
from typing import Any

from lamina import ops
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.core.docstrings import explained_by
from lamina.layers.projection import Dense, Projection
from lamina.layers.spatial import Windowed
from lamina.layers.weights import resolve_arguments, weight

__all__ = [
    "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "Convolution1D",
    "Convolution1DTranspose", "Convolution2D", "Convolution2DTranspose", "Convolution3D", "Convolution3DTranspose",
    "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D",
    "SeparableConvolution2D",
]  # fmt: skip


class Convolving(Projection, Windowed):
    """Base of the layers whose kernel is a window that moves over `rank` spatial axes."""

    use_bias: bool

    def _spread_bias(self, bias: Any) -> Any:
        return bias if self._channel_axis == -1 else bias.reshape(-1, *(1,) * self.rank)


@explained_by(Dense)
class Convolution(Convolving):
    """`activation(conv(x, kernel) + bias)` over `rank` spatial axes.

    Args:
        filters: the number of output channels.
        kernel_size, strides, dilation_rate: one integer, or one for each spatial axis.
        padding: "valid", "same", or "causal" for sequences.
        output_padding: how much longer the output is than the inputs need, less than the strides.
        groups: the number of groups that channels are split into; each is convolved by itself.

    Shapes: (batch, *spatial, channels) -> (batch, *other spatial, filters), or channels before spatial with
    "channels_first"; the kernel is (*kernel_size, channels / groups, filters).

    Raises: ValueError if arguments do not fit one another, or windows the input.
    """

    _further = ("lora_rank", "lora_alpha")  # arguments too, which Keras's signatures do not name
    _omit_none = frozenset(_further)

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        lora = [kwargs.pop(name, None) for name in ("lora_rank", "lora_alpha")]
        super().__init__(data_format=data_format, activity_regularizer=activity_regularizer, **kwargs)
        self._set_kind(*lora)
        self.filters = checks.integer(self._who, "filters", filters)
        self.groups = checks.integer(self._who, "groups", groups)
        self.output_padding = None if output_padding is None else self._sizes("output_padding", output_padding, 0)
        self.use_bias = use_bias
        self._set_window(kernel_size, strides, padding, dilation_rate)
        self._check_strides()
        who, extra = self._who(), self.output_padding
        if self.filters % self.groups:
            raise ValueError(f"{who}: filters must be a multiple of groups={self.groups}, got {self.filters}.")
        if extra is not None and any(n >= stride for n, stride in zip(extra, self.strides)):
            raise ValueError(f"{who}: output_padding must be less than strides={self.strides}, got {extra}.")
        resolve_arguments(self)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = self._check_channels(input_shape)
        rule = f"the number of channels must be a multiple of groups={self.groups}"
        checks.require(not channels % self.groups, self._who, rule, input_shape)
        self._check_size(input_shape)
        self._make_weights(self._kernel_shape(channels), (self.filters,) if self.use_bias else None)

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, channels // self.groups, self.filters)

    def _product(self, inputs: Any, kernel: Any) -> Any:
        padding = self.padding
        if padding == "causal":
            left = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            inputs, padding = ops.pad(inputs, [(left * (axis in self._axes), 0) for axis in range(3)]), "valid"
        return ops.conv(inputs, kernel, self.strides, padding, self.data_format, self.dilation_rate)


@variant(without=["output_padding"])
class Conv1D(Convolution, rank=1):
    """Convolution of sequences."""

    _paddings = ("valid", "same", "causal")


@variant(without=["output_padding"], defaults={"strides": (1, 1), "dilation_rate": (1, 1)})
class Conv2D(Convolution, rank=2):
    """Convolution of images.

    >>> layers.Conv2D(8, 3, padding="same", strides=2)(np.zeros((1, 28, 28, 1), "float32")).shape
    (1, 14, 14, 8)
    """


@variant(without=["output_padding"], defaults={"strides": (1, 1, 1), "dilation_rate": (1, 1, 1)})
class Conv3D(Convolution, rank=3):
    """Convolution of volumes."""


@variant(without=["groups"])
class TransposedConvolution(Convolution):
    """`activation(transposed conv(x, kernel) + bias)`: the output is as large as what a convolution makes x of.

    Shapes: (batch, *spatial, channels) -> (batch, *larger spatial, filters), or channels before spatial with
    "channels_first"; the kernel is (*kernel_size, filters, channels).
    """

    def _check_size(self, input_shape: tuple[int | None, ...]) -> None:
        """The output is larger than the kernel, whatever the input."""

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, self.filters, channels)

    def _product(self, inputs: Any, kernel: Any) -> Any:
        window = (self.strides, self.padding, self.output_padding, self.data_format, self.dilation_rate)
        return ops.conv_transpose(inputs, kernel, *window)


class Conv1DTranspose(TransposedConvolution, rank=1):
    """Transposed convolution of sequences."""


class Conv2DTranspose(TransposedConvolution, rank=2, strides=(1, 1), dilation_rate=(1, 1)):
    """Transposed convolution of images.

    >>> layers.Conv2DTranspose(8, 3, strides=2, padding="same")(np.zeros((1, 7, 7, 4), "float32")).shape
    (1, 14, 14, 8)
    """


@variant(defaults={"strides": (1, 1, 1), "dilation_rate": (1, 1, 1)}, before={"data_format": "output_padding"})
class Conv3DTranspose(TransposedConvolution, rank=3):
    """Transposed convolution of volumes."""


@explained_by(Convolution)
class ChannelwiseConvolution(Convolving):
    """`activation(conv(each channel) + bias)` over `rank` spatial axes.

    Args:
        padding: "valid" or "same".
        depth_multiplier: the number of channels that are made of each.
        depthwise_initializer, bias_initializer: what the weights start from.
        depthwise_regularizer, bias_regularizer, activity_regularizer: added to the loss.
        depthwise_constraint, bias_constraint: applied after each step.
        pointwise_initializer: what the kernel at each place starts from.
        pointwise_regularizer: added to the loss.
        pointwise_constraint: applied after each step.

    Raises: ValueError if an argument is outside its domain, or the input smaller than the kernel.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, activity_regularizer=activity_regularizer, **kwargs)
        self.filters, self.use_bias = filters, use_bias
        self._check_filters()
        self.depth_multiplier = checks.integer(self._who, "depth_multiplier", depth_multiplier)
        self._set_window(kernel_size, strides, padding, dilation_rate)
        resolve_arguments(self)

    def _check_filters(self) -> None:
        """There are as many as the channels make."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = self._check_channels(input_shape)
        self._check_size(input_shape)
        outputs = channels * self.depth_multiplier if self.filters is None else self.filters
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self._make_weights(shape, (outputs,) if self.use_bias else None, arguments="depthwise")

    @property
    def _window(self) -> tuple:
        return self.strides, self.padding, self.data_format, self.dilation_rate


class SeparableConvolution(ChannelwiseConvolution):
    """`activation(pointwise(depthwise(x)) + bias)`: each channel by itself over space, then all channels at a place.

    Chollet, 2017, https://arxiv.org/abs/1610.02357

    Shapes: (batch, *spatial, channels) -> (batch, *other spatial, filters), or channels before spatial with
    "channels_first".
    """

    depthwise_kernel: Any
    pointwise_kernel: Any

    def _check_filters(self) -> None:
        self.filters = checks.integer(self._who, "filters", self.filters)

    def _make_kernel(self, shape: Sequence[Any], **options: Any) -> None:
        self.depthwise_kernel = weight(self, "depthwise_kernel", shape, **options)
        pointwise_shape = (*(1,) * self.rank, shape[-2] * shape[-1], self.filters)
        self.pointwise_kernel = weight(self, "pointwise_kernel", pointwise_shape, arguments="pointwise")

    def _projected(self, inputs: Any) -> Any:
        return ops.separable_conv(inputs, self.depthwise_kernel.value, self.pointwise_kernel.value, *self._window)


class SeparableConv1D(SeparableConvolution, rank=1):
    """Separable convolution of sequences."""


class SeparableConv2D(SeparableConvolution, rank=2, strides=(1, 1), dilation_rate=(1, 1)):
    """Separable convolution of images."""


@variant(
    defaults={"filters": None, "pointwise_initializer": None},
    without=["filters", "pointwise_initializer", "pointwise_regularizer", "pointwise_constraint"],
    before={"depth_multiplier": "data_format"},
)
class DepthwiseConvolution(ChannelwiseConvolution):
    """`activation(depthwise(x) + bias)`: each channel is convolved by itself.

    Shapes: (batch, *spatial, channels) -> (batch, *other spatial, channels * depth_multiplier), or channels before
    spatial with "channels_first"; the kernel is (*kernel_size, channels, depth_multiplier).
    """

    def _product(self, inputs: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(inputs, kernel, *self._window)


class DepthwiseConv1D(DepthwiseConvolution, rank=1):
    """Convolution of each channel of sequences."""


class DepthwiseConv2D(DepthwiseConvolution, rank=2, strides=(1, 1), dilation_rate=(1, 1)):
    """Convolution of each channel of images."""


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = (
    Conv1DTranspose,
    Conv2DTranspose,
    Conv3DTranspose,
)
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
