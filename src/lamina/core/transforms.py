"""JAX transforms for code that reads and writes variables: `functional`, `jit`, `value_and_grad`, `vmap`, `scan`, ...

Each opens a `StateScope` inside the transformed function, so that the variables' values are the transform's tracers,
and brings what was assigned back to the variables when the transform has run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from lamina.core.state import StateScope
from lamina.core.variable import Variable


class State(NamedTuple):
    """The variables of a layer as two dicts of arrays by path: a pytree for any JAX transform."""

    trainable: dict[str, Any]
    non_trainable: dict[str, Any]


def functional(layer: Any) -> tuple[Callable[..., tuple[Any, State]], State]:
    """A layer as a pure function: `fn, state`, where `fn(state, *args, **kwargs) -> outputs, new_state`.

    `layer` must be built; its own variables stay as they are.
    """
    if not getattr(layer, "built", True):
        raise ValueError(f'functional: layer "{layer.name}" must be built first; call it on data or call build().')
    trainable = _by_path(layer.trainable_variables)
    non_trainable = _by_path(layer.non_trainable_variables)

    def fn(state: State, *args: Any, **kwargs: Any) -> tuple[Any, State]:
        for part, known in zip(state, (trainable, non_trainable)):
            if part.keys() != known.keys():
                odd = ", ".join(sorted(part.keys() ^ known.keys()))
                raise ValueError(
                    f'functional "{layer.name}": state must have the layer\'s variables, differs in {odd}.'
                )
        pairs = [(v, part[path]) for part, known in zip(state, (trainable, non_trainable)) for path, v in known.items()]
        with StateScope(pairs) as scope:
            outputs = layer(*args, **kwargs)
        known_ids = {id(v) for v, _ in pairs}
        stray = [v.path for v in scope.written if id(v) not in known_ids]
        if stray:
            raise ValueError(
                f'functional "{layer.name}": must assign its own variables only, assigned {", ".join(stray)}; '
                "give layers a seed generator of their own, and keep variables in attributes."
            )
        new = (dict(zip(known, scope.values(known.values()))) for known in (trainable, non_trainable))
        return outputs, State(*new)

    return fn, State(*({p: v.value for p, v in part.items()} for part in (trainable, non_trainable)))


def _by_path(variables: Sequence[Variable]) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for variable in variables:
        path, count = variable.path, 1
        while path in found:  # two layers of one name
            path, count = f"{variable.path}_{count}", count + 1
        found[path] = variable
    return found


def jit(fn: Callable | None = None, **options: Any) -> Callable:
    """`jax.jit` for functions that read and write variables.

    The variables are found when the function is first traced, and passed as one flat tuple from then on. What the
    function assigns is assigned when it returns.

    Args:
        fn: the function; without it, a decorator is returned.
        options: of `jax.jit`, with argument numbers counted as `fn` counts them.
    """
    if fn is None:
        return functools.partial(jit, **options)
    known: list[Variable] = []
    shifted = {k: _shift(v) if k.endswith("argnums") else v for k, v in options.items()}

    @functools.partial(jax.jit, **shifted)
    @functools.wraps(fn)
    def pure(values: tuple, *args: Any, **kwargs: Any) -> tuple[Any, dict[int, Any]]:
        found: dict[int, Variable] = {}
        pairs = list(zip(known, values))
        with StateScope(pairs, on_missing=lambda v: found.setdefault(id(v), v)) as scope:
            out = fn(*args, **kwargs)
        if found:
            raise _FoundVariables(list(found.values()))
        index = {id(v): i for i, v in enumerate(known)}
        return out, {index[id(v)]: scope.read(v) for v in scope.written}

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                out, written = pure(tuple(v.current for v in known), *args, **kwargs)
            except _FoundVariables as found:
                known.extend(found.variables)
                continue
            for i, value in written.items():
                known[i].assign(value)
            return out

    return wrapper


class _FoundVariables(Exception):
    def __init__(self, variables: list[Variable]):
        self.variables = variables


def _shift(argnums: int | Sequence[int]) -> int | tuple[int, ...]:
    """Argument numbers after the tuple of values was put in front."""
    if isinstance(argnums, int):
        return argnums + 1 if argnums >= 0 else argnums
    return tuple(n + 1 if n >= 0 else n for n in argnums)


def value_and_grad(fn: Callable, variables: Any = None, *, has_aux: bool = False) -> Callable:
    """`fn`'s value and its gradient with respect to variables.

    Args:
        fn: returns a scalar, or `(scalar, aux)` with `has_aux`.
        variables: a list of variables, or a layer, whose trainable variables are meant.
        has_aux: whether `fn` returns more than the scalar.

    Returns:
        A function of `fn`'s arguments that returns `value, gradients` (or `(value, aux), gradients`), the gradients
        in the order of the variables.
    """
    if not callable(fn) or variables is None:
        raise TypeError(
            "value_and_grad: must be given a function and the variables (or the layer) to differentiate by."
        )

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        targets = variables.trainable_variables if hasattr(variables, "trainable_variables") else list(variables)
        written: list[Variable] = []

        def pure(values: list[Any]) -> tuple[Any, tuple]:
            with StateScope(zip(targets, values)) as scope:
                out = fn(*args, **kwargs)
            value, aux = out if has_aux else (out, None)
            written[:] = scope.written
            return value, (aux, tuple(scope.values(written)))

        values = [v.current for v in targets]
        (value, (aux, after)), gradients = jax.value_and_grad(pure, has_aux=True)(values)
        for variable, new in zip(written, after):
            variable.assign(new)
        return ((value, aux) if has_aux else value), gradients

    return wrapper


def grad(fn: Callable, variables: Any = None, *, has_aux: bool = False) -> Callable:
    """`fn`'s gradient with respect to variables: `value_and_grad` without the value."""
    both = value_and_grad(fn, variables, has_aux=has_aux)

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return wrapper


def _with_state(transform: Callable[[Callable], Callable], fn: Callable) -> Callable:
    """Run `transform` on `fn` with its assignments among the outputs, and make them afterwards."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        written: list[Variable] = []

        def pure(*inner: Any, **inner_kwargs: Any) -> tuple[Any, tuple]:
            with StateScope() as scope:
                out = fn(*inner, **inner_kwargs)
            written[:] = scope.written
            return out, tuple(scope.values(written))

        out, after = transform(pure)(*args, **kwargs)
        for variable, new in zip(written, after):
            variable.assign(new)
        return out

    return wrapper


def vmap(fn: Callable, in_axes: Any = 0, out_axes: Any = 0, **options: Any) -> Callable:
    """`jax.vmap` for functions that read variables. What they assign must be the same for the whole batch."""

    def transform(pure: Callable) -> Callable:
        return jax.vmap(pure, in_axes=in_axes, out_axes=(out_axes, None), **options)

    return _with_state(transform, fn)


def remat(f: Callable, **options: Any) -> Callable:
    """`jax.checkpoint` for functions that read and write variables: recompute the inside in the backward pass."""
    return _with_state(lambda pure: jax.checkpoint(pure, **options), f)


def scan(fn: Callable, init: Any, xs: Any = None, length: int | None = None, **options: Any) -> tuple[Any, Any]:
    """`jax.lax.scan` for functions that read and write variables: what is assigned is carried from step to step."""
    changing: list[Variable] = []

    def probe(carry: Any, x: Any) -> Any:
        with StateScope() as scope:
            out = fn(carry, x)
        changing[:] = scope.written
        return out

    def pure(carry: tuple, x: Any) -> tuple[tuple, Any]:
        carry, values = carry
        with StateScope(zip(changing, values)) as scope:
            carry, y = fn(carry, x)
        return (carry, scope.values(changing)), y

    jax.eval_shape(probe, init, jax.tree.map(lambda a: a[0], xs))
    (carry, after), ys = jax.lax.scan(pure, (init, [v.current for v in changing]), xs, length, **options)
    for variable, value in zip(changing, after):
        variable.assign(value)
    return carry, ys
