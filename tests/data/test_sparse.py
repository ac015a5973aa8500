"""Sparse matrices as data: what rows they have, and that they stay sparse as a whole."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental.sparse import BCOO

import lamina
from lamina.data import windows
from lamina.data.arrays import as_array, train_validation_split
from lamina.data.lazy import LazyRows
from lamina.data.sources import make_source

DENSE = np.where(np.random.default_rng(0).random((50, 4)) < 0.4, np.arange(200.0).reshape(50, 4), 0).astype("float32")
FORMS = {
    "csr": scipy.sparse.csr_matrix(DENSE),
    "coo array": scipy.sparse.coo_array(DENSE),
    "csc": scipy.sparse.csc_matrix(DENSE),
    "dok": scipy.sparse.dok_matrix(DENSE),
    "bcoo": BCOO.fromdense(DENSE),
    "bcoo with padding": BCOO.fromdense(DENSE, nse=150),
    "bcoo with a batch axis": BCOO.fromdense(DENSE, n_batch=1),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_the_dense_array(form):
    rows = as_array(FORMS[form], "x", "fit")
    for index in (slice(None), slice(3, 9), slice(7, 7), np.array([4, 4, 49, 0]), [1]):
        np.testing.assert_array_equal(rows[index], DENSE[index])
    part = rows.part(slice(10, 30))
    assert (part.shape, part.dtype, len(part)) == ((20, 4), "float32", 20)
    np.testing.assert_array_equal(part.part(slice(5, None))[:], DENSE[15:30])
    np.testing.assert_array_equal(np.asarray(rows.then(lambda a: a.astype("int16"))), DENSE.astype("int16"))


def test_values_for_one_place_are_added_and_more_axes_are_kept():
    x = BCOO((jnp.array([1.0, 2.0, 4.0]), jnp.array([[1, 0, 2], [1, 0, 2], [0, 1, 0]])), shape=(2, 2, 3))
    np.testing.assert_array_equal(as_array(x, "x", "fit")[:], x.todense())


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_and_windows_are_those_of_the_dense_array(shuffle):
    sources = [make_source(x, DENSE[:, 0], batch_size=8, shuffle=shuffle, seed=1) for x in (FORMS["csr"], DENSE)]
    assert [source.is_lazy for source in sources] == [True, False]
    for a, b in zip(*(source.epoch(0) for source in sources), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    for a, b in zip(*(windows.of_arrays(source, 1) for source in sources), strict=True):
        np.testing.assert_array_equal(a.data[0][: a.count], b.data[0][: b.count])


def test_float64_becomes_floatx_and_a_split_stays_sparse():
    source = make_source(scipy.sparse.csr_matrix(DENSE.astype("float64")), batch_size=8)
    assert isinstance(source.arrays, LazyRows) and source.peek().dtype == "float32"
    (x, _, _), (last, _, _) = train_validation_split((FORMS["csr"], None, None), 0.2)
    assert isinstance(x, LazyRows) and isinstance(last, LazyRows) and (len(x), len(last)) == (40, 10)
    np.testing.assert_array_equal(last[:], DENSE[40:])


def test_a_wide_matrix_is_never_dense_as_a_whole():
    places = np.arange(1000) * 100, np.arange(1000) * 1000
    wide = scipy.sparse.coo_array((np.ones(1000, "float32"), places), shape=(100_000, 1_000_000))
    source = make_source(wide, batch_size=2)  # 400 GB, were it dense
    assert source.peek().shape == (2, 1_000_000)


def test_streams_and_single_batches_may_be_sparse():
    model = lamina.Sequential([lamina.Input((4,)), lamina.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    y = DENSE.sum(1, keepdims=True)
    batches = [(FORMS["csr"][i : i + 10], y[i : i + 10]) for i in range(0, 50, 10)]
    assert model.fit(iter(batches), verbose=0).history["loss"] == [0]
    x = BCOO.fromdense(DENSE[:10])
    assert model.train_on_batch(x, y[:10]) == 0 == model.test_on_batch(x, y[:10])
    np.testing.assert_allclose(model.predict_on_batch(x), y[:10])
    np.testing.assert_allclose(model(x), y[:10])
