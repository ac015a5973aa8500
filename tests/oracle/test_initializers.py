"""Initializers, beside those of Keras."""

import inspect

import keras
import numpy as np
import pytest

from lamina import initializers, random
from lamina.random import seeds

SHAPES = ((6, 5), (3, 3, 4, 8), (7,), ())
SCALED = ("GlorotUniform", "GlorotNormal", "LecunUniform", "LecunNormal", "HeUniform", "HeNormal")

# (class, arguments, shapes): arguments and values are those of Keras.
ROWS = [
    ("Zeros", {}, SHAPES),
    ("Ones", {}, SHAPES),
    ("Constant", {"value": 2.5}, SHAPES),
    ("Constant", {"value": [1.0, 2.0, 3.0, 4.0, 5.0]}, ((6, 5), (5,))),
    ("Identity", {"gain": 2.0}, ((4, 4), (3, 5))),
    ("STFT", {}, ((16, 1, 9),)),
    ("STFT", {"side": "imag", "window": "hamming", "scaling": "spectrum", "periodic": True}, ((16, 1, 9),)),
    ("STFT", {"scaling": None}, ((16, 1, 9),)),
    ("STFT", {"window": None}, ((16, 1, 9),)),
    ("RandomNormal", {"mean": 1.0, "stddev": 0.5, "seed": 3}, SHAPES),
    ("TruncatedNormal", {"mean": -1.0, "stddev": 2.0, "seed": 3}, SHAPES),
    ("RandomUniform", {"minval": -0.3, "maxval": 1.7, "seed": 3}, SHAPES),
    ("Orthogonal", {"gain": 2.0, "seed": 3}, ((6, 5), (5, 6), (3, 3, 4, 8))),
    *[
        ("VarianceScaling", {"scale": 3.0, "mode": mode, "distribution": distribution, "seed": 3}, SHAPES)
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("uniform", "normal", "truncated_normal", "untruncated_normal")
    ],
    ("VarianceScaling", {"seed": 3, "input_axes": [0, 1], "output_axes": [3]}, ((3, 3, 4, 8),)),
    *[(name, {"seed": 3}, SHAPES) for name in SCALED],
]
EXACT = (
    "Zeros", "Ones", "Constant", "Identity", "RandomUniform", "GlorotUniform", "LecunUniform", "HeUniform",
)  # fmt: skip


def every_row(f):
    return pytest.mark.parametrize(("name", "arguments", "shapes"), ROWS)(f)


def pair(name, arguments):
    return getattr(initializers, name)(**arguments), getattr(keras.initializers, name)(**arguments)


def public(module):
    return {name for name in dir(module) if not name.startswith("_")}


def test_names():
    assert public(keras.initializers) <= set(initializers.__all__)


@pytest.mark.parametrize("name", sorted(public(keras.initializers)))
def test_signature(name):
    ours, theirs = getattr(initializers, name), getattr(keras.initializers, name)
    if isinstance(theirs, type) and "__init__" not in vars(theirs):
        assert not inspect.signature(ours).parameters
        return

    def arguments(f):
        return [(p.name, p.default, p.kind) for p in inspect.signature(f).parameters.values()]

    assert arguments(ours) == arguments(theirs)


@every_row
def test_values(name, arguments, shapes):
    ours, theirs = pair(name, arguments)
    for shape in shapes:
        value, reference = np.asarray(ours(shape)), np.asarray(theirs(shape))
        assert value.dtype == reference.dtype
        if name in EXACT:
            np.testing.assert_array_equal(value, reference)
        else:
            np.testing.assert_allclose(value, reference, rtol=1e-6, atol=2e-6)


@every_row
def test_configuration(name, arguments, shapes):
    ours, theirs = pair(name, arguments)
    if name == "Identity":  # Keras forgets the gain
        assert (ours.get_config(), theirs.get_config()) == (arguments, {})
        return
    assert ours.get_config() == theirs.get_config()
    assert initializers.serialize(ours) == keras.initializers.serialize(theirs)


@every_row
def test_each_opens_what_the_other_saved(name, arguments, shapes):
    ours, theirs = pair(name, arguments)
    there = keras.initializers.deserialize(initializers.serialize(ours))
    np.testing.assert_array_equal(there(shapes[0]), theirs(shapes[0]))
    saved = keras.initializers.serialize(there)
    np.testing.assert_array_equal(
        initializers.deserialize(saved)(shapes[0]), type(ours).from_config(saved["config"])(shapes[0])
    )


def test_array_as_constant_is_saved_alike():
    ours, theirs = pair("Constant", {"value": np.arange(3, dtype="float32")})
    assert ours.get_config() == theirs.get_config()


@pytest.mark.parametrize("name", ["normal", "uniform", "one", "zero", "stft", "glorot_uniform", "HeNormal"])
def test_aliases(name):
    assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__


def test_generator_as_seed():
    ours = initializers.GlorotUniform(random.SeedGenerator(3, name="noise"))
    theirs = keras.initializers.GlorotUniform(keras.random.SeedGenerator(3, name="noise"))
    assert initializers.serialize(ours) == keras.initializers.serialize(theirs)
    for _ in range(2):
        np.testing.assert_array_equal(ours((4, 5)), theirs((4, 5)))


def test_seed_of_the_program_gives_a_layer_the_weights_of_keras():
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    seeds.set_global_seed(0)
    kernel = initializers.get("glorot_uniform")((4, 3))
    np.testing.assert_array_equal(kernel, layer.kernel)
