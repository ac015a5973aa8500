"""Recurrent cells, which compute one step, and the scans that carry a cell's states along the time axis.

A cell of this library is a rule for the step (`advance`) on inputs that are multiplied by the kernel for all times at
once: only the recurrent product is left for the scan, which is compiled once for each rule and shape. Cells of a
program's own are called at each time.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util

from lamina import activations, constraints, initializers, random, regularizers
from lamina.core import scope, transforms
from lamina.core.variable import StateScope
from lamina.layer import Layer
from lamina.random import SeedGenerator

# Scans ----------------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What a cell does with its arrays in one step, without them: two cells of one rule share a compiled scan."""

    advance: Callable[..., tuple]
    activation: Callable
    recurrent_activation: Callable
    reset_after: bool

    @property
    def is_pure(self) -> bool:
        """Whether the activations are functions of the library or of JAX; others may read what may change."""
        own = (self.activation, self.recurrent_activation)
        return all(hasattr(fn, "__name__") and fn.__module__.partition(".")[0] in ("lamina", "jax") for fn in own)


def _product(x: Any, kernel: Any, masks: Sequence[Any] | None) -> Any:
    """`x @ kernel` as one matrix product of two axes; with dropout, the columns of each gate under its own mask."""
    if masks is not None:
        parts = [_product(x * m, k, None) for m, k in zip(masks, jnp.split(kernel, len(masks), axis=-1))]
        return jnp.concatenate(parts, axis=-1)
    flat = x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x
    return (flat @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _step(rule: Rule, weights: tuple, masks: Sequence[Any] | None, x: Any, states: Sequence[Any]) -> tuple:
    """The states after one step, from inputs that are multiplied by the kernel already; the first is the output."""
    _, kernel, bias = weights
    units = kernel.shape[0]
    # GRU's second row of biases belongs to the recurrent product, so that the reset gate acts on it as well.
    bias, recurrent_bias = (bias[0], bias[1]) if bias is not None and bias.ndim == 2 else (bias, None)

    def recurrent(h: Any, first: int = 0, last: int | None = None) -> Any:
        """`h` times the recurrent kernel, for the gates from `first` to `last`."""
        columns = slice(first * units, None if last is None else last * units)
        y = _product(h, kernel[:, columns], masks and masks[first:last])
        return y if recurrent_bias is None else y + recurrent_bias[columns]

    return rule.advance(rule, x if bias is None else x + bias, states, recurrent)


def scan(
    rule: Rule,
    weights: tuple,
    inputs: Any,
    states: Sequence[Any],
    mask: Any,
    dropout: tuple[Sequence[Any] | None, Sequence[Any] | None],
    sequences: bool,
    zero: bool,
    unroll: bool,
) -> tuple[Any, list[Any]]:
    """The outputs at all times, or the last one, and the last states.

    Args:
        rule: what a step computes.
        weights: the kernel, the recurrent kernel and the bias.
        inputs: (batch, time, features).
        states: (batch, units) each; the first is the output before.
        mask: (batch, time), false where the states stay as they are; or none.
        dropout: factors of the inputs and of the output before, for each gate; or none.
        sequences: whether the outputs at all times are wanted.
        zero: whether masked outputs are 0, and not the output before.
        unroll: whether the steps are compiled one behind the other.
    """
    x = _product(jnp.swapaxes(inputs, 0, 1), weights[0], dropout[0])  # (time, batch, gates * units)
    times = None if mask is None else jnp.swapaxes(mask, 0, 1)[..., None]

    def step(states: list[Any], at: tuple[Any, Any]) -> tuple[list[Any], Any]:
        x, keep = at
        new = list(_step(rule, weights, dropout[1], x, states))
        if keep is not None:
            new = [jnp.where(keep, n, old) for n, old in zip(new, states)]
        return new, output(new, keep) if sequences else None

    def output(states: Sequence[Any], keep: Any) -> Any:
        return jnp.where(keep, states[0], 0) if zero and keep is not None else states[0]

    unroll = unroll and isinstance(x.shape[0], int)  # while shapes are inferred, the number of steps may be a symbol
    states, outputs = lax.scan(step, list(states), (x, times), unroll=unroll or 1)
    if sequences:
        return jnp.swapaxes(outputs, 0, 1), states
    return output(states, None if times is None else times[-1]), states


_compiled_scan = jax.jit(scan, static_argnames=("rule", "sequences", "zero", "unroll"))


def scan_calls(
    call: Callable, inputs: Any, states: Any, mask: Any, sequences: bool, zero: bool, unroll: bool
) -> tuple[Any, Any]:
    """`scan` for any `call(inputs, states) -> output, states`, which may read and write variables."""
    leaves, treedef = tree_util.tree_flatten(states)
    x = jnp.swapaxes(inputs, 0, 1)
    times = None if mask is None else jnp.swapaxes(mask, 0, 1)

    def run(x: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        output, new = call(x, treedef.unflatten(states))
        return output, [n.astype(old.dtype) for n, old in zip(tree_util.tree_leaves(new), states)]

    def choose(keep: Any, new: Any, old: Any) -> Any:
        return jnp.where(keep.reshape(keep.shape + (1,) * (new.ndim - 1)), new, old)

    def step(carry: tuple[list[Any], Any], at: tuple[Any, Any]) -> tuple[tuple[list[Any], Any], Any]:
        (states, before), (x, keep) = carry, at
        output, new = run(x, states)
        if keep is not None:
            new = [choose(keep, n, old) for n, old in zip(new, states)]
            output = choose(keep, output, jnp.zeros_like(output) if zero else before)
        return (new, None if before is None else output), output

    before = None
    if mask is not None and not zero:  # masked outputs repeat the one before: at first it is the state, if it can be
        with StateScope():
            first = jax.eval_shape(lambda x, s: run(x[0], s)[0], x, leaves)
        before = leaves[0] if leaves[0].shape == first.shape else jnp.zeros(first.shape)
        before = before.astype(first.dtype)
    (leaves, _), outputs = transforms.scan(step, (leaves, before), (x, times), unroll=unroll or 1)
    return (jnp.swapaxes(outputs, 0, 1) if sequences else outputs[-1]), treedef.unflatten(leaves)


def zeros(state_size: Any, batch_size: Any, dtype: str) -> list[Any]:
    """An array of zeros for each state, whose sizes are numbers or shapes."""
    sizes = state_size if isinstance(state_size, (list, tuple)) else [state_size]
    shapes = [tuple(size) if isinstance(size, (list, tuple)) else (size,) for size in sizes]
    return [jnp.zeros((batch_size, *shape), dtype) for shape in shapes]


# Cells ----------------------------------------------------------------------------------------------------------------


class Variant:
    """A class of which each variant has some of the arguments of the one `__init__`.

    A subclass names those that it lacks in `absent`, and in `last` those that stand behind the others.
    """

    absent: frozenset[str] = frozenset()
    last: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "absent" in cls.__dict__ and "__init__" not in cls.__dict__:
            cls.__init__ = _with_some(cls.__init__, cls.absent, cls.last)  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)


def _with_some(init: Callable, absent: frozenset[str], last: tuple[str, ...]) -> Any:
    signature = inspect.signature(init)
    *named, extra = [p for p in signature.parameters.values() if p.name not in absent]
    named.sort(key=lambda p: p.name in last)  # stable: all else stays in order
    signature = signature.replace(parameters=[*named, extra])

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}.") from None
        more = given.pop(extra.name, {})
        if absent & more.keys():
            odd = ", ".join(sorted(absent & more.keys()))
            raise ValueError(f"{type(self).__name__}: must not be given unknown arguments, got {odd}.")
        init(**given, **more)

    setattr(__init__, "__signature__", signature)  # noqa: B010
    return __init__


class Cell(Variant, Layer):
    """One step of a recurrent layer: `call(inputs, states)` returns the output and the new states.

    A subclass says how many gates and states it has, and what a step does with them in `advance`.

    Args:
        units: the size of the output.
        activation: of the candidate for the new state.
        recurrent_activation: of the gates.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: what the weights start from.
        unit_forget_bias: whether the bias of the forget gate starts from 1.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: applied after each step of training.
        dropout: the share of the inputs that training drops, the same at all times.
        recurrent_dropout: the share of the outputs before that training drops, the same at all times.
        reset_after: whether the reset gate acts behind the recurrent product.
        seed: of the dropout.

    Shapes: (batch, features), states of (batch, units) -> (batch, units) and states.
    """

    gates = 1
    advance: Callable[..., tuple]
    # Whether the dropout's seed is drawn before those of the initializers: it decides which weights
    # `set_random_seed` leads to.
    draws_seed_first = False

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        if not isinstance(units, (int, np.integer)) or units <= 0:
            raise ValueError(f"{self._who()}: units must be a positive integer, got {units!r}.")
        for name, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
                raise ValueError(f"{self._who()}: {name} must be a number from 0 to 1, got {rate!r}.")
        self.units = self.output_size = int(units)
        generator = SeedGenerator(seed) if self.draws_seed_first else None
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.use_bias, self.unit_forget_bias, self.reset_after = use_bias, unit_forget_bias, reset_after
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout, self.recurrent_dropout = float(dropout), float(recurrent_dropout)
        self.implementation = 1 if recurrent_dropout else implementation  # with 1, each gate has a mask of its own
        self.seed = seed
        self.seed_generator = generator or SeedGenerator(seed)

    @property
    def state_size(self) -> Any:
        """The size of the state, or of each."""
        return self.units

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    @property
    def _bias_start(self) -> Callable:
        return self.bias_initializer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features, columns = input_shape[-1], self.gates * self.units
        if features is None:
            raise ValueError(f"{self._who()}: the size of the input's last axis must be known, got {input_shape}.")
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features, columns),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, columns),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=self._bias_shape(),
                initializer=self._bias_start,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Zeros for each state."""
        return zeros(self.state_size, batch_size, self.compute_dtype)

    @property
    def rule(self) -> Rule:
        """What a step computes."""
        return Rule(type(self).advance, self.activation, self.recurrent_activation, self.reset_after)

    def _weights_as_read(self) -> tuple:
        with scope.autocast(self.compute_dtype):
            return self.kernel.value, self.recurrent_kernel.value, None if self.bias is None else self.bias.value

    def _draw_dropout(self, batch: int, features: int, training: bool | None) -> tuple[Any, Any]:
        """Factors for the inputs and for the output before, one array or one for each gate."""
        count = self.gates if self.implementation == 1 else 1

        def draw(rate: float, size: int) -> list[Any] | None:
            if not training or not rate:
                return None
            ones = jnp.ones((batch, size), self.compute_dtype)
            return [random.dropout(ones, rate, seed=self.seed_generator) for _ in range(count)]

        return draw(self.dropout, features), draw(self.recurrent_dropout, self.units)

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, Any]:
        leaves, treedef = tree_util.tree_flatten(states)
        weights, masks = self._weights_as_read(), self._draw_dropout(inputs.shape[0], inputs.shape[1], training)
        new = _step(self.rule, weights, masks[1], _product(inputs, weights[0], masks[0]), leaves)
        return new[0], treedef.unflatten(new)

    def sweep(self, inputs: Any, states: Any, mask: Any, training: bool, **options: Any) -> tuple[Any, Any]:
        """`call` for all times at once: the outputs, or the last one, and the last states."""
        leaves, treedef = tree_util.tree_flatten(states)
        inputs, *leaves = (x.astype(self.compute_dtype) for x in (inputs, *leaves))
        masks = self._draw_dropout(inputs.shape[0], inputs.shape[2], training)
        run = _compiled_scan if self.rule.is_pure else scan
        outputs, leaves = run(self.rule, self._weights_as_read(), inputs, leaves, mask, masks, **options)
        return outputs, treedef.unflatten(leaves)


class SimpleRNNCell(Cell):
    """`h' = activation(x W + h U + b)`.

    Elman, 1990, https://doi.org/10.1016/0364-0213(90)90002-E
    """

    absent = frozenset({"recurrent_activation", "unit_forget_bias", "reset_after"})
    draws_seed_first = True

    @staticmethod
    def advance(rule: Rule, x: Any, states: Sequence[Any], recurrent: Callable) -> tuple:
        return (rule.activation(x + recurrent(states[0])),)


class LSTMCell(Cell):
    """`c' = f c + i activation(g)`, `h' = o activation(c')`, with gates i, f, o and candidate g from `x W + h U + b`.

    Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735
    """

    gates = 4
    absent = frozenset({"reset_after"})

    @property
    def state_size(self) -> list[int]:
        """The sizes of h and c."""
        return [self.units, self.units]

    @property
    def _bias_start(self) -> Callable:
        return self._forgetting if self.unit_forget_bias else self.bias_initializer

    def _forgetting(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        i, g_and_o = (np.asarray(self.bias_initializer((n * self.units,), dtype=dtype)) for n in (1, 2))
        return np.concatenate([i, np.ones(self.units, i.dtype), g_and_o])

    @staticmethod
    def advance(rule: Rule, x: Any, states: Sequence[Any], recurrent: Callable) -> tuple:
        (h, c), gate = states, rule.recurrent_activation
        i, f, g, o = jnp.split(x + recurrent(h), 4, axis=-1)
        c = gate(f) * c + gate(i) * rule.activation(g)
        return gate(o) * rule.activation(c), c


class GRUCell(Cell):
    """`h' = z h + (1 - z) activation(x W + r (h U))`, with the gates z and r from `x W + h U + b`.

    Without `reset_after`, the candidate is `activation(x W + (r h) U)`.

    Cho et al., 2014, https://arxiv.org/abs/1406.1078
    """

    gates = 3
    absent = frozenset({"unit_forget_bias"})

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    @staticmethod
    def advance(rule: Rule, x: Any, states: Sequence[Any], recurrent: Callable) -> tuple:
        (h,) = states
        x_z, x_r, x_h = jnp.split(x, 3, axis=-1)
        if rule.reset_after:
            h_z, h_r, h_h = jnp.split(recurrent(h), 3, axis=-1)
        else:
            (h_z, h_r), h_h = jnp.split(recurrent(h, 0, 2), 2, axis=-1), None
        z, r = rule.recurrent_activation(x_z + h_z), rule.recurrent_activation(x_r + h_r)
        candidate = rule.activation(x_h + (recurrent(r * h, 2) if h_h is None else r * h_h))
        return (z * h + (1 - z) * candidate,)
