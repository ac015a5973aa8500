"""Time, operations and bytes of each layer, by running each by itself on what it is given inside the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import tree_util

from lamina.core import checks, masking, scope, tree
from lamina.core.jit import jit
from lamina.core.state import StateScope
from lamina.core.watch import Calls
from lamina.data.arrays import FLOATS, convert
from lamina.layer.signature import CallContext
from lamina.training.tools.cost import flops
from lamina.training.tools.result import Drawing, Result, Table, progress, quantity

MEASURED_SECONDS = 0.02  # of each program, at least, and three runs


class Cost(NamedTuple):
    """What a computation takes: seconds, floating operations, and bytes that are read and written."""

    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def minus(self, others: Sequence[Cost]) -> Cost:
        """What is left without the others."""
        return Cost(*(mine - sum(theirs) for mine, *theirs in zip(self, *others)))


class LayerCost(NamedTuple):
    """One call of a layer, in the order of their beginning.

    forward, backward: of the layer as a whole.
    own_forward, own_backward: without what the layers inside take when each is run by itself.
    """

    path: str
    layer: str
    output_shape: Any
    forward: Cost
    backward: Cost
    own_forward: Cost
    own_backward: Cost

    @property
    def own_seconds(self) -> float:
        """Forward and backward."""
        return self.own_forward.seconds + self.own_backward.seconds


@dataclass(frozen=True, repr=False, eq=False)
class Profile(Result):
    """What each call of a layer costs.

    A layer is compiled by itself and run on what it gets in the model; backward is the time with gradients less the
    time without. A layer's own part is what it takes without the layers inside it, so the own parts add up to the
    model, which is compiled as one too: what that saves beside its parts is a negative part of its own.

    Attributes:
        rows: a `LayerCost` for each call, the model's first.
    """

    rows: tuple[LayerCost, ...]

    @property
    def forward(self) -> Cost:
        """Of the whole model."""
        return self.rows[0].forward

    @property
    def backward(self) -> Cost:
        """Of the whole model."""
        return self.rows[0].backward

    def sorted(self) -> list[LayerCost]:
        """The rows, those that take longest first."""
        return sorted(self.rows, key=lambda row: -row.own_seconds)

    def _table(self) -> Table:
        whole, first = self.forward.seconds + self.backward.seconds, self.rows[0]
        parts = [(f"{r.path} ({r.layer})", r.own_forward, r.own_backward) for r in self.sorted()]
        rows = [
            (name, quantity(ahead.seconds, "s"), quantity(back.seconds, "s"),
             f"{(ahead.seconds + back.seconds) / max(whole, 1e-12):.1%}", quantity(ahead.flops), quantity(back.flops),
             quantity(ahead.bytes + back.bytes, "B"))
            for name, ahead, back in [*parts, ("all of it", first.forward, first.backward)]
        ]  # fmt: skip
        heads = ("Layer, without those inside", "Forward", "Backward", "Share", "FLOPs", "Backward", "Bytes")
        return Table(f"Profile of {first.path}", heads, rows)

    def _drawing(self) -> Drawing:
        rows = [row for row in self.sorted() if row.own_seconds > 0][:30]
        ways = {"forward": [r.own_forward for r in rows], "backward": [r.own_backward for r in rows]}
        bars = {way: [cost.seconds * 1e3 for cost in costs] for way, costs in ways.items()}
        return Drawing("ms", bars=bars, names=[r.path.partition("/")[2] or r.path for r in rows])


def profile(
    model: Any, x: Any, *args: Any, training: bool = True, backward: bool = True, verbose: Any = "auto"
) -> Profile:
    """Measure each layer of a model on a batch; the model stays as it is.

    Args:
        model: a model, or any layer.
        x, args: what it is called on.
        training: whether as in training.
        backward: whether to measure gradients too.
        verbose: 0 silent, 1 a progress bar, "auto" where progress goes to stdout.
    """
    checks.require(callable(getattr(model, "call", None)), "profile", "model must be a layer or model", model)
    inputs = tree_util.tree_map(jnp.asarray, tuple(convert(each, "x", "profile", FLOATS) for each in (x, *args)))
    calls = _recorded(model, inputs, training)
    bar = progress(len(calls), verbose, "layer")
    measured: list[tuple[Cost, Cost]] = []
    for call in calls:
        measured.append(_measured(call, training, backward))
        bar.update(len(measured), finalize=len(measured) == len(calls))
    rows = []
    for i, (call, costs) in enumerate(zip(calls, measured)):
        inside = [measured[j] for j, other in enumerate(calls) if other.parent == i]
        own = [costs[way].minus([each[way] for each in inside]) for way in (0, 1)]
        rows.append(LayerCost(call.path, type(call.layer).__name__, call.output_shape, *costs, *own))
    return Profile(tuple(rows))


class _Given(NamedTuple):
    """A call of a layer and what it gets: `run(*arrays)` calls it again."""

    layer: Any
    path: str
    parent: int | None
    output_shape: Any
    run: Callable
    first: list[bool]  # of each array, whether it is an input of the model: no gradient by it is asked for
    arrays: list[Any]
    masks: list[Any]


def _recorded(model: Any, inputs: tuple, training: bool) -> list[_Given]:
    """The calls of all layers with what they get; what is inside a loop is a part of the layer around it."""
    kept: list[tuple] = []

    def run(inputs: tuple) -> Any:
        kept.clear()
        calls, own = Calls(without_remat=True), {id(x) for x in tree_util.tree_leaves(inputs)}
        with StateScope(), scope.watch(calls):
            model(*inputs, training=training)
        out = []
        for call in calls.calls:
            again, arrays = tree.function_of(jax.Array, call.layer, call.args, call.kwargs)
            shapes = tree_util.tree_map(lambda x: tuple(x.shape), call.outputs)
            make = partial(_Given, call.layer, call.path, call.parent, shapes, again, [id(x) in own for x in arrays])
            kept.append((make, call.inside))
            out.append(([], []) if call.inside else (arrays, [masking.get_mask(x) for x in arrays]))
        return out

    given = jit(run)(inputs)
    return [make(*got) for (make, inside), got in zip(kept, given) if not inside]


def _measured(call: _Given, training: bool, backward: bool) -> tuple[Cost, Cost]:
    """The costs of a layer forward and backward."""
    variables = call.layer.variables
    trained = {id(v) for v in call.layer.trainable_variables}
    values, count = [v.value for v in variables], len(variables)
    arrays = [*values, *call.arrays]
    wanted = [*[id(v) in trained for v in variables], *[not first for first in call.first]]
    moved = [i for i, x in enumerate(arrays) if wanted[i] and jnp.issubdtype(x.dtype, jnp.floating)]

    def forward(arrays: list[Any], masks: list[Any]) -> list[Any]:
        given = arrays[count:]
        with StateScope(zip(variables, arrays[:count])), scope.call(CallContext(training, set())):
            for x, mask in zip(given, masks):
                masking.set_mask(x, mask)
            return [x for x in tree_util.tree_leaves(call.run(*given)) if isinstance(x, jax.Array)]

    def both(arrays: list[Any], masks: list[Any]) -> Any:
        def run(some: list[Any]) -> list[Any]:
            told = dict(zip(moved, some))
            outputs = forward([told.get(i, x) for i, x in enumerate(arrays)], masks)
            return [x for x in outputs if jnp.issubdtype(x.dtype, jnp.floating)]

        outputs, pull = jax.vjp(run, [arrays[i] for i in moved])
        return outputs, pull([jnp.ones_like(x) for x in outputs])

    cost = _cost(forward, arrays, call.masks)
    if not backward or not moved:
        return cost, Cost()
    back = _cost(both, arrays, call.masks).minus([cost])
    return cost, Cost(*(max(number, 0.0) for number in back))


@jax.disable_jit(False)
def _cost(fn: Callable, *arguments: Any) -> Cost:
    """Measured of a program by itself, which has been compiled and has run before."""
    traced = jax.jit(fn).trace(*arguments)
    program = traced.lower().compile()
    analysis = program.cost_analysis() or {}
    jax.block_until_ready(program(*arguments))
    times: list[float] = []
    while len(times) < 3 or (sum(times) < MEASURED_SECONDS and len(times) < 100):
        start = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        times.append(time.perf_counter() - start)
    return Cost(min(times), flops(traced.jaxpr.jaxpr), float(analysis.get("bytes accessed", 0.0)))
