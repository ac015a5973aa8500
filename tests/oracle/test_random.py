"""Random numbers, beside those of Keras."""

import inspect

import keras
import numpy as np
import pytest

from lamina import random
from lamina.random import seeds

LOGITS = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]], "float32"))
DATA = np.arange(24.0, dtype="float32").reshape(4, 6)

# (function, arguments): equal to the bit, but for the normals, where logarithms differ in the last bit.
CALLS = [
    ("uniform", ((3, 5),)),
    ("uniform", ((3, 5), -2.0, 7.5)),
    ("uniform", ((5,), 0.0, 1.0, "float16")),
    ("normal", ((3, 5),)),
    ("normal", ((3, 5), 0.0, 0.5)),
    ("normal", ((5,), 0.0, 1.0, "bfloat16")),
    ("truncated_normal", ((3, 5),)),
    ("truncated_normal", ((3, 5), 0.0, 2.0)),
    ("randint", ((3, 5), -3, 12)),
    ("randint", ((3, 5), 0, 100, "uint8")),
    ("categorical", (LOGITS, 6)),
    ("categorical", (LOGITS, 6, "int8")),
    ("gamma", ((3, 5), 1.5)),
    ("gamma", ((2, 3), np.array([0.5, 1.0, 3.0], "float32"))),
    ("beta", ((3, 5), 0.5, 2.0)),
    ("binomial", ((3, 5), 10.0, 0.3)),
    ("shuffle", (DATA,)),
    ("shuffle", (DATA, 1)),
    ("dropout", (DATA, 0.4)),
    ("dropout", (DATA, 0.4, (4, 1))),
    ("dropout", (DATA, 0.4, (None, 1))),
]
MAX_ULP = 4


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[call[0] for call in CALLS])
def test_numbers(name, arguments):
    ours, theirs = random.SeedGenerator(1337), keras.random.SeedGenerator(1337)
    data = tuple(keras.ops.convert_to_tensor(a) if isinstance(a, np.ndarray) else a for a in arguments)
    for _ in range(2):
        value = np.asarray(getattr(random, name)(*arguments, seed=ours))
        reference = np.asarray(getattr(keras.random, name)(*data, seed=theirs))
        assert (value.dtype, value.shape) == (reference.dtype, reference.shape)
        if "normal" in name and value.dtype == np.float32:
            np.testing.assert_array_max_ulp(value, reference, MAX_ULP)
        else:
            np.testing.assert_array_equal(value, reference)


@pytest.mark.parametrize("name", [name for name in dir(keras.random) if not name.startswith("_")])
def test_signature(name):
    def arguments(f):
        return [(p.name, p.default, p.kind) for p in inspect.signature(f).parameters.values()]

    assert name in random.__all__
    assert arguments(getattr(random, name)) == arguments(getattr(keras.random, name))


def test_integer_seed():
    np.testing.assert_array_max_ulp(
        np.asarray(random.normal((3,), seed=1337)), np.asarray(keras.random.normal((3,), seed=1337)), MAX_ULP
    )


def test_global_generator():
    seeds.set_global_seed(4)
    ours = [np.asarray(random.uniform((3,))) for _ in range(4)]
    keras.utils.set_random_seed(4)
    np.testing.assert_array_equal(ours, [np.asarray(keras.random.uniform((3,))) for _ in range(4)])


def test_seeds_that_are_drawn():
    seeds.set_global_seed(4)
    ours = [random.SeedGenerator().state.numpy() for _ in range(2)]
    keras.utils.set_random_seed(4)
    theirs = [np.asarray(keras.random.SeedGenerator().state.value) for _ in range(2)]
    np.testing.assert_array_equal(ours, theirs)


def test_state_and_configuration_of_a_generator():
    ours, theirs = random.SeedGenerator(5, name="noise"), keras.random.SeedGenerator(5, name="noise")
    assert ours.get_config() == theirs.get_config()
    assert (ours.state.path, ours.state.dtype) == (theirs.state.path, theirs.state.dtype)
    for ordered in (True, False, True):
        np.testing.assert_array_equal(ours.next(ordered), theirs.next(ordered))
        np.testing.assert_array_equal(ours.state.numpy(), theirs.state.value)
