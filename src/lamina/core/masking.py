"""Masks ride on arrays: a table beside them, by identity, that forgets an array when the array dies."""

import contextlib
import functools
import operator
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp

from lamina.core import scope
from lamina.core.scope import Scope

_NAME = "_keras_mask"  # of the attribute in which programs look for the mask of an array
_masks: dict[int, tuple[weakref.ref, Any]] = {}

# Whether elementwise ops pass masks on, and `mask` arguments get that of the first array also where there are more.
# They do here, not in Keras, and a graph from its files keeps to that.
ops_pass: Scope[bool] = Scope("ops_pass", True)


class Watch(NamedTuple):
    """What becomes of masks while a graph is looked at: the ops that passed one on, and the layers that used one."""

    ops: list[str]
    users: list[str]


watched: Scope[Watch | None] = Scope("watched", None)


def with_rows(mask: Any, size: int) -> Any:
    """A mask of `size` rows, or `None`, that leaves out rows which only fill the batch up."""
    counted = scope.rows.get()
    if counted is None:
        return mask
    counts = jnp.arange(size) < counted  # (batch,)
    return counts if mask is None else mask & counts.reshape(-1, *[1] * (mask.ndim - 1))


def note_use(user: str) -> None:
    """Tell who looks at the graph that `user` gets a mask."""
    seen = watched.get()
    if seen is not None:
        seen.users.append(user)


def any_masks() -> bool:
    """Whether a mask rides on any array at all."""
    return bool(_masks)


def get_mask(x: Any) -> Any:
    """The mask that rides on `x`, or `None`."""
    if not _masks:
        return None
    entry = _masks.get(id(x))
    return entry[1] if entry is not None and entry[0]() is x else None


def set_mask(x: Any, mask: Any) -> None:
    """Let `mask` ride on `x`; `None` takes it off."""
    key = id(x)
    with contextlib.suppress(AttributeError):  # tracers take none
        setattr(x, _NAME, mask)
    if mask is None:
        _masks.pop(key, None)
        return
    _masks[key] = (weakref.ref(x, functools.partial(_forget, key)), mask)


def _forget(key: int, ref: weakref.ref, masks: dict = _masks) -> None:  # all bound: arrays may outlive the module
    entry = masks.get(key)
    if entry is not None and entry[0] is ref:
        del masks[key]


def merge_masks(masks: Iterable[Any]) -> Any:
    """True where every mask that is there is true; `None` if none is."""
    found = list({id(m): m for m in masks if m is not None}.values())
    return functools.reduce(operator.and_, found) if found else None


def pass_on(name: str, inputs: Iterable[Any], output: Any) -> None:
    """Give `output`, of the op of this name, the merged mask of `inputs` where it has the axes that the mask is of."""
    if not _masks or not ops_pass.get():
        return
    mask = merge_masks(get_mask(x) for x in inputs)
    if mask is not None and getattr(output, "shape", ())[: mask.ndim] == mask.shape:
        set_mask(output, mask)
        seen = watched.get()
        if seen is not None:
            seen.ops.append(name)
