"""Short batches that are filled up: the results are those of the short batch, and nothing is compiled for its size."""

import jax
import numpy as np
import pytest

import lamina
from lamina import layers, losses, metrics, ops
from lamina.training import rows
from tests.laws.descriptors import ROWS
from tests.training.test_launches import compilations

RNG = np.random.default_rng(0)
VECTORS, WORDS = RNG.normal(size=(53, 6)).astype("float32"), RNG.integers(0, 9, (53, 7))
IMAGES = RNG.normal(size=(53, 6, 6, 2)).astype("float32")
CLASSES, TAGS = RNG.integers(0, 3, 53), RNG.integers(0, 3, (53, 7))
PROBABILITIES = {"activation": "softmax"}


def dense():
    return [layers.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3, **PROBABILITIES)]


def convolution():
    inner = [layers.Conv2D(4, 3), layers.LayerNormalization(), layers.MaxPooling2D(), layers.Flatten()]
    return [layers.Input((6, 6, 2)), *inner, layers.Dense(3, **PROBABILITIES)]


def recurrent(sequences):
    words = [layers.Input((7,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True)]
    return [*words, layers.LSTM(5, return_sequences=sequences), layers.Dense(3, **PROBABILITIES)]


def noisy():
    inputs = [layers.Input((6,)), layers.GaussianNoise(0.1), layers.Reshape((3, 2)), layers.LSTM(4, dropout=0.3)]
    return [*inputs, layers.Dropout(0.5), layers.Dense(3, **PROBABILITIES)]


def statistics():
    inner = [
        layers.Conv2D(4, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.SpatialDropout2D(0.3),
        layers.Flatten(),
    ]
    return [layers.Input((6, 6, 2)), layers.RandomFlip(), *inner, layers.Dense(3, **PROBABILITIES)]


CASES = {
    "dense": (dense, VECTORS, CLASSES),
    "convolution": (convolution, IMAGES, CLASSES),
    "recurrent": (lambda: recurrent(False), WORDS, CLASSES),
    "tagger": (lambda: recurrent(True), WORDS, TAGS),
    "noisy": (noisy, VECTORS, CLASSES),
    "statistics": (statistics, IMAGES, CLASSES),
}


def pair(make, **options):
    """Two equal models, the second of which never fills a batch up."""
    found = []
    for _ in range(2):
        lamina.utils.set_random_seed(0)
        model = lamina.Sequential(make())
        given = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **options}
        model.compile(given.pop("optimizer", "adam"), **given)
        found.append(model)
    found[1]._rows_stay_apart = lambda trains, waste: False
    return found


MEAN = "sum_over_batch_size"


@pytest.mark.parametrize(
    ("case", "reduction", "weights"),
    [
        *(("dense", reduction, weights) for reduction in (MEAN, "sum") for weights in (None, "samples")),
        ("dense", "mean_with_sample_weight", "samples"),
        ("convolution", MEAN, None),
        ("recurrent", MEAN, None),
        ("tagger", MEAN, None),
        ("tagger", MEAN, "samples"),
        ("noisy", MEAN, None),
        ("statistics", MEAN, None),
        ("statistics", "sum", "samples"),
    ],
)
def test_a_batch_that_is_filled_up_counts_as_the_short_one(case, reduction, weights):
    make, x, y = CASES[case]
    loss = losses.SparseCategoricalCrossentropy(reduction=reduction)
    filled, plain = pair(make, loss=loss, weighted_metrics=["accuracy"])
    options = {"batch_size": 9, "verbose": 0}
    if weights:
        options["sample_weight"] = RNG.random(len(x)).astype("float32")
    histories = []
    for model in (filled, plain):
        lamina.utils.set_random_seed(1)
        histories.append(model.fit(x, y, epochs=2, validation_data=(x[:19], y[:19]), **options).history)
    assert filled._phase("train").fills(0.1) and not plain._phase("train").fills(0.1)
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)
    for a, b in zip(filled.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(filled.evaluate(x, y, **options), plain.evaluate(x, y, **options), rtol=1e-5)


def test_no_number_of_rows_compiles_anything():
    model, _ = pair(dense)
    options = {"batch_size": 16, "verbose": 0}
    model.fit(VECTORS[:20], CLASSES[:20], validation_data=(VECTORS[:17], CLASSES[:17]), **options)
    with compilations() as found:
        for count in (16, 18, 31, 32, 50):
            model.fit(VECTORS[:count], CLASSES[:count], validation_data=(VECTORS[:24], CLASSES[:24]), **options)
            model.evaluate(VECTORS[:count], CLASSES[:count], **options)
    assert found == []


class Own(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=0)


class OwnLoss(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_pred))


class OwnCount(metrics.TruePositives):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, ops.mean(y_pred, axis=1))


def own_metric(y_true, y_pred):
    return ops.mean(y_pred)


@pytest.mark.parametrize(
    ("layer", "options", "in_training", "outside"),
    [
        (layers.Dropout(0.5), {}, True, True),
        (layers.BatchNormalization(), {}, True, True),
        (Own(), {}, False, False),
        (layers.Lambda(lambda x: x), {}, False, False),
        (layers.Softmax(axis=0), {}, False, False),
        (layers.Softmax(axis=-2), {}, False, False),
        (layers.Dense(8, activity_regularizer="l2"), {}, False, False),
        (layers.Dense(8, activation=lambda x: x - ops.mean(x, axis=0)), {}, False, False),
        (layers.Dense(8, activation="gelu"), {}, True, True),
        (layers.EinsumDense("ab,bc->ac", 8), {}, True, True),
        (layers.Identity(), {"loss": OwnLoss()}, False, False),
        (layers.Identity(), {"loss": lambda a, b: ops.mean(b)}, False, False),
        (layers.Identity(), {"metrics": [own_metric]}, False, False),
        (layers.Identity(), {"metrics": [metrics.MeanIoU(3, sparse_y_pred=False)]}, False, False),
        (layers.Identity(), {"metrics": [OwnCount()]}, False, False),
        (layers.Identity(), {"weighted_metrics": ["accuracy"]}, True, True),
    ],
)
def test_only_rows_that_never_meet_are_filled_up(layer, options, in_training, outside):
    model, _ = pair(lambda: [*dense()[:2], layer, layers.Dense(3, **PROBABILITIES)], **options)
    model.evaluate(VECTORS, CLASSES, verbose=0)
    assert (model._rows_stay_apart(True, 0.1), model._rows_stay_apart(False)) == (in_training, outside)


def test_a_graph_is_filled_up_where_its_ops_are_elementwise():
    for act, apart in ((lambda h: h + 1, True), (lambda h: h - ops.mean(h, axis=0, keepdims=True), False)):
        inputs = layers.Input((6,))
        model = lamina.Model(inputs, layers.Dense(1)(act(layers.Dense(4)(inputs))))
        model.compile(loss="mse")
        model.evaluate(VECTORS, VECTORS[:, :1], verbose=0)
        assert model._rows_stay_apart(True) is apart


def test_a_subclass_sees_the_short_batch():
    class Net(lamina.Sequential):
        def train_step(self, data):
            sizes.append(data[0].shape[0])
            return super().train_step(data)

    sizes = []
    model = Net(dense())
    model.compile(loss="sparse_categorical_crossentropy")
    model.fit(VECTORS, CLASSES, batch_size=16, verbose=0)
    assert set(sizes) == {16, 53 % 16}


# Layers that the law of filled batches in tests/laws does not try: bases, those on the host, and a list of others.
UNTRIED = {"FeatureSpace", "Functional", "HashedCrossing", "InputLayer", "Layer", "Model", "Pipeline", "Sequential",
           "StringLookup", "TFDIdentity", "TextVectorization", "Wrapper"}  # fmt: skip


def test_every_layer_is_under_the_law_of_filled_batches_or_named():
    spaces = (lamina, layers, lamina.distillation, lamina.models, lamina.utils)
    public = [getattr(space, name) for space in spaces for name in dir(space) if name[0].isupper()]
    ours = {each.__name__ for each in public if isinstance(each, type) and issubclass(each, layers.Layer)}
    assert ours - {getattr(layers, row.layer).__name__ for row in ROWS} - rows._MEET == UNTRIED & ours
    assert [name for name in rows._MEET if name not in ours and not hasattr(losses, name)] == []


def test_statistics_of_whole_batches_are_taken_as_they_are():
    model, _ = pair(statistics)
    model.evaluate(IMAGES, CLASSES, verbose=0)
    fills = model._phase("train").fills
    assert fills(0.1) and not fills(0.0)


def test_models_with_noise_waste_an_eighth_of_an_epoch_at_the_most():
    fills = {}
    for make, x in ((dense, VECTORS), (noisy, VECTORS)):
        model, _ = pair(make)
        model.evaluate(x, CLASSES, verbose=0)
        fills[make] = [model._phase("train").fills(waste) for waste in (0.0, 0.12, 0.13)]
    assert fills == {dense: [True, True, True], noisy: [True, True, False]}


def test_a_generator_that_draws_by_size_fills_no_batch_up():
    model, _ = pair(noisy)
    model.evaluate(VECTORS, CLASSES, verbose=0)
    with jax.threefry_partitionable(False):
        assert not model._rows_stay_apart(True) and model._rows_stay_apart(False)


LOSSES = [each for name in losses.__all__ if (each := getattr(losses, name)) in vars(losses).values()
          and isinstance(each, type) and each not in (losses.Loss, losses.CTC)]  # fmt: skip


@pytest.mark.parametrize("cls", LOSSES, ids=lambda cls: cls.__name__)
def test_a_loss_of_a_batch_that_is_filled_up_is_that_of_the_short_one(cls):
    classes = cls in (losses.SparseCategoricalCrossentropy, losses.Circle, losses.CategoricalGeneralizedCrossEntropy)
    y = CLASSES if classes else np.eye(3, dtype="float32")[CLASSES]
    history = [model.fit(VECTORS, y, batch_size=16, epochs=2, verbose=0, shuffle=False).history["loss"]
               for model in pair(dense, loss=cls(), metrics=[])]  # fmt: skip
    np.testing.assert_allclose(*history, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["auc", "precision", "recall", "true_positives", "f1_score", "root_mean_squared_error"]
)
@pytest.mark.parametrize("weights", [None, RNG.random(53).astype("float32")], ids=["plain", "weighted"])
def test_a_metric_of_a_batch_that_is_filled_up_is_that_of_the_short_one(name, weights):
    metric = metrics.F1Score("micro") if name == "f1_score" else name
    y, given = np.eye(3, dtype="float32")[CLASSES], {"metrics": [metric], "weighted_metrics": [metric]}
    found = []
    for model in pair(dense, loss="categorical_crossentropy", **given):
        found.append(model.evaluate(VECTORS, y, batch_size=16, verbose=0, sample_weight=weights))
        fills = model._phase("test").fills(0.1)
        assert fills is (len(found) == 1)
    np.testing.assert_allclose(*found, rtol=1e-5)
