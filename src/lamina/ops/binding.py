"""Functions of jax.numpy under Keras's signatures: `diag = bound(jnp.diag, "x k=0")`, and kinds that share one."""

import ast
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import dtypes
from lamina.core.arrays import as_array
from lamina.core.budget import CALL, spend
from lamina.core.symbolic import op


def operand(x: Any) -> Any:
    """What jax.numpy takes for `x`: lists become arrays; numbers stay numbers, which adapt to the other operand."""
    return jnp.asarray(x) if isinstance(x, (list, tuple)) else x


def numbers(x: Any) -> Any:
    """Numbers in a list, in host memory, where a compiled program sees them, too."""
    return np.asarray(x) if isinstance(x, (list, tuple)) else x


def axes(axis: Any) -> Any:
    """`axis` as JAX wants it; several arrive as a list from a file."""
    return tuple(axis) if isinstance(axis, list) else axis


def times(repeats: Any) -> Any:
    """How often, of which JAX asks nothing."""
    each = repeats if isinstance(repeats, (list, tuple)) else (repeats,)
    if any(isinstance(n, (int, np.integer)) and n < 0 for n in each):
        raise ValueError("repeats must not be below 0")
    return axes(repeats)


def bounds(range: Any) -> Any:
    """A lower and an upper bound, which JAX takes in any order."""
    if range is not None and len(range) == 2 and range[0] > range[1]:
        raise ValueError("range must be a lower and an upper bound")
    return range


def array_of(x: Any) -> Any:
    """`x` as an array of a dtype of its own, numbers too: Python's floats are then of the default float."""
    x = jnp.asarray(x)
    return x.astype(x.dtype)


def fractions(x: Any) -> Any:
    """`x` as floats, if it is integers: differences of unsigned ones would wrap around."""
    x = as_array(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(dtypes.floating(x.dtype))


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


# How arguments are taken, by name; all others as `axes` does.
_ARRAYS = ("x", "x1", "x2", "y", "q", "array", "bins", "fill_value", "indices", "start", "stop", "weights")
_TAKEN: dict[str, Callable] = {
    **dict.fromkeys(_ARRAYS, operand), "dtype": dtype_name, "indices_or_sections": parts, "repeats": numbers,
    "xs": items,
}  # fmt: skip


def bound(
    fn: Callable,
    signature: str,
    doc: str = "",
    *,
    name: str = "",
    elementwise: bool = False,
    compiled: bool = False,
    **taken: Callable,
) -> Any:
    """`fn` as an op under Keras's signature: `fn(*those without a default, **those with one)`.

    Args:
        fn: a function of JAX.
        signature: the arguments and their defaults, as `"x axis=None"`.
        doc: what is computed.
        name: the op's, that of `fn` if not given.
        elementwise: the output lies on the same axes as the inputs.
        compiled: whether it is one program where it is called by itself, and not a few operations.
        taken: how an argument is taken, where it is not as all of its name.
    """
    words = [word.partition("=") for word in signature.split()]
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    arguments = [(word, ast.literal_eval(text) if text else empty) for word, _, text in words]
    known = inspect.Signature([inspect.Parameter(word, kind, default=default) for word, default in arguments])
    takes = [taken.get(word) or _TAKEN.get(word, axes) for word, _ in arguments]
    needed = sum(default is empty for _, default in arguments)
    optional = [word for word, _ in arguments[needed:]]
    run: Callable = fn
    if compiled or isinstance(fn, jax.custom_jvp):  # which looks at its own signature in each call: 50 us
        run = jax.jit(fn, static_argnames=optional, inline=True)

    def complete(args: tuple, kwargs: dict[str, Any]) -> list[Any]:
        left = dict(kwargs)
        given = [*args, *(left.pop(word, default) for word, default in arguments[len(args) :])]
        if left or len(given) > len(takes) or any(value is empty for value in given):
            told = "".join(f", {word}" for word in kwargs)
            raise TypeError(f"{call.__name__}: must be called as {call.__name__}{known}, got {len(args)} values{told}.")
        return given

    def call(*args: Any, **kwargs: Any) -> Any:
        given = args if len(args) == len(takes) and not kwargs else complete(args, kwargs)
        values = [take(value) for take, value in zip(takes, given)]
        return run(*values[:needed], **dict(zip(optional, values[needed:])))

    setattr(call, "__signature__", known)  # noqa: B010
    call.__name__ = call.__qualname__ = name or fn.__name__
    call.__module__ = "lamina.ops"
    call.__doc__ = doc or f"`{fn.__name__}` of JAX, under Keras's signature."
    return op(call, elementwise=elementwise)


def _kind(signature: str, elementwise: bool = False, **taken: Any) -> Callable:
    """What makes ops of one signature: `sum = reduction(jnp.sum)`."""
    return lambda fn, name="", **more: bound(fn, signature, name=name, elementwise=elementwise, **taken, **more)


unary = _kind("x", elementwise=True)
binary = _kind("x1 x2", elementwise=True)
bitwise = _kind("x y", elementwise=True)
product = _kind("x1 x2")
reduction = _kind("x axis=None keepdims=False")
reduction_from = _kind("x axis=None keepdims=False initial=None")
accumulation = _kind("x axis=None dtype=None")
quantiles = _kind("x q axis=None method='linear' keepdims=False", x=jnp.asarray, q=jnp.asarray)
sections = _kind("x indices_or_sections")
stacking = _kind("xs")
creation = functools.partial(bound, dtype=dtypes.standardize_dtype)


def windowing(fn: Callable) -> Any:
    """`fn(x)`: a window of `x` points, in the default float dtype."""
    return bound(lambda x: fn(x).astype(dtypes.floatx()), "x", name=fn.__name__, x=int)
