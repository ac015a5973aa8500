"""Recurrent cells: what one step computes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina import random
from lamina.core import checks, scope
from lamina.core.configurable import variant
from lamina.layer import Layer
from lamina.layers.scanning import Rule, add, compiled_scan, product, scan, zeros
from lamina.layers.weights import resolve_arguments, weight
from lamina.random import SeedGenerator


class Cell(Layer):
    """One step of a recurrent layer: `call(inputs, states)` returns the output and the new states.

    A subclass says how many gates and states it has, and what a step does with them in `join` and `gates_of`.

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

    Raises: ValueError if `units` is not a positive integer, or a share not from 0 to 1.
    """

    activation: Callable
    recurrent_activation: Callable
    bias_initializer: Callable
    gates, state_count = 1, 1
    # Whether the dropout's seed is drawn before those of the initializers: it decides which weights
    # `set_random_seed` leads to.
    draws_seed_first = False
    features_last = True

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
        seed: Any = None,
        **kwargs: Any,
    ):
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self.units = self.output_size = checks.integer(self._who, "units", units)
        self.dropout = float(checks.number(self._who, "dropout", dropout, 0, 1))
        self.recurrent_dropout = float(checks.number(self._who, "recurrent_dropout", recurrent_dropout, 0, 1))
        generator = SeedGenerator(seed) if self.draws_seed_first else None
        resolve_arguments(self)
        self.use_bias, self.unit_forget_bias, self.reset_after = use_bias, unit_forget_bias, reset_after
        self.implementation = 1 if recurrent_dropout else implementation  # with 1, each gate has a mask of its own
        self.seed = seed
        self.seed_generator = generator or SeedGenerator(seed)

    @property
    def state_size(self) -> Any:
        """The size of the state, or of each."""
        return self.units if self.state_count == 1 else [self.units] * self.state_count

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    @property
    def _bias_start(self) -> Callable:
        return self.bias_initializer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        window, features, columns = *self._sizes_of(input_shape), self.gates * self.units
        self.kernel = weight(self, "kernel", (*window, features, columns))
        self.recurrent_kernel = weight(self, "recurrent_kernel", (*window, self.units, columns), arguments="recurrent")
        self.bias = None
        if self.use_bias:
            self.bias = weight(self, "bias", self._bias_shape(), initializer=self._bias_start)

    def _sizes_of(self, input_shape: tuple[int | None, ...]) -> tuple[tuple[int, ...], int]:
        """The size of the kernels in space, if they have one, and the number of features."""
        return (), checks.known_size(self._who, input_shape, -1)

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Zeros for each state."""
        return zeros(self.state_size, batch_size, self.compute_dtype)

    @property
    def rule(self) -> Rule:
        """What a step computes."""
        return Rule(type(self), self.activation, self.recurrent_activation, self.gates)

    @staticmethod
    def join(x: Any, v: Any) -> Any:
        """What the gates work on, from inputs times kernel and output times recurrent kernel; linear in both."""
        return x + v

    @staticmethod
    def gates_of(rule: Rule, joined: Any, states: Sequence[Any], rest: tuple[Any, Any]) -> list[Any]:
        """The new states; `rest` is the recurrent kernel behind its first `rule.at_once` gates, with its dropout."""
        raise NotImplementedError

    def _biases(self, bias: Any) -> tuple[Any, Any]:
        """The biases of the inputs' product and of the recurrent one."""
        return None, bias

    def _weights_as_read(self) -> tuple:
        with scope.autocast(self.compute_dtype):
            biases = (None, None) if self.bias is None else self._biases(self.bias.value)
            return self.kernel.value, self.recurrent_kernel.value, *biases

    def _draw_dropout(self, now: Any, before: Any, training: bool | None) -> tuple[Any, Any]:
        """Factors for the inputs at one time and for the output before, one array or one for each gate."""
        count = self.gates if self.implementation == 1 else 1

        def draw(rate: float, shape: tuple) -> list[Any] | None:
            if not training or not rate:
                return None
            ones = jnp.ones(shape, self.compute_dtype)
            return [random.dropout(ones, rate, seed=self.seed_generator) for _ in range(count)]

        return draw(self.dropout, now), draw(self.recurrent_dropout, before)

    def _moved(self, arrays: Any, source: int, target: int) -> Any:
        """Arrays with their features on another axis, where those of inputs and states do not lie on the last one."""
        if self.features_last:
            return arrays
        return tree_util.tree_map(lambda x: jnp.moveaxis(x, source, target), arrays)

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, Any]:
        leaves, treedef = tree_util.tree_flatten(states)
        kernel, recurrent_kernel, bias, recurrent_bias = self._weights_as_read()
        masks = self._moved(self._draw_dropout(inputs.shape, leaves[0].shape, training), 1, -1)
        inputs, leaves = self._moved((inputs, leaves), 1, -1)
        first, rest = self.rule.split(recurrent_kernel, masks[1])
        x = add(product(self.rule.of_inputs, inputs, kernel, masks[0]), bias)
        v = add(product(self.rule.of_output, leaves[0], *first), recurrent_bias)
        new = self._moved(self.gates_of(self.rule, self.join(x, v), leaves, rest), -1, 1)
        return new[0], treedef.unflatten(new)

    def sweep(self, inputs: Any, states: Any, mask: Any, training: bool, **options: Any) -> tuple[Any, Any]:
        """`call` for all times at once: the outputs, or the last one, and the last states."""
        leaves, treedef = tree_util.tree_flatten(states)
        inputs, *leaves = (x.astype(self.compute_dtype) for x in (inputs, *leaves))
        now = (inputs.shape[0], *inputs.shape[2:])
        masks = self._moved(self._draw_dropout(now, leaves[0].shape, training), 1, -1)
        inputs, leaves = self._moved(inputs, 2, -1), self._moved(leaves, 1, -1)
        run = compiled_scan if self.rule.is_pure else scan
        outputs, leaves = run(self.rule, self._weights_as_read(), inputs, leaves, mask, masks, **options)
        return self._moved(outputs, -1, 2 if options["sequences"] else 1), treedef.unflatten(self._moved(leaves, -1, 1))


@variant(without=["recurrent_activation", "unit_forget_bias", "reset_after"])
class SimpleRNNCell(Cell):
    """`h' = activation(x W + h U + b)`.

    Elman, 1990, https://doi.org/10.1016/0364-0213(90)90002-E
    """

    draws_seed_first = True

    @staticmethod
    def gates_of(rule: Rule, joined: Any, states: Sequence[Any], rest: tuple[Any, Any]) -> list[Any]:
        return [rule.activation(joined)]


@variant(without=["reset_after"])
class LSTMCell(Cell):
    """`c' = f c + i activation(g)`, `h' = o activation(c')`, with gates i, f, o and candidate g from `x W + h U + b`.

    Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735
    """

    gates, state_count = 4, 2  # h and c

    @property
    def _bias_start(self) -> Callable:
        return self._forgetting if self.unit_forget_bias else self.bias_initializer

    def _forgetting(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        start = self.bias_initializer or np.zeros
        i, g_and_o = (np.asarray(start((n * self.units,), dtype=dtype)) for n in (1, 2))
        return np.concatenate([i, np.ones(self.units, i.dtype), g_and_o])

    @staticmethod
    def gates_of(rule: Rule, joined: Any, states: Sequence[Any], rest: tuple[Any, Any]) -> list[Any]:
        gate = rule.recurrent_activation
        i, f, g, o = jnp.split(joined, 4, axis=-1)
        c = gate(f) * states[1] + gate(i) * rule.activation(g)
        return [gate(o) * rule.activation(c), c]


@variant(without=["unit_forget_bias"])
class GRUCell(Cell):
    """`h' = z h + (1 - z) activation(x W + r (h U))`, with the gates z and r from `x W + h U + b`.

    Without `reset_after`, the candidate is `activation(x W + (r h) U)`.

    Cho et al., 2014, https://arxiv.org/abs/1406.1078
    """

    gates = 3

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    @property
    def rule(self) -> Rule:
        """What a step computes; without `reset_after` the product of the candidate waits for the reset gate."""
        return super().rule._replace(at_once=3 if self.reset_after else 2)

    def _biases(self, bias: Any) -> tuple[Any, Any]:
        return (bias[0], bias[1]) if self.reset_after else (bias, None)

    @staticmethod
    def join(x: Any, v: Any) -> Any:
        x_zr, x_h = jnp.split(x, [2 * (x.shape[-1] // 3)], axis=-1)
        v_zr, v_h = jnp.split(v, [x_zr.shape[-1]], axis=-1)
        return jnp.concatenate([x_h, x_zr + v_zr, v_h], axis=-1)  # the candidate's two parts meet behind the reset gate

    @staticmethod
    def gates_of(rule: Rule, joined: Any, states: Sequence[Any], rest: tuple[Any, Any]) -> list[Any]:
        h = states[0]
        x_h, z, r, *h_h = jnp.split(joined, joined.shape[-1] // h.shape[-1], axis=-1)
        z, r = rule.recurrent_activation(z), rule.recurrent_activation(r)
        candidate = rule.activation(x_h + (r * h_h[0] if h_h else product(rule.of_output, r * h, *rest)))
        return [z * h + (1 - z) * candidate]
