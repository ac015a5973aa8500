"""What is made of functions: classes that wrap one, one with another argument name, the form of one in a file."""

import base64
import inspect
import marshal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

LAMBDA = "__lambda__"  # the class name of lambdas in files


def constructor(cls: type, fn: Callable, order: str, defaults: Mapping[str, Any]) -> Callable:
    """The `__init__` of a class that wraps `fn`: it gives `fn`, and its arguments by name, to the class above.

    What is to be done besides is in a method `__post_init__`.

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
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        above: Any = super(cls, self)
        above.__init__(fn, **given.arguments)
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    made: Any = __init__
    made.__signature__ = inspect.Signature([_argument("self"), *signature.parameters.values()])
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    return made


def _argument(name: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def documentation(cls: type, fn: Callable, before: str = "") -> str:
    """The docstring of a class that wraps `fn`: that of `fn` on the arguments of the constructor.

    Args:
        cls: the class, with its constructor.
        fn: the function; `Args:` stands last in its docstring, a line each.
        before: what the first line begins with.
    """
    text, _, arguments = inspect.cleandoc(fn.__doc__ or "").partition("\nArgs:\n")
    names = inspect.signature(cls.__init__).parameters
    own = [
        line for line in arguments.splitlines() if not {*line.partition(":")[0].strip().split(", ")}.isdisjoint(names)
    ]
    return "\n".join([f"{before}{text.rstrip()}", *(["", "Args:", *own] if own else []), ""])


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


class Live(dict):
    """The form of something that a file cannot hold: until it is written, it has the thing itself with it."""

    def __init__(self, value: Any, **form: Any):
        super().__init__(form)
        self.value = value


class Code(Live):
    """The form of a lambda in a file: Python's byte code, which Keras writes and runs, and lamina never runs."""

    def __init__(self, fn: Any, plain: Callable[[Any], Any]):
        try:
            cells = None if fn.__closure__ is None else [plain(cell.cell_contents) for cell in fn.__closure__]
        except ValueError:  # of things that no file holds
            cells = None
        code = base64.encodebytes(marshal.dumps(fn.__code__)).decode("ascii")
        super().__init__(fn, class_name=LAMBDA, config={"value": [code, plain(fn.__defaults__), cells]})


def by_name(form: Any) -> Any:
    """The form of a lambda in which layers hold it; another form as it is."""
    if isinstance(form, Code):
        form["config"] = dict(zip(("code", "defaults", "closure"), form["config"]["value"]))
    return form


def asked_for(names: Iterable[str]) -> str:
    """What a program has to pass to open a file with lambdas of these names."""
    return f"custom_objects={{{', '.join(f'{name!r}: function' for name in names)}}}"


class Place(NamedTuple):
    """Where a lambda is in a configuration, and the name by which `custom_objects` has its function.

    That is the name of the object that it is an argument of, with the argument's behind a dot if there are several.
    What a model is compiled with has the argument's alone.
    """

    name: str
    holder: Any
    key: Any


def lambdas(config: Any) -> list[Place]:
    """The lambdas in a configuration."""
    found: list[tuple[str, str, Any, Any]] = []
    waiting: list[tuple[Any, str, str]] = [(config, "", "")]
    while waiting:
        form, owner, path = waiting.pop()
        if isinstance(form, dict) and "class_name" in form and isinstance(form.get("config"), dict):
            owner, path = str(form["config"].get("name") or form.get("name") or form["class_name"]), ""
        items = list(form.items() if isinstance(form, dict) else enumerate(form))
        for key, item in items:
            if isinstance(item, dict) and item.get("class_name") == LAMBDA:
                found.append((owner, _below(path, key, len(items)), form, key))
        for key, item in reversed(items):
            if isinstance(item, (dict, list)) and item:
                compiled = key == "compile_config"
                waiting.append((item, "" if compiled else owner, "" if compiled else _below(path, key, len(items))))
    owners = Counter(owner for owner, *_ in found)
    return [
        Place(owner if owner and owners[owner] == 1 else f"{owner}.{path}".strip("."), holder, key)
        for owner, path, holder, key in found
    ]


def _below(path: str, key: Any, size: int) -> str:
    """The name of an argument in what has the name `path`; the only item of a list needs none."""
    plain = key in ("config", "inbound_nodes", "args", "kwargs") or (isinstance(key, int) and size == 1)
    return path if plain else f"{path}.{key}".strip(".")
