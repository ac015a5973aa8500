"""`as_keras()`: packages that import keras get lamina, by one finder of modules that is asked before all others."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

from lamina.core import registry
from lamina.core.absent import AbsentName, not_there
from lamina.core.checks import folded
from lamina.saving.archive import KERAS_VERSION

# What stands for Keras as a whole, the longest first.
_ROOTS = ("keras._tf_keras.keras", "keras._tf_keras", "tensorflow.keras", "keras.src", "keras")

# Files and folders of `keras.src` by namespace, but for those with the name of a class, such as layers/core/dense.py.
_FILES = {
    "": "api_export distribution trainers version",
    "backend": "common config dtypes global_state jax keras_tensor masking name_scope random variables",
    "callbacks": "callback_list",
    "distribution": "distribution_lib",
    "layers": "activations attention convolutional core merging normalization pooling regularization reshaping rnn",
    "losses": "losses",
    "metrics": "accuracy_metrics confusion_metrics reduction_metrics regression_metrics",
    "models": "cloning functional",
    "ops": "core function operation operation_utils",
    "saving": "object_registration saving_api saving_lib serialization_lib",
    "trainers": "data_adapters data_adapter_utils trainer",
    "utils": "backend_utils naming python_utils tracking",
}
# Where names are looked for after the namespace itself, in `keras.src` and `tensorflow.keras`.
_ALSO = {
    "backend": ("", "ops", "random", "core.dtypes"),
    "models": ("models.functional",),
    "ops": ("",),
    "trainers": ("utils", "training.trainer"),
    "utils": ("core.scope",),
}
# Names of `keras.src` that lamina has elsewhere, or calls otherwise.
_ELSEWHERE = {
    "api_export": {"keras_export": "stand_in.keras_export"},
    "backend": {
        "KerasVariable": "Variable",
        "any_symbolic_tensors": "core.symbolic.any_symbolic",
        "get_keras_mask": "core.masking.get_mask",
        "jax_draw_seed": "random.seeds.draw_seed",
        "set_keras_mask": "core.masking.set_mask",
    },
    "distribution": {"distribution": "stand_in.no_distribution"},
    "losses": {"LossFunctionWrapper": "losses.loss.LossFunctionWrapper"},
    "ops": {"any_symbolic_tensors": "core.symbolic.any_symbolic"},
    "saving": {"in_safe_mode": "core.budget.is_reading"},
    "trainers": {"class_weight_to_sample_weights": "data.arrays.class_weights"},
    "utils": {"in_grain_data_pipeline": "stand_in.in_grain", "no_automatic_dependency_tracking": "stand_in.as_it_is", "to_snake_case": "core.scope.snake_case"},
}


def as_keras(active: bool = True) -> AbstractContextManager[None]:
    """Let what is imported from now on get lamina where it imports keras, `keras.src` or `tensorflow.keras`.

    Call it before anything imports keras: `import lamina; lamina.as_keras(); import keras_tuner`. It holds for the
    process, or to the end of the block in `with lamina.as_keras(): import keras_tuner`; packages that were imported
    meanwhile keep lamina. Processes that are started begin without it.

    Args:
        active: `False` ends it: `import keras` means the installed Keras again.

    Raises: RuntimeError if another keras is imported already.
    """
    before = _finder in sys.meta_path
    _switch(active)
    return _until_the_end(before)


@contextmanager
def _until_the_end(before: bool) -> Iterator[None]:
    try:
        yield
    finally:
        _switch(before)


def _switch(active: bool) -> None:
    if active == (_finder in sys.meta_path):
        return
    if active:
        _check_nothing_is_imported()
        sys.meta_path.insert(0, _finder)
        _environment["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "jax"  # packages look there before they import keras
        return
    sys.meta_path.remove(_finder)
    for name in [name for name, module in sys.modules.items() if isinstance(module, StandIn)]:
        del sys.modules[name]
    for variable, value in _environment.items():
        os.environ.pop(variable, None)
        os.environ.update({} if value is None else {variable: value})


_environment: dict[str, str | None] = {}  # as it was


def _check_nothing_is_imported() -> None:
    keras = sys.modules.get("keras")
    if keras is None:
        return
    users = [name for name, module in list(sys.modules.items()) if _uses(keras, name, module)]
    who = f", which {users[0].replace('__main__', 'the program')} imported" if users else ""
    raise RuntimeError(
        f"as_keras: must be called before anything imports keras, got keras {getattr(keras, '__version__', '')}{who}; "
        "call lamina.as_keras() above that import."
    )


def _uses(keras: ModuleType, name: str, module: Any) -> bool:
    """Whether a module that is not of Keras has Keras, or a thing of it, among its names."""
    if name.partition(".")[0] in ("keras", "tensorflow"):
        return False
    things = list((getattr(module, "__dict__", None) or {}).values())
    return any(each is keras or str(vars(type(each)).get("__module__")).startswith("keras.") for each in things)


class StandIn(ModuleType):
    """A module of Keras whose names are those of lamina, looked up when somebody asks.

    Args:
        spec: of the module.
        home: the namespace that it stands for, such as "optimizers.schedules".
        wide: whether it has what is inside of Keras, too.
    """

    def __init__(self, spec: importlib.machinery.ModuleSpec, home: str, wide: bool):
        super().__init__(spec.name, f"lamina in place of {spec.name}: see lamina.as_keras.")
        vars(self).update(_home=home, _wide=wide, __file__=spec.origin, __path__=[])
        if home in ("", "version"):
            vars(self).update(__version__=KERAS_VERSION, version=version)

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return dir(self)
        for module in self._places():
            if name in _things(module):
                return getattr(module, name)
        if name in self._elsewhere():
            place, _, name_there = _ELSEWHERE[self._home][name].rpartition(".")
            return getattr(registry.namespace(place), name_there)
        inner = f"{self.__name__}.{name}"
        if not name.startswith("__") and _place(inner) is not None:
            return importlib.import_module(inner)
        absent = _absent(self._home, name)
        if f"keras.{self._home}.{name}" in not_there() and not self.__name__.endswith(self._home):
            return _named_only(absent)  # keras_tuner lists keras.applications.efficientnet when it is imported
        raise absent

    def __dir__(self) -> list[str]:
        names = {name for module in self._places() for name in _things(module)} | set(self._elsewhere())
        own = registry.public_names(registry.namespace(self._home)) if _is(self._home) else ()
        absent = () if self._home else (known.split(".")[1] for known in not_there() if known.count(".") > 1)
        return sorted(names.union(own, absent))

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return unpickled, (self.__name__,)

    def _elsewhere(self) -> dict[str, str]:
        return _ELSEWHERE.get(self._home, {}) if self._wide else {}

    def _places(self) -> Iterator[ModuleType]:
        places = (self._home, *(_ALSO.get(self._home, ()) if self._wide else ()))
        return (registry.namespace(place) for place in places if place != self._home or _is(place))


def _named_only(absent: AbsentName) -> type:
    """A class that may be named, and says when it is used that it is not there."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        raise absent

    return type(str(absent.name), (), {"__init__": __init__})


def unpickled(name: str) -> ModuleType:
    """The module of keras that a process with `as_keras()` has sent, in this process."""
    as_keras()
    return importlib.import_module(name)


def _things(module: ModuleType) -> set[str]:
    """The public names of a module but for those of modules."""
    return {name for name in registry.public_names(module) if not isinstance(vars(module).get(name), ModuleType)}


def _place(name: str) -> tuple[str, bool] | None:
    """The namespace that a module of Keras stands for, and whether it is one of those inside; `None` for no module."""
    root = next((root for root in _ROOTS if name == root or name.startswith(f"{root}.")), None)
    if root is None:
        return None
    home = ""
    for part in filter(None, name[len(root) :].split(".")):
        inner = f"{home}.{part}".lstrip(".")
        if _is(inner) or any(known.startswith(f"keras.{inner}.") for known in not_there()):
            home = inner
        elif root == "keras.src" and not home and part in _FILES[""].split():
            home = inner
        elif not _is_file(home, part, root):
            return None
    return home, root != "keras"


def _is(path: str) -> bool:
    """Whether `lamina.path` is a public module."""
    above, _, name = path.rpartition(".")
    if not name:
        return True
    outer = registry.namespace(above) if _is(above) else None
    found = getattr(outer, name, None) if outer and name in registry.public_names(outer) else None
    return isinstance(found, ModuleType) and found.__name__ == f"lamina.{path}"


def _is_file(home: str, part: str, root: str) -> bool:
    """Whether a namespace of Keras has such a file: one that we know of, or with the name of a class."""
    if root == "keras.src" and part in _FILES.get(home, "").split():
        return True
    if root == "keras.src" and _is(home):
        names = {folded(name) for name in registry.public_names(registry.namespace(home)) if name[0].isupper()}
        return part.islower() and folded(part) in names
    absent = () if _is(home) else (known.removeprefix(f"keras.{home}.") for known in not_there())
    return part.islower() and any(folded(name).startswith(folded(part)) for name in absent)


def _absent(home: str, name: str) -> AbsentName:
    known = _is(home) or f"keras.{home}.{name}" in not_there()
    return AbsentName(f"lamina.{home if known else ''}".rstrip("."), name)


class _Loader(importlib.abc.Loader):
    def __init__(self, home: str, wide: bool):
        self.home, self.wide = home, wide

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec, self.home, self.wide)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing runs: names are looked up when somebody asks."""


class _Finder(importlib.metadata.DistributionFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(("keras.", "tensorflow.keras")) and fullname != "keras":
            return None
        place = _place(fullname)
        if place is None:  # not asked further: a part of the installed Keras among those of lamina would not work
            module, _, name = fullname.rpartition(".")
            raise ModuleNotFoundError(f"{fullname}: {_absent((_place(module) or ('',))[0], name)}")
        return importlib.machinery.ModuleSpec(fullname, _Loader(*place), origin=__file__, is_package=True)

    def find_distributions(self, context: Any = None) -> Iterator[importlib.metadata.Distribution]:
        if getattr(context, "name", None) == "keras":
            yield _Distribution()


class _Distribution(importlib.metadata.Distribution):
    """What `importlib.metadata` says of keras."""

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: keras\nVersion: {KERAS_VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        return os.path.join(os.path.dirname(__file__), path)


_finder = _Finder()


def version() -> str:
    """The version of Keras whose interface lamina has."""
    return KERAS_VERSION


def no_distribution() -> None:
    """The distribution in force: none."""


def in_grain() -> bool:
    """Whether a pipeline of Grain is calling."""
    mark = os.path.join("grain", "_src", "python")
    return "grain" in sys.modules and any(mark in f.f_code.co_filename for f, _ in traceback.walk_stack(None))


def as_it_is(fn: Callable) -> Callable:
    """`fn`: stands for decorators that Keras needs and lamina does not."""
    return fn


def keras_export(path: Any) -> Callable[[Any], Any]:
    """A decorator that leaves classes and functions as they are."""
    return as_it_is
