"""Losses as functions of `(y_true, y_pred)`: one value for each sample, or for each place in it.

Arguments are arrays, variables, NumPy arrays or lists; the dtype of the result is that of `y_pred`.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import checks, dtypes, masking
from lamina.core.arrays import as_array
from lamina.losses.weighting import align, check_same_shape, class_indices
from lamina.ops import crossentropy
from lamina.ops.ctc import ctc_loss

__all__ = [
    "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy", "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy", "categorical_hinge", "circle", "cosine_similarity", "ctc", "dice",
    "hinge", "huber", "kl_divergence", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "poisson", "sparse_categorical_crossentropy",
    "squared_hinge", "tversky",
]  # fmt: skip

_NARROW = (jnp.float16, jnp.bfloat16)


def on_arrays(fn: Callable) -> Callable:
    """Let `fn` see two arrays of one dtype and as many axes; 16-bit floats are computed in 32 bits."""

    @functools.wraps(fn)
    def wrapper(y_true: Any, y_pred: Any, *args: Any, **kwargs: Any) -> Any:
        y_pred = as_array(y_pred)
        y_true, y_pred = align(as_array(y_true, y_pred.dtype), y_pred)
        if y_pred.dtype not in _NARROW:
            return fn(y_true, y_pred, *args, **kwargs)
        return fn(y_true.astype("float32"), y_pred.astype("float32"), *args, **kwargs).astype(y_pred.dtype)

    return wrapper


@on_arrays
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """`mean((y_true - y_pred)²)` over the last axis."""
    return jnp.mean(jnp.square(y_true - y_pred), -1)


@on_arrays
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """`mean(|y_true - y_pred|)` over the last axis."""
    return jnp.mean(jnp.abs(y_true - y_pred), -1)


@on_arrays
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """`100 · mean(|y_true - y_pred| / |y_true|)` over the last axis."""
    return 100.0 * jnp.mean(jnp.abs((y_true - y_pred) / jnp.maximum(jnp.abs(y_true), dtypes.epsilon())), -1)


@on_arrays
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """`mean((log(1 + y_true) - log(1 + y_pred))²)` over the last axis; values below 0 count as 0."""
    y_true, y_pred = (jnp.log(jnp.maximum(y, dtypes.epsilon()) + 1.0) for y in (y_true, y_pred))
    return jnp.mean(jnp.square(y_true - y_pred), -1)


@on_arrays
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """`mean(e² / 2 if e ≤ delta else delta · e - delta² / 2)` over the last axis, `e = |y_true - y_pred|`.

    Args:
        y_true, y_pred: arrays of one shape.
        delta: the error from which on the loss grows in proportion.
    """
    error = jnp.abs(y_pred - y_true)
    return jnp.mean(jnp.where(error <= delta, 0.5 * jnp.square(error), delta * error - 0.5 * delta**2), -1)


@on_arrays
def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """`mean(log(cosh(y_pred - y_true)))` over the last axis."""
    error = y_pred - y_true
    return jnp.mean(error + jax.nn.softplus(-2.0 * error) - jnp.log(2.0), -1)


@on_arrays
def cosine_similarity(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """`-sum(y_true · y_pred) / (‖y_true‖ ‖y_pred‖)` over `axis`: -1 for the same direction.

    Args:
        y_true, y_pred: arrays of one shape.
        axis: along which the vectors lie.
    """
    return -jnp.sum(_normalized(y_true, axis) * _normalized(y_pred, axis), axis)


def _normalized(x: Any, axis: int) -> Any:
    """`x / ‖x‖` along `axis`, and 0 for the zero vector."""
    square = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, dtypes.epsilon() ** 2))


@on_arrays
def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """`sum(y_true · log(y_true / y_pred))` over the last axis."""
    y_true, y_pred = (jnp.clip(y, dtypes.epsilon(), 1) for y in (y_true, y_pred))
    return jnp.sum(y_true * jnp.log(y_true / y_pred), -1)


@on_arrays
def poisson(y_true: Any, y_pred: Any) -> Any:
    """`mean(y_pred - y_true · log(y_pred))` over the last axis."""
    return jnp.mean(y_pred - y_true * jnp.log(y_pred + dtypes.epsilon()), -1)


@on_arrays
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: Any = -1
) -> Any:
    """`-mean(y_true · log(p) + (1 - y_true) · log(1 - p))` over `axis`.

    Args:
        y_true: targets between 0 and 1.
        y_pred: probabilities `p`.
        from_logits: `y_pred` holds logits, `p = sigmoid(y_pred)`.
        label_smoothing: how much of each target is moved to the middle, 0.5.
        axis: the axis that is averaged.
    """
    check_same_shape("binary_crossentropy", y_true, y_pred)
    return jnp.mean(crossentropy.binary_crossentropy(_smooth(y_true, label_smoothing, 2), y_pred, from_logits), axis)


@on_arrays
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: Any = -1,
) -> Any:
    """`mean((1 - p_t)^gamma · binary crossentropy)`, `p_t` the probability given to the target.

    Lin et al. 2017, Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002

    Args:
        y_true, y_pred: see `binary_crossentropy`.
        apply_class_balancing: weigh class 1 with `alpha` and class 0 with `1 - alpha`.
        alpha: the weight of class 1.
        gamma: how little the easy samples count.
        from_logits, label_smoothing, axis: see `binary_crossentropy`.
    """
    check_same_shape("binary_focal_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    y_pred = jax.nn.sigmoid(y_pred) if from_logits else y_pred
    of_target = y_true * y_pred + (1 - y_true) * (1 - y_pred)
    losses = jnp.power(1.0 - of_target, gamma) * crossentropy.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        losses = losses * (y_true * alpha + (1 - y_true) * (1 - alpha))
    return jnp.mean(losses, axis)


@on_arrays
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: Any = -1
) -> Any:
    """`-sum(y_true · log(p))` over the axis of the classes.

    Args:
        y_true: one-hot targets, or probabilities.
        y_pred: probabilities `p`; they are divided by their sum.
        from_logits: `y_pred` holds logits, `p = softmax(y_pred)`.
        label_smoothing: how much of each target is spread over all classes.
        axis: the axis of the classes.
    """
    _check_classes("categorical_crossentropy", y_true, y_pred, axis)
    return crossentropy.categorical_crossentropy(_smooth(y_true, label_smoothing), y_pred, from_logits, axis)


@on_arrays
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: Any = -1,
) -> Any:
    """`-sum(alpha · (1 - p)^gamma · y_true · log(p))` over the axis of the classes.

    Lin et al. 2017, Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002

    Args:
        y_true, y_pred: see `categorical_crossentropy`.
        alpha: a weight, or one for each class.
        gamma: how little the easy samples count.
        from_logits, label_smoothing, axis: see `categorical_crossentropy`.
    """
    _check_classes("categorical_focal_crossentropy", y_true, y_pred, axis)
    p = crossentropy.clipped_shares(jax.nn.softmax(y_pred, axis) if from_logits else y_pred, axis)
    weight = jnp.power(1.0 - p, gamma) * jnp.asarray(alpha)
    return -jnp.sum(weight * _smooth(y_true, label_smoothing) * jnp.log(p), axis)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: float | None = None, axis: Any = -1
) -> Any:
    """`-log(p[y_true])`, `p` along the axis of the classes.

    >>> loss = lamina.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> round(float(loss([0, 1], [[2.0, 2.0], [9.0, 9.0]])), 4)  # log(2)
    0.6931

    Args:
        y_true: integer classes, of the shape of `y_pred` without the axis of the classes (or with 1 there).
        y_pred: probabilities `p`; they are divided by their sum.
        from_logits: `y_pred` holds logits, `p = softmax(y_pred)`.
        ignore_class: where `y_true` is this, the loss is 0 and masked.
        axis: the axis of the classes.
    """
    y_pred = as_array(y_pred)
    classes = class_indices("sparse_categorical_crossentropy", y_true, y_pred, axis).astype("int32")
    losses = crossentropy.sparse_categorical_crossentropy(classes, y_pred, from_logits, axis)
    losses = losses.astype(y_pred.dtype) if y_pred.dtype in _NARROW else losses
    if ignore_class is not None:
        valid = classes != ignore_class
        losses = jnp.where(valid, losses, 0)
        masking.set_mask(losses, valid)
    return losses


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Any:
    """`(1 - p[y_true]^q) / q`, with `y_true` integer classes: less moved by wrong labels than crossentropy.

    Zhang, Sabuncu 2018, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels,
    https://arxiv.org/abs/1805.07836

    Args:
        y_true: integer classes.
        y_pred: probabilities `p`, the classes along the last axis.
        q: between 0 (crossentropy) and 1 (the mean absolute error), both excluded.
    """
    y_pred = as_array(y_pred)
    classes = class_indices("categorical_generalized_cross_entropy", y_true, y_pred).astype("int32")
    return (1 - jnp.power(crossentropy.at_class(y_pred, classes, -1), q)) / q


def _smooth(y_true: Any, amount: float, classes: int | None = None) -> Any:
    return y_true * (1.0 - amount) + amount / (classes or y_true.shape[-1]) if amount else y_true


def _check_classes(who: str, y_true: Any, y_pred: Any, axis: int) -> None:
    checks.require(not isinstance(axis, bool), who, "axis must be an integer", axis)
    if y_pred.shape[-1:] == (1,):
        warnings.warn(
            f"{who}: y_pred should have more than one class on its last axis, got shape {y_pred.shape}; "
            "for two classes in one column use binary_crossentropy.",
            SyntaxWarning,
            stacklevel=4,
        )
    check_same_shape(who, y_true, y_pred)


def _signs(y_true: Any) -> Any:
    """Targets -1 and 1, also where they were given as 0 and 1."""
    return jnp.where(jnp.all((y_true == 0) | (y_true == 1)), 2.0 * y_true - 1.0, y_true)


@on_arrays
def hinge(y_true: Any, y_pred: Any) -> Any:
    """`mean(max(1 - y_true · y_pred, 0))` over the last axis, with targets -1 and 1 (or 0 and 1)."""
    return jnp.mean(jnp.maximum(1.0 - _signs(y_true) * y_pred, 0.0), -1)


@on_arrays
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """`mean(max(1 - y_true · y_pred, 0)²)` over the last axis, with targets -1 and 1 (or 0 and 1)."""
    return jnp.mean(jnp.square(jnp.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), -1)


@on_arrays
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """`max(1 + max((1 - y_true) · y_pred) - sum(y_true · y_pred), 0)` over the last axis, the classes."""
    right, wrong = jnp.sum(y_true * y_pred, -1), jnp.max((1.0 - y_true) * y_pred, -1)
    return jnp.maximum(wrong - right + 1.0, 0.0)


@on_arrays
def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """`1 - 2 sum(y_true · y_pred) / (sum(y_true) + sum(y_pred))` over `axis`.

    Args:
        y_true, y_pred: targets and predictions between 0 and 1.
        axis: an axis, several, or `None`: all, the batch too.
    """
    both = jnp.sum(y_true * y_pred, axis)
    return 1 - 2.0 * both / (jnp.sum(y_true, axis) + jnp.sum(y_pred, axis) + dtypes.epsilon())


@on_arrays
def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Any:
    """`1 - both / (both + alpha · missed + beta · invented)`, sums over `axis`.

    Salehi et al. 2017, Tversky loss function for image segmentation, https://arxiv.org/abs/1706.05721

    Args:
        y_true, y_pred: targets and predictions between 0 and 1.
        alpha: the weight of what was missed.
        beta: the weight of what was invented.
        axis: an axis, several, or `None`: all, the batch too.
    """
    both = jnp.sum(y_true * y_pred, axis)
    missed, invented = jnp.sum(y_true * (1 - y_pred), axis), jnp.sum((1 - y_true) * y_pred, axis)
    return 1 - both / (both + alpha * missed + beta * invented + dtypes.epsilon())


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Any:
    """`softplus(logsumexp(losses of pairs of one class) + logsumexp(losses of the other pairs))`.

    Sun et al. 2020, Circle Loss, https://arxiv.org/abs/2002.10857

    Args:
        y_true: integer classes `(batch,)`.
        y_pred: unit vectors `(batch, features)`.
        ref_labels, ref_embeddings: what they are compared with; themselves if not given.
        remove_diagonal: leave out the pair of a sample with itself.
        gamma: the scale of the similarities.
        margin: how far from perfect a pair may be.
    """
    y_pred, labels = as_array(y_pred), as_array(y_true, "int32").reshape(-1, 1)
    if len(labels) != len(y_pred):
        given = f"got shape {jnp.shape(y_true)}; of one-hot rows give the argmax"
        raise ValueError(f"circle: y_true must be one class for each of the {len(y_pred)} samples, {given}.")
    others = labels if ref_labels is None else as_array(ref_labels, "int32").reshape(-1, 1)
    vectors = y_pred if ref_embeddings is None else as_array(ref_embeddings)
    distance = jnp.maximum(1 - y_pred @ vectors.T, 0.0)  # (batch, others)
    alike = labels == others.T
    positive = alike & ~jnp.eye(*alike.shape, dtype=bool) if remove_diagonal else alike
    near = -gamma * (margin + distance) * (margin - distance)
    far = gamma * jnp.maximum(1 + margin - distance, 0.0) * (1 - margin - distance)
    near, far = jnp.where(positive, near, -jnp.inf), jnp.where(alike, -jnp.inf, far)
    losses = jax.nn.softplus(jax.nn.logsumexp(near, 1) + jax.nn.logsumexp(far, 1))
    masking.set_mask(losses, losses > 0)
    return losses


def ctc(y_true: Any, y_pred: Any) -> Any:
    """`-log P(y_true | y_pred)`, over all ways to write the labels with repetitions and blanks; 0 is the blank.

    Graves et al. 2006, Connectionist temporal classification, https://doi.org/10.1145/1143844.1143891

    Args:
        y_true: integer labels `(batch, labels)`, filled up with 0.
        y_pred: logits `(batch, time, classes)`.
    """
    y_true, y_pred = as_array(y_true, "int32"), as_array(y_pred)
    rule = "y_true must be (batch, labels) and y_pred (batch, time, classes)"
    checks.require(y_true.ndim == 2 and y_pred.ndim == 3, "ctc", rule, got=f"shapes {y_true.shape} and {y_pred.shape}")
    times = jnp.full(y_pred.shape[:1], y_pred.shape[1])
    return ctc_loss(y_true, y_pred, (y_true != 0).sum(-1), times).astype(y_pred.dtype)
