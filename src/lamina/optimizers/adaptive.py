"""Optimizers that divide by the size of past gradients, element by element."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from lamina.core.variable import Variable
from lamina.optimizers.base import optimizer
from lamina.optimizers.optimizer import Optimizer, Slots


@optimizer()
class RMSprop(Optimizer):
    """value -= learning_rate * gradient / sqrt(v + epsilon), v = rho * v + (1 - rho) * gradient ** 2.

    Hinton, 2012, http://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf.

    Args:
        rho: the decay of the mean of squares.
        momentum: the share of the last update that is kept.
        epsilon: keeps the division finite.
        centered: whether to divide by the variance of the gradient rather than the mean of its square.
    """

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def __post_init__(self) -> None:
        kept = {"velocity": True, "momentum": self.momentum, "average_gradient": self.centered}
        self.slot_groups = [{name: 0.0} for name, is_kept in kept.items() if is_kept]

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rho = self.rho
        v = rho * slots["velocity"] + (1 - rho) * jnp.square(gradient)
        new = {"velocity": v}
        if self.centered:
            mean = new["average_gradient"] = rho * slots["average_gradient"] + (1 - rho) * gradient
            v = v - jnp.square(mean)
        update = shared * gradient / jnp.sqrt(v + self.epsilon)
        if self.momentum:
            update = new["momentum"] = self.momentum * slots["momentum"] + update
        return value - update, new


@optimizer()
class Adagrad(Optimizer):
    """value -= learning_rate * gradient / sqrt(a + epsilon), a the sum of all squared gradients.

    Duchi et al., 2011, http://www.jmlr.org/papers/volume12/duchi11a/duchi11a.pdf.

    Args:
        initial_accumulator_value: what the sum starts from, at least 0.
        epsilon: keeps the division finite.
    """

    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    rests = True

    def __post_init__(self) -> None:
        self.slot_groups = [{"accumulator": self.initial_accumulator_value}]

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        total = slots["accumulator"] + jnp.square(gradient)
        return value - shared * gradient / jnp.sqrt(total + self.epsilon), {"accumulator": total}


@optimizer()
class Adadelta(Optimizer):
    """value -= learning_rate * d, d = gradient * rms(past d) / rms(past gradients).

    Zeiler, 2012, https://arxiv.org/abs/1212.5701.

    Args:
        learning_rate: the rate; the paper's is 1.
        rho: the decay of the means of squares.
        epsilon: keeps the division finite.
    """

    rho: float = 0.95
    epsilon: float = 1e-7

    slot_groups = ({"accumulated_grad": 0.0, "accumulated_delta_var": 0.0},)

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rho, epsilon, moved = self.rho, self.epsilon, slots["accumulated_delta_var"]
        seen = rho * slots["accumulated_grad"] + (1 - rho) * jnp.square(gradient)
        delta = gradient * jnp.sqrt(moved + epsilon) / jnp.sqrt(seen + epsilon)
        moved = rho * moved + (1 - rho) * jnp.square(delta)
        return value - shared * delta, {"accumulated_grad": seen, "accumulated_delta_var": moved}


@optimizer()
class Ftrl(Optimizer):
    """Follow the regularized leader: the minimum of all past linear losses, L1, L2 and a proximal term.

    McMahan et al., 2013, https://research.google.com/pubs/archive/41159.pdf.

    Args:
        learning_rate_power: the rate falls as (sum of squares) ** learning_rate_power; at most 0.
        initial_accumulator_value: what the sum of squares starts from, at least 0.
        l1_regularization_strength: at least 0.
        l2_regularization_strength: at least 0.
        l2_shrinkage_regularization_strength: an L2 penalty on the loss itself, at least 0.
        beta: the paper's beta, added to the square root of the sum.
    """

    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        self.slot_groups = [{"accumulator": self.initial_accumulator_value, "linear": 0.0}]

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rate, l1 = shared, self.l1_regularization_strength
        total = slots["accumulator"] + jnp.square(gradient)
        before, after = (jnp.power(a, -self.learning_rate_power) for a in (slots["accumulator"], total))
        shrunk = gradient + 2 * self.l2_shrinkage_regularization_strength * value
        linear = slots["linear"] + shrunk - (after - before) / rate * value
        quadratic = (after + self.beta) / rate + 2 * self.l2_regularization_strength
        return (jnp.clip(linear, -l1, l1) - linear) / quadratic, {"accumulator": total, "linear": linear}


@optimizer()
class Adafactor(Optimizer):
    """Adam without a mean of gradients, whose mean of squares is a row times a column.

    Shazeer and Stern, 2018, https://arxiv.org/abs/1804.04235.

    Args:
        learning_rate: the largest rate relative to the size of a variable.
        beta_2_decay: the mean of squares decays by 1 - step ** beta_2_decay.
        epsilon_1: added to squares.
        epsilon_2: the smallest size of a variable that is reckoned with.
        clip_threshold: the largest root mean square of an update.
        relative_step: kept for Keras programs; the rate is at most 1 / sqrt(step) in any case, as in Keras.
    """

    beta_2_decay: float = -0.8
    epsilon_1: float = 1e-30
    epsilon_2: float = 1e-3
    clip_threshold: float = 1.0
    relative_step: bool = True

    slot_groups = ({"row": 0.0, "column": 0.0, "velocity": 0.0},)

    def _make_slots(self, variable: Variable, group: Mapping[str, Any]) -> dict[str, Variable]:
        shape, dtype = variable.shape, variable.dtype
        rows, columns = shape[:-1], (*shape[:-2], *shape[-1:])
        if variable.ndim < 2:  # files hold an integer in the place of each
            rows, columns, dtype = (), (), "int32"
        return {
            "row": self.add_variable(rows, dtype=dtype, name=variable.name),
            "column": self.add_variable(columns, dtype=dtype, name=variable.name),
            "velocity": self.add_variable_from_reference(variable, "velocity"),
        }

    def shared(self, learning_rate: Any, step: Any) -> Any:
        return jnp.minimum(learning_rate, 1 / jnp.sqrt(step)), 1 - step**self.beta_2_decay

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rate, decay = shared
        squares = jnp.square(gradient) + self.epsilon_1
        if value.ndim < 2:
            v = decay * slots["velocity"] + (1 - decay) * squares
            new = {"velocity": v}
        else:
            row = decay * slots["row"] + (1 - decay) * jnp.mean(squares, -1)
            column = decay * slots["column"] + (1 - decay) * jnp.mean(squares, -2)
            v = (row / jnp.mean(row, -1, keepdims=True))[..., None] * column[..., None, :]
            new = {"row": row, "column": column, "velocity": v}
        update = gradient / jnp.sqrt(v)
        update = update / jnp.maximum(1, _root_mean_square(update) / self.clip_threshold)
        return value - rate * jnp.maximum(self.epsilon_2, _root_mean_square(value)) * update, new


def _root_mean_square(x: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
