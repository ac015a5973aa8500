"""`FeatureSpace`: what it takes, what it gives, and what it refuses."""

import numpy as np
import pandas as pd
import pytest

import lamina
from lamina.utils import FeatureSpace

TABLE = {"size": [1.0, 2.0, 3.0, 4.0], "kind": ["cat", "dog", "cat", "cow"]}


def space(**arguments):
    made = FeatureSpace({"size": "float_normalized", "kind": "string_categorical"}, **arguments)
    made.adapt(TABLE)
    return made


def test_tables_of_any_kind_are_the_same():
    made = space()
    expected = made(TABLE)
    assert expected.shape == (4, 5)
    np.testing.assert_array_equal(made(pd.DataFrame(TABLE)), expected)
    np.testing.assert_array_equal(made({name: np.array(column) for name, column in TABLE.items()}), expected)
    np.testing.assert_array_equal(made({name: column[0] for name, column in TABLE.items()}), expected[0])


def test_it_stands_in_a_pipeline_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    made = space()
    mapped = tf.data.Dataset.from_tensor_slices(TABLE).batch(3).map(made)
    assert mapped.element_spec.shape == (None, 5)
    np.testing.assert_array_equal(np.concatenate(list(mapped.as_numpy_iterator())), made(TABLE))


def test_a_model_on_raw_columns_trains():
    made = space()
    model = lamina.Model(made.get_inputs(), lamina.layers.Dense(1)(made.get_encoded_features()))
    model.compile("adam", "mse")
    model.fit(TABLE, np.ones(4), verbose=0)
    weights, bias = model.get_weights()[-2:]
    np.testing.assert_allclose(model.predict(TABLE, verbose=0), made(TABLE) @ weights + bias, rtol=1e-5)


def test_columns_come_apart():
    out = space(output_mode="dict")(TABLE)
    assert {name: array.shape for name, array in out.items()} == {"size": (4, 1), "kind": (4, 4)}


def test_streams_are_read_once():
    made = FeatureSpace({"size": "float_normalized", "kind": "string_categorical"})
    made.adapt({name: column[at : at + 2] for name, column in TABLE.items()} for at in (0, 2))
    np.testing.assert_allclose(made(TABLE), space()(TABLE), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureSpace({}), "features must name at least one column"),
        (lambda: FeatureSpace({"a": "floats"}), "feature 'a' must be one of .* got 'floats'"),
        (lambda: FeatureSpace({"a": "float"}, crosses=[("a", "b")]), "crosses must be of features"),
        (lambda: FeatureSpace({"a": "float"}, output_mode="list"), "output_mode must be 'dict' or 'concat'"),
        (lambda: FeatureSpace({"a": "float_normalized"})({"a": [1.0]}), "adapt must be called on data before"),
        (lambda: space()({"size": [1.0]}), "must have the column 'kind'"),
        (lambda: space()([1.0]), "must be a dict of columns"),
        (
            lambda: FeatureSpace({"a": FeatureSpace.string_hashed(3, output_mode="int")})({"a": ["x"]}),
            "feature 'a' must be encoded to be concatenated",
        ),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
