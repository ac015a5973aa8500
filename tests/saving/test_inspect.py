"""What `inspect` tells about a file, without making anything of it."""

import numpy as np
import pytest

import lamina as keras
from lamina import layers


class Unknown(layers.Layer):
    """No public class."""

    def call(self, x):
        return x


@pytest.fixture
def path(tmp_path):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="top")(Unknown()(inner(inputs))) * 2.0)
    model.compile("adam", "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def test_architecture_and_sizes(path):
    found = keras.saving.inspect(path)
    assert [(row.depth, row.class_name, row.nbytes) for row in found.rows] == [
        (0, "InputLayer", 0),
        (0, "Sequential", 60),
        (1, "Dense", 60),
        (0, "Unknown", 0),
        (0, "Dense", 32),
        (0, "Multiply", 0),
    ]
    assert (found.class_name, found.optimizer, found.parameters) == ("Functional", "Adam", 23)
    assert found.keras_version == "3.15.1"


def test_classes_that_the_program_must_have(path):
    assert keras.saving.inspect(path).unknown == ["Unknown"]
    with keras.saving.CustomObjectScope({"Unknown": Unknown}):
        assert keras.saving.inspect(path).unknown == []


def test_makes_nothing(path, monkeypatch):
    monkeypatch.setattr(layers.Dense, "__init__", None)
    monkeypatch.setattr(keras.Variable, "__init__", None)
    assert keras.saving.inspect(path).total_bytes > 0


def test_table(path):
    text = str(keras.saving.inspect(path))
    assert text == repr(keras.saving.inspect(path))
    for part in ("top", "Dense", "(3, 2) float32", "Parameters: 23", "Needs custom_objects: Unknown"):
        assert part in text


def test_weights_alone(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.save_weights(tmp_path / "m.weights.h5")
    found = keras.saving.inspect(tmp_path / "m.weights.h5")
    assert [(row.name, row.nbytes) for row in found.rows] == [("layers/dense", 60)]
    assert found.arrays["layers/dense/vars/0"] == ((4, 3), "float32")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be there"):
        keras.saving.inspect(tmp_path / "m.keras")
