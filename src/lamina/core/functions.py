"""What is made of functions: classes that wrap one, and the same function with another name for its argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def constructor(cls: type, fn: Callable, order: str, defaults: Mapping[str, Any]) -> Callable:
    """The `__init__` of a class that wraps `fn`: it gives `fn`, and its arguments by name, to the class above.

    Args:
        cls: the class.
        fn: the function of `(y_true, y_pred, ...)`.
        order: the names of the arguments in their order; `*` stands for those of `fn` behind the first two.
        defaults: of arguments that `fn` does not have, and where they are other than those of `fn`.
    """
    own = {p.name: p for p in list(inspect.signature(fn).parameters.values())[2:]}
    every = own | {name: own.get(name, _argument(name)).replace(default=value) for name, value in defaults.items()}
    names = [name for part in order.split() for name in (own if part == "*" else [part])]
    signature = inspect.Signature([every[name] for name in names])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}.__init__() {error}") from None  # as Python itself would
        given.apply_defaults()
        above: Any = super(cls, self)
        above.__init__(fn, **given.arguments)

    made: Any = __init__
    made.__signature__ = inspect.Signature([_argument("self"), *signature.parameters.values()])
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    return made


def _argument(name: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def documentation(cls: type, fn: Callable, before: str, further: str) -> str:
    """The docstring of a class that wraps `fn`: that of `fn` on the arguments of the constructor, and what is further.

    Args:
        cls: the class, with its constructor.
        fn: the function; `Args:` stands last in its docstring, a line each.
        before: what the first line begins with.
        further: a line on the other arguments.
    """
    text, _, arguments = inspect.cleandoc(fn.__doc__ or "").partition("\nArgs:\n")
    names = inspect.signature(cls.__init__).parameters
    own = [
        line for line in arguments.splitlines() if not {*line.partition(":")[0].strip().split(", ")}.isdisjoint(names)
    ]
    return "\n".join([f"{before}{text.rstrip()}", "", "Args:", *own, f"    {further}", ""])


def with_argument(fn: Callable, name: str, doc: str, place: int = 0) -> Callable:
    """`fn` with its argument at a place, the first if not given, under another name."""
    parameters = list(inspect.signature(fn).parameters.values())
    parameters[place] = parameters[place].replace(name=name)
    signature = inspect.Signature(parameters)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{made.__qualname__}() {error}") from None  # as Python itself would
        return fn(*given.args, **given.kwargs)

    made: Any = call
    made.__signature__, made.__doc__ = signature, doc
    return made
