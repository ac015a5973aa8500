"""Activation functions: values, names, configurations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import activations
from lamina.core.registry import CustomObjectScope, register_keras_serializable
from lamina.core.symbolic import KerasTensor

FUNCTIONS = [n for n in activations.__all__ if n not in ("get", "serialize", "deserialize")]
X = jnp.linspace(-3, 3, 14).reshape(2, 7)[:, :6]


def call(name, x):
    function = getattr(activations, name)
    return function(x, 0.5, 7.0) if name == "threshold" else function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inferred_shape_is_the_real_one_and_gradients_are_finite(name):
    out, inferred = call(name, X), call(name, KerasTensor(X.shape))
    assert inferred.shape == out.shape and inferred.dtype == out.dtype.name
    assert jnp.isfinite(jax.grad(lambda x: call(name, x).sum())(X)).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays(name, dtype):
    assert call(name, X.astype(dtype)).dtype == dtype


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_in_any_case_and_its_configuration_mean_the_function(name):
    function = getattr(activations, name)
    assert activations.get(name) is function
    assert activations.get(name.upper()) is function
    assert activations.deserialize(activations.serialize(function)) is function


def test_none_means_linear():
    assert activations.get(None) is activations.linear
    assert activations.linear(X) is X


def test_other_names_of_functions_are_saved_by_the_first():
    assert activations.serialize(activations.swish) == "silu"
    assert activations.serialize(activations.get("hard_swish")) == "hard_silu"


def test_a_function_of_the_user_is_saved_by_its_registered_name():
    @register_keras_serializable("tests")
    def cubed(x):
        return x**3

    saved = activations.serialize(cubed)
    assert saved["config"] == "tests>cubed"
    assert activations.deserialize(saved) is cubed


def test_custom_objects_name_functions():
    def doubled(x):
        return 2 * x

    assert activations.deserialize("doubled", {"doubled": doubled}) is doubled
    with CustomObjectScope({"doubled": doubled}):
        assert activations.get("doubled") is doubled


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'softmax'"):
        activations.get("sotfmax")
    with pytest.raises(ValueError, match="must be a name"):
        activations.get(3)


@pytest.mark.parametrize(
    "slope, largest, threshold", [(0.0, None, 0.0), (0.1, 2.0, 0.0), (0.2, None, 1.0), (0.0, 1.5, -1)]
)
def test_relu_is_flat_above_and_slopes_below(slope, largest, threshold):
    expected = np.where(threshold < X, X, slope * (X - threshold))
    expected = np.minimum(expected, np.inf if largest is None else largest)
    np.testing.assert_allclose(activations.relu(X, slope, largest, threshold), expected, rtol=1e-6)
