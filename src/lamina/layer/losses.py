"""What layers add to the loss while they are called."""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import tree_util

from lamina import ops
from lamina.core import checks, scope, state
from lamina.layer.parts import Composite, walk


class AddedLosses(Composite):
    """A layer's share of the loss: what its calls add, and its weights' regularizers.

    Inside a `StateScope` the scope holds what is added, outside the layer does; each call from outside starts anew.
    """

    _losses: list[Any]
    activity_regularizer: Any

    def add_loss(self, loss: Any) -> None:
        """Add a scalar, or each of a list, to the loss that training minimises: in `call`, where data pass by."""
        losses = loss if isinstance(loss, (list, tuple)) else [loss]
        for value in losses:
            checks.require(np.ndim(value) == 0, self._who, "add_loss must get scalars", got=f"shape {np.shape(value)}")
        if state.current.get() is None and scope.call.get() is None:
            raise ValueError(
                f"{self._who()}: add_loss must be called inside call, or on a functional model with a symbolic scalar, "
                "got a value that the next call would drop; give a penalty on weights as a regularizer."
            )
        self.record_losses(losses)

    def record_losses(self, losses: Sequence[Any]) -> None:
        """Hold what was added until the next call; an open scope holds it for the layer."""
        current = state.current.get()
        if current is not None:
            current.losses.extend((self, value) for value in losses)
        else:
            self._losses.extend(losses)
            _with_losses.add(self)

    def _forget_losses(self) -> None:
        """Drop what the last call added: each call from outside starts anew."""
        current = state.current.get()
        if current is None and _with_losses:
            for layer in walk(self):
                layer._losses.clear()
                _with_losses.discard(layer)
        elif current is not None and current.losses:
            own = {id(layer) for layer in walk(self)}
            current.losses[:] = [pair for pair in current.losses if id(pair[0]) not in own]

    def _regularize(self, outputs: Any) -> None:
        for output in tree_util.tree_leaves(outputs):
            rows = output.shape[0] if output.ndim else 1
            self.record_losses([ops.divide_no_nan(self.activity_regularizer(output), rows)])

    @property
    def losses(self) -> list[Any]:
        """What `add_loss` and the activity regularizers added in the last call, and the weights' regularizers."""
        current, own = state.current.get(), walk(self)
        if current is None:
            added = [loss for layer in own for loss in layer._losses]
        else:
            ids = {id(layer) for layer in own}
            added = [loss for layer, loss in current.losses if id(layer) in ids]
        weights = [v for v in self.trainable_weights if v.regularizer is not None]
        return added + [v.regularizer(v.value) for v in weights]


_with_losses: weakref.WeakSet[AddedLosses] = weakref.WeakSet()  # without any, calls need not look for added losses
