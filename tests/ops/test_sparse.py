"""Sparse arrays in ops and layers: the values of dense ones, whatever form they have, also under jit."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO, BCSR

import lamina
from lamina import ops
from lamina.core.sparse import dense, is_sparse
from tests.ops.table import thinned

A = np.array([[0, 0, -3], [1.5, 0, 0], [0, 2, 7]], "float32")
B = np.array([[4, 0, 1], [0, 0, 5], [0, -2, 0]], "float32")
TWICE = BCOO((jnp.array([1.0, 2.0, 4.0]), jnp.array([[0, 1], [0, 1], [2, 0]])), shape=(3, 3))  # two at one place
FORMS = {
    "plain": BCOO.fromdense(A),
    "a place twice": TWICE,
    "batch axis": BCOO.fromdense(A, n_batch=1),
    "dense axis": BCOO.fromdense(A, n_dense=1),
    "rows": BCSR.fromdense(A),
    "truth values": BCOO.fromdense(B > 0),
    "no entry": BCOO.fromdense(0 * B),
}
SPARSE_B = BCOO.fromdense(B)
CALLS = {
    "square": ops.square,
    "tanh": lambda x: ops.tanh(ops.cast(x, "float32")),
    "negative": lambda x: ops.negative(ops.cast(x, "float32")),
    "exp": ops.exp,
    "softmax": lambda x: ops.softmax(ops.cast(x, "float32")),
    "add": lambda x: ops.add(x, SPARSE_B),
    "add a dense one": lambda x: ops.add(x, B),
    "add by names": lambda x: ops.add(x2=x, x1=SPARSE_B),
    "maximum": lambda x: ops.maximum(SPARSE_B, x),
    "multiply": lambda x: ops.multiply(SPARSE_B, x),
    "multiply a row": lambda x: ops.multiply(B[0], x),
    "multiply to a larger shape": lambda x: ops.multiply(x, np.ones((2, 3, 3), "float32")),
    "divide": lambda x: ops.divide(x, B),
    "divide by a number": lambda x: ops.divide(x, 4.0),
    "divide a number": lambda x: ops.divide(4.0, x),
    "sum": lambda x: ops.sum(x, axis=0, keepdims=True),
    "mean": ops.mean,
    "matmul": lambda x: ops.matmul(x, B),
    "matmul of two": lambda x: ops.matmul(SPARSE_B, x),
    "concatenate": lambda x: ops.concatenate([x, SPARSE_B], axis=1),
    "concatenate with a dense one": lambda x: ops.concatenate([x, B], axis=1),
    "reshape": lambda x: ops.reshape(x, (1, -1)),
    "transpose": ops.transpose,
    "get_item": lambda x: ops.get_item(x, (slice(0, 2), 1)),
    "get_item of a list": lambda x: ops.get_item(x, ([2, 0],)),
    "slice": lambda x: ops.slice(x, (0, 1), (2, 2)),
    "take": lambda x: ops.take(x, [2, 0], axis=1),
    "where": lambda x: ops.where(x, 1.0, B),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_the_values_are_those_of_the_dense_array(name, form):
    x, call = FORMS[form], CALLS[name]
    compiled, expected = jax.jit(lambda x: (call(x), dense(call(dense(x)))))(x)
    for found in (call(x), compiled):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(np.asarray(dense(found)), np.asarray(expected), rtol=1e-6)


def test_inferred_sparse_results_have_the_real_shapes_also_of_unknown_sizes():
    x = lamina.KerasTensor((None, 3), sparse=True)
    for call, shape, sparse in (
        (lambda x: x * 2.0, (None, 3), True),
        (lambda x: x + x, (None, 3), True),
        (lambda x: x + 1.0, (None, 3), False),
        (lambda x: x @ np.ones((3, 5), "float32"), (None, 5), False),
        (lambda x: ops.reshape(x, (-1, 3, 1)), (None, 3, 1), True),
        (lambda x: ops.transpose(x), (3, None), True),
        (lambda x: ops.sum(x, 1), (None,), True),
        (ops.softmax, (None, 3), False),
    ):
        found = call(x)
        assert (found.shape, found.sparse) == (shape, sparse)


def test_kinds_of_conversion():
    x = BCOO.fromdense(A)
    assert ops.convert_to_tensor(x) is x and ops.is_tensor(x)
    assert is_sparse(ops.convert_to_tensor(x, sparse=True)) and not is_sparse(ops.convert_to_tensor(x, sparse=False))
    assert ops.convert_to_tensor(x, dtype="float16").dtype == "float16"
    assert type(ops.convert_to_numpy(x)) is np.ndarray
    assert ops.shape(x) == (3, 3) and ops.ndim(x) == 2 and ops.dtype(x) == "float32"
    assert lamina.tree.flatten({"a": [x, None]}) == [x, None]


def test_the_gradient_of_a_sparse_product_is_that_of_the_dense_one():
    x = BCOO.fromdense(thinned(B))

    def loss(x):
        return lambda kernel: jnp.sum(ops.matmul(x, kernel) ** 2)

    kernel = jnp.asarray(np.arange(6.0, dtype="float32").reshape(3, 2))
    np.testing.assert_allclose(jax.grad(loss(x))(kernel), jax.grad(loss(x.todense()))(kernel), rtol=1e-6)


def test_own_layers_get_sparse_arrays_as_they_are_and_others_dense_ones():
    seen = []

    class Own(lamina.layers.Layer):
        def call(self, inputs):
            seen.append(is_sparse(inputs))
            return ops.matmul(inputs, jnp.ones((3, 2)))

    x = BCOO.fromdense(B)
    model = lamina.Sequential([Own(), lamina.layers.Reshape((2, 1))])
    assert model(x).shape == (3, 2, 1) and seen[-1]  # the stack was built for dense ones before
    for make in (lamina.layers.ReLU, lamina.layers.Softmax, lamina.layers.LayerNormalization):
        np.testing.assert_allclose(make()(x), make()(B), rtol=1e-6)
        assert make()(lamina.Input((3,), sparse=True)).shape == (None, 3)


def test_an_input_of_a_tensor_is_as_sparse_as_that():
    tensor = lamina.KerasTensor((None, 3), sparse=True)
    with pytest.raises(ValueError, match="sparse must be that of the tensor, True, got False"):
        lamina.layers.InputLayer(input_tensor=tensor, sparse=False)
    with pytest.raises(ValueError, match="ragged must be False"):
        lamina.Input((3,), ragged=True)


def test_the_library_loads_without_sparse_arrays():
    code = (
        "import sys, lamina; assert 'jax.experimental.sparse' not in sys.modules and 'scipy.sparse' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("given", [dict(x=np.ones(3, int), weights=BCOO.fromdense(np.ones(3)))])
def test_counts_of_sparse_and_dense_arrays_do_not_mix(given):
    with pytest.raises(ValueError, match="bincount: x and weights must both be sparse"):
        ops.bincount(**given)
