"""Convolution, normalization and matrix products, written so that XLA's CPU backend runs them fast.

The results are those of the plain forms. What makes the difference (measured with jax 0.10.2):

- In the body of a loop, where training runs, a convolution is fast only if its operands lie as (batch, *places,
  channels) and (*sizes, inputs, outputs). Those that JAX derives as gradients do not, and take 5 to 100 times as long.
- The gradient by the kernel of a convolution with strides is twice as fast as a matrix product for each tap.
- A matrix product that sums over several axes, such as the gradient by the kernel of `x @ kernel` for x with a time
  axis, takes 3 to 5 times as long as the same one on two axes; and one with fewer columns than rows up to 3 times as
  long as its transpose.
- What the gradient of a normalization needs is stored, or it is computed again from arrays of its size for the mean and
  the variance: 2 to 3 times as long.
- Short convolutions of middling channels are products of lines, gradients of lines or points: up to twice as fast.
- A convolution of volumes, for which there is no fast form, is one of their slices: 3 to 90 times as fast.
- A convolution of few channels to few others, as the first of images is, takes a half to a tenth of its time value by
  value, in one operation; one to a single channel as a product, of which what each point sees is added up.
- Without gradients XLA's own form, one operation of several layers, is the fastest but for kernels of one point.
- A convolution of each channel by itself is 50 times as fast as products element by element, one for each tap.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from lamina.core.runtime import by_platform
from lamina.ops.windows import Window, layout

# More taps or groups than these make programs long, and the general form is used.
_MOST_TAPS, _MOST_GROUPS = 49, 64
# The number of axes of a batch of volumes, for which XLA has no fast form.
_VOLUMES = 5
# Kernels of up to so many points along each axis, and for up to so many channels, are products of matrices.
_SHORT, _FEW_CHANNELS = 3, 256
# Up to so many values in a window, copying the windows out pays.
_SMALL_WINDOW = 25
# Up to so many values in a window, outputs of it, and products for them, all is one operation.
_MOST_VALUES, _FEW_OUTPUTS, _MOST_PRODUCTS = 72, 32, 27 * 32
# Longer windows along one axis that go so many steps are computed piece by piece.
_MOST_STEPS = 8

Product = Callable[[Any, Any, Any], Any]


def convolve(x: Any, kernel: Any, window: Window, groups: int) -> Any:
    """The convolution of (batch, *places, channels) with (*sizes, channels of a group, outputs)."""
    sizes, plain = kernel.shape[:-2], not any(d > 1 for d in window.spread)
    if plain and groups == x.shape[-1] > 1 and np.prod(sizes) <= _MOST_TAPS:
        return _each_channel(x, kernel, window)
    if 1 < groups <= _MOST_GROUPS:
        parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1))
        return jnp.concatenate([convolve(*part, window, 1) for part in parts], axis=-1)
    if groups > 1:
        specs = layout(len(sizes), "N*C", "*IO", "N*C")
        return lax.conv_general_dilated(x, kernel, *window, specs, feature_group_count=groups)
    if plain and set(sizes) <= {1} and all(pad == (0, 0) for pad in window.pads):
        return (_point_by_point if max(window.strides) == 1 else _of_some_points)(x, kernel, window)
    return _convolve(x, kernel, window)


def _with_gradients(
    product: Product, by_inputs: Product, by_kernel: Product, beside_gradients: Product | None = None
) -> Product:
    """`product`, linear in inputs and kernel, of which the others are forms whose transposes (the gradients by the
    inputs and by the kernel) are what the backend runs fast; one may be for where there are gradients."""
    fast = jax.custom_jvp(product, nondiff_argnums=(2,))

    def change(window: Any, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        (x, kernel), (dx, dkernel) = primals, tangents
        out, parts = (beside_gradients or fast)(x, kernel, window), []
        if not isinstance(dx, SymbolicZero):
            parts.append(by_inputs(dx, kernel, window))
        if not isinstance(dkernel, SymbolicZero):
            parts.append(by_kernel(x, dkernel, window))
        return out, functools.reduce(operator.add, parts) if parts else jnp.zeros_like(out)

    fast.defjvp(change, symbolic_zeros=True)
    return fast


def _short(kernel: Any, window: Window) -> bool:
    """Whether a kernel, moved by single steps over images or volumes, has few points along each axis; products of
    16 bits are not added up, which would round each sum."""
    steps = max(window.strides + window.spread)
    return kernel.ndim > 3 and max(kernel.shape[:-2]) <= _SHORT and steps == 1 and kernel.dtype.itemsize >= 4


def _plain(x: Any, kernel: Any, window: Window) -> Any:
    """The convolution where nothing is stored for gradients, and XLA makes one operation of several layers."""
    return _as_of_images(_general, x, kernel, window)


def _trained(x: Any, kernel: Any, window: Window) -> Any:
    """The convolution beside gradients. Of middling channels products are thick enough, and faster than XLA's form."""
    inputs, outputs = kernel.shape[-2:]
    if 32 <= inputs <= 128 and outputs >= 32 and _short(kernel, window):
        return _lines(x, kernel, window)
    return _as_of_images(_of_few_channels, x, kernel, window)


def _as_of_images(product: Product, x: Any, kernel: Any, window: Window) -> Any:
    """A convolution by products that know no volumes, and nothing between inputs."""
    if max(window.spread) == 1 and x.ndim < _VOLUMES:
        return product(x, kernel, window)
    apart = _by_phases if max(window.spread) > 1 else _by_slices
    return apart(functools.partial(_as_of_images, product), x, kernel, window)


def _general(x: Any, kernel: Any, window: Window) -> Any:
    return lax.conv_general_dilated(x, kernel, *window, layout(x.ndim - 2, "N*C", "*IO", "N*C"))


def _of_few_channels(x: Any, kernel: Any, window: Window) -> Any:
    if _is_small(kernel, window):
        return _value_by_value(x, kernel, window)
    return (_from_points if _has_one_output(kernel, window) else _general)(x, kernel, window)


def _is_small(kernel: Any, window: Window) -> bool:
    """Whether a window has few values, and is seen for few outputs."""
    values, outputs = math.prod(kernel.shape[:-1]), kernel.shape[-1]
    few = values <= _MOST_VALUES and outputs <= _FEW_OUTPUTS and values * outputs <= _MOST_PRODUCTS
    return few and _adds_up(kernel, window)


def _adds_up(kernel: Any, window: Window) -> bool:
    """Whether a sum over the points of a kernel is right: products of 16 bits would be rounded, and windows must reach
    no further than the inputs and the kernel."""
    reach = [(n - 1) * d for n, d in zip(kernel.shape, window.dilation)]
    inside = all(0 <= p <= r for pads, r in zip(window.pads, reach) for p in pads)
    return inside and max(window.spread) == 1 and kernel.dtype.itemsize >= 4


def _value_by_value(x: Any, kernel: Any, window: Window) -> Any:
    """For each value in the window a product with all of its weights, and the sum of them."""
    values = (v for part in seen(x, kernel.shape[:-2], window) for v in jnp.split(part, part.shape[-1], axis=-1))
    return functools.reduce(operator.add, map(operator.mul, values, kernel.reshape(-1, kernel.shape[-1])))


def _has_one_output(kernel: Any, window: Window) -> bool:
    few = kernel.shape[-1] == 1 and math.prod(kernel.shape[:-2]) <= _SMALL_WINDOW
    return few and max(window.strides) == 1 and _adds_up(kernel, window)


def _from_points(x: Any, kernel: Any, window: Window) -> Any:
    """What all points of the kernel make of each place, in one product, and the sum of what meets at an output."""
    made = flat_matmul(x, kernel.reshape(-1, kernel.shape[-2]).T)
    outputs = (part[..., i : i + 1] for i, part in enumerate(seen(made, kernel.shape[:-2], window)))
    return functools.reduce(operator.add, outputs)


def _has_chunks(kernel: Any, window: Window) -> bool:
    """Whether a long kernel moves along one axis by steps that are not much shorter; 16 bits are not added up."""
    plain = max(window.spread + window.dilation) == 1 and kernel.dtype.itemsize >= 4
    return plain and kernel.ndim == 3 and _SMALL_WINDOW < len(kernel) <= _MOST_STEPS * window.strides[0]


def _by_chunks(x: Any, kernel: Any, window: Window) -> Any:
    """A convolution along one axis: the inputs cut up at each step, and as many pieces side by side as the kernel sees
    times one matrix. Its transpose adds pieces where XLA's own writes values one by one."""
    (step, *_), ((low, _), *_), (frames, *_) = window.strides, window.pads, window.outputs(x, kernel.shape[:1])
    count = -(-len(kernel) // step)
    length = (frames + count - 1) * step
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (low, length - low - x.shape[1], 0), (0, 0, 0)])
    pieces = x.reshape(len(x), -1, step * x.shape[-1])
    kernel = jnp.pad(kernel, [(0, count * step - len(kernel)), (0, 0), (0, 0)])
    seen_at_once = jnp.concatenate([pieces[:, i : i + frames] for i in range(count)], axis=-1)
    return flat_matmul(seen_at_once, kernel.reshape(-1, kernel.shape[-1]))


def _by_inputs(x: Any, kernel: Any, window: Window) -> Any:
    """The convolution once more, for the sake of its transpose, which exchanges the letters I and O."""
    if _has_chunks(kernel, window):
        return _by_chunks(x, kernel, window)
    if _is_small(kernel.swapaxes(-1, -2), window):
        return _put_in_place(x, kernel, window, _to_few)
    if 64 <= kernel.shape[-1] <= _FEW_CHANNELS and _short(kernel, window):
        return _point_by_point(x, kernel, window)
    if x.ndim == _VOLUMES:
        return (_by_phases if max(window.spread) > 1 else _by_slices)(_by_inputs, x, kernel, window)
    specs = layout(x.ndim - 2, "N*C", "*OI", "N*C")
    return lax.conv_general_dilated(x, kernel.swapaxes(-1, -2), *window, specs)


def _point_by_point(x: Any, kernel: Any, window: Window) -> Any:
    """For each point of the kernel a product, and the sum of them."""
    matrices = kernel.reshape(-1, *kernel.shape[-2:])
    return functools.reduce(operator.add, map(flat_matmul, seen(x, kernel.shape[:-2], window), matrices))


def _by_kernel(x: Any, kernel: Any, window: Window) -> Any:
    """The convolution once more, for the sake of its transpose by the kernel."""
    rank, sizes = x.ndim - 2, kernel.shape[:-2]
    if _has_chunks(kernel, window):
        return _by_chunks(x, kernel, window)
    if any(d > 1 for d in window.spread):
        return _tap_by_tap(x, kernel, window)
    if _has_one_output(kernel, window):
        return _from_points(x, kernel, window)
    if np.prod(kernel.shape[:-1]) <= _SMALL_WINDOW:
        windows = jnp.concatenate(list(seen(x, sizes, window)), axis=-1)
        return flat_matmul(windows, kernel.reshape(-1, kernel.shape[-1]))
    grows = any(m > n for m, n in zip(window.outputs(x, sizes), x.shape[1:-1]))
    if max(window.strides) > 1 or grows:  # a product for each tap; a kernel beyond its inputs is slow
        return _point_by_point(x, kernel, window)
    if x.shape[-1] <= _FEW_CHANNELS and _short(kernel, window):
        return lax.optimization_barrier(_lines(x, kernel, window))  # the gradient is computed once, not in each copy
    if x.ndim == _VOLUMES:
        return _by_slices(_by_kernel, x, kernel, window)
    # The transpose takes the channels for a batch, the batch for channels, and the cotangent for the kernel.
    turned = lax.conv_general_dilated(
        x.transpose(rank + 1, *range(1, rank + 1), 0),
        kernel.transpose(rank, *range(rank), rank + 1),
        *window,
        layout(rank, "C*N", "I*O", "*NC"),
    )
    return jnp.moveaxis(turned, rank, 0)


def _by_phases(product: Product, x: Any, kernel: Any, window: Window) -> Any:
    """A transposed convolution (its strides are 1): between two inputs lie so many outputs along each axis, and each
    kind of them is a convolution with the points of the kernel that meet inputs there."""
    outs = window.outputs(x, kernel.shape[:-2])
    rows, parts = [-(-n // step) for n, step in zip(outs, window.spread)], []
    for offsets in itertools.product(*map(range, window.spread)):
        part, pads, dilation = kernel, [], []
        for axis, (offset, count, _, (low, _), step, distance) in enumerate(zip(offsets, rows, *window)):
            size, shared = part.shape[axis], math.gcd(step, distance)
            meeting = (point for point in range(step // shared) if not (offset + point * distance - low) % step)
            first = min(next(meeting, size), size)
            part = lax.slice_in_dim(part, first, size, step // shared, axis)
            before = (low - offset - first * distance) // step
            reach = (part.shape[axis] - 1) * (distance // shared)
            pads.append((before, count + reach - before - x.shape[axis + 1]))
            dilation.append(distance // shared)
        single = Window(window.strides, tuple(pads), window.strides, tuple(dilation))
        shape = (len(x), *rows, kernel.shape[-1])
        parts.append(product(x, part, single) if part.size else jnp.zeros(shape, x.dtype))
    whole, rank = jnp.stack(parts).reshape(*window.spread, len(x), *rows, kernel.shape[-1]), len(rows)
    order = [rank, *(axis for i in range(rank) for axis in (rank + 1 + i, i)), 2 * rank + 1]
    whole = whole.transpose(order).reshape(len(x), *map(operator.mul, rows, window.spread), kernel.shape[-1])
    return lax.slice(whole, [0] * x.ndim, (len(x), *outs, kernel.shape[-1]))


def _by_slices(product: Product, x: Any, kernel: Any, window: Window) -> Any:
    """A convolution of volumes as one of their slices, each with the channels of all that the kernel sees of it."""
    (stride, *_), ((low, _), *_), _, (distance, *_) = window
    inner, (count, *_) = Window(*(each[1:] for each in window)), window.outputs(x, kernel.shape[:-2])
    dtype, slices = x.dtype, []
    x, kernel = (a.astype(jnp.promote_types(dtype, jnp.float32)) for a in (x, kernel))  # gradients add slices up
    for point in range(len(kernel)):
        first = point * distance - low
        edges = (-first, first + (count - 1) * stride + 1 - x.shape[1], 0)
        padded = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), edges, *[(0, 0, 0)] * (x.ndim - 2)])
        slices.append(padded[:, ::stride].reshape(-1, *x.shape[2:]))
    part = product(jnp.concatenate(slices, axis=-1), jnp.concatenate(list(kernel), axis=-2), inner)
    return part.reshape(len(x), count, *part.shape[1:]).astype(dtype)


_convolve = _with_gradients(_plain, _by_inputs, _by_kernel, _with_gradients(_trained, _by_inputs, _by_kernel))
_of_some_points = _with_gradients(_plain, _point_by_point, _point_by_point, _point_by_point)


def _dot(x: Any, kernel: Any, _: None = None) -> Any:
    return jnp.matmul(x, kernel)


def _dot_by_kernel(x: Any, kernel: Any, _: None = None) -> Any:
    """The product once more, for the sake of its transpose by the kernel: a product of few columns is slow on CPUs."""
    if kernel.shape[0] < 2 * kernel.shape[1]:
        return _dot(x, kernel)
    turned = by_platform(kernel, cpu=lambda k: lax.optimization_barrier(k.T), default=jnp.transpose)
    return _dot(x, turned.T)


_product = _with_gradients(_dot, _dot, _dot_by_kernel)


@functools.partial(jax.jit, static_argnums=2, inline=True)
def flat_matmul(x: Any, kernel: Any, axes: int = 1) -> Any:
    """The sum over the last axes of `x` and the first ones of `kernel`, as a product of two matrices."""
    cut = x.ndim - axes
    rows = x.reshape(math.prod(x.shape[:cut]), math.prod(x.shape[cut:]))
    columns = kernel.reshape(math.prod(kernel.shape[:axes]), math.prod(kernel.shape[axes:]))
    return _product(rows, columns, None).reshape(*x.shape[:cut], *kernel.shape[axes:])


def summed_axes(equation: str, *arrays: Any) -> int:
    """How many axes an einsum sums over, if it is the last ones of an array and the first ones of a kernel; else 0."""
    left, arrow, out = equation.replace(" ", "").replace("...", ".").partition("->")
    x, comma, kernel = left.partition(",")
    if not arrow or not comma or len(arrays) != 2 or "." in kernel or len(kernel) != arrays[1].ndim:
        return 0
    for count in range(1, min(len(x), len(kernel)) + 1):
        letters = x[:-count] + kernel
        if x.endswith(kernel[:count]) and x[:-count] + kernel[count:] == out and len(set(letters)) == len(letters):
            fits = "." in x or len(x) == arrays[0].ndim
            return count if fits and arrays[0].shape[-count:] == arrays[1].shape[:count] else 0
    return 0


def seen(x: Any, sizes: Sequence[int], window: Window) -> Iterator[Any]:
    """What each point of the kernel sees: for every place of the window one value of each channel."""
    counts = (x.shape[0], *window.outputs(x, sizes), x.shape[-1])
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    return _taps(x, (1, *sizes, 1), (1, *window.strides, 1), (1, *window.dilation, 1), counts)


def _taps(x: Any, sizes: Sequence, strides: Sequence, dilation: Sequence, counts: Sequence) -> Iterator[Any]:
    """Point by point of a window, what it sees when the window is at each of `counts` places."""
    for point in itertools.product(*map(range, sizes)):
        starts = [p * d for p, d in zip(point, dilation)]
        ends = [a + (n - 1) * s + 1 for a, n, s in zip(starts, counts, strides)]
        yield lax.slice(x, starts, ends, strides)


def _lines(x: Any, kernel: Any, window: Window) -> Any:
    """A convolution with strides 1: what the kernel's points along the last axis see times all of the kernel, shifted
    along the other axes and added. Its transpose by the kernel is one product of both sides copied so often."""
    (*lead, last), outs = kernel.shape[:-2], window.outputs(x, kernel.shape[:-2])
    x = jnp.concatenate(list(seen(x, (*(1 for _ in lead), last), window)), axis=-1)
    points = list(itertools.product(*map(range, lead)))
    matrix = kernel.reshape(len(points), -1, kernel.shape[-1]).swapaxes(0, 1)  # (line and inputs, lines, outputs)
    lines = jnp.split(flat_matmul(x, matrix.reshape(x.shape[-1], -1)), len(points), axis=-1)
    parts = []
    for point, line in zip(points, lines):
        first = [p * d for p, d in zip(point, window.dilation)]
        ends = [a + n for a, n in zip(first, outs)]
        parts.append(lax.slice(line, (0, *first, 0, 0), (line.shape[0], *ends, *line.shape[-2:])))
    return functools.reduce(operator.add, parts)


def _each_channel(x: Any, kernel: Any, window: Window) -> Any:
    """A convolution of each channel by itself, of 16-bit values too summed in 32 bits."""
    dtype, outputs = x.dtype, kernel.shape[-1]
    if outputs > x.shape[-1]:  # each channel as often as there are kernels for it
        copies = jnp.stack([x] * (outputs // x.shape[-1]), axis=-1)
        x = lax.optimization_barrier(copies.reshape(*x.shape[:-1], outputs))
    wide = dtype if jnp.issubdtype(dtype, jnp.integer) else jnp.promote_types(dtype, jnp.float32)
    weights = kernel.reshape(*kernel.shape[:-2], outputs)
    return _by_channel(x.astype(wide), weights.astype(wide), window).astype(dtype)


def _all_at_once(x: Any, weights: Any, window: Window) -> Any:
    """For each point of the kernel a product element by element, and the sum of them."""
    sizes, channels = weights.shape[:-1], weights.shape[-1]
    return functools.reduce(operator.add, map(operator.mul, seen(x, sizes, window), weights.reshape(-1, channels)))


def _to_few(x: Any, weights: Any) -> Any:
    """A product to few outputs, so that its transpose by x is products element by element."""
    return jnp.stack([(x * w).sum(-1) for w in weights.T], axis=-1)


def _put_in_place(x: Any, weights: Any, window: Window, times: Callable[[Any, Any], Any] = operator.mul) -> Any:
    """The same, for the sake of its transpose by x: that is products again, of the gradient padded once."""
    sizes, channels = weights.shape[: len(window.strides)], weights.shape[-1]
    reach = [(n - 1) * d for n, d in zip(sizes, window.dilation)]
    parts = []
    for point, w in zip(itertools.product(*map(range, sizes)), weights.reshape(-1, *weights.shape[len(sizes) :])):
        edges = [(r - p * d, p * d, 0) for p, r, d in zip(point, reach, window.dilation)]
        parts.append(lax.pad(times(x, w), np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)]))
    starts = [r - low for r, (low, _) in zip(reach, window.pads)]  # no padding is wider than the kernel reaches
    ends = [a + (n - 1) * s + 1 for a, n, s in zip(starts, window.outputs(x, sizes), window.strides)]
    whole = lax.optimization_barrier(functools.reduce(operator.add, parts))  # the gradient is padded once, not in each
    return lax.slice(whole, (0, *starts, 0), (x.shape[0], *ends, channels), (1, *window.strides, 1))


def _row_by_row(x: Any, weights: Any, window: Window) -> Any:
    """The same in a loop over the first spatial axis, for the sake of its transpose by the weights.

    That adds products of the size of a row, element by element, and sums over samples and along rows at the end: such
    sums of everything take ten times as long. Some rows a step save passes through memory.
    """
    sizes, channels = weights.shape[:-1], weights.shape[-1]
    rows, *rest = window.outputs(x, sizes)
    if rows == 1:
        return _all_at_once(x, weights, window)
    step = next(n for n in (4, 3, 2, 1) if rows % n == 0)
    counts = (x.shape[0], *rest, channels)
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    spread = [jnp.broadcast_to(w, counts) for w in weights.reshape(-1, channels)]
    inner = [(1, *each, 1) for each in (sizes[1:], window.strides[1:], window.dilation[1:])]

    def row(at: Any) -> Any:
        starts = (at * window.strides[0] + point * window.dilation[0] for point in range(sizes[0]))
        lines = (lax.dynamic_index_in_dim(x, start, 1, keepdims=False) for start in starts)
        taps = itertools.chain.from_iterable(_taps(line, *inner, counts=counts) for line in lines)
        return functools.reduce(operator.add, map(operator.mul, taps, spread))

    @functools.partial(jax.checkpoint, prevent_cse=False)  # or the transpose would store what each step sees
    def some(_: None, first: Any) -> tuple[None, Any]:
        return None, [row(first + i) for i in range(step)]

    _, out = lax.scan(some, None, jnp.arange(0, rows, step))
    return jnp.stack(out, 1).reshape(rows, *counts).swapaxes(0, 1)


_by_channel = _with_gradients(_all_at_once, _put_in_place, _row_by_row)


def _tap_by_tap(x: Any, kernel: Any, window: Window) -> Any:
    """A transposed convolution (its strides are 1): one product for all points of the kernel, shifted and spread."""
    sizes, (inputs, outputs) = kernel.shape[:-2], kernel.shape[-2:]
    points = list(itertools.product(*map(range, sizes)))
    matrix = kernel.reshape(-1, inputs, outputs).swapaxes(0, 1).reshape(inputs, -1)
    counts, parts = window.outputs(x, sizes), []
    for point, part in zip(points, jnp.split(flat_matmul(x, matrix), len(points), axis=-1)):
        edges = []
        for p, n, m, (low, _), xd, kd in zip(point, x.shape[1:-1], counts, *window[1:]):
            before = low - p * kd
            edges.append((before, m - before - (n - 1) * xd - 1, xd - 1))
        parts.append(lax.pad(part, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)]))
    return functools.reduce(operator.add, parts)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def standardize(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """(x - mean) / sqrt(variance + epsilon), mean and variance over axes."""
    return _standard(x, axes, epsilon)[0]


def _standard(x: Any, axes: tuple[int, ...], epsilon: float) -> tuple[Any, Any]:
    """The same, and the factor 1 / sqrt(variance + epsilon)."""
    centred = x - x.mean(axes, keepdims=True)
    factor = lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + epsilon)
    return centred * factor, factor


@standardize.defjvp
def _standardize_jvp(axes: tuple[int, ...], epsilon: float, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    (x,), (dx,) = primals, tangents
    # What the gradient needs is stored: to be computed again it would need arrays of the size of x for mean and factor.
    out, factor = lax.optimization_barrier(_standard(x, axes, epsilon))
    slope = (out * dx).mean(axes, keepdims=True)
    return out, (dx - dx.mean(axes, keepdims=True) - out * slope) * factor


@functools.partial(jax.jit, static_argnames="approximate", inline=True)
def gelu(x: Any, approximate: bool) -> Any:
    """x P(Z <= x) for a standard normal Z, by tanh if `approximate`, or by erf, a third of the work of JAX's erfc."""
    if approximate:
        return jax.nn.gelu(x)
    dtype = jnp.result_type(x, 1.0)
    x = jnp.asarray(x, jnp.promote_types(dtype, jnp.float32))  # the sum would leave 16 bits few digits below 0
    return (x * (0.5 + 0.5 * lax.erf(np.sqrt(0.5).astype(x.dtype) * x))).astype(dtype)
