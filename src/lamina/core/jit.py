"""`jit`: `jax.jit` for functions that read and write variables."""

from __future__ import annotations

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jax.core import Tracer

from lamina.core import dtypes, handover, placement, scope, state
from lamina.core.arrays import copied, value_of
from lamina.core.effects import TRACES, ClosedScope, FoundVariables, add_losses, calls_host, made_anew
from lamina.core.runtime import keep_freed_memory
from lamina.core.variable import Variable

_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
_OPTIONS = frozenset(["backend", "compiler_options", "device", "inline", "keep_unused"])


def jit(
    fn: Callable | None = None,
    *,
    static_argnums: Any = (),
    static_argnames: Any = (),
    donate_argnums: Any = (),
    donate_argnames: Any = (),
    donate_state: bool = False,
    **options: Any,
) -> Any:
    """`jax.jit` for functions and methods that read and write variables.

    The variables are found when the function is first traced, and passed to it from then on. What the function assigns
    is assigned when it returns, and what it returns is never a variable's own array. As under `jax.jit`, all else that
    it reads (attributes, `trainable`) is as it was at the first call with such arguments; the settings of the process
    and the layer call around are looked at anew.

    Args:
        fn: the function; without it, a decorator is returned.
        static_argnums, static_argnames: arguments that are no arrays; each of their values is compiled for.
        donate_argnums, donate_argnames: arguments whose memory the results may take.
        donate_state: whether new values take the memory of the variables, as in `fit`: a loop of one's own then holds
            its weights once. Arrays that a program got from the variables stay as they are.
        options: of `jax.jit`; shardings excepted, which arrays bring with them.

    >>> count = lamina.Variable(0.0)
    >>> step = lamina.jit(lambda x: count.assign_add(x))
    >>> step(2.0), step(3.0), float(count)
    (Array(2., dtype=float32), Array(5., dtype=float32), 5.0)
    """
    if fn is None:
        given = {name: value for name, value in locals().items() if name not in ("fn", "options")}
        return functools.partial(jit, **given, **options)
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(f"jit: options must be among {', '.join(sorted(_OPTIONS))}, got {', '.join(sorted(unknown))}.")
    static = _places(fn, "static", static_argnums, static_argnames)
    donated = _places(fn, "donate", donate_argnums, donate_argnames)
    return Jitted(fn, static, donated, {**options, "donate_argnums": (0, 2) if donate_state else (2,)})


def _who(fn: Callable) -> str:
    return f'jit "{getattr(fn, "__name__", type(fn).__name__)}"'


def _places(fn: Callable, kind: str, numbers: Any, names: Any) -> frozenset[str]:
    """Arguments by name and by position, as "x" and "0": one that is given in either way is meant."""
    who = _who(fn)
    parameters = inspect.signature(fn).parameters.values()
    kinds = {p.kind for p in parameters}
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    every = [p.name for p in parameters]
    found: set[str] = set()
    for number in (numbers,) if isinstance(numbers, int) else numbers or ():
        at = number + len(positional) if number < 0 else number
        if not 0 <= at < len(positional) and (number < 0 or inspect.Parameter.VAR_POSITIONAL not in kinds):
            raise ValueError(f"{who}: {kind}_argnums must be below {len(positional)}, got {number}.")
        found |= {str(at), *positional[at : at + 1]}
    for name in (names,) if isinstance(names, str) else names or ():
        if name not in every and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ValueError(f"{who}: {kind}_argnames must be among {', '.join(every)}, got {name!r}.")
        found |= {name, *(str(at) for at, known in enumerate(positional) if known == name)}
    return frozenset(found)


class Jitted:
    """A function with a program for each of its static arguments and surroundings.

    As a method it has programs for each instance, which it does not keep alive.
    """

    def __init__(self, fn: Callable, static: frozenset, donated: frozenset, options: dict, owner: Any = None):
        functools.update_wrapper(self, fn)
        self.who = _who(fn)
        self.fn, self.static, self.donated, self.options = fn, static, donated, options
        self.owner = owner  # a weak reference to the instance, which is the first argument
        self._programs: dict[Any, _Program] = {}
        self._methods: dict[int, tuple[Any, Jitted]] = {}
        self._lock = threading.Lock()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        key = id(instance)  # not the instance: it may have an equality of its own
        with self._lock:
            if key not in self._methods:
                here = weakref.ref(instance, lambda _: self._methods.pop(key, None))
                self._methods[key] = here, Jitted(self.fn, self.static, self.donated, self.options, here)
            return types.MethodType(self._methods[key][1], instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}
        if self.owner is not None:
            del given["0"]
        fixed = {name: given.pop(name) for name in self.static & given.keys()}
        donated = {name: given.pop(name) for name in self.donated & given.keys()}
        key = tuple((name, type(value), value) for name, value in sorted(fixed.items())), _surroundings()
        try:
            program = self._programs.get(key)
        except TypeError as error:
            raise ValueError(f"{self.who}: static arguments must be hashable, got {fixed}.") from error
        if program is None:
            with self._lock:
                program = self._programs.setdefault(key, _Program(self, fixed))
        try:
            return program(donated, given)
        except (TypeError, ValueError):
            for name, value in (donated | given).items():
                odd = [leaf for leaf in tree_util.tree_leaves(value) if not isinstance(leaf, _ARRAYS)]
                if odd:
                    rule = f"argument {name} must hold arrays, got a {type(odd[0]).__name__}"
                    remedy = "name what is none in static_argnames, and read variables in the function"
                    raise TypeError(f"{self.who}: {rule}; {remedy}.") from None
            raise

    def trace(self, given: dict[str, Any]) -> Any:
        """Call the function on arguments by name and position."""
        if self.owner is not None:
            given = {**given, "0": self.owner()}
        positions = sorted(int(name) for name in given if name.isdigit())
        args = [given.pop(str(i)) for i in positions]
        return self.fn(*args, **given)

    def __deepcopy__(self, memo: dict) -> Jitted:
        return self  # as functions are


def _surroundings() -> tuple:
    """What a trace depends on beside arguments and JAX's own settings."""
    call = scope.call.get()
    inside = (call.training,) if call is not None else ()
    here = placement.current(), scope.autocast.get(), scope.lanes.get(), scope.watch.get()
    return *here, inside, dtypes.floatx(), dtypes.epsilon()


class _Program:
    """A function with its static arguments: the variables that it touches, and its compiled form for these."""

    def __init__(self, jitted: Jitted, fixed: dict[str, Any]):
        keep_freed_memory()
        self._jitted, self._fixed = jitted, fixed
        self._adders: list[Any] = []  # weak references to the layers that add losses
        self._lock = threading.Lock()
        self._form = _Form(self._pure, (), (), jitted.options)

    def __call__(self, donated: dict[str, Any], kept: dict[str, Any]) -> Any:
        for _ in range(TRACES):
            form = self._form
            try:
                out, losses = form(donated, kept)
            except FoundVariables as found:
                with self._lock:
                    if self._form is form:
                        self._form = form.with_more(found.missing, found.assigned)
                continue
            add_losses((layer, loss) for i, loss in losses.items() if (layer := self._adders[int(i)]()) is not None)
            return out
        raise made_anew(self._jitted.who, self._form.changing[-1:] or self._form.reading[-1:])

    def _pure(self, form: _Form, changing: tuple, reading: tuple, donated: dict, kept: dict) -> tuple:
        with ClosedScope(form.changing, changing, form.reading, reading) as inside:
            out = tree_util.tree_map(value_of, self._jitted.trace({**self._fixed, **donated, **kept}))
        losses: dict[str, Any] = {}
        for layer, loss in inside.losses:
            name = str(self._number(layer))
            losses[name] = losses.get(name, 0) + loss
        values = placement.pinned(form.changing, inside.values(form.changing))
        return _in_own_memory((values, out, losses), (changing, reading, donated, kept))

    def _number(self, layer: Any) -> int:
        with self._lock:
            numbers = [i for i, known in enumerate(self._adders) if known() is layer]
            if not numbers:
                self._adders.append(weakref.ref(layer))
            return numbers[0] if numbers else len(self._adders) - 1


class _Form:
    """A compiled function of the variables that it changes and of those that it only reads."""

    def __init__(self, pure: Callable, changing: Iterable[Variable], reading: Iterable[Variable], options: dict):
        self.changing, self.reading = tuple(changing), tuple(reading)
        self._pure, self._options = pure, options
        self.gives = 0 in options["donate_argnums"]
        self._hosts: bool | None = None  # whether the program runs Python, once a call has gone well
        self._compiled = jax.jit(functools.partial(pure, self), **options)

    def with_more(self, missing: list[Variable], assigned: list[Variable]) -> _Form:
        """The form that holds more variables, and knows of more that they change."""
        every = {id(v): v for v in (*self.changing, *self.reading, *missing)}
        changing = {id(v): v for v in (*self.changing, *assigned)}
        reading = [v for key, v in every.items() if key not in changing]
        return _Form(self._pure, changing.values(), reading, self._options)

    def __call__(self, donated: dict[str, Any], kept: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        def run(arrays: Sequence[Any]) -> tuple[list[Any], Any, dict[str, Any]]:
            split = len(self.changing)
            return self._compiled(tuple(arrays[:split]), tuple(arrays[split:]), donated, kept)

        variables = (*self.changing, *self.reading)
        placement.arrange(variables)
        if state.current.get() is not None:  # inside another transform
            values, out, losses = run([v.current for v in variables])
            self._put(values)
        elif self.gives and self._hosts is False and not any(map(_is_traced, tree_util.tree_leaves((donated, kept)))):
            with handover.exchange():
                values, out, losses = run([*map(Variable.give, self.changing), *(v.stored for v in self.reading)])
                self._put(values)
        else:
            if self.gives:
                # The old values must stay: Python that is called may read them, the call may fail, or a plain transform
                # of JAX refuse the new ones. And nobody need wait while it is traced.
                with handover.still:
                    arrays = [*(copied(v.stored) for v in self.changing), *(v.hand_out() for v in self.reading)]
                values, out, losses = run(arrays)
            else:
                values, out, losses = handover.call(run, variables)
            if self._hosts is None:
                self._hosts = self._calls_host([v.stored for v in variables], donated, kept)
            if self._hosts:
                jax.block_until_ready(values)  # what the host reads meanwhile must not wait for the program's own end
            if self.changing:
                with handover.exchange():
                    self._put(values)
        return out, losses

    def _calls_host(self, arrays: list[Any], donated: dict[str, Any], kept: dict[str, Any]) -> bool:
        split = len(self.changing)
        traced = self._compiled.trace(tuple(arrays[:split]), tuple(arrays[split:]), donated, kept)
        return calls_host(traced.jaxpr.jaxpr)

    def _put(self, values: list[Any]) -> None:
        inside = state.current.get() is not None
        for variable, value in zip(self.changing, values):
            if inside or isinstance(value, Tracer):
                variable.assign(value)
            else:
                variable.take(value)


def _is_traced(x: Any) -> bool:
    return isinstance(x, Tracer)


def _in_own_memory(outputs: Any, inputs: Any) -> Any:
    """The outputs, copied where JAX may let two share memory: one that is an input, and one that comes again."""
    seen = {id(x) for x in tree_util.tree_leaves(inputs)}

    def own(x: Any) -> Any:
        if id(x) in seen and isinstance(x, Tracer):
            return jnp.copy(x)
        seen.add(id(x))
        return x

    return tree_util.tree_map(own, outputs)
