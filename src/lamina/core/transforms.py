"""JAX transforms for code that reads and writes variables: `functional`, `value_and_grad`, `vmap`, `scan`, `cond`, ...

Each opens a `StateScope` inside the transformed function, so that the variables' values are the transform's tracers,
and brings what was assigned back to the variables when the transform has run. `jit` is in a file of its own.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util
from jax.core import Tracer

from lamina.core import placement, scope
from lamina.core.arrays import value_of
from lamina.core.effects import Effects
from lamina.core.lookups import Lookups
from lamina.core.state import StateScope
from lamina.core.variable import Variable


class State(NamedTuple):
    """The variables of a layer as two dicts of arrays by path: a pytree for any JAX transform."""

    trainable: dict[str, Any]
    non_trainable: dict[str, Any]


def functional(layer: Any) -> tuple[Callable[..., tuple[Any, State]], State]:
    """A layer as a pure function: `fn, state`, where `fn(state, *args, **kwargs) -> outputs, new_state`.

    `layer` must be built; its own variables stay as they are.

    >>> layer = layers.Dense(1, kernel_initializer="ones", name="line")
    >>> layer.build((None, 2))
    >>> fn, state = lamina.functional(layer)
    >>> sorted(state.trainable)
    ['line/bias', 'line/kernel']
    >>> outputs, state = fn(state, np.array([[1.0, 2.0]]))
    >>> outputs.tolist()
    [[3.0]]
    """
    if not getattr(layer, "built", True):
        raise ValueError(f'functional: layer "{layer.name}" must be built first; call it on data or call build().')
    own = State(by_path(layer.trainable_variables), by_path(layer.non_trainable_variables))

    def fn(state: State, *args: Any, **kwargs: Any) -> tuple[Any, State]:
        for part, known in zip(state, own):
            if part.keys() != known.keys():
                odd = ", ".join(sorted(part.keys() ^ known.keys()))
                raise ValueError(
                    f'functional "{layer.name}": state must have the layer\'s variables, differs in {odd}.'
                )
        pairs = [(v, part[path]) for part, known in zip(state, own) for path, v in known.items()]
        with StateScope(pairs) as inside:
            outputs = layer(*args, **kwargs)
        known_ids = {id(v) for v, _ in pairs}
        stray = [v.path for v in inside.written if id(v) not in known_ids]
        if stray:
            raise ValueError(
                f'functional "{layer.name}": must assign its own variables only, assigned {", ".join(stray)}; '
                "give layers a seed generator of their own, and keep variables in attributes."
            )
        return outputs, State(*(dict(zip(known, inside.values(known.values()))) for known in own))

    return fn, State(*({path: v.value for path, v in known.items()} for known in own))


def by_path(variables: Sequence[Variable]) -> dict[str, Variable]:
    """Variables by path; of those that have one path all but the first get a number."""
    found: dict[str, Variable] = {}
    for variable in variables:
        found[scope.unused_name(variable.path, found)] = variable  # two layers may have one name
    return found


# Gradients ----------------------------------------------------------------------------------------------------------


def value_and_grad(
    fn: Callable, variables: Any = None, *, has_aux: bool = False, sparse: Iterable[Variable] = ()
) -> Callable:
    """`fn`'s value and its gradient with respect to variables.

    Args:
        fn: returns a scalar, or `(scalar, aux)` with `has_aux`.
        variables: a list of variables, or a layer, whose trainable variables are meant.
        has_aux: whether `fn` returns more than the scalar.
        sparse: tables whose gradients may be sparse (`BCOO`): they are where few rows are looked up, and no more.

    Returns:
        A function of `fn`'s arguments that returns `value, gradients` (or `(value, aux), gradients`), the gradients
        in the order of the variables.

    >>> w = lamina.Variable([1.0, 2.0])
    >>> value, (gradient,) = lamina.value_and_grad(lambda: (w.value**2).sum(), [w])()
    >>> float(value), gradient.tolist()
    (5.0, [2.0, 4.0])
    """
    if not callable(fn) or variables is None:
        raise TypeError(
            "value_and_grad: must be given a function and the variables (or the layer) to differentiate by."
        )

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        targets = variables.trainable_variables if hasattr(variables, "trainable_variables") else list(variables)
        effects, scopes = Effects(), []

        def pure(values: list[Any]) -> tuple[Any, tuple]:
            scopes.append(Lookups(zip(targets, values), sparse))
            out, after = effects.collect(scopes[-1], fn, *args, **kwargs)
            value, aux = out if has_aux else (out, None)
            return value, (aux, after)

        pure = placement.gathering(pure)
        (value, (aux, after)), gradients = jax.value_and_grad(pure, has_aux=True)([v.current for v in targets])
        gradients = [scopes[-1].gradient(v, gradient) for v, gradient in zip(targets, gradients)]
        effects.apply(after)
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


# Once through -------------------------------------------------------------------------------------------------------


def remat(f: Callable, **options: Any) -> Callable:
    """`jax.checkpoint` for functions that read and write variables: recompute the inside in the backward pass."""

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        effects = Effects()

        def pure(*inner: Any, **inner_kwargs: Any) -> tuple[Any, tuple[list, list]]:
            return effects.collect(StateScope(), f, *inner, **inner_kwargs)

        out, after = jax.checkpoint(pure, **options)(*args, **kwargs)
        effects.apply(after)
        return out

    return wrapper


def vmap(fn: Callable, in_axes: Any = 0, out_axes: Any = 0, axis_name: Any = None, **options: Any) -> Callable:
    """`jax.vmap` for functions that read and write variables.

    What they assign must be the same for the whole batch. Each part of it draws random numbers of its own.
    """

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        effects = Effects()
        lanes = scope.lanes.get()
        lane = f"lane_{len(lanes)}" if axis_name is None else axis_name

        def pure(*inner: Any, **inner_kwargs: Any) -> tuple[Any, tuple[list, list]]:
            with scope.lanes((*lanes, lane)):
                return effects.collect(StateScope(), fn, *inner, **inner_kwargs)

        def mapped(pure: Callable, axes: Any) -> Any:
            return jax.vmap(pure, in_axes, axes, axis_name=lane, **options)(*args, **kwargs)

        try:
            out, (after, losses) = mapped(pure, (out_axes, (None, 0)))
        except ValueError as error:
            odd = [v.path for i, v in enumerate(effects.variables) if not _has_one(mapped, pure, i)]
            if not odd:
                raise
            raise ValueError(f"vmap: what is assigned must be the same for all parts, got others for {odd}.") from error
        effects.apply((after, [loss.sum(0) for loss in losses]))
        return out

    return wrapper


def _has_one(mapped: Callable, pure: Callable, index: int) -> bool:
    """Whether the value that `pure` assigns to variable `index` does not lie on the mapped axis."""
    try:
        jax.eval_shape(lambda: mapped(lambda *a, **k: pure(*a, **k)[1][0][index], None))
    except ValueError:
        return False
    return True


# Branches -----------------------------------------------------------------------------------------------------------


def cond(pred: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """`true_fn(*operands)` if `pred` holds, else `false_fn(*operands)`; both may read and write variables."""
    pred = value_of(pred)
    if np.ndim(pred):
        raise ValueError(f"cond: pred must be a scalar, got shape {np.shape(pred)}.")
    index = pred if isinstance(pred, Tracer) else 0 if pred else 1
    return _branch("cond", lambda *branches: lax.cond(pred, *branches, *operands), index, (true_fn, false_fn), operands)


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """`branches[index](*operands)`, the index moved into range; the branches may read and write variables."""
    index = value_of(index)
    if not isinstance(index, Tracer):
        index = min(max(int(index), 0), len(branches) - 1)
    return _branch("switch", lambda *b: lax.switch(index, b, *operands), index, branches, operands)


def _branch(who: str, traced: Callable, index: Any, branches: Sequence[Callable], operands: tuple) -> Any:
    """One of the branches, by `traced` where the index is. All are looked at, so all of their layers are built."""
    effects = Effects()
    shapes = [effects.find(branch, *operands) for branch in branches]
    forms = [tree_util.tree_map(lambda s: (s.shape, s.dtype.name), each) for each in shapes]
    for form in forms:
        if form != forms[0]:
            raise ValueError(f"{who}: branches must return the same shapes and dtypes, got {forms[0]} and {form}.")
    if not isinstance(index, Tracer):
        return tree_util.tree_map(lambda x: jnp.asarray(value_of(x)), branches[index](*operands))
    if not effects.touched:
        return traced(*branches)
    start = effects.before()
    out, after = traced(*(functools.partial(effects.run, start, branch) for branch in branches))
    effects.apply(after)
    return out


# Loops --------------------------------------------------------------------------------------------------------------
#
# What the body assigns is carried from step to step. JAX keeps the traces of functions that it meets again, with the
# values of variables in them: only a body that touches no variable is given to it as it is.


def scan(fn: Callable, init: Any, xs: Any = None, length: int | None = None, **options: Any) -> tuple[Any, Any]:
    """`jax.lax.scan` for functions that read and write variables: what is assigned is carried from step to step."""
    effects = Effects()
    effects.find(fn, init, tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.result_type(x)), xs))
    if not effects.touched:
        return lax.scan(fn, init, xs, length, **options)

    def step(carry: tuple, x: Any) -> tuple[tuple, Any]:
        (after, y), values = effects.run(carry[1], fn, carry[0], x)
        return (after, values), y

    (carry, after), ys = lax.scan(step, (init, effects.before()), xs, length, **options)
    effects.apply(after)
    return carry, ys


def fori_loop(lower: Any, upper: Any, body: Callable, init: Any, **options: Any) -> Any:
    """`jax.lax.fori_loop` for a body that reads and writes variables."""
    effects = Effects()
    effects.find(body, lower, init)
    if not effects.touched:
        return lax.fori_loop(lower, upper, body, init, **options)

    def step(i: Any, carry: tuple) -> tuple:
        return effects.run(carry[1], body, i, carry[0])

    value, after = lax.fori_loop(lower, upper, step, (init, effects.before()), **options)
    effects.apply(after)
    return value


def while_loop(cond: Callable, body: Callable, init: Any) -> Any:
    """`jax.lax.while_loop` for a condition and a body that read and write variables."""
    effects = Effects()
    effects.find(cond, init)
    effects.find(body, init)
    if not effects.touched:
        return lax.while_loop(cond, body, init)

    def holds(value: Any) -> Any:
        return jnp.asarray(value_of(cond(value)), bool)

    def body_and_cond(value: Any) -> tuple[Any, Any]:
        value = body(value)
        return holds(value), value

    def step(carry: tuple) -> tuple:
        return effects.run(carry[1], body_and_cond, carry[0][1])

    first = (holds(init), init)  # the condition may assign too: it is asked behind each step, not by the loop
    (_, value), after = lax.while_loop(lambda carry: carry[0][0], step, (first, effects.before()))
    effects.apply(after)
    return value


def associative_scan(fn: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """`jax.lax.associative_scan` for a function that reads variables."""

    def pure(*parts: Any) -> Any:
        effects = Effects()
        out, _ = effects.collect(StateScope(), fn, *parts)
        if effects.any:
            names = [v.path for v in effects.variables] or ["a loss"]
            raise ValueError(
                f"associative_scan: f must not assign or add losses, as its calls have no order, got {names[0]}."
            )
        return out

    return lax.associative_scan(pure, elems, reverse, axis)
