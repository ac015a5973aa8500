"""Convolutions: one class, of which the rank is data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lamina import ops
from lamina.core import checks
from lamina.core.configurable import variant
from lamina.layer import InputSpec
from lamina.layers.projection import Projection
from lamina.layers.spatial import Spatial
from lamina.layers.weights import resolve_arguments


class Convolution(Projection, Spatial):
    """`activation(conv(x, kernel) + bias)` over `rank` spatial axes.

    Args:
        filters: the number of output channels.
        kernel_size, strides, dilation_rate: one integer, or one for each spatial axis.
        padding: "valid", "same", or "causal" for sequences.
        data_format: where the channels are.
        groups: the number of groups that channels are split into; each is convolved by itself.
        activation: a name or function; none if not given.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: what the weights start from.
        kernel_regularizer, bias_regularizer, activity_regularizer: added to the loss.
        kernel_constraint, bias_constraint: applied after each step.

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
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_kind(*lora)
        self.filters = checks.integer(self._who(), "filters", filters)
        self.groups = checks.integer(self._who(), "groups", groups)
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.strides = self._sizes("strides", strides)
        self.dilation_rate = self._sizes("dilation_rate", dilation_rate)
        allowed = ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")
        self.padding = checks.one_of(self._who(), "padding", str(padding).lower(), allowed)
        self._set_layout(data_format)
        self.use_bias = use_bias
        resolve_arguments(self)
        self._check_arguments()

    def _check_arguments(self) -> None:
        who = self._who()
        if self.filters % self.groups:
            raise ValueError(f"{who}: filters must be a multiple of groups={self.groups}, got {self.filters}.")
        if self.padding == "causal" and self.data_format != "channels_last":
            raise ValueError(f"{who}: data_format must be 'channels_last' with causal padding.")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{who}: strides and dilation_rate must not both be above 1, got {self.strides} and "
                f"{self.dilation_rate}."
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = checks.known_size(self._who(), input_shape, self._channel_axis)
        if channels % self.groups:
            raise ValueError(
                f"{self._who()}: the number of channels must be a multiple of groups={self.groups}, got {input_shape}."
            )
        kernel_shape = (*self.kernel_size, channels // self.groups, self.filters)
        self._make_weights(kernel_shape, (self.filters,) if self.use_bias else None)
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={self._channel_axis: channels})
        self._check_output_size(input_shape)

    def _check_output_size(self, input_shape: tuple[int | None, ...]) -> None:
        sizes = (input_shape[axis] for axis in self._axes)
        for size, kernel, dilation in zip(sizes, self.kernel_size, self.dilation_rate):
            if self.padding == "valid" and size is not None and size < (kernel - 1) * dilation + 1:
                raise ValueError(
                    f"{self._who()}: the input must be at least as large as the kernel {self.kernel_size}, "
                    f"got shape {input_shape}."
                )

    def _product(self, inputs: Any, kernel: Any) -> Any:
        padding = self.padding
        if padding == "causal":
            left = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            inputs, padding = ops.pad(inputs, ((0, 0), (left, 0), (0, 0))), "valid"
        return ops.conv(inputs, kernel, self.strides, padding, self.data_format, self.dilation_rate)

    def _spread_bias(self, bias: Any) -> Any:
        return bias if self._channel_axis == -1 else bias.reshape(-1, *(1,) * self.rank)


@variant()
class Conv1D(Convolution):
    """Convolution of sequences.

    Shapes: (batch, time, channels) -> (batch, other time, filters).
    """

    rank = 1


@variant(defaults={"strides": (1, 1), "dilation_rate": (1, 1)})
class Conv2D(Convolution):
    """Convolution of images.

    Shapes: (batch, height, width, channels) -> (batch, other height, other width, filters).

    >>> layers.Conv2D(8, 3, padding="same", strides=2)(np.zeros((1, 28, 28, 1), "float32")).shape
    (1, 14, 14, 8)
    """

    rank = 2


@variant(defaults={"strides": (1, 1, 1), "dilation_rate": (1, 1, 1)})
class Conv3D(Convolution):
    """Convolution of volumes.

    Shapes: (batch, depth, height, width, channels) -> (batch, *other sizes, filters).
    """

    rank = 3


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
