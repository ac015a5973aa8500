"""Arrays from whatever holds one: the one door from variables and host memory to the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.state import Cell


def value_of(x: Any) -> Any:
    """The array of a variable; all else as it is."""
    return x.value if isinstance(x, Cell) else x


def as_array(x: Any, dtype: Any = None) -> Any:
    """`x` (an array, a variable, numbers) as an array. `jnp.asarray` takes 6 us for what is one already."""
    x = value_of(x)
    there = isinstance(x, jax.Array) and (dtype is None or dtype == x.dtype)
    return x if there else jnp.asarray(x, dtype)


def send(array: np.ndarray, dtype: Any = None) -> jax.Array:
    """A NumPy array on the device, in JAX's form of its dtype or of the one given.

    Only sending compiles nothing; `jnp.asarray` would, for every new shape, 20 to 65 ms each.
    """
    canonical = jax.dtypes.canonicalize_dtype(array.dtype if dtype is None else dtype)
    return jax.device_put(array.astype(canonical, copy=False))


def copied(arrays: Any) -> Any:
    """The same values in memory of their own, on the same devices; compiles nothing."""
    return jax.device_put(arrays, jax.tree.map(lambda array: array.sharding, arrays), may_alias=False)
