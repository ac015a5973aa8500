"""The namespaces that older programs import."""

import importlib

import keras
import numpy as np
import pytest

import lamina


@pytest.mark.parametrize(
    "path", ["preprocessing.image", "preprocessing.sequence", "mixed_precision", "optimizers.legacy", "utils.legacy"]
)
def test_a_namespace_has_the_names_of_keras(path):
    ours, theirs = (importlib.import_module(f"{library}.{path}") for library in ("lamina", "keras"))
    assert set(ours.__all__) == {name for name in dir(theirs) if not name.startswith("_")}


def test_optimizers_of_older_programs_train():
    model = lamina.Sequential([lamina.Input((2,)), lamina.layers.Dense(1)])
    model.compile(lamina.optimizers.legacy.Adam(learning_rate=0.1), "mse")
    losses = model.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_policy_of_mixed_precision():
    before = lamina.mixed_precision.global_policy()
    try:
        lamina.mixed_precision.set_global_policy("mixed_bfloat16")
        assert lamina.layers.Dense(1).compute_dtype == "bfloat16"
    finally:
        lamina.mixed_precision.set_global_policy(before)
    assert lamina.mixed_precision.Policy("float16").name == "float16"


def test_objects_in_the_form_of_older_programs():
    ours, theirs = lamina.utils.legacy, keras.utils.legacy
    form = ours.serialize_keras_object(lamina.layers.Dense(3, name="d"))
    assert form["class_name"] == "Dense" and form["config"]["units"] == 3
    assert ours.deserialize_keras_object(form).get_config() == lamina.layers.Dense(3, name="d").get_config()
    assert ours.serialize_keras_object(lamina.activations.relu) == theirs.serialize_keras_object(keras.activations.relu)
    assert ours.serialize_keras_object(None) is None is ours.deserialize_keras_object(None)
    assert ours.deserialize_keras_object("relu", vars(lamina.activations)) is lamina.activations.relu
    with pytest.raises(ValueError, match="activation: must be one of relu, got 'rel'"):
        ours.deserialize_keras_object("rel", {"relu": lamina.activations.relu}, printable_module_name="activation")
