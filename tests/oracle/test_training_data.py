"""Batches of arrays and streams are those that Keras hands to its train step."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.array_slicing import train_validation_split as keras_split
from keras.utils import PyDataset as KerasPyDataset

from lamina.data import arrays
from lamina.data import sources as data

X = np.random.default_rng(0).normal(size=(10, 3))
LABELS = np.array([0, 2, 1, 1, 0, 2, 2, 1, 0, 5])
COLUMN = pd.Series(np.arange(10.0))

ARRAYS = [
    pytest.param(dict(x=X), id="x"),
    pytest.param(dict(x=[X, X[:, 0]]), id="list"),
    pytest.param(dict(x=X, y=LABELS), id="x, y"),
    pytest.param(dict(x=X.astype("float16"), y=LABELS > 1), id="float16, bool"),
    pytest.param(dict(x=jnp.asarray(X, "bfloat16"), y=LABELS.astype("uint8")), id="bfloat16, uint8"),
    pytest.param(dict(x={"b": X, "a": X[:, :1]}, y=[LABELS, X]), id="dict, list"),
    pytest.param(dict(x=X, y=LABELS, sample_weight=np.arange(10)), id="weights"),
    pytest.param(dict(x=X, y=[LABELS, X], sample_weight=X[:, :1]), id="one weight for two outputs"),
    pytest.param(dict(x=pd.DataFrame(X), y=COLUMN, sample_weight=COLUMN), id="pandas"),
    pytest.param(dict(x=pd.DataFrame({"a": LABELS, "b": X[:, 0]}), y=LABELS), id="columns of two dtypes"),
    pytest.param(dict(x=torch.tensor(X), y=tf.constant(LABELS)), id="torch, tf"),
    pytest.param(dict(x=X, y=LABELS, class_weight={0: 0.5, 2: 3}), id="class weights"),
    pytest.param(dict(x=X, y=np.eye(6)[LABELS], class_weight={0: 0.5, 2: 3}), id="class weights, one-hot"),
    pytest.param(dict(x=X, y=LABELS[:, None] * 1.0, class_weight={0: 0.5, 2: 3}), id="class weights, column"),
]


def keras_batches(**given):
    steps = given.pop("steps", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of a shuffle that it was not asked for
        return list(get_data_adapter(steps_per_epoch=steps, **given).get_jax_iterator())


def own_batches(**given):
    source = data.make_source(**given)
    if isinstance(source, data.StreamSource):
        return list(source.epoch(0))
    starts = range(0, source.size, source.batch_size)
    return [jax.tree.map(lambda a, i=i: a[i : i + source.batch_size], source.arrays) for i in starts]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
            assert jax.dtypes.canonicalize_dtype(a.dtype) == jax.dtypes.canonicalize_dtype(b.dtype)
            np.testing.assert_array_equal(a, np.asarray(b, a.dtype))


@pytest.mark.parametrize("options", [{}, dict(batch_size=4), dict(steps=4), dict(steps=7)], ids=str)
@pytest.mark.parametrize("given", ARRAYS)
def test_batches_of_arrays(given, options):
    assert_same(own_batches(**given, **options), keras_batches(**given, **options))


class Rows(data.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], LABELS[rows]


class KerasRows(KerasPyDataset):
    __len__ = Rows.__len__
    __getitem__ = Rows.__getitem__


def torch_loader():
    return torch.utils.data.DataLoader(list(zip(X, LABELS)), batch_size=4)


STREAMS = [
    pytest.param(lambda keras: KerasRows() if keras else Rows(), {}, id="PyDataset"),
    pytest.param(lambda keras: KerasRows() if keras else Rows(), dict(class_weight={2: 3}), id="weighted PyDataset"),
    pytest.param(lambda keras: tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(4), {}, id="tf.data"),
    pytest.param(
        lambda keras: tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(4),
        dict(class_weight={2: 3.0, 5: 0.5}),
        id="weighted tf.data",
    ),
    pytest.param(lambda keras: tf.data.Dataset.from_tensor_slices({"a": X}).batch(4), {}, id="tf.data of dicts"),
    pytest.param(lambda keras: tf.data.Dataset.from_tensor_slices(X).batch(4), {}, id="tf.data of x"),
    pytest.param(lambda keras: torch_loader(), {}, id="torch"),
    pytest.param(lambda keras: (Rows()[i] for i in range(3)), {}, id="generator"),
]


@pytest.mark.parametrize(("make", "options"), STREAMS)
def test_batches_of_streams(make, options):
    assert_same(own_batches(x=make(False), **options), keras_batches(x=make(True), **options))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_the_split_takes_the_same_rows(share):
    ours = arrays.train_validation_split((X, LABELS, None), share)
    theirs = keras_split((X, LABELS, None), share)
    for one, other in zip(ours, theirs):
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    "given",
    [
        dict(x=X, y=LABELS[:5]),
        dict(x=X, y=LABELS, sample_weight=LABELS, class_weight={0: 1}),
        dict(x=X, y=[LABELS, X], sample_weight=X),
        dict(x=X, y=[LABELS], class_weight={0: 1}),
        dict(x=tf.data.Dataset.range(4).batch(2), y=LABELS),
        dict(x=Rows(), sample_weight=LABELS),
        dict(x=object()),
    ],
    ids=["lengths", "two weights", "weight shape", "nested class weights", "y", "sample_weight", "type"],
)
def test_what_keras_refuses_is_refused(given):
    with pytest.raises(ValueError):
        keras_batches(**given | ({"x": KerasRows()} if isinstance(given["x"], Rows) else {}))
    with pytest.raises(ValueError):
        own_batches(**given)
