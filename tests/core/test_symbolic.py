"""Symbolic tensors: what they refuse, operators, inference of shapes, nodes."""

import operator

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import ops
from lamina.core.symbolic import KerasTensor, infer, node_of, op

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.fixture
def tensor():
    return lamina.Input((3,), name="x")


def run(inputs, outputs, *arrays):
    return np.asarray(lamina.Model(inputs, outputs)(arrays[0] if len(arrays) == 1 else list(arrays)))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_operators(name, tensor):
    do, x = getattr(operator, name), np.abs(X) + 1
    for symbolic, expected in (
        (do(tensor, 2.0), do(x, 2.0)),
        (do(2.0, tensor), do(2.0, x)),
        (do(tensor, tensor), do(x, x)),
    ):
        np.testing.assert_allclose(run(tensor, symbolic, x), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "ne"])
def test_comparisons(name, tensor):
    do = getattr(operator, name)
    result = do(tensor, 0.0)
    assert result.dtype == "bool"
    np.testing.assert_array_equal(run(tensor, result, X), do(X, 0.0))


def test_logical_operators_negation_and_size(tensor):
    positive = tensor > 0
    expected = ((X > 0) & ~(X < -1)) | ((X > 0) ^ (X > 1))
    np.testing.assert_array_equal(run(tensor, (positive & ~(tensor < -1)) | (positive ^ (tensor > 1)), X), expected)
    np.testing.assert_allclose(run(tensor, abs(-tensor), X), np.abs(X))


def test_matmul_and_slices(tensor):
    kernel = np.ones((3, 2), "float32")
    np.testing.assert_allclose(run(tensor, tensor @ kernel, X), X @ kernel, rtol=1e-6)
    for key in ((slice(None), 1), (slice(None), slice(1, 3)), (Ellipsis, None), (slice(None), [2, 0])):
        symbolic = tensor[key]
        np.testing.assert_array_equal(run(tensor, symbolic, X), X[key])
        assert symbolic.shape[1:] == X[key].shape[1:]


def test_methods(tensor):
    assert tensor.reshape(-1, 3, 1).shape == tensor.reshape((-1, 3, 1)).shape == (None, 3, 1)
    assert tensor.astype("int32").dtype == "int32"
    assert lamina.Input((3, 1)).squeeze(-1).shape == (None, 3)
    assert tensor.T.shape == (3, None)
    assert tensor.ndim == 2


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (bool, TypeError, "has no truth value; use ops.where or ops.cond"),
        (lambda x: x and x, TypeError, "has no truth value"),
        (np.asarray, ValueError, "cannot become an array; use lamina.ops in place of numpy or jax.numpy"),
        (jnp.sin, (TypeError, ValueError), "KerasTensor"),
        (int, TypeError, "cannot become a number"),
        (float, TypeError, "cannot become a number"),
        (len, TypeError, "has no length along an axis of unknown size"),
        (list, TypeError, "cannot be iterated over along an axis of unknown size"),
        (lambda x: range(3)[x], TypeError, "cannot become a number"),
    ],
)
def test_what_needs_values_is_refused(act, kind, message, tensor):
    with pytest.raises(kind, match=message):
        act(tensor)


def test_a_tensor_of_known_size_can_be_iterated_over():
    tensor = lamina.Input(batch_shape=(2, 3))
    assert len(tensor) == 2 and [row.shape for row in tensor] == [(3,), (3,)]


# Inference


@pytest.mark.parametrize(
    ("shape", "fn", "expected"),
    [
        ((None, 3), lambda x: x * 2, (None, 3)),
        ((None, None, 3), lambda x: x.sum(1), (None, 3)),
        ((None, 4), lambda x: x.reshape(-1, 2), (None, 2)),
        ((None, None, 4), lambda x: x.reshape(x.shape[0], -1), (None, None)),
        ((2, 3), lambda x: x.T, (3, 2)),
        ((None, 3), lambda x: jnp.concatenate([x, x], -1), (None, 6)),
        ((None, 5), lambda x: jnp.concatenate([x] * (3 if x.shape[-1] % 2 else 2), -1), (None, 15)),
        ((None, None), lambda x: x[:, : x.shape[1] // 2], (None, None)),
        ((None, None), lambda x: jnp.tile(x, (1, 2)), (None, None)),
        ((None, 3), lambda x: jnp.ones(7) * (1 if x.shape[0] > 2 else 2), (7,)),
        ((None, 3), lambda x: x[0], (3,)),
    ],
)
def test_shapes_are_inferred(shape, fn, expected):
    result = infer(fn, (KerasTensor(shape),))
    assert result.shape == expected


def test_a_structure_of_results_is_kept():
    result = infer(lambda x, y: {"a": [x, y], "b": (x + y,)}, (KerasTensor((None, 2)), KerasTensor((None, 2), "int32")))
    assert result["a"][1].dtype == "int32" and result["b"][0].dtype == "float32"


def test_the_error_of_a_body_is_told():
    with pytest.raises(ZeroDivisionError, match="on purpose"):

        def fails(x):
            raise ZeroDivisionError("on purpose")

        infer(fails, (KerasTensor((None, 2)),))


def test_axes_of_two_inputs_at_one_place_are_the_same_size():
    a, b = KerasTensor((None, None)), KerasTensor((None, None))
    assert infer(lambda x, y: x + y, (a, b)).shape == (None, None)


# Ops and nodes


def test_an_op_takes_variables_symbols_and_names():
    @op
    def plus(x, amount=1.0):
        return x + amount

    np.testing.assert_allclose(np.asarray(plus(lamina.Variable(X), amount=2.0)), X + 2)
    assert plus(lamina.Input((3,)), amount=2.0).shape == (None, 3)
    assert plus(X).shape == (4, 3)


def test_programs_ask_arrays_and_tensors_for_their_mask_by_its_name_in_keras():
    words, embed = np.array([[0, 1, 2, 0]]), lamina.layers.Embedding(3, 4, mask_zero=True)
    np.testing.assert_array_equal(embed(words)._keras_mask, words != 0)
    inputs = lamina.Input((4,), dtype="int32")
    assert getattr(inputs, "_keras_mask", None) is None
    mask = embed(inputs)._keras_mask
    np.testing.assert_array_equal(lamina.Model(inputs, lamina.ops.logical_not(mask))(words), words == 0)


def test_a_node_knows_where_it_came_from(tensor):
    layer = lamina.layers.Dense(2)
    output = layer(tensor)
    node = node_of(output)
    assert node.operation is layer and node.parent_nodes == [node_of(tensor)]
    assert output._keras_history == (layer, 0, 0) and not hasattr(KerasTensor((2, 3)), "_keras_history")
    assert layer.input is tensor and layer.output is output
    layer(tensor)
    assert layer.input is tensor and layer.output is output  # the first call speaks, as in Keras
    with pytest.raises(AttributeError, match=r"\.output needs a call on symbolic tensors, got none"):
        _ = lamina.layers.Dense(2).output


def test_a_tensor_of_no_graph_is_refused():
    with pytest.raises(ValueError, match="belongs to no graph; make it with Input or by calling a layer"):
        node_of(KerasTensor((2, 3)))


def test_ragged_tensors_are_refused():
    with pytest.raises(ValueError, match="ragged must be False"):
        KerasTensor((2, 3), ragged=True)


def test_names_of_operations_have_no_slash():
    with pytest.raises(ValueError, match="Dense: name must be a string without '/', got 'a/b'"):
        lamina.layers.Dense(1, name="a/b")


def test_an_own_operation():
    class Double(lamina.Operation):
        def call(self, x):
            return x * 2

    inputs = lamina.Input((3,))
    np.testing.assert_allclose(run(inputs, Double()(inputs), X), 2 * X)
    np.testing.assert_allclose(np.asarray(Double()(X)), 2 * X)


def test_ops_with_structures_of_symbols():
    a, b = lamina.Input((3,)), lamina.Input((3,))
    outputs = ops.stack([a, b, a + b], axis=1)
    assert outputs.shape == (None, 3, 3)
    np.testing.assert_allclose(run([a, b], outputs, X, 2 * X), np.stack([X, 2 * X, 3 * X], 1), rtol=1e-6)


def test_the_configuration_of_an_operation_has_the_name_that_it_got():
    class Named(lamina.Operation):
        def __init__(self, alpha, name=None):
            super().__init__(name=name)

    class Passing(lamina.Operation):
        def __init__(self, alpha, **kwargs):
            super().__init__(**kwargs)

    class Nameless(lamina.Operation):
        def __init__(self, alpha):
            super().__init__()

    for operation in (Named(2), Passing(2), Named(2, name="mine")):
        assert operation.get_config() == {"name": operation.name, "alpha": 2}
        assert type(operation).from_config(operation.get_config()).name == operation.name
    assert Nameless(2).get_config() == {"alpha": 2}
