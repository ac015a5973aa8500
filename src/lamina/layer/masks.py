"""What `Layer.__call__` does with masks: those on the inputs go in by name, and the outputs get theirs.

The shapes of the masks that an outermost call meets are kept while it runs, so that the loss of one can be told.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jax import tree_util

from lamina.core import masking, tree
from lamina.layer.signature import CallSignature, sizes_of


def only_passes(compute_mask: Any) -> Any:
    """Mark a `compute_mask` that makes no mask where none comes in: then it need not be asked."""
    compute_mask.only_passes = True
    return compute_mask


class Masks:
    """The part of a layer that takes masks and passes them on."""

    # Whether the outputs carry a mask on: classes with an own `compute_mask` do, others say so.
    supports_masking: bool = False
    _makes_mask = False
    _misses_mask = True  # whether a mask that the call takes and does not get may be a lost one
    _who: Callable[[], str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._makes_mask = not hasattr(cls.compute_mask, "only_passes")
        says = next(c for c in cls.__mro__ if {"supports_masking", "compute_mask"} & vars(c).keys())
        if "supports_masking" not in vars(says):
            cls.supports_masking = True

    @only_passes
    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask that the outputs carry on: the input's own, where they keep its axes."""
        del inputs
        return previous_mask

    def _take_masks(
        self, signature: CallSignature, arrays: dict[str, Any], args: tuple, kwargs: dict[str, Any], met: set[tuple]
    ) -> Any:
        """Put the masks that ride on the arrays into the arguments that `call` has for them.

        Returns:
            The mask of the first input: the one that the call was given, or else the one that rides on it.
        """
        by_position = signature.names[: len(args)]
        first = args[by_position.index("mask")] if "mask" in by_position else kwargs.get("mask")
        if not met and not masking.any_masks():
            return first
        found = lacking = False
        for position, (name, value) in enumerate(arrays.items()):
            mask, target = tree.map_as_given(masking.get_mask, value), signature.mask_name(position, name)
            shapes = {m.shape for m in tree_util.tree_leaves(mask)}
            met |= shapes
            if shapes and position == 0 and first is None:
                first = mask
            if shapes and (target != "mask" or len(arrays) == 1 or masking.ops_pass.get()):  # Keras: the only array's
                found = True
                if target is not None and target not in by_position and kwargs.get(target) is None:
                    kwargs[target] = mask
                    masking.note_use(f"{self._who()} {target}")
            elif target is not None:
                lacking = lacking or any(_begins_with(x, met) for x in tree_util.tree_leaves(value))
        if lacking and not found and self._misses_mask and not _has_mask((*zip(by_position, args), *kwargs.items())):
            met.clear()
            warnings.warn(
                f"{self._who()}: gets no mask, but one was made for the same batch and times and lost on the way: by "
                "an operation on plain arrays, or an op in a graph from Keras. Use ops.add (or its like) or layers.Add "
                "there, or pass mask= here.",
                stacklevel=3,
            )
        return first

    def _pass_mask(self, inputs: Any, mask: Any, outputs: Any, met: set[tuple]) -> None:
        """Give the outputs their masks, those that have none yet."""
        targets = [x for x in tree.flatten(outputs) if hasattr(x, "shape")]
        bare = [x for x in targets if masking.get_mask(x) is None]
        if self.supports_masking and bare:
            if mask is None and tree.is_nested(inputs):
                mask = tree.map_structure(lambda _: None, inputs)
            for target, one in zip(targets, tree.flatten(self.compute_mask(inputs, mask))):
                if one is not None and target.shape[: one.ndim] == one.shape and masking.get_mask(target) is None:
                    masking.set_mask(target, one)
                    met.add(one.shape)
        elif not self.supports_masking and len(bare) == len(targets) and (ended := _shapes(mask, inputs)):
            met.difference_update(ended)
            warnings.warn(
                f"{self._who()}: does not support masking, so the mask of its input ends here and later layers see "
                "none. Set its supports_masking = True if its output keeps the axes of the mask.",
                stacklevel=3,
            )


def _shapes(mask: Any, inputs: Any) -> set[tuple]:
    """Those of the masks of the inputs: what a program gives for `mask` may be another thing, such as scores to add."""
    masks, arrays = ([x.shape for x in tree_util.tree_leaves(part) if hasattr(x, "shape")] for part in (mask, inputs))
    return {m for m in masks if any(shape[: len(m)] == m for shape in arrays)}


def _begins_with(x: Any, shapes: set[tuple]) -> bool:
    return any(1 < len(shape) < x.ndim and x.shape[: len(shape)] == shape for shape in shapes)


def _has_mask(arguments: Any) -> bool:
    return any(name.endswith("mask") and value is not None and not isinstance(value, bool) for name, value in arguments)


def check_mask(who: str, mask: Any, x: Any, name: str = "mask", least: int = 2) -> None:
    """A mask is of the same batch and times as `x`, or alike for the whole batch; it has so many axes at `least`."""
    axes, given = sizes_of(x)[:2], sizes_of(mask)
    fit = [_agree(m, n) for m, n in zip(given, axes)]
    if len(given) < least or not (fit[0] or _agree(given[0], 1)) or not all(fit[1:]):
        rule = f"must begin with the axes (batch, time) of its input, {axes}"
        raise ValueError(f"{who}: {name} {rule}, got shape {given}.")


def check_broadcasts(who: str, mask: Any, shape: Sequence[Any], name: str = "mask") -> None:
    """The last axes of a mask have these sizes, or 1."""
    if not all(_agree(m, 1) or _agree(m, n) for m, n in zip(sizes_of(mask)[::-1], shape[::-1])):
        raise ValueError(f"{who}: {name} must broadcast to {tuple(shape)}, got shape {sizes_of(mask)}.")


def _agree(one: Any, other: Any) -> bool:
    return not isinstance(one, int) or not isinstance(other, int) or one == other
