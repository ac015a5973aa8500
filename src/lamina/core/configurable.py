"""The constructor signature is the configuration.

`Configurable` records the arguments that each class's `__init__` is given. `get_config`, `from_config`, `repr` and
saving derive from them; a hand-written `get_config` is needed only where the file format asks for other keys.
"""

import functools
import inspect
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, TypeVar

import jax
import numpy as np

from lamina.core import registry
from lamina.core.budget import CorruptFileError, UnsafeFileError, spend
from lamina.core.checks import shorten
from lamina.core.constructors import (
    KEYWORDS,
    MANY,
    POSITIONAL,
    bound_arguments,
    explaining,
    parameters,
    takes_any,
    unknown_arguments,
)
from lamina.core.docstrings import complete_docstring
from lamina.core.functions import LAMBDA, Code, Live, with_argument
from lamina.core.scope import Scope

C = TypeVar("C", bound="Configurable")

# While a whole model is written or read: id -> (number, object) of what is written, number -> object of what is read.
sharing: Scope[dict[int, Any] | None] = Scope("sharing", None)


class Configurable:
    """Base of all that can be rebuilt from a configuration: layers, losses, optimizers, initializers, ..."""

    _arguments: dict[type, tuple[tuple, dict]]  # class -> what its __init__ was given
    _omit_none: frozenset[str] = frozenset()  # arguments that the configuration leaves out while they are None
    _further: tuple[str, ...] = ()  # attributes that the configuration holds besides the arguments

    def __init_subclass__(cls, **kwargs: Any) -> None:
        above = parameters(cls.__mro__[1]) if kwargs and registry.is_own(cls) else {}
        defaults = {name: kwargs.pop(name) for name in above.keys() & kwargs.keys()}
        super().__init_subclass__(**kwargs)
        doc = cls.__dict__["__doc__"]
        if doc and registry.is_own(cls):
            complete_docstring(cls)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls, cls.__dict__["__init__"])
            form, usual = cls.get_config, Configurable.get_config
            library_speaks = form is not usual and registry.is_own(form) and not registry.is_own(cls)
            if library_speaks and cls._is_configured_by_arguments():  # of a class above: the program's comes first
                cls.get_config = usual  # type: ignore[method-assign]
        if defaults:  # other ones than those above: `class MaxPooling1D(Pooling, rank=1, pool_size=2)`
            variant(defaults)(cls)

    @classmethod
    def _is_configured_by_arguments(cls) -> bool:
        """Whether the constructor does more with its arguments than to pass all on."""
        return not takes_any(cls, MANY)

    def _base_config(self) -> dict[str, Any]:
        """The part of the configuration that a family has in common, such as a layer's name and dtype."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain Python values; `from_config` makes an equal object of them."""
        mro = type(self).__mro__
        # Of an overriding class that calls super().get_config(), only the classes above it speak here.
        below = itertools.takewhile(lambda c: c.__dict__.get("get_config") is not Configurable.get_config, mro)
        overriding = [i for i, c in enumerate(below) if "get_config" in c.__dict__]
        start = overriding[-1] + 1 if overriding else 0
        config = dict(self._base_config())
        recorded = self.__dict__.get("_arguments", {})
        owner = next((c for c in mro[start:] if c in recorded and c._is_configured_by_arguments()), None)
        if owner is None or "_base_config" in owner.__dict__:
            owner = _takes_more(mro[start:], recorded)
        if owner is None:
            return config
        arguments = dict.fromkeys(self._further) | bound_arguments(owner, *recorded[owner])
        if not overriding and not takes_any(owner):
            config = {key: value for key, value in config.items() if key in arguments}
        for name, value in arguments.items():
            if name not in config:
                config[name] = plain(self._argument(owner, name, value))
        return {k: v for k, v in config.items() if v is not None or k not in self._omit_none}

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        """The library's own classes keep an argument, resolved, in the attribute of its name; others need not."""
        return getattr(self, name, recorded) if registry.is_own(owner) else recorded

    @classmethod
    def from_config(cls: type[C], config: Mapping[str, Any]) -> C:
        """The object that `get_config` described."""
        return cls(**{key: deserialize(value) for key, value in config.items()})


def _takes_more(mro: Sequence[type], recorded: Mapping[type, tuple[tuple, dict]]) -> type | None:
    """The class of a program whose constructor has `*args` and does more with its arguments than to pass all on."""
    made = [cls for cls in mro if cls in recorded and not registry.is_own(cls)]
    for cls, above in zip(made, [*made[1:], None]):
        args, places = recorded[cls][0], [name for name, p in parameters(cls).items() if p.kind is POSITIONAL]
        passed_on = above is not None and [*map(id, args)] == [*map(id, recorded[above][0])]
        if len(args) > len(places) and not passed_on:
            warnings.warn(  # no error: whoever saves a trained model must not lose it
                f"{cls.__name__}: arguments without a name have no place in a configuration, got "
                f"{shorten(args[len(places) :])}; give {cls.__name__} a get_config and a from_config of its own.",
                stacklevel=3,
            )
            return cls if places else None
        if places and len(args) <= len(places):
            return cls
    return None


def _recording(cls: type, init: Callable) -> Callable:
    @explaining
    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        self.__dict__.setdefault("_arguments", {})[cls] = (args, kwargs)
        init(self, *args, **kwargs)

    return __init__


def own_arguments(obj: Configurable) -> dict[str, Any]:
    """What the constructors of the library's own classes were given: where one calls another, the inner one's say."""
    recorded = obj.__dict__.get("_arguments", {}).items()
    bound = (bound_arguments(cls, *given) for cls, given in recorded if registry.is_own(cls))
    return {name: value for arguments in bound for name, value in arguments.items()}


def variant(
    defaults: Mapping[str, Any] = {},
    without: Iterable[str] = (),
    before: Mapping[str, str | None] = {},
    arguments: Sequence[str] = (),
) -> Callable[[type[C]], type[C]]:
    """A decorator of classes whose constructor, that of the class above or their own, has another signature.

    Args:
        defaults: other defaults by name.
        without: the arguments that the variant lacks; they have their defaults, or those given here.
        before: the arguments that stand elsewhere: before the one that is named, or with `None` behind all others.
        arguments: in place of `without` and `before`, all that the variant has, in their order. Those of the classes
            farther above may be among them, to which `**kwargs` leads; keyword-only ones of theirs need not.
    """

    def decorate(cls: type[C]) -> type[C]:
        init: Any = inspect.unwrap(vars(cls)["__init__"]) if "__init__" in vars(cls) else cls.__init__
        signature, lacking = inspect.signature(init), frozenset(without)
        if arguments:
            signature, lacking = _selected(cls, signature, arguments)
        cls.__init__ = _recording(cls, _with_signature(init, signature, defaults, lacking, before))
        complete_docstring(cls)
        return cls

    return decorate


def _selected(cls: type, old: inspect.Signature, arguments: Sequence[str]) -> tuple[inspect.Signature, frozenset[str]]:
    """The signature with these arguments of `cls` and the classes above, and the names that are refused."""
    above = [parameters(each) for each in cls.__mro__[1:] if "__init__" in each.__dict__ and each is not object]
    every = [*reversed(above), {name: p for name, p in old.parameters.items() if name != "self"}]
    known = {name: p for each in every for name, p in each.items()}
    free = {name for each in every for name, p in each.items() if p.kind is not POSITIONAL}
    rest = [p for name, p in old.parameters.items() if name == "self" or p.kind is KEYWORDS]
    chosen = [known[name].replace(kind=POSITIONAL) for name in arguments]
    # Not checked yet: the defaults that make it one that Python could have are to come.
    signature = inspect.Signature([*rest[:1], *chosen, *rest[1:]], __validate_parameters__=False)
    return signature, frozenset(known) - free - set(arguments)


def _with_signature(
    init: Callable,
    old: inspect.Signature,
    defaults: Mapping[str, Any],
    lacking: frozenset[str],
    before: Mapping[str, str | None],
) -> Callable:
    kept = [
        p.replace(default=defaults.get(p.name, p.default)) for p in old.parameters.values() if p.name not in lacking
    ]
    for name, other in before.items():
        moved = kept.pop([p.name for p in kept].index(name))
        kept.insert(len(kept) if other is None else [p.name for p in kept].index(other), moved)
    kept.sort(key=lambda p: p.kind)  # stable: all else stays in order
    signature = old.replace(parameters=kept)
    extra = next((p.name for p in kept if p.kind is p.VAR_KEYWORD), "")

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs).arguments
        more = given.pop(extra, {})
        refused = (lacking & more.keys()) - set(self._further)
        if refused:
            raise unknown_arguments(type(self), sorted(refused))
        init(**{**defaults, **given}, **more)

    setattr(__init__, "__signature__", signature)  # noqa: B010
    setattr(__init__, "refused", lacking | getattr(init, "refused", frozenset()))  # noqa: B010
    return __init__


def plain(value: Any) -> Any:
    """A configuration value: objects become configurations, public functions their names, all else stays."""
    if isinstance(value, (Configurable, np.generic, np.ndarray, jax.Array)):
        return serialize(value)
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items if isinstance(value, list) or hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, FunctionType) or (callable(value) and hasattr(value, "__wrapped__")):
        public = registry.public_path(value)
        return public[1] if public else serialize(value)
    return value


def serialize(obj: Any) -> Any:
    """`obj` as JSON values and tuples. Objects become `{"module", "class_name", "config", "registered_name"}`."""
    if obj is None or isinstance(obj, (bool, int, float, str, Live)):
        return obj
    if isinstance(obj, (list, tuple)):
        items = [serialize(item) for item in obj]
        return tuple(items) if isinstance(obj, tuple) else items
    if isinstance(obj, Mapping) and not hasattr(obj, "get_config"):
        return {key: serialize(item) for key, item in obj.items()}
    if isinstance(obj, np.generic) or (isinstance(obj, np.ndarray) and obj.ndim == 0):
        return obj.item()
    if isinstance(obj, bytes):
        return {"class_name": "__bytes__", "config": {"value": obj.decode("utf-8")}}
    if isinstance(obj, slice):
        return {"class_name": "__slice__", "config": {k: serialize(getattr(obj, k)) for k in ("start", "stop", "step")}}
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, (np.ndarray, jax.Array)):
        kind = "__numpy__" if isinstance(obj, np.ndarray) else "__tensor__"
        return {"class_name": kind, "config": {"value": np.asarray(obj).tolist(), "dtype": obj.dtype.name}}
    if isinstance(obj, np.dtype) or (isinstance(obj, type) and issubclass(obj, np.generic)):
        return np.dtype(obj).name
    symbolic = getattr(obj, "serialized_tensor", None)  # a symbolic tensor of a graph that is being saved
    if symbolic is not None:
        return symbolic()
    if callable(obj) and not hasattr(obj, "get_config"):
        return _serialize_function(obj)
    if hasattr(obj, "get_config") and not isinstance(obj, type):
        return _serialize_object(obj)
    raise ValueError(f"serialize: {type(obj).__name__} must have a get_config method to be saved, got {obj!r}.")


def _serialize_function(fn: Any) -> dict[str, Any]:
    name = getattr(fn, "__name__", type(fn).__name__)
    if name == "<lambda>":
        return Code(fn, serialize)
    module, public = registry.public_path(fn) or ("builtins", registry.get_registered_name(fn))
    if registry.resolve("builtins", public, None, function=True) is fn:
        module = "builtins"  # as Keras writes it, which opens functions under no other
    return Live(fn, module=module, class_name="function", config=public, registered_name="function")


def _serialize_object(obj: Any) -> dict[str, Any]:
    cls = type(obj)
    public = registry.public_path(cls)
    module, name = public or (cls.__module__, cls.__name__)
    identity = getattr(obj, "serialized_class", None)  # a class that files know by another name
    if identity is not None and registry.is_own(cls):
        module, name, registered = identity()
    else:
        registered = None if public else registry.get_registered_name(cls)
    out = {
        "module": None if module == "__main__" else module,
        "class_name": name,
        "config": serialize(obj.get_config()),
        "registered_name": registered,
    }
    for key in ("build_config", "compile_config"):
        getter = getattr(obj, f"get_{key}", None)
        extra = getter() if callable(getter) else None
        if extra is not None:
            out[key] = serialize(extra)
    numbers = sharing.get()
    if numbers is not None and hasattr(obj, "save_own_variables"):
        out["shared_object_id"] = numbers.setdefault(id(obj), (len(numbers) + 1, obj))[0]
    return out


def serialize_model(model: Any) -> dict[str, Any]:
    """`serialize`, with a number on what the model holds in several places, so that it is one object again."""
    with sharing({}):
        form = serialize(model)
    counts = Counter(each["shared_object_id"] for each in _numbered(form))
    for each in list(_numbered(form)):
        if counts[each["shared_object_id"]] == 1:
            del each["shared_object_id"]
    return form


def _numbered(form: Any) -> Iterator[dict[str, Any]]:
    if isinstance(form, dict):
        if "shared_object_id" in form:
            yield form
        form = list(form.values())
    if isinstance(form, (list, tuple)):
        for item in form:
            yield from _numbered(item)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The object that `serialize` described. Only public classes of the library and registered ones are made."""
    if isinstance(config, (list, tuple)):
        return type(config)(deserialize(item, custom_objects) for item in config)
    if not isinstance(config, Mapping) or isinstance(config, Live):
        return config.value if isinstance(config, Live) else config
    if "class_name" not in config or "config" not in config:
        return {key: deserialize(item, custom_objects) for key, item in config.items()}
    name, inner = config["class_name"], config["config"]
    if isinstance(name, str) and name.startswith("__"):
        return _deserialize_value(name, inner, custom_objects)
    with registry.custom_objects(custom_objects):
        return _deserialize_object(config, name, inner)


def _deserialize_value(kind: str, config: Any, custom_objects: Mapping[str, Any] | None) -> Any:
    if kind == "__tuple__":
        return tuple(deserialize(item, custom_objects) for item in config)
    if kind == "__bytes__":
        return config["value"].encode("utf-8")
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__":
        return slice(*(deserialize(config[k]) for k in ("start", "stop", "step")))
    if kind in ("__numpy__", "__tensor__"):
        array = _array(config["value"], config["dtype"])
        return array if kind == "__numpy__" else jax.device_put(array)
    if kind == LAMBDA:
        raise UnsafeFileError(
            "deserialize: the file holds a lambda as byte code, and code from files is never run; "
            "put the function of your program in its place."
        )
    raise ValueError(f"deserialize: class_name must be a known one, got {kind!r}.")


def _array(value: Any, name: Any) -> np.ndarray:
    """The array of a nested list. NumPy allocates what a dtype asks for, so that is asked first."""
    dtype = jax.numpy.dtype(name)
    if dtype.kind not in "biufcUSV" or dtype.names or (dtype.kind == "V" and not hasattr(jax.numpy, dtype.name)):
        raise CorruptFileError(f"deserialize: an array must be of numbers or strings, got dtype {name!r}.")
    spend(f"An array in {dtype.name}", np.shape(np.array(value, object)), max(dtype.itemsize, 8))
    return np.array(value, dtype)


def resolve(config: Mapping[str, Any]) -> Any:
    """The class, op or function that a serialized object names, or `None`."""
    module, name = config.get("module") or "", config["class_name"]
    is_function = name == "function"
    wanted = config["config"] if is_function else name
    if not isinstance(wanted, str) or not isinstance(module, str):
        raise ValueError(f"deserialize: names of classes and functions must be strings, got {wanted!r} of {module!r}.")
    return registry.resolve(module, wanted, config.get("registered_name"), function=is_function)


def _deserialize_object(config: Mapping, name: str, inner: Any) -> Any:
    known, number = sharing.get(), config.get("shared_object_id")
    if known is not None and number in known:
        return known[number]
    module, is_function = config.get("module"), name == "function"
    wanted = inner if is_function else name
    found = resolve(config)
    if found is None:
        raise ValueError(
            f"deserialize: {module or 'the program'}.{wanted} must be a public name of lamina or a registered one; "
            f"pass custom_objects={{{wanted!r}: ...}} or decorate it with "
            "@lamina.saving.register_keras_serializable()."
        )
    if is_function or not (isinstance(found, type) or hasattr(found, "from_config")):
        return found
    if not hasattr(found, "from_config") or not isinstance(inner, Mapping):
        raise ValueError(f"deserialize: {wanted!r} must have a from_config method and a configuration, got {inner!r}.")
    obj = found.from_config(inner)
    for key in ("build", "compile"):
        extra = config.get(f"{key}_config")
        method = getattr(obj, f"{key}_from_config", None)
        if extra and callable(method):
            method(extra)
    if known is not None and number is not None:
        known[number] = obj
    return obj


def make(
    path: str, identifier: Any, kind: str, base: Any = None, functions: bool = True, aliases: Mapping[str, str] = {}
) -> Any:
    """What every `get` does: `None`, an object or function as it is, a class, a configuration, or a name."""
    if identifier is None:
        return None
    made = identifier
    if isinstance(identifier, Mapping):
        made = deserialize(_spelt(path, identifier) if "class_name" in identifier else identifier)
    elif isinstance(identifier, str):
        made = registry.find(path, identifier, kind, aliases=aliases)
    made = made() if isinstance(made, type) else made
    right = base is None or isinstance(made, base) or (functions and not isinstance(made, Configurable))
    if not right or (not callable(made) and functions):
        known = f"a name, an object{', a function' if functions else ''} or a configuration"
        other = f"that of {type(made).__name__}" if isinstance(identifier, Mapping) else shorten(identifier)
        raise ValueError(f"{kind}: must be {known}, got {other}.")
    return made


def _spelt(path: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its module, and its class's name as the namespace spells it: old ones lack these."""
    module, name = config.get("module") or f"keras.{path}", config["class_name"]
    if module == f"keras.{path}" and isinstance(name, str) and registry.get_registered_object(name) is None:
        public = registry.namespace(path)
        spelt = sorted(n for n in registry.public_names(public) if n.lower() == name.lower())
        classes = [n for n in spelt if isinstance(getattr(public, n), type)]
        name = name if name in classes else next(iter(classes), name)
    return {**config, "module": module, "class_name": name}


def namespace_functions(
    path: str,
    kind: str,
    base: Any = None,
    *,
    functions: bool = True,
    aliases: Mapping[str, str] = {},
    special: Callable[[Any], Any] = lambda identifier: None,
    serialized: str = "",
    deserialized: str = "config",
) -> tuple[Callable[[Any], Any], Callable[..., Any], Callable[..., Any]]:
    """`get`, `serialize` and `deserialize` of a public namespace.

    Args:
        path: of the namespace, such as "losses".
        kind: what one of its objects is called.
        base: the class of its objects.
        functions: whether functions may stand for objects.
        aliases: further names, in lower case without underscores, and the public names that they mean.
        special: what `get` asks first; `None` is no answer.
        serialized, deserialized: what the two others call their argument; `kind` and "config" if not given.
    """

    def get(identifier: Any) -> Any:
        found = special(identifier)
        return make(path, identifier, kind, base, functions, aliases) if found is None else found

    def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        with registry.custom_objects(custom_objects):
            return get(config)

    a = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    get.__doc__ = f"Make {a} of a name in any case, a class, a configuration; an object is returned as it is."
    made = (
        get,
        with_argument(serialize, serialized or kind, f"Describe {a} as JSON values."),
        with_argument(deserialize, deserialized, f"Make the {kind} that `serialize` described, or that has this name."),
    )
    for fn, name in zip(made, ("get", "serialize", "deserialize")):
        fn.__module__, fn.__name__, fn.__qualname__ = f"lamina.{path}", name, name
    return made
