"""`as_keras()`: packages that import keras get lamina, by one finder of modules that is asked before all others."""

import functools
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import sys
import traceback
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import FunctionType, ModuleType
from typing import Any

from lamina.core import registry
from lamina.core.absent import AbsentName, not_there
from lamina.core.checks import folded
from lamina.saving.contents import KERAS_VERSION

# What stands for Keras as a whole, the longest first.
_ROOTS = ("keras._tf_keras.keras", "keras._tf_keras", "tensorflow.keras", "keras.src", "keras")

# Files and folders of `keras.src` by namespace, but for those with the name of what is in them (core/dense.py) or of
# the namespace (losses/losses.py), and those of the kinds below.
_FILES = {
    "": "trainers",
    "backend": "common config dtypes global_state jax keras_tensor masking name_scope random remat stateless_scope "
    "symbolic_scope variables",
    "layers": "activations bounding_boxes clahe convolutional converters core feature_space grouped_query_attention "
    "image_preprocessing iou merging pooling preprocessing regularization reshaping",
    "models": "cloning",
    "ops": "core einops function operation",
    "saving": "file_editor object_registration",
    "trainers": "data_adapters trainer",
    "utils": "model_visualization naming tracking",
}
_KINDS = ("_adapter", "_api", "_initializers", "_layer", "_lib", "_metrics", "_utils", "_wrapper")
# Where names are looked for after the namespace itself, in `keras.src` and `tensorflow.keras`.
_ALSO = {
    "backend": ("", "config", "ops", "random", "core.dtypes"),
    "dtype_policies": ("config",),
    "layers": ("utils", "utils.bounding_boxes"),
    "models": ("models.functional",),
    "ops": ("", "utils"),
    "saving": ("config",),
    "trainers": ("utils", "training.trainer"),
    "utils": ("backend", "config", "layers", "preprocessing.image"),
}
# Names of `keras.src` that lamina has elsewhere, or calls otherwise.
_ELSEWHERE = {
    "backend.get_keras_mask": "core.symbolic.mask_of",
    "backend.in_symbolic_scope": "core.scope.in_symbolic_scope",
    "backend.jax_draw_seed": "random.seeds.draw_seed",
    "backend.set_keras_mask": "core.masking.set_mask",
    "losses.LossFunctionWrapper": "losses.loss.LossFunctionWrapper",
    "ops.any_symbolic_tensors": "core.symbolic.any_symbolic",
    "saving.in_safe_mode": "core.budget.is_reading",
    "trainers.class_weight_to_sample_weights": "data.arrays.class_weights",
    "utils.in_grain_data_pipeline": "stand_in.in_grain",
    "utils.no_automatic_dependency_tracking": "stand_in.as_it_is",
}
_OF_NAMES = ("get", "serialize", "deserialize")  # in namespaces of which Keras has a table of all else


def as_keras(active: bool = True) -> AbstractContextManager[Any]:
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
    end = ExitStack()
    end.callback(_switch, before)
    return end


def _switch(active: bool) -> None:
    if active == (_finder in sys.meta_path):
        return
    if active:
        _check_not_imported()
        sys.meta_path.insert(0, _finder)
        _finder.backend = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "jax"  # packages look there before they import keras
        return
    sys.meta_path.remove(_finder)
    for name in [name for name, module in sys.modules.items() if isinstance(module, StandIn)]:
        del sys.modules[name]
    del os.environ["KERAS_BACKEND"]
    os.environ.update({} if _finder.backend is None else {"KERAS_BACKEND": _finder.backend})


def _check_not_imported() -> None:
    if "keras" in sys.modules:
        users = [name for name, module in list(sys.modules.items()) if _uses_keras(name, module)]
        who = f", which {users[0].replace('__main__', 'the program')} imported" if users else ""
        raise RuntimeError(
            "as_keras: must be called before anything imports keras, got keras "
            f"{getattr(sys.modules['keras'], '__version__', '')}{who}; call lamina.as_keras() above that import."
        )


def _uses_keras(name: str, module: Any) -> bool:
    """Whether a module that is not of Keras has Keras, or a class or function of it, among its names."""
    if name.partition(".")[0] in ("keras", "tensorflow") or not isinstance(module, ModuleType):
        return False
    things = [x for x in [*vars(module).values()] if isinstance(x, (ModuleType, type, FunctionType))]
    homes = [vars(x).get("__name__") if isinstance(x, ModuleType) else x.__module__ for x in things]
    return any(str(home).partition(".")[0] == "keras" for home in homes)


class StandIn(ModuleType):
    """A module of Keras whose names are those of lamina, looked up when somebody asks."""

    def __init__(self, spec: importlib.machinery.ModuleSpec, home: str, wide: bool):
        super().__init__(spec.name, f"lamina in place of {spec.name}: see lamina.as_keras.")
        vars(self).update(_home=home, _wide=wide, __file__=spec.origin, __path__=[])
        if not home:
            vars(self).update(__version__=KERAS_VERSION, version=lambda: KERAS_VERSION)

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return dir(self)
        for module in self._places():
            if name in _things(module):
                return getattr(module, name)
        if self._wide and f"{self._home}.{name}" in _ELSEWHERE:
            place, _, name_there = _ELSEWHERE[f"{self._home}.{name}"].rpartition(".")
            return getattr(registry.namespace(place), name_there)
        if self._wide and name == "ALL_OBJECTS_DICT":
            known = {each: getattr(self, each) for each in _names(self._home) if each not in _OF_NAMES}
            return ChainMap(registry.get_custom_objects(), known)  # what a program adds is found by its name
        inner = f"{self.__name__}.{name}"
        if not name.startswith("__") and _place(inner) is not None:
            return importlib.import_module(inner)
        if not _is(self._home) and name in _names(self._home) and not self.__name__.endswith(self._home):
            # keras_tuner lists what keras.applications.efficientnet has, and may not use it
            return functools.partial(_raise, _absent(self._home, name))
        raise _absent(self._home, name)

    def __dir__(self) -> list[str]:
        names = {name for module in self._places() for name in _things(module)}
        names |= {each.rpartition(".")[2] for each in _ELSEWHERE if self._wide and each.startswith(f"{self._home}.")}
        lacking = () if self._home else (known.split(".")[1] for known in not_there() if known.count(".") > 1)
        return sorted(names.union(_names(self._home) if _is(self._home) else (), lacking))

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return unpickled, (self.__name__,)

    def _places(self) -> Iterator[ModuleType]:
        places = (self._home, *(_ALSO.get(self._home, ()) if self._wide else ()))
        return (registry.namespace(place) for place in places if place != self._home or _is(place))


def _raise(error: Exception, *args: Any, **kwargs: Any) -> None:
    raise error


def unpickled(name: str) -> ModuleType:
    """The module of keras that a process with `as_keras()` has sent, in this process."""
    as_keras()
    return importlib.import_module(name)


def _things(module: ModuleType) -> set[str]:
    """The public names of a module but for those of modules."""
    return {name for name in registry.public_names(module) if not isinstance(vars(module).get(name), ModuleType)}


def _place(name: str) -> tuple[str, bool] | None:
    """The namespace that a module of Keras stands for, and whether it is one of those inside; `None` for no module."""
    root, home = next(root for root in _ROOTS if f"{name}.".startswith(f"{root}.")), ""
    for part in filter(None, name[len(root) :].split(".")):
        inner = f"{home}.{part}".lstrip(".")
        own = root == "keras.src" and not home and part in _FILES[""].split()
        if own or _is(inner) or any(known.startswith(f"keras.{inner}.") for known in not_there()):
            home = inner
        elif not _is_file(home, part, root):
            return None
    return home, root != "keras"


def _is(path: str) -> bool:
    """Whether `lamina.path` is a public module."""
    above, _, name = path.rpartition(".")
    if not name or not _is(above) or name not in _names(above):
        return not name
    return getattr(getattr(registry.namespace(above), name), "__name__", None) == f"lamina.{path}"


def _names(home: str) -> list[str]:
    """The public names of a namespace; of one that lamina lacks, those that Keras has."""
    if _is(home):
        return list(registry.public_names(registry.namespace(home)))
    return [name.removeprefix(f"keras.{home}.") for name in not_there() if name.startswith(f"keras.{home}.")]


def _is_file(home: str, part: str, root: str) -> bool:
    """Whether a namespace of Keras has such a file: one that we know of, or with the name of what is in it."""
    known = (*_FILES.get(home, "").split(), home.rpartition(".")[2])
    if root == "keras.src" and (part in known or part.endswith(_KINDS)):
        return True
    names = _names(home) if part.islower() and (root == "keras.src" or not _is(home)) else ()
    return any(folded(name).startswith(folded(part)) for name in names if name[0].isupper() or name == part)


def _absent(home: str, name: str) -> AbsentName:
    known = _is(home) or f"keras.{home}.{name}" in not_there()
    return AbsentName(f"lamina.{home if known else ''}".rstrip("."), name)


class _Finder(importlib.metadata.DistributionFinder, importlib.abc.Loader):
    backend: str | None = None  # what the environment said before

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not f"{fullname}.".startswith(("keras.", "tensorflow.keras.")):
            return None
        place = _place(fullname)
        if place is None:  # not asked further: a part of the installed Keras among those of lamina would not work
            module, _, name = fullname.rpartition(".")
            raise ModuleNotFoundError(f"{fullname}: {_absent((_place(module) or ('',))[0], name)}")
        return importlib.machinery.ModuleSpec(fullname, self, origin=__file__, loader_state=place, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec, *spec.loader_state)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing runs: names are looked up when somebody asks."""

    def find_distributions(self, context: Any = None) -> Iterator[importlib.metadata.Distribution]:
        if getattr(context, "name", None) == "keras":
            yield _Distribution()


class _Distribution(importlib.metadata.Distribution):
    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: keras\nVersion: {KERAS_VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        return os.path.join(os.path.dirname(__file__), path)


_finder = _Finder()


def in_grain() -> bool:
    """Whether a pipeline of Grain is calling."""
    return any(f.f_globals.get("__name__", "").startswith("grain._src.") for f, _ in traceback.walk_stack(None))


def as_it_is(thing: Any) -> Any:
    """`thing`: stands for decorators that only Keras needs."""
    return thing
