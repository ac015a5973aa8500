"""Variables: named cells, arithmetic, scopes that stand in for them, copies."""

import copy
import operator
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina.core.state import StatelessScope, StateScope
from lamina.core.variable import Variable

VALUE = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")


@pytest.fixture
def variable():
    return Variable(VALUE, name="v")


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (VALUE, "float32"),
        (VALUE.astype("float64"), "float32"),
        (VALUE.astype("int8"), "int8"),
        (VALUE > 2, "bool"),
        (1.5, "float32"),
        (3, "int32"),
        ([1.0, 2.0], "float32"),
        (jnp.ones(3, "bfloat16"), "bfloat16"),
        ([jnp.ones(2), jnp.zeros(2)], "float32"),
    ],
)
def test_a_value_keeps_its_kind(given, dtype):
    variable = Variable(given)
    assert variable.dtype == variable.value.dtype.name == dtype
    assert variable.shape == np.shape(given) and not variable.value.weak_type


def test_an_initializer_is_a_name_or_a_function():
    assert float(Variable("ones", shape=()).value) == 1.0
    made = Variable(lambda shape, dtype: jnp.full(shape, 7, dtype), shape=(2,), dtype="int32")
    np.testing.assert_array_equal(made.numpy(), [7, 7])


@pytest.mark.parametrize("name", ["uniform", "normal", "one", "zero", "he_normal"])
def test_an_initializer_may_have_any_of_its_names(name):
    variable = Variable(initializer=name, shape=(3, 2))  # as layers written without Layer begin
    assert variable.shape == (3, 2) and variable.dtype == "float32"


def test_a_value_that_is_assigned_is_cast_and_returned(variable):
    assert variable.assign(np.zeros((2, 2), "int64")).dtype == "float32"
    variable.assign_add(np.ones((2, 2)))
    variable.assign_sub(variable * 0.25)
    np.testing.assert_array_equal(variable.numpy(), np.full((2, 2), 0.75))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Variable("ones"), "shape must be given with an initializer function"),
        (lambda: Variable("ones", shape=(None, 2)), "shape must be known sizes of at least 0"),
        (lambda: Variable(VALUE, shape=(3,)), r"value must have shape \(3,\), got \(2, 2\)"),
        (lambda: Variable(lambda s, dtype: jnp.ones(9), shape=(2,)), r"must return shape \(2,\), got \(9,\)"),
        (lambda: Variable(VALUE, name="a/b"), "name must be a string without '/', got 'a/b'"),
        (lambda: Variable(VALUE, name="v").assign(np.ones(3)), r'"v": value must have shape \(2, 2\), got \(3,\)'),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="must not be given unknown arguments, got nam"):
        Variable(VALUE, nam="x")


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"])
def test_arithmetic_is_that_of_the_values(name, variable):
    op, other = getattr(operator, name), VALUE + 1
    for ours in (op(variable, other), op(variable, Variable(other)), op(variable, jnp.asarray(other))):
        np.testing.assert_allclose(np.asarray(ours), op(VALUE, other), rtol=1e-5)
    for left in (other, jnp.asarray(other)):
        np.testing.assert_allclose(np.asarray(op(left, variable)), op(other, VALUE), rtol=1e-5)


def test_numbers_and_arrays_may_stand_on_the_left_in_a_trace(variable):
    found = lamina.jit(lambda: (2 * variable + VALUE * variable, VALUE @ variable))()
    np.testing.assert_allclose(np.asarray(found[0]), 2 * VALUE + VALUE**2, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(found[1]), VALUE @ VALUE, rtol=1e-6)


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_are_elementwise(name, variable):
    op = getattr(operator, name)
    np.testing.assert_array_equal(np.asarray(op(variable, 2.0)), op(VALUE, 2.0))


def test_numbers_and_arrays_are_made_of_variables(variable):
    one = Variable(3, dtype="int32")
    assert (int(one), float(one), bool(one), [10, 20, 30, 40][one]) == (3, 3.0, True, 40)
    np.testing.assert_array_equal(np.asarray(variable), VALUE)
    np.testing.assert_array_equal(np.asarray(variable[0]), VALUE[0])
    np.testing.assert_array_equal(np.stack(list(variable)), VALUE)
    assert len(variable) == 2 and variable.ndim == 2
    np.testing.assert_array_equal(np.asarray(jnp.asarray(variable)), VALUE)
    np.testing.assert_array_equal(np.asarray(-variable), -VALUE)
    np.testing.assert_array_equal(np.asarray(abs(-VALUE * variable)), VALUE**2)


def test_a_variable_can_be_a_key(variable):
    assert {variable: 1}[variable] == 1 and variable in {variable}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_copies_are_independent(copied, variable):
    twin = copied(variable)
    twin.assign(VALUE * 0)
    np.testing.assert_array_equal(variable.numpy(), VALUE)
    assert (twin.name, twin.path, twin.dtype) == ("v", "v", "float32")


def test_paths_follow_the_open_names():
    with lamina.name_scope("outer"), lamina.name_scope("inner"):
        assert Variable(1.0, name="w").path == "outer/inner/w"


def test_a_scope_stands_in_for_variables(variable):
    other = Variable(5.0)
    with StateScope([(variable, jnp.zeros((2, 2)))]) as scope:
        assert float(variable.value.sum()) == 0 and float(other.value) == 5
        variable.assign(jnp.ones((2, 2)))
        other.assign_add(1.0)
        assert float(other.value) == 6
    np.testing.assert_array_equal(variable.numpy(), VALUE)
    assert float(other.value) == 5
    assert scope.written == [variable, other] and float(scope.read(other)) == 6


def test_scopes_nest(variable):
    with StateScope([(variable, jnp.zeros((2, 2)))]):
        with StateScope() as inner:
            assert float(variable.value.sum()) == 0
            variable.assign(jnp.full((2, 2), 9.0))
        assert float(variable.value.sum()) == 0
    assert float(inner.read(variable)[0, 0]) == 9


def test_a_scope_closes_when_its_body_fails(variable):
    with pytest.raises(RuntimeError, match="on purpose"), StateScope([(variable, jnp.zeros((2, 2)))]):
        raise RuntimeError("on purpose")
    np.testing.assert_array_equal(variable.numpy(), VALUE)


def test_the_stateless_scope_of_keras(variable):
    with StatelessScope(state_mapping=[(variable, jnp.zeros((2, 2)))]) as scope:
        variable.assign(variable + 1.0)
    assert float(scope.get_current_value(variable)[0, 0]) == 1
    assert scope.get_current_value(Variable(1.0)) is None


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "matmul", "eq", "lt"])
def test_operators_take_lists(variable, name):
    op, other = getattr(operator, name), [[2.0, 1.0], [0.0, 4.0]]
    np.testing.assert_allclose(op(variable, other), op(variable, jnp.array(other)))
    np.testing.assert_allclose(op(other, variable), op(jnp.array(other), variable))


def test_a_reflected_operator_takes_a_variable(variable):
    true, false = Variable([True, True]), Variable([True, False])
    np.testing.assert_array_equal(false.__rand__(true), false & [True, True])
    np.testing.assert_array_equal(variable.assign_add([[1.0, 1.0], [1.0, 1.0]]), VALUE + 1)


@pytest.mark.parametrize("value", [[[3, 4], [5, 6]], np.full((2, 2), 3), Variable(np.full((2, 2), 3.0))])
def test_values_from_a_program_become_arrays_of_the_variables(variable, value):
    with StatelessScope([(variable, value)]):
        doubled = variable * 2
    assert (doubled.shape, doubled.dtype) == ((2, 2), "float32") and float(doubled[0, 0]) == 6


def test_what_cannot_stand_in_for_a_variable_is_refused(variable):
    with pytest.raises(ValueError, match=r'Variable "v": value must have shape \(2, 2\), got \(3,\)'):
        StatelessScope([(variable, jnp.ones(3))])
    with pytest.raises(ValueError, match="state_mapping must be pairs of a variable and its value, got 'v'"):
        StatelessScope([("v", jnp.ones(3))])


def test_pure_methods_take_variables_for_their_values(variable):
    optimizer, mean = lamina.optimizers.SGD(1.0), lamina.metrics.Mean()
    optimizer.build([variable])
    after, own = optimizer.stateless_apply(optimizer.variables, [jnp.ones((2, 2))], [variable])
    np.testing.assert_array_equal(after[0], VALUE - 1)
    assert int(own[0]) == 1
    assert list(map(float, mean.stateless_update_state(mean.variables, [1.0, 2.0]))) == [3, 2]
    assert float(mean.stateless_result(mean.variables)) == 0


def test_assigning_in_a_plain_transform_is_an_error(variable):
    @jax.jit
    def step(x):
        variable.assign(x)

    with pytest.raises(ValueError, match='Variable "v": must not be assigned inside a plain JAX transform'):
        step(VALUE)
    np.testing.assert_array_equal(variable.numpy(), VALUE)


def test_a_variable_made_in_a_trace_is_real():
    made = []

    @jax.jit
    def step(x):
        made.append(Variable("glorot_uniform", shape=(2, 2)))
        return x + made[0].value

    step(VALUE)
    assert isinstance(made[0].numpy(), np.ndarray)


def test_floats_are_read_in_the_dtype_of_the_layer_around():
    class Dtypes(lamina.layers.Layer):
        def call(self, x):
            assert all(v.dtype == v.value.dtype.name for v in self.kept)
            self.kept[0].assign(1 / 3)
            return [v.dtype for v in self.kept]

    layer = Dtypes(dtype="mixed_bfloat16")
    layer.kept = [Variable(1.0), Variable(1), Variable(1.0, autocast=False)]
    assert layer(VALUE) == ["bfloat16", "int32", "float32"]
    assert layer.kept[0].dtype == "float32" and layer.kept[0].numpy() == np.float32(1 / 3)
    layer = Dtypes(dtype="int32")
    layer.kept = [Variable(1.0)]
    assert layer(VALUE) == ["float32"]
