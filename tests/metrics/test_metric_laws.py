"""Laws that hold for every public metric."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import metrics
from lamina.core.state import StateScope

BATCH, UPDATES = 6, 3
random = np.random.default_rng(5)
LABELS = random.integers(0, 4, (UPDATES, BATCH))
ONE_HOT = np.eye(4, dtype="float32")[LABELS]
SHARES = random.dirichlet(np.ones(4), (UPDATES, BATCH)).astype("float32")

of_one_hot = (ONE_HOT, SHARES)
of_classes = (LABELS, SHARES)
of_two_classes = (LABELS, LABELS[::-1])
of_values = (SHARES,)

BASES = ("Metric", "MeanMetricWrapper")
CLASSES = [getattr(metrics, n) for n in metrics.__all__ if n[0].isupper() and n not in BASES]
DATA = {
    metrics.Mean: of_values,
    metrics.Sum: of_values,
    metrics.SparseCategoricalAccuracy: of_classes,
    metrics.SparseCategoricalCrossentropy: of_classes,
    metrics.SparseTopKCategoricalAccuracy: of_classes,
    metrics.Accuracy: of_two_classes,
    metrics.IoU: of_two_classes,
    metrics.MeanIoU: of_two_classes,
}
REQUIRED = {
    metrics.IoU: {"num_classes": 4, "target_class_ids": [0, 2]},
    metrics.MeanIoU: {"num_classes": 4},
    metrics.OneHotIoU: {"num_classes": 4, "target_class_ids": [0, 2]},
    metrics.OneHotMeanIoU: {"num_classes": 4},
    metrics.SensitivityAtSpecificity: {"specificity": 0.4},
    metrics.SpecificityAtSensitivity: {"sensitivity": 0.4},
    metrics.PrecisionAtRecall: {"recall": 0.4},
    metrics.RecallAtPrecision: {"precision": 0.4},
    metrics.TopKCategoricalAccuracy: {"k": 2},
    metrics.SparseTopKCategoricalAccuracy: {"k": 2},
}
NOT_DEFAULT = {
    metrics.BinaryAccuracy: {"threshold": 0.2},
    metrics.BinaryCrossentropy: {"from_logits": True, "label_smoothing": 0.2},
    metrics.CategoricalCrossentropy: {"from_logits": True, "label_smoothing": 0.2},
    metrics.SparseCategoricalCrossentropy: {"from_logits": True, "ignore_class": 1},
    metrics.SparseTopKCategoricalAccuracy: {"k": 1, "from_sorted_ids": True},
    metrics.CosineSimilarity: {"axis": 0},
    metrics.PearsonCorrelation: {"axis": 0},
    metrics.R2Score: {"class_aggregation": None, "num_regressors": 2},
    metrics.Precision: {"thresholds": [0.2, 0.3], "class_id": 1},
    metrics.Recall: {"top_k": 2},
    metrics.TruePositives: {"thresholds": 0.2},
    metrics.F1Score: {"average": "micro", "threshold": 0.2},
    metrics.FBetaScore: {"beta": 3.0},
    metrics.BinaryIoU: {"target_class_ids": [1], "threshold": 0.2},
    metrics.MeanIoU: {"num_classes": 4, "ignore_class": 0},
    metrics.PrecisionAtRecall: {"recall": 0.1, "num_thresholds": 5, "class_id": 1},
    metrics.AUC: {
        "curve": "PR", "summation_method": "majoring", "thresholds": [0.2, 0.4], "multi_label": True,
        "num_labels": 4, "label_weights": [1.0, 0.0, 2.0, 1.0], "from_logits": True,
    },
}  # fmt: skip
every_metric = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def make(cls, **arguments):
    return cls(**{**REQUIRED.get(cls, {}), **arguments})


def batch(cls, i=0):
    return tuple(y[i] for y in DATA.get(cls, of_one_hot))


def over_all_batches(metric):
    for i in range(UPDATES):
        metric.update_state(*batch(type(metric), i))
    return metric.result()


@every_metric
def test_config_round_trip_loses_nothing(cls):
    metric = make(cls, **NOT_DEFAULT.get(cls, {}), name="other", dtype="float32")
    twin = metrics.deserialize(metrics.serialize(metric))
    assert type(twin) is cls
    assert twin.name == "other"
    assert twin.get_config() == metric.get_config()
    np.testing.assert_array_equal(over_all_batches(twin), over_all_batches(metric))


@every_metric
def test_a_pickled_metric_goes_on_as_the_same(cls):
    metric = make(cls, **NOT_DEFAULT.get(cls, {}))
    metric.update_state(*batch(cls))
    twin = pickle.loads(pickle.dumps(metric))
    for each in (metric, twin):
        each.update_state(*batch(cls, 1))
    np.testing.assert_array_equal(twin.result(), metric.result())


@every_metric
def test_stateless_use_in_a_compiled_loop_is_eager_use(cls):
    metric, twin = make(cls), make(cls)
    expected = over_all_batches(twin)
    metric.update_state(*batch(cls))  # makes the variables of those that wait for a batch
    metric.reset_state()
    data = DATA.get(cls, of_one_hot)

    @jax.jit
    def run(state, data):
        step = lambda i, state: metric.stateless_update_state(state, *(y[i] for y in data))  # noqa: E731
        state = jax.lax.fori_loop(0, UPDATES, step, state)
        return metric.stateless_result(state), state

    result, state = run([v.value for v in metric.variables], data)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    for mine, other, own in zip(state, twin.variables, metric.variables):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
        assert not np.asarray(own).any()


@every_metric
def test_a_scope_holds_the_state_while_it_is_open(cls):
    metric = make(cls)
    with StateScope() as scope:
        metric.update_state(*batch(cls))
        inside = metric.result()
        values = scope.values(metric.variables)
    assert all(not np.asarray(v).any() for v in metric.variables)
    np.testing.assert_array_equal(metric.stateless_result(values), inside)


@every_metric
def test_reset_gives_the_initial_result(cls):
    metric = make(cls)
    initial = np.asarray(metric.result())
    metric.update_state(*batch(cls))
    metric.reset_state()
    assert np.isfinite(initial).all()
    np.testing.assert_array_equal(metric.result(), initial)
    np.testing.assert_array_equal(metric.stateless_result(metric.stateless_reset_state()), initial)


@every_metric
def test_a_reset_metric_is_a_new_one(cls):
    metric = make(cls)
    first = over_all_batches(metric)
    metric.reset_state()
    np.testing.assert_array_equal(over_all_batches(metric), first)


def weights(cls, value):
    shape = LABELS[0].shape if issubclass(cls, metrics.IoU) and cls is not metrics.BinaryIoU else (BATCH,)
    if cls is metrics.BinaryIoU:
        shape = ONE_HOT[0].shape
    return np.full(shape, value, "int32" if issubclass(cls, metrics.IoU) else "float32")


@every_metric
def test_weights_of_one_change_nothing(cls):
    metric, twin = make(cls), make(cls)
    metric.update_state(*batch(cls), sample_weight=weights(cls, 1))
    twin.update_state(*batch(cls))
    np.testing.assert_allclose(metric.result(), twin.result(), rtol=1e-6)


@every_metric
def test_samples_of_weight_zero_do_not_count(cls):
    metric, twin = make(cls), make(cls)
    metric.update_state(*batch(cls))
    metric.update_state(*batch(cls, 1), sample_weight=weights(cls, 0))
    twin.update_state(*batch(cls))
    np.testing.assert_allclose(metric.result(), twin.result(), rtol=1e-6)


@every_metric
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_predictions_give_finite_results(cls, dtype):
    metric = make(cls)
    *y_true, y_pred = batch(cls)
    if cls is metrics.MeanAbsolutePercentageError:
        y_true = [y_true[0] + 1]  # in percent of 0, nothing fits into float16
    metric.update_state(*y_true, jnp.asarray(y_pred, dtype if y_pred.dtype == "float32" else None))
    assert np.isfinite(np.asarray(metric.result())).all()


@every_metric
def test_get_by_name_or_configuration(cls):
    assert type(metrics.get({"class_name": cls.__name__, "config": REQUIRED.get(cls, {})})) is cls
    for name in () if cls in REQUIRED else (cls.__name__, cls.__name__.upper(), cls.__name__.lower()):
        assert type(metrics.get(name)) is cls


@every_metric
def test_variables_are_not_trained_and_have_the_path_of_the_metric(cls):
    metric = make(cls, name="deep/name")
    metric.update_state(*batch(cls))
    assert metric.variables
    assert all(not v.trainable and v.path.startswith("deep>name/") for v in metric.variables)
