"""What becomes an array, which dtypes it gets, and the rules between x, y and the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch

from lamina.core import dtypes
from lamina.core.variable import Variable
from lamina.data.arrays import pack_x_y_sample_weight, train_validation_split, unpack_x_y_sample_weight
from lamina.data.sources import make_source

ROWS = np.arange(12, dtype="float32").reshape(4, 3)

ARRAY_LIKE = [
    pytest.param(ROWS, id="numpy"),
    pytest.param(ROWS.astype("float64"), id="float64"),
    pytest.param(ROWS.astype(">f4"), id="big-endian"),
    pytest.param(ROWS[::-1][::-1], id="strided"),
    pytest.param(jnp.asarray(ROWS), id="jax"),
    pytest.param(Variable(ROWS), id="Variable"),
    pytest.param(ROWS.tolist(), id="lists"),
    pytest.param(tuple(map(tuple, ROWS.tolist())), id="tuples"),
    pytest.param([list(row) for row in ROWS], id="lists of NumPy scalars"),
    pytest.param(pd.DataFrame(ROWS), id="DataFrame"),
    pytest.param(pd.DataFrame({"a": ROWS[:, 0].astype(int), "b": ROWS[:, 1], "c": ROWS[:, 2]}), id="mixed columns"),
    pytest.param(torch.tensor(ROWS), id="torch"),
    pytest.param(torch.tensor(ROWS, requires_grad=True), id="torch with gradient"),
    pytest.param(torch.tensor(ROWS, dtype=torch.bfloat16), id="torch bfloat16"),
    pytest.param(tf.constant(ROWS), id="tf"),
]


@pytest.mark.parametrize("x", ARRAY_LIKE)
def test_whatever_holds_numbers_becomes_one_array_of_floatx(x):
    array = make_source(x).arrays
    assert isinstance(array, (np.ndarray, jax.Array))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, ROWS)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_whole_numbers_keep_their_dtype(dtype):
    assert make_source(np.ones((2, 3), dtype)).arrays.dtype == dtype


def test_a_numpy_array_of_the_right_dtype_is_not_copied():
    assert np.shares_memory(make_source(ROWS).arrays, ROWS)


def test_a_jax_array_stays_on_its_device():
    x = jnp.asarray(ROWS)
    assert make_source(x).arrays is x


def test_floats_follow_floatx():
    dtypes.set_floatx("bfloat16")
    try:
        assert make_source(ROWS).arrays.dtype == jnp.bfloat16
    finally:
        dtypes.set_floatx("float32")


def test_a_column_of_pandas_has_a_last_axis():
    assert make_source(ROWS, pd.Series([1, 2, 3, 4])).arrays[1].shape == (4, 1)


def test_columns_of_numbers_and_booleans_become_floats():
    array = make_source(pd.DataFrame({"a": [1, 2], "b": [True, False]})).arrays
    np.testing.assert_array_equal(array, np.array([[1, 1], [2, 0]], "float32"))


def test_nested_structures_keep_their_shape():
    x = {"a": ROWS, "b": [ROWS, (ROWS[:, 0], None)]}
    arrays = make_source(x, [ROWS]).arrays
    assert jax.tree.structure(arrays) == jax.tree.structure((x, [ROWS]))


def test_an_object_that_is_there_twice_becomes_one_array():
    x = ROWS.astype("float64")
    source = make_source(x, x)
    assert source.arrays[0] is source.arrays[1]
    assert source.row_bytes * source.size == ROWS.nbytes


WRONG_ARRAYS = [
    pytest.param(
        dict(x=ROWS, y=ROWS[:3]), r"fit: all arrays must have the same number of rows, got x 4, y 3\.", id="y"
    ),
    pytest.param(dict(x={"a": ROWS, "b": ROWS[:2]}, y=ROWS), r"got x\['a'\] 4, x\['b'\] 2, y 4\.", id="a part of x"),
    pytest.param(dict(x=ROWS[:0], y=ROWS[:0]), "the data must not be empty, got x 0, y 0", id="no rows"),
    pytest.param(dict(x=[]), "x must hold at least one array, got none", id="no array"),
    pytest.param(dict(x=None), r"x must be arrays .* got None", id="None"),
    pytest.param(dict(x=np.array(["a", "b"])), "x must hold numbers, got dtype str", id="strings"),
    pytest.param(dict(x=["a", "b"]), r"x\[0\] must hold numbers, got 'a'", id="a list of strings"),
    pytest.param(dict(x=np.array([{}, 1])), "x must hold numbers, got dtype object", id="objects"),
    pytest.param(
        dict(x=pd.DataFrame({"a": ["u"], "b": [1]})),
        r"column 'a' of x must hold numbers, got dtype str",
        id="a column of strings",
    ),
    pytest.param(dict(x=[[1, 2], [3]]), "x must be a list whose rows have one length", id="ragged lists"),
    pytest.param(dict(x={"a": np.float32(1)}), r"x\['a'\] must have a first axis of rows", id="a single number"),
    pytest.param(dict(x={"a": object()}), r"x\['a'\] must be arrays", id="an object"),
    pytest.param(dict(x=lambda: None), "got builtins.function; call the function", id="a generator function"),
    pytest.param(dict(x=ROWS, y=(i for i in ROWS)), "y must be arrays .* got builtins.generator", id="y a generator"),
    pytest.param(
        dict(x=tf.ragged.constant([[1], [2, 3]])),
        r"x must be arrays .* got tensorflow.RaggedTensor",
        id="a ragged tensor",
    ),
    pytest.param(dict(x=ROWS, sample_weight=ROWS[:, 0]), "sample_weight needs targets y", id="weights without y"),
    pytest.param(
        dict(x=ROWS, y=[ROWS, ROWS], sample_weight=ROWS), r"must have shape \(rows,\), got \(4, 3\)", id="weight shape"
    ),
    pytest.param(
        dict(x=ROWS, y=[ROWS, ROWS], sample_weight=[ROWS[:, 0]]), "must have the structure of y", id="weight structure"
    ),
    pytest.param(
        dict(x=ROWS, y=ROWS, sample_weight=ROWS[:, 0], class_weight={0: 1}), "must not both be given", id="two weights"
    ),
    pytest.param(
        dict(x=ROWS, y=[ROWS], class_weight={0: 1}), "class_weight needs one array", id="class weight, outputs"
    ),
    pytest.param(dict(x=ROWS, class_weight={0: 1}), "class_weight needs one array", id="class weight without y"),
    pytest.param(dict(x=ROWS, y=ROWS, class_weight=[1, 2]), "class_weight must be a dict", id="class weight list"),
    pytest.param(dict(x=ROWS, batch_size=0), "batch_size must be a positive integer, got 0", id="batch_size"),
    pytest.param(dict(x=ROWS, batch_size=2.0), "batch_size must be a positive integer", id="a float batch_size"),
    pytest.param(dict(x=ROWS, steps=-1), "steps_per_epoch must be a positive integer, got -1", id="steps"),
    pytest.param(dict(x=ROWS, shuffle="rows"), "shuffle must be True, False or 'batch'", id="shuffle"),
]


@pytest.mark.parametrize(("given", "message"), WRONG_ARRAYS)
def test_wrong_arrays_are_refused_with_their_names(given, message):
    with pytest.raises(ValueError, match=message):
        make_source(**given)


def test_the_caller_is_named():
    with pytest.raises(ValueError, match="predict: x must be"):
        make_source(None, who="predict")


def test_one_sample_weight_serves_every_output():
    weights = ROWS[:, 0]
    _, _, given = make_source(ROWS, {"a": ROWS, "b": ROWS}, weights).arrays
    assert given["a"] is given["b"]
    np.testing.assert_array_equal(given["a"], weights)


LABELS = [
    pytest.param(np.array([0, 2, 1, 0]), id="labels"),
    pytest.param(np.array([[0], [2], [1], [0]]), id="a column"),
    pytest.param(np.array([0.0, 2.0, 1.0, 0.0]), id="floats"),
    pytest.param(np.eye(3)[[0, 2, 1, 0]], id="one-hot"),
    pytest.param(jnp.array([0, 2, 1, 0]), id="jax"),
    pytest.param([0, 2, 1, 0], id="a list"),
]


@pytest.mark.parametrize("y", LABELS)
def test_class_weights_become_sample_weights(y):
    weights = make_source(ROWS, y, class_weight={0: 0.5, 1: 3}).arrays[2]
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [0.5, 1.0, 3.0, 0.5])


def test_class_weights_of_labels_with_a_time_axis():
    y = np.eye(3)[[[0, 1], [1, 1], [2, 0], [0, 0]]]  # (rows, time, classes)
    weights = make_source(ROWS, y, class_weight={1: 3}).arrays[2]
    np.testing.assert_array_equal(weights, [[1, 3], [3, 3], [1, 1], [1, 1]])


@pytest.mark.parametrize(
    ("parts", "packed"), [((1,), 1), (([1],), ([1],)), ((1, 2), (1, 2)), ((1, 2, 3), (1, 2, 3)), ((1, None, 3), 1)]
)
def test_packing(parts, packed):
    assert pack_x_y_sample_weight(*parts) == packed


@pytest.mark.parametrize(
    ("data", "parts"), [(1, (1, None, None)), ((1,), (1, None, None)), ([1, 2], (1, 2, None)), ((1, 2, 3), (1, 2, 3))]
)
def test_unpacking(data, parts):
    assert unpack_x_y_sample_weight(data) == parts


@pytest.mark.parametrize("data", [(), (1, 2, 3, 4)])
def test_unpacking_refuses_other_lengths(data):
    with pytest.raises(ValueError, match="x, y, sample_weight"):
        unpack_x_y_sample_weight(data)


def test_the_last_rows_are_for_validation():
    train, validation = train_validation_split((ROWS, [0, 1, 2, 3], None), 0.3)
    np.testing.assert_array_equal(train[1], [0, 1])
    np.testing.assert_array_equal(validation[1], [2, 3])
    np.testing.assert_array_equal(validation[0], ROWS[2:])
    assert train[2] is None and validation[2] is None


def test_the_split_of_an_autoencoder_stays_one_array():
    train, validation = train_validation_split((ROWS, ROWS, None), 0.5)
    assert train[0] is train[1] and validation[0] is validation[1]


@pytest.mark.parametrize(
    ("x", "share", "message"),
    [
        (ROWS, 1.5, "validation_split must be between 0 and 1, got"),
        (ROWS, 0.01, None),
        (ROWS[:1], 0.5, "must leave rows on both sides"),
        ((i for i in ROWS), 0.5, "takes the last rows of arrays, got builtins.generator; give validation_data"),
    ],
)
def test_a_split_that_cannot_be(x, share, message):
    if message is None:
        train, validation = train_validation_split((x, None, None), share)
        assert (len(train[0]), len(validation[0])) == (3, 1)
        return
    with pytest.raises(ValueError, match=message):
        train_validation_split((x, None, None), share)


LISTS = {
    "x": (dict(x=[np.ones(8)] * 1000, y=np.ones(999)), "and 994 more, y 999; np.stack(x) makes one array of"),
    "y": (dict(x=np.ones((999, 8)), y=[np.ones(1)] * 1000), "and 994 more; np.stack(y) makes one array of"),
    "sample_weight": (
        dict(x=np.ones((3, 8)), y=np.ones(3), sample_weight=[np.ones(3)] * 1000),
        "sample_weight must have the structure of y, float32(3,), got [float32(3,), float32(3,), ",
    ),
}


@pytest.mark.parametrize("part", LISTS)
def test_a_list_of_rows_is_told_in_a_short_message(part):
    data, message = LISTS[part]
    with pytest.raises(ValueError) as caught:
        make_source(**data)
    assert message in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("weight", [0.5, 2, np.float32(0.5), np.array(0.5)])
def test_a_number_as_a_weight_is_one_for_every_row(weight):
    _, _, weights = make_source(ROWS, [0, 1, 0, 1], weight).arrays
    np.testing.assert_array_equal(weights, np.full(4, weight, "float32"))


def test_a_number_for_each_output_is_one_for_every_row():
    y = {"a": ROWS, "b": ROWS}
    _, _, weights = make_source(ROWS, y, {"a": 0.5, "b": 2}).arrays
    np.testing.assert_array_equal([weights["a"], weights["b"]], [[0.5] * 4, [2] * 4])


def test_a_number_as_the_weight_of_a_batch():
    source = make_source(iter([(ROWS, ROWS, 0.5)]))
    np.testing.assert_array_equal(source.peek()[2], [0.5] * 4)
