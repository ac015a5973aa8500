"""Sparse arrays of JAX in ops: which ops keep them sparse, by name, and how. The results are those of Keras on JAX.

All other ops, and layers that do not take sparse arrays, get dense ones in their place.
"""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jax.core import Tracer

from lamina.core import dtypes
from lamina.core.later import Later

_jax = Later("jax.experimental.sparse")  # 0.2 s, and only a program that has loaded it has sparse arrays
_KINDS = frozenset({"BCOO", "BCSR"})


def is_sparse(x: Any) -> bool:
    """Whether `x` is a sparse array of JAX."""
    return type(x).__name__ in _KINDS and type(x).__module__.startswith("jax.experimental.sparse")


def dense(x: Any) -> Any:
    """A sparse array as a dense one; all else as it is."""
    if not is_sparse(x):
        return x
    return _as_integers(x).todense().astype(bool) if x.dtype == bool else x.todense()


def bcoo(data: Any, indices: Any, shape: Sequence[Any], like: Any = None) -> Any:
    """The sparse array with `data` at `indices`, which are in order and unique if those of `like` are."""
    known = {"indices_sorted": like.indices_sorted, "unique_indices": like.unique_indices} if like is not None else {}
    return _jax.experimental.sparse.BCOO((data, indices), shape=tuple(shape), **known)


def _as_integers(x: Any) -> Any:
    """Truth values as numbers, which have sums."""
    return bcoo(x.data.astype("int32"), x.indices, x.shape, x)


def _by_places(x: Any) -> Any:
    return x if type(x).__name__ == "BCOO" else x.to_bcoo()


def _places(x: Any, unique: bool = False) -> Any:
    """`x` with one row of indices for each entry, and no place twice if `unique`."""
    x = _by_places(x)
    if x.n_batch or x.n_dense:
        x = _jax.experimental.sparse.bcoo_update_layout(x, n_batch=0, n_dense=0, on_inefficient=None)
    return _merged(x) if unique and not x.unique_indices else x


def _merged(x: Any) -> Any:
    """`x` with the sum of all entries of a place at its first; traced, the others stay, outside of the shape."""
    if x.dtype == bool:
        whole = _merged(_as_integers(x))
        return bcoo(whole.data > 0, whole.indices, x.shape, whole)
    return x.sum_duplicates(nse=x.nse if isinstance(x.indices, Tracer) else None, remove_zeros=False)


def entries(x: Any) -> tuple[Any, Any]:
    """The values of a sparse array and their places, a row each."""
    x = _places(x)
    return x.data, x.indices


# Gradients: what they are not for stays as it is.


def values(gradient: Any) -> Any:
    """A gradient, or the values of one that is sparse."""
    return gradient.data if is_sparse(gradient) else gradient


def on_values(fn: Callable, gradient: Any) -> Any:
    """`fn` of a gradient, or of the `values` of one that is sparse."""
    done = fn(values(gradient))
    return bcoo(done, gradient.indices, gradient.shape) if is_sparse(gradient) else done


def summed(gradient: Any) -> Any:
    """A sparse gradient with the sum of a place's entries at the first of them, the others outside of the shape."""
    if not is_sparse(gradient):
        return gradient
    gradient = _jax.experimental.sparse.bcoo_update_layout(_by_places(gradient), n_batch=0, on_inefficient=None)
    outer = gradient.shape[: gradient.n_sparse]
    size, number = math.prod(outer), jnp.arange(gradient.nse)
    inside = ((gradient.indices >= 0) & (gradient.indices < jnp.array(outer))).all(-1)
    place = jnp.where(inside, jnp.ravel_multi_index(tuple(gradient.indices.T), outer, mode="clip"), size)
    first = jnp.full(size + 1, gradient.nse).at[place].min(number)[place]
    data = jnp.zeros_like(gradient.data).at[jnp.where(inside, first, gradient.nse)].add(gradient.data, mode="drop")
    indices = jnp.where((inside & (first == number))[:, None], gradient.indices, jnp.array(outer))
    return bcoo(data, indices, gradient.shape)


def part(array: Any, gradient: Any) -> Any:
    """What a gradient is for: the array, or its places that a sparse one has."""
    return array.at[tuple(gradient.indices.T)].get(mode="clip") if is_sparse(gradient) else array


def with_part(array: Any, gradient: Any, value: Any) -> Any:
    """The array with another `part`."""
    if not is_sparse(gradient):
        return value
    return array.at[tuple(gradient.indices.T)].set(value.astype(array.dtype), mode="drop", unique_indices=True)


# The rules: each is called on the op's function and its arguments by position.


def _at_entries(fn: Callable, x: Any, *rest: Any, unique: bool = True, **named: Any) -> Any:
    """An op of one array that keeps 0."""
    x = _places(x, unique)
    return bcoo(fn(x.data, *rest, **named), x.indices, x.shape, x)


def _of_all(fn: Callable, *args: Any, axes: int | None = None, **named: Any) -> Any:
    """What JAX makes of `fn` for sparse arrays; dense where it has no form for them, or one array is dense.

    With `axes`, arrays have their entries by so many axes from the last, those of each place of the others apart.
    """
    leaves, treedef = tree_util.tree_flatten((args, named), is_leaf=is_sparse)
    arrays = [_places(x) for x in leaves if is_sparse(x)]
    if axes:
        apart = functools.partial(_jax.experimental.sparse.bcoo_update_layout, on_inefficient=None)
        arrays = [apart(x, n_batch=x.ndim - axes) if x.ndim > axes else x for x in arrays]

    def run(*given: Any) -> Any:
        rest = iter(given)
        args, named = treedef.unflatten([next(rest) if is_sparse(x) else x for x in leaves])
        return fn(*args, **named)

    try:
        return _jax.experimental.sparse.sparsify(run)(*arrays)
    except NotImplementedError:
        return run(*map(dense, arrays))


def _matrix_product(fn: Callable, x1: Any, x2: Any) -> Any:
    """JAX's own product: ours of dense arrays has gradients of its own, which JAX does not carry over."""
    return _of_all(functools.partial(jnp.matmul, preferred_element_type=dtypes.accumulator(x1, x2)), x1, x2, axes=2)


def _if_all(fn: Callable, xs: Any, *rest: Any) -> Any:
    """An op on a list: sparse if all are."""
    if not all(map(is_sparse, xs)):
        return fn([dense(x) for x in xs], *rest)
    return _of_all(fn, xs, *rest)


def _union(fn: Callable, x1: Any, x2: Any, linear: bool = False) -> Any:
    """An op of two arrays with fn(0, 0) = 0: at the entries of both, if both are sparse."""
    if not (is_sparse(x1) and is_sparse(x2)) or x1.shape != x2.shape:
        return fn(dense(x1), dense(x2))
    x1, x2 = _places(x1), _places(x2)
    if x1.indices is x2.indices and (linear or x1.unique_indices):
        return bcoo(fn(x1.data, x2.data), x1.indices, x1.shape, x1)
    indices = jnp.concatenate([x1.indices, x2.indices])
    if linear:
        return bcoo(jnp.concatenate([fn(x1.data, x2.dtype.type(0)), fn(x1.dtype.type(0), x2.data)]), indices, x1.shape)
    first = _merged(bcoo(jnp.pad(x1.data, (0, x2.nse)), indices, x1.shape))
    second = _merged(bcoo(jnp.pad(x2.data, (x1.nse, 0)), indices, x1.shape))
    return bcoo(fn(first.data, second.data), first.indices, x1.shape, first)


def _product(fn: Callable, x1: Any, x2: Any) -> Any:
    """An op of two arrays that is linear in each: at the entries of the sparse one."""
    if is_sparse(x1) and is_sparse(x2):
        return _union(fn, x1, x2)
    if is_sparse(x2):
        return _product(lambda a, b: fn(b, a), x2, x1)
    if np.broadcast_shapes(x1.shape, jnp.shape(x2)) != x1.shape:
        return fn(dense(x1), x2)
    x1 = _places(x1)
    values = jnp.broadcast_to(x2, x1.shape)[tuple(x1.indices.T)] if jnp.ndim(x2) else x2
    return bcoo(fn(x1.data, values), x1.indices, x1.shape, x1)


def _quotient(fn: Callable, x1: Any, x2: Any) -> Any:
    """A division: at the entries of `x1`, and where 0 is divided by 0 or by NaN.

    How many these are only values tell, so a traced quotient of arrays is dense.
    """
    if is_sparse(x2) or (jnp.ndim(x2) and any(isinstance(x, Tracer) for x in (x1.data, x2))):
        return fn(dense(x1), dense(x2))
    if jnp.ndim(x2):
        odd = jnp.broadcast_to(jnp.isnan(x2) | (x2 == 0), x1.shape)
        indices = jnp.argwhere(odd)
        x1 = _union(jnp.add, x1, bcoo(jnp.zeros(len(indices), x1.dtype), indices, x1.shape))
    return _product(fn, x1, x2)


_OPS: dict[Callable, str] = {
    _at_entries: """
        abs absolute angle arcsin arcsinh arctan arctanh cbrt ceil celu deg2rad elu erf erfinv expm1 fabs floor gelu
        hard_shrink hard_tanh isinf isnan leaky_relu log1p nan_to_num rad2deg relu relu6 round selu sign signbit silu
        sin sinh soft_shrink softsign sqrt square tan tanh tanh_shrink trunc
    """,
    # Those that are linear: places may be there twice.
    functools.partial(_at_entries, unique=False): "cast conj conjugate copy imag negative real stop_gradient",
    functools.partial(_union, linear=True): "add subtract",
    _of_all: "expand_dims get_item mean rearrange reshape slice squeeze sum swapaxes moveaxis transpose",
    _matrix_product: "matmul",
    _if_all: "concatenate",
    operator.call: "bincount convert_to_tensor",  # which know sparse arrays themselves
    _union: "maximum minimum",
    _product: "multiply",
    _quotient: "divide true_divide",
}
_RULES = {name: rule for rule, names in _OPS.items() for name in names.split()}


def call(name: str, fn: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What the op of this name gives for arguments among which are sparse arrays."""
    rule = _RULES.get(name)
    if rule is None:
        args, kwargs = tree_util.tree_map(dense, (args, kwargs), is_leaf=is_sparse)
        return fn(*args, **kwargs)
    if kwargs:  # rules take arguments by position
        given = inspect.signature(fn).bind(*args, **kwargs)
        args, kwargs = given.args, given.kwargs
    return rule(fn, *args, **kwargs)


def hot_entries(x: Any, num_classes: int, axis: int, values: Any) -> Any:
    """A new axis that has the value of each integer at the place that it says; 0 for negative ones."""
    axis %= x.ndim + 1
    places = [*jnp.indices(x.shape)]
    places.insert(axis, jnp.maximum(x, 0))
    indices = jnp.stack([place.reshape(-1).astype("int32") for place in places], axis=-1)
    data = jnp.where(x < 0, jnp.zeros_like(values), values).reshape(-1)
    return bcoo(data, indices, (*x.shape[:axis], num_classes, *x.shape[axis:]))


# Symbolic tensors stand for sparse arrays, too: they are inferred with one entry.


class _Sparse(NamedTuple):
    """An output that is sparse."""

    tensor: Any


def traced(fn: Callable, sparse: Sequence[bool]) -> Callable:
    """`fn` as a function of dense arrays, some of which stand for sparse ones; outputs that are sparse are marked."""

    def run(*arrays: Any) -> Any:
        given = [_one_entry(x) if one else x for x, one in zip(arrays, sparse)]
        return tree_util.tree_map(
            lambda x: _Sparse(jnp.zeros(x.shape, x.dtype)) if is_sparse(x) else x, fn(*given), is_leaf=is_sparse
        )

    return run


def _one_entry(x: Any) -> Any:
    return bcoo(jnp.zeros(1, x.dtype), jnp.zeros((1, x.ndim), "int32"), x.shape)


def told(outputs: Any) -> Any:
    """The symbolic outputs of what `traced` made, with the marks as their `sparse`."""

    def tell(x: Any) -> Any:
        if not isinstance(x, _Sparse):
            return x
        x.tensor.sparse = True
        return x.tensor

    return tree_util.tree_map(tell, outputs, is_leaf=lambda x: isinstance(x, _Sparse))
