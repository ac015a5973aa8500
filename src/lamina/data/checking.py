"""What is wrong with data: rules over the values of the first batch, looked at once, on the host.

A certain mistake is an error; what only looks like one is a warning. Each names the place and the remedy. The rules
know arrays and a few facts, no model; `training/objectives.py` finds the facts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util

# Activations whose outputs are not probabilities.
_UNBOUNDED = frozenset({"linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "tanh", "softplus"})


class Target(NamedTuple):
    """The target of one output in the first batch, and what is known of its loss and output.

    Attributes:
        y: the values.
        what: how messages call them, such as `y` or `y["a"]`.
        loss: the name of the loss.
        kind: what targets the loss takes: "values", "binary", "one_hot", "classes", "signs", "shares"; "" if unknown.
        shape: of the output, with the rows of the batch; `None` for a size that is not known.
        axis: of the classes.
        from_logits: whether the loss takes logits and not probabilities.
        ignore_class: the class that the loss leaves out.
        activation: the name of the last layer's, `None` if unknown.
        weight: sample weights; where they are 0, no value is wrong.
        masked: whether a mask may hide places.
    """

    y: np.ndarray
    what: str
    loss: str
    kind: str
    shape: tuple[int | None, ...]
    axis: int = -1
    from_logits: bool = False
    ignore_class: int | None = None
    activation: str | None = None
    weight: np.ndarray | None = None
    masked: bool = False

    @property
    def classes(self) -> int | None:
        """How many classes the output has."""
        return dict(enumerate(self.shape)).get(self.axis % max(len(self.shape), 1))

    def first(self, wrong: np.ndarray) -> str:
        """The value and the place of the first of the wrong ones that count; empty if there is none."""
        wrong = wrong & self.counted(wrong.ndim)
        if not wrong.any():
            return ""
        place = _first(wrong)
        value = f"{self.y[place]} " if wrong.shape == self.y.shape else ""
        return f"{value}in {_place(place)}"

    def counted(self, ndim: int) -> Any:
        """Where values count: not behind a mask, nor where a weight is 0."""
        if self.masked and ndim > 1:
            return False
        weight = self.weight
        if weight is None or weight.ndim > ndim or weight.shape != self.y.shape[: weight.ndim]:
            return True
        return (weight != 0).reshape(*weight.shape, *[1] * (ndim - weight.ndim))


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(wrong), wrong.shape))


def _place(place: tuple[int, ...]) -> str:
    row, *further = place
    if not further:
        return f"row {row}"
    return f"row {row}, column {further[0]}" if len(further) == 1 else f"row {row}, at {tuple(further)}"


def _broadcasts(target: Target) -> str:
    """`(n, 1)` beside `(n, k)`: each value would be compared with all outputs of its row."""
    given, wanted = target.y.shape, tuple(n if n is not None else m for n, m in zip(target.shape, target.y.shape))
    wanted += tuple(n or 1 for n in target.shape[len(wanted) :])
    if (*given, 1) == wanted or given == (*wanted, 1) or given == wanted:
        return ""
    try:
        np.broadcast_shapes(given, wanted)
    except ValueError:
        return ""  # the loss says so
    return (
        f"must have the shape of the output {wanted}, got {given}, which {target.loss} would broadcast; "
        f"change the units of the last layer, or give np.broadcast_to({target.what}, ...)"
    )


def _parts_of_classes(target: Target) -> str:
    found = target.first(target.y != np.rint(target.y)) if target.y.dtype.kind == "f" else ""
    return found and (
        f"must hold whole numbers, the classes, for {target.loss}, got {found}; "
        "for probabilities use categorical_crossentropy, for numbers a loss such as mse"
    )


def _no_such_class(target: Target) -> str:
    count = target.classes
    if count is None:
        return ""
    counted = target.counted(target.y.ndim) & (target.y != target.ignore_class)
    wrong = counted & ((target.y < 0) | (target.y >= count))
    found = target.first(wrong)
    if not found:
        return ""
    low, high = int(target.y[counted].min()), int(target.y[counted].max())
    remedy = f"the last layer needs a unit for each class, {high + 1} of them"
    if low < 0:
        remedy = f"ignore_class={low} in the loss leaves these out"
    elif count == 1:
        remedy = "use binary_crossentropy for one unit, or one unit for each class"
    elif low > 0 and high == count:
        remedy = f"where classes count from 1, give {target.what} - 1"
    return f"must hold classes from 0 to {count - 1} for {target.loss}, got {found}; {remedy}"


def _not_binary(target: Target) -> str:
    found = target.first((target.y < 0) | (target.y > 1))
    if not found:
        return ""
    remedy = "for several classes use sparse_categorical_crossentropy, for numbers a loss such as mse"
    values = set(np.unique(target.y)[:3].tolist())
    if values <= {1, 2}:
        remedy = f"give {target.what} - 1"
    elif values <= {-1, 1}:
        remedy = f"give ({target.what} + 1) / 2, or use hinge"
    return f"must lie between 0 and 1 for {target.loss}, got {found}; {remedy}"


def _not_wide(target: Target) -> str:
    """Classes as numbers where they are to be as wide as the output."""
    given, count = target.y.shape, target.classes
    if given == target.shape or count in (None, 1) or given[len(target.shape) - 1 :] not in ((), (1,)):
        return ""
    return (
        f"must be one-hot for {target.loss}, with {count} values in the last axis, got shape {given}; use "
        f"sparse_categorical_crossentropy, or give to_categorical({target.what}, {count})"
    )


def _not_one_hot(target: Target) -> str:
    if not -target.y.ndim <= target.axis < target.y.ndim:
        return ""
    total = target.y.astype(np.float64).sum(target.axis)
    found = target.first((np.abs(total - 1) > 1e-2) & (np.abs(total) > 1e-2))
    return found and (
        f"should be one-hot, or add up to 1, for {target.loss}, does not {found}; "
        "for several classes at once use binary_crossentropy and sigmoid"
    )


def _not_signs(target: Target) -> str:
    found = target.first(~np.isin(target.y, (-1, 0, 1)))
    return found and f"should hold -1 and 1 (or 0 and 1) for {target.loss}, got {found}"


def _not_shares(target: Target) -> str:
    found = target.first((target.y < 0) | (target.y > 1))
    return found and f"should lie between 0 and 1 for {target.loss}, got {found}, which is cut"


def _lonely_softmax(target: Target) -> str:
    if target.activation != "softmax" or target.shape[-1] != 1:
        return ""
    return "has an output of one unit with softmax, which is 1 whatever goes in; use sigmoid"


def _logits(target: Target) -> str:
    if target.from_logits or target.activation not in _UNBOUNDED:
        return ""
    remedy = "sigmoid" if target.kind == "binary" else "softmax"
    return (
        f"meets {target.loss} of probabilities, but the last layer has activation {target.activation}; "
        f"give it {remedy}, or the loss from_logits=True"
    )


def _twice(target: Target) -> str:
    if not target.from_logits or target.activation not in ("softmax", "sigmoid"):
        return ""
    return (
        f"meets {target.loss} of logits, but the last layer has activation {target.activation}; "
        "leave one out: from_logits=True or the activation"
    )


# (whether it is certain, for which kinds of targets, what says what is wrong)
RULES: tuple[tuple[bool, str, Callable[[Target], str]], ...] = (
    (True, "values binary signs shares", _broadcasts),
    (True, "classes", _parts_of_classes),
    (True, "classes", _no_such_class),
    (True, "binary", _not_binary),
    (True, "one_hot", _not_wide),
    (False, "one_hot", _not_one_hot),
    (False, "signs", _not_signs),
    (False, "shares", _not_shares),
    (True, "values binary one_hot classes signs shares", _lonely_softmax),
    (False, "binary one_hot classes shares", _logits),
    (False, "binary one_hot classes", _twice),
)


def check_target(target: Target, who: str) -> None:
    """Raise for what is certainly wrong with a target, and warn of what seems so."""
    for certain, kinds, rule in RULES:
        problem = rule(target) if target.kind in kinds.split() else ""
        if problem and certain:
            raise ValueError(f"{who}: {target.what} {problem}.")
        if problem:
            warnings.warn(f"{who}: {target.what} {problem}.", stacklevel=2)


def check_values(value: Any, name: str, who: str) -> None:
    """Warn of values that are not finite in the arrays of a structure: they spoil every weight that they meet."""
    for keys, leaf in tree_util.tree_flatten_with_path(value)[0]:
        array = np.asarray(leaf)
        if array.dtype.kind not in "fV" or _all_finite(array):  # kind V: bfloat16
            continue
        wrong = ~np.isfinite(array)
        place = _first(wrong)
        what, given = name + tree_util.keystr(keys), f"{np.count_nonzero(wrong)} in the first batch"
        found = f"{given}, the first ({array[place]}) in {_place(place)}"
        remedy = "leave out these rows, or fill the gaps (np.nan_to_num)"
        warnings.warn(f"{who}: {what} should hold finite numbers, has others: {found}; {remedy}.", stacklevel=2)


def _all_finite(array: np.ndarray) -> bool:
    with np.errstate(all="ignore"):  # the sum needs no memory; where it overflows, the values are looked at
        return bool(np.isfinite(array.sum(dtype=np.float32)) or np.isfinite(array).all())


def check_range(array: np.ndarray, dtype: Any, path: str, who: str) -> None:
    """Raise if integers do not fit into the dtype that JAX has for theirs: they would become others in silence."""
    limits = np.iinfo(dtype)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        place = _first((array < limits.min) | (array > limits.max))
        found = f"got {array[place]} in {_place(place)}"
        remedy = "number the values anew (np.unique with return_inverse), or give floats"
        raise ValueError(f"{who}: {path} must hold integers from {limits.min} to {limits.max}, {found}; {remedy}.")
