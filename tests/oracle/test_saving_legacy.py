"""Whole models that Keras wrote as `.h5` open here, with equal outputs and the state of their training."""

import warnings

import numpy as np
import pytest

import lamina
from tests.oracle.test_saving import LAYERS, MODELS, outputs, with_random_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras


# In a .h5 bfloat16 is bytes without a name, which Keras cannot read either.
ROWS = [row for row in (*LAYERS, *MODELS) if row.name != "half precision"]


@pytest.mark.parametrize("row", ROWS, ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_model_of_keras_opens_here(row, tmp_path):
    model = with_random_weights(row.make(keras))
    model.save(tmp_path / "m.h5")
    twin = lamina.saving.load_model(tmp_path / "m.h5")
    for theirs, ours in zip(outputs(model, row.inputs()), outputs(twin, row.inputs()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_training_goes_on(tmp_path):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "m.h5")
    twin = lamina.saving.load_model(tmp_path / "m.h5")
    for theirs, ours in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    for each in (model, twin):
        each.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.filterwarnings("ignore")
def test_weights_of_a_whole_model(tmp_path):
    def make(k):
        return k.Sequential([k.Input((4,)), k.layers.Dense(3), k.layers.BatchNormalization(), k.layers.Dense(1)])

    model, twin = with_random_weights(make(keras)), make(lamina)
    model.save(tmp_path / "m.h5")
    twin.load_weights(tmp_path / "m.h5")
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
