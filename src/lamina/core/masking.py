"""Masks ride on arrays: a table beside them, by identity, that forgets an array when the array dies."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Iterable
from typing import Any

_masks: dict[int, tuple[weakref.ref, Any]] = {}


def get_mask(x: Any) -> Any:
    """The mask that rides on `x`, or `None`."""
    if not _masks:
        return None
    entry = _masks.get(id(x))
    return entry[1] if entry is not None and entry[0]() is x else None


def set_mask(x: Any, mask: Any) -> None:
    """Let `mask` ride on `x`; `None` takes it off."""
    key = id(x)
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


def pass_on(inputs: Iterable[Any], output: Any) -> None:
    """Give `output` the merged mask of `inputs` where it has the axes that the mask speaks of."""
    if not _masks:
        return
    mask = merge_masks(get_mask(x) for x in inputs)
    if mask is not None and getattr(output, "shape", ())[: mask.ndim] == mask.shape:
        set_mask(output, mask)
