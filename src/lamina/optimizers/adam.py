"""Adam and its kin: running means of the gradient and of its square, corrected for their start at zero."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import configurable
from lamina.core.variable import Variable
from lamina.optimizers.base import constant, optimizer
from lamina.optimizers.optimizer import Optimizer, Slots


def toward(mean: Any, value: Any, decay: Any) -> Any:
    """The next running mean: decay * mean + (1 - decay) * value."""
    return mean + (value - mean) * (1 - decay)


@optimizer()
class _Moments(Optimizer):
    """Those that have two decays and an epsilon.

    Args:
        beta_1: the decay of the mean of gradients.
        beta_2: the decay of the mean of squares.
        epsilon: keeps the division finite (the paper's "epsilon hat").
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    slot_groups = ({"momentum": 0.0, "velocity": 0.0},)


@optimizer()
class Adam(_Moments):
    """value -= learning_rate * m / (sqrt(v) + epsilon), m and v the corrected means of gradient and square.

    Kingma and Ba, 2014, https://arxiv.org/abs/1412.6980; amsgrad: Reddi et al., 2018,
    https://openreview.net/forum?id=ryQu7f-RZ.

    >>> w = lamina.Variable([1.0, 2.0])
    >>> lamina.optimizers.Adam(0.5).apply([np.array([3.0, -0.1], "float32")], [w])
    >>> w.numpy().round(3).tolist()  # the first step is as long as the rate, whatever the gradient
    [0.5, 2.5]

    Args:
        amsgrad: whether to divide by the largest mean of squares so far.
    """

    amsgrad: bool = False

    def __post_init__(self) -> None:
        if self.amsgrad:
            self.slot_groups = (*self.slot_groups, {"velocity_hat": 0.0})

    def shared(self, learning_rate: Any, step: Any) -> Any:
        return learning_rate * jnp.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        m = toward(slots["momentum"], gradient, self.beta_1)
        v = toward(slots["velocity"], jnp.square(gradient), self.beta_2)
        new = {"momentum": m, "velocity": v}
        if self.amsgrad:
            v = new["velocity_hat"] = jnp.maximum(slots["velocity_hat"], v)
        return value - m * shared / (jnp.sqrt(v) + self.epsilon), new


@configurable.variant(before={"weight_decay": "beta_1"})
@optimizer()
class AdamW(Adam):
    """Adam with weight decay that the gradient's scale does not touch.

    Loshchilov and Hutter, 2017, https://arxiv.org/abs/1711.05101.
    """

    weight_decay: float = 0.004

    def __post_init__(self) -> None:
        if self.weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, got None; without decay use Adam.")


@optimizer()
class Adamax(_Moments):
    """value -= learning_rate * m' / (u + epsilon), u a decaying maximum of the gradient's absolute value.

    Kingma and Ba, 2014, section 7.1, https://arxiv.org/abs/1412.6980.

    Args:
        beta_2: the decay of the maximum.
    """

    slot_groups = ({"momentum": 0.0, "norm": 0.0},)

    def shared(self, learning_rate: Any, step: Any) -> Any:
        return learning_rate / (1 - self.beta_1**step)

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        m = toward(slots["momentum"], gradient, self.beta_1)
        u = jnp.maximum(self.beta_2 * slots["norm"], jnp.abs(gradient))
        return value - shared * m / (u + self.epsilon), {"momentum": m, "norm": u}


@optimizer()
class Nadam(_Moments):
    """Adam with Nesterov's look-ahead, its momentum warmed up by beta_1 * (1 - 0.96 ** step / 2).

    Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
    """

    def _make_variables(self, variables: Sequence[Variable]) -> None:
        super()._make_variables(variables)
        dtype = variables[0].dtype if variables else None
        self._u_product = self.add_variable((), constant(1.0), dtype, name="u_product")

    def _update(self, gradients: list[Any], variables: list[Variable]) -> None:
        self._u_product.assign(self._u_product.value * self._momentum_at(self._step()))
        super()._update(gradients, variables)

    def _momentum_at(self, step: Any) -> Any:
        return self.beta_1 * (1 - 0.5 * 0.96**step)

    def shared(self, learning_rate: Any, step: Any) -> Any:
        now, following, product = self._momentum_at(step), self._momentum_at(step + 1), self._u_product.value
        of_mean = learning_rate * following / (1 - product * following)
        of_gradient = learning_rate * (1 - now) / (1 - product)
        return of_mean, of_gradient, 1 / (1 - self.beta_2**step)

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        of_mean, of_gradient, of_square = shared
        m = toward(slots["momentum"], gradient, self.beta_1)
        # Keras rounds beta_2 to float32 before it takes 1 - beta_2, whose fifth digit that changes.
        v = toward(slots["velocity"], jnp.square(gradient), np.float32(self.beta_2))
        update = (of_mean * m + of_gradient * gradient) / (jnp.sqrt(of_square * v) + self.epsilon)
        return value - update, {"momentum": m, "velocity": v}


@optimizer()
class Lamb(_Moments):
    """Adam, each variable's update scaled to |value| / |update|, so that large batches train.

    You et al., 2019, https://arxiv.org/abs/1904.00962.
    """

    def shared(self, learning_rate: Any, step: Any) -> Any:
        return learning_rate, 1 / (1 - self.beta_1**step), 1 / (1 - self.beta_2**step)

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rate, of_mean, of_square = shared
        m = toward(slots["momentum"], gradient, self.beta_1)
        v = toward(slots["velocity"], jnp.square(gradient), self.beta_2)
        update = of_mean * m / (jnp.sqrt(of_square * v) + self.epsilon)
        sizes = jnp.sqrt(jnp.sum(jnp.square(value))), jnp.sqrt(jnp.sum(jnp.square(update)))
        both = (sizes[0] > 0) & (sizes[1] > 0)
        ratio = jnp.where(both, sizes[0] / jnp.where(both, sizes[1], 1), 1)
        return value - ratio * rate * update, {"momentum": m, "velocity": v}


@optimizer(learning_rate=0.0025)
class ScheduleFreeAdamW(_Moments):
    """Adam whose weights are a running mean of where it goes, so that the rate needs no schedule.

    With z the point that moves and x the mean of its path, gradients are taken at
    value = (1 - beta_1) * z + beta_1 * x. Defazio et al., 2024, https://arxiv.org/abs/2405.15682.

    Args:
        beta_1: the share of the mean.
        warmup_steps: over how many steps the rate rises linearly.
    """

    epsilon: float = 1e-8
    warmup_steps: float = 0

    slot_groups = ({"momentum": "value", "velocity": 0.0},)

    def shared(self, learning_rate: Any, step: Any) -> Any:
        warm = jnp.minimum(step / self.warmup_steps, 1) if self.warmup_steps else 1
        decay = np.float32(self.beta_2)
        return learning_rate * warm, decay, 1 / (1 - decay**step), 1 / step

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rate, decay, of_square, weight = shared
        z = slots["momentum"]
        x = (value - (1 - self.beta_1) * z) / self.beta_1
        v = toward(slots["velocity"], jnp.square(gradient), decay)
        z = z - rate * gradient / (jnp.sqrt(of_square * v) + self.epsilon)
        x = x + weight * (z - x)
        return z + self.beta_1 * (x - z), {"momentum": z, "velocity": v}
