"""Run a program with lamina and with Keras, from the same seed, and compare what it returns."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

import lamina


def same_in_both(program: Callable, *, rtol: float = 2e-5, atol: float = 2e-6) -> Any:
    """What `program(lamina)` returns, after a look that `program(keras)` returns the same.

    Args:
        program: a function of the library; it returns a structure of arrays, numbers, strings and `None`.
        rtol, atol: how far numbers may be apart.
    """
    lamina.utils.clear_session()  # automatic names count from the start in both
    keras.utils.clear_session()
    lamina.utils.set_random_seed(1)
    ours = program(lamina)
    with warnings.catch_warnings():
        # Keras warns of its own variables under NumPy 2.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        keras.utils.set_random_seed(1)
        theirs = program(keras)
    one, other = ({jax.tree_util.keystr(path): leaf for path, leaf in flat(result)} for result in (ours, theirs))
    assert sorted(one) == sorted(other)
    for path, expected in other.items():
        if expected is None or isinstance(expected, str):
            assert one[path] == expected, path
        else:
            np.testing.assert_allclose(np.asarray(one[path]), np.asarray(expected), rtol, atol, err_msg=path)
    return ours


def flat(structure: Any) -> list:
    return jax.tree.leaves_with_path(structure, is_leaf=lambda x: x is None)
