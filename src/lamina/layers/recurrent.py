"""Recurrent layers: `RNN` carries the states of a cell, or of a stack of cells, along the time axis."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import checks, configurable, registry, scope
from lamina.core.arrays import value_of
from lamina.core.configurable import variant
from lamina.core.docstrings import explained_by
from lamina.core.symbolic import KerasTensor, infer
from lamina.core.variable import Variable
from lamina.layer import InputSpec, Layer
from lamina.layer.masks import check_mask, only_passes
from lamina.layer.signature import signature_of
from lamina.layers.cells import Cell, GRUCell, LSTMCell, SimpleRNNCell
from lamina.layers.scanning import scan_calls, zeros


def _check_cell(who: str, cell: Any) -> None:
    missing = [name for name in ("call", "state_size") if not hasattr(cell, name)]
    if missing:
        raise ValueError(f"{who}: a cell must have call and state_size, got {cell!r} without {', '.join(missing)}.")


def _output_size(cell: Any) -> int:
    own = getattr(cell, "output_size", None)
    size = cell.state_size if own is None else own
    return size[0] if isinstance(size, (list, tuple)) else size


def _initial_state(cell: Any, batch_size: Any, dtype: str) -> Any:
    """What the cell says, or zeros: one array if `state_size` is one size, as in Keras."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch_size)
    states = zeros(cell.state_size, batch_size, dtype)
    return states if isinstance(cell.state_size, (list, tuple)) else states[0]


def _build_cell(cell: Any, input_shape: tuple[int | None, ...], dtype: str) -> None:
    """Build a cell; one without an own `build` is called abstractly, so that its parts build themselves."""
    if not isinstance(cell, Layer) or cell.built:
        return
    if type(cell).build is not Layer.build:
        cell.build(input_shape)
        return
    states = zeros(getattr(cell, "state_size"), 1, dtype)  # noqa: B009
    states = [KerasTensor((input_shape[0], *state.shape[1:]), dtype) for state in states]
    infer(cell.__call__, (KerasTensor(input_shape, dtype), states))


def _call_cell(cell: Any, inputs: Any, states: Any, training: bool | None) -> tuple[Any, Any]:
    takes_training = isinstance(cell, Layer) and signature_of(type(cell)).takes_training
    call: Any = cell if callable(cell) else cell.call
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    return call(inputs, states, **({"training": training} if takes_training else {}))


class Holder(Layer):
    """A layer that holds others; to make it of a configuration may take classes of the program."""

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        with registry.custom_objects(custom_objects):
            return super().from_config(config)


class StackedRNNCells(Holder):
    """Cells one above the other as one cell: the output of each is the input of the next.

    Args:
        cells: the cells, from the lowest to the highest.

    Shapes: (batch, features), a list with the states of each cell -> (batch, units of the last), the new states.

    Raises: ValueError if one of `cells` is no cell.
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any):
        super().__init__(**kwargs)
        for cell in cells:
            _check_cell(self._who(), cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """The `state_size` of each cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """The size of the last cell's output."""
        return _output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The first states of each cell."""
        return [_initial_state(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for cell in self.cells:
            _build_cell(cell, input_shape, self.compute_dtype)
            input_shape = (input_shape[0], _output_size(cell))

    def call(self, inputs: Any, states: Sequence[Any], training: bool = False) -> tuple[Any, list[Any]]:
        new = []
        for cell, state in zip(self.cells, states):
            inputs, after = _call_cell(cell, inputs, state, training)
            alone = isinstance(after, (list, tuple)) and not isinstance(state, (list, tuple))
            new.append(after[0] if alone else after)
        return inputs, new


class RNN(Holder):
    """The outputs of a cell that is applied at each time to the input and to its own states.

    Args:
        cell: a layer of this library or of the program: `call(inputs, states)` returns the output and the new states,
            `state_size` is the size of the state or a list of sizes; `output_size` and `get_initial_state(batch_size)`
            if need be. A list of cells is stacked.
        return_sequences: whether the outputs at all times are returned, or the last one.
        return_state: whether the last states are returned behind the output.
        go_backwards: whether time runs backwards; outputs come in the order in which they are computed.
        stateful: whether the next call starts from the last states of this one; the batch size must be known.
        unroll: whether the steps are compiled one behind the other: for short sequences.
        zero_output_for_mask: whether masked outputs are 0; else they repeat the output before.

    Shapes: (batch, time, features) -> (batch, units), or (batch, time, units) with `return_sequences`.

    Raises: ValueError if `cell` is no cell.
    """

    _not_parts = Layer._not_parts | {"states"}  # not among the weights, and not in files

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.cell = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        _check_cell(self._who(), self.cell)
        size = self.cell.state_size
        if not isinstance(size, (int, np.integer, list, tuple)):
            raise ValueError(f"{self._who()}: the cell's state_size must be an integer or a list, got {size!r}.")
        self.state_size = list(size) if isinstance(size, (list, tuple)) else [size]
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.states: Any = None

    @property
    def _cell_dtype(self) -> str:
        return getattr(self.cell, "compute_dtype", self.compute_dtype)

    def build(self, sequences_shape: tuple[int | None, ...], initial_state_shape: Any = None) -> None:
        batch, _, *features = sequences_shape
        _build_cell(self.cell, (batch, *features), self._cell_dtype)
        if self.stateful:
            if batch is None:
                raise ValueError(
                    f"{self._who()}: the batch size must be known with stateful=True, got {sequences_shape}; "
                    "pass batch_size or batch_shape to Input."
                )
            self.states = tree_util.tree_map(
                lambda x: Variable(x, trainable=False, dtype=self.variable_dtype, name="rnn_state"),
                self.get_initial_state(batch),
            )

    def _carried(self) -> list[Variable]:
        return tree_util.tree_leaves(self.states)

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The states that a sequence starts from, those of the cell."""
        states = _initial_state(self.cell, batch_size, self._cell_dtype)
        return list(states) if isinstance(states, (list, tuple)) else [states]

    def reset_state(self) -> None:
        """Let the next sequence start from zeros again."""
        for variable in self._carried():
            variable.assign(np.zeros(variable.shape, variable.dtype))

    reset_states = reset_state

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        states = self._first_states(sequences, initial_state)
        mask = next((m for m in tree_util.tree_leaves(mask)), None)
        if mask is not None:
            check_mask(self._who(), mask, sequences)
            mask = mask.astype(bool).any(axis=-1) if mask.ndim == 3 else mask.astype(bool)  # (batch, time)
        if self.go_backwards:
            sequences = jnp.flip(sequences, axis=1)
            mask = None if mask is None else jnp.flip(mask, axis=1)
        outputs, states = self._sweep(self.cell, sequences, states, mask, training, self.return_sequences)
        outputs, states = tree_util.tree_map(lambda x: x.astype(self.compute_dtype), (outputs, states))
        if self.stateful:
            for variable, state in zip(self._carried(), tree_util.tree_leaves(states)):
                variable.assign(state)
        return (outputs, *states) if self.return_state else outputs

    def _first_states(self, sequences: Any, given: Any) -> list[Any]:
        if self.stateful:
            batch = self._carried()[0].shape[0]
            fits = not isinstance(sequences.shape[0], int) or sequences.shape[0] == batch
            rule = f"the batch size must be {batch}, that of the states (stateful=True)"
            checks.require(fits, self._who, rule, got=f"shape {sequences.shape}")
        if given is None:
            given = self.states if self.stateful else self.get_initial_state(sequences.shape[0])
        states = list(given) if isinstance(given, (list, tuple)) else [given]
        return tree_util.tree_map(lambda x: jnp.asarray(value_of(x)).astype(self._cell_dtype), states)

    def _sweep(
        self, cell: Any, inputs: Any, states: Any, mask: Any, training: bool, sequences: bool
    ) -> tuple[Any, list[Any]]:
        """The outputs of one cell; in a stack, each cell goes through all times before the next one does."""
        if getattr(type(cell), "call", None) is StackedRNNCells.call:
            new = []
            for i, (each, own) in enumerate(zip(cell.cells, states)):
                inputs, own = self._sweep(each, inputs, own, mask, training, sequences or i + 1 < len(cell.cells))
                new.append(own)
            return inputs, new
        options = {"sequences": sequences, "zero": self.zero_output_for_mask, "unroll": self.unroll}
        if getattr(type(cell), "call", None) is Cell.call:
            return cell.sweep(inputs, states, mask, training, **options)
        return scan_calls(functools.partial(_call_cell, cell, training=training), inputs, states, mask, **options)

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask itself for outputs at all times, none for the last one and for states."""
        mask = next((m for m in tree_util.tree_leaves(mask)), None) if self.return_sequences else None
        return [mask, *(None for _ in tree_util.tree_leaves(self.state_size))] if self.return_state else mask


@explained_by(Cell)
class Recurrent(RNN):
    """`RNN` around a cell of the class `cell_class`, which is made here; the cell's arguments are attributes as well.

    Args:
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: added to the loss.
        use_cudnn: kept for Keras programs: one compiled scan serves all devices.

    Shapes: (batch, time, features) -> (batch, units), or (batch, time, units) with `return_sequences`.

    Raises: ValueError if `units` is not a positive integer, or a share not from 0 to 1.
    """

    cell_class: type[Cell]
    rank = 0  # the number of spatial axes

    def __init_subclass__(cls, cell_class: type[Cell] | None = None, rank: int = 0, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.cell_class, cls.rank = cell_class or cls.cell_class, rank or cls.rank

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ):
        given = {**locals(), **kwargs}
        names = (*_arguments(self.cell_class), "implementation", "dtype", "trainable")
        of_cell = {name: given[name] for name in names if name in given}
        if self.rank:
            of_cell["rank"] = self.rank
        cell = self.cell_class(**of_cell, name=scope.snake_case(self.cell_class.__name__))
        kwargs = {k: value for k, value in kwargs.items() if k in ("dtype", "trainable") or k not in of_cell}
        flags = (return_sequences, return_state, go_backwards, stateful, unroll)
        super().__init__(cell, *flags, activity_regularizer=activity_regularizer, **kwargs)
        self.use_cudnn = checks.one_of(self._who, "use_cudnn", use_cudnn, ("auto", True, False))
        self.input_spec = InputSpec(ndim=self.rank + 3)

    def __getattr__(self, name: str) -> Any:
        if name in _arguments(type(self).cell_class) and "cell" in self.__dict__:
            return getattr(self.cell, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def build(self, sequences_shape: tuple[int | None, ...], initial_state_shape: Any = None) -> None:
        super().build(sequences_shape, initial_state_shape)
        self.input_spec = InputSpec(ndim=3, axes={-1: sequences_shape[-1]})

    def get_config(self) -> dict[str, Any]:
        names = (*_arguments(self.cell_class), "activity_regularizer")
        config = super().get_config() | {name: configurable.plain(getattr(self, name)) for name in names}
        del config["cell"]
        return {key: value for key, value in config.items() if value is not None or key not in self._omit_none}


@functools.cache
def _arguments(cell_class: type[Cell]) -> tuple[str, ...]:
    """The names of the arguments of a cell: also those that it hands on to a cell above, whose `units` it knows."""
    names = [p.name for p in inspect.signature(cell_class).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    above = () if "units" in names else _arguments(cell_class.__mro__[1])
    return (*names, *(name for name in above if name != "units"))


@variant(without=["recurrent_activation", "unit_forget_bias", "reset_after", "use_cudnn"], before={"seed": None})
class SimpleRNN(Recurrent, cell_class=SimpleRNNCell):
    """`h = activation(x W + h_before U + b)` at each time.

    Elman, 1990, https://doi.org/10.1016/0364-0213(90)90002-E
    """

    _omit_none = frozenset({"seed"})


@variant(without=["reset_after"])
class LSTM(Recurrent, cell_class=LSTMCell):
    """`c = f c_before + i activation(g)`, `h = o activation(c)` at each time, with the gates i, f, o and the candidate
    g from `x W + h_before U + b`.

    Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735

    >>> x = np.zeros((2, 5, 3), "float32")
    >>> layers.LSTM(4)(x).shape, layers.LSTM(4, return_sequences=True)(x).shape
    ((2, 4), (2, 5, 4))
    """


@variant(without=["unit_forget_bias"])
class GRU(Recurrent, cell_class=GRUCell):
    """`h = z h_before + (1 - z) activation(x W + r (h_before U))` at each time, with the gates z and r from
    `x W + h_before U + b`. Without `reset_after`, the candidate is `activation(x W + (r h_before) U)`.

    Cho et al., 2014, https://arxiv.org/abs/1406.1078
    """
