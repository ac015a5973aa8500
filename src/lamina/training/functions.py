"""The steps, and `train_function`, `test_function` and `predict_function`, as loops of the program call them."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
from jax import tree_util

from lamina.core.jit import jit
from lamina.core.state import StateScope
from lamina.core.transforms import value_and_grad
from lamina.core.variable import Variable
from lamina.data.arrays import unpack_x_y_sample_weight
from lamina.training.compiled import CompiledModel
from lamina.training.forms import Groups, explicit, in_both_forms, takes_state
from lamina.training.objectives import counted_rows, only_counted
from lamina.training.rows import changed_by_training


class StepFunction:
    """`f(state, iterator) -> outputs, state` of the library, by whose class the loop knows that it need not call it.

    Nothing that it is given is taken away, so the variables stay valid whatever becomes of the new state.

    Args:
        step: `f(state, data) -> outputs, state`.
        compiles: whether it is compiled, when it is first called.
        steps: the number of batches of a call, where there are so many.
        joins: whether the outputs of these are put together; else they are those of the last.
    """

    def __init__(self, step: Callable, compiles: bool, steps: int, joins: bool):
        self._plain, self._compiles, self._steps, self._joins = step, compiles, steps, joins

    @functools.cached_property
    def _step(self) -> Callable:
        return jit(self._plain) if self._compiles else self._plain

    def __call__(self, state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
        found: list[Any] = []
        # An iterator that has none left raises `StopIteration` in the caller.
        for data in [next(iterator), *itertools.islice(iterator, self._steps - 1)]:
            outputs, state = self._step(state, data)
            found = [*found, outputs] if self._joins else [outputs]
        return (found[0] if len(found) == 1 else tree_util.tree_map(lambda *a: jnp.concatenate(a), *found)), state


class Functions(CompiledModel):
    """The steps, and the names by which Keras's trainers call them."""

    train_function: Callable | None = None
    test_function: Callable | None = None
    predict_function: Callable | None = None

    @in_both_forms("_state_groups")
    def train_step(self, data: Any) -> Any:
        """One step on a batch: forward, loss, gradients, optimizer, metrics; returns the metrics' results."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)

        def forward() -> tuple[Any, tuple]:
            y_pred = self._call_model(x, training=True)
            loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
            if jnp.shape(loss):
                rule = f"the loss to train with must be one number, got shape {jnp.shape(loss)}"
                raise ValueError(f"{self._who()}: {rule}; give each loss a reduction, or take a mean in compute_loss.")
            return self._scaled(loss), (loss, y_pred)

        variables = self.trainable_variables
        if variables and self.optimizer is None:
            raise ValueError(f"{self._who()}: compile must be given an optimizer to train with, got None.")
        sparse = variables if getattr(self.optimizer, "takes_sparse", False) else ()
        (_, (loss, y_pred)), gradients = value_and_grad(forward, variables, has_aux=True, sparse=sparse)()
        self._loss_tracker.update_state(loss, sample_weight=counted_rows(x))
        if variables:
            self.optimizer.apply(gradients, variables)
        return self.compute_metrics(x, y, only_counted(y_pred), sample_weight)

    @in_both_forms("_test_groups")
    def test_step(self, data: Any) -> Any:
        """Loss and metrics of a batch, without training."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self._call_model(x, training=False)
        loss = self._loss_of(x, y, y_pred, sample_weight, training=False)
        if loss is not None:
            self._loss_tracker.update_state(loss, sample_weight=counted_rows(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    @in_both_forms("_predict_groups", last=True)
    def predict_step(self, data: Any) -> Any:
        """The outputs for a batch."""
        x, _, _ = unpack_x_y_sample_weight(data)
        return self._call_model(x, training=False)

    def _call_model(self, x: Any, training: bool) -> Any:
        # As in Keras, nobody tells what a program's `call` without this argument holds that it trains.
        told = self._call_has_training_arg
        if training and not told and (changed := changed_by_training(self)):
            name = f'{type(changed[0]).__name__} "{changed[0].name}"'
            rule = f"call takes no training, so {name} does not hear that fit trains, as in Keras"
            warnings.warn(f"{self._who()}: {rule}; add training=None to it and pass it on.", stacklevel=2)
        return only_counted(self(x, **({"training": training} if told else {})))

    def _scaled(self, loss: Any) -> Any:
        return self.optimizer.scale_loss(loss) if hasattr(self.optimizer, "scale_loss") else loss

    def make_train_function(self, force: bool = False) -> Callable:
        """Set `train_function`, `f(state, iterator) -> logs, state`, and return it.

        `fit` runs the library's own many steps at once. One that a class or a program sets in its place runs a step
        at a time, as Keras does. `state` is the values of `trainable_variables`, `non_trainable_variables`,
        `optimizer.variables` and `metrics_variables`, in lists.

        Args:
            force: make it anew, and compile anew, where there is one.
        """
        return self._make("train", lambda: self.train_step, self._state_groups, force)

    def make_test_function(self, force: bool = False) -> Callable:
        """Set `test_function`, `f(state, iterator) -> logs, state`, and return it; its state has no optimizer."""
        return self._make("test", lambda: self.test_step, self._test_groups, force)

    def make_predict_function(self, force: bool = False) -> Callable:
        """Set `predict_function`, `f(state, iterator) -> outputs, state`, and return it.

        Its state is `trainable_variables` and `non_trainable_variables`.
        """
        return self._make("predict", self._predict_method, self._predict_groups, force)

    def _make(self, phase: str, method: Callable[[], Callable], groups: Groups, force: bool) -> Callable:
        name = f"{phase}_function"
        if getattr(self, name) is None or force:
            self._forget_programs(phase)
            step = explicit(method(), groups)
            setattr(self, name, StepFunction(step, not self.run_eagerly, self.steps_per_execution, phase == "predict"))
        return getattr(self, name)

    def _own_function(self, phase: str) -> Callable | None:
        """The function of a phase where it is the program's and not the library's."""
        getattr(self, f"make_{phase}_function")()
        function = getattr(self, f"{phase}_function")
        return None if isinstance(function, StepFunction) else function

    def _predict_method(self) -> Callable:
        """`predict_step`; in Keras's form it returns one list, and here the whole state, as the others do."""
        step: Callable = self.predict_step
        if not takes_state(step):
            return step

        def predict_step(state: Any, data: Any) -> tuple[Any, tuple]:
            outputs, non_trainable = step(state, data)
            return outputs, (state[0], non_trainable)

        return predict_step

    def _predict_groups(self) -> list[list[Variable]]:
        return [self.trainable_variables, self.non_trainable_variables]

    def jax_state_sync(self) -> None:
        """Kept for Keras programs: the variables hold their newest values at all times."""

    def compute_loss_and_updates(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        metrics_variables: Sequence[Any],
        x: Any,
        y: Any,
        sample_weight: Any,
        training: bool = False,
        optimizer_variables: Sequence[Any] | None = None,
    ) -> tuple[Any, tuple]:
        """Forward pass and loss as a pure function of values, for `jax.grad`.

        Returns:
            `scaled loss, (loss, outputs, non_trainable_variables, metrics_variables)`. The loss is scaled in training,
            by an optimizer that does so.
        """
        own = self._test_groups()
        given = [trainable_variables, non_trainable_variables, metrics_variables]
        if self.optimizer is not None and optimizer_variables is not None:
            own, given = [*own, self.optimizer.variables], [*given, optimizer_variables]
        with StateScope([pair for group, values in zip(own, given) for pair in zip(group, values)]) as scope:
            y_pred = self._call_model(x, training)
            loss = self._loss_of(x, y, y_pred, sample_weight, training)
            scaled = self._scaled(loss) if training else loss
        return scaled, (loss, y_pred, scope.values(own[1]), scope.values(own[2]))
