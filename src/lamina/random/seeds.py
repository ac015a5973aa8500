"""Where randomness comes from: `SeedGenerator`, and the global seed."""

import random as python_random
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lamina.core import placement, scope
from lamina.core.arrays import send
from lamina.core.configurable import Configurable
from lamina.core.constructors import unknown_arguments
from lamina.core.variable import Variable

_global: dict[str, Any] = {"seed": None, "generator": None}


class SeedGenerator(Configurable):
    """A source of random keys: each `next()` gives another one.

    The key is the `state`, a variable `[seed, draws so far]`; a layer that holds a generator carries it among
    the variables that it does not train.

    Args:
        seed: an integer from 0 to 2**32 - 1; without one, drawn from Python's `random`.
        name: unique if not given.
        kwargs: `backend` is accepted and has no effect.
    """

    def __init__(self, seed: Any = None, name: str | None = None, **kwargs: Any):
        kwargs.pop("backend", None)
        if kwargs:
            raise unknown_arguments(SeedGenerator, kwargs)
        pair = _seed_pair("SeedGenerator", make_default_seed() if seed is None else seed)
        self.name = scope.unique_name("seed_generator") if name is None else name
        with scope.name_scope(self.name):
            self.state = Variable(
                lambda shape, dtype: send(pair),
                shape=(2,),
                dtype="uint32",
                trainable=False,
                aggregation="none",
                name="seed_generator_state",
            )

    def next(self, ordered: bool = True) -> jax.Array:
        """The current state, as a key; the state moves on.

        Args:
            ordered: count the draws; otherwise scramble the state, as the global generator does.
        """
        key = self.state.value
        old = key if isinstance(key, Tracer) else np.asarray(key)  # NumPy compiles nothing
        one = np.array([0, 1], np.uint32)
        new = old + one if ordered else (old + np.uint32(1)) * np.uint32(5387) % np.uint32(933199)
        self.state.assign(jax.device_put(new))
        for lane in scope.lanes.get():  # the parts of a vmap share the state, and draw apart
            key = jax.random.fold_in(key, jax.lax.axis_index(lane))
        return key


def make_default_seed() -> int:
    """A seed from Python's `random`, so that `set_random_seed` governs it."""
    return placement.agreed(python_random.randint(1, 10**9))


def set_global_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy, the global generator, and TensorFlow where a program has loaded it."""
    seed = placement.agreed(int(_seed_pair("set_random_seed", seed)[0]))
    python_random.seed(seed)
    np.random.seed(seed)
    _global.update(seed=seed, generator=None)
    if "tensorflow" in sys.modules:  # its data pipelines shuffle
        sys.modules["tensorflow"].random.set_seed(seed)


def global_seed() -> int | None:
    """The seed that `set_global_seed` was last given, or `None`."""
    return _global["seed"]


def global_seed_generator() -> SeedGenerator:
    """The generator that draws without a seed use; made when first needed."""
    if _global["generator"] is None:
        with scope.names(()):
            _global["generator"] = SeedGenerator(name="global_seed_generator")
    return _global["generator"]


def drawn_global_generator() -> SeedGenerator | None:
    """The generator that draws without a seed use, if there was such a draw."""
    return _global["generator"]


def reset_global_generator() -> None:
    """Let the next draw without a seed make a new global generator."""
    _global["generator"] = None


def draw_seed(seed: Any) -> jax.Array:
    """The key, two 32-bit integers, that a `seed` argument means.

    Args:
        seed: `None` (the global generator), an integer, a `SeedGenerator`, or a key as an array.
    """
    if seed is None:
        return global_seed_generator().next(ordered=False)
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, (jax.Array, Variable)):
        return jnp.asarray(seed)
    return send(seed if isinstance(seed, np.ndarray) else _seed_pair("draw_seed", seed))


def _seed_pair(who: str, seed: Any) -> np.ndarray:
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"{who}: seed must be an integer from 0 to 2**32 - 1, got {seed!r}.")
    return np.array([seed, 0], np.uint32)
