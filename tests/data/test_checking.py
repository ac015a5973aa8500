"""Mistakes in data that the first batch shows; and what is right stays without a word."""

import warnings

import numpy as np
import pytest

import lamina
from lamina import layers, losses

random = np.random.default_rng(0)
N = 24
X = random.uniform(size=(N, 3)).astype("float32")
LABELS = np.arange(N) % 3
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
BITS = (LABELS > 0).astype("float32")
STEPS = random.uniform(size=(N, 4, 3)).astype("float32")
STEP_LABELS = random.integers(0, 3, (N, 4))


def with_value(array, value, *place):
    array = np.array(array, np.result_type(array, type(value)) if isinstance(value, int) else "float32")
    array[place] = value
    return array


def model(units, activation, loss, shape=(3,)):
    made = lamina.Sequential([lamina.Input(shape), layers.Dense(units, activation)], name="m")
    made.compile("sgd", loss)
    return made


SPARSE, BINARY, ONE = "sparse_categorical_crossentropy", "binary_crossentropy", "categorical_crossentropy"

# (units, activation, loss, y), what the error says
ERRORS = {
    "one column for many outputs": (
        (4, None, "mse", BITS[:, None]),
        "fit: y must have the shape of the output (24, 4), got (24, 1), which mean_squared_error would broadcast; "
        "change the units of the last layer, or give np.broadcast_to(y, ...).",
    ),
    "many columns for one output": (
        (1, None, "mae", X),
        "fit: y must have the shape of the output (24, 1), got (24, 3), which mean_absolute_error would broadcast; "
        "change the units of the last layer, or give np.broadcast_to(y, ...).",
    ),
    "a vector as long as the outputs are wide": (
        (N, "sigmoid", BINARY, BITS),
        "fit: y must have the shape of the output (24, 24), got (24,), which binary_crossentropy would broadcast; "
        "change the units of the last layer, or give np.broadcast_to(y, ...).",
    ),
    "classes from 1": (
        (3, "softmax", SPARSE, LABELS + 1),
        "fit: y must hold classes from 0 to 2 for sparse_categorical_crossentropy, got 3 in row 2; "
        "where classes count from 1, give y - 1.",
    ),
    "too few units": (
        (2, "softmax", SPARSE, LABELS),
        "fit: y must hold classes from 0 to 1 for sparse_categorical_crossentropy, got 2 in row 2; "
        "the last layer needs a unit for each class, 3 of them.",
    ),
    "one unit for classes": (
        (1, "sigmoid", SPARSE, LABELS),
        "fit: y must hold classes from 0 to 0 for sparse_categorical_crossentropy, got 1 in row 1; "
        "use binary_crossentropy for one unit, or one unit for each class.",
    ),
    "a class below 0": (
        (3, "softmax", SPARSE, with_value(LABELS[:, None], -1, 5, 0)),
        "fit: y must hold classes from 0 to 2 for sparse_categorical_crossentropy, got -1 in row 5, column 0; "
        "ignore_class=-1 in the loss leaves these out.",
    ),
    "another class than the ignored one": (
        (3, "softmax", losses.SparseCategoricalCrossentropy(ignore_class=-1), with_value(LABELS, -2, 5)),
        "fit: y must hold classes from 0 to 2 for sparse_categorical_crossentropy, got -2 in row 5; "
        "ignore_class=-2 in the loss leaves these out.",
    ),
    "parts of classes": (
        (3, "softmax", SPARSE, with_value(LABELS, 0.5, 7)),
        "fit: y must hold whole numbers, the classes, for sparse_categorical_crossentropy, got 0.5 in row 7; "
        "for probabilities use categorical_crossentropy, for numbers a loss such as mse.",
    ),
    "1 and 2": (
        (1, "sigmoid", BINARY, BITS + 1),
        "fit: y must lie between 0 and 1 for binary_crossentropy, got 2.0 in row 1; give y - 1.",
    ),
    "-1 and 1": (
        (1, "sigmoid", BINARY, BITS[:, None] * 2 - 1),
        "fit: y must lie between 0 and 1 for binary_crossentropy, got -1.0 in row 0, column 0; "
        "give (y + 1) / 2, or use hinge.",
    ),
    "three classes for one unit": (
        (1, "sigmoid", BINARY, LABELS),
        "fit: y must lie between 0 and 1 for binary_crossentropy, got 2 in row 2; for several classes use "
        "sparse_categorical_crossentropy, for numbers a loss such as mse.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_certain_mistake_is_an_error(name):
    (units, activation, loss, y), message = ERRORS[name]
    made = model(units, activation, loss)
    weights = made.get_weights()
    with pytest.raises(ValueError) as caught:
        made.fit(X, y, batch_size=N, verbose=0)
    assert str(caught.value) == message
    for before, after in zip(weights, made.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


WARNINGS = {
    "labels with noise": (
        (1, "sigmoid", BINARY, with_value(BITS, 1.25, 3)),
        "y should lie between 0 and 1 for binary_crossentropy, got 1.25",
    ),
    "a softmax of one unit": (
        (1, "softmax", BINARY, BITS),
        "fit: y has an output of one unit with softmax, which is 1 whatever goes in; use sigmoid.",
    ),
    "several classes at once": ((3, "softmax", ONE, (X > 0.3).astype("float32")), "should be one-hot, or add up to 1"),
    "margins of other targets": ((1, None, "hinge", LABELS.astype("float32")), "should hold -1 and 1 .or 0 and 1."),
    "no shares": ((3, "softmax", "kl_divergence", ONE_HOT * 2), "should lie between 0 and 1 for kl_divergence"),
    "logits of two classes": (
        (1, None, BINARY, BITS),
        "the last layer has activation linear; give it sigmoid, or the loss from_logits=True",
    ),
    "logits of many classes": ((3, None, SPARSE, LABELS), "give it softmax, or the loss from_logits=True"),
    "relu for probabilities": ((3, "relu", ONE, ONE_HOT), "the last layer has activation relu"),
    "softmax twice": (
        (3, "softmax", losses.SparseCategoricalCrossentropy(from_logits=True), LABELS),
        "of logits, but the last layer has activation softmax; leave one out",
    ),
    "a gap in y": (
        (1, None, "mse", with_value(BITS, np.nan, 4)),
        r"fit: y should hold finite numbers.*1 in the first.*",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_only_looks_like_a_mistake_is_a_warning(name):
    (units, activation, loss, y), message = WARNINGS[name]
    with pytest.warns(UserWarning, match=message) as caught:
        model(units, activation, loss).fit(X, y, batch_size=N, verbose=0)
    assert len(caught) == 1


def sequence(loss, **embedding):
    made = lamina.Sequential([layers.Embedding(5, 4, **embedding), layers.Dense(3, "softmax")])
    made.compile("sgd", loss)
    return made


ROWS = np.array([[1, 2, 0, 0]] * N)
VOID = np.where(ROWS == 0, 255, STEP_LABELS)


class OwnLoss(losses.Loss):
    def call(self, y_true, y_pred):
        return lamina.ops.mean(lamina.ops.square(y_true - y_pred), -1)


# what makes a model, and the data; nothing to say about these
VALID = {
    "regression": (lambda: model(1, None, "mse"), (X, BITS)),
    "regression of a column": (lambda: model(1, None, "mse"), (X, BITS[:, None] * 100 - 7)),
    "several numbers": (lambda: model(3, None, "mae"), (X, X)),
    "times without their last axis": (lambda: model(1, None, "mse", (4, 3)), (STEPS, STEPS[..., 0])),
    "classes": (lambda: model(3, "softmax", SPARSE), (X, LABELS)),
    "classes as floats": (lambda: model(3, "softmax", SPARSE), (X, LABELS.astype("float32"))),
    "classes in a column": (lambda: model(3, "softmax", SPARSE), (X, LABELS[:, None].astype("uint8"))),
    "classes of times": (lambda: model(3, "softmax", SPARSE, (4, 3)), (STEPS, STEP_LABELS)),
    "ignored classes": (
        lambda: model(3, "softmax", losses.SparseCategoricalCrossentropy(ignore_class=-1)),
        (X, with_value(LABELS, -1, 3)),
    ),
    "classes behind a mask": (lambda: sequence(SPARSE, mask_zero=True), (ROWS, VOID)),
    "classes of weight 0": (lambda: sequence(SPARSE), (ROWS, VOID, (ROWS > 0).astype("float32"))),
    "one-hot integers": (lambda: model(3, "softmax", ONE), (X, ONE_HOT.astype("int32"))),
    "smoothed": (
        lambda: model(3, "softmax", losses.CategoricalCrossentropy(label_smoothing=0.1)),
        (X, ONE_HOT * 0.9 + 0.1 / 3),
    ),
    "rows without a class": (lambda: model(3, "softmax", ONE), (X, ONE_HOT * (BITS[:, None]))),
    "many labels": (lambda: model(3, "sigmoid", BINARY), (X, (X > 0.3).astype("float32"))),
    "bits": (lambda: model(1, "sigmoid", BINARY), (X, BITS.astype(bool))),
    "soft bits": (lambda: model(1, "sigmoid", BINARY), (X, BITS * 0.8 + 0.1)),
    "logits": (lambda: model(3, None, losses.SparseCategoricalCrossentropy(from_logits=True)), (X, LABELS)),
    "a layer after the logits": (
        lambda: compiled([lamina.Input((3,)), layers.Dense(3), layers.Softmax()], SPARSE),
        (X, LABELS),
    ),
    "an own layer": (
        lambda: compiled([lamina.Input((3,)), layers.Dense(3), layers.Lambda(lamina.ops.softmax)], SPARSE),
        (X, LABELS),
    ),
    "margins": (lambda: model(1, None, "hinge"), (X, BITS * 2 - 1)),
    "an own loss": (lambda: model(3, None, OwnLoss()), (X, np.zeros((N, 1)))),
    "an own function": (lambda: model(3, None, lambda y, p: lamina.ops.mean(p, -1)), (X, np.zeros((N, 1)))),
    "a weight a row": (lambda: model(1, None, "mse"), (X, BITS, BITS)),
    "one weight": (lambda: model(1, None, "mse"), (X, BITS, 0.5)),
    "large unsigned integers": (lambda: model(1, None, "mse"), (X, np.full(N, 2**31, "uint32"))),
}


def compiled(parts, loss):
    made = lamina.Sequential(parts)
    made.compile("sgd", loss)
    return made


@pytest.mark.parametrize("name", VALID)
def test_what_is_right_stays_without_a_word(name):
    make, data = VALID[name]
    x, y, sample_weight = (*data, None)[:3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = make()
        made.fit(x, y, sample_weight=sample_weight, batch_size=8, verbose=0)
        made.evaluate(x, y, sample_weight=sample_weight, batch_size=8, verbose=0)


def two_heads(**options):
    inputs = lamina.Input((3,))
    heads = {"kind": layers.Dense(3, "softmax", name="a")(inputs), "size": layers.Dense(1, name="b")(inputs)}
    made = lamina.Model(inputs, heads)
    made.compile("sgd", {"kind": SPARSE, "size": "mse"}, **options)
    return made


def test_several_outputs_are_looked_at_each_by_its_loss():
    two_heads().fit(X, {"kind": LABELS, "size": BITS}, verbose=0)
    with pytest.raises(ValueError, match=r"fit: y of output 'kind' must hold classes from 0 to 2 .*, got 7 in row 0"):
        two_heads().fit(X, {"kind": LABELS + 7, "size": BITS}, verbose=0)


def test_an_own_step_may_read_targets_in_its_own_way():
    class Own(lamina.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return lamina.ops.mean(lamina.ops.square(y_pred))

    made = Own([lamina.Input((3,)), layers.Dense(3)])
    made.compile("sgd", SPARSE)
    made.fit(X, LABELS + 5, verbose=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_named(value):
    with pytest.warns(
        UserWarning, match=rf"fit: x should hold finite numbers.*the first \({value}\) in row 5, column 1"
    ):
        model(1, None, "mse").fit(with_value(X, value, 5, 1), BITS, verbose=0)


def test_evaluate_says_so_too():
    with pytest.raises(ValueError, match="evaluate: y must hold classes from 0 to 2"):
        model(3, "softmax", SPARSE).evaluate(X, LABELS + 1, verbose=0)


@pytest.mark.parametrize("dtype, value", [("int64", 2**40), ("int64", -(2**40)), ("uint64", 2**40)])
def test_integers_that_jax_would_cut_are_refused(dtype, value):
    rows = np.array([[1, 2], [3, value]], dtype)
    with pytest.raises(ValueError, match=rf"fit: x must hold integers from .*, got {value} in row 1, column 1; number"):
        model(1, None, "mse", (2,)).fit(rows, BITS[:2], verbose=0)


def test_only_the_first_batch_is_looked_at():
    y = with_value(LABELS, 3, N - 1)
    model(3, "softmax", SPARSE).fit(X, y, batch_size=8, verbose=0, shuffle=False)
