"""What an optimizer holds: hyper-parameters, variables, a learning rate; and how they are saved."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY
from functools import partial
from numbers import Real
from typing import Any, TypeAlias, TypeVar, dataclass_transform

import jax
import numpy as np

from lamina.core import checks, configurable, constructors, dtypes, registry, scope
from lamina.core.arrays import value_of
from lamina.core.configurable import Configurable
from lamina.core.fields import fields
from lamina.core.variable import Variable, assign_all
from lamina.optimizers.schedules import LearningRateSchedule

B = TypeVar("B", bound="BaseOptimizer")
LearningRate: TypeAlias = "float | LearningRateSchedule | Callable[[], Any] | Variable"


def constant(number: Any) -> Callable[..., np.ndarray]:
    """An initializer that is made on the host, so that nothing is compiled."""
    return partial(np.full, fill_value=number)


@fields
class Arguments(Configurable):
    """The arguments that all optimizers have. For type checkers those of a class's own stand behind the first."""

    learning_rate: LearningRate = 0.001
    _: KW_ONLY
    weight_decay: float | None = None
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    use_ema: bool = False
    ema_momentum: float = 0.99
    ema_overwrite_frequency: int | None = None
    loss_scale_factor: float | None = None
    gradient_accumulation_steps: int | None = None
    name: str | None = None


COMMON = tuple(name for name in Arguments.__annotations__ if name not in ("learning_rate", "_"))
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
# (check, names of the arguments that it is for)
_CHECKS: tuple[tuple[Callable[[str, str, Any], Any], tuple[str, ...]], ...] = (
    (
        partial(checks.number, low=0, high=1),
        ("momentum", "rho", "beta_1", "beta_2", "ema_momentum", "adam_beta_1", "adam_beta_2"),
    ),
    (
        partial(checks.number, low=0),
        (
            "weight_decay", *_CLIPPING, "epsilon", "epsilon_1", "epsilon_2",
            "initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
            "l2_shrinkage_regularization_strength", "adam_weight_decay", "warmup_steps",
        ),
    ),
    (partial(checks.number, high=0), ("learning_rate_power",)),
    (checks.positive, ("loss_scale_factor", "clip_threshold", "initial_scale")),
    (checks.integer, ("ema_overwrite_frequency", "dynamic_growth_steps")),
    (partial(checks.integer, least=2), ("gradient_accumulation_steps",)),
)  # fmt: skip


def check(who: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an argument that breaks its rule, or two ways of clipping; `None` means: not used."""
    for rule, names in _CHECKS:
        for name in names:
            if arguments.get(name) is not None:
                rule(who, name, arguments[name])
    given = [f"{name}={arguments[name]!r}" for name in _CLIPPING if arguments.get(name) is not None]
    checks.require(len(given) <= 1, who, f"only one of {', '.join(_CLIPPING)} must be set", got=" and ".join(given))


@configurable.variant(arguments=("learning_rate", *COMMON))
class BaseOptimizer(Arguments):
    """The part of `Optimizer` that does not take steps."""

    def __init__(self, learning_rate: LearningRate, **kwargs: Any):
        who = type(self).__name__
        if kwargs.pop("decay", None):
            warnings.warn(f"{who}: decay has no effect; use a schedule as learning_rate.", stacklevel=3)
        unknown = [name for name in kwargs if name not in COMMON]
        if unknown:
            raise constructors.unknown_arguments(type(self), unknown)
        for name in COMMON:
            setattr(self, name, kwargs.get(name, vars(Arguments)[name]))
        self.name: str = self.name or scope.unique_name(scope.snake_case(who))
        self.ema_overwrite_frequency = self.ema_overwrite_frequency or None
        self.gradient_accumulation_steps = self.gradient_accumulation_steps or None
        check(who, vars(self))
        self.built = False
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._index: dict[Variable, int] = {}
        self._undecayed: tuple[set[Variable], re.Pattern | None] = (set(), None)
        self._iterations = self.add_variable((), dtype="int", name="iteration")
        if not callable(learning_rate):
            learning_rate = self.add_variable((), constant(self._number(learning_rate)), name="learning_rate")
        self._learning_rate = learning_rate

    @property
    def _who(self) -> str:
        return f'{type(self).__name__} "{self.name}"'

    # Variables.

    @property
    def variables(self) -> list[Variable]:
        """The iteration counter, the learning rate, and what was made in `build`, in the order of files."""
        known = {id(v) for v in (*self._variables, *self._trainable_variables)}
        loose: dict[int, Variable] = {}  # made without add_variable
        for attribute in self.__dict__.values():
            for item in attribute if isinstance(attribute, (list, tuple)) else (attribute,):
                if isinstance(item, Variable) and id(item) not in known:
                    loose[id(item)] = item
        return [*self._variables, *loose.values()]

    @property
    def iterations(self) -> Any:
        """How many updates were made."""
        if self.gradient_accumulation_steps:
            return self._iterations.value // self.gradient_accumulation_steps
        return self._iterations

    def _count(self) -> Any:
        return value_of(self.iterations)

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """A new variable of the optimizer."""
        if isinstance(initializer, str) and initializer == "zeros":
            initializer = constant(0)
        elif isinstance(initializer, (str, Mapping)):
            initializer = configurable.make("initializers", initializer, "initializer")
        dtype = dtypes.standardize_dtype(dtype)
        with scope.names((self.name,)):
            variable = Variable(initializer, shape, dtype, False, True, aggregation, name=name, layout=layout)
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """A new variable of the shape and dtype of the model's `reference_variable`, named after it."""
        path = reference_variable.path.replace("/", "_")
        variable = self.add_variable(
            reference_variable.shape,
            initializer,
            reference_variable.dtype,
            layout=reference_variable.layout,
            name=f"{path}_{name or 'var'}",
        )
        variable.follows = reference_variable.path
        return variable

    def add_optimizer_variables(
        self, trainable_variables: Iterable[Variable], name: str | Sequence[str], initializer: Any = "zeros"
    ) -> Any:
        """A new variable for each of the model's; `None` for what is overwritten with its gradient.

        Args:
            trainable_variables: the model's variables.
            name: what the new variables are, or several such names.
            initializer: for all names, or one for each.

        Returns:
            A list in the order of the variables; with several names, a tuple of such lists.
        """
        names = [name] if isinstance(name, str) else list(name)
        starts = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        if len(starts) != len(names):
            raise ValueError(f"{self._who}: initializer must be one for each of {names}, got {len(starts)}.")
        lists: tuple[list, ...] = tuple([] for _ in names)
        for variable in trainable_variables:
            for made, kind, start in zip(lists, names, starts):
                overwritten = variable.overwrite_with_gradient
                made.append(None if overwritten else self.add_variable_from_reference(variable, kind, start))
        return lists[0] if isinstance(name, str) else lists

    def assign(self, variable: Variable, value: Any) -> None:
        """`variable = value`, for a variable of the model or the optimizer."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """`variable += value`."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """`variable -= value`."""
        variable.assign_sub(value)

    def _get_variable_index(self, variable: Variable) -> int:
        return self._index[variable]

    # The learning rate.

    @property
    def learning_rate(self) -> Any:
        """The rate of the next step: a variable, or what the schedule says."""
        if isinstance(self._learning_rate, LearningRateSchedule):
            return self._learning_rate(self._count())
        return self._learning_rate() if callable(self._learning_rate) else self._learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: LearningRate) -> None:
        if callable(learning_rate):
            self._variables = [v for v in self._variables if v is not self._learning_rate]
            self._learning_rate = learning_rate
        elif callable(self._learning_rate):
            raise TypeError(
                f"{self._who}: learning_rate must not be set to a number where a schedule gives it, "
                f"got {learning_rate!r}; set another schedule, or make the optimizer with a number."
            )
        else:
            self._learning_rate.assign(learning_rate)

    def _number(self, learning_rate: Any) -> Any:
        value = value_of(learning_rate)
        if isinstance(value, Real) or (isinstance(value, (np.ndarray, jax.Array)) and value.shape == ()):
            return value
        raise ValueError(
            f"{type(self).__name__}: learning_rate must be a number, a LearningRateSchedule or a function "
            f"without arguments, got {learning_rate!r}."
        )

    def _rate(self) -> Any:
        told = scope.learning_rate.get()
        return value_of(self.learning_rate) if told is None else told

    # Saving.

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Assign all variables, in their order."""
        if not self.built:
            raise ValueError(f"{self._who}: must be built before set_weights(); call build(variables).")
        assign_all(self._who, self.variables, weights)

    def save_own_variables(self, store: Any) -> None:
        """Write the variables into `store` under "0", "1", ..."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote. Another number of variables is not loaded, with a warning."""
        count = len(store.keys())
        if count != len(self.variables):
            hint = "" if self.built else "; build(variables) makes its variables"
            warnings.warn(
                f"{self._who}: the file must have its {len(self.variables)} variables, got {count}; "
                f"they are not loaded{hint}.",
                stacklevel=2,
            )
            return
        assign_all(self._who, self.variables, [np.asarray(store[str(i)]) for i in range(count)])

    def _base_config(self) -> dict[str, Any]:
        rate = self._learning_rate
        rate = configurable.serialize(rate) if callable(rate) else float(rate.numpy())
        return {"name": self.name, "learning_rate": rate} | {name: getattr(self, name) for name in COMMON}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """The optimizer that `get_config` described, without its variables' values."""
        with registry.custom_objects(custom_objects):
            return super().from_config(config)


@dataclass_transform(eq_default=False)
def optimizer(learning_rate: float = 0.001, behind: str = "") -> Callable[[type[B]], type[B]]:
    """A decorator: the names that a class annotates are arguments of its constructor, see `fields`.

    They stand behind the learning rate, and the common ones behind all of them. So these may be passed by position too,
    and show in the signature and the docstring.

    Args:
        learning_rate: the default.
        behind: the argument behind which the common ones stand.
    """

    def decorate(cls: type[B]) -> type[B]:
        own = [name for name in inspect.signature(fields(cls)).parameters if name not in (*COMMON, "kwargs")]
        at = own.index(behind) + 1 if behind else len(own)
        arguments = [*own[:at], *COMMON, *own[at:]]
        return configurable.variant(defaults={"learning_rate": learning_rate}, arguments=arguments)(cls)

    return decorate
