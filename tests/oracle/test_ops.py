"""Every op against Keras: signature, values, dtypes, and the class that a saved graph names."""

import inspect
import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr

from lamina import core, ops
from lamina.core import op_names
from tests.ops.table import BINARY, INTEGER, POSITIVE, ROWS, UNARY, Row, booleans, floats, integers, mapped

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


def traceable(row: Row, library) -> tuple:
    """A library's op of a row as a function of the arrays, and these."""
    arrays: list = []
    mapped(arrays.append, (row.args, row.kwargs))

    def call(values):
        rest = iter(values)
        return Row(row.name, *mapped(lambda _: next(rest), (row.args, row.kwargs))).call(library, lambda a: a)

    return call, arrays


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
    "float32": floats(3, 4),
    "int32": integers(3, 4),
    "bool": booleans(3, 4),
    "uint8": integers(3, 4).astype("uint8"),
    "uint32": integers(3, 4).astype("uint32"),
    "int8": integers(3, 4).astype("int8"),
    "float16": floats(3, 4).astype("float16"),
    "bfloat16": floats(3, 4).astype(jnp.bfloat16),
}


def in_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array of the table in another dtype: floats become a few small integers, of all signs that it has."""
    if array.dtype.kind == "c" or (array.dtype.kind in "iub" and "float" in dtype):
        return array  # indices and counts stay
    if array.dtype.kind == "f" and "float" not in dtype:
        array = np.round(array * 4)
    return (
        (np.abs(array) % 2).astype(bool)
        if dtype == "bool"
        else (abs(array) if dtype[0] == "u" else array).astype(dtype)
    )


def row_in(row: Row, dtype: str, which: str) -> Row:
    """The row with its first array in a dtype, or all."""
    first = itertools.chain([True], itertools.repeat(which == "all"))

    def cast(array):
        return in_dtype(array, dtype) if next(first) else array

    return Row(row.name, *mapped(cast, (row.args, row.kwargs)), row.concrete)


def abstract(row: Row, library) -> list | None:
    """The shapes and dtypes of what a library's op gives for a row, `None` where it takes no such arguments."""
    call, arrays = traceable(row, library)
    try:
        return [(x.shape, x.dtype.name) for x in jax.tree.leaves(jax.eval_shape(call, arrays))]
    except Exception:
        return None


def program(row: Row, library) -> tuple:
    """What a library's op of a row computes, but for the addresses of functions, and the constants in it."""
    call, arrays = traceable(row, library)
    traced = jax.make_jaxpr(call)(arrays)
    return re.sub("0x[0-9a-f]+", "", str(traced)), [np.asarray(value).tolist() for value in constants(traced)]


def constants(traced):
    """Those of a program and of the programs inside it, which its text does not show."""
    yield from traced.consts
    for inner in jax.tree.leaves([[*equation.params.values()] for equation in traced.jaxpr.eqns]):
        if isinstance(inner, ClosedJaxpr):
            yield from constants(inner)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", [row for row in ROWS if not row.concrete], ids=repr)
def test_dtypes_and_shapes_for_arguments_of_all_dtypes_are_those_of_keras(row):
    for dtype, which in itertools.product(DTYPES, ("first", "all")):
        changed = row_in(row, dtype, which)
        theirs = abstract(changed, keras.ops)
        assert theirs is None or abstract(changed, ops) == theirs, (dtype, which)


DRAWN = ("empty", "empty_like")  # any values

# Where Keras's integers overflow or lose their fractions, and ours do not; where True is a label and a blank, ties are
# broken, or rounding decides what is not 0.
UNLIKE = {
    "ctc_decode": "bool",
    "ctc_loss": "bool",
    "image.resize": "bool",
    "binary_crossentropy": "uint8 bool",
    "categorical_crossentropy": "uint8",
    "dot_product_attention": "int32 uint8 bool",
    "log_softmax": "uint8",
    "psnr": "uint8",
    "saturate_cast": "int32",
    "softmax": "uint8",
    "sparse_categorical_crossentropy": "uint8",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["bfloat16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.name not in DRAWN], ids=repr)
def test_values_in_other_dtypes_are_those_of_keras(row, dtype):
    changed = row_in(row, dtype, "all")
    if dtype in UNLIKE.get(row.name, "").split():
        pytest.skip("no number here is the right one in both, see above")
    try:
        program_of_keras = program(changed, keras.ops)
    except Exception:
        program_of_keras = None  # of those that only values tell, too
    if program_of_keras is not None and program(changed, ops) == program_of_keras:
        return  # one program has one value, and most of the time here would go into its compilation
    try:
        theirs = changed.call(keras.ops, jnp.asarray)
    except Exception:
        pytest.skip("Keras takes no such dtype")
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(changed.call(ops, np.asarray)), strict=True):
        same(a, b, 4e-2 if "float" in dtype else 2e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*UNARY, *POSITIVE])
def test_values_of_what_is_not_finite_are_those_of_keras(name):
    x = np.array([[np.nan, np.inf, -np.inf], [-0.0, 1e38, -1.0]], "float32")
    row = Row(name, (x,), {})
    for theirs, ours in results(row):
        same(theirs, ours)


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
@pytest.mark.parametrize("name", [*BINARY, *INTEGER, "matmul", "dot", "kron", "vdot", "append", "ldexp"])
def test_dtype_of_two_arguments_is_that_of_keras(name):
    arguments = {**DTYPES, "int": 2, "float": 2.5, "truth value": True}
    for (a, first), (b, second) in itertools.product(arguments.items(), repeat=2):
        theirs, ours = (dtype_of(library, name, first, second) for library in (keras.ops, ops))
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
