"""Training beside Keras: from the same weights, on the same batches, the same losses, metrics and weights."""

import warnings

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import lamina

# Keras warns of its own variables under NumPy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Subclass .* call takes no training:UserWarning"),
]

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(13, 5)).astype("float32")
Y = RANDOM.normal(size=(13, 2)).astype("float32")
LABELS = RANDOM.integers(0, 3, 13)
WEIGHTS = RANDOM.uniform(0.2, 2.0, 13).astype("float32")


# Models


def dense(k):
    return k.Sequential([k.Input((5,)), k.layers.Dense(4, "tanh"), k.layers.Dense(2)])


def classifier(k):
    return k.Sequential([k.Input((5,)), k.layers.Dense(4, "relu"), k.layers.Dense(3, "softmax")])


def binary(k):
    return k.Sequential([k.Input((5,)), k.layers.Dense(1, "sigmoid")])


def normalized(k):
    inputs = k.Input((5,))
    x = k.layers.BatchNormalization(momentum=0.8)(k.layers.Dense(4)(inputs))
    return k.Model(inputs, k.layers.Dense(2)(k.layers.Dropout(0.4, seed=3)(k.layers.ReLU()(x))))


def around(k, call):
    class Around(k.Model):
        def __init__(self):
            super().__init__()
            self.inner = normalized(k)

    return type("Subclass", (Around,), {"call": call})()


def told(k):
    return around(k, lambda self, x, training=None: self.inner(x, training=training))


def untold(k):
    """A model whose call takes no flag: its dropout drops nothing in `fit`."""
    return around(k, lambda self, x: self.inner(x))


def regularized(k):
    class Costly(k.layers.Layer):
        def call(self, inputs):
            self.add_loss(0.01 * k.ops.sum(k.ops.square(inputs)))
            return inputs

    inputs = k.Input((5,))
    x = k.layers.Dense(4, kernel_regularizer="l2", bias_regularizer=k.regularizers.L1(0.1), activity_regularizer="l1")(
        inputs
    )
    outputs = k.layers.Dense(2, kernel_constraint=k.constraints.MaxNorm(0.5))(Costly()(x))
    return k.Model(inputs, outputs)


def two_heads(k):
    inputs = k.Input((5,))
    x = k.layers.Dense(4, "relu")(inputs)
    return k.Model(inputs, {"a": k.layers.Dense(2, name="a")(x), "b": k.layers.Dense(3, "softmax", name="b")(x)})


def subclassed(k, outputs):
    """A model without declared outputs; `outputs` arranges two of them."""

    class Heads(k.Model):
        def __init__(self):
            super().__init__()
            self.p, self.q = k.layers.Dense(2), k.layers.Dense(2)

        def call(self, x):
            return outputs(self.p(x), self.q(x))

    return Heads()


def listed(k):
    return subclassed(k, lambda p, q: [p, q])


def keyed(k):
    return subclassed(k, lambda p, q: {"q": q, "p": p})


def nested(k):
    inputs = k.Input((5,))
    p, q, r = (k.layers.Dense(2, name=name)(inputs) for name in "pqr")
    return k.Model(inputs, {"a": [p, q], "b": r})


# Data that come in batches


class Rows:
    """The rows of X and Y in batches of 4, for a `PyDataset` of either library."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], Y[rows], WEIGHTS[rows]


def dataset(k):
    return type("Dataset", (Rows, k.utils.PyDataset), {})()


def endless(k):
    def batches():
        while True:
            for index in range(4):
                yield Rows()[index]

    return batches()


def tf_data(k):
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def loader(k):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=4)


# What is done with them: model, compile, fit; functions get the library

SGD = {"optimizer": "sgd", "loss": "mse"}
ARRAYS = {"x": X, "y": Y}
HELD_OUT = {"validation_data": (X[::-1].copy(), Y)}


class Median:
    """A metric of a program: an object that is called."""

    def __init__(self, k):
        self.k = k

    def __call__(self, y_true, y_pred):
        return self.k.ops.median(self.k.ops.abs(y_true - y_pred), axis=-1)


def optimizer(name, *arguments, **options):
    return {**SGD, "optimizer": lambda k: getattr(k.optimizers, name)(*arguments, **options)}


ROWS = {
    "plain": (dense, SGD, ARRAYS),
    "one batch": (dense, SGD, {**ARRAYS, "batch_size": None}),
    "batches without a rest": (dense, SGD, {"x": X[:12], "y": Y[:12]}),
    "metrics": (dense, {**SGD, "metrics": ["mae", "MSE", "mean_absolute_error", "RootMeanSquaredError"]}, ARRAYS),
    "names in capitals": (
        dense,
        {"optimizer": "RMSprop", "loss": "MSE", "metrics": ["MAE", "mse", "MeanAbsoluteError"]},
        ARRAYS,
    ),
    "objects as metrics": (
        dense,
        {**SGD, "metrics": lambda k: [k.losses.Huber(0.5), k.losses.MeanSquaredError(name="mean"), Median(k)]},
        {"x": X[:12], "y": Y[:12]},
    ),
    "labels": (
        classifier,
        {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy", "acc"]},
        {"x": X, "y": LABELS},
    ),
    "one-hot labels": (
        classifier,
        {"optimizer": "adam", "loss": "crossentropy", "metrics": ["accuracy", "AUC"]},
        {"x": X, "y": np.eye(3)[LABELS]},
    ),
    "column of labels": (
        classifier,
        {"optimizer": "sgd", "loss": "crossentropy", "metrics": ["Accuracy"]},
        {"x": X, "y": LABELS[:, None]},
    ),
    "yes or no": (
        binary,
        {"optimizer": "rmsprop", "loss": "BinaryCrossentropy", "metrics": ["accuracy", "Precision", "Recall"]},
        {"x": X, "y": LABELS > 1},
    ),
    "validation split": (dense, {**SGD, "metrics": ["mae"]}, {**ARRAYS, "validation_split": 0.3}),
    "validation data": (dense, {**SGD, "metrics": ["mae"]}, {**ARRAYS, **HELD_OUT, "validation_batch_size": 6}),
    "validation now and then": (dense, SGD, {**ARRAYS, **HELD_OUT, "validation_freq": 2, "epochs": 5}),
    "validation in chosen epochs": (dense, SGD, {**ARRAYS, **HELD_OUT, "validation_freq": [1, 3]}),
    "validation steps": (dense, SGD, {**ARRAYS, **HELD_OUT, "validation_steps": 2}),
    "later epochs": (dense, SGD, {**ARRAYS, "initial_epoch": 2, "epochs": 5}),
    "class weights": (
        classifier,
        {"optimizer": "sgd", "loss": "CE", "metrics": ["ACC"], "weighted_metrics": ["accuracy"]},
        {"x": X, "y": LABELS, "class_weight": {0: 0.3, 2: 4.0}},
    ),
    "sample weights": (
        dense,
        {**SGD, "metrics": ["mae"], "weighted_metrics": ["mse"]},
        {**ARRAYS, "sample_weight": WEIGHTS, "validation_data": (X, Y, WEIGHTS[::-1].copy())},
    ),
    "two heads": (
        two_heads,
        {
            "optimizer": "sgd",
            "loss": {"a": "mse", "b": "sparse_categorical_crossentropy"},
            "loss_weights": {"a": 0.5, "b": 2.0},
            "metrics": {"b": "accuracy", "a": ["mae"]},
        },
        {"x": X, "y": {"a": Y, "b": LABELS}, "sample_weight": {"a": WEIGHTS, "b": WEIGHTS[::-1].copy()}},
    ),
    "weights for one of two heads": (
        two_heads,
        {
            "optimizer": "sgd",
            "loss": {"a": "mse", "b": "sparse_categorical_crossentropy"},
            "weighted_metrics": {"a": "mae"},
        },
        {"x": X, "y": {"a": Y, "b": LABELS}, "sample_weight": {"a": WEIGHTS, "b": None}},
    ),
    "a list of a subclass": (
        listed,
        {"optimizer": "sgd", "loss": ["mse", "mae"], "metrics": [["mae"], ["mse"]]},
        {"x": X, "y": [Y, -Y]},
    ),
    "a dict of a subclass": (
        keyed,
        {"optimizer": "sgd", "loss": {"p": "mse", "q": "mae"}, "metrics": {"p": ["mae"]}},
        {"x": X, "y": {"p": Y, "q": -Y}},
    ),
    "nested outputs": (
        nested,
        {"optimizer": "sgd", "loss": {"a": ["mse", "mae"], "b": "mse"}},
        {"x": X, "y": {"a": [Y, -Y], "b": 2 * Y}},
    ),
    "nested outputs with metrics": (
        nested,
        {"optimizer": "sgd", "loss": "mse", "metrics": {"a": [["mae"], ["mse"]], "b": ["mae"]}},
        {"x": X, "y": {"a": [Y, -Y], "b": 2 * Y}},
    ),
    "momentum": (dense, optimizer("SGD", 0.05, momentum=0.9, nesterov=True), ARRAYS),
    "decay": (dense, optimizer("AdamW", 0.01, weight_decay=0.1), ARRAYS),
    "clipped": (dense, optimizer("Adam", 0.01, global_clipnorm=0.1), ARRAYS),
    "moving average": (dense, optimizer("SGD", 0.1, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=3), ARRAYS),
    "moving average at the end": (dense, optimizer("Adam", 0.05, use_ema=True, ema_momentum=0.7), ARRAYS),
    "accumulated gradients": (dense, optimizer("Adam", 0.05, gradient_accumulation_steps=3), ARRAYS),
    "scaled loss": (dense, optimizer("SGD", 0.05, loss_scale_factor=64.0), ARRAYS),
    "normalization and dropout": (normalized, SGD, {**ARRAYS, **HELD_OUT}),
    "the flag of a subclass": (told, SGD, {**ARRAYS, **HELD_OUT}),
    "a subclass without the flag": (untold, SGD, {**ARRAYS, **HELD_OUT}),
    "added losses": (regularized, {**SGD, "metrics": ["mae"]}, {**ARRAYS, **HELD_OUT}),
    "a PyDataset": (dense, {**SGD, "weighted_metrics": ["mae"]}, {"x": dataset}),
    "a generator": (dense, SGD, {"x": endless, "steps_per_epoch": 4}),
    "a part of a generator": (dense, SGD, {"x": endless, "steps_per_epoch": 3}),
    "tf.data": (dense, {**SGD, "metrics": ["mae"]}, {"x": tf_data}),
    "tf.data for validation": (dense, SGD, {**ARRAYS, "validation_data": tf_data}),
    "a DataLoader": (dense, SGD, {"x": loader}),
}


def for_library(k, options):
    """The options, with what depends on the library made."""
    made = {}
    for name, value in options.items():
        depends = getattr(value, "__module__", None) == __name__ and callable(value)
        made[name] = value(k) if depends else value
    return made


def trained(k, make, compile_options, fit_options):
    """History, weights, evaluations and predictions of a short training."""
    k.utils.set_random_seed(1)
    model = make(k)
    model.compile(**for_library(k, compile_options))
    fit_options = {"epochs": 3, "batch_size": 4, "verbose": 0, "shuffle": False, **for_library(k, fit_options)}
    if not isinstance(fit_options["x"], np.ndarray):
        del fit_options["batch_size"]
    history = model.fit(**fit_options)
    y = fit_options.get("y", Y)
    x = X[: len(jax.tree.leaves(y)[0])]
    return {
        "history": history.history,
        "epoch": history.epoch,
        "weights": model.get_weights(),
        "iterations": int(np.asarray(model.optimizer.iterations)),
        "logs": model.evaluate(x, y, batch_size=5, verbose=0, return_dict=True),
        "list": model.evaluate(x, y, batch_size=5, verbose=0),
        "outputs": model.predict(x, batch_size=5, verbose=0),
    }


def assert_same(ours, theirs, rtol=2e-5, atol=2e-6):
    one, other = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(result)}
        for result in (ours, theirs)
    )
    assert sorted(one) == sorted(other)
    for path, expected in other.items():
        np.testing.assert_allclose(one[path], expected, rtol, atol, err_msg=path)


@pytest.mark.parametrize("name", ROWS)
def test_training(name):
    ours = trained(lamina, *ROWS[name])
    assert all(type(value) is float for values in ours["history"].values() for value in values)
    assert_same(ours, trained(keras, *ROWS[name]))


# Half precision: sums are rounded in another order, so one part in 2**8 (bfloat16) or 2**11 (float16) a few times over
@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 3e-2), ("mixed_float16", 4e-3)])
@pytest.mark.parametrize("make", [dense, normalized])
def test_mixed_precision(policy, tolerance, make):
    results = []
    for k in (lamina, keras):
        k.config.set_dtype_policy(policy)
        try:
            results.append(trained(k, make, {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]}, ARRAYS))
        finally:
            k.config.set_dtype_policy(None if k is lamina else "float32")
    assert {w.dtype for w in results[0]["weights"]} == {np.dtype("float32")}
    assert results[0]["outputs"].dtype == results[1]["outputs"].dtype
    assert_same(*results, rtol=tolerance, atol=tolerance)


def test_single_batches():
    def program(k):
        k.utils.set_random_seed(1)
        model = normalized(k)
        model.compile("adam", "mse", metrics=["mae"], weighted_metrics=["mse"])
        found = []
        for start in (0, 4, 8):
            rows = slice(start, start + 4)
            found.append(model.train_on_batch(X[rows], Y[rows], sample_weight=WEIGHTS[rows]))
        found.append(model.test_on_batch(X[:5], Y[:5], return_dict=True))
        found.append(model.test_on_batch(X[5:], Y[5:]))
        model.reset_metrics()
        found.append(model.train_on_batch(X, Y, return_dict=True))
        found.append(model.predict_on_batch(X))
        return found, model.get_weights()

    assert_same(program(lamina), program(keras))


def test_single_batches_with_class_weights():
    def program(k):
        k.utils.set_random_seed(1)
        model = classifier(k)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return [model.train_on_batch(X, LABELS, class_weight={0: 2.0, 1: 0.5, 2: 1.0}) for _ in range(3)]

    assert_same(program(lamina), program(keras))


def test_epochs_of_some_steps_go_on_through_the_rows():
    def program(k):
        k.utils.set_random_seed(1)
        model = dense(k)
        model.compile("sgd", "mse")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns where a pass over the rows ends
            history = model.fit(X, Y, 4, epochs=4, steps_per_epoch=2, shuffle=False, verbose=0)
        return history.history, model.get_weights()

    assert_same(program(lamina), program(keras))


def test_evaluate_and_predict_of_streams():
    def program(k):
        k.utils.set_random_seed(1)
        model = dense(k)
        model.compile("sgd", "mse", weighted_metrics=["mae"])
        return (
            [model.evaluate(make(k), verbose=0) for make in (dataset, tf_data, loader)],
            model.evaluate(endless(k), steps=3, verbose=0),
            [model.predict(make(k), verbose=0) for make in (dataset, tf_data, loader)],
            model.predict(endless(k), steps=2, verbose=0),
            model.predict(tf.data.Dataset.from_tensor_slices(X).batch(4), verbose=0),
        )

    assert_same(program(lamina), program(keras))


def test_evaluate_with_weights_and_steps():
    def program(k):
        k.utils.set_random_seed(1)
        model = dense(k)
        model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
        options = {"batch_size": 4, "verbose": 0, "return_dict": True}
        return model.evaluate(X, Y, sample_weight=WEIGHTS, **options), model.evaluate(X, Y, steps=2, **options)

    assert_same(program(lamina), program(keras))


def test_predict_of_many_outputs():
    def program(k):
        k.utils.set_random_seed(1)
        model = two_heads(k)
        listed = k.Model(model.inputs, [model.output["b"], model.output["a"]])
        return model.predict(X, batch_size=4, verbose=0), listed.predict(X, batch_size=4, verbose=0)

    assert_same(program(lamina), program(keras))
