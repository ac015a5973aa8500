"""Axes rearranged by a pattern of names."""

from __future__ import annotations

import functools
import operator
import re
from typing import Any

import jax.numpy as jnp

from lamina.core.symbolic import op


@op
def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> Any:
    """Axes in another order, split or joined, as `"b (h w) c -> b c h w"` says.

    Args:
        tensor: an array.
        pattern: names of the axes before and after `->`; parentheses join several into one.
        axes_lengths: sizes of names that cannot be derived from the array's shape.
    """
    x = jnp.asarray(tensor)
    sides = pattern.split("->")
    groups = [[g.strip("()").split() for g in re.findall(r"\([^()]*\)|\S+", side)] for side in sides]
    before, after = ([name for group in side for name in group] for side in (groups * 2)[:2])
    if len(groups) != 2 or sorted(before) != sorted(after) or len(set(before)) < len(before):
        raise ValueError(f"rearrange: pattern must have the same names on both sides of '->', got {pattern!r}.")
    if len(groups[0]) != x.ndim:
        raise ValueError(f"rearrange: pattern must name {x.ndim} axes for shape {x.shape}, got {pattern!r}.")
    sizes: dict[str, Any] = dict(axes_lengths)
    for group, length in zip(groups[0], x.shape):
        unknown = [name for name in group if name not in sizes]
        if len(unknown) > 1:
            raise ValueError(f"rearrange: the sizes of all but one of {', '.join(group)} must be given in {pattern!r}.")
        known = _size(sizes, [name for name in group if name in sizes])
        sizes |= {name: length // known for name in unknown}
    split = x.reshape([sizes[name] for name in before])
    joined = [_size(sizes, group) for group in groups[1]]
    return split.transpose([before.index(name) for name in after]).reshape(joined)


def _size(sizes: dict[str, Any], group: list[str]) -> Any:
    return functools.reduce(operator.mul, (sizes[name] for name in group), 1)
