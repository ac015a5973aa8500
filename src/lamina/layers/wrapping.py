"""Layers around other layers: along the time axis in both directions, or on each time by itself."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import tree_util

from lamina.core import checks, configurable, registry
from lamina.core.budget import CALL, spend
from lamina.core.tree import is_shape
from lamina.layer import Layer, Wrapper
from lamina.layer.masks import check_mask, only_passes
from lamina.layer.parts import look, walk
from lamina.layer.signature import signature_of
from lamina.layers.recurrent import Holder

_MERGES: dict[str | None, Callable[[Any, Any], Any]] = {
    "concat": lambda x, y: jnp.concatenate([x, y], axis=-1),
    "sum": operator.add,
    "mul": operator.mul,
    "ave": lambda x, y: (x + y) / 2,
    None: lambda x, y: (x, y),
}
_ALIKE = ("stateful", "return_sequences", "return_state")


class Bidirectional(Holder):
    """A recurrent layer along the time axis and another one against it, and both outputs merged.

    Schuster and Paliwal, 1997, https://doi.org/10.1109/78.650093

    Args:
        layer: an `RNN`, or a layer with its attributes; the forward layer is a new one of the same configuration.
        merge_mode: "concat", "sum", "mul", "ave", or `None` for both outputs as they are.
        weights: arrays to start from: the forward layer's, then the backward layer's.
        backward_layer: the layer against the time axis; one like `layer` if not given.

    Shapes: (batch, time, features) -> (batch, 2 units) with "concat", (batch, units) otherwise; with
    `return_sequences` also the time axis.
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ):
        for name, each in (("layer", layer), ("backward_layer", backward_layer)):
            if not isinstance(each, Layer) and (name == "layer" or each is not None):
                raise ValueError(f"Bidirectional: {name} must be a Layer, got {each!r}.")
        super().__init__(**kwargs)
        checks.one_of(self._who, "merge_mode", merge_mode, _MERGES)
        self.forward_layer: Any = _like(layer, "forward_")
        self.backward_layer: Any = backward_layer or _like(layer, "backward_", go_backwards=True)
        self._check_directions()
        for each in (self.forward_layer, self.backward_layer):
            if hasattr(each, "zero_output_for_mask"):
                each.zero_output_for_mask = each.return_sequences  # a repeated output would differ by direction
        self.merge_mode = merge_mode
        self.stateful, self.return_sequences = layer.stateful, layer.return_sequences
        self.return_state = layer.return_state
        self.supports_masking = True
        self.input_spec = layer.input_spec
        self._first_weights = weights

    def _check_directions(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        differ, given = forward.go_backwards != backward.go_backwards, f"{forward.go_backwards} for both"
        checks.require(differ, self._who, "layer and backward_layer must differ in go_backwards", got=given)
        for name in _ALIKE:
            first, second = getattr(forward, name), getattr(backward, name)
            rule = f"layer and backward_layer must have the same {name}"
            checks.require(first == second, self._who, rule, got=f"{first} and {second}")

    def build(self, sequences_shape: tuple[int | None, ...], initial_state_shape: Any = None) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._first_weights is not None:
            self.set_weights(self._first_weights)
            self._first_weights = None

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None) -> Any:
        half = 0 if initial_state is None else len(initial_state) // 2
        first, second = (None, None) if initial_state is None else (initial_state[:half], initial_state[half:])
        forward, backward = self.forward_layer, self.backward_layer
        x = forward(sequences, **_taken(forward, initial_state=first, mask=mask, training=training))
        y = backward(sequences, **_taken(backward, initial_state=second, mask=mask, training=training))
        states: tuple = ()
        if self.return_state:
            (x, *of_x), (y, *of_y) = x, y
            states = (*of_x, *of_y)
        x, y = x.astype(self.compute_dtype), y.astype(self.compute_dtype)
        if self.return_sequences:
            y = jnp.flip(y, axis=1)
        merged = _MERGES[self.merge_mode](x, y)
        if not self.return_state:
            return merged
        return (*merged, *states) if self.merge_mode is None else (merged, *states)

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask itself for outputs at all times, none for the last ones and for states."""
        mask = next(iter(tree_util.tree_leaves(mask)), None) if self.return_sequences else None
        outputs = (mask, mask) if self.merge_mode is None else (mask,)
        if self.return_state:
            sizes = [getattr(each, "state_size", []) for each in (self.forward_layer, self.backward_layer)]
            outputs = (*outputs, *(None for _ in tree_util.tree_leaves(sizes)))
        return outputs[0] if len(outputs) == 1 else outputs

    @property
    def states(self) -> tuple | None:
        """The states of both layers, if they carry them from call to call."""
        both = self.forward_layer.states, self.backward_layer.states
        return (*both[0], *both[1]) if both[0] and both[1] else None

    def reset_state(self) -> None:
        """Let the next sequence start from zeros again."""
        if not self.stateful:
            raise AttributeError(f"{self._who()}: must be stateful to be reset; pass stateful=True to its layer.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def get_config(self) -> dict[str, Any]:
        return {
            **self._base_config(),
            "merge_mode": self.merge_mode,
            "layer": configurable.serialize(self.forward_layer),
            "backward_layer": configurable.serialize(self.backward_layer),
        }


def _like(layer: Any, prefix: str, **changes: Any) -> Any:
    """A new layer of the configuration of `layer`, with `prefix` before its name."""
    config = {**layer.get_config(), **changes, "name": prefix + layer.name.removeprefix(prefix)}
    parts = (type(part) for part in walk(layer))
    own = {cls.__name__: cls for cls in parts if not registry.is_own(cls)}
    with registry.custom_objects(own):  # classes of the program, which need not be registered to be met again here
        new = type(layer).from_config(config)
    if hasattr(layer, "use_cudnn"):
        new.use_cudnn = layer.use_cudnn
    return new


def _taken(layer: Any, **given: Any) -> dict[str, Any]:
    """Those of the arguments that are given and that the layer's call takes."""
    known = signature_of(type(layer)).all
    return {name: value for name, value in given.items() if name in known and value is not None}


class TimeDistributed(Wrapper):
    """A layer applied to each time by itself.

    All times go through the layer as one larger batch, except where a call changes the layer: then they go through
    one after the other.

    Args:
        layer: the layer.

    Shapes: (batch, time, ...) -> (batch, time, *what the layer makes of the rest).
    """

    supports_masking = True
    _misses_mask = False  # each time is a sample to the layer

    def _shape_at_once(self, shape: Any) -> tuple[int | None, ...]:
        if not is_shape(shape) or len(shape) < 3:
            raise ValueError(f"{self._who()}: the input must have at least 3 axes (batch, time, ...), got {shape}.")
        return (shape[0], *shape[2:])

    def build(self, input_shape: Any) -> None:
        super().build(tree_util.tree_map(self._shape_at_once, input_shape, is_leaf=is_shape))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        batch, time = tree_util.tree_leaves(inputs)[0].shape[:2]
        given = _taken(self.layer, training=training, mask=mask)
        for one, x in zip(tree_util.tree_leaves(mask), tree_util.tree_leaves(inputs)):
            check_mask(self._who(), one, x)
        if self._changes(training) and isinstance(time, int):
            spend(f"{self._who()}: a step for each time", time, work=CALL)
            at = [tree_util.tree_map(lambda x, i=i: x[:, i], (inputs, given.get("mask"))) for i in range(time)]
            steps = [self.layer(x, **(given if m is None else {**given, "mask": m})) for x, m in at]
            return tree_util.tree_map(lambda *parts: jnp.stack(parts, axis=1), *steps)

        def merge(x: Any) -> Any:
            return x.reshape(batch * time, *x.shape[2:])

        if "mask" in given:
            given["mask"] = tree_util.tree_map(merge, mask)
        outputs = self.layer(tree_util.tree_map(merge, inputs), **given)
        return tree_util.tree_map(lambda y: y.reshape(batch, time, *y.shape[1:]), outputs)

    def _changes(self, training: bool | None) -> bool:
        """Whether a call leaves more behind than seeds: statistics in training, or states."""
        for layer in walk(self.layer):
            statistics = training and layer.trainable and any(not v.trainable for v in look(layer).variables)
            if statistics or getattr(layer, "stateful", False):
                return True
        return False
