"""Losses beside those of Keras 3.15.1: values, gradients, configurations, names."""

import inspect

import jax
import keras
import numpy as np
import pytest

import lamina
from lamina import losses

BATCH, CLASSES = 6, 4
random = np.random.default_rng(7)
VALUES = random.uniform(-2, 2, (2, BATCH, CLASSES)).astype("float32")
SHARES = random.dirichlet(np.ones(CLASSES), (2, BATCH)).astype("float32")
LABELS = np.array([0, 3, 1, 1, 2, 0])
ONE_HOT = np.eye(CLASSES, dtype="float32")[LABELS]
BITS = random.integers(0, 2, (BATCH, CLASSES)).astype("float32")
# Certain and wrong, or right: where clipping decides.
CERTAIN = np.eye(CLASSES, dtype="float32")[np.array([0, 0, 1, 2, 2, 3])]
SAME = np.array([0, 1, 0, 1, 1, 0])
UNIT = VALUES[0] / np.linalg.norm(VALUES[0], axis=-1, keepdims=True)

regression = (VALUES[0], VALUES[1])
positive = (np.abs(VALUES[0]), np.abs(VALUES[1]))
shares = (SHARES[0], SHARES[1])
binary = (BITS, SHARES[1])
binary_logits = (BITS, VALUES[1])
binary_certain = (BITS, CERTAIN)
one_hot = (ONE_HOT, SHARES[1])
one_hot_logits = (ONE_HOT, VALUES[1])
one_hot_certain = (ONE_HOT, CERTAIN)
classes = (LABELS, SHARES[1])
class_logits = (LABELS, VALUES[1])
class_certain = (LABELS, CERTAIN)

# class, arguments, (y_true, y_pred)
ROWS = [
    ("CTC", {}, (np.array([[1, 2, 0], [3, 3, 0], [1, 1, 2]]), random.normal(size=(3, 7, CLASSES)).astype("float32"))),
    ("MeanSquaredError", {}, regression),
    ("MeanAbsoluteError", {}, regression),
    ("MeanAbsolutePercentageError", {}, regression),
    ("MeanSquaredLogarithmicError", {}, regression),
    ("MeanSquaredLogarithmicError", {}, positive),
    ("Huber", {}, regression),
    ("Huber", {"delta": 0.3}, regression),
    ("LogCosh", {}, regression),
    ("CosineSimilarity", {}, regression),
    ("CosineSimilarity", {"axis": 0}, regression),
    ("CosineSimilarity", {}, (np.zeros_like(VALUES[0]), VALUES[1])),
    ("KLDivergence", {}, shares),
    ("KLDivergence", {}, one_hot_certain),
    ("Poisson", {}, positive),
    ("BinaryCrossentropy", {}, binary),
    ("BinaryCrossentropy", {}, binary_certain),
    ("BinaryCrossentropy", {"from_logits": True}, binary_logits),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, binary),
    ("BinaryCrossentropy", {"axis": 0, "from_logits": True, "label_smoothing": 0.1}, binary_logits),
    ("BinaryFocalCrossentropy", {}, binary),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.7, "gamma": 3.0}, binary),
    ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, binary_logits),
    ("CategoricalCrossentropy", {}, one_hot),
    ("CategoricalCrossentropy", {}, one_hot_certain),
    ("CategoricalCrossentropy", {"from_logits": True}, one_hot_logits),
    ("CategoricalCrossentropy", {"label_smoothing": 0.2}, one_hot),
    ("CategoricalCrossentropy", {"axis": 0}, one_hot),
    ("CategoricalFocalCrossentropy", {}, one_hot),
    ("CategoricalFocalCrossentropy", {"alpha": 0.5, "gamma": 1.5, "label_smoothing": 0.1}, one_hot),
    ("CategoricalFocalCrossentropy", {"from_logits": True}, one_hot_logits),
    ("SparseCategoricalCrossentropy", {}, classes),
    ("SparseCategoricalCrossentropy", {}, class_certain),
    ("SparseCategoricalCrossentropy", {}, (LABELS[:, None], SHARES[1])),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, class_logits),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, (LABELS - 1, 1e4 + VALUES[1])),
    ("SparseCategoricalCrossentropy", {}, (LABELS + 1, SHARES[1])),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, classes),
    ("SparseCategoricalCrossentropy", {"ignore_class": -1, "from_logits": True}, (LABELS - 1, VALUES[1])),
    ("SparseCategoricalCrossentropy", {}, (LABELS.reshape(2, 3), SHARES[1].reshape(2, 3, CLASSES))),
    ("CategoricalGeneralizedCrossEntropy", {}, classes),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.8}, classes),
    ("Hinge", {}, binary_logits),
    ("Hinge", {}, regression),
    ("SquaredHinge", {}, binary_logits),
    ("CategoricalHinge", {}, one_hot_logits),
    ("Dice", {}, binary),
    ("Dice", {"axis": (1,)}, binary),
    ("Tversky", {}, binary),
    ("Tversky", {"alpha": 0.2, "beta": 0.9, "axis": (1,)}, binary),
    ("Circle", {}, (SAME, UNIT)),
    ("Circle", {"gamma": 3.0, "margin": 0.25, "remove_diagonal": False}, (SAME, UNIT)),
]
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def both(name, arguments):
    return getattr(losses, name)(**arguments), getattr(keras.losses, name)(**arguments)


def row_id(row):
    return f"{row[0]}-{'-'.join(row[1])}"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", None])
def test_value(row, reduction):
    name, arguments, (y_true, y_pred) = row
    ours, theirs = both(name, {**arguments, "reduction": reduction})
    np.testing.assert_allclose(ours(y_true, y_pred), theirs(y_true, y_pred), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_gradient(row):
    name, arguments, (y_true, y_pred) = row
    ours, theirs = both(name, arguments)
    mine, other = (jax.grad(lambda p, f=f: f(y_true, p))(jax.numpy.asarray(y_pred)) for f in (ours, theirs))
    np.testing.assert_allclose(mine, other, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [None, (BATCH,), (BATCH, 1), ()])
@pytest.mark.parametrize("masked", [False, True])
def test_reduction(reduction, weighted, masked):
    ours, theirs = both("MeanSquaredError", {"reduction": reduction})
    weight = None if weighted is None else random.uniform(0, 2, weighted).astype("float32")
    y_true, y_pred = regression
    values = [jax.numpy.array(y_pred), jax.numpy.array(y_pred)]
    if masked:
        mask = jax.numpy.array([True, False, True, True, False, True])
        lamina.core.masking.set_mask(values[0], mask)
        keras.src.backend.set_keras_mask(values[1], mask)
    result = [loss(y_true, value, sample_weight=weight) for loss, value in zip((ours, theirs), values)]
    np.testing.assert_allclose(*result, rtol=1e-6)


@pytest.mark.parametrize("shapes", [((6,), (6, 1)), ((6, 1), (6,)), ((2, 3), (2, 3, 1)), ((2, 3, 1), (2, 3))])
def test_ranks_are_aligned(shapes):
    y_true, y_pred = (random.uniform(size=shape).astype("float32") for shape in shapes)
    for name in ("MeanSquaredError", "BinaryCrossentropy", "Hinge"):
        ours, theirs = both(name, {"reduction": None})
        np.testing.assert_allclose(ours(y_true, y_pred), theirs(y_true, y_pred), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_dtypes_of_arguments(dtype):
    y_pred = jax.numpy.asarray(SHARES[1])
    ours, theirs = both("BinaryCrossentropy", {})
    y_true = jax.numpy.asarray(BITS, dtype)
    result = ours(y_true, y_pred)
    assert result.dtype == "float32"
    np.testing.assert_allclose(result, theirs(y_true, y_pred), rtol=1e-6)


@pytest.mark.parametrize("name", sorted({row[0] for row in ROWS}))
def test_config_and_signature(name):
    ours, theirs = both(name, {})
    assert ours.get_config() == theirs.get_config()
    mine, other = (inspect.signature(type(loss).__init__).parameters for loss in (ours, theirs))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]
    assert ours.name == theirs.name
    assert losses.serialize(ours) == keras.losses.serialize(theirs)


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_keras_opens_our_configuration(row):
    name, arguments, (y_true, y_pred) = row
    ours, _ = both(name, arguments)
    reopened = keras.saving.deserialize_keras_object(losses.serialize(ours))
    np.testing.assert_allclose(ours(y_true, y_pred), reopened(y_true, y_pred), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(n for n in losses.__all__ if n[0].islower()))
def test_function_signature(name):
    mine, other = (inspect.signature(getattr(module, name)).parameters for module in (losses, keras.losses))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]


NAMES = ("mse", "MSE", "mae", "mape", "msle", "bce", "kld", "mean_squared_error", "huber", "MeanSquaredError",
         "cosine_similarity", "sparse_categorical_crossentropy")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_get(name):
    ours, theirs = losses.get(name), keras.losses.get(name)
    assert isinstance(ours, losses.Loss) == isinstance(theirs, keras.Loss)
    named = [loss.name if hasattr(loss, "name") else loss.__name__ for loss in (ours, theirs)]
    assert named[0] == named[1]


def test_a_function_saved_by_keras_is_found():
    saved = keras.losses.serialize(keras.losses.huber)
    assert losses.deserialize(saved) is losses.huber


def test_public_names():
    missing = set(keras.losses.__dict__) - set(losses.__all__)
    assert {n for n in missing if not n.startswith("_")} <= {"CTC", "ctc"}
