"""Activation functions against Keras: signatures, values, saved names."""

import inspect
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import activations

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras

NAMES = [n for n in dir(keras.activations) if n[0] != "_" and inspect.isfunction(getattr(keras.activations, n))]
FUNCTIONS = [n for n in NAMES if n not in ("get", "serialize", "deserialize", "threshold")]
X = np.linspace(-4, 4, 24).reshape(4, 6).astype("float32")


def test_the_names_are_those_of_keras():
    assert sorted(activations.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_that_of_keras(name):
    theirs, ours = (inspect.signature(getattr(m, name)).parameters.values() for m in (keras.activations, activations))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_dtypes_are_those_of_keras(name, dtype):
    x = jnp.asarray(X, dtype)
    theirs, ours = getattr(keras.activations, name)(x), getattr(activations, name)(x)
    assert ours.dtype == theirs.dtype
    tolerance = 2e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(*(np.asarray(a, "float32") for a in (ours, theirs)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [{"negative_slope": 0.1}, {"max_value": 2.0}, {"threshold": 1.0}, {"max_value": 6},
     {"negative_slope": 0.2, "max_value": 2.5, "threshold": 0.5}, {"negative_slope": 0.2, "threshold": -1.0}],
    ids=repr,
)  # fmt: skip
def test_relu_with_options_is_that_of_keras(options):
    np.testing.assert_allclose(
        activations.relu(X, **options), keras.activations.relu(jnp.asarray(X), **options), rtol=1e-6
    )


def test_threshold_and_glu_along_another_axis_are_those_of_keras():
    np.testing.assert_array_equal(
        activations.threshold(X, 1.0, 7.0), keras.activations.threshold(jnp.asarray(X), 1.0, 7.0)
    )
    np.testing.assert_allclose(activations.glu(X, axis=0), keras.activations.glu(jnp.asarray(X), axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_saved_form_is_that_of_keras(name):
    theirs, ours = (m.serialize(getattr(m, name)) for m in (keras.activations, activations))
    assert ours == theirs


def own(x):
    return x


@pytest.mark.parametrize("registered", [False, True])
def test_functions_are_serialized_as_in_keras(registered):
    forms = []
    for library in (keras, lamina):
        fn = (lambda f: f) if not registered else library.saving.register_keras_serializable("package", "name")
        functions = fn(own), library.activations.relu, library.losses.mean_squared_error, library.ops.relu
        forms.append([library.saving.serialize_keras_object(each) for each in functions])
        forms[-1] += [library.activations.serialize(functions[0]), library.losses.serialize(functions[2])]
    assert forms[0] == forms[1]
