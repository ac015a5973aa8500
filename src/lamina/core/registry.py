"""Names: public ones of the library, and those that users register. Nothing else can be named by a file."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from lamina.core.checks import did_you_mean, folded
from lamina.core.scope import Opens, Scope

# The public namespaces in which a saved configuration or a string may find a class or function.
NAMESPACES = (
    "layers", "models", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers",
    "regularizers", "constraints", "activations", "dtype_policies", "quantizers", "callbacks", "random", "distillation",
)  # fmt: skip

# Those whose functions a file may name. Functions elsewhere do more than compute: some write files.
FUNCTION_NAMESPACES = ("activations", "losses", "metrics", "initializers", "regularizers", "constraints")
_NOT_NAMED = {"get", "serialize", "deserialize", "annotations"}

# (whether a saved module is of a kind of its own, what finds a name in it): ops register theirs.
_kinds: list[tuple[Callable[[str], bool], Callable[[str, str, bool], Any]]] = []

_registered: dict[str, Any] = {}  # "package>Name" -> class or function
_registered_names: dict[Any, str] = {}
_local: Scope[Mapping[str, Any]] = Scope("custom_objects", {})


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Any], Any]:
    """Decorator: a model file may name this class or function, as `package>name`."""

    def register(obj: Any) -> Any:
        registered = f"{package}>{name or obj.__name__}"
        if isinstance(obj, type) and not hasattr(obj, "get_config"):
            raise ValueError(f"register_keras_serializable: {obj.__name__} must have a get_config method.")
        _registered[registered] = obj
        _registered_names[obj] = registered
        return obj

    return register


class CustomObjectScope(Opens):
    """`with CustomObjectScope({"MyLayer": MyLayer}):` files opened inside may name these objects."""

    def __init__(self, custom_objects: Mapping[str, Any] | None):
        self.custom_objects = dict(custom_objects or {})

    def _scope(self) -> Any:
        return _local({**_local.get(), **self.custom_objects})


custom_objects = CustomObjectScope


def get_custom_objects() -> dict[str, Any]:
    """The live dictionary of registered names; changes to it hold for the process."""
    return _registered


def get_registered_name(obj: Any) -> str:
    """The name that `obj` was registered under, or its own."""
    try:
        return _registered_names.get(obj) or str(obj.__name__)
    except TypeError:  # unhashable
        return obj.__name__


def get_registered_object(name: str, custom_objects: Any = None, module_objects: Any = None) -> Any:
    """The object registered under `name`, or `None`."""
    for table in (_local.get(), custom_objects or {}, _registered, module_objects or {}):
        if name in table:
            return table[name]
    return None


def namespace(path: str) -> ModuleType:
    """The public module `lamina.path`."""
    return importlib.import_module(f"lamina.{path}".rstrip("."))


def public_names(module: ModuleType) -> Iterator[str]:
    """The public classes and functions of a namespace."""
    yield from getattr(module, "__all__", None) or (n for n in vars(module) if not n.startswith("_"))


def find(path: str, name: str, kind: str, *, aliases: Mapping[str, str] | None = None) -> Any:
    """The class or function that `name`, in any case, means in a namespace; a `LookupError` names the nearest.

    Registered objects come first, then exact names, then names that differ in case or underscores only.
    """
    found = get_registered_object(name) or _registered.get(f"Custom>{name}")
    if found is not None:
        return found
    module = namespace(path)
    names = set(public_names(module)) - _NOT_NAMED
    target = (aliases or {}).get(folded(name), name)
    if target in names:
        return getattr(module, target)
    matches = [n for n in names if folded(n) == folded(target)]
    if matches:  # a class and a function of one name: the class takes a configuration
        return getattr(module, sorted(matches)[0])
    hint = did_you_mean(name, [*sorted(names), *(aliases or {})], 0.5)
    raise ValueError(
        f"{kind} {name!r}: must be a name in lamina.{path}, or one registered with "
        f"@lamina.saving.register_keras_serializable() or custom_objects.{hint}"
    )


def is_own(thing: Any) -> bool:
    """Whether a class or function is the library's own, and not a program's."""
    return str(getattr(thing, "__module__", "")).startswith("lamina.")


def public_path(obj: Any) -> tuple[str, str] | None:
    """(`keras.namespace`, name) of a public class or function of this library, else `None`."""
    if not is_own(obj):
        return None
    name = getattr(obj, "__dict__", {}).get("_public_name", getattr(obj, "__name__", ""))
    home = obj.__module__.split(".")[1]
    own = [path for path in NAMESPACES if home in path.split(".")]
    for path in [*own, "", *(p for p in NAMESPACES if p not in own)]:
        module = namespace(path)
        if getattr(module, name, None) is obj:
            return f"keras.{path}".rstrip("."), name
    return None


def add_kind(is_of_kind: Callable[[str], bool], find: Callable[[str, str, bool], Any]) -> None:
    """Let `find(module, name, is_function)` say what names mean in the saved modules for which `is_of_kind` holds."""
    _kinds.append((is_of_kind, find))


def resolve(module: str, name: str, registered_name: str | None, *, function: bool = False) -> Any:
    """What a saved configuration names: a registered object, or a public class or function; `None` for all else."""
    for is_of_kind, find_in_kind in _kinds:
        if is_of_kind(module):
            return find_in_kind(module, name, function)
    for candidate in (registered_name, name):
        found = get_registered_object(candidate) if candidate else None
        if found is not None:
            return found
    package, _, path = (module or "").partition(".")
    if package not in ("keras", "lamina", "builtins"):  # the last is what Keras writes for its functions
        return None
    paths = FUNCTION_NAMESPACES if function else ("", *NAMESPACES)
    for candidate in [path] if path in paths else paths:
        owner = namespace(candidate)
        names = set(public_names(owner)) - _NOT_NAMED
        found = getattr(owner, name) if name in names else _called(name, [getattr(owner, each) for each in names])
        if found is not None and callable(found) and isinstance(found, type) != function:
            return found
    # Keras 3.6 wrote functions without the package that they were registered in.
    alike = [found for key, found in _registered.items() if function and key.rpartition(">")[2] == name]
    return alike[0] if len(alike) == 1 else None


def _called(name: str, things: Iterable[Any]) -> Any:
    """The class of the library that calls itself so, whatever its public name."""
    return next((each for each in things if isinstance(each, type) and each.__name__ == name and is_own(each)), None)
