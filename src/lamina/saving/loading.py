"""Models made of what a file says: names that are known, and variables that the file accounts for."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import configurable, dtypes, placement, registry, scope
from lamina.core.arrays import send
from lamina.core.budget import CALL, Budget, CorruptFileError, UnsafeFileError, blamed_on
from lamina.core.functions import asked_for, lambdas
from lamina.core.variable import Variable


class Loading(Budget):
    """While a model is made from a file, its variables must fit what the file holds, and get no initial values yet.

    Args:
        size: the bytes of the file, unpacked.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self._waiting: list[tuple[Variable, Any, Any]] = []

    def admit(self, variable: Variable, initializer: Any, shape: Any, dtype: Any) -> Any:
        """Count the variable in; what is returned makes its first value, zeros unless it is an array."""
        if callable(initializer) or isinstance(initializer, str):
            sizes = tuple(shape or ())
            if any(not isinstance(d, (int, np.integer)) or d < 0 for d in sizes):
                return initializer  # which is an error of the variable
            name = dtypes.standardize_dtype(dtype)
            self._take(variable, sizes, math.prod(map(int, sizes)) * jnp.dtype(name).itemsize)
            self._waiting.append((variable, None, initializer))
            return lambda *_, **__: send(np.zeros(sizes, jnp.dtype(name)))
        self._take(variable, np.shape(initializer), int(getattr(initializer, "nbytes", 0)))
        return initializer

    def _take(self, variable: Variable, shape: tuple[int, ...], size: int) -> None:
        self.spend(f'Variable "{variable.path}": a variable of shape {tuple(shape)}', size, CALL)

    def note_zeros(self) -> None:
        """Keep the arrays that the variables have before the file fills them, wherever a plan has put them."""
        self._waiting = [(variable, variable.stored, initializer) for variable, _, initializer in self._waiting]

    def draw_initial_values(self) -> None:
        """Give the variables that the file has no array for the values that they start with, such as new seeds."""
        for variable, zeros, initializer in self._waiting:
            if variable.stored is zeros:
                value = Variable(initializer, variable.shape, variable.dtype, name="initial").give()
                variable.take(placement.placed(variable, value))


def made_of(config: dict[str, Any], file: Loading, place: str, custom_objects: Any, compile: bool) -> Any:
    """The model that the configuration in a file describes, its variables zeros that the budget of the file allows."""
    with blamed_on(place, "save it again, or make the model in your program and call load_weights"):
        if not compile:
            config.pop("compile_config", None)
        with registry.custom_objects(custom_objects):
            _put_functions(config)
            unknown = unknown_names(config)
            if unknown:
                raise UnsafeFileError(
                    f"it names {', '.join(unknown)}, which must be public names of lamina or registered ones; pass "
                    "custom_objects={name: class} or decorate them with "
                    "@lamina.saving.register_keras_serializable()."
                )
            with configurable.sharing({}), scope.loading(file):
                model = configurable.deserialize(config)
            file.note_zeros()
        if not hasattr(model, "load_own_variables"):
            raise CorruptFileError(f"must describe a model or a layer, got {type(model).__name__}; save one of these.")
    return model


def unknown_names(config: Any) -> list[str]:
    """What a configuration names and neither the library nor the program has, and its lambdas."""
    unknown = {f"the lambda {place.name!r}": None for place in lambdas(config)}
    waiting = [config]
    while waiting:
        form = waiting.pop()
        if isinstance(form, dict) and isinstance(form.get("class_name"), str) and "config" in form:
            name = form["class_name"]
            if name.startswith("__"):
                continue
            found = configurable.resolve(form)
            if found is None:
                plain = form["config"] if name == "function" else name
                module = str(form.get("module"))
                public = f"{module}.{plain}" if module.startswith("keras.") else plain
                unknown[str(form.get("registered_name") or public)] = None
            if found is None or not registry.is_own(found):
                form = {key: form.get(key) for key in ("build_config", "compile_config")}  # the rest is its own affair
        if isinstance(form, (dict, list, tuple)):
            waiting.extend(reversed(list(form.values()) if isinstance(form, dict) else form))
    return list(unknown)


def _put_functions(config: dict[str, Any]) -> None:
    """Put functions of the program in the place of lambdas."""
    missing = []
    for name, holder, key in lambdas(config):
        function = registry.get_registered_object(name)
        if function is None:
            missing.append(name)
        else:
            holder[key] = function
    if missing:
        raise UnsafeFileError(
            "it holds lambdas as byte code, and code from files is never run, whatever safe_mode says; pass "
            f"{asked_for(missing)} with functions of your program."
        )
