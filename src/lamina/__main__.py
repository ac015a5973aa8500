"""`python -m lamina profile SCRIPT [ARGUMENTS]`: run a program, then print what its models cost, layer by layer."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import tree_util

from lamina.core import scope
from lamina.training.tools.profile import Profile, profile

USAGE = "usage: python -m lamina profile SCRIPT [ARGUMENTS]"


class Outermost:
    """Notes on what shapes models are called, by code of the program and in its trainings, on the most rows of each."""

    def __init__(self) -> None:
        self.models: dict[tuple[int, bool], tuple[int, Any, tuple]] = {}  # (id, training) -> elements, model, inputs

    def call(self, layer: Any, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        shapes = tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
        leaves = tree_util.tree_leaves(shapes)
        known = all(isinstance(size, int) for leaf in leaves for size in leaf.shape)
        if len(scope.names.get()) == 1 and leaves and known:
            key, size = (id(layer), bool(scope.call.get().training)), sum(int(np.prod(leaf.shape)) for leaf in leaves)
            if size >= self.models.get(key, (0,))[0]:
                self.models[key] = size, layer, shapes
        return call(*args, **kwargs)

    def gradients(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Nothing to note."""

    def profiles(self) -> list[Profile]:
        """Those of the models that were trained; without any, of the call that is dearest."""
        trained = [entry for (_, training), entry in self.models.items() if training]
        found = [profile(layer, *_zeros(shapes)) for _, layer, shapes in trained]
        if found:
            return found
        calls = [profile(layer, *_zeros(shapes), training=False, backward=False) for _, layer, shapes in self.models.values()]
        return sorted(calls, key=lambda each: -each.forward.seconds)[:1]


def _zeros(shapes: Any) -> Any:
    random = np.random.default_rng(0)

    def one(spec: Any) -> Any:
        if np.issubdtype(spec.dtype, np.integer) or spec.dtype == bool:
            return np.zeros(spec.shape, spec.dtype)
        return random.normal(size=spec.shape).astype(spec.dtype)

    return tree_util.tree_map(one, shapes)


def main(arguments: list[str]) -> int:
    """Run the command; what it returns is the status of the process."""
    if len(arguments) < 2 or arguments[0] != "profile":
        print(USAGE, file=sys.stderr)
        return 2
    script = arguments[1]
    if not os.path.isfile(script):
        print(f"profile: SCRIPT must be a file, got {script!r}.", file=sys.stderr)
        return 2
    sys.argv = arguments[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    noted, status = Outermost(), 0
    try:
        with scope.watch(noted):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        for each in noted.profiles():
            print(each)
        if not noted.models:
            print("profile: the script must call a model or layer, called none.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
