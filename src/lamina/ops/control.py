"""The core of `keras.ops`: conversion, shapes, slices, scatters, and control flow of JAX under Keras's names."""

import functools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util

from lamina.core import checks, dtypes, transforms
from lamina.core.budget import CALL, spend
from lamina.core.sparse import dense, is_sparse
from lamina.core.symbolic import KerasTensor, op
from lamina.core.variable import Variable
from lamina.ops.binding import bound, dtype_name, items, operand
from lamina.ops.numpy import where


@op(elementwise=True)
def convert_to_tensor(x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None) -> Any:
    """`x` as an array, of `dtype` if given; a sparse one stays so unless `sparse` is false."""
    if ragged:
        raise ValueError(
            f"convert_to_tensor: ragged must not be set, got {ragged=}; pad what has rows of several lengths."
        )
    if is_sparse(x) and sparse is not False:
        return x if dtype is None else cast(x, dtype)
    return jnp.asarray(dense(x), dtype=dtype_name(dtype))


def convert_to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array of its own."""
    return np.array(np.asarray(dense(x)))


@op(elementwise=True)
def cast(x: Any, dtype: Any) -> Any:
    """`x` in another dtype."""
    return jnp.asarray(x, dtype=dtypes.standardize_dtype(dtype))


@op(elementwise=True)
def saturate_cast(x: Any, dtype: Any) -> Any:
    """`x` in another dtype, with values outside its range moved to its ends."""
    x = jnp.asarray(x)
    target = jnp.dtype(dtypes.standardize_dtype(dtype))
    low, high = (max(_range(x.dtype)[0], _range(target)[0]), min(_range(x.dtype)[1], _range(target)[1]))
    # In a coarser float the end may round outwards; the next value inwards is safe.
    ends = []
    for end in (low, high):
        limit = np.asarray(end).astype(x.dtype)
        if not low <= limit.item() <= high:
            limit = np.nextafter(limit, np.zeros((), x.dtype))
        ends.append(limit)
    return jnp.clip(x.astype("int32") if x.dtype == bool else x, *ends).astype(target)


def _range(dtype: Any) -> tuple[Any, Any]:
    if jnp.issubdtype(dtype, jnp.bool_):
        return 0, 1
    info = jnp.iinfo(dtype) if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo(dtype)
    return (info.min, info.max) if isinstance(info.min, int) else (float(info.min), float(info.max))


def dtype(x: Any) -> str:
    """The name of the dtype of `x`."""
    return dtypes.standardize_dtype(x.dtype)


def shape(x: Any) -> tuple[int | None, ...]:
    """The shape of `x`; `None` is an unknown size."""
    return x.shape if isinstance(x, (KerasTensor, Variable)) or is_sparse(x) else jnp.shape(operand(x))


def is_tensor(x: Any) -> bool:
    """Whether `x` is an array of JAX, dense or sparse."""
    return isinstance(x, jax.Array) or is_sparse(x)


@op
def slice(inputs: Any, start_indices: Any, shape: Sequence[int]) -> Any:
    """The block of a shape that starts at some indices; -1 is all that remains along an axis."""
    inputs, start_indices = jnp.asarray(inputs), _starts(start_indices)
    places = zip(inputs.shape, start_indices, shape, strict=True)
    sizes = [n - int(start) if size == -1 else size for n, start, size in places]
    return lax.dynamic_slice(inputs, start_indices, sizes)


@op
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """`inputs` with `updates` written over the block that starts at some indices."""
    return lax.dynamic_update_slice(jnp.asarray(inputs), jnp.asarray(updates), _starts(start_indices))


def _starts(indices: Any) -> tuple[Any, ...]:
    return tuple(indices if isinstance(indices, (list, tuple)) else items(indices))


@op
def scatter(indices: Any, values: Any, shape: Sequence[int]) -> Any:
    """Zeros of a shape, with `values` added at the index vectors along the last axis of `indices`."""
    indices, values = jnp.asarray(indices), jnp.asarray(values)
    return jnp.zeros(shape, values.dtype).at[tuple(items(jnp.moveaxis(indices, -1, 0)))].add(values)


_SCATTERS = {None: "set", "add": "add", "max": "max", "min": "min", "mul": "multiply"}


@op
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Any:
    """`inputs` with `updates` written (or added, ...) at the index vectors that are the rows of `indices`."""
    reduction = reduction.lower() if isinstance(reduction, str) else reduction
    checks.one_of("scatter_update", "reduction", reduction, _SCATTERS)
    places = jnp.asarray(inputs).at[tuple(items(jnp.asarray(indices).T))]
    return getattr(places, _SCATTERS[reduction])(operand(updates))


@op
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Any]:
    """The parts of `x` along an axis, without that axis."""
    x = jnp.asarray(x)
    count = x.shape[axis] if num is None else num
    if isinstance(count, int):
        spend("unstack: a list of parts", count, work=CALL)
    return [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(count)]


stop_gradient = bound(
    lax.stop_gradient, "variable", "The same values, which gradients do not pass.", elementwise=True, variable=operand
)


# Control flow. The functions may read and write variables: layers in training, metrics, random draws.


@op(in_graph=lambda pred, true_fn, false_fn: _chosen("cond", [pred], [true_fn(), false_fn()]))
def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """`true_fn()` if `pred` holds, else `false_fn()`. In a graph both are computed, and one is chosen."""
    if isinstance(pred, bool):
        return true_fn() if pred else false_fn()
    return transforms.cond(pred, true_fn, false_fn)


def _switch_in_graph(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    conditions = [index <= i for i in range(len(branches) - 1)]
    return _chosen("switch", conditions, [branch(*operands) for branch in branches])


@op(in_graph=_switch_in_graph)
def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """`branches[index](*operands)`, the index moved into range. In a graph all are computed, and one is chosen."""
    return transforms.switch(index, branches, *operands)


def _chosen(who: str, conditions: list[Any], outputs: list[Any]) -> Any:
    """The first output whose condition holds, else the last, as nodes of a graph."""
    odd = next((c for c in conditions if shape(c) != ()), None)
    if odd is not None:
        raise ValueError(f"{who}: what chooses must be a scalar, got shape {shape(odd)}.")
    forms = [tree_util.tree_map(lambda x: (shape(x), dtypes.result_type(x.dtype)), each) for each in outputs]
    for form in forms:
        if form != forms[0]:
            raise ValueError(f"{who}: branches must return the same shapes and dtypes, got {forms[0]} and {form}.")
    chosen = outputs[-1]
    for condition, output in reversed(list(zip(conditions, outputs))):
        chosen = tree_util.tree_map(functools.partial(where, condition), output, chosen)
    return chosen


@op
def while_loop(cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None) -> Any:
    """`loop_vars = body(*loop_vars)` for as long as `cond(*loop_vars)` holds."""
    several = isinstance(loop_vars, (tuple, list))

    def goes_on(state: tuple) -> Any:
        count, values = state
        holds = cond(*values)
        return holds if maximum_iterations is None else jnp.logical_and(holds, count < maximum_iterations)

    def step(state: tuple) -> tuple:
        count, values = state
        new = body(*values)
        return count + 1, (tuple(new) if several else (new,))

    _, values = transforms.while_loop(goes_on, step, (0, tuple(loop_vars) if several else (loop_vars,)))
    return values if several else values[0]


@op
def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    """`value = body_fun(i, value)` for i from `lower` to below `upper`."""
    return transforms.fori_loop(lower, upper, body_fun, init_val)


@op
def scan(
    f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: Any = 1
) -> tuple[Any, Any]:
    """`carry, y = f(carry, x)` for each part x of `xs`: the last carry and all ys."""
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ValueError(f"scan: unroll must be a boolean or a positive integer, got {unroll!r}.")
    return transforms.scan(f, init, xs, length, reverse=reverse, unroll=unroll)


@op
def associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """The running results of an associative function along an axis, in parallel."""
    return transforms.associative_scan(f, elems, reverse, axis)


@op
def map(f: Callable, xs: Any) -> Any:
    """`f` of each part of `xs` along its first axis, one after the other."""
    return transforms.scan(lambda _, x: (None, f(x)), None, xs)[1]


@op
def vectorized_map(function: Callable, elements: Any) -> Any:
    """`function` of each part of `elements` along its first axis, all at once; each draws random numbers of its own."""
    return transforms.vmap(function)(elements)


def custom_gradient(f: Callable) -> Callable:
    """A function that returns what `f` returns first; the second result of `f` is its gradient."""
    return op(jax.custom_gradient(f))


@op
def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> Any:
    """Axes in another order, split or joined, as `"b (h w) c -> b c h w"` says.

    Args:
        tensor: an array.
        pattern: names of the axes before and after `->`; parentheses join several into one.
        axes_lengths: sizes of names that cannot be derived from the array's shape.
    """
    x = jnp.asarray(tensor)
    sides = pattern.split("->")
    groups = [[g.strip("()").split() for g in re.findall(r"\([^()]*\)|\S+", side)] for side in sides]
    before, after = ([name for group in side for name in group] for side in (groups * 2)[:2])
    if len(groups) != 2 or sorted(before) != sorted(after) or len(set(before)) < len(before):
        raise ValueError(f"rearrange: pattern must have the same names on both sides of '->', got {pattern!r}.")
    if len(groups[0]) != x.ndim:
        raise ValueError(f"rearrange: pattern must name {x.ndim} axes for shape {x.shape}, got {pattern!r}.")
    sizes: dict[str, Any] = dict(axes_lengths)
    for group, length in zip(groups[0], x.shape):
        unknown = [name for name in group if name not in sizes]
        if len(unknown) > 1:
            raise ValueError(f"rearrange: the sizes of all but one of {', '.join(group)} must be given in {pattern!r}.")
        known = _size(sizes, [name for name in group if name in sizes])
        sizes |= {name: length // known for name in unknown}
    split = x.reshape([sizes[name] for name in before])
    joined = [_size(sizes, group) for group in groups[1]]
    return split.transpose([before.index(name) for name in after]).reshape(joined)


def _size(sizes: dict[str, Any], group: list[str]) -> Any:
    return functools.reduce(operator.mul, (sizes[name] for name in group), 1)
