"""Laws that every op keeps, over the table of rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import ops
from lamina.core.symbolic import KerasTensor
from tests.ops.table import ROWS, Row, mapped

TRACED = [row for row in ROWS if not row.concrete]


@functools.cache
def eager(index: int) -> list:
    return [np.asarray(a) for a in jax.tree.leaves(TRACED[index].call(ops, jnp.asarray))]


def leaves(structure) -> list:
    return jax.tree.leaves(structure, is_leaf=lambda x: isinstance(x, KerasTensor))


@pytest.mark.parametrize("index", range(len(TRACED)), ids=lambda i: repr(TRACED[i]))
def test_inferred_shape_and_dtype_are_the_real_ones(index):
    row = TRACED[index]
    if not any(isinstance(a, np.ndarray) for a in jax.tree.leaves((row.args, row.kwargs))):
        pytest.skip("takes no tensors")
    found = leaves(row.call(ops, lambda a: KerasTensor(a.shape, jnp.asarray(a).dtype.name)))
    assert [(t.shape, t.dtype) for t in found] == [(a.shape, a.dtype.name) for a in eager(index)]


@pytest.mark.parametrize("index", range(len(TRACED)), ids=lambda i: repr(TRACED[i]))
def test_jit_gives_the_same_as_eager(index):
    row, arrays = TRACED[index], []
    mapped(arrays.append, (row.args, row.kwargs))

    @jax.jit
    def run(values):
        rest = iter(values)
        traced = Row(row.name, *mapped(lambda _: next(rest), (row.args, row.kwargs)))
        return traced.call(ops, lambda a: a)

    for compiled, real in zip(jax.tree.leaves(run(arrays)), eager(index), strict=True):
        assert compiled.dtype == real.dtype
        np.testing.assert_allclose(np.asarray(compiled), real, rtol=1e-4, atol=1e-5)


KEEPS_BATCH = ("dot_product_attention", "softmax", "matmul", "mean", "moments", "one_hot", "glu", "image.resize")
BATCHED = [
    i
    for i, row in enumerate(TRACED)
    if "conv" in row.name or "pool" in row.name or "normalization" in row.name or row.name in KEEPS_BATCH
]


@pytest.mark.parametrize("index", BATCHED, ids=lambda i: repr(TRACED[i]))
def test_unknown_batch_size_stays_unknown_and_the_rest_is_known(index):
    row = TRACED[index]
    count = 4 if row.name == "dot_product_attention" else 1  # its arguments share the batch
    args = [
        KerasTensor((None, *a.shape[1:]), a.dtype.name) if isinstance(a, np.ndarray) and i < count else a
        for i, a in enumerate(row.args)
    ]
    kwargs = {k: v for k, v in row.kwargs.items() if k != "mask"}
    found = leaves(Row(row.name, tuple(args), kwargs).call(ops, jnp.asarray))
    for tensor, real in zip(found, eager(index), strict=True):
        assert len(tensor.shape) == real.ndim
        assert all(d is None or d == e for d, e in zip(tensor.shape, real.shape))
