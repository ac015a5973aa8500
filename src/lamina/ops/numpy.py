"""`keras.ops.numpy`: the functions of NumPy on JAX, with Keras's names, arguments and dtypes."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import dtypes
from lamina.core.budget import CALL, spend
from lamina.core.symbolic import KerasTensor, op
from lamina.ops.binding import (
    accumulation,
    axes,
    binary,
    bitwise,
    dtype_name,
    items,
    operand,
    parts,
    product,
    quantiles,
    reduction,
    reduction_from,
    sections,
    stacking,
    unary,
    windowing,
)


def _in_floats(fn: Callable) -> Callable:
    """`fn` with integers made floats first, where jax.numpy would leave them integers."""

    def call(x: Any) -> Any:
        x = jnp.asarray(x)
        return fn(x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(dtypes.floatx()))

    call.__name__ = fn.__name__
    return call


# Element by element, of one argument.
absolute = unary(jnp.absolute, "absolute")
abs = unary(jnp.absolute, "abs")
angle = unary(_in_floats(jnp.angle))
arccos = unary(jnp.arccos, "arccos")
arccosh = unary(jnp.arccosh, "arccosh")
arcsin = unary(jnp.arcsin, "arcsin")
arcsinh = unary(jnp.arcsinh, "arcsinh")
arctan = unary(jnp.arctan, "arctan")
arctanh = unary(jnp.arctanh, "arctanh")
bitwise_invert = unary(jnp.bitwise_not, "bitwise_invert")
bitwise_not = unary(jnp.bitwise_not, "bitwise_not")
cbrt = unary(jnp.cbrt)
ceil = unary(_in_floats(jnp.ceil))
conj = unary(jnp.conjugate, "conj")
conjugate = unary(jnp.conjugate, "conjugate")
copy = unary(jnp.copy)
cos = unary(jnp.cos)
cosh = unary(jnp.cosh)
deg2rad = unary(jnp.deg2rad)
exp = unary(jnp.exp)
exp2 = unary(jnp.exp2)
expm1 = unary(jnp.expm1)
fabs = unary(jnp.fabs)
floor = unary(_in_floats(jnp.floor))
i0 = unary(jnp.i0)
imag = unary(jnp.imag)
isfinite = unary(jnp.isfinite)
isinf = unary(jnp.isinf)
isnan = unary(jnp.isnan)
isneginf = unary(jnp.isneginf)
isposinf = unary(jnp.isposinf)
isreal = unary(jnp.isreal)
log = unary(jnp.log)
log10 = unary(jnp.log10)
log1p = unary(jnp.log1p)
log2 = unary(jnp.log2)
logical_not = unary(jnp.logical_not)
negative = unary(jnp.negative)
rad2deg = unary(jnp.rad2deg)
real = unary(jnp.real)
reciprocal = unary(jnp.reciprocal)
sign = unary(jnp.sign)
signbit = unary(jnp.signbit)
sin = unary(jnp.sin)
sinc = unary(jnp.sinc)
sinh = unary(jnp.sinh)
sqrt = unary(jnp.sqrt)
square = unary(jnp.square)
tan = unary(jnp.tan)
tanh = unary(jnp.tanh)
trunc = unary(jnp.trunc)

# Element by element, of two arguments.
add = binary(jnp.add)
arctan2 = binary(jnp.arctan2, "arctan2")
divide = binary(jnp.true_divide, "divide")
equal = binary(jnp.equal)
floor_divide = binary(jnp.floor_divide)
fmax = binary(jnp.fmax)
fmin = binary(jnp.fmin)
fmod = binary(jnp.fmod)
gcd = binary(jnp.gcd)
greater = binary(jnp.greater)
greater_equal = binary(jnp.greater_equal)
heaviside = binary(jnp.heaviside)
hypot = binary(jnp.hypot)
lcm = binary(jnp.lcm)
less = binary(jnp.less)
less_equal = binary(jnp.less_equal)
logaddexp = binary(jnp.logaddexp)
logaddexp2 = binary(jnp.logaddexp2)
logical_and = binary(jnp.logical_and)
logical_or = binary(jnp.logical_or)
logical_xor = binary(jnp.logical_xor)
maximum = binary(jnp.maximum)
minimum = binary(jnp.minimum)
mod = binary(jnp.mod, "mod")
multiply = binary(jnp.multiply)
nextafter = binary(jnp.nextafter)
not_equal = binary(jnp.not_equal)
power = binary(jnp.power)
subtract = binary(jnp.subtract)
true_divide = binary(jnp.true_divide, "true_divide")
bitwise_and = bitwise(jnp.bitwise_and)
bitwise_left_shift = bitwise(jnp.left_shift, "bitwise_left_shift")
bitwise_or = bitwise(jnp.bitwise_or)
bitwise_right_shift = bitwise(jnp.right_shift, "bitwise_right_shift")
bitwise_xor = bitwise(jnp.bitwise_xor)
left_shift = bitwise(jnp.left_shift)
right_shift = bitwise(jnp.right_shift)

# Over axes.
all = reduction(jnp.all)
amax = reduction(jnp.max, "amax")
amin = reduction(jnp.min, "amin")
any = reduction(jnp.any)
argmax = reduction(jnp.argmax)
argmin = reduction(jnp.argmin)
max = reduction_from(jnp.max)
mean = reduction(jnp.mean)
median = reduction(jnp.median)
min = reduction_from(jnp.min)
nanargmax = reduction(jnp.nanargmax)
nanargmin = reduction(jnp.nanargmin)
nanmax = reduction(jnp.nanmax)
nanmean = reduction(jnp.nanmean)
nanmedian = reduction(jnp.nanmedian)
nanmin = reduction(jnp.nanmin)
nanprod = reduction(jnp.nanprod)
nanstd = reduction(jnp.nanstd)
nansum = reduction(jnp.nansum)
nanvar = reduction(jnp.nanvar)
ptp = reduction(jnp.ptp)
std = reduction(jnp.std)
sum = reduction(jnp.sum)
var = reduction(jnp.var)
cumprod = accumulation(jnp.cumprod)
cumsum = accumulation(jnp.cumsum)
nancumprod = accumulation(jnp.nancumprod)
nancumsum = accumulation(jnp.nancumsum)
nanpercentile = quantiles(jnp.nanpercentile)
nanquantile = quantiles(jnp.nanquantile)
percentile = quantiles(jnp.percentile)
quantile = quantiles(jnp.quantile)

# Products, parts and wholes.
dot = product(jnp.dot)
inner = product(jnp.inner)
kron = product(jnp.kron)
outer = product(jnp.outer)
vdot = product(jnp.vdot)
dsplit = sections(jnp.dsplit)
hsplit = sections(jnp.hsplit)
vsplit = sections(jnp.vsplit)
dstack = stacking(jnp.dstack)
hstack = stacking(jnp.hstack)
vstack = stacking(jnp.vstack)
bartlett = windowing(jnp.bartlett)
blackman = windowing(jnp.blackman)
hamming = windowing(jnp.hamming)
hanning = windowing(jnp.hanning)


@op
def allclose(x1: Any, x2: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    """Whether |x1 - x2| <= atol + rtol |x2| everywhere."""
    return jnp.allclose(operand(x1), operand(x2), rtol, atol, equal_nan)


@op
def append(x1: Any, x2: Any, axis: int | None = None) -> Any:
    """`x1` and `x2` joined along an axis, or flat."""
    return jnp.append(operand(x1), operand(x2), axis=axis)


@op
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """start, start + step, ... below stop."""
    return jnp.arange(start, stop, step, dtype=dtype_name(dtype))


@op
def argpartition(x: Any, kth: int, axis: int | None = -1) -> Any:
    """The order that puts the `kth` smallest value in its place, smaller ones before it."""
    x = jnp.asarray(x)
    return jnp.argpartition(x.reshape(-1), kth) if axis is None else jnp.argpartition(x, kth, axis=axis)


@op
def argsort(x: Any, axis: int | None = -1) -> Any:
    """The order that sorts `x`; equal values keep theirs."""
    x = jnp.asarray(x)
    return jnp.argsort(x, axis=axis if x.ndim else None)


@op
def array(x: Any, dtype: Any = None) -> Any:
    """`x` as a new array."""
    return jnp.array(x, dtype=dtype_name(dtype))


@op
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts of `x` along an axis; their sizes may differ by one."""
    return jnp.array_split(operand(x), parts(indices_or_sections), axis=axis)


@op
def average(x: Any, axis: Any = None, weights: Any = None) -> Any:
    """sum(x w) / sum(w)."""
    return jnp.average(operand(x), axis=axes(axis), weights=operand(weights))


@op
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """How often each integer 0, 1, ... occurs in each row of `x`, or the sum of its weights."""
    if sparse:
        raise ValueError(f"bincount: sparse must be False; results are dense arrays here, got {sparse}.")
    x = jnp.asarray(x)
    if x.ndim < 2:
        return jnp.bincount(x, weights=operand(weights), minlength=minlength)
    length = builtins.max(minlength, int(x.max()) + 1 if x.size else 0)
    columns = [None] * len(x) if weights is None else jnp.asarray(weights)
    return jnp.stack([jnp.bincount(row, weights=w, length=length) for row, w in zip(x, columns)])


@op
def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """`x` repeated to a shape."""
    return jnp.broadcast_to(operand(x), shape)


@op(elementwise=True)
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """min(max(x, x_min), x_max)."""
    x = jnp.asarray(x)
    return jnp.clip(x.astype("int32") if x.dtype == bool else x, operand(x_min), operand(x_max))


@op
def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Arrays joined along an axis that they have."""
    return jnp.concatenate(items(xs), axis=axis)


@op
def corrcoef(x: Any) -> Any:
    """The correlation of each row with each."""
    return jnp.corrcoef(jnp.asarray(x))


@op
def correlate(x1: Any, x2: Any, mode: str = "valid") -> Any:
    """c_k = sum_n x1_(n+k) conj(x2_n)."""
    return jnp.correlate(operand(x1), operand(x2), mode)


@op
def count_nonzero(x: Any, axis: Any = None) -> Any:
    """The number of values other than zero."""
    return jnp.count_nonzero(operand(x), axis=axes(axis)).astype("int32")


@op
def cross(x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The vector product of 2 or 3 components along an axis."""
    return jnp.cross(operand(x1), operand(x2), axisa=axisa, axisb=axisb, axisc=axisc, axis=axis)


@op
def diag(x: Any, k: int = 0) -> Any:
    """The `k`-th diagonal of a matrix, or a matrix that has `x` there."""
    return jnp.diag(operand(x), k=k)


@op
def diagflat(x: Any, k: int = 0) -> Any:
    """A matrix with the values of `x` on its `k`-th diagonal."""
    return jnp.diagflat(operand(x), k=k)


@op
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of two axes, as a last axis."""
    return jnp.diagonal(operand(x), offset=offset, axis1=axis1, axis2=axis2)


@op
def diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    """The `n`-th differences along an axis."""
    spend("diff: a number of rounds", n, work=CALL)
    return jnp.diff(operand(a), n=n, axis=axis)


@op(elementwise=True)
def digitize(x: Any, bins: Any) -> Any:
    """The number of the bin that each value falls into."""
    return jnp.digitize(operand(x), operand(bins)).astype("int32")


@op(elementwise=True)
def divide_no_nan(x1: Any, x2: Any) -> Any:
    """x1 / x2, and 0 where x2 is 0."""
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    return jnp.where(x2 == 0, 0, jnp.divide(x1, jnp.where(x2 == 0, 1, x2)))


@op
def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> Any:
    """Sums of products over named axes: `"bij,bjk->bik"`."""
    arrays = [jnp.asarray(x) for x in operands]
    return jnp.einsum(subscripts, *arrays, **kwargs, preferred_element_type=_accumulator(*arrays))


def _accumulator(*arrays: Any) -> str | None:
    """8-bit integers are multiplied into 32-bit ones."""
    return "int32" if {a.dtype.name for a in arrays} == {"int8"} else None


@op
def empty(shape: Any, dtype: Any = None) -> Any:
    """An array of any values (zeros here)."""
    return jnp.empty(shape, dtype=dtypes.standardize_dtype(dtype))


@op
def empty_like(x: Any, dtype: Any = None) -> Any:
    """An array of any values (zeros here) in the shape of `x`."""
    return jnp.empty_like(operand(x), dtype=dtype_name(dtype))


@op
def expand_dims(x: Any, axis: Any) -> Any:
    """`x` with new axes of size 1."""
    return jnp.expand_dims(operand(x), axes(axis))


@op
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """An (N, M) matrix with ones on its `k`-th diagonal."""
    return jnp.eye(N, M, k, dtype=dtypes.standardize_dtype(dtype))


@op
def flip(x: Any, axis: Any = None) -> Any:
    """`x` in reverse order along axes."""
    return jnp.flip(operand(x), axis=axes(axis))


@op
def fliplr(x: Any) -> Any:
    """`x` in reverse order along its second axis."""
    return jnp.fliplr(operand(x))


@op
def flipud(x: Any) -> Any:
    """`x` in reverse order along its first axis."""
    return jnp.flipud(operand(x))


@op
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """An array that has one value everywhere."""
    return jnp.full(shape, operand(fill_value), dtype=dtypes.standardize_dtype(dtype))


@op
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """One value everywhere, in the shape of `x`."""
    return jnp.full_like(operand(x), operand(fill_value), dtype=dtype_name(dtype))


@op
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    """`num` numbers from start to stop, each a constant times the one before."""
    return jnp.geomspace(operand(start), operand(stop), num=num, endpoint=endpoint, dtype=dtype_name(dtype), axis=axis)


@op
def get_item(x: Any, key: Any) -> Any:
    """`x[key]`."""
    return x[tuple(key) if isinstance(key, list) else key]  # files keep a tuple as a list


@op
def histogram(x: Any, bins: Any = 10, range: Any = None) -> tuple[Any, Any]:
    """How many values fall into each bin, and the bins' edges."""
    return jnp.histogram(operand(x), bins=operand(bins), range=range)


@op
def identity(n: int, dtype: Any = None) -> Any:
    """The (n, n) unit matrix."""
    return jnp.identity(n, dtype=dtypes.standardize_dtype(dtype))


@op(elementwise=True)
def isclose(x1: Any, x2: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    """|x1 - x2| <= atol + rtol |x2|."""
    return jnp.isclose(operand(x1), operand(x2), rtol, atol, equal_nan)


@op
def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each value of `x1` is among those of `x2`."""
    return jnp.isin(operand(x1), operand(x2), assume_unique=assume_unique, invert=invert)


@op
def kaiser(x: Any, beta: float) -> Any:
    """The Kaiser window of `x` points."""
    return jnp.kaiser(int(x), beta).astype(dtypes.floatx())


@op(elementwise=True)
def ldexp(x1: Any, x2: Any) -> Any:
    """x1 2^x2, for integers x2."""
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    if not jnp.issubdtype(x2.dtype, jnp.integer):
        raise TypeError(f"ldexp: x2 must be integers, got dtype {x2.dtype.name}.")
    return jnp.ldexp(x1, x2)


@op
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    """`num` numbers at equal distances from start to stop, and the distance if `retstep`."""
    return jnp.linspace(
        operand(start), operand(stop), num, endpoint=endpoint, retstep=retstep, dtype=dtype_name(dtype), axis=axis
    )


@op
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10, dtype: Any = None, axis: int = 0
) -> Any:
    """base^x for `num` numbers x at equal distances from start to stop."""
    return jnp.logspace(
        operand(start), operand(stop), num=num, endpoint=endpoint, base=base, dtype=dtype_name(dtype), axis=axis
    )


@op
def matmul(x1: Any, x2: Any) -> Any:
    """The matrix product over the last two axes.

    >>> lamina.ops.matmul(np.eye(2), [[1.0, 2.0], [3.0, 4.0]]).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    product = functools.partial(jnp.matmul, preferred_element_type=_accumulator(x1, x2))
    if x1.ndim > 2 == x2.ndim:  # as a product of two matrices: the gradient by the second is several times faster
        return product(x1.reshape(-1, x1.shape[-1]), x2).reshape(*x1.shape[:-1], x2.shape[-1])
    return product(x1, x2)


@op
def meshgrid(*x: Any, indexing: str = "xy") -> list[Any]:
    """The coordinates of all points of a grid."""
    return jnp.meshgrid(*items(x), indexing=indexing)


@op
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """`x` with some axes in other places."""
    return jnp.moveaxis(operand(x), axes(source), axes(destination))


@op(elementwise=True)
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """`x` with numbers in place of NaN and infinities."""
    return jnp.nan_to_num(operand(x), nan=nan, posinf=posinf, neginf=neginf)


def ndim(x: Any) -> int:
    """The number of axes."""
    return x.ndim if isinstance(x, KerasTensor) else jnp.ndim(operand(x))


@op
def nonzero(x: Any) -> tuple[Any, ...]:
    """The indices of values other than zero, axis by axis."""
    return jnp.nonzero(operand(x))


@op
def ones(shape: Any, dtype: Any = None) -> Any:
    """An array of ones."""
    return jnp.ones(shape, dtype=dtypes.standardize_dtype(dtype))


@op
def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape of `x`."""
    return jnp.ones_like(operand(x), dtype=dtype_name(dtype))


@op
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """`x` with values put before and behind it along each axis."""
    if constant_values is None:
        return jnp.pad(operand(x), pad_width, mode=mode)
    if mode != "constant":
        raise ValueError(f"pad: constant_values must be left out unless mode is 'constant', got mode={mode!r}.")
    return jnp.pad(operand(x), pad_width, mode=mode, constant_values=constant_values)


@op
def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Any:
    """The product over axes."""
    return jnp.prod(operand(x), axis=axes(axis), keepdims=keepdims, dtype=dtype_name(dtype))


@op
def ravel(x: Any) -> Any:
    """`x` as one axis."""
    return jnp.ravel(operand(x))


@op
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each part of `x` along an axis several times."""
    return jnp.repeat(operand(x), operand(repeats), axis=axis)


@op
def reshape(x: Any, newshape: Any) -> Any:
    """The same values in another shape; one size may be -1."""
    return jnp.reshape(operand(x), newshape)


@op
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """`x` shifted along axes; what leaves at the end comes back at the start."""
    return jnp.roll(operand(x), axes(shift), axis=axes(axis))


@op
def rot90(array: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Any:
    """`array` turned `k` times by a quarter in the plane of two axes."""
    return jnp.rot90(operand(array), k=k, axes=(axes[0], axes[1]))


@op(elementwise=True)
def round(x: Any, decimals: int = 0) -> Any:
    """The nearest number of so many decimals, the even one at a half."""
    x = jnp.asarray(x)
    if decimals < 0 and jnp.issubdtype(x.dtype, jnp.integer):
        factor = 10.0**-decimals
        return (jnp.round(x / factor) * factor).astype(x.dtype)
    return jnp.round(x, decimals=decimals)


@op
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """Where values must be put in to keep a one-dimensional sequence sorted."""
    sorted_sequence = jnp.asarray(sorted_sequence)
    if sorted_sequence.ndim != 1:
        raise ValueError(
            f"searchsorted: sorted_sequence must have one axis, got shape {sorted_sequence.shape}; "
            "use ops.vectorized_map for more."
        )
    return jnp.searchsorted(sorted_sequence, operand(values), side=side)


@op
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """At each place the choice of the first condition that holds there."""
    return jnp.select(items(condlist), items(choicelist), default=default)


@op
def size(x: Any) -> Any:
    """The number of values."""
    return jnp.size(operand(x))


@op
def slogdet(x: Any) -> tuple[Any, Any]:
    """The sign of the determinant and the logarithm of its size."""
    return tuple(jnp.linalg.slogdet(operand(x)))


@op
def sort(x: Any, axis: int | None = -1) -> Any:
    """`x` in ascending order along an axis."""
    return jnp.sort(operand(x), axis=axis)


@op
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts of `x` along an axis: so many equal ones, or cut at the given places."""
    return jnp.split(operand(x), parts(indices_or_sections), axis=axis)


@op
def squeeze(x: Any, axis: Any = None) -> Any:
    """`x` without axes of size 1."""
    return jnp.squeeze(operand(x), axis=axes(axis))


@op
def stack(x: Sequence[Any], axis: int = 0) -> Any:
    """Arrays of one shape along a new axis."""
    return jnp.stack(items(x), axis=axis)


@op
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """`x` with two axes exchanged."""
    return jnp.swapaxes(operand(x), axis1, axis2)


@op
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The parts of `x` at indices along an axis; `NaN` outside."""
    return jnp.take(operand(x), operand(indices), axis=axis)


@op
def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The values of `x` at indices that are given for each line along an axis."""
    return jnp.take_along_axis(operand(x), operand(indices), axis=axis)


@op
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """Sums of products over the last axes of `x1` and the first of `x2`, or over the pairs given."""
    return jnp.tensordot(operand(x1), operand(x2), axes=axes)


@op
def tile(x: Any, repeats: Any) -> Any:
    """`x` put beside itself along each axis."""
    return jnp.tile(operand(x), axes(repeats))


@op
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of the diagonal of two axes."""
    return jnp.trace(operand(x), offset=offset, axis1=axis1, axis2=axis2)


@op
def transpose(x: Any, axes: Any = None) -> Any:
    """`x` with its axes in the given order, or in reverse."""
    return jnp.transpose(operand(x), axes)


@op
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral of y(x) by trapezoids."""
    return jnp.trapezoid(operand(y), operand(x), dx=dx, axis=axis)


@op
def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """An (N, M) matrix with ones on and below its `k`-th diagonal."""
    return jnp.tri(N, M, k, dtype=dtypes.standardize_dtype(dtype))


@op
def tril(x: Any, k: int = 0) -> Any:
    """`x` with zeros above the `k`-th diagonal."""
    return jnp.tril(operand(x), k=k)


@op
def triu(x: Any, k: int = 0) -> Any:
    """`x` with zeros below the `k`-th diagonal."""
    return jnp.triu(operand(x), k=k)


@op
def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The different values of `x`; `size` fixes how many, so that it can be traced."""
    return jnp.unique(
        operand(x),
        return_index=return_index,
        return_inverse=return_inverse,
        return_counts=return_counts,
        axis=axis,
        equal_nan=False,
        size=size,
        sorted=sorted,
        fill_value=fill_value,
    )


@op
def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """The places that flat indices mean in an array of a shape, axis by axis."""
    return jnp.unravel_index(operand(indices), tuple(shape))


@op
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """A matrix whose columns are powers of `x`."""
    return jnp.vander(operand(x), N=N, increasing=increasing)


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: str | None = None) -> Callable:
    """A function of arrays that applies `pyfunc` to their elements."""
    return op(jnp.vectorize(pyfunc, excluded=excluded or set(), signature=signature))


@op
def view(x: Any, dtype: Any = None) -> Any:
    """The same bytes read as another dtype."""
    return jnp.asarray(x).view(dtype=dtype_name(dtype))


@op(elementwise=True)
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """`x1` where the condition holds and `x2` elsewhere; without them, the indices where it holds."""
    return jnp.where(operand(condition), operand(x1), operand(x2))


@op
def zeros(shape: Any, dtype: Any = None) -> Any:
    """An array of zeros."""
    return jnp.zeros(shape, dtype=dtypes.standardize_dtype(dtype))


@op
def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape of `x`."""
    return jnp.zeros_like(operand(x), dtype=dtype_name(dtype))
