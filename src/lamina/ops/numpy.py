"""`keras.ops.numpy`: the functions of NumPy on JAX, with Keras's names, arguments and dtypes."""

import builtins
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import dtypes
from lamina.core.arrays import as_array
from lamina.core.budget import CALL, spend
from lamina.core.sparse import hot_entries, is_sparse
from lamina.core.symbolic import KerasTensor, op
from lamina.ops import cpu, reductions
from lamina.ops.binding import (
    accumulation,
    array_of,
    axes,
    binary,
    bitwise,
    bound,
    bounds,
    creation,
    fractions,
    items,
    operand,
    product,
    quantiles,
    reduction,
    reduction_from,
    sections,
    stacking,
    times,
    unary,
    windowing,
)

# Element by element, of one argument.
absolute = unary(jnp.absolute, "absolute")
abs = unary(jnp.absolute, "abs")
angle = unary(jnp.angle, x=fractions)
arccos = unary(jnp.arccos, "arccos")
arccosh = unary(jnp.arccosh, "arccosh")
arcsin = unary(jnp.arcsin, "arcsin")
arcsinh = unary(jnp.arcsinh, "arcsinh")
arctan = unary(jnp.arctan, "arctan")
arctanh = unary(jnp.arctanh, "arctanh")
bitwise_invert = unary(jnp.bitwise_not, "bitwise_invert")
bitwise_not = unary(jnp.bitwise_not, "bitwise_not")
cbrt = unary(jnp.cbrt)
ceil = unary(jnp.ceil, x=fractions)
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
floor = unary(jnp.floor, x=fractions)
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
arctan2 = binary(jnp.arctan2, "arctan2", x1=array_of, x2=array_of)
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
logaddexp = binary(jnp.logaddexp, x1=array_of, x2=array_of)
logaddexp2 = binary(jnp.logaddexp2, x1=array_of, x2=array_of)
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
argmax = reduction(reductions.argmax)
argmin = reduction(reductions.argmin)
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

# With arguments of their own.
allclose = bound(
    jnp.allclose, "x1 x2 rtol=1e-05 atol=1e-08 equal_nan=False", "Whether |x1 - x2| <= atol + rtol |x2| everywhere."
)
append = bound(jnp.append, "x1 x2 axis=None", "`x1` and `x2` joined along an axis, or flat.")
arange = bound(jnp.arange, "start stop=None step=None dtype=None", "start, start + step, ... below stop.")
array = bound(jnp.array, "x dtype=None", "`x` as a new array.", x=lambda x: x)
array_split = bound(
    jnp.array_split, "x indices_or_sections axis=0", "Parts of `x` along an axis; their sizes may differ by one."
)
average = bound(jnp.average, "x axis=None weights=None", "sum(x w) / sum(w).")
broadcast_to = bound(jnp.broadcast_to, "x shape", "`x` repeated to a shape.")
concatenate = bound(jnp.concatenate, "xs axis=0", "Arrays joined along an axis that they have.")
corrcoef = bound(jnp.corrcoef, "x", "The correlation of each row with each.")
correlate = bound(jnp.correlate, "x1 x2 mode='valid'", "c_k = sum_n x1_(n+k) conj(x2_n).")
cross = bound(
    jnp.cross, "x1 x2 axisa=-1 axisb=-1 axisc=-1 axis=None", "The vector product of 2 or 3 components along an axis."
)
diag = bound(jnp.diag, "x k=0", "The `k`-th diagonal of a matrix, or a matrix that has `x` there.")
diagflat = bound(jnp.diagflat, "x k=0", "A matrix with the values of `x` on its `k`-th diagonal.")
diagonal = bound(jnp.diagonal, "x offset=0 axis1=0 axis2=1", "The diagonal of two axes, as a last axis.")
empty = creation(jnp.empty, "shape dtype=None", "An array of any values (zeros here).")
empty_like = bound(jnp.empty_like, "x dtype=None", "An array of any values (zeros here) in the shape of `x`.")
expand_dims = bound(jnp.expand_dims, "x axis", "`x` with new axes of size 1.")
eye = creation(jnp.eye, "N M=None k=0 dtype=None", "An (N, M) matrix with ones on its `k`-th diagonal.")
flip = bound(jnp.flip, "x axis=None", "`x` in reverse order along axes.")
fliplr = bound(jnp.fliplr, "x", "`x` in reverse order along its second axis.")
flipud = bound(jnp.flipud, "x", "`x` in reverse order along its first axis.")
full = creation(jnp.full, "shape fill_value dtype=None", "An array that has one value everywhere.")
full_like = bound(jnp.full_like, "x fill_value dtype=None", "One value everywhere, in the shape of `x`.")
geomspace = bound(
    jnp.geomspace,
    "start stop num=50 endpoint=True dtype=None axis=0",
    "`num` numbers from start to stop, each a constant times the one before.",
)
histogram = bound(
    jnp.histogram, "x bins=10 range=None", "How many values fall into each bin, and the bins' edges.", range=bounds
)
identity = creation(jnp.identity, "n dtype=None", "The (n, n) unit matrix.")
isclose = bound(
    jnp.isclose, "x1 x2 rtol=1e-05 atol=1e-08 equal_nan=False", "|x1 - x2| <= atol + rtol |x2|.", elementwise=True
)
isin = bound(jnp.isin, "x1 x2 assume_unique=False invert=False", "Whether each value of `x1` is among those of `x2`.")
linspace = bound(
    jnp.linspace,
    "start stop num=50 endpoint=True retstep=False dtype=None axis=0",
    "`num` numbers at equal distances from start to stop, and the distance if `retstep`.",
)
logspace = bound(
    jnp.logspace,
    "start stop num=50 endpoint=True base=10 dtype=None axis=0",
    "base^x for `num` numbers x at equal distances from start to stop.",
)
moveaxis = bound(jnp.moveaxis, "x source destination", "`x` with some axes in other places.")
nan_to_num = bound(
    jnp.nan_to_num,
    "x nan=0.0 posinf=None neginf=None",
    "`x` with numbers in place of NaN and infinities.",
    elementwise=True,
)
nonzero = bound(jnp.nonzero, "x", "The indices of values other than zero, axis by axis.")
ones = creation(jnp.ones, "shape dtype=None", "An array of ones.")
ones_like = bound(jnp.ones_like, "x dtype=None", "Ones in the shape of `x`.")
prod = bound(jnp.prod, "x axis=None keepdims=False dtype=None", "The product over axes.")
ravel = bound(jnp.ravel, "x", "`x` as one axis.")
repeat = bound(jnp.repeat, "x repeats axis=None", "Each part of `x` along an axis several times.")
reshape = bound(jnp.reshape, "x newshape", "The same values in another shape; one size may be -1.", x=jnp.asarray)
roll = bound(jnp.roll, "x shift axis=None", "`x` shifted along axes; what leaves at the end comes back at the start.")
rot90 = bound(jnp.rot90, "array k=1 axes=(0,1)", "`array` turned `k` times by a quarter in the plane of two axes.")
select = bound(
    jnp.select,
    "condlist choicelist default=0",
    "At each place the choice of the first condition that holds there.",
    condlist=items,
    choicelist=items,
)
size = bound(jnp.size, "x", "The number of values.")
sort = bound(jnp.sort, "x axis=-1", "`x` in ascending order along an axis.")
split = bound(
    jnp.split,
    "x indices_or_sections axis=0",
    "Parts of `x` along an axis: so many equal ones, or cut at the given places.",
)
squeeze = bound(jnp.squeeze, "x axis=None", "`x` without axes of size 1.")
stack = bound(jnp.stack, "x axis=0", "Arrays of one shape along a new axis.", x=items)
swapaxes = bound(jnp.swapaxes, "x axis1 axis2", "`x` with two axes exchanged.")
take = bound(jnp.take, "x indices axis=None", "The parts of `x` at indices along an axis; `NaN` outside.")
take_along_axis = bound(
    jnp.take_along_axis,
    "x indices axis=None",
    "The values of `x` at indices that are given for each line along an axis.",
)
tensordot = bound(
    jnp.tensordot,
    "x1 x2 axes=2",
    "Sums of products over the last axes of `x1` and the first of `x2`, or over the pairs given.",
)
tile = bound(jnp.tile, "x repeats", "`x` put beside itself along each axis.", repeats=times)
trace = bound(jnp.trace, "x offset=0 axis1=0 axis2=1", "The sum of the diagonal of two axes.")
transpose = bound(jnp.transpose, "x axes=None", "`x` with its axes in the given order, or in reverse.")
trapezoid = bound(jnp.trapezoid, "y x=None dx=1.0 axis=-1", "The integral of y(x) by trapezoids.")
tri = creation(jnp.tri, "N M=None k=0 dtype=None", "An (N, M) matrix with ones on and below its `k`-th diagonal.")
tril = bound(jnp.tril, "x k=0", "`x` with zeros above the `k`-th diagonal.")
triu = bound(jnp.triu, "x k=0", "`x` with zeros below the `k`-th diagonal.")
unique = bound(
    functools.partial(jnp.unique, equal_nan=False),
    "x sorted=True return_index=False return_inverse=False return_counts=False axis=None size=None fill_value=None",
    "The different values of `x`; `size` fixes how many, so that it can be traced.",
    name="unique",
)
unravel_index = bound(
    jnp.unravel_index, "indices shape", "The places that flat indices mean in an array of a shape, axis by axis."
)
vander = bound(jnp.vander, "x N=None increasing=False", "A matrix whose columns are powers of `x`.")
view = bound(
    lambda x, dtype: x.view(dtype), "x dtype=None", "The same bytes read as another dtype.", name="view", x=jnp.asarray
)
zeros = creation(jnp.zeros, "shape dtype=None", "An array of zeros.")
zeros_like = bound(jnp.zeros_like, "x dtype=None", "Zeros in the shape of `x`.")


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
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """How often each integer 0, 1, ... occurs in each row of `x`, or the sum of its weights."""
    if sparse or is_sparse(x) or is_sparse(weights):
        if weights is not None and is_sparse(x) != is_sparse(weights):
            raise ValueError("bincount: x and weights must both be sparse, with the same indices, or both dense.")
        given: list[Any] = [x, 1.0 if weights is None else weights]
        x, values = (jnp.asarray(v.data if is_sparse(v) else v) for v in given)
        return hot_entries(x, builtins.max(minlength, int(x.max()) + 1), -1, values).sum(x.ndim - 1)
    x = jnp.asarray(x)
    if x.ndim < 2:
        return jnp.bincount(x, weights=operand(weights), minlength=minlength)
    length = builtins.max(minlength, int(x.max()) + 1 if x.size else 0)
    columns = [None] * len(x) if weights is None else jnp.asarray(weights)
    return jnp.stack([jnp.bincount(row, weights=w, length=length) for row, w in zip(x, columns)])


@op(elementwise=True)
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """min(max(x, x_min), x_max)."""
    x = jnp.asarray(x)
    return jnp.clip(x.astype("int32") if x.dtype == bool else x, operand(x_min), operand(x_max))


@op
def count_nonzero(x: Any, axis: Any = None) -> Any:
    """The number of values other than zero."""
    return jnp.count_nonzero(operand(x), axis=axes(axis)).astype("int32")


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
    arrays = [as_array(x) for x in operands]
    accumulator = dtypes.accumulator(*arrays)
    summed = 0 if kwargs or accumulator else cpu.summed_axes(subscripts, *arrays)
    if summed:
        return cpu.flat_matmul(arrays[0], arrays[1], summed)
    return jnp.einsum(subscripts, *arrays, **kwargs, preferred_element_type=accumulator)


@op
def get_item(x: Any, key: Any) -> Any:
    """`x[key]`."""
    key = tuple(key) if isinstance(key, (list, tuple)) else (key,)  # files keep a tuple as a list
    known = [slice(None) if isinstance(k, slice) else k for k in key]
    if builtins.all(k is None or k is ... or isinstance(k, (int, slice)) for k in known):  # or JAX takes the nearest
        np.broadcast_to(False, [d if isinstance(d, int) else 10**6 for d in np.shape(x)])[tuple(known)]
    return x[key]


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
def matmul(x1: Any, x2: Any) -> Any:
    """The matrix product over the last two axes.

    >>> lamina.ops.matmul(np.eye(2), [[1.0, 2.0], [3.0, 4.0]]).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    x1, x2 = as_array(x1), as_array(x2)
    accumulator = dtypes.accumulator(x1, x2)
    if x1.ndim > 1 and x2.ndim == 2 and not accumulator:
        return cpu.flat_matmul(x1, x2)
    return jnp.matmul(x1, x2, preferred_element_type=accumulator)


@op
def meshgrid(*x: Any, indexing: str = "xy") -> list[Any]:
    """The coordinates of all points of a grid."""
    return jnp.meshgrid(*items(x), indexing=indexing)


def ndim(x: Any) -> int:
    """The number of axes."""
    return x.ndim if isinstance(x, KerasTensor) or is_sparse(x) else jnp.ndim(operand(x))


@op
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """`x` with values put before and behind it along each axis."""
    if constant_values is None:
        return jnp.pad(operand(x), pad_width, mode=mode)
    if mode != "constant":
        raise ValueError(f"pad: constant_values must be left out unless mode is 'constant', got mode={mode!r}.")
    return jnp.pad(operand(x), pad_width, mode=mode, constant_values=constant_values)


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
def slogdet(x: Any) -> tuple[Any, Any]:
    """The sign of the determinant and the logarithm of its size."""
    return tuple(jnp.linalg.slogdet(operand(x)))


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: str | None = None) -> Callable:
    """A function of arrays that applies `pyfunc` to their elements."""
    return op(jnp.vectorize(pyfunc, excluded=excluded or set(), signature=signature))


@op(elementwise=True)
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """`x1` where the condition holds and `x2` elsewhere; without them, the indices where it holds."""
    if (x1 is None) != (x2 is None):
        raise ValueError("x1 and x2 must both be given, or none of them")
    return jnp.where(operand(condition), operand(x1), operand(x2))
