"""Arrays before training: one-hot labels, unit norms, sequences of one length."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import checks


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """One-hot rows for integer labels: `out[..., c] = 1` where `x == c`.

    Args:
        x: integers from 0; a last axis of size 1 is dropped.
        num_classes: the size of the new last axis, the largest label plus one if not given.
    """
    on_device = isinstance(x, jax.Array)
    labels = _numbers("to_categorical: x", x, "int64")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    count = labels.max(initial=-1) + 1 if num_classes is None else num_classes
    if labels.size and (labels.min() < 0 or labels.max() >= count):
        raise ValueError(f"to_categorical: labels must be from 0 to {count - 1}, got {labels.min()} to {labels.max()}.")
    one_hot = (labels[..., None] == np.arange(count)).astype("float64" if not on_device else "float32")
    return jnp.asarray(one_hot) if on_device else one_hot


def _numbers(what: str, x: Any, dtype: Any) -> np.ndarray:
    try:
        return np.asarray(x, dtype=dtype)
    except (TypeError, ValueError, OverflowError):  # of NumPy, which does not say where
        raise ValueError(f"{what} must hold values of dtype {dtype}, got {checks.shorten(x)}.") from None


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """`x / ||x||` along an axis; zeros stay zeros.

    Args:
        x: an array.
        axis: the axis of the vectors.
        order: of the norm, 2 for the Euclidean one.
    """
    checks.integer("normalize", "order", order)
    array = np if isinstance(x, np.ndarray) else jnp
    x = array.asarray(x)
    norm = array.atleast_1d(array.linalg.norm(x, order, axis))
    norm = array.where(norm == 0, 1, norm)
    return x / array.expand_dims(norm, axis)


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as rows of one array.

    Args:
        sequences: lists or arrays; items may be arrays of one shape.
        maxlen: the length of the rows, that of the longest sequence if not given.
        dtype: of the rows.
        padding, truncating: "pre" or "post": the side to fill, the side to cut.
        value: what to fill with.
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        checks.one_of("pad_sequences", name, side, ("pre", "post"))
    for i, sequence in enumerate(sequences if hasattr(sequences, "__len__") else [sequences]):
        if isinstance(sequence, str) or not hasattr(sequence, "__len__"):
            raise ValueError(f"pad_sequences: sequences[{i}] must be a sequence of items, got {sequence!r}.")
    length = max(map(len, sequences), default=0) if maxlen is None else maxlen
    items = next((np.asarray(s).shape[1:] for s in sequences if len(s)), ())
    if isinstance(value, str) and np.dtype(dtype) != object and not np.issubdtype(np.dtype(dtype), np.str_):
        raise ValueError(f"pad_sequences: dtype must be object or str for the value {value!r}, got {dtype!r}.")
    out = np.full((len(sequences), length, *items), value, dtype=dtype)
    for i, (row, sequence) in enumerate(zip(out, sequences)):
        if not len(sequence) or not length:
            continue
        cut = sequence[-length:] if truncating == "pre" else sequence[:length]
        cut = _numbers(f"pad_sequences: sequences[{i}]", cut, dtype)
        checks.require(cut.shape[1:] == items, "pad_sequences", f"items must all have shape {items}", cut.shape[1:])
        if padding == "pre":
            row[-len(cut) :] = cut
        else:
            row[: len(cut)] = cut
    return out
