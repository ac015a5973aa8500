"""Optimizers made of optimizers: dynamic loss scaling, and one optimizer for each group of variables."""

import functools
import inspect
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import checks
from lamina.core.configurable import Configurable, plain
from lamina.core.patterns import PatternMap
from lamina.core.variable import Variable
from lamina.optimizers.base import check, constant
from lamina.optimizers.optimizer import Optimizer, when


class LossScaleOptimizer(Optimizer):
    """Another optimizer's steps on gradients of loss * scale, so that those of float16 do not vanish.

    Where a gradient is not finite, the scale is halved and the step is left out; after `dynamic_growth_steps`
    good steps in a row the scale is doubled. Micikevicius et al., 2017, https://arxiv.org/abs/1710.03740.

    Args:
        inner_optimizer: takes the steps.
        initial_scale: the first scale.
        dynamic_growth_steps: see above.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ):
        defaults = {"dynamic": True}  # old files hold these arguments, which have no effect
        defaults |= {p.name: p.default for p in inspect.signature(Optimizer).parameters.values()}
        odd = [key for key, value in kwargs.items() if key not in defaults or value != defaults[key]]
        if odd:
            raise ValueError(f"LossScaleOptimizer: {odd[0]} must be set on the inner_optimizer, got it here.")
        if not isinstance(inner_optimizer, Optimizer):
            raise TypeError(f"LossScaleOptimizer: inner_optimizer must be one, got {inner_optimizer!r}.")
        self.inner_optimizer = inner_optimizer
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps
        super().__init__(0.0, name=name)
        inner_optimizer.loss_scale_factor = None  # this one scales

    def _make_variables(self, variables: Sequence[Variable]) -> None:
        self.step_counter = self.add_variable((), dtype="int", name="step_counter")
        start = constant(self.initial_scale)
        self.dynamic_scale = self.add_variable((), start, "float32", name="dynamic_scale")
        self.inner_optimizer.build(variables)
        super()._make_variables(variables)

    @property
    def variables(self) -> list[Variable]:
        return [*super().variables, *self.inner_optimizer.variables]

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        pairs = self._pairs(grads, trainable_variables)
        if not pairs:
            return
        finite = functools.reduce(operator.and_, [jnp.all(jnp.isfinite(g)) for g, _ in pairs])
        scale, count = self.dynamic_scale.value, self.step_counter.value
        unscaled = [g if v.overwrite_with_gradient else g / scale for g, v in pairs]
        when(finite, lambda: self.inner_optimizer.apply(unscaled, [v for _, v in pairs]))
        grows = count == self.dynamic_growth_steps - 1
        self.step_counter.assign(jnp.where(finite & ~grows, count + 1, 0))
        self.dynamic_scale.assign(scale * jnp.where(finite, jnp.where(grows, 2.0, 1.0), 0.5))

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        return loss * (self.dynamic_scale.value if self.built else self.initial_scale)

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "inner_optimizer", "initial_scale", "dynamic_growth_steps")
        return {name: plain(getattr(self, name)) for name in names}


class OptimizerMap(Configurable, PatternMap):
    """Which optimizer changes which variable: patterns of paths, and a default.

    Args:
        default_optimizer: for variables whose whole path no pattern matches.
        optimizer_map: pattern -> optimizer.
    """

    def __init__(self, default_optimizer: Optimizer, optimizer_map: dict[str, Optimizer] | None = None):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(f"OptimizerMap: default_optimizer must be one, got {default_optimizer!r}.")
        super().__init__()
        self.default_optimizer = default_optimizer
        self.update(optimizer_map or {})

    @property
    def optimizer_map(self) -> dict[str, Optimizer]:
        """Pattern -> optimizer."""
        return self._entries

    def _checked(self, key: str, value: Any) -> Optimizer:
        checks.require(_is_single(value), "OptimizerMap", "optimizer must be a single Optimizer", value)
        return value

    def _other(self) -> Optimizer:
        return self.default_optimizer

    def __call__(self, variable: Variable) -> Optimizer:
        return self[variable.path]


def _is_single(optimizer: Any) -> bool:
    return isinstance(optimizer, Optimizer) and not isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer))


class MultiOptimizer(Optimizer):
    """The steps of several optimizers, each on its own variables.

    Args:
        optimizer_map: an `OptimizerMap`, or a function from a variable to its optimizer.
        loss_scale_factor: see `Optimizer`; for all of them.

    Raises: TypeError if an argument is outside its domain.
    """

    def __init__(self, optimizer_map: Any, loss_scale_factor: float | None = None, name: str | None = None):
        if not callable(optimizer_map):
            raise TypeError(f"MultiOptimizer: optimizer_map must be an OptimizerMap, got {optimizer_map!r}.")
        check("MultiOptimizer", {"loss_scale_factor": loss_scale_factor})
        self._inner_optimizers: list[Optimizer] = []
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        self.optimizer_map = optimizer_map
        if isinstance(optimizer_map, OptimizerMap):
            for optimizer in (*optimizer_map.values(), optimizer_map.default_optimizer):
                self._add(optimizer)

    def _add(self, optimizer: Any) -> None:
        checks.require(_is_single(optimizer), self._who, "optimizer_map must give single optimizers", optimizer)
        if optimizer not in self._inner_optimizers:
            optimizer.loss_scale_factor = self.loss_scale_factor
            self._inner_optimizers.append(optimizer)

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers, in the order of their variables."""
        return self._inner_optimizers

    @property
    def loss_scale_factor(self) -> float | None:
        """What the loss of all of them is multiplied by."""
        return self._loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: float | None) -> None:
        self._loss_scale_factor = value
        for optimizer in self._inner_optimizers:
            optimizer.loss_scale_factor = value

    def _make_variables(self, variables: Sequence[Variable]) -> None:
        for variable in variables:
            self._add(self.optimizer_map(variable))
        for optimizer, mine in self._groups(variables):
            optimizer.build(mine)
        super()._make_variables(variables)

    def _groups(self, variables: Iterable[Variable]) -> Iterator[tuple[Optimizer, list[Variable]]]:
        """The optimizers that have any of the variables, each with those."""
        owners = [(self.optimizer_map(v), v) for v in variables]
        for optimizer in self._inner_optimizers:
            mine = [v for owner, v in owners if owner is optimizer]
            if mine:
                yield optimizer, mine

    @property
    def variables(self) -> list[Variable]:
        return [*super().variables, *(v for optimizer in self._inner_optimizers for v in optimizer.variables)]

    @property
    def learning_rate(self) -> Any:
        raise AttributeError(f"{self._who}: learning_rate must be asked of one of its optimizers.")

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        raise AttributeError(f"{self._who}: learning_rate must be set on one of its optimizers.")

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        gradients = {v: g for g, v in self._pairs(grads, trainable_variables)}
        if not gradients:
            return
        for optimizer, mine in self._groups(gradients):
            optimizer.apply([gradients[v] for v in mine], mine)
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        for optimizer, mine in self._groups(var_list):
            optimizer.finalize_variable_values(mine)
