"""Sparse arrays against Keras on JAX: what ops make of them, sparse or dense, and data that are sparse."""

import itertools
import json
import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental.sparse import BCOO

import lamina
from lamina import ops
from lamina.core.sparse import dense, is_sparse
from tests.laws.descriptors import ROWS as LAYERS
from tests.ops.table import ROWS, SPARSE, Row, mapped, thinned

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras

pytestmark = pytest.mark.filterwarnings("ignore")


def combinations():
    """Each row of the table with one of its first two arrays sparse, or both."""
    for row in ROWS:
        if row.name in SPARSE and not row.concrete:
            arrays = []
            mapped(arrays.append, (row.args, row.kwargs))
            for which in itertools.product([False, True], repeat=min(len(arrays), 2)):
                if any(which):
                    yield pytest.param(row, which, id=f"{row!r} {''.join('ds'[w] for w in which)}")


def called(row: Row, which: tuple, library, make) -> list:
    """The results of a row in a library, for `make(array, whether it is to be sparse)`."""
    flags = itertools.chain(which, itertools.repeat(False))
    found = row.call(library.ops, lambda array: make(array, next(flags)))
    return jax.tree.leaves(found, is_leaf=lambda x: is_sparse(x) or isinstance(x, library.KerasTensor))


def array_of(array, sparse):
    return BCOO.fromdense(thinned(array)) if sparse else jnp.asarray(array)


def form(x) -> tuple:
    return tuple(x.shape), keras.backend.standardize_dtype(x.dtype), is_sparse(x) or getattr(x, "sparse", False)


@pytest.mark.parametrize(("row", "which"), [*combinations()])
def test_results_are_those_of_keras_and_sparse_where_they_are(row, which):
    try:
        theirs = called(row, which, keras, array_of)
    except Exception:
        pytest.skip("Keras takes no such array here")
    ours = called(row, which, lamina, array_of)
    forms = [form(x) for x in theirs]
    if forms[0][0] == () or row.name == "digitize":
        forms = [(*each[:2], False) for each in forms]  # a sparse scalar is of no use, and digitize(0) is not 0
    assert [form(x) for x in ours] == forms
    if row.name != "digitize":  # of which Keras keeps the zeros
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(np.asarray(dense(a)), np.asarray(dense(b)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("row", "which"), [*combinations()])
def test_symbolic_results_are_sparse_where_the_real_ones_are(row, which):
    def symbol(array, sparse):
        return lamina.KerasTensor(array.shape, jnp.asarray(array).dtype.name, sparse=sparse)

    forms = [form(x) for x in called(row, which, lamina, array_of)]
    if row.name in ("divide", "true_divide"):
        forms = [(*each[:2], False) for each in forms]  # 0 / 0 is somewhere, which only values tell
    if not (row.name == "matmul" and row.args[0].dtype == "int8"):  # JAX's sparse product of int8 is int8
        assert [form(x) for x in called(row, which, lamina, symbol)] == forms


@pytest.mark.parametrize("name", ["one_hot", "multi_hot"])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_sparse_marks_are_those_of_keras(name, axis, dtype):
    x = np.array([[0, 2, 1], [3, 3, 0]])
    theirs, ours = (getattr(library, name)(x, 4, axis=axis, dtype=dtype, sparse=True) for library in (keras.ops, ops))
    assert form(ours) == form(theirs)
    np.testing.assert_array_equal(dense(ours), dense(theirs))


def test_sparse_counts_are_those_of_keras():
    x, weights = np.array([[0, 2, 1], [3, 3, 0]]), np.array([[1, 2, 3], [4, 5, 6]], "float32")
    for given in (dict(x=x), dict(x=x, weights=weights), dict(x=x, minlength=6), dict(x=x[0])):
        theirs, ours = (library.bincount(**given, sparse=True) for library in (keras.ops, ops))
        assert form(ours) == form(theirs)
        np.testing.assert_array_equal(ours.todense(), theirs.todense())


KEEP_SPARSE = [
    "Add", "Average", "Concatenate", "Flatten", "Identity", "Maximum", "Minimum", "Multiply", "Permute", "Reshape",
    "Subtract",
]  # fmt: skip


@pytest.mark.parametrize("row", [row for row in LAYERS if row.layer in KEEP_SPARSE], ids=repr)
def test_layers_that_move_and_merge_keep_sparse_arrays(row):
    """Where all arrays have one shape; others Keras cannot add."""
    arrays = jax.tree.map(np.asarray, row.data())
    if len({x.shape for x in jax.tree.leaves(arrays)}) > 1 and row.layer != "Concatenate":
        arrays = jax.tree.map(lambda x: jax.tree.leaves(arrays)[-1] + x.mean(), arrays)
    sparse = jax.tree.map(lambda x: array_of(x, True), arrays)
    ours, theirs = (row.make(library.layers)(*sparse, **row.call) for library in (lamina, keras))
    assert form(ours) == form(theirs) and is_sparse(ours)
    np.testing.assert_allclose(dense(ours), dense(theirs), rtol=1e-6)
    symbol = row.make()(*jax.tree.map(lambda x: lamina.KerasTensor(x.shape, str(x.dtype), sparse=True), arrays))
    assert form(symbol) == form(ours)


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_layers_make_the_sparse_vectors_of_keras(mode):
    x = np.array([[0, 2, 2], [3, 1, 0]])
    for name, first, given in (("CategoryEncoding", 4, x), ("Discretization", [0.0, 1.0, 2.0], x - 0.5)):
        theirs, ours = (
            getattr(library.layers, name)(first, output_mode=mode, sparse=True) for library in (keras, lamina)
        )
        assert form(ours(given)) == form(theirs(given))
        np.testing.assert_array_equal(ours(given).todense(), theirs(given).todense())
        symbol = ours(lamina.Input((3,), dtype=given.dtype.name))
        assert symbol.sparse and symbol.shape == (None, *ours(given).shape[1:])
        np.testing.assert_array_equal(jax.jit(ours)(jnp.asarray(given)).todense(), ours(given).todense())
        assert type(ours).from_config(ours.get_config()).sparse


DATA = scipy.sparse.random(90, 20, 0.15, format="csr", dtype="float32", random_state=1)
LABELS = np.random.default_rng(0).integers(0, 3, 90)
FORMS = {"csr": DATA, "coo": DATA.tocoo(), "csc": DATA.tocsc(), "bcoo": BCOO.from_scipy_sparse(DATA)}


def trained(library, x, sparse_input):
    """The numbers that a fit, evaluate and predict return."""
    inputs = library.Input((20,), sparse=sparse_input)
    model = library.Model(inputs, library.layers.Dense(3)(library.layers.Dense(8, activation="relu")(inputs)))
    for seed, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(seed).normal(size=weight.shape) * 0.3)
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(library.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    history = model.fit(x, LABELS, batch_size=32, epochs=2, shuffle=False, verbose=0).history
    outputs = model.predict(x, batch_size=64, verbose=0)
    return [*history["loss"], *model.evaluate(x, LABELS, batch_size=64, verbose=0)], outputs


@pytest.mark.parametrize("sparse_input", [True, False])
@pytest.mark.parametrize("kind", FORMS)
def test_training_on_sparse_data_gives_the_numbers_of_keras(kind, sparse_input):
    for theirs, ours in zip(*(trained(library, FORMS[kind], sparse_input) for library in (keras, lamina))):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


def test_a_graph_with_sparse_inputs_is_that_of_keras():
    configs = []
    for library in (keras, lamina):
        inputs = library.Input((4,), sparse=True, name="x")
        assert inputs.sparse
        outputs = library.layers.Dense(2, name="d")(library.ops.multiply(inputs, 2.0))
        configs.append(json.loads(json.dumps(library.Model(inputs, outputs, name="m").get_config())))
    theirs, ours = ({layer["class_name"]: layer["config"] for layer in config["layers"]} for config in configs)
    assert ours["InputLayer"] == theirs["InputLayer"]
    model = lamina.Model.from_config(configs[1])
    for one in (model, lamina.models.clone_model(model), pickle.loads(pickle.dumps(model))):
        assert one.inputs[0].sparse and one.operations[1].output.sparse


def test_layers_take_sparse_arrays_as_in_keras():
    x = BCOO.fromdense(thinned(np.arange(12, dtype="float32").reshape(3, 4)))
    indices = BCOO.fromdense(np.array([[0, 1], [2, 0]]))
    for array, make in (
        (x, lambda library: library.layers.Dense(2, kernel_initializer="ones")),
        (indices, lambda library: library.layers.Embedding(3, 2, embeddings_initializer="ones")),
    ):
        theirs, ours = (make(library)(array) for library in (keras, lamina))
        assert form(ours) == form(theirs)
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Ftrl"])
def test_sparse_gradients_move_variables_as_in_keras(name):
    moved = []
    for library in (keras, lamina):
        variable, optimizer = library.Variable(np.ones((5, 3), "float32")), getattr(library.optimizers, name)(0.1)
        for row in (1, 3):
            gradient = BCOO((jnp.full((2, 3), 2.0), jnp.array([[row], [2]])), shape=(5, 3))
            optimizer.apply([gradient], [variable])
        moved.append(variable.numpy())
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-5)
