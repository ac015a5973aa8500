"""What is wrong with data: rules over the values of the first batch, looked at once, on the host.

A certain mistake is an error; what only looks like one is a warning. Each names the place and the remedy. The rules
know arrays and a few facts, no model; `training/objectives.py` finds the facts.
"""

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

    @property
    def wanted(self) -> tuple[int, ...]:
        """The shape of the output; sizes that are not known are those of the values, or 1."""
        known = [n if n is not None else m for n, m in zip(self.shape, self.y.shape)]
        return (*known, *(n or 1 for n in self.shape[len(known) :]))

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


def _broadcasts(target: Target) -> bool:
    """`(n, 1)` beside `(n, k)`: each value would be compared with all outputs of its row."""
    given, wanted = target.y.shape, target.wanted
    if (*given, 1) == wanted or given == (*wanted, 1) or given == wanted:
        return False
    try:
        return bool(np.broadcast_shapes(given, wanted))
    except ValueError:
        return False  # the loss says so


def _no_such_class(target: Target) -> Any:
    if target.classes is None:
        return False
    return (target.y != target.ignore_class) & ((target.y < 0) | (target.y >= target.classes))


def _about_classes(target: Target) -> str:
    known = target.y[target.counted(target.y.ndim) & (target.y != target.ignore_class)]
    low, high = int(known.min()), int(known.max())
    if low < 0:
        return f"ignore_class={low} in the loss leaves these out"
    if target.classes == 1:
        return "use binary_crossentropy for one unit, or one unit for each class"
    if low > 0 and high == target.classes:
        return f"where classes count from 1, give {target.what} - 1"
    return f"the last layer needs a unit for each class, {high + 1} of them"


def _about_two(target: Target) -> str:
    values = set(np.unique(target.y)[:3].tolist())
    if values <= {1, 2}:
        return f"give {target.what} - 1"
    if values <= {-1, 1}:
        return f"give ({target.what} + 1) / 2, or use hinge"
    return "for several classes use sparse_categorical_crossentropy, for numbers a loss such as mse"


def _outside(target: Target) -> Any:
    return (target.y < 0) | (target.y > 1)


def _not_wide(target: Target) -> bool:
    """Classes as numbers where they are to be as wide as the output."""
    given, wide = target.y.shape, target.classes not in (None, 1)
    return given != target.shape and wide and given[len(target.shape) - 1 :] in ((), (1,))


def _not_one_hot(target: Target) -> Any:
    if not -target.y.ndim <= target.axis < target.y.ndim:
        return False
    total = target.y.astype(np.float64).sum(target.axis)
    return (np.abs(total - 1) > 1e-2) & (np.abs(total) > 1e-2)


class Rule(NamedTuple):
    """What may be wrong with a target.

    Attributes:
        certain: whether it is an error, and not only looks like one.
        kinds: of targets that it is about.
        wrong: which values are wrong, or whether the target is.
        text: what is said then; `{found}` is the first of these values and its place.
        remedy: what helps, where that depends on the target.
    """

    certain: bool
    kinds: str
    wrong: Callable[[Target], Any]
    text: str
    remedy: Callable[[Target], str] = lambda target: ""


RULES = (
    Rule(True, "values binary signs shares", _broadcasts,
         "must have the shape of the output {t.wanted}, got {t.y.shape}, which {t.loss} would broadcast; "
         "change the units of the last layer, or give np.broadcast_to({t.what}, ...)"),
    Rule(True, "classes", lambda t: t.y.dtype.kind == "f" and t.y != np.rint(t.y),
         "must hold whole numbers, the classes, for {t.loss}, got {found}; "
         "for probabilities use categorical_crossentropy, for numbers a loss such as mse"),
    Rule(True, "classes", _no_such_class, "must hold classes from 0 to {last} for {t.loss}, got {found}; {remedy}",
         _about_classes),
    Rule(True, "binary", lambda t: _outside(t) & np.all(t.y == np.rint(t.y)),
         "must lie between 0 and 1 for {t.loss}, got {found}; {remedy}", _about_two),
    Rule(False, "binary", _outside,  # and not whole numbers, which the rule above refuses: labels with noise
         "should lie between 0 and 1 for {t.loss}, got {found}"),
    Rule(True, "one_hot", _not_wide,
         "must be one-hot for {t.loss}, with {t.classes} values in the last axis, got shape {t.y.shape}; use "
         "sparse_categorical_crossentropy, or give to_categorical({t.what}, {t.classes})"),
    Rule(False, "one_hot", _not_one_hot,
         "should be one-hot, or add up to 1, for {t.loss}, does not {found}; "
         "for several classes at once use binary_crossentropy and sigmoid"),
    Rule(False, "signs", lambda t: ~np.isin(t.y, (-1, 0, 1)),
         "should hold -1 and 1 (or 0 and 1) for {t.loss}, got {found}"),
    Rule(False, "shares", _outside,
         "should lie between 0 and 1 for {t.loss}, got {found}, which is cut"),
    Rule(False, "values binary one_hot classes signs shares",
         lambda t: t.activation == "softmax" and t.shape[-1] == 1,
         "has an output of one unit with softmax, which is 1 whatever goes in; use sigmoid"),
    Rule(False, "binary one_hot classes shares", lambda t: not t.from_logits and t.activation in _UNBOUNDED,
         "meets {t.loss} of probabilities, but the last layer has activation {t.activation}; "
         "give it {remedy}, or the loss from_logits=True",
         lambda t: "sigmoid" if t.kind == "binary" else "softmax"),
    Rule(False, "binary one_hot classes", lambda t: t.from_logits and t.activation in ("softmax", "sigmoid"),
         "meets {t.loss} of logits, but the last layer has activation {t.activation}; "
         "leave one out: from_logits=True or the activation"),
)  # fmt: skip


def check_target(target: Target, who: str) -> None:
    """Raise for what is certainly wrong with a target, and warn of what seems so."""
    for rule in RULES:
        wrong = rule.wrong(target) if target.kind in rule.kinds.split() else False
        found = target.first(wrong) if isinstance(wrong, np.ndarray) else wrong
        if found:
            facts = {"t": target, "found": found, "last": (target.classes or 0) - 1, "remedy": rule.remedy(target)}
            problem = f"{who}: {target.what} {rule.text.format_map(facts)}."
            if rule.certain:
                raise ValueError(problem)
            warnings.warn(problem, stacklevel=2)


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
