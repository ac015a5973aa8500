"""Functions of jax.numpy under Keras's signatures, by kind: `sin = unary(jnp.sin)`, `sum = reduction(jnp.sum)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from lamina.core import dtypes
from lamina.core.budget import CALL, spend
from lamina.core.symbolic import op


def operand(x: Any) -> Any:
    """What jax.numpy takes for `x`: lists become arrays; numbers stay numbers, which adapt to the other operand."""
    return jnp.asarray(x) if isinstance(x, (list, tuple)) else x


def axes(axis: Any) -> Any:
    """`axis` as JAX wants it; several arrive as a list from a file."""
    return tuple(axis) if isinstance(axis, list) else axis


def parts(indices_or_sections: Any) -> Any:
    """Where an array is cut, or in how many parts, which a file that asks for them must be worth."""
    if isinstance(indices_or_sections, int):
        spend("split: a list of parts", indices_or_sections, work=CALL)
    return axes(indices_or_sections)


def items(xs: Any) -> list[Any]:
    """The arrays in a list, or those that lie along the first axis of an array."""
    if not isinstance(xs, (list, tuple)):
        spend("An array, taken apart along an axis", xs.shape[0], work=CALL)
    return [jnp.asarray(x) for x in xs]


def dtype_name(dtype: Any) -> str | None:
    """The name of a dtype in any notation; `None` stays."""
    return None if dtype is None else dtypes.standardize_dtype(dtype)


def unary(fn: Callable, name: str | None = None) -> Any:
    """`fn(x)`, element by element."""

    def call(x: Any) -> Any:
        return fn(operand(x))

    return op(_named(call, fn, name), elementwise=True)


def binary(fn: Callable, name: str | None = None) -> Any:
    """`fn(x1, x2)`, element by element."""

    def call(x1: Any, x2: Any) -> Any:
        return fn(operand(x1), operand(x2))

    return op(_named(call, fn, name), elementwise=True)


def bitwise(fn: Callable, name: str | None = None) -> Any:
    """`fn(x, y)`, element by element."""

    def call(x: Any, y: Any) -> Any:
        return fn(operand(x), operand(y))

    return op(_named(call, fn, name), elementwise=True)


def product(fn: Callable, name: str | None = None) -> Any:
    """`fn(x1, x2)`, which combines the axes of both."""

    def call(x1: Any, x2: Any) -> Any:
        return fn(operand(x1), operand(x2))

    return op(_named(call, fn, name))


def reduction(fn: Callable, name: str | None = None) -> Any:
    """`fn(x, axis, keepdims)`, over all axes or those given."""

    def call(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return fn(operand(x), axis=axes(axis), keepdims=keepdims)

    return op(_named(call, fn, name))


def reduction_from(fn: Callable, name: str | None = None) -> Any:
    """`fn(x, axis, keepdims, initial)`: a reduction that may start from a value."""

    def call(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
        return fn(operand(x), axis=axes(axis), keepdims=keepdims, initial=initial)

    return op(_named(call, fn, name))


def accumulation(fn: Callable, name: str | None = None) -> Any:
    """`fn(x, axis, dtype)`: running results along an axis."""

    def call(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
        return fn(operand(x), axis=axis, dtype=dtype_name(dtype))

    return op(_named(call, fn, name))


def quantiles(fn: Callable, name: str | None = None) -> Any:
    """`fn(x, q, axis, method, keepdims)`."""

    def call(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Any:
        return fn(jnp.asarray(x), jnp.asarray(q), axis=axes(axis), method=method, keepdims=keepdims)

    return op(_named(call, fn, name))


def windowing(fn: Callable, name: str | None = None) -> Any:
    """`fn(x)`: a window of `x` points, in the default float dtype."""

    def call(x: Any) -> Any:
        return fn(int(x)).astype(dtypes.floatx())

    return op(_named(call, fn, name))


def sections(fn: Callable, name: str | None = None) -> Any:
    """`fn(x, indices_or_sections)`: a list of parts along the function's own axis."""

    def call(x: Any, indices_or_sections: Any) -> list[Any]:
        return fn(operand(x), parts(indices_or_sections))

    return op(_named(call, fn, name))


def stacking(fn: Callable, name: str | None = None) -> Any:
    """`fn(xs)`: arrays put together along the function's own axis."""

    def call(xs: Any) -> Any:
        return fn(items(xs))

    return op(_named(call, fn, name))


def _named(call: Callable, fn: Callable, name: str | None) -> Callable:
    origin = fn.__name__
    call.__name__ = call.__qualname__ = name or origin
    call.__module__ = "lamina.ops"
    call.__doc__ = f"`{origin}` of JAX, under Keras's signature."
    return call
