"""The base class: what users override and set, what apply does with gradients, errors."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import optimizers
from lamina.core import registry
from lamina.core.jit import jit
from lamina.core.state import StateScope
from lamina.core.variable import Variable
from lamina.optimizers import SGD, Adam, Optimizer, schedules


def kernel(value=1.0, shape=(2, 3), **arguments):
    return Variable(np.full(shape, value, "float32"), **{"name": "kernel", **arguments})


def ones(shape=(2, 3)):
    return jnp.ones(shape, "float32")


def stepping(optimizer, variable, compiled):
    """A function that applies gradients of 1."""
    step = lambda: optimizer.apply([ones()], [variable])  # noqa: E731
    return jit(step) if compiled else step


class Momentum(Optimizer):
    """As a Keras user writes one."""

    def __init__(self, learning_rate=0.1, momentum=0.9, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum

    def build(self, variables):
        super().build(variables)
        self.momentums = []
        for variable in variables:
            self.momentums.append(self.add_variable_from_reference(variable, name="momentum"))

    def update_step(self, gradient, variable, learning_rate):
        m = self.momentums[self._get_variable_index(variable)]
        self.assign(m, m * self.momentum - gradient * learning_rate)
        self.assign_add(variable, m)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


@pytest.mark.parametrize("common", [{}, {"gradient_accumulation_steps": 2}, {"weight_decay": 0.1, "clipnorm": 0.5}])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_optimizer_with_update_step_equals_the_one_with_a_rule(common, compiled):
    mine, theirs = kernel(), kernel()
    own, built_in = Momentum(**common), SGD(0.1, 0.9, **common)
    step = stepping(own, mine, compiled)
    for _ in range(4):
        step()
        built_in.apply([ones()], [theirs])
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), 1e-6)


def test_an_overridden_update_step_may_call_the_rule():
    class Doubling(Adam):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(2 * gradient, variable, 2 * learning_rate)

    mine, theirs = kernel(), kernel()
    Doubling(0.1).apply([ones()], [mine])
    Adam(0.2).apply([2 * ones()], [theirs])
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_a_rule_of_ones_own():
    class SignDescent(Optimizer):
        slot_groups = ({"seen": 0.0},)

        def rule(self, gradient, value, slots, shared):
            return value - shared * jnp.sign(gradient), {"seen": slots["seen"] + gradient}

    optimizer, variable = SignDescent(0.5), kernel()
    optimizer.apply([-3 * ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), 1.5 * ones())
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate", "kernel_seen"]
    np.testing.assert_array_equal(optimizer.variables[2].numpy(), -3 * ones())


def test_configuration_of_a_users_optimizer_round_trips():
    optimizer = Momentum(0.25, momentum=0.5, clipvalue=1.0, name="mine")
    with registry.CustomObjectScope({"Momentum": Momentum}):
        again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert (again.momentum, again.clipvalue, again.name) == (0.5, 1.0, "mine")


def test_an_optimizer_without_a_step_says_so():
    with pytest.raises(NotImplementedError, match=r'Optimizer "mine": must override rule\(\) or update_step\(\)'):
        Optimizer(0.1, name="mine").apply([ones()], [kernel()])


def test_variables_made_without_add_variable_are_found():
    class Counting(SGD):
        def build(self, variables):
            super().build(variables)
            self.counter = Variable(0, dtype="int32", name="counter")
            self.others = [Variable(1.0, name="other")]
            self.mine = variables

    optimizer = Counting()
    optimizer.build([kernel()])
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate", "counter", "other"]


def test_apply_gradients_returns_the_counter():
    optimizer = SGD()
    assert int(optimizer.apply_gradients([(ones(), kernel())])) == 1
    assert int(optimizer.apply_gradients(zip([ones()], optimizer._trainable_variables))) == 2
    assert optimizer.iterations.dtype == "int32"


def test_iterations_count_updates_where_gradients_accumulate():
    optimizer, variable = SGD(gradient_accumulation_steps=3), kernel()
    for expected in (0, 0, 1, 1):
        optimizer.apply([ones()], [variable])
        assert int(optimizer.iterations) == expected


def test_the_learning_rate_is_set_by_number_variable_and_schedule():
    optimizer, variable = SGD(0.5), kernel()
    assert isinstance(optimizer.learning_rate, Variable)
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = Variable(0.125)
    assert float(optimizer.learning_rate) == 0.125
    optimizer.learning_rate = schedules.PiecewiseConstantDecay([0], [1.0, 2.0])
    assert [v.name for v in optimizer.variables] == ["iteration"]
    rates = []
    for _ in range(2):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([ones()], [variable])
    assert rates == [1.0, 2.0]
    with pytest.raises(TypeError, match=r'SGD "sgd\w*": learning_rate must not be set to a number where a schedule'):
        optimizer.learning_rate = 0.5


def test_the_learning_rate_is_read_in_a_compiled_step():
    optimizer, variable = SGD(1.0), kernel()
    step = jit(lambda: optimizer.apply([ones()], [variable]))
    step()
    optimizer.learning_rate = 0.25
    step()
    np.testing.assert_array_equal(variable.numpy(), (1 - 1.0 - 0.25) * ones())


def test_a_schedule_is_traced():
    optimizer = SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 2.0, 4.0]))
    variable = kernel(0.0)
    step = jit(lambda: optimizer.apply([ones()], [variable]))
    for _ in range(4):
        step()
    np.testing.assert_array_equal(variable.numpy(), -11 * ones())


def test_gradients_accumulate_to_their_mean():
    optimizer, variable = SGD(1.0, gradient_accumulation_steps=2), kernel()
    optimizer.apply([ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), ones())
    optimizer.apply([3 * ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), -1 * ones())


@pytest.mark.parametrize("compiled", [False, True])
def test_a_schedule_counts_updates_where_gradients_accumulate(compiled):
    schedule = schedules.PiecewiseConstantDecay([0, 1], [1.0, 2.0, 4.0])
    optimizer, variable = SGD(schedule, gradient_accumulation_steps=2), kernel(0.0)
    step = (
        jit(lambda: optimizer.apply([ones()], [variable]))
        if compiled
        else lambda: optimizer.apply([ones()], [variable])
    )
    rates, values = [], []
    for _ in range(6):
        rates.append(float(optimizer.learning_rate))
        step()
        values.append(float(variable.value[0, 0]))
    assert rates == [1, 1, 2, 2, 4, 4] and values == [0, -1, -1, -3, -3, -7]


@pytest.mark.parametrize("compiled", [False, True])
def test_averages_count_updates_where_gradients_accumulate(compiled):
    arguments = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2, "gradient_accumulation_steps": 2}
    optimizer, variable = SGD(1.0, **arguments), kernel(1.0)
    optimizer.build([variable])
    average = next(v for v in optimizer.variables if v.name == "kernel_average")
    step = (
        jit(lambda: optimizer.apply([ones()], [variable]))
        if compiled
        else lambda: optimizer.apply([ones()], [variable])
    )
    seen = []
    for _ in range(6):
        step()
        seen.append((float(variable.value[0, 0]), float(average.value[0, 0])))
    # Updates by -1: 1 -> 0, whose average is 0; -> -1, average -0.5, which takes the weights' place; -> -1.5.
    assert seen == [(1, 0), (0, 0), (0, 0), (-0.5, -0.5), (-0.5, -0.5), (-1.5, -1.0)]


def test_a_constraint_is_applied_once_an_update():
    optimizer, variable = SGD(0.0, gradient_accumulation_steps=2), kernel(8.0)
    variable.constraint = lambda w: w / 2
    for _ in range(4):
        optimizer.apply([ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), 2 * ones())


def test_accumulation_updates_inside_one_branch():
    optimizer, variable = Adam(gradient_accumulation_steps=2), kernel()
    optimizer.build([variable])
    state = [v.value for v in optimizer.variables]
    jaxpr = jax.make_jaxpr(optimizer.stateless_apply)(state, [ones()], [variable.value]).jaxpr
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert names.count("cond") == 1
    assert "sqrt" not in names


def test_a_constraint_holds_after_the_update():
    variable = kernel()
    variable.constraint = lambda w: jnp.maximum(w, 0.0)
    SGD(5.0).apply([ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), np.zeros((2, 3)))


def test_weight_decay_leaves_out_what_is_excluded():
    decayed, by_name, by_object = kernel(), kernel(name="bias"), kernel(name="scale")
    optimizer = SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([by_object], ["bia"])
    optimizer.apply([0 * ones()] * 3, [decayed, by_name, by_object])
    assert [float(v.value[0, 0]) for v in (decayed, by_name, by_object)] == [0.5, 1.0, 1.0]


def test_one_infinite_gradient_shows_in_all_of_a_global_clip():
    variables = [kernel(), kernel()]
    SGD(global_clipnorm=1.0).apply([ones(), ones().at[0, 0].set(jnp.inf)], variables)
    assert all(np.isnan(v.numpy()).all() for v in variables)


def test_the_average_takes_the_place_of_the_weights_at_the_end():
    optimizer, variable = SGD(1.0, use_ema=True, ema_momentum=0.5), kernel()
    optimizer.apply([ones()], [variable])  # weights 0, average 0
    optimizer.apply([ones()], [variable])  # weights -1, average -0.5
    optimizer.finalize_variable_values([variable])
    np.testing.assert_array_equal(variable.numpy(), -0.5 * ones())


def test_the_loss_is_scaled_and_gradients_back():
    optimizer, variable = SGD(1.0, loss_scale_factor=4.0), kernel()
    assert optimizer.scale_loss(2.0) == 8.0
    assert SGD().scale_loss(2.0) == 2.0
    optimizer.apply([4 * ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), 0 * ones())


def test_a_variable_without_gradient_stays_with_a_warning():
    optimizer, one, two = SGD(1.0), kernel(), kernel(name="other")
    with pytest.warns(UserWarning, match="no gradient, so no change, for other"):
        optimizer.apply([ones(), None], [one, two])
    np.testing.assert_array_equal(two.numpy(), ones())
    np.testing.assert_array_equal(one.numpy(), 0 * ones())


def test_no_gradients_are_no_step():
    optimizer = SGD()
    optimizer.apply([])
    assert int(optimizer.iterations) == 0


def test_an_optimizer_builds_itself_inside_a_compiled_step():
    optimizer, variable = Adam(0.5), kernel()
    step = jit(lambda: optimizer.apply([ones()], [variable]))
    step()
    step()
    expected, other = Adam(0.5), kernel()
    expected.apply([ones()], [other])
    expected.apply([ones()], [other])
    np.testing.assert_allclose(variable.numpy(), other.numpy(), 1e-6)


def test_add_optimizer_variables_makes_them_weight_by_weight():
    optimizer, one, two = SGD(), kernel(), kernel(name="other")
    two.overwrite_with_gradient = True
    first, second = optimizer.add_optimizer_variables([one, two], ["a", "b"], ["zeros", lambda shape, dtype: ones()])
    assert [v.name for v in optimizer.variables[2:]] == ["kernel_a", "kernel_b"]
    assert first[1] is None and second[1] is None
    np.testing.assert_array_equal(second[0].numpy(), ones())
    assert optimizer.add_optimizer_variables([one], "c")[0].dtype == "float32"


def test_variables_are_read_from_an_hdf5_file(tmp_path):
    optimizer, variable = Adam(), kernel()
    optimizer.apply([ones()], [variable])
    again = Adam()
    again.build([kernel()])
    with h5py.File(tmp_path / "state.h5", "w") as file:
        optimizer.save_own_variables(file)
        again.load_own_variables(file)
    for mine, other in zip(again.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
    assert again.variables[0].dtype == "int32"


def test_another_number_of_variables_is_not_loaded_with_a_warning():
    optimizer, variable = Adam(), kernel()
    optimizer.apply([ones()], [variable])
    before = [v.numpy() for v in optimizer.variables]
    with pytest.warns(UserWarning, match="the file must have its 4 variables, got 1; they are not loaded"):
        optimizer.load_own_variables({"0": np.int32(7)})
    for kept, now in zip(before, optimizer.variables):
        np.testing.assert_array_equal(kept, now.numpy())
    with pytest.warns(UserWarning, match=r"build\(variables\) makes its variables"):
        Adam().load_own_variables({str(i): v for i, v in enumerate(before)})


def test_weights_of_a_wrong_shape_change_nothing():
    optimizer = Adam()
    optimizer.build([kernel()])
    weights = [np.int32(5), np.float32(0.5), np.ones((2, 3)), np.ones((3, 2))]
    with pytest.raises(ValueError, match=r"the array for \w+/kernel_velocity must have shape \(2, 3\), got \(3, 2\)"):
        optimizer.set_weights(weights)
    assert int(optimizer.iterations) == 0
    optimizer.set_weights([*weights[:3], np.ones((2, 3))])
    assert int(optimizer.iterations) == 5


WRONG = [
    (lambda: SGD(momentum=1.5), r"SGD: momentum must be from 0 to 1, got 1.5"),
    (lambda: SGD(momentum="fast"), r"SGD: momentum must be from 0 to 1, got 'fast'"),
    (lambda: SGD("fast"), "SGD: learning_rate must be a number, a LearningRateSchedule or a function"),
    (lambda: SGD(None), "SGD: learning_rate must be a number"),
    (lambda: SGD(np.ones(2)), "SGD: learning_rate must be a number"),
    (lambda: SGD(speed=1), "SGD: must not be given unknown arguments, got speed"),
    (lambda: SGD(clipnorm=1.0, clipvalue=1.0), "SGD: only one of clipnorm, clipvalue, global_clipnorm must be set"),
    (lambda: Adam(clipnorm=-1.0), "Adam: clipnorm must be a number of at least 0, got -1.0"),
    (lambda: Adam(beta_1=2.0), r"Adam: beta_1 must be from 0 to 1, got 2.0"),
    (lambda: Adam(epsilon=-1e-3), "Adam: epsilon must be a number of at least 0"),
    (lambda: Adam(ema_momentum=1.5, use_ema=True), r"Adam: ema_momentum must be from 0 to 1"),
    (lambda: Adam(ema_overwrite_frequency=1.5), "Adam: ema_overwrite_frequency must be a positive integer"),
    (lambda: Adam(gradient_accumulation_steps=1), "gradient_accumulation_steps must be an integer of at least 2"),
    (lambda: Adam(loss_scale_factor=-1.0), "Adam: loss_scale_factor must be a number above 0"),
    (lambda: optimizers.AdamW(weight_decay=None), "AdamW: weight_decay must be a number, got None"),
    (lambda: optimizers.Lion(beta_1=0.0), r"beta_1 must be a number in \(0, 1\], got 0.0"),
    (lambda: optimizers.Ftrl(learning_rate_power=1.0), "learning_rate_power must be a number of at most 0, got 1.0"),
    (
        lambda: optimizers.Ftrl(l1_regularization_strength=-1),
        "l1_regularization_strength must be a number of at least 0",
    ),
    (lambda: optimizers.Muon(momentum=7), r"Muon: momentum must be from 0 to 1, got 7"),
    (lambda: optimizers.LossScaleOptimizer(Adam(), clipnorm=1.0), "clipnorm must be set on the inner_optimizer"),
    (lambda: optimizers.LossScaleOptimizer(Adam(), initial_scale=0.0), "initial_scale must be a number above 0"),
    (lambda: SGD().apply([ones()]), "must be built, or given variables"),
    (lambda: SGD().apply([ones()] * 2, [kernel()]), "grads must be one for each of 1 variables, got 2"),
    (lambda: SGD().apply([None], [kernel()]), "at least one variable must have a gradient, got None for all"),
    (lambda: SGD().set_weights([]), "must be built before set_weights"),
    (lambda: SGD().stateless_apply([], [], []), "must be built before stateless_apply"),
    (lambda: SGD().add_optimizer_variables([], ["a", "b"], ["zeros"]), "initializer must be one for each of"),
    (lambda: optimizers.get("adm"), "optimizer 'adm': .* Did you mean 'Adam'"),
    (lambda: optimizers.get(3), "optimizer: must be a name"),
    (lambda: optimizers.get(lambda x: x), "optimizer: must be a name, an object or a configuration"),
    (lambda: optimizers.get({"class_name": "Adm", "config": {}}), "Adm must be a public name"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_other_variables_are_refused_and_nothing_changes():
    optimizer, variable, stranger = SGD(1.0), kernel(), kernel(name="stranger")
    optimizer.build([variable])
    with pytest.raises(ValueError, match='variables must be those it was built with, got "stranger"; make a new'):
        optimizer.apply([ones(), ones()], [variable, stranger])
    np.testing.assert_array_equal(variable.numpy(), ones())


def test_a_wrong_number_of_arrays_is_refused():
    optimizer = SGD()
    optimizer.build([kernel()])
    with pytest.raises(ValueError, match="optimizer_variables must be 2 arrays, got 0"):
        optimizer.stateless_apply([], [ones()], [ones()])


def test_the_old_argument_decay_has_no_effect():
    with pytest.warns(UserWarning, match="SGD: decay has no effect"):
        SGD(decay=0.1)


def test_common_arguments_pass_by_position():
    optimizer = Adam(0.1, 0.8, 0.99, 1e-6, True, 0.01, None, 2.0)
    assert (optimizer.weight_decay, optimizer.clipvalue, optimizer.amsgrad) == (0.01, 2.0, True)
    assert optimizers.AdamW(0.1, 0.02, 0.8).weight_decay == 0.02


@pytest.mark.parametrize("name", ["adam", "ADAM", "Adam"])
def test_get_takes_a_name_in_any_case(name):
    assert type(optimizers.get(name)) is Adam
    assert type(optimizers.get({"class_name": name, "config": {"learning_rate": 0.5}})) is Adam


def test_get_returns_optimizers_and_none_as_they_are():
    optimizer = SGD()
    assert optimizers.get(optimizer) is optimizer
    assert optimizers.get(None) is None


def test_a_function_gives_the_learning_rate():
    rates = iter([1.0, 0.5])
    optimizer, variable = SGD(lambda: next(rates)), kernel(0.0)
    optimizer.apply([ones()], [variable])
    optimizer.apply([ones()], [variable])
    np.testing.assert_array_equal(variable.numpy(), -1.5 * ones())


def test_a_step_inside_a_scope_leaves_the_cells():
    optimizer, variable = Adam(), kernel()
    optimizer.build([variable])
    with StateScope() as state:
        optimizer.apply([ones()])
    assert {v.name for v in state.written} == {"kernel", "iteration", "kernel_momentum", "kernel_velocity"}
    assert int(optimizer.iterations) == 0
