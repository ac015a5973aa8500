"""Every op against Keras: signature, values, dtypes, and the class that a saved graph names."""

import inspect
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import core, ops
from lamina.core import op_names
from tests.ops.table import BINARY, ROWS, UNARY, Row, booleans, floats, integers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras

NAMESPACES = {"": (keras.ops, ops)} | {
    name: (getattr(keras.ops, name), getattr(ops, name)) for name in ("image", "linalg", "nn", "numpy")
}
PUBLIC = [f"{path}.{name}" for path, (theirs, _) in NAMESPACES.items() for name in dir(theirs) if name[0] != "_"]
OPS = [
    name
    for name in PUBLIC
    if inspect.isfunction(getattr(NAMESPACES[name.partition(".")[0]][0], name.partition(".")[2]))
]


@pytest.mark.parametrize("name", OPS)
def test_signature_is_that_of_keras(name):
    path, _, name = name.partition(".")
    theirs, ours = (inspect.signature(getattr(m, name)).parameters.values() for m in NAMESPACES[path])
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def results(row: Row) -> list:
    """The arrays that Keras and we make of a row, pairwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = jax.tree.leaves(row.call(keras.ops, jnp.asarray))
    return list(zip(theirs, jax.tree.leaves(row.call(ops, np.asarray)), strict=True))


def same(theirs, ours, tolerance=2e-5):
    assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    assert np.shape(ours) == np.shape(theirs)
    wide = [np.asarray(a).astype("complex64" if np.iscomplexobj(a) else "float32") for a in (ours, theirs)]
    np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_values_and_dtypes_are_those_of_keras(row):
    for theirs, ours in results(row):
        same(theirs, ours)


DTYPES = {
    "int32": integers(3, 4),
    "bool": booleans(3, 4),
    "uint8": integers(3, 4).astype("uint8"),
    "int8": integers(3, 4).astype("int8"),
    "float16": floats(3, 4).astype("float16"),
    "bfloat16": floats(3, 4).astype(jnp.bfloat16),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*UNARY, "log", "log2", "sqrt", "rsqrt", "arccosh", "i0"])
def test_dtype_of_one_argument_is_that_of_keras(name, dtype):
    row = Row(name, (DTYPES[dtype],), {})
    try:
        theirs = row.call(keras.ops, jnp.asarray)
    except Exception:
        pytest.skip("Keras takes no such dtype")
    if dtype == "uint8" and name in ("softmax", "log_softmax"):  # Keras's differences wrap around there
        theirs = getattr(keras.ops, name)(DTYPES[dtype].astype("float32"))
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(row.call(ops, np.asarray)), strict=True):
        same(a, b, 2e-2 if "float" in dtype else 2e-5)


def dtype_of(library, name, first, second) -> str | None:
    """The dtype of the result, or `None` where the library takes no such arguments."""
    arrays = [a for a in (first, second) if isinstance(a, np.ndarray)]

    def call(*traced):
        rest = iter(traced)
        return getattr(library, name)(*(next(rest) if isinstance(a, np.ndarray) else a for a in (first, second)))

    try:
        return jax.eval_shape(call, *arrays).dtype.name
    except Exception:
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BINARY)
def test_dtype_of_two_arguments_is_that_of_keras(name):
    numbers = {"int": 2, "float": 2.5}
    arrays = {**DTYPES, "float32": floats(3, 4)}
    for (a, first), (b, second) in itertools.product(arrays.items(), {**arrays, **numbers}.items()):
        theirs, ours = (dtype_of(library, name, first, second) for library in (keras.ops, ops))
        if name in ("arctan2", "logaddexp", "logaddexp2") and b == "float" and ours == a:
            continue  # a Python number leaves the array its dtype here, as in all other ops
        assert theirs is None or ours == theirs, (a, b)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", [r for r in ROWS if not r.concrete], ids=repr)
def test_class_in_a_graph_is_one_of_keras(row):
    def symbolic(library):
        return lambda a: library.KerasTensor(a.shape, jnp.asarray(a).dtype.name)

    def first(ops, library):
        made = row.call(ops, symbolic(library))
        return jax.tree.leaves(made, is_leaf=lambda t: isinstance(t, library.KerasTensor))[0]

    try:
        theirs = first(keras.ops, keras)
    except Exception:
        pytest.skip("Keras has no symbolic form of it")
    if getattr(theirs, "origin", None) is None:
        pytest.skip("Keras makes no node of it")
    cls = type(theirs.origin.operation)
    module, name = op_names.saved_class(first(ops, core.symbolic).origin[0].op)
    assert module == cls.__module__
    assert issubclass(getattr(inspect.getmodule(cls), name), cls)
