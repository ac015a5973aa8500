"""Metrics beside those of Keras 3.15.1: values over several batches, variables, configurations, names."""

import inspect
import re

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src.trainers.compile_utils import get_loss, get_metric

from lamina import metrics
from lamina.core import masking
from lamina.losses.loss import target_kind

# Keras asks JAX for 64-bit indices in its confusion matrix.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")

BATCH, CLASSES, UPDATES = 6, 4, 3
random = np.random.default_rng(11)


def batches(make):
    return [make() for _ in range(UPDATES)]


def values():
    return random.uniform(-2, 2, (2, BATCH, CLASSES)).astype("float32")


def positive():
    return np.abs(values())


def binary():
    y_pred = np.round(random.uniform(size=(BATCH, CLASSES)), 1).astype("float32")  # ties with thresholds too
    return random.integers(0, 2, (BATCH, CLASSES)).astype("float32"), y_pred


def one_binary():
    return tuple(y[:, :1] for y in binary())


def flat_binary():
    return tuple(y[:, 0] for y in binary())


def logits():
    return random.integers(0, 2, (BATCH, CLASSES)).astype("float32"), values()[0]


def shares():
    return random.dirichlet(np.ones(CLASSES), (2, BATCH)).astype("float32")


def classes():
    return random.integers(0, CLASSES, BATCH), shares()[0]


def class_column():
    labels, y_pred = classes()
    return labels[:, None], y_pred


def class_sequence():
    return random.integers(0, CLASSES, (BATCH, 3)), random.uniform(size=(BATCH, 3, CLASSES)).astype("float32")


def one_hot():
    labels, y_pred = classes()
    return np.eye(CLASSES, dtype="float32")[labels], y_pred


def one_hot_sequence():
    labels, y_pred = class_sequence()
    return np.eye(CLASSES, dtype="float32")[labels], y_pred


def sorted_ids():
    labels, y_pred = classes()
    return labels, np.argsort(-y_pred, -1)


def pairs_of_classes():
    return random.integers(0, CLASSES, (2, BATCH, 5))


def with_unknown_classes():
    return random.integers(-1, CLASSES + 1, (2, BATCH, 5))


# class, arguments, what makes (y_true, y_pred)
ROWS = [
    ("MeanSquaredError", {}, values),
    ("RootMeanSquaredError", {}, values),
    ("MeanAbsoluteError", {}, values),
    ("MeanAbsolutePercentageError", {}, values),
    ("MeanSquaredLogarithmicError", {}, positive),
    ("LogCoshError", {}, values),
    ("CosineSimilarity", {}, values),
    ("CosineSimilarity", {"axis": 1}, values),
    ("PearsonCorrelation", {}, values),
    ("ConcordanceCorrelation", {}, values),
    ("R2Score", {}, values),
    ("R2Score", {"class_aggregation": None}, values),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}, values),
    ("KLDivergence", {}, shares),
    ("Poisson", {}, positive),
    ("Hinge", {}, logits),
    ("SquaredHinge", {}, logits),
    ("CategoricalHinge", {}, one_hot),
    ("BinaryCrossentropy", {}, binary),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, logits),
    ("CategoricalCrossentropy", {}, one_hot),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, one_hot),
    ("SparseCategoricalCrossentropy", {}, classes),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, classes),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, class_column),
    ("Accuracy", {}, pairs_of_classes),
    ("BinaryAccuracy", {}, binary),
    ("BinaryAccuracy", {"threshold": 0.3}, one_binary),
    ("CategoricalAccuracy", {}, one_hot),
    ("CategoricalAccuracy", {}, one_hot_sequence),
    ("SparseCategoricalAccuracy", {}, classes),
    ("SparseCategoricalAccuracy", {}, class_column),
    ("SparseCategoricalAccuracy", {}, class_sequence),
    ("TopKCategoricalAccuracy", {"k": 2}, one_hot),
    ("TopKCategoricalAccuracy", {"k": 2}, one_hot_sequence),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, classes),
    ("SparseTopKCategoricalAccuracy", {"k": 1}, class_sequence),
    ("SparseTopKCategoricalAccuracy", {"k": 3, "from_sorted_ids": True}, sorted_ids),
    ("TruePositives", {}, binary),
    ("TrueNegatives", {"thresholds": [0.2, 0.5, 0.9]}, binary),
    ("FalsePositives", {"thresholds": [0.0, 0.5, 1.0]}, binary),
    ("FalseNegatives", {"thresholds": 0.3}, flat_binary),
    ("Precision", {}, binary),
    ("Precision", {"thresholds": [0.1, 0.5, 0.6]}, one_binary),
    ("Precision", {"top_k": 2}, binary),
    ("Precision", {"class_id": 1}, binary),
    ("Precision", {"top_k": 2, "class_id": 2, "thresholds": 0.4}, binary),
    ("Recall", {}, flat_binary),
    ("Recall", {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]}, binary),
    ("Recall", {"top_k": 3, "class_id": 0}, binary),
    ("SensitivityAtSpecificity", {"specificity": 0.6}, binary),
    ("SensitivityAtSpecificity", {"specificity": 0.4, "num_thresholds": 1}, binary),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 11}, flat_binary),
    ("PrecisionAtRecall", {"recall": 0.5, "class_id": 2}, binary),
    ("RecallAtPrecision", {"precision": 0.5}, binary),
    ("AUC", {}, flat_binary),
    ("AUC", {}, binary),
    ("AUC", {"num_thresholds": 2}, binary),
    ("AUC", {"curve": "PR"}, binary),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}, binary),
    ("AUC", {"curve": "PRGAIN"}, binary),
    ("AUC", {"summation_method": "minoring", "num_thresholds": 11}, binary),
    ("AUC", {"thresholds": [0.7, 0.25, 0.5]}, binary),
    ("AUC", {"thresholds": [0.25, 0.5, 0.75], "curve": "PR"}, binary),
    ("AUC", {"from_logits": True}, logits),
    ("AUC", {"multi_label": True}, binary),
    ("AUC", {"multi_label": True, "num_labels": CLASSES, "label_weights": [1.0, 2.0, 0.0, 0.5]}, binary),
    ("AUC", {"multi_label": True, "curve": "PR", "thresholds": [0.2, 0.7]}, binary),
    ("AUC", {"label_weights": [1.0, 2.0, 0.0, 0.5]}, binary),
    ("F1Score", {}, one_hot),
    ("F1Score", {"average": "micro", "threshold": 0.3}, binary),
    ("FBetaScore", {"beta": 2.0, "average": "macro"}, one_hot),
    ("FBetaScore", {"beta": 0.5, "average": "weighted", "threshold": 0.4}, binary),
    ("IoU", {"num_classes": CLASSES, "target_class_ids": [0, 2]}, pairs_of_classes),
    ("IoU", {"num_classes": CLASSES, "target_class_ids": [1]}, with_unknown_classes),
    ("BinaryIoU", {}, binary),
    ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.3}, binary),
    ("MeanIoU", {"num_classes": CLASSES, "ignore_class": 1}, pairs_of_classes),
    ("MeanIoU", {"num_classes": CLASSES, "sparse_y_pred": False}, class_sequence),
    ("OneHotIoU", {"num_classes": CLASSES, "target_class_ids": [0, 3]}, one_hot_sequence),
    ("OneHotMeanIoU", {"num_classes": CLASSES}, one_hot),
]
# Of these Keras takes weights of every entry alone, or only integers.
UNWEIGHTED = ("IoU", "BinaryIoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU")


def both(name, arguments):
    return getattr(metrics, name)(**arguments), getattr(keras.metrics, name)(**arguments)


def row_id(row):
    return f"{row[0]}-{'-'.join(row[1])}-{row[2].__name__}"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
@pytest.mark.parametrize("weighted", [False, True])
def test_value_after_each_batch(row, weighted):
    name, arguments, make = row
    ours, theirs = both(name, arguments)
    for y_true, y_pred in batches(make):
        weight = random.uniform(0, 2, BATCH).astype("float32") if weighted else None
        if weighted and name in UNWEIGHTED:
            weight = random.integers(0, 3, (y_true if ours.sparse_y_true else y_true[..., 0]).shape)
        ours.update_state(y_true, y_pred, sample_weight=weight)
        theirs.update_state(y_true, y_pred, sample_weight=weight)
        np.testing.assert_allclose(ours.result(), theirs.result(), rtol=5e-6, atol=1e-6)
    assert [v.path.partition("/")[2] for v in ours.variables] == [v.name for v in theirs.variables]
    for mine, other in zip(ours.variables, theirs.variables):
        assert (mine.shape, mine.dtype) == (tuple(other.shape), other.dtype)
        most = np.abs(np.asarray(other, "float32")).max(initial=1)  # what is left of sums differs in their last digit
        np.testing.assert_allclose(mine, other, rtol=5e-6, atol=max(1e-6, np.spacing(most)))


VALUE_AND_WEIGHT = [((6,), None), ((6,), (6,)), ((6, 3), (6,)), ((6, 3), (6, 1)), ((6, 3), (6, 3)),
                    ((), None), ((), ()), ((6, 3, 2), (6, 3)), ((6, 1), (6,))]  # fmt: skip


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize("shapes", VALUE_AND_WEIGHT)
def test_reductions(name, shapes):
    ours, theirs = both(name, {})
    for _ in range(UPDATES):
        value, weight = (None if s is None else random.uniform(size=s).astype("float32") for s in shapes)
        ours.update_state(value, sample_weight=weight)
        theirs.update_state(value, sample_weight=weight)
    np.testing.assert_allclose(ours.result(), theirs.result(), rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_mask_of_the_predictions(weighted):
    ours, theirs = both("SparseCategoricalAccuracy", {})
    y_true, y_pred = class_sequence()
    mask = jnp.asarray(random.integers(0, 2, (BATCH, 3)), bool)
    weight = random.uniform(size=(BATCH, 3)).astype("float32") if weighted else None
    mine, other = jnp.array(y_pred), jnp.array(y_pred)
    masking.set_mask(mine, mask)
    keras.src.backend.set_keras_mask(other, mask)
    ours.update_state(y_true, mine, weight)
    theirs.update_state(y_true, other, weight)
    np.testing.assert_allclose(ours.result(), theirs.result(), rtol=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_config(row):
    name, arguments, _ = row
    ours, theirs = both(name, {**arguments, "name": "m"})
    mine, other = metrics.serialize(ours), keras.metrics.serialize(theirs)
    written = {"axis"} if name == "CosineSimilarity" else set()  # where Keras forgets an argument
    extra = set(mine["config"]) - set(other["config"])
    assert extra <= written
    for key in other["config"]:
        if key != "label_weights":
            assert np.all(mine["config"][key] == other["config"][key]), key
    del mine["config"], other["config"]
    assert mine == other


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_keras_opens_our_configuration(row):
    name, arguments, _ = row
    ours, theirs = both(name, {**arguments, "name": "m"})
    opened = keras.metrics.deserialize(metrics.serialize(ours))
    assert str(opened.get_config()) == str(theirs.get_config())


@pytest.mark.parametrize("name", sorted({row[0] for row in ROWS} | {"Mean", "Sum"}))
def test_signature_name_and_direction(name):
    arguments = next((row[1] for row in ROWS if row[0] == name), {})
    ours, theirs = both(name, arguments)
    mine, other = (inspect.signature(type(m).__init__).parameters for m in (ours, theirs))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]
    assert re.sub(r"_\d+$", "", ours.name) == re.sub(r"_\d+$", "", theirs.name)
    known = {"up": "max", "down": "min"}.get(getattr(theirs, "_direction", None))
    assert known in (None, ours.direction)  # some know it that Keras leaves open


@pytest.mark.parametrize("name", sorted(n for n in metrics.__all__ if n[0].islower()))
def test_function_signature(name):
    mine, other = (inspect.signature(getattr(module, name)).parameters for module in (metrics, keras.metrics))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]


NAMES = ("mse", "MSE", "mae", "mape", "msle", "bce", "accuracy", "auc", "f1_score", "poisson",
         "MeanSquaredError", "cosine_similarity", "mean_squared_error",
         "root_mean_squared_error")  # fmt: skip


@pytest.mark.parametrize("identifier", [*NAMES, {"class_name": "MeanIoU", "config": {"num_classes": 3}}])
def test_get(identifier):
    ours, theirs = metrics.get(identifier), keras.metrics.get(identifier)
    assert type(ours).__name__ == type(theirs).__name__


def test_mean_metric_wrapper_round_trip_through_keras():
    ours = metrics.MeanMetricWrapper(metrics.huber, name="h", delta=0.5)
    theirs = keras.metrics.deserialize(metrics.serialize(ours))
    back = metrics.deserialize(keras.metrics.serialize(theirs))
    y_true, y_pred = values()
    np.testing.assert_allclose(back(y_true, y_pred), theirs(y_true, y_pred), rtol=1e-6)
    assert ours.get_config().keys() == theirs.get_config().keys()


TARGET_AND_OUTPUT = [((6, 1), (6, 1)), ((6,), (6, 1)), ((6,), (6, 4)), ((6, 1), (6, 4)), ((6, 4), (6, 4)),
                     ((6, 3), (6, 3, 4)), ((6, 3, 1), (6, 3, 4)), ((6, 3, 4), (6, 3, 4)),
                     ((6,), (6,))]  # fmt: skip


@pytest.mark.parametrize("shapes", TARGET_AND_OUTPUT)
def test_what_accuracy_and_crossentropy_mean(shapes):
    y_true, y_pred = (jax.ShapeDtypeStruct(shape, "float32") for shape in shapes)
    accuracy, crossentropy = get_metric("accuracy", y_true, y_pred), get_loss("crossentropy", y_true, y_pred)
    assert type(metrics.get(f"{target_kind(y_true, y_pred)}_accuracy")).__name__ == type(accuracy).__name__
    assert f"{target_kind(y_true, y_pred)}_crossentropy" == crossentropy.fn.__name__


def test_public_names():
    missing = {n for n in set(vars(keras.metrics)) - set(metrics.__all__) if not n.startswith("_")}
    assert missing == set()
