"""Constructors made of what a class declares, in the manner of dataclasses."""

import inspect
from typing import Any, TypeVar, dataclass_transform

from lamina.core import configurable
from lamina.core.configurable import Configurable
from lamina.core.constructors import parameters

C = TypeVar("C", bound=Configurable)


@dataclass_transform(eq_default=False)
def fields(cls: type[C]) -> type[C]:
    """A decorator: the names that a class annotates become arguments of its constructor, and attributes.

    They stand behind those of the class above; one that is there already has another default here. What is to be done
    besides is in a method `__post_init__`. The name `_`, annotated as `KW_ONLY`, is for type checkers.
    """
    above = {} if cls.__mro__[1].__init__ is object.__init__ else parameters(cls.__mro__[1])
    own = {name: annotation for name, annotation in inspect.get_annotations(cls).items() if name != "_"}
    defaults = {name: vars(cls)[name] for name in own if name in vars(cls)}
    new = [name for name in own if name not in above]

    def __init__(self: Any, **given: Any) -> None:
        given = defaults | given
        for name in new:
            setattr(self, name, given.pop(name))
        super(cls, self).__init__(**given)
        if "__post_init__" in vars(cls):
            vars(cls)["__post_init__"](self)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    every = [*above.values(), *(inspect.Parameter(name, kind, annotation=own[name]) for name in new)]
    every = [p.replace(default=defaults.get(p.name, p.default)) for p in every]
    made: Any = __init__
    made.__signature__ = inspect.Signature([inspect.Parameter("self", kind), *sorted(every, key=lambda p: p.kind)])
    cls.__init__ = made
    return configurable.variant()(cls)
