"""Regularizers and constraints, beside those of Keras."""

import inspect

import keras
import numpy as np
import pytest

from lamina import constraints, regularizers

FAMILIES = {"regularizers": regularizers, "constraints": constraints}
WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")

ROWS = [
    ("regularizers", "L1", {"l1": 0.5}),
    ("regularizers", "L1", {"l1": None}),
    ("regularizers", "L2", {}),
    ("regularizers", "L1L2", {"l1": 0.5, "l2": 1}),
    ("regularizers", "L1L2", {"l1": None}),
    ("regularizers", "OrthogonalRegularizer", {}),
    ("regularizers", "OrthogonalRegularizer", {"factor": 1, "mode": "columns"}),
    ("constraints", "MaxNorm", {}),
    ("constraints", "MaxNorm", {"max_value": 0.5, "axis": [0, 1]}),
    ("constraints", "MinMaxNorm", {}),
    ("constraints", "MinMaxNorm", {"min_value": 1.5, "max_value": 2.0, "rate": 0.3, "axis": 1}),
    ("constraints", "NonNeg", {}),
    ("constraints", "UnitNorm", {"axis": 1}),
]


def every_row(f):
    return pytest.mark.parametrize(("path", "name", "arguments"), ROWS)(f)


def pair(path, name, arguments):
    return getattr(FAMILIES[path], name)(**arguments), getattr(getattr(keras, path), name)(**arguments)


def rounded(config):
    """Keras rounds some factors to float32 before it saves them."""
    return {k: np.float32(v) if isinstance(v, float) else v for k, v in config.items()}


def names(path):
    return [(path, name) for name in dir(getattr(keras, path)) if not name.startswith("_")]


@pytest.mark.parametrize(("path", "name"), names("regularizers") + names("constraints"))
def test_signature(path, name):
    assert name in FAMILIES[path].__all__
    ours, theirs = getattr(FAMILIES[path], name), getattr(getattr(keras, path), name)
    if isinstance(theirs, type) and "__init__" not in vars(theirs):
        assert not inspect.signature(ours).parameters
        return

    def arguments(f):
        return [(p.name, p.default, p.kind) for p in inspect.signature(f).parameters.values()]

    assert arguments(ours) == arguments(theirs)


@every_row
def test_values(path, name, arguments):
    ours, theirs = pair(path, name, arguments)
    reference = theirs(keras.ops.convert_to_tensor(WEIGHT))
    np.testing.assert_allclose(ours(WEIGHT), reference, rtol=1e-6, atol=1e-7)


@every_row
def test_configuration(path, name, arguments):
    ours, theirs = pair(path, name, arguments)
    family, reference = FAMILIES[path], getattr(keras, path)
    here, there = family.serialize(ours), reference.serialize(theirs)
    assert rounded(here.pop("config")) == rounded(there.pop("config"))
    assert here == there
    assert family.deserialize(reference.serialize(theirs)).get_config() == theirs.get_config()


@pytest.mark.parametrize("name", ["l1", "l2", "L1", "L1L2", "l1l2", "OrthogonalRegularizer"])
def test_names_of_regularizers(name):
    ours, theirs = regularizers.get(name), keras.regularizers.get(name)
    assert type(ours).__name__ == type(theirs).__name__
    assert rounded(ours.get_config()) == rounded(theirs.get_config())
