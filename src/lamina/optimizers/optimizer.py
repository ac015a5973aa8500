"""`Optimizer`: gradients in, changed variables out.

A rule says what one step does to one array (`rule`), what it keeps beside the array (`slot_groups`), and what
all arrays share in a step (`shared`). Clipping, weight decay, the moving average of weights and gradient
accumulation are here, once. All of it reads and assigns `Variable`s, so it traces as it stands.
"""

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lamina.core import checks, dtypes, scope, sparse
from lamina.core.sparse import on_values, part, values, with_part
from lamina.core.state import StatelessScope
from lamina.core.transforms import cond
from lamina.core.variable import Variable
from lamina.optimizers.base import BaseOptimizer, constant

Slots: TypeAlias = "dict[str, Any]"


def when(condition: Any, do: Callable[[], Any]) -> None:
    """Call `do`, for what it assigns, if `condition` holds; a traced condition becomes a branch."""
    if isinstance(condition, Tracer):
        cond(condition, do, lambda: None)
    elif condition:
        do()


def _copy_of(variable: Variable) -> Callable[..., Any]:
    # `stored`: initial values are real, also where the optimizer is built inside a trace. While a model is loaded, this
    # is called when the weights are there.
    return lambda shape, dtype: np.array(variable.stored)


def _norm(arrays: Sequence[Any]) -> Any:
    """sqrt(sum of squares) of all arrays together, in float32 at least."""
    wide = [g.astype(dtypes.wide(g.dtype)) for g in map(values, arrays)]
    return jnp.sqrt(functools.reduce(jnp.add, [jnp.sum(jnp.square(g)) for g in wide]))


class Optimizer(BaseOptimizer):
    """Base of all optimizers.

    An optimizer of your own has either a pure `rule` on one array (and `slot_groups` for what it keeps) or,
    as in Keras, a `build` that makes its variables and an `update_step` that assigns.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        weight_decay: `value -= value * weight_decay * learning_rate` before each update.
        clipnorm: the largest norm of the gradient of one variable. Only one clipping may be set.
        clipvalue: the largest absolute value in a gradient.
        global_clipnorm: the largest norm of all gradients together.
        use_ema: keep an average of the weights, `ema_momentum * average + (1 - ema_momentum) * weights`.
        ema_momentum: see `use_ema`.
        ema_overwrite_frequency: after how many updates the weights become their average; `None`: after `fit`.
        loss_scale_factor: `scale_loss` multiplies the loss by it and `apply` divides the gradients by it.
        gradient_accumulation_steps: update at every so many calls, by the mean of the gradients until then. Schedules
            and averages count updates, where Keras lets both go on at every call.
        name: after the class if not given.
    """

    # Groups of slots, name -> initial value ("value": the weight's own). Variables are made group after
    # group, and in a group weight by weight: their order is that of files.
    slot_groups: Sequence[Mapping[str, Any]] = ()

    rests = False  # whether `rule` is element by element, and changes nothing where the gradient is 0

    # What another optimizer overrides.

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        """One step on one array: the new value and the new slots.

        Arrays are float32 at least: those of half-precision variables are widened before, and rounded after.

        Args:
            gradient: the gradient, clipped.
            value: the variable's value, decayed.
            slots: what is kept for this variable, by name.
            shared: what `shared` returned for this step.
        """
        raise NotImplementedError(f"{self._who}: must override rule() or update_step(), has neither.")

    def shared(self, learning_rate: Any, step: Any) -> Any:
        """What one step computes once for all arrays; `step` counts from 1. Here: the learning rate."""
        del step
        return learning_rate

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the optimizer's variables for the model's, once."""
        if not self.built:
            self._make_variables(variables)
            self.built = True

    def _make_variables(self, variables: Sequence[Variable]) -> None:
        self._trainable_variables = list(variables)
        self._index = {v: i for i, v in enumerate(variables)}
        self._model_variables_moving_average = (
            self.add_optimizer_variables(variables, "average") if self.use_ema else []
        )
        accumulated = variables if self.gradient_accumulation_steps else []
        self._sums = [self.add_variable_from_reference(v, "gradient_accumulator") for v in accumulated]
        self._slots: list[dict[str, Variable]] = [{} for _ in variables]
        for group in self.slot_groups:
            for variable, slots in zip(variables, self._slots):
                if not variable.overwrite_with_gradient:
                    slots.update(self._make_slots(variable, group))

    def _make_slots(self, variable: Variable, group: Mapping[str, Any]) -> dict[str, Variable]:
        made = {}
        for name, start in group.items():
            initializer = _copy_of(variable) if start == "value" else constant(start)
            made[name] = self.add_variable_from_reference(variable, name, initializer)
        return made

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Change one variable and what belongs to it."""
        self._apply_rule([gradient], [variable], learning_rate)

    # A step.

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        """Change the variables by their gradients.

        Args:
            grads: a gradient, or `None`, for each variable.
            trainable_variables: the variables; those that the optimizer was built with if not given.
        """
        pairs = self._pairs(grads, trainable_variables)
        if not pairs:
            return
        self._overwrite([(g, v) for g, v in pairs if v.overwrite_with_gradient])
        pairs = [(g, v) for g, v in pairs if not v.overwrite_with_gradient]
        if pairs:
            gradients, variables = [g for g, _ in pairs], [v for _, v in pairs]
            if self.loss_scale_factor is not None:
                gradients = [on_values(lambda g: g / self.loss_scale_factor, g) for g in gradients]
            watch = scope.watch.get()
            if watch is not None:
                watch.gradients([sparse.dense(g) for g in gradients], variables)
            self._accumulate_and_update(gradients, variables)
        self._iterations.assign_add(1)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """`apply`, for pairs of a gradient and its variable. Returns the iteration counter."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._iterations

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """`apply` as a pure function of arrays: `new trainable_variables, new optimizer_variables`."""
        if not self.built:
            raise ValueError(f"{self._who}: must be built before stateless_apply(); call build(variables).")
        mine = self.variables
        for what, given, known in (
            ("optimizer_variables", optimizer_variables, mine),
            ("trainable_variables", trainable_variables, self._trainable_variables),
        ):
            checks.require(len(given) == len(known), self._who, f"{what} must be {len(known)} arrays", len(given))
        pairs = zip([*self._trainable_variables, *mine], [*trainable_variables, *optimizer_variables])
        with StatelessScope(pairs) as state:
            self.apply(grads)
        return state.values(self._trainable_variables), state.values(mine)

    @property
    def takes_sparse(self) -> bool:
        """Whether a step by a sparse gradient reads and writes no other places than those that it has."""
        own = next(vars(c) for c in type(self).__mro__ if {"rule", "update_step", "apply"} & vars(c).keys())
        return "rests" in own and self.rests and not self.gradient_accumulation_steps

    def _pairs(self, grads: Iterable[Any], variables: Iterable[Variable] | None) -> list[tuple[Any, Variable]]:
        """(gradient, variable) where there is a gradient; builds the optimizer if need be."""
        grads = list(map(sparse.summed if self.takes_sparse else sparse.dense, grads))
        if not grads:
            return []
        if variables is None and not self.built:
            raise ValueError(f"{self._who}: must be built, or given variables; call build(variables).")
        variables = self._trainable_variables if variables is None else list(variables)
        rule = f"grads must be one for each of {len(variables)} variables"
        checks.require(len(grads) == len(variables), self._who, rule, len(grads))
        missing = [v.path for g, v in zip(grads, variables) if g is None]
        if len(missing) == len(grads):
            raise ValueError(f"{self._who}: at least one variable must have a gradient, got None for all.")
        if not self.built:
            self.build(variables)
            self.built = True  # a build() of a user's need not say so
        unknown = next((v for v in variables if v not in self._index), None)
        if unknown is not None:
            raise ValueError(
                f'{self._who}: variables must be those it was built with, got "{unknown.path}"; '
                "make a new optimizer for other variables."
            )
        if missing:
            warnings.warn(f"{self._who}: no gradient, so no change, for {', '.join(missing)}.", stacklevel=3)
        return [(g, v) for g, v in zip(grads, variables) if g is not None]

    def _due(self) -> Any:
        """Whether this call of `apply`, of those that accumulate gradients, is the one that updates."""
        return (self._iterations.value + 1) % self.gradient_accumulation_steps == 0

    def _overwrite(self, pairs: list[tuple[Any, Variable]]) -> None:
        """Assign gradients to variables whose gradient is their new value; if accumulated, the largest."""
        for gradient, variable in pairs:
            if self.gradient_accumulation_steps:
                largest, due = self._sums[self._index[variable]], self._due()
                gradient = jnp.maximum(gradient, largest.value)
                largest.assign(jnp.where(due, 0, gradient))
                gradient = jnp.where(due, gradient, variable.value)
            variable.assign(gradient)

    def _accumulate_and_update(self, gradients: list[Any], variables: list[Variable]) -> None:
        steps = self.gradient_accumulation_steps
        if not steps:
            return self._update_all(gradients, variables)
        cells = [self._sums[self._index[v]] for v in variables]
        sums = [g + cell.value for g, cell in zip(gradients, cells)]
        due = self._due()
        when(due, lambda: self._update_all([total / steps for total in sums], variables))
        for cell, total in zip(cells, sums):
            cell.assign(jnp.where(due, 0, total))

    def _update_all(self, gradients: list[Any], variables: list[Variable]) -> None:
        clip = self._clipping(gradients)
        gradients = gradients if clip is None else [on_values(clip, g) for g in gradients]
        self._apply_weight_decay(variables)
        self._update(gradients, variables)
        if self.use_ema:
            self._update_averages()
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.value))

    def _update(self, gradients: list[Any], variables: list[Variable]) -> None:
        rate = self._rate()
        if type(self).update_step is Optimizer.update_step:
            return self._apply_rule(gradients, variables, rate)
        for gradient, variable in zip(gradients, variables):
            self.update_step(gradient, variable, rate)

    def _step(self) -> Any:
        """The number of this update, from 1."""
        return (self._count() + 1).astype("float32")

    def _apply_rule(self, gradients: list[Any], variables: list[Variable], learning_rate: Any) -> None:
        shared = self.shared(jnp.asarray(learning_rate, "float32"), self._step())
        for gradient, variable in zip(gradients, variables):
            mine = self._slots[self._index[variable]]
            wide = functools.partial(jnp.asarray, dtype=dtypes.wide(variable.dtype))
            slots = {name: wide(part(slot.value, gradient)) for name, slot in mine.items()}
            value, slots = self.rule(wide(values(gradient)), wide(part(variable.value, gradient)), slots, shared)
            variable.assign(with_part(variable.value, gradient, value))
            for name, slot in slots.items():
                mine[name].assign(with_part(mine[name].value, gradient, slot))

    def _clipping(self, gradients: list[Any]) -> Callable[[Any], Any] | None:
        if largest := self.clipnorm:
            return lambda g: g * (largest / jnp.maximum(_norm([g]), largest))
        if bound := self.clipvalue:
            return lambda g: jnp.clip(g, -bound, bound)
        if not self.global_clipnorm:
            return None
        norm = _norm(gradients)
        scale = self.global_clipnorm / jnp.maximum(norm, self.global_clipnorm)
        scale = jnp.where(jnp.isfinite(norm), scale, jnp.nan)  # one bad gradient shows in all
        return lambda g: g * scale

    # Weight decay.

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Do not decay these variables, nor those in whose name one of `var_names` (patterns) is found."""
        pattern = "|".join(sorted(set(var_names or ())))
        self._undecayed = set(var_list or ()), re.compile(pattern) if pattern else None

    def _use_weight_decay(self, variable: Variable) -> bool:
        excluded, pattern = self._undecayed
        return variable not in excluded and not (pattern and pattern.search(variable.name))

    def _decay_of(self, variable: Variable) -> float | None:
        return self.weight_decay

    def _apply_weight_decay(self, variables: list[Variable]) -> None:
        decays = [(v, self._decay_of(v)) for v in variables if self._use_weight_decay(v)]
        rate: Any = self._rate() if any(decay for _, decay in decays) else None
        for variable, decay in decays:
            if decay:
                variable.assign(variable.value - variable.value * (decay * rate))

    # The moving average of the weights.

    def _update_averages(self) -> None:
        count = self._count()
        momentum = jnp.where(count == 0, 0.0, self.ema_momentum)
        for variable, average in zip(self._trainable_variables, self._model_variables_moving_average):
            if average is not None:
                average.assign(momentum * average.value + (1 - momentum) * variable.value)
        if self.ema_overwrite_frequency:
            due = (count + 1) % self.ema_overwrite_frequency == 0
            when(due, lambda: self.finalize_variable_values(self._trainable_variables))

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Put the moving averages, if they are kept, in the place of the weights."""
        if not self.use_ema:
            return
        for variable in var_list:
            average = self._model_variables_moving_average[self._index[variable]]
            if average is not None:
                variable.assign(average)

    def swap_averages(self) -> None:
        """Exchange the weights and their moving averages."""
        for variable, average in zip(self._trainable_variables, self._model_variables_moving_average):
            if average is not None:
                value = variable.value
                variable.assign(average)
                average.assign(value)

    def scale_loss(self, loss: Any) -> Any:
        """The loss whose gradients `apply` expects."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor
