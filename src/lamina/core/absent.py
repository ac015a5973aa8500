"""What the library says of public names that it does not have: not there yet, refused, or misspelt."""

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

from lamina.core import checks, registry

# Public names of Keras, one a line; behind those that will not come stands why.
_LIST = Path(__file__).parent.parent / "not_there_yet.txt"


@functools.cache
def not_there() -> dict[str, str]:
    """`keras.layers.X` -> why it will not come, or nothing."""
    lines = (line.partition(" ") for line in _LIST.read_text().splitlines())
    return {name: reason for name, _, reason in lines}


class AbsentName(AttributeError):
    """A module has no such name. What to say of it is found out when somebody reads it."""

    def __init__(self, module: str, name: str):
        super().__init__(module, name, name=name)
        self.module = module

    def __str__(self) -> str:
        module, name = self.args
        path = f"{module}.{name}"
        known = path.replace("lamina", "keras", 1)
        if any(f"{each}.".startswith(f"{known}.") for each in not_there()):
            reason = not_there().get(known)
            return f"{path} will not come: {reason}" if reason else f"{path} is not there yet; Keras has it."
        parts = module.partition(".")
        near = checks.nearest(name, sorted(registry.public_names(registry.namespace(parts[2]))))
        return f"module {module!r} has no attribute {name!r}{f'; did you mean {near!r}?' if near else '.'}"


def explain_absent_names(module: ModuleType) -> None:
    """Let the errors of a public module, and of the public modules in it, say more than that a name is not there."""

    def __getattr__(name: str) -> Any:
        raise AbsentName(module.__name__, name)

    for name in registry.public_names(module):
        inner = vars(module).get(name)
        if isinstance(inner, ModuleType) and inner.__name__.startswith(f"{module.__name__}."):
            explain_absent_names(inner)
    vars(module).setdefault("__getattr__", __getattr__)
