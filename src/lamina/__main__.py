"""`python -m lamina profile SCRIPT [ARGUMENTS]`: run a program, then print what its models cost, layer by layer."""

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


class Outermost:
    """Notes on what shapes models are called, of each the largest, in training and otherwise."""

    without_remat = False

    def __init__(self) -> None:
        self.called: dict[tuple[int, bool], tuple[int, Any, tuple]] = {}  # (id, training) -> numbers, model, inputs

    def call(self, layer: Any, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        given = [each for each in args if all(isinstance(x, jax.Array) for x in tree_util.tree_leaves(each))]
        shapes = tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tuple(given))
        leaves, key = tree_util.tree_leaves(shapes), (id(layer), bool(scope.call.get().training))
        if len(scope.names.get()) == 1 and leaves and all(isinstance(d, int) for leaf in leaves for d in leaf.shape):
            size = sum(leaf.size for leaf in leaves)
            self.called[key] = max(self.called.get(key, (0, layer, ())), (size, layer, shapes), key=lambda e: e[0])
        return call(*args, **kwargs)

    def gradients(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Nothing to note."""

    def profiles(self) -> list[Profile]:
        """Those of the models that were trained, on numbers drawn at random; without any, of the dearest call."""
        trained = [entry for (_, training), entry in self.called.items() if training]
        if trained:
            return [profile(layer, *_drawn(shapes)) for _, layer, shapes in trained]
        ran = [profile(m, *_drawn(shapes), training=False, backward=False) for _, m, shapes in self.called.values()]
        return sorted(ran, key=lambda each: -each.forward.seconds)[:1]


def _drawn(shapes: Any) -> Any:
    random = np.random.default_rng(0)
    return tree_util.tree_map(  # 0 is a valid class, word and row
        lambda s: (random.normal(size=s.shape) if s.dtype.kind not in "iub" else np.zeros(s.shape)).astype(s.dtype),
        shapes,
    )


def main(arguments: list[str]) -> int:
    """Run the command, and return the status of the process."""
    if arguments[:1] != ["profile"] or len(arguments) < 2 or not os.path.isfile(arguments[1]):
        print("usage: python -m lamina profile SCRIPT [ARGUMENTS]", file=sys.stderr)
        return 2
    sys.argv = arguments[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[1])))
    noted, status = Outermost(), 0
    try:
        with scope.watch(noted):
            runpy.run_path(arguments[1], run_name="__main__")
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    for each in noted.profiles():
        print(each)
    if not noted.called:
        print("profile: the script must call a model or layer, called none.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
