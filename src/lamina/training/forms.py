"""Steps in two forms.

The library's own form is `f(data) -> logs`, which reads and assigns variables; Keras's is `f(state, data) -> logs,
state`, where `state` is lists of their values. Either can be had from the other.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from lamina.core.arrays import copied
from lamina.core.state import StateScope
from lamina.core.variable import Variable

Groups = Callable[[], list[list[Variable]]]


def takes_state(method: Callable) -> bool:
    """Whether a step is in Keras's form."""
    return len(inspect.signature(method).parameters) == 2


def stateful(method: Callable, groups: Groups, keep: bool = False) -> Callable:
    """`f(state, data) -> logs, state` as `f(data) -> logs`; a step that has this form already, as it is.

    Args:
        method: the step.
        groups: finds the lists of variables that `state` is made of.
        keep: hand out copies, as the step may take away the arrays that it gets.
    """
    if not takes_state(method):
        return method

    def step(data: Any) -> Any:
        lists = groups()
        before = tuple([v.current for v in group] for group in lists)
        logs, after = method(copied(before) if keep else before, data)
        for group, old, new in zip(lists, before, after):
            for variable, was, value in zip(group, old, new):
                if value is not was:
                    variable.assign(value)
        return logs

    return step


def explicit(method: Callable, groups: Groups) -> Callable:
    """`f(data) -> logs` as `f(state, data) -> logs, state`; what it assigns beyond `state` is assigned."""
    if takes_state(method):
        return method

    def step(state: Any, data: Any) -> tuple[Any, tuple]:
        lists = groups()
        held = [v for group in lists for v in group]
        given = [value for values in state for value in values]
        if len(given) != len(held):
            name = getattr(method, "__qualname__", "step")
            raise ValueError(f"{name}: state must hold {len(held)} arrays of the model, got {len(given)}.")
        with StateScope(zip(held, given)) as scope:
            logs = method(data)
            after = tuple(scope.values(group) for group in lists)
        known = {id(v) for v in held}
        for variable in scope.written:
            if id(variable) not in known:
                variable.assign(scope.read(variable))
        return logs, after

    return step


def in_both_forms(groups: str, last: bool = False) -> Callable:
    """Decorator: a step of the library also takes Keras's form, as overrides in that form call it.

    Args:
        groups: the method that finds the lists of variables.
        last: whether the last list comes back alone, as from Keras's `predict_step`.
    """

    def decorate(step: Callable) -> Callable:
        @functools.wraps(step)
        def either(self: Any, *given: Any, **named: Any) -> Any:
            given = (*given, *(named[name] for name in ("state", "data") if name in named))
            own = functools.partial(step, self)
            if len(given) < 2:
                return own(*given)
            out, state = explicit(own, getattr(self, groups))(*given)
            return out, state[-1] if last else state

        return either

    return decorate
