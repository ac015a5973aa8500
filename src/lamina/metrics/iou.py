"""Intersection over union of segmentations."""

import warnings
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, dtypes
from lamina.core.arrays import as_array
from lamina.core.budget import spend
from lamina.core.configurable import variant
from lamina.losses.weighting import beside
from lamina.metrics.metric import Metric
from lamina.ops.reductions import argmax


@variant(defaults={"target_class_ids": Parameter.empty})  # which a program must give
class IoU(Metric):
    """`both / either`, pixels of a class that both or either have, averaged over the classes that occur.

    Args:
        num_classes: the number of classes.
        target_class_ids: the classes that are averaged.
        dtype: int32 if not given, in which weights are integers too.
        ignore_class: targets of this class do not count.
        sparse_y_true: whether targets are integers; otherwise scores along `axis`.
        sparse_y_pred: whether predictions are integers; otherwise scores along `axis`.
        axis: the axis of the classes, where there is one.

    Shapes:
        y_true, y_pred: `(batch, ...)`, with `axis` where there are scores; sample_weight: `(batch,)` or
        `(batch, ...)`.

    Raises:
        ValueError: for `target_class_ids` out of range, and for targets of more or fewer places than predictions.
    """

    direction = "max"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int] | None = None,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: float | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(dtype or "int32", name)
        num_classes = checks.integer(self._who, "num_classes", num_classes)
        if target_class_ids is None:
            spend(f"{self._who}: a list", num_classes, nbytes=40, work=1)
            target_class_ids = range(num_classes)
        rule = f"target_class_ids must be less than num_classes {num_classes}"
        checks.require(max(target_class_ids) < num_classes, self._who, rule, list(target_class_ids))
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        self.total_cm = self.add_variable((num_classes, num_classes), name="total_confusion_matrix", dtype=self.dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = as_array(y_true), as_array(y_pred)
        y_true = y_true if self.sparse_y_true else argmax(y_true, self.axis)
        y_pred = y_pred if self.sparse_y_pred else argmax(y_pred, self.axis)
        weight = self._weight(sample_weight, y_true)
        y_true, y_pred = y_true.astype("int32").ravel(), y_pred.astype("int32").ravel()
        rule = f"y_true must have as many places as y_pred, {y_pred.size}"
        checks.require(y_true.shape == y_pred.shape, self._who, rule, y_true.size)
        known = (y_true >= 0) & (y_true < self.num_classes) & (y_pred >= 0) & (y_pred < self.num_classes)
        if self.ignore_class is not None:
            known &= y_true != self.ignore_class
        weight = jnp.where(known, weight, 0)
        place = jnp.where(known, y_true, 0), jnp.where(known, y_pred, 0)
        self.total_cm.assign(self.total_cm.value.at[place].add(weight))

    def _weight(self, sample_weight: Any, y_true: Any) -> Any:
        if sample_weight is None:
            return jnp.ones((), self.dtype)
        weight = as_array(sample_weight)
        if dtypes.is_float(weight.dtype) and not dtypes.is_float(self.dtype):
            what = f"sample_weight is cut to integers, as dtype is {self.dtype}"
            warnings.warn(f"{self._who}: {what}; pass dtype='float32' to keep fractions.", stacklevel=3)
        weight = weight.astype(self.dtype)
        if weight.size == y_true.size:
            return weight.ravel()
        return jnp.broadcast_to(beside(weight, y_true), y_true.shape).ravel()

    def result(self) -> Any:
        matrix, targets = self.total_cm.value, jnp.asarray(self.target_class_ids)
        both = jnp.diag(matrix)
        either = jnp.sum(matrix, 0) + jnp.sum(matrix, 1) - both
        both, either = both[targets].astype("float32"), either[targets].astype("float32")
        occurs = either > 1e-9
        share = jnp.where(occurs, both / (either + dtypes.epsilon()), 0)
        return jnp.sum(share) / (jnp.sum(occurs) + dtypes.epsilon())


class BinaryIoU(IoU):
    """Intersection over union of two classes, 0 and 1, from one prediction.

    Args:
        threshold: predictions of at least this are class 1.
    """

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, as_array(y_pred, "float32") >= self.threshold, sample_weight)


@variant(defaults={"target_class_ids": None}, without=["target_class_ids"])
class MeanIoU(IoU):
    """Intersection over union, averaged over all classes; arguments as in `IoU`."""


_ONE_HOT = variant(defaults={"sparse_y_true": False, "sparse_y_pred": False}, without=["sparse_y_true"])


@_ONE_HOT
class OneHotIoU(IoU):
    """Intersection over union where targets are one-hot."""


@_ONE_HOT
class OneHotMeanIoU(MeanIoU):
    """Intersection over union where targets are one-hot, averaged over all classes; arguments as in `IoU`."""
