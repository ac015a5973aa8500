"""What looks on while layers are called and optimizers get gradients: open one with `with scope.watch(one):`.

A watch has `call(layer, call, args, kwargs) -> outputs`, which stands around the `call` of each layer,
`gradients(gradients, variables)`, and `without_remat`, whether layers shall not be computed again backward. `Calls`
notes what each call was given and gave; `Probes` measures arrays where they pass, in loops and backward passes too, and
hears of them while the program runs.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import masking, scope
from lamina.core.later import Later
from lamina.core.sparse import is_sparse

_jax: Any = Later("jax.extend.core")


@dataclass
class Call:
    """One call of a layer.

    path: the names of the layers around and of this one.
    parent: the call around it, by its number; `None` for the outermost.
    inside: whether it was in a loop, branch or transform, out of which arrays cannot be had: these are shapes then.
    """

    layer: Any
    path: str
    parent: int | None
    args: tuple
    kwargs: dict[str, Any]
    outputs: Any = None
    inside: bool = False


class Calls:
    """Notes the calls of layers in the order of their beginning."""

    def __init__(self, without_remat: bool = False) -> None:
        self.without_remat = without_remat
        self.calls: list[Call] = []
        self._open: list[int] = []
        self._level = _jax.extend.core.get_opaque_trace_state()

    def call(self, layer: Any, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        inside = _jax.extend.core.get_opaque_trace_state() != self._level
        given: Any = _shapes((args, kwargs)) if inside else (args, dict(kwargs))
        parent = self._open[-1] if self._open else None
        self._open.append(len(self.calls))
        self.calls.append(Call(layer, scope.current_path(), parent, *given, inside=inside))
        try:
            outputs = call(*args, **kwargs)
        finally:
            number = self._open.pop()
        self.calls[number].outputs = _shapes(outputs) if inside else outputs
        return outputs

    def gradients(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Nothing to note."""


def _shapes(structure: Any) -> Any:
    return tree_util.tree_map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x, structure
    )


@dataclass
class Seen:
    """One array that passed.

    path: of the layer, or of the variable that the gradient is for.
    layer: the layer's class, `""` for a variable.
    what: "input", "output", "gradient of input", "gradient of output" or "gradient".
    key: which of several, such as `[1]` or `['image']`.
    order: the number of the call by its end, so that what is inside comes before what is around.
    """

    path: str
    layer: str
    what: str
    key: str = ""
    order: int = -1
    values: Any = None  # what was measured


class Probes:
    """Measures the floating arrays that go into layers and come out, and their gradients.

    Args:
        measure: of an array, a dict of small ones.
        inputs: whether to measure what goes into layers too.
        backward: whether to measure gradients by inputs and outputs; code that differentiates forward does not take it.
    """

    without_remat = False

    def __init__(self, measure: Callable[[Any], dict[str, Any]], inputs: bool = True, backward: bool = True):
        self.measure, self.inputs, self.backward = measure, inputs, backward
        self._seen: list[tuple[Seen, dict[str, np.ndarray]]] = []
        self._ended = itertools.count()

    def heard(self) -> list[Seen]:
        """What has passed since this was last asked, in the order of calls, forward before backward."""
        jax.effects_barrier()
        seen, self._seen = [replace(mark, values=values) for mark, values in self._seen], []
        return sorted(seen, key=lambda each: (each.what.startswith("gradient"), each.order))

    def call(self, layer: Any, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        marks: list[Seen] = []

        def passed(structure: Any, what: str) -> Any:
            def one(keys: Any, x: Any) -> Any:
                if not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.floating):
                    return x
                key = tree_util.keystr(keys[1:]).removeprefix("[0]") if what == "input" else tree_util.keystr(keys)
                mark = Seen(scope.current_path(), type(layer).__name__, what, key)
                marks.append(mark)
                self._tell(mark, x)
                if not self.backward:
                    return x
                back = Seen(mark.path, mark.layer, f"gradient of {what}", mark.key)
                marks.append(back)
                y = _tapped(lambda gradient: self._tell(back, gradient))(x)
                masking.set_mask(y, masking.get_mask(x))
                return y

            return tree_util.tree_map_with_path(one, structure, is_leaf=is_sparse)

        if self.inputs:
            args, kwargs = passed((args, kwargs), "input")
        outputs = passed(call(*args, **kwargs), "output")
        order = next(self._ended)
        for mark in marks:
            mark.order = order
        return outputs

    def gradients(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        for order, (gradient, variable) in enumerate(zip(gradients, variables)):
            self._tell(Seen(variable.path, "", "gradient", order=order), gradient)

    def _tell(self, mark: Seen, x: Any) -> None:
        def hear(values: dict[str, Any]) -> None:
            self._seen.append((mark, {name: np.asarray(value) for name, value in values.items()}))

        jax.debug.callback(hear, self.measure(x))


def _tapped(tell: Callable[[Any], None]) -> Callable:
    """The identity, whose gradient is told of."""

    @jax.custom_vjp
    def tap(x: Any) -> Any:
        return x

    def backward(_: None, gradient: Any) -> tuple[Any]:
        tell(gradient)
        return (gradient,)

    tap.defvjp(lambda x: (x, None), backward)
    return tap


def by_path(seen: Sequence[Seen]) -> Iterator[tuple[str, Seen]]:
    """What was seen, each by its path; later calls of a layer have `#2`, `#3` behind it."""
    calls: dict[tuple[str, str], dict[int, int]] = {}
    for each in seen:
        numbers = calls.setdefault((each.path, each.layer), {})
        number = numbers.setdefault(each.order, len(numbers) + 1)
        yield each.path if number == 1 else f"{each.path}#{number}", each
