"""Loss scaling, and several optimizers as one."""

import jax.numpy as jnp
import numpy as np
import pytest

from lamina import optimizers
from lamina.core.jit import jit
from lamina.core.variable import Variable
from lamina.optimizers import SGD, Adam, LossScaleOptimizer, MultiOptimizer, OptimizerMap


def kernel(name="kernel"):
    return Variable(np.ones(3, "float32"), name=name)


def ones():
    return jnp.ones(3, "float32")


def scaled(**arguments):
    return LossScaleOptimizer(SGD(1.0), **{"initial_scale": 8.0, "dynamic_growth_steps": 2, **arguments})


def test_the_loss_is_scaled_before_and_after_building():
    optimizer = scaled()
    assert optimizer.scale_loss(2.0) == 16.0
    optimizer.build([kernel()])
    assert float(optimizer.scale_loss(2.0)) == 16.0


@pytest.mark.parametrize("compiled", [False, True])
def test_the_scale_falls_with_an_overflow_and_grows_after_good_steps(compiled):
    optimizer, variable, factor = scaled(), kernel(), Variable(1.0)

    def step():
        optimizer.apply([8 * ones() * factor], [variable])

    step, seen = jit(step) if compiled else step, []
    for value in (1.0, np.inf, 1.0, np.nan, 1.0, 1.0, 1.0):
        factor.assign(value)
        step()
        seen.append((float(optimizer.dynamic_scale), int(optimizer.step_counter), int(optimizer.iterations)))
    assert seen == [(8, 1, 1), (4, 0, 1), (4, 1, 2), (2, 0, 2), (2, 1, 3), (4, 0, 4), (4, 1, 5)]
    assert np.isfinite(variable.numpy()).all()


def test_a_step_that_overflows_changes_nothing_else():
    optimizer, variable = LossScaleOptimizer(Adam()), kernel()
    optimizer.build([variable])
    before = [v.numpy() for v in optimizer.inner_optimizer.variables]
    optimizer.apply([ones().at[1].set(jnp.inf)])
    np.testing.assert_array_equal(variable.numpy(), ones())
    for kept, now in zip(before, optimizer.inner_optimizer.variables):
        np.testing.assert_array_equal(kept, now.numpy())


def test_gradients_are_unscaled_for_the_inner_optimizer():
    optimizer, variable = scaled(), kernel()
    optimizer.apply([4 * ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), 0.5 * ones())


def test_the_learning_rate_is_the_inner_one():
    optimizer = scaled()
    optimizer.learning_rate = 0.25
    assert float(optimizer.inner_optimizer.learning_rate) == float(optimizer.learning_rate) == 0.25


def test_no_gradients_are_no_step():
    optimizer = scaled()
    optimizer.build([kernel()])
    optimizer.apply([])
    assert int(optimizer.step_counter) == 0


def test_arguments_of_old_files_are_taken():
    config = {"name": "old", "clipnorm": None, "use_ema": False, "ema_momentum": 0.99, "dynamic": True}
    config["inner_optimizer"] = optimizers.serialize(SGD())
    assert optimizers.LossScaleOptimizer.from_config(config).name == "old"


@pytest.mark.parametrize("row", ["scaled", "multi"])
def test_configurations_round_trip(row):
    owners = OptimizerMap(Adam(0.01), {"k.*": SGD(0.1)})
    optimizer = scaled() if row == "scaled" else MultiOptimizer(owners, loss_scale_factor=2.0)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


def test_each_variable_has_its_optimizer():
    sgd, adam = SGD(1.0), Adam(0.5)
    one, two = kernel(), kernel("bias")
    optimizer = MultiOptimizer(OptimizerMap(adam, {"kern.*": sgd}))
    optimizer.apply([ones(), ones()], [one, two])
    np.testing.assert_array_equal(one.numpy(), 0 * ones())
    np.testing.assert_allclose(two.numpy(), 0.5 * ones(), 1e-5)
    assert optimizer.optimizers == [sgd, adam]
    assert (len(sgd.variables), len(adam.variables), len(optimizer.variables)) == (2, 4, 8)


def test_a_function_may_choose_the_optimizer():
    sgd, variable = SGD(1.0), kernel()
    MultiOptimizer(lambda v: sgd).apply([ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), 0 * ones())


def test_the_loss_scale_is_that_of_all():
    sgd = SGD(1.0)
    optimizer = MultiOptimizer(OptimizerMap(sgd), loss_scale_factor=2.0)
    assert optimizer.scale_loss(3.0) == 6.0
    optimizer.loss_scale_factor = 4.0
    assert sgd.loss_scale_factor == 4.0


def test_averages_are_put_in_place_by_each_optimizer():
    averaging = SGD(1.0, use_ema=True, ema_momentum=0.5)
    one, two = kernel(), kernel("bias")
    optimizer = MultiOptimizer(OptimizerMap(SGD(1.0), {"kernel": averaging}))
    for _ in range(2):
        optimizer.apply([ones(), ones()], [one, two])
    optimizer.finalize_variable_values([one, two])
    assert (float(one.value[0]), float(two.value[0])) == (-0.5, -1.0)


def test_a_map_is_a_mapping_of_patterns():
    owners = OptimizerMap(SGD(), {"a": Adam()})
    owners["b.*"] = SGD()
    assert list(owners) == ["a", "b.*"] and len(owners) == 2
    assert owners["bias"] is owners["b.*"] and owners["other"] is owners.default_optimizer
    del owners["a"]
    assert owners["a"] is owners.default_optimizer


WRONG = [
    (TypeError, lambda: LossScaleOptimizer("sgd"), "inner_optimizer must be one, got 'sgd'"),
    (TypeError, lambda: OptimizerMap("sgd"), "default_optimizer must be one, got 'sgd'"),
    (TypeError, lambda: OptimizerMap(SGD(), [1]), r"optimizer_map must be a dict, got \[1\]"),
    (ValueError, lambda: OptimizerMap(SGD(), {3: SGD()}), "a key must be a string and be set once, got 3"),
    (ValueError, lambda: OptimizerMap(SGD(), {"a": scaled()}), "optimizer must be a single Optimizer"),
    (ValueError, lambda: OptimizerMap(SGD(), {"a.*": SGD(), "ab.*": SGD()})["abc"], "at most one key must match"),
    (TypeError, lambda: MultiOptimizer(3), "optimizer_map must be an OptimizerMap, got 3"),
    (ValueError, lambda: MultiOptimizer(lambda v: "sgd").build([kernel()]), "must give single optimizers, got 'sgd'"),
    (AttributeError, lambda: MultiOptimizer(OptimizerMap(SGD())).learning_rate, "one of its optimizers"),
]


@pytest.mark.parametrize("kind, wrong, message", WRONG)
def test_wrong_arguments_are_refused(kind, wrong, message):
    with pytest.raises(kind, match=message):
        wrong()
