"""The scans that carry the states of a recurrent cell along the time axis.

`scan` is for the cells of this library: the inputs of all times are multiplied by the kernel at once, and only the
recurrent product is left for the loop. It is compiled once for each rule and shape. `scan_calls` is for all cells.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, tree_util

from lamina.core import transforms
from lamina.core.state import StateScope


def multiply(x: Any, kernel: Any) -> Any:
    """`x @ kernel` as one matrix product of two axes."""
    flat = x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x
    return (flat @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Rule(NamedTuple):
    """What a cell does in one step, without its arrays: cells of one rule share a compiled scan.

    `of_inputs` is the product of the inputs and the kernel, of one time or of all; `of_output` that of the output
    before and the recurrent kernel. `cell.join`, which is linear, puts the two beside each other, and `cell.gates_of`
    makes the new states of both. The columns behind `at_once` gates are left to `gates_of`.
    """

    cell: Any
    activation: Callable
    recurrent_activation: Callable
    at_once: int
    of_inputs: Callable = multiply
    of_output: Callable = multiply

    @property
    def is_pure(self) -> bool:
        """Whether the activations are functions of the library or of JAX; others may read what may change."""
        return all(map(_is_pure, (self.activation, self.recurrent_activation)))

    def split(self, kernel: Any, masks: Sequence[Any] | None) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """The recurrent kernel and its dropout: what acts on the output before, and the rest."""
        columns, masks = self.at_once * kernel.shape[-2], masks or []
        return (kernel[..., :columns], masks[: self.at_once]), (kernel[..., columns:], masks[self.at_once :])


def _is_pure(fn: Callable) -> bool:
    package = (getattr(fn, "__module__", None) or "").partition(".")[0]
    return hasattr(fn, "__name__") and getattr(fn, "__self__", None) is None and package in ("lamina", "jax")


def product(times: Callable, x: Any, kernel: Any, masks: Sequence[Any] | None = None) -> Any:
    """`times(x, kernel)`; with dropout, the columns of each gate under its own mask."""
    if not masks:
        return times(x, kernel)
    parts = [times(x * m, k) for m, k in zip(masks, jnp.split(kernel, len(masks), axis=-1))]
    return jnp.concatenate(parts, axis=-1)


def add(x: Any, bias: Any) -> Any:
    return x if bias is None else x + bias


def _forward(
    rule: Rule,
    see: Callable[[Any, list[Any], list[Any]], Any],
    unroll: bool,
    weights: tuple,
    x: Any,
    states: list[Any],
    keep: Any,
    masks: Any,
) -> tuple[list[Any], Any]:
    """The last states, and at all times `see(joined, states, new states)`."""
    kernel, bias = weights
    first, rest = rule.split(kernel, masks)

    def join(at: Any, h: Any) -> Any:
        now = lax.dynamic_index_in_dim(x, at, keepdims=False)
        return rule.cell.join(now, add(product(rule.of_output, h, *first), bias))

    # What the gates work on is carried into a step, not made in it: XLA's loop over the gates is then twice as fast
    # on CPUs. Behind the last time the last input is taken once more.
    def step(carry: tuple[Any, list[Any]], at: Any) -> tuple[tuple[Any, list[Any]], Any]:
        joined, states = carry
        new = rule.cell.gates_of(rule, joined, states, rest)
        if keep is not None:
            new = _hold(keep[at], new, states)
        return (join(at + 1, new[0]), new), see(joined, states, new)

    (_, last), seen = lax.scan(step, (join(0, states[0]), states), jnp.arange(x.shape[0]), unroll=unroll or 1)
    return last, seen


def _hold(keep: Any, new: Sequence[Any], old: Sequence[Any]) -> list[Any]:
    """The new states, or the old ones where `keep` is false."""
    return [choose(keep, n, o) for n, o in zip(new, old)]


def choose(keep: Any, new: Any, old: Any) -> Any:
    """`new` where `keep`, which has the first axes, else `old`."""
    return jnp.where(keep.reshape(keep.shape + (1,) * (new.ndim - keep.ndim)), new, old)


def _carry(
    rule: Rule, sequences: bool, unroll: bool, weights: tuple, x: Any, states: list[Any], keep: Any, masks: Any
) -> tuple[list[Any], Any]:
    """The last states, and the outputs at all times if wanted: `scan` behind the product of the inputs.

    Args:
        weights: the recurrent kernel and the bias of its product.
        x: (time, batch, gates * units), inputs times the kernel.
        keep: (time, batch), false where the states stay as they are; or none.
        masks: factors of the output before, for each gate; or none.
    """
    return _forward(
        rule, lambda joined, old, new: new[0] if sequences else None, unroll, weights, x, states, keep, masks
    )


_carry_fast = jax.custom_jvp(_carry, nondiff_argnums=(0, 1, 2))


@_carry_fast.defjvp
def _carry_jvp(rule: Rule, sequences: bool, unroll: bool, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    """The derivative, which is linear in `tangents`; XLA gets the gradient from it, read backwards.

    That of the kernel leaves the scan: in the gradient it is one product for all times. The gates are computed again
    in the backward scan, which costs less than to keep all that they are made of.
    """
    (kernel, bias), x, states, keep, masks = primals
    (d_kernel, d_bias), d_x, d_states, _, _ = tangents
    last, (joined, before) = _forward(
        rule, lambda joined, old, new: (joined, old), unroll, (kernel, bias), x, states, keep, masks
    )
    (first, first_masks), rest = rule.split(kernel, masks)
    (d_first, _), (d_rest, _) = rule.split(d_kernel, None)
    # Changes of products, not products of changes: of these, convolutions know forms with fast gradients.
    _, d_v = jax.jvp(lambda kernel: product(rule.of_output, before[0], kernel, first_masks), (first,), (d_first,))
    d_joined = rule.cell.join(d_x, add(d_v, d_bias))

    def step(d: list[Any], at: tuple[Any, Any, list[Any], Any]) -> tuple[list[Any], Any]:
        d_now, now, states, keep = at
        _, d_v = jax.jvp(lambda h: product(rule.of_output, h, first, first_masks), (states[0],), (d[0],))
        d_now = d_now + rule.cell.join(jnp.zeros(d_x.shape[1:], d_x.dtype), d_v)

        def gates(now: Any, states: list[Any], kernel: Any) -> list[Any]:
            return list(rule.cell.gates_of(rule, now, states, (kernel, rest[1])))

        _, new = jax.jvp(gates, (now, states, rest[0]), (d_now, d, d_rest))
        new = new if keep is None else _hold(keep, new, d)
        return new, new[0] if sequences else None

    step = jax.checkpoint(step, prevent_cse=False)
    d_last, d_outputs = lax.scan(step, d_states, (d_joined, joined, before, keep), unroll=unroll or 1)
    outputs = jnp.concatenate([before[0][1:], last[0][None]]) if sequences else None
    return (last, outputs), (d_last, d_outputs)


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
        weights: the kernel, the recurrent kernel and the biases of both.
        inputs: (batch, time, features).
        states: (batch, units) each; the first is the output before.
        mask: (batch, time), false where the states stay as they are; or none.
        dropout: factors of the inputs and of the output before, for each gate; or none.
        sequences: whether the outputs at all times are wanted.
        zero: whether masked outputs are 0, and not the output before.
        unroll: whether the steps are compiled one behind the other.
    """
    kernel, recurrent_kernel, bias, recurrent_bias = weights
    x = add(
        product(rule.of_inputs, jnp.swapaxes(inputs, 0, 1), kernel, dropout[0]), bias
    )  # (time, batch, gates * units)
    keep = None if mask is None else jnp.swapaxes(mask, 0, 1)
    unroll = unroll and isinstance(x.shape[0], int)  # while shapes are inferred, the number of steps may be a symbol
    recurrent = (recurrent_kernel, recurrent_bias)
    carry = _carry_fast if rule.is_pure else _carry  # a rule of derivatives sees no weights but those it is given
    last, outputs = carry(rule, sequences, unroll, recurrent, x, list(states), keep, dropout[1])
    if not sequences:
        outputs, keep = last[0][None], None if keep is None else keep[-1:]
    if zero and keep is not None:
        outputs = choose(keep, outputs, jnp.zeros_like(outputs))
    return jnp.swapaxes(outputs, 0, 1) if sequences else outputs[0], last


compiled_scan = jax.jit(scan, static_argnames=("rule", "sequences", "zero", "unroll"))


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

    def step(carry: tuple[list[Any], Any], at: tuple[Any, Any]) -> tuple[tuple[list[Any], Any], Any]:
        (states, before), (x, keep) = carry, at
        output, new = run(x, states)
        if keep is not None:
            new = _hold(keep, new, states)
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
