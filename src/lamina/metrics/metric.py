"""`Metric`: what is measured batch after batch, kept in variables."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import checks, dtypes, policy, scope
from lamina.core.arrays import value_of
from lamina.core.budget import spend
from lamina.core.state import Meter, StatelessScope, StateScope
from lamina.core.variable import Variable
from lamina.losses.loss import Named


class Metric(Meter, Named):
    """A running measurement: `update_state` takes in a batch, `result` tells, `reset_state` starts anew.

    A subclass makes its variables with `add_weight` and defines `update_state` and `result`. `direction` of a class,
    `"max"` or `"min"`, says which results are better, for callbacks that look for the best.

    Args:
        dtype: what is computed in, a dtype or a policy; the default float dtype if not given.
        name: the snake case of the class name if not given.
    """

    _built = False  # whether variables are made that depend on the first batch
    direction: str | None = None  # "max" if more is better, "min" if less is, `None` if nobody can say

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or scope.unique_name(scope.snake_case(type(self).__name__))
        self._dtype: str = policy.get_policy(dtype or dtypes.floatx()).compute_dtype
        self._added: list[tuple[Variable, np.ndarray]] = []  # with their initial values

    @property
    def dtype(self) -> str:
        """The dtype of the computation and of the result."""
        return self._dtype

    def add_variable(
        self,
        shape: Sequence[int] = (),
        initializer: str | Callable | None = None,
        dtype: Any = None,
        aggregation: str | None = "sum",
        name: str | None = None,
    ) -> Variable:
        """A new variable that belongs to the state, zeros if no initializer is given."""
        if "_added" not in self.__dict__:
            rule = "super().__init__() must be called before variables are added"
            raise RuntimeError(f"{type(self).__name__}: {rule}.")
        start: Any = "zeros" if initializer is None else initializer
        if isinstance(start, str) and start == "zeros":  # from NumPy, as XLA would compile for each shape
            spend(f"{type(self).__name__}: a state", shape, nbytes=8)
            start = np.zeros(tuple(shape), jnp.dtype(dtypes.standardize_dtype(dtype)))
        with scope.name_scope(self.name.replace("/", ">")):
            variable = Variable(
                start, shape, dtype, trainable=False, autocast=False, aggregation=aggregation, name=name
            )
        self._added.append((variable, np.array(variable.stored)))
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: str | Callable | None = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """`add_variable`."""
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state: the variables of this metric, then those of the metrics in its attributes."""
        own, metrics = self._held()
        return own + [v for metric in metrics for v in metric.variables]

    def _held(self) -> tuple[list[Variable], "list[Metric]"]:
        """The variables and the metrics in the attributes."""
        held = {id(x): x for key, value in vars(self).items() if key != "_arguments" for x in _leaves(value)}
        variables = [x for x in held.values() if isinstance(x, Variable)]
        return variables, [x for x in held.values() if isinstance(x, Metric)]

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__}: a subclass must define update_state.")

    def result(self) -> Any:
        """The measurement so far: an array, or a dict of arrays."""
        raise NotImplementedError(f"{type(self).__name__}: a subclass must define result.")

    def reset_state(self) -> None:
        """Give every variable the value that it started with."""
        start = {id(variable): value for variable, value in self._added}
        variables, metrics = self._held()
        for variable in variables:
            variable.assign(start.get(id(variable), np.zeros(variable.shape)))
        for metric in metrics:
            metric.reset_state()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*args, **kwargs)
        return result_of(self)

    def stateless_update_state(self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """The values that `variables` would have after `update_state`, if they had these before."""
        with self._holding(metric_variables) as state:
            self.update_state(*args, **kwargs)
        return state.values(self.variables)

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """What `result` would return if `variables` had these values."""
        with self._holding(metric_variables):
            return result_of(self)

    def stateless_reset_state(self) -> list[Any]:
        """The values that `variables` would have after `reset_state`."""
        with StateScope() as state:
            self.reset_state()
        return state.values(self.variables)

    def _holding(self, values: Sequence[Any]) -> StateScope:
        variables = self.variables
        rule = f"metric_variables must hold {len(variables)} values, one for each of its variables"
        checks.require(len(values) == len(variables), self._who, rule, len(values))
        return StatelessScope(zip(variables, values))

    def _base_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def result_of(metric: Any) -> Any:
    """What `metric.result()` returns, as arrays: a user's metric may return one of its variables."""
    return tree_util.tree_map(value_of, metric.result())


def _leaves(value: Any) -> Iterator[Any]:
    """The variables and metrics in a value: itself, or the items of lists, tuples and dicts."""
    if isinstance(value, (Variable, Metric)):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
