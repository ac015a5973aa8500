"""Optax transformations as optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lamina import optimizers
from lamina.core.jit import jit
from lamina.core.variable import Variable
from lamina.optimizers.optax import OptaxOptimizer, is_transformation

TRANSFORMATIONS = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adamw": lambda: optax.adamw(1e-2),
    "lion": lambda: optax.lion(1e-2),
    "schedule": lambda: optax.adam(optax.cosine_decay_schedule(0.1, 10)),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.trace(0.9), optax.scale(-0.1)),
    "several_steps": lambda: optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "masked": lambda: optax.masked(optax.adam(0.1), [True, False]),
}

every = pytest.mark.parametrize("name", TRANSFORMATIONS)


def weights():
    return [Variable(np.full(s, 0.5, "float32"), name=n) for n, s in (("kernel", (2, 3)), ("bias", (3,)))]


def gradients(values):
    return [2 * (v - 1.0) for v in values]


def expected(transformation, steps):
    values = [v.value for v in weights()]
    state = transformation.init(values)
    for _ in range(steps):
        updates, state = transformation.update(gradients(values), state, values)
        values = optax.apply_updates(values, updates)
    return values


@every
@pytest.mark.parametrize("compiled", [False, True])
def test_steps_are_those_of_optax(name, compiled):
    optimizer, variables = optimizers.get(TRANSFORMATIONS[name]()), weights()

    def step():
        optimizer.apply(gradients([v.value for v in variables]), variables)

    step = jit(step) if compiled else step
    for _ in range(4):
        step()
    for mine, other in zip(variables, expected(TRANSFORMATIONS[name](), 4)):
        np.testing.assert_allclose(mine.numpy(), other, 1e-5, 1e-6)
    assert int(optimizer.iterations) == 4


@every
def test_saved_state_continues_bitwise(name):
    def steps(optimizer, variables, count):
        for _ in range(count):
            optimizer.apply(gradients([v.value for v in variables]), variables)

    optimizer, variables, store = optimizers.get(TRANSFORMATIONS[name]()), weights(), {}
    steps(optimizer, variables, 3)
    optimizer.save_own_variables(store)
    again, others = optimizers.get(TRANSFORMATIONS[name]()), weights()
    for mine, other in zip(others, variables):
        mine.assign(other)
    again.build(others)
    again.load_own_variables(store)
    steps(optimizer, variables, 2)
    steps(again, others, 2)
    for mine, other in zip([*others, *again.variables], [*variables, *optimizer.variables], strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


def test_the_state_becomes_variables_counts_included():
    optimizer = optimizers.get(optax.adamw(1e-3))
    optimizer.build(weights())
    kinds = [(v.shape, v.dtype) for v in optimizer.variables]
    assert kinds == [((), "int32"), ((), "int32"), *[((2, 3), "float32"), ((3,), "float32")] * 2]
    assert len({v.path for v in optimizer.variables}) == len(kinds)


def test_the_state_is_built_in_one_compilation(caplog):
    variables = [Variable(np.zeros(shape, "float32")) for shape in ((4, 9), (9,), (3, 3, 1, 9))]
    optimizer = optimizers.get(optax.adamw(1e-3))
    with jax.log_compiles():
        optimizer.build(variables)
    assert sum("Finished XLA compilation" in r.getMessage() for r in caplog.records) == 1


def test_a_learning_rate_that_was_injected_is_read_and_set():
    optimizer, variables = optimizers.get(TRANSFORMATIONS["injected"]()), weights()
    optimizer.build(variables)
    assert float(optimizer.learning_rate) == np.float32(0.1)
    optimizer.learning_rate = 0.0
    optimizer.apply(gradients([v.value for v in variables]))
    np.testing.assert_array_equal(variables[0].numpy(), np.full((2, 3), 0.5))


def test_a_learning_rate_inside_the_transformation_is_out_of_reach():
    optimizer = OptaxOptimizer(optax.sgd(0.1), name="mine")
    assert not hasattr(optimizer, "learning_rate")
    message = 'OptaxOptimizer "mine": learning_rate must be given to the Optax transformation'
    with pytest.raises(AttributeError, match=message):
        optimizer.learning_rate  # noqa: B018
    with pytest.raises(AttributeError, match=message):
        optimizer.learning_rate = 0.5


def test_a_variable_without_gradient_stays():
    optimizer, variables = optimizers.get(optax.adamw(0.1)), weights()
    with pytest.warns(UserWarning, match="no change, for bias"):
        optimizer.apply([jnp.ones((2, 3)), None], variables)
    np.testing.assert_array_equal(variables[1].numpy(), np.full(3, 0.5))
    assert variables[0].numpy().max() < 0.5


def test_half_precision_weights_stay_half():
    variable = Variable(np.ones(3), dtype="bfloat16")
    optimizers.get(optax.adam(0.1)).apply([jnp.ones(3, "bfloat16")], [variable])
    assert variable.value.dtype == "bfloat16"
    assert variable.numpy().astype("float32").max() < 1


def test_a_configuration_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="a file cannot hold; save the weights"):
        optimizers.serialize(optimizers.get(optax.sgd(0.1)))


def test_only_pairs_of_init_and_update_are_transformations():
    assert is_transformation(optax.sgd(0.1))
    assert not any(is_transformation(x) for x in (optax.sgd, optimizers.Adam(), "adam", {"init": 1}, (len, len)))
    with pytest.raises(TypeError, match="transformation must have functions init and update, got 3"):
        OptaxOptimizer(3)
