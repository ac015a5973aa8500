"""`keras.ops.nn`: activations, convolutions, pooling, normalization, attention and losses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax import nn as jnn

from lamina.core import checks, dtypes
from lamina.core.arrays import as_array
from lamina.core.dtypes import standardize_data_format
from lamina.core.runtime import by_platform
from lamina.core.sparse import call as sparse_call
from lamina.core.sparse import hot_entries
from lamina.core.symbolic import op
from lamina.ops import attention, cpu, crossentropy, ctc, pooling
from lamina.ops.binding import axes, bound, fractions, operand, unary
from lamina.ops.flash import is_flash_attention_enabled
from lamina.ops.windows import Window, count, each, layout, padding_name, window_of

binary_crossentropy = crossentropy.binary_crossentropy
categorical_crossentropy = crossentropy.categorical_crossentropy
ctc_decode = ctc.ctc_decode
ctc_loss = ctc.ctc_loss
hard_sigmoid = unary(jnn.hard_sigmoid)
hard_silu = unary(jnn.hard_silu, "hard_silu")
hard_swish = hard_silu
hard_tanh = unary(jnn.hard_tanh)
log_sigmoid = unary(jnn.log_sigmoid)
relu = unary(jnn.relu)
relu6 = unary(jnn.relu6)
sparse_categorical_crossentropy = crossentropy.sparse_categorical_crossentropy
selu = unary(jnn.selu)
sigmoid = unary(jnn.sigmoid)
silu = unary(jnn.silu, "silu")
softplus = unary(jnn.softplus)
softsign = unary(jnn.soft_sign, "softsign")
sparse_plus = unary(jnn.sparse_plus)
sparse_sigmoid = unary(jnn.sparse_sigmoid)
swish = silu
tanh_shrink = unary(lambda x: x - jnp.tanh(x), "tanh_shrink", doc="x - tanh(x).", x=jnp.asarray)
celu = bound(jnn.celu, "x alpha=1.0", "x if x > 0, else alpha (e^(x/alpha) - 1).", elementwise=True)
elu = bound(jnn.elu, "x alpha=1.0", "x if x > 0, else alpha (e^x - 1).", elementwise=True)
gelu = bound(
    cpu.gelu, "x approximate=True", "x P(Z <= x) for a standard normal Z, by tanh if `approximate`.", elementwise=True
)
leaky_relu = bound(jnn.leaky_relu, "x negative_slope=0.2", "x if x > 0, else negative_slope x.", elementwise=True)
glu = bound(jnn.glu, "x axis=-1", "a sigmoid(b) for the halves a, b of `x` along an axis.", x=jnp.asarray)
log_softmax = bound(jnn.log_softmax, "x axis=-1", "x - log(sum(e^x)).", elementwise=True, compiled=True, x=fractions)
softmax = bound(jnn.softmax, "x axis=-1", "e^x / sum(e^x).", elementwise=True, compiled=True, x=fractions)
squareplus = bound(jnn.squareplus, "x b=4", "(x + sqrt(x^2 + b)) / 2.", elementwise=True)


@op(elementwise=True)
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x where |x| > threshold, else 0."""
    x = jnp.asarray(x)
    return jnp.where(jnp.abs(x) > threshold, x, 0.0)


@op(elementwise=True)
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """`x` moved towards 0 by threshold, and 0 nearer to it than that."""
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x - threshold, jnp.where(x < -threshold, x + threshold, 0.0))


@op(elementwise=True)
def sparsemax(x: Any, axis: int = -1) -> Any:
    """Probabilities near `x`, many of them 0: max(x - tau, 0), with Keras's tau.

    Martins & Astudillo (2016, arXiv:1602.02068) take tau = (s_k - 1) / k for the sum s_k of the k largest values,
    which makes the result sum to 1. Keras takes (s_1 + ... + s_k - 1) / k, and models are trained with that.
    """
    x = jnp.moveaxis(jnp.asarray(x) * 1.0, axis, -1)
    descending = -jnp.sort(-x, axis=-1)
    sums = jnp.cumsum(descending, axis=-1)
    support = descending - (sums - 1) / jnp.arange(1, x.shape[-1] + 1) > 0
    total = jnp.sum(jnp.where(support, sums, 0), axis=-1, keepdims=True)
    tau = (total - 1) / jnp.sum(support, axis=-1, keepdims=True)
    return jnp.moveaxis(jnp.maximum(x - tau, 0), -1, axis)


@op(elementwise=True)
def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """x where x > threshold, else default_value."""
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x, default_value)


# Convolutions. Kernels are (*sizes, input channels of a group, output channels).


def _operands(who: str, inputs: Any, kernel: Any, data_format: str | None) -> tuple[Any, Any, str, int]:
    """Both as arrays, where the channels are, and how many the inputs have."""
    data_format, kernel = standardize_data_format(data_format, who), as_array(kernel)
    inputs = as_array(inputs, kernel.dtype)
    return inputs, kernel, data_format, inputs.shape[-1 if data_format == "channels_last" else 1]


# One jitted function a platform choice: called eagerly it is compiled once, and traced once for equal layers.
@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _convolve(inputs: Any, kernel: Any, window: Window, groups: int, data_format: str) -> Any:
    rank, first = inputs.ndim - 2, data_format == "channels_first"

    def on_cpu(x: Any, kernel: Any) -> Any:
        out = cpu.convolve(jnp.moveaxis(x, 1, -1) if first else x, kernel, window, groups)
        return jnp.moveaxis(out, -1, 1) if first else out

    def elsewhere(x: Any, kernel: Any) -> Any:
        specs = layout(rank, "NC*", "*IO", "NC*") if first else layout(rank, "N*C", "*IO", "N*C")
        return lax.conv_general_dilated(x, kernel, *window, specs, feature_group_count=groups)

    if isinstance(window.pads, str):
        return elsewhere(inputs, kernel)
    return by_platform(inputs, kernel, cpu=on_cpu, default=elsewhere)


@op
def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """The convolution of a batch of signals, images or volumes with a kernel (really a correlation).

    Args:
        inputs: a batch; its channels are a multiple of the kernel's (a multiple above 1 makes groups).
        kernel: (*sizes, input channels of a group, output channels).
        strides: the step of the window, one or one for each axis.
        padding: `"valid"` (windows inside the input only) or `"same"` (zeros around it).
        data_format: where the channels are; the default one if not given.
        dilation_rate: the distance of the kernel's points.
    """
    inputs, kernel, data_format, channels = _operands("conv", inputs, kernel, data_format)
    if channels % kernel.shape[-2]:
        raise ValueError(f"conv: {channels} input channels must be a multiple of the kernel's {kernel.shape[-2]}.")
    window = window_of("conv", inputs, kernel, strides, padding, data_format, dilation_rate)
    return _convolve(inputs, kernel, window, channels // kernel.shape[-2], data_format)


@op
def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """The convolution of each channel with kernels of its own: (*sizes, channels, multiplier)."""
    inputs, kernel, data_format, channels = _operands("depthwise_conv", inputs, kernel, data_format)
    if channels != kernel.shape[-2]:
        raise ValueError(f"depthwise_conv: {channels} input channels must be the kernel's, got {kernel.shape[-2]}.")
    window = window_of("depthwise_conv", inputs, kernel, strides, padding, data_format, dilation_rate)
    kernel = kernel.reshape(*kernel.shape[:-2], 1, channels * kernel.shape[-1])
    return _convolve(inputs, kernel, window, channels, data_format)


@op
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """A depthwise convolution, then one of size 1 that mixes the channels."""
    mixed = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(mixed, pointwise_kernel, data_format=data_format)


@op
def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """The transpose of a convolution: the gradient of one by its inputs. Kernels are (*sizes, outputs, inputs)."""
    inputs, kernel, data_format, channels = _operands("conv_transpose", inputs, kernel, data_format)
    rank = inputs.ndim - 2
    rule = f"{channels} input channels must be the kernel's last size"
    checks.require(channels == kernel.shape[-1], "conv_transpose", rule, kernel.shape[-1])
    strides = each(strides, rank, "conv_transpose: strides")
    dilation = each(dilation_rate, rank, "conv_transpose: dilation_rate")
    extra = (None,) * rank if output_padding is None else each(output_padding, rank, "conv_transpose: output_padding")
    same = padding_name(padding, "conv_transpose") == "SAME"
    pads = [_transposed_padding(*args, same) for args in zip(kernel.shape, strides, dilation, extra)]
    window = Window((1,) * rank, tuple(pads), strides, dilation)
    kernel = jnp.flip(kernel, range(rank)).swapaxes(-1, -2)
    return _convolve(inputs, kernel, window, 1, data_format)


def _transposed_padding(size: int, stride: int, dilation: int, extra: int | None, same: bool) -> tuple[int, int]:
    """The zeros before and after an axis of n, so that it becomes as long as the convolution's input can have been.

    That is n stride for "same" and (n - 1) stride + max(window, stride) for "valid"; `extra`, where given, is added
    to (n - 1) stride + window ("valid") or (n - 1) stride + window % 2 ("same") instead.
    """
    window = (size - 1) * dilation + 1
    if not same:
        return window - 1, window - 1 + (max(stride - window, 0) if extra is None else extra)
    total = stride + window - 2 if extra is None else window + window % 2 - 2 + extra
    before = min((total + 1) // 2, window - 1)
    return before, total - before


# Pooling.


def _pool_arguments(
    who: str, inputs: Any, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> tuple:
    """(array, window, step, pads) with a size, a step and the edges for every axis."""
    inputs = jnp.asarray(inputs)
    rank = inputs.ndim - 2
    data_format = standardize_data_format(data_format, who)
    sizes = each(pool_size, rank, f"{who}: pool_size")
    steps = sizes if strides is None else each(strides, rank, f"{who}: strides")
    last = data_format == "channels_last"
    window, step = ((1, *v, 1) if last else (1, 1, *v) for v in (sizes, steps))
    padding = padding_name(padding, who)
    small = [(d, w) for d, w in zip(inputs.shape, window) if w > 1 and isinstance(d, int) and d < w]
    if small and padding == "VALID":
        raise ValueError(f"{who}: pool_size must be at most the input's size {small[0][0]}, got {small[0][1]}.")
    return inputs, window, step, tuple(lax.padtype_to_pads(inputs.shape, window, step, padding))


@op
def max_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Any:
    """The maximum of each window.

    Args:
        inputs: a batch of signals, images or volumes.
        pool_size: the window's size, one or one for each axis.
        strides: the window's step, `pool_size` if not given.
        padding: `"valid"` (windows inside the input only) or `"same"` (windows that reach out of it too).
        data_format: where the channels are; the default one if not given.
    """
    return pooling.windows(*_pool_arguments("max_pool", inputs, pool_size, strides, padding, data_format), lax.max)


@op
def average_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Any:
    """The mean of each window, of its part inside the input where it reaches out. Arguments as for `max_pool`."""
    return pooling.means(*_pool_arguments("average_pool", inputs, pool_size, strides, padding, data_format))


@op
def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """The means of as many windows, nearly equal, as the output is to have places."""
    inputs = jnp.asarray(inputs)
    means = pooling.adaptive(_wide(inputs), output_size, data_format, jnp.add)
    return means.astype(dtypes.floating(inputs.dtype))


@op
def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """The maxima of as many windows, nearly equal, as the output is to have places."""
    return pooling.adaptive(jnp.asarray(inputs), output_size, data_format, jnp.maximum)


# Blocks of images.


@op
def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows of images (batch, channels, height, width) as columns: (batch, channels * window, places)."""
    x = jnp.asarray(x)
    pads = [(p, p) for p in each(padding, 2, "unfold: padding")]
    patches = lax.conv_general_dilated_patches(
        x,
        each(kernel_size, 2, "unfold: kernel_size"),
        each(stride, 2, "unfold: stride"),
        pads,
        rhs_dilation=each(dilation, 2, "unfold: dilation"),
    )
    return patches.reshape(*patches.shape[:2], -1)


@op
def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The images whose `unfold` has the shape of `x`, where each place is the sum of what came from it."""
    x = jnp.asarray(x)
    channels = x.shape[1] // count(each(kernel_size, 2, "fold: kernel_size"))
    columns = fractions(x)  # integers have no gradients, which this is one of
    image = jax.ShapeDtypeStruct((x.shape[0], channels, *each(output_size, 2, "fold: output_size")), columns.dtype)
    transposed = jax.linear_transpose(lambda images: unfold(images, kernel_size, dilation, padding, stride), image)
    return transposed(columns)[0].astype(x.dtype)


@op
def depth_to_space(x: Any, block_size: int, data_format: str | None = "channels_last") -> Any:
    """Groups of block_size^2 channels become blocks of that many places: channels / b^2, height b, width b."""
    x, b = jnp.asarray(x), checks.integer("depth_to_space", "block_size", block_size, 2)
    if standardize_data_format(data_format) == "channels_last":
        n, h, w, c = x.shape
        return x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, c // b**2)
    n, c, h, w = x.shape
    return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


@op
def space_to_depth(x: Any, block_size: int, data_format: str | None = "channels_last") -> Any:
    """Blocks of block_size^2 places become that many groups of channels: channels b^2, height / b, width / b."""
    x, b = jnp.asarray(x), checks.integer("space_to_depth", "block_size", block_size, 2)
    if standardize_data_format(data_format) == "channels_last":
        n, h, w, c = x.shape
        return x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, c * b**2)
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * b**2, h // b, w // b)


# Encodings.


@op
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    """A new axis that has 1 at the place that the integer says, else 0."""
    if sparse:
        return hot_entries(jnp.asarray(x), num_classes, axis, jnp.ones((), dtypes.standardize_dtype(dtype)))
    return jnn.one_hot(operand(x), num_classes, axis=axis, dtype=dtypes.standardize_dtype(dtype))


@op
def multi_hot(
    inputs: Any, num_classes: int | None = None, axis: int = -1, dtype: Any = None, sparse: bool = False, **kwargs: Any
) -> Any:
    """1 at the places that any of the integers along the second axis (or the only one) says, else 0."""
    num_classes = kwargs.pop("num_tokens", None) if num_classes is None else num_classes
    if num_classes is None or kwargs:
        raise ValueError(f"multi_hot: num_classes must be given, got {num_classes} and {sorted(kwargs)}.")
    x = jnp.asarray(inputs).astype("int32")
    hot, over = one_hot(x, num_classes, axis, "int32" if sparse else dtype, sparse), 1 if x.ndim > 1 else 0
    if not sparse:
        return hot.max(over)
    return sparse_call("sign", jnp.sign, (hot.sum(over),), {}).astype(dtypes.standardize_dtype(dtype))


@op
def polar(abs_: Any, angle: Any) -> Any:
    """abs_ (cos(angle) + i sin(angle))."""
    abs_, angle = jnp.asarray(abs_), jnp.asarray(angle)
    return lax.complex(abs_ * jnp.cos(angle), abs_ * jnp.sin(angle))


# Normalization.


def _wide(x: Any) -> Any:
    """`x` in at least 32 bits, for sums of squares."""
    return x.astype(dtypes.wide(x.dtype))


@op
def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple[Any, Any]:
    """The mean and variance over axes, computed in 32 bits at least."""
    if synchronized:
        raise NotImplementedError("moments: synchronized must be False; under jax.jit the whole batch is one array.")
    x = jnp.asarray(x)
    axis = tuple(axes) if isinstance(axes, (list, tuple)) else axes
    pair = (reduce(_wide(x), axis=axis, keepdims=keepdims) for reduce in (jnp.mean, jnp.var))
    if x.dtype in (jnp.float16, jnp.bfloat16):
        end = float(jnp.finfo(jnp.float16).max)
        pair = (jnp.clip(value, -end, end).astype(x.dtype) for value in pair)
    mean, variance = pair
    return mean, variance


@op(elementwise=True)
@functools.partial(jax.jit, static_argnames="axis", inline=True)
def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Any:
    """scale (x - mean) / sqrt(variance + epsilon) + offset, all but `x` along one axis."""
    x = jnp.asarray(x)

    def along(v: Any) -> Any:
        return jnp.expand_dims(jnp.asarray(v), [i for i in range(x.ndim) if i != axis % x.ndim])

    # As one multiplication and one addition of the size of `x`.
    factor = lax.rsqrt(along(variance) + epsilon)
    factor = factor if scale is None else factor * along(scale)
    shift = -along(mean) * factor
    return x * factor + (shift if offset is None else shift + along(offset))


@op(elementwise=True)
def layer_normalization(
    x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float | None = None, **kwargs: Any
) -> Any:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, over axes, computed in 32 bits at least."""
    rms_scaling = kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(f"layer_normalization: must not be given unknown arguments, got {', '.join(kwargs)}.")
    x = jnp.asarray(x)
    epsilon = float(dtypes.epsilon() if epsilon is None else epsilon)
    axis = sorted(a % x.ndim for a in (axis if isinstance(axis, (list, tuple)) else [axis]))
    return _layer_normalized(x, gamma, beta, tuple(axis), epsilon, rms_scaling)


@functools.partial(jax.jit, static_argnums=(3, 4, 5), inline=True)
def _layer_normalized(x: Any, gamma: Any, beta: Any, axis: tuple[int, ...], epsilon: float, rms_scaling: bool) -> Any:
    wide = _wide(x)

    def along(v: Any) -> Any:
        v = jnp.asarray(v, wide.dtype)
        if v.ndim == x.ndim or axis == (x.ndim - 1,):
            return v
        return v.reshape([d if i in axis else 1 for i, d in enumerate(x.shape)])

    if rms_scaling:  # an older mistake of Keras that its files may ask for: divided, not centred
        factor = lax.rsqrt(wide.var(axis, keepdims=True) + epsilon)
        return (wide * (factor if gamma is None else factor * along(gamma))).astype(x.dtype)
    out = cpu.standardize(wide, axis, epsilon)
    out = out if gamma is None else out * along(gamma)
    return (out if beta is None else out + along(beta)).astype(x.dtype)


@op(elementwise=True)
def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None) -> Any:
    """scale x / sqrt(mean(x^2) + epsilon), over axes, computed in 32 bits at least."""
    x = jnp.asarray(x)
    wide = _wide(jnp.atleast_1d(x))
    epsilon = dtypes.epsilon() if epsilon is None else epsilon
    square = jnp.mean(jnp.square(wide), axis=axes(axis), keepdims=True)
    normal = wide * lax.rsqrt(square + epsilon)
    return (normal if scale is None else normal * jnp.asarray(scale, wide.dtype)).astype(x.dtype)


@op(elementwise=True)
def normalize(x: Any, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """x / max(|x|, epsilon) with the norm of an order over axes."""
    checks.integer("normalize", "order", order)
    x = jnp.atleast_1d(jnp.asarray(x))
    wide = _wide(x)
    epsilon = dtypes.epsilon() if epsilon is None else epsilon
    if order == 2:
        square = jnp.sum(jnp.square(wide), axis=axes(axis), keepdims=True)
        normal = wide * jnp.minimum(lax.rsqrt(square), 1 / epsilon)
    else:
        normal = wide / jnp.maximum(jnp.linalg.norm(wide, ord=order, axis=axes(axis), keepdims=True), epsilon)
    return normal.astype(dtypes.floating(x.dtype))


# Attention.


@op
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Any:
    """softmax(scale query key^T + bias) value, for each head.

    Args:
        query: (batch, time, heads, dim).
        key: (batch, source time, heads or a divisor of them, dim).
        value: (batch, source time, as many heads as `key`, dim).
        bias: added to the logits; broadcasts to (batch, heads, time, source time).
        mask: where attention may go; broadcasts likewise.
        scale: 1 / sqrt(dim) if not given.
        is_causal: whether a place sees only itself and those before it.
        flash_attention: whether GPUs use cuDNN's kernel, which wants 16 bits; CPUs have none. If not given, as
            `config.disable_flash_attention` says, or else as XLA likes.
        attn_logits_soft_cap: c in logits / (1 + |logits| / c).
    """
    query, key, value = (jnp.asarray(x) for x in (query, key, value))
    if not query.ndim == key.ndim == value.ndim == 4:
        raise ValueError(
            "dot_product_attention: query, key and value must be (batch, time, heads, dim), "
            f"got {query.shape}, {key.shape} and {value.shape}."
        )
    flash_attention = is_flash_attention_enabled() if flash_attention is None else flash_attention
    dtype = jnp.result_type(query, key, value)
    batch = jnp.broadcast_shapes(query.shape[:1], key.shape[:1], value.shape[:1])
    query, key, value = (jnp.broadcast_to(x, (*batch, *x.shape[1:])).astype(dtype) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    mask = None if mask is None else jnp.asarray(mask, bool)
    bias, mask = (a if a is None else jnp.expand_dims(a, range(4 - jnp.ndim(a))) for a in (bias, mask))
    return _attend(query, key, value, bias, mask, scale, is_causal, flash_attention, attn_logits_soft_cap)


@functools.partial(jax.jit, static_argnums=(6, 7, 8))
def _attend(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: Any,
    is_causal: bool, flash_attention: bool | None, soft_cap: float | None,
) -> Any:  # fmt: skip
    arrays = (query, key, value, bias, mask, scale)
    plain = functools.partial(attention.attention, is_causal=is_causal, soft_cap=soft_cap)
    kernel = "cudnn" if flash_attention and jax.default_backend() != "cpu" else None

    def elsewhere(query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: Any) -> Any:
        return jnn.dot_product_attention(
            query, key, value, bias, mask, scale=scale, is_causal=is_causal, implementation=kernel
        )

    if soft_cap is not None or key.shape != value.shape:  # which JAX's form does not take
        return plain(*arrays)
    return elsewhere(*arrays) if kernel else by_platform(*arrays, cpu=plain, default=elsewhere)


@op
def psnr(x1: Any, x2: Any, max_val: float) -> Any:
    """The ratio of peak signal to noise in decibels: 20 log10(max_val) - 10 log10(mean((x1 - x2)^2))."""
    x1, x2 = fractions(x1), fractions(x2)
    checks.require(x1.shape == x2.shape, "psnr", "x1 and x2 must have one shape", got=f"{x1.shape} and {x2.shape}")
    return 20 * jnp.log10(jnp.asarray(max_val, x2.dtype)) - 10 * jnp.log10(jnp.mean(jnp.square(x1 - x2)))
