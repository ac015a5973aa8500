"""The area under a curve that the confusion counts draw as the threshold moves."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import checks, dtypes
from lamina.core.arrays import as_array
from lamina.metrics.confusion import ConfusionMetric, aligned, even_thresholds
from lamina.ops.numpy import divide_no_nan

# The height over a piece of the curve, from those at its ends.
SUMMATIONS = {"interpolation": lambda a, b: (a + b) / 2.0, "minoring": jnp.minimum, "majoring": jnp.maximum}


class AUC(ConfusionMetric):
    """The area under the ROC or the precision-recall curve, as a Riemann sum over thresholds.

    Args:
        num_thresholds: how many thresholds from 0 to 1 there are.
        curve: `"ROC"`, `"PR"` or `"PRGAIN"` (Flach, Kull 2015, Precision-Recall-Gain Curves).
        summation_method: the height between two thresholds: `"interpolation"`, `"minoring"` or `"majoring"`.
        thresholds: further thresholds between 0 and 1, in place of even ones.
        multi_label: one area for each label, then their mean.
        num_labels: the number of labels, if it is to be known before the first batch.
        label_weights: what each label counts.
        from_logits: `y_pred` holds logits.

    Shapes:
        y_true, y_pred: `(batch, ...)`, `(batch, labels)` with `multi_label`; sample_weight: `(batch,)`;
        result: `()`.
    """

    _omit_none = frozenset({"thresholds"})

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ):
        self.curve = checks.one_of("AUC", "curve", _word(curve).upper(), ("ROC", "PR", "PRGAIN"))
        self.summation_method = checks.one_of("AUC", "summation_method", _word(summation_method).lower(), SUMMATIONS)
        if thresholds is None and num_thresholds <= 1:
            raise ValueError(f"AUC: num_thresholds must be at least 2, got {num_thresholds}.")
        if num_labels and not multi_label:
            raise ValueError(f"AUC: num_labels must be given with multi_label=True only, got {num_labels}.")
        inner = even_thresholds(num_thresholds)[1:-1] if thresholds is None else sorted(thresholds)
        checks.require(all(0 <= t <= 1 for t in inner), "AUC", "thresholds must be between 0 and 1", thresholds)
        self._inner = None if thresholds is None else [float(t) for t in inner]
        self.num_thresholds = len(inner) + 2
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        super().__init__([-dtypes.epsilon(), *inner, 1.0 + dtypes.epsilon()], name, dtype)
        self.label_weights = None if label_weights is None else jnp.asarray(label_weights, self.dtype)

    def _add_counts(self, shape: tuple[int, ...]) -> None:
        if self.multi_label:
            if not self.num_labels:
                return  # when the first batch tells how many labels there are
            shape = (*shape, self.num_labels)
        super()._add_counts(shape)
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if self.from_logits:
            y_pred = jax.nn.sigmoid(as_array(y_pred))
        y_true, y_pred, weight = aligned(self._who, y_true, y_pred, sample_weight)
        weight = jnp.broadcast_to(weight, y_pred.shape)
        if not self.multi_label:
            if self.label_weights is not None:
                weight = weight * self.label_weights
            y_true, y_pred, weight = (x.reshape(-1, 1) for x in (y_true, y_pred, weight))
        elif y_pred.ndim != 2:
            raise ValueError(f"{self._who}: y_pred must have shape (batch, labels), got {y_pred.shape}.")
        elif not self._built:
            super()._add_counts((self.num_thresholds, y_pred.shape[1]))
            self._built = True
        self._count(y_true, y_pred, weight)

    def result(self) -> Any:
        if not self._built:
            return jnp.zeros((), self.dtype)
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = self._interpolated_precision()
        else:
            x, y = self._curve()
            areas = (x[:-1] - x[1:]) * SUMMATIONS[self.summation_method](y[:-1], y[1:])
        area = jnp.sum(areas, 0)  # () or (labels,)
        if not self.multi_label:
            return area
        if self.label_weights is None:
            return jnp.mean(area)
        return divide_no_nan(jnp.sum(area * self.label_weights), jnp.sum(self.label_weights))

    def _curve(self) -> tuple[Any, Any]:
        """The coordinates of the curve at each threshold."""
        if self.curve == "ROC":
            return self.rate("fall_out"), self.rate("recall")
        if self.curve == "PR":
            return self.rate("recall"), self.rate("precision")
        tp, fp, tn, fn = (getattr(self, cell).value for cell in self._kept)
        ratio = divide_no_nan(tp + fn, tn + fp)  # positives to negatives
        recall = jnp.where(tp == 0, 0.0, 1.0 - ratio * divide_no_nan(fn, tp))
        precision = jnp.where(tp == 0, 1.0, 1.0 - ratio * divide_no_nan(fp, tp))
        return jnp.maximum(recall, 0.0), precision

    def _interpolated_precision(self) -> Any:
        """The area under the precision-recall curve between each threshold `a` and the next, `b`.

        True positives are linear in all positives there, `tp = intercept + slope · p`, so the integral of the
        precision `tp / p` over `tp` is `slope · (tp_a - tp_b + intercept · log(p_a / p_b))`.

        Davis, Goadrich 2006, The Relationship Between Precision-Recall and ROC Curves,
        https://doi.org/10.1145/1143844.1143874
        """
        tp, fp, _, fn = (getattr(self, cell).value for cell in self._kept)
        p = tp + fp
        step = tp[:-1] - tp[1:]
        slope = divide_no_nan(step, jnp.maximum(p[:-1] - p[1:], 0))
        intercept = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0) & (p[1:] > 0)
        ratio = jnp.where(both, divide_no_nan(p[:-1], jnp.maximum(p[1:], 0)), 1.0)
        return divide_no_nan(slope * (step + intercept * jnp.log(ratio)), jnp.maximum(tp[1:] + fn[1:], 0))

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        if name == "thresholds":
            return self._inner
        value = super()._argument(owner, name, recorded)
        return np.asarray(value).tolist() if name == "label_weights" and value is not None else value


def _word(given: Any) -> str:
    return str(getattr(given, "value", given))
