"""The mistakes that people make around `fit`: what each is told, in one line; and that nothing is changed by it."""

import functools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tensorflow as tf
import torch

import lamina
from lamina import callbacks, layers

N = 22
X = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
LABELS = np.arange(N) % 3
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
IMAGES = np.ones((6, 8, 8, 1), "float32")
AB, PQ = {"a": X, "b": X[:, :2]}, {"p": Y, "q": Y}


def made(*parts, loss="mse", name="stack", shape=(3,), **options):
    lamina.utils.set_random_seed(1)
    model = lamina.Sequential([lamina.Input(shape, name="rows"), *parts], name=name)
    model.compile("sgd", loss, **options)
    return model


def number():
    lamina.utils.set_random_seed(1)  # before there is a layer: it draws a seed when it is made
    return made(layers.Dense(1, name="top"))


def sparse():
    return made(layers.Dense(3, "softmax", name="top"), loss="sparse_categorical_crossentropy")


def one_hot():
    return made(layers.Dense(3, "softmax", name="top"), loss="categorical_crossentropy")


def binary():
    return made(layers.Dense(1, "sigmoid", name="top"), loss="binary_crossentropy")


def image():
    return made(layers.Flatten(name="flat"), layers.Dense(1, name="top"), name="image", shape=(8, 8, 1))


def times():
    return made(layers.Dense(3, "softmax", name="top"), loss="sparse_categorical_crossentropy", shape=(4, 3))


def two():
    lamina.utils.set_random_seed(1)
    a, b = lamina.Input((3,), name="a"), lamina.Input((2,), name="b")
    outputs = {"p": layers.Dense(1, name="p")(a), "q": layers.Dense(1, name="q")(b)}
    model = lamina.Model({"a": a, "b": b}, outputs, name="two")
    model.compile("sgd", "mse")
    return model


GOOD = {
    number: (X, Y), sparse: (X, LABELS), one_hot: (X, ONE_HOT), binary: (X, LABELS > 1), two: (AB, PQ),
    image: (IMAGES, Y[:6]), times: (np.ones((N, 4, 3)), np.ones((N, 4))),
}  # fmt: skip
shared = functools.cache(lambda make: make())  # a model stays good, whatever it was given


def fit(*data, **options):
    return lambda model, path: model.fit(*data, verbose=0, **options)


def recompiled(*data, **options):
    """A fit of a model that is compiled in another way, on the side."""

    def act(model, path):
        other = two() if model.name == "two" else number()
        other.compile(**{"optimizer": "sgd", "loss": "mse", **options})
        other.fit(*data, verbose=0)

    return act


def stream(*batches):
    return lambda model, path: model.fit((batch for batch in batches), verbose=0)


def with_value(array, value, *place):
    array = np.array(array, type(value))
    array[place] = value
    return array


class Endless(lamina.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index):
        return X, Y


class Uneven(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.ones(3 if index else 2), 1.0


class NoMemory:
    """On a device that is not there."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit copies are not made")


def other_weights(model, path):
    file = path / "w.weights.h5"
    made(layers.Dense(2, name="top")).save_weights(file)
    model.load_weights(file)


def ragged_dataset(model, path):
    model.fit(tf.data.Dataset.from_tensors((tf.ragged.constant([[1.0], [2.0, 3.0]]), Y[:2])), verbose=0)


# (model, what is done with it, what it says)
MISTAKES = {
    "strings": (
        number,
        fit(np.array([["a"] * 3] * N), Y),
        "fit: x must hold numbers, got dtype str32; turn text and objects into numbers first, for example "
        "with StringLookup or TextVectorization.",
    ),
    "a column of strings": (
        number,
        fit(pd.DataFrame({"u": X[:, 0], "city": ["Rome"] * N}), Y),
        "fit: column 'city' of x must hold numbers, got dtype str; turn text and objects into numbers "
        "first, for example with StringLookup or TextVectorization.",
    ),
    "a column of categories": (
        number,
        fit(pd.DataFrame({"u": X[:, 0], "city": pd.Categorical(["Rome"] * N)}), Y),
        "fit: column 'city' of x must hold numbers, got dtype category; give their codes, or one-hot "
        "columns (pd.get_dummies).",
    ),
    "a column of dates": (
        number,
        fit(pd.DataFrame({"u": X[:, 0], "day": pd.date_range("2024", periods=N)}), Y),
        "fit: column 'day' of x must hold numbers, got dtype datetime64[us]; give parts of them, such as "
        "the year, or the seconds since a date.",
    ),
    "a column with gaps": (
        number,
        fit(pd.DataFrame({"u": pd.array([1, None] * 11, "Int64")}), Y),
        "fit: column 'u' of x must have no missing values, got 11 nulls; fill the gaps, or leave these rows out.",
    ),
    "a column of Polars with gaps": (
        number,
        fit(pl.DataFrame({"u": [1, None] * 11}), Y),
        "fit: column 'u' of x must have no missing values, got 11 nulls; fill the gaps, or leave these rows out.",
    ),
    "a column of Polars of strings": (
        number,
        fit(X, pl.Series("kind", ["cat"] * N)),
        "fit: column 'kind' of y must hold numbers, got dtype String; turn text and objects into numbers "
        "first, for example with StringLookup or TextVectorization.",
    ),
    "labels that are strings": (
        sparse,
        fit(X, ["cat"] * N),
        "fit: y[0] must hold numbers, got 'cat'; turn text into numbers first.",
    ),
    "labels in a column of strings": (
        sparse,
        fit(X, pd.Series(["cat"] * N, name="kind")),
        "fit: column 'kind' of y must hold numbers, got dtype str; turn text and objects into numbers "
        "first, for example with StringLookup or TextVectorization.",
    ),
    "rows of tf.data": (
        number,
        lambda model, path: model.fit(tf.data.Dataset.from_tensor_slices((X, Y)), verbose=0),
        "fit: in a batch of tensorflow._TensorSliceDataset: all arrays must have the same number of rows, "
        "got x 3, y 1; data of single rows must be batched, such as by .batch(32).",
    ),
    "rows of tf.data with labels": (
        sparse,
        lambda model, path: model.fit(tf.data.Dataset.from_tensor_slices((X, LABELS)), verbose=0),
        "fit: y must have a first axis of rows, got a single number; batch the data first, such as by .batch(32).",
    ),
    "endless tf.data": (
        number,
        lambda model, path: model.fit(tf.data.Dataset.from_tensors((X, Y)).repeat(), verbose=0),
        "fit: steps_per_epoch must be given for data without end, got a tensorflow._RepeatDataset.",
    ),
    "endless validation": (
        number,
        fit(X, Y, validation_data=Endless()),
        "validation_data: validation_steps must be given for data without end, got a tests.Endless.",
    ),
    "an endless PyDataset": (
        number,
        lambda model, path: model.evaluate(Endless(), verbose=0),
        "evaluate: steps must be given for data without end, got a tests.Endless.",
    ),
    "targets of other sizes than the outputs in a batch": (
        two,
        stream(({"a": X[:4], "b": X[:3, :2]}, {"p": Y[:4], "q": Y[:4]})),
        'loss: y for output "q" must have 3 rows, got 4.',
    ),
    "rows of x and y": (number, fit(X, Y[:5]), "fit: all arrays must have the same number of rows, got x 22, y 5."),
    "a loss for an unknown output": (
        two,
        recompiled(AB, PQ, loss={"p": "mse", "z": "mse"}),
        "compile: loss: keys must be names of outputs (p, q), got z.",
    ),
    "metrics for an unknown output": (
        two,
        recompiled(AB, PQ, metrics={"z": "mae"}),
        "compile: metrics: keys must be names of outputs (p, q), got z.",
    ),
    "a weight for an unknown output": (
        two,
        recompiled(AB, PQ, loss_weights={"z": 1.0}),
        "compile: loss_weights: keys must be names of outputs (p, q), got z.",
    ),
    "too many weights of losses": (
        number,
        recompiled(X, Y, loss_weights=[1.0, 2.0]),
        "compile: loss_weights: must have one entry for each of 1 outputs, got 2.",
    ),
    "metrics in third place": (
        number,
        lambda model, path: model.compile("sgd", "mse", ["mae"]),
        "compile: loss_weights must be numbers, got 'mae'; metrics go by name, metrics=.",
    ),
    "a target for an unknown output": (
        two,
        fit(AB, {"p": Y, "z": Y}),
        "y: keys must be names of outputs (p, q), got z.",
    ),
    "a target left out": (
        two,
        fit(AB, {"p": Y}),
        'loss: output "q" must have a target in y, got None; give y, batches of (x, y), or "q" among named data.',
    ),
    "an unknown input": (
        two,
        fit({"a": X, "c": X}, PQ),
        "Functional \"two\": the inputs must have the keys ['a', 'b'], got ['a', 'c']; 'b' is missing.",
    ),
    "inputs by place where they have names": (
        two,
        fit([X, X[:, :2]], PQ),
        "Functional \"two\": the inputs must have the keys ['a', 'b'], got a list, whose order does not say "
        "which is which.",
    ),
    "not compiled": (
        number,
        lambda model, path: lamina.Sequential([layers.Dense(1)], name="raw").fit(X, Y),
        'Sequential "raw": must be compiled before fit; call compile(optimizer, loss).',
    ),
    "no targets": (
        number,
        fit(X),
        'loss: output "top" must have a target in y, got None; give y, batches of (x, y), or "top" among named data.',
    ),
    "no targets in evaluate": (
        number,
        lambda model, path: model.evaluate(X, verbose=0),
        'loss: output "top" must have a target in y, got None; give y, batches of (x, y), or "top" among named data.',
    ),
    "a split of a generator": (
        number,
        lambda model, path: model.fit(((X, Y) for _ in range(2)), validation_split=0.2),
        "fit: validation_split takes the last rows of arrays, got builtins.generator; give validation_data instead.",
    ),
    "a split that leaves nothing": (
        number,
        fit(X[:1], Y[:1], validation_split=0.5),
        "fit: validation_split must leave rows on both sides, got 0.5 of 1 rows.",
    ),
    "a split of everything": (
        number,
        fit(X, Y, validation_split=1.0),
        "fit: validation_split must be between 0 and 1, got 1.0.",
    ),
    "a split in words": (
        number,
        fit(X, Y, validation_split="20%"),
        "fit: validation_split must be between 0 and 1, got '20%'.",
    ),
    "classes from 1": (
        sparse,
        fit(X, LABELS + 1),
        "fit: y must hold classes from 0 to 2 for sparse_categorical_crossentropy, got 3 in row 2; where "
        "classes count from 1, give y - 1.",
    ),
    "a class too many": (
        sparse,
        fit(X, with_value(LABELS, 7, 4)),
        "fit: y must hold classes from 0 to 2 for sparse_categorical_crossentropy, got 7 in row 4; the last"
        " layer needs a unit for each class, 8 of them.",
    ),
    "one-hot for a sparse loss": (
        sparse,
        fit(X, ONE_HOT),
        "sparse_categorical_crossentropy: y_true must hold integer classes of shape (22,), got shape (22, "
        "3); for one-hot targets use categorical_crossentropy.",
    ),
    "classes for a loss of one-hot": (
        one_hot,
        fit(X, LABELS),
        "fit: y must be one-hot for categorical_crossentropy, with 3 values in the last axis, got shape "
        "(22,); use sparse_categorical_crossentropy, or give to_categorical(y, 3).",
    ),
    "a column of classes for a loss of one-hot": (
        one_hot,
        fit(X, LABELS[:, None]),
        "fit: y must be one-hot for categorical_crossentropy, with 3 values in the last axis, got shape "
        "(22, 1); use sparse_categorical_crossentropy, or give to_categorical(y, 3).",
    ),
    "classes for a binary loss": (
        binary,
        fit(X, LABELS),
        "fit: y must lie between 0 and 1 for binary_crossentropy, got 2 in row 2; for several classes use "
        "sparse_categorical_crossentropy, for numbers a loss such as mse.",
    ),
    "halves for a sparse loss": (
        sparse,
        fit(X, LABELS + 0.5),
        "fit: y must hold whole numbers, the classes, for sparse_categorical_crossentropy, got 0.5 in row "
        "0; for probabilities use categorical_crossentropy, for numbers a loss such as mse.",
    ),
    "no rows": (number, fit(X[:0], Y[:0]), "fit: the data must not be empty, got x 0, y 0."),
    "empty lists": (number, fit([], []), "fit: x must hold at least one array, got none."),
    "batch_size 0": (number, fit(X, Y, batch_size=0), "fit: batch_size must be a positive integer, got 0."),
    "batch_size -1": (number, fit(X, Y, batch_size=-1), "fit: batch_size must be a positive integer, got -1."),
    "batch_size of text": (number, fit(X, Y, batch_size="32"), "fit: batch_size must be a positive integer, got '32'."),
    "batch_size 2.5": (number, fit(X, Y, batch_size=2.5), "fit: batch_size must be a positive integer, got 2.5."),
    "epochs -1": (number, fit(X, Y, epochs=-1), "fit: epochs must be an integer of at least 0, got -1."),
    "epochs of text": (number, fit(X, Y, epochs="5"), "fit: epochs must be an integer of at least 0, got '5'."),
    "epochs 2.5": (number, fit(X, Y, epochs=2.5), "fit: epochs must be an integer of at least 0, got 2.5."),
    "no epochs": (number, fit(X, Y, epochs=None), "fit: epochs must be an integer of at least 0, got None."),
    "initial_epoch of text": (
        number,
        fit(X, Y, initial_epoch="1"),
        "fit: initial_epoch must be an integer of at least 0, got '1'.",
    ),
    "steps_per_epoch 0": (
        number,
        fit(X, Y, steps_per_epoch=0),
        "fit: steps_per_epoch must be a positive integer, got 0.",
    ),
    "validation_steps of text": (
        number,
        fit(X, Y, validation_data=(X, Y), validation_steps="2"),
        "fit: validation_steps must be a positive integer, got '2'.",
    ),
    "validation_batch_size 0": (
        number,
        fit(X, Y, validation_data=(X, Y), validation_batch_size=0),
        "fit: validation_batch_size must be a positive integer, got 0.",
    ),
    "validation_freq in words": (
        number,
        fit(X, Y, validation_data=(X, Y), validation_freq=["each"]),
        "fit: validation_freq must be a positive integer, got 'each'.",
    ),
    "verbose in words": (
        number,
        lambda model, path: model.fit(X, Y, verbose="loud"),
        "fit: verbose must be one of 'auto', 0, 1, 2, got 'loud'.",
    ),
    "shuffle in words": (number, fit(X, Y, shuffle="yes"), "fit: shuffle must be True, False or 'batch', got 'yes'."),
    "large integers": (
        number,
        fit(np.full((N, 3), 2**40), Y),
        "fit: x must hold integers from -2147483648 to 2147483647, got 1099511627776 in row 0, column 0; "
        "number the values anew (np.unique with return_inverse), or give floats.",
    ),
    "a row of other width": (
        number,
        fit(X[:, :2], Y),
        'Functional "stack": input "rows" must have shape (None, 3), got (22, 2).',
    ),
    "an image of one more channel": (
        image,
        fit(np.ones((6, 8, 8, 3)), Y[:6]),
        'Functional "image": input "rows" must have shape (None, 8, 8, 1), got (6, 8, 8, 3).',
    ),
    "an image without batch axis": (
        image,
        lambda model, path: model.predict(IMAGES[0], verbose=0),
        'Functional "image": input "rows" must have shape (None, 8, 8, 1), got (8, 8, 1); if that is one '
        "sample, add a batch axis: x[None].",
    ),
    "a gray image without batch axis": (
        image,
        lambda model, path: model.predict(IMAGES[0, :, :, 0], verbose=0),
        'Functional "image": input "rows" must have shape (None, 8, 8, 1), got (8, 8); if that is one '
        "sample, add a batch axis: x[None].",
    ),
    "one row": (
        number,
        lambda model, path: model.predict(X[0], verbose=0),
        'Functional "stack": input "rows" must have shape (None, 3), got (3,); if that is one sample, add a'
        " batch axis: x[None].",
    ),
    "predict on other features": (
        number,
        lambda model, path: model.predict(X[:, :2], verbose=0),
        'Functional "stack": input "rows" must have shape (None, 3), got (22, 2).',
    ),
    "predict nothing": (
        number,
        lambda model, path: model.predict(X[:0], verbose=0),
        "predict: the data must not be empty, got x 0.",
    ),
    "class_weight by name": (
        sparse,
        fit(X, LABELS, class_weight={"cat": 1.0}),
        "fit: class_weight must be a dict of class number to weight, got {'cat': 1.0}.",
    ),
    "class_weight in words": (
        sparse,
        fit(X, LABELS, class_weight={0: "more"}),
        "fit: class_weight must be a dict of class number to weight, got {0: 'more'}.",
    ),
    "class_weight in a list": (
        sparse,
        fit(X, LABELS, class_weight=[1, 2, 3]),
        "fit: class_weight must be a dict of class number to weight, got [1, 2, 3].",
    ),
    "class_weight of several outputs": (
        two,
        fit(AB, PQ, class_weight={0: 1.0}),
        "fit: class_weight needs one array of targets y, got dict.",
    ),
    "class_weight of targets with an axis more": (
        times,
        fit(np.ones((N, 4, 3)), np.ones((N, 4, 3, 2)), class_weight={0: 1.0}),
        "sparse_categorical_crossentropy: y_true must hold integer classes of shape (22, 4), got shape (22,"
        " 4, 3, 2); for one-hot targets use categorical_crossentropy.",
    ),
    "class_weight and sample_weight": (
        sparse,
        fit(X, LABELS, sample_weight=np.ones(N), class_weight={0: 1.0}),
        "fit: class_weight and sample_weight must not both be given; multiply the weights of the classes "
        "into sample_weight.",
    ),
    "sample_weight of another length": (
        number,
        fit(X, Y, sample_weight=np.ones(5)),
        "fit: all arrays must have the same number of rows, got x 22, y 22, sample_weight 5.",
    ),
    "sample_weight in words": (
        number,
        fit(X, Y, sample_weight="balanced"),
        "fit: sample_weight must hold numbers, got 'balanced'; turn text into numbers first.",
    ),
    "sample_weight of another shape": (
        number,
        fit(X, Y, sample_weight=np.ones((N, 4))),
        'LossFunctionWrapper "mse": sample_weight and mask must have the first axes of the losses of shape '
        "(22,), got (22, 4).",
    ),
    "a number as callbacks": (
        number,
        fit(X, Y, callbacks=3),
        "CallbackList: callbacks must be Callback objects, got 3.",
    ),
    "a name as callbacks": (
        number,
        fit(X, Y, callbacks="EarlyStopping"),
        "CallbackList: callbacks must be Callback objects, got 'EarlyStopping'.",
    ),
    "a class as a callback": (
        number,
        fit(X, Y, callbacks=[callbacks.EarlyStopping]),
        "CallbackList: callbacks must be Callback objects, got <class "
        "'lamina.callbacks.control.EarlyStopping'>; pass an object: EarlyStopping(...).",
    ),
    "an optimizer misspelt": (
        number,
        recompiled(X, Y, optimizer="adamm"),
        "optimizer 'adamm': must be a name in lamina.optimizers, or one registered with "
        "@lamina.saving.register_keras_serializable() or custom_objects. Did you mean 'Adam'?",
    ),
    "a loss misspelt": (
        number,
        recompiled(X, Y, loss="binary_crosentropy"),
        "loss 'binary_crosentropy': must be a name in lamina.losses, or one registered with "
        "@lamina.saving.register_keras_serializable() or custom_objects. Did you mean "
        "'binary_crossentropy'?",
    ),
    "a metric misspelt": (
        number,
        recompiled(X, Y, metrics=["acuracy"]),
        "metric 'acuracy': must be a name in lamina.metrics, or one registered with "
        "@lamina.saving.register_keras_serializable() or custom_objects. Did you mean 'accuracy'?",
    ),
    "a number as a loss": (
        number,
        recompiled(X, Y, loss=3),
        "loss: must be a name, an object, a function or a configuration, got 3.",
    ),
    "a number as a metric": (
        number,
        recompiled(X, Y, metrics=[3]),
        "metric: must be a name, an object, a function or a configuration, got 3.",
    ),
    "no loss": (
        number,
        recompiled(X, Y, loss=None),
        'Sequential "stack": compile must be given a loss, or layers must add one.',
    ),
    "an argument misspelt": (
        number,
        fit(X, Y, epoch=3),
        "fit: must not be given unknown arguments, got epoch; did you mean epochs?",
    ),
    "weights of another shape": (
        number,
        lambda model, path: model.set_weights([np.ones((3, 2)), np.ones(2)]),
        'Sequential "stack": the array for stack/top/kernel must have shape (3, 1), got (3, 2).',
    ),
    "too few weights": (
        number,
        lambda model, path: model.set_weights([np.ones((3, 1))]),
        'Sequential "stack": set_weights must get 2 arrays, got 1.',
    ),
    "a file of other weights": (
        number,
        other_weights,
        '"{path}/w.weights.h5": Dense "top": layers/dense/vars/0 must have shape (3, 1) of '
        "stack/top/kernel, got (3, 2).",
    ),
    "a file that is not there": (
        number,
        lambda model, path: model.load_weights(path / "no.weights.h5"),
        'load_weights: "{path}/no.weights.h5" must be there, and is not.',
    ),
    "a monitor misspelt": (
        number,
        fit(X, Y, validation_data=(X, Y), callbacks=[callbacks.EarlyStopping("val_los")]),
        "EarlyStopping: monitor must be among the logs, which hold loss and these of validation (val_...), "
        "got 'val_los'. Did you mean 'val_loss'?",
    ),
    "one target for two outputs": (two, fit(AB, Y), "y: must be a list or dict for 2 outputs (p, q), got one array."),
    "validation_data without targets": (
        number,
        fit(X, Y, validation_data=X),
        "validation_data: must hold targets, as x and y do, got x alone; give (x, y).",
    ),
    "validation_data of four parts": (
        number,
        fit(X, Y, validation_data=(X, Y, Y, Y)),
        "validation_data: must be (x, y) or (x, y, sample_weight), got 4 items.",
    ),
    "validation_data of text": (
        number,
        fit(X, Y, validation_data="val.csv"),
        "validation_data: x must be arrays (NumPy, JAX, torch, tf, ...), frames, lists of numbers, or "
        "lists, tuples and dicts of these; or a dataset, loader or generator of batches, got builtins.str.",
    ),
    "validation_data of other features": (
        number,
        fit(X, Y, validation_data=(X[:, :2], Y)),
        'Functional "stack": input "rows" must have shape (None, 3), got (22, 2).',
    ),
    "validation_data of other targets": (
        number,
        fit(X, Y, validation_data=(X, np.ones((N, 5)))),
        "validation_data: y must have the shape of the output (22, 1), got (22, 5), which "
        "mean_squared_error would broadcast; change the units of the last layer, or give np.broadcast_to(y,"
        " ...).",
    ),
    "a ragged tensor": (
        number,
        lambda model, path: model.fit(tf.ragged.constant([[1.0], [2.0, 3.0]]), Y[:2]),
        "fit: x must be arrays (NumPy, JAX, torch, tf, ...), frames, lists of numbers, or lists, tuples and"
        " dicts of these; or a dataset, loader or generator of batches, got tensorflow.RaggedTensor; give "
        "its to_tensor().",
    ),
    "a dataset of ragged tensors": (
        number,
        ragged_dataset,
        "fit: x must give dense tensors, got RaggedTensorSpec(TensorShape([2, None]), tf.float32, 1, "
        "tf.int64); call .map(...) with to_tensor() or tf.sparse.to_dense.",
    ),
    "rows of several lengths": (
        number,
        fit([[1, 2, 3], [1, 2]], Y[:2]),
        "fit: x must be a list whose rows have one length, got rows of several; pad them (pad_sequences).",
    ),
    "objects of several lengths": (
        number,
        fit(np.array([np.ones(3), np.ones(2)], object), Y[:2]),
        "fit: x must have rows of one shape, got (2,) and (3,); pad them (pad_sequences).",
    ),
    "items of several lengths": (
        number,
        lambda model, path: model.fit(Uneven(), verbose=0),
        "fit: items of Uneven must have one shape, got (2,) and (3,); pad them, or use a DataLoader with a collate_fn.",
    ),
    "memory that cannot be read": (
        number,
        fit(NoMemory(), Y),
        "fit: x must be in memory that can be read from here, got tests.NoMemory (implicit copies are not "
        "made); give a NumPy array of it.",
    ),
    "a batch of four parts": (
        number,
        stream((X, Y, Y, Y)),
        "fit: a batch of builtins.generator must be a tuple (x,), (x, y) or (x, y, sample_weight), or a "
        "dict, got a tuple of 4.",
    ),
    "a batch that is an array": (
        number,
        stream(X),
        "fit: a batch of builtins.generator must be a tuple (x,), (x, y) or (x, y, sample_weight), or a "
        "dict, got numpy.ndarray.",
    ),
    "a batch that is nothing": (
        number,
        stream(None),
        "fit: a batch of builtins.generator must be a tuple (x,), (x, y) or (x, y, sample_weight), or a "
        "dict, got None.",
    ),
    "a batch by name for inputs by place": (
        number,
        stream({"x": X, "y": Y}),
        "Functional \"stack\": the inputs must have the keys ['rows'], got ['x', 'y']; 'rows' is missing.",
    ),
    "a generator without batches": (
        number,
        stream(),
        "fit: x must give at least one batch, got an empty builtins.generator.",
    ),
    "a generator that is not called": (
        number,
        lambda model, path: model.fit(stream),
        "fit: x must be arrays (NumPy, JAX, torch, tf, ...), frames, lists of numbers, or lists, tuples and"
        " dicts of these; or a dataset, loader or generator of batches, got builtins.function; call the "
        "function, and give what it returns.",
    ),
    "targets beside a generator": (
        number,
        lambda model, path: model.fit(((X, Y) for _ in range(2)), Y),
        "fit: y must be part of each batch when x is a builtins.generator, got numpy.ndarray; let it give "
        "(x, y) or (x, y, sample_weight).",
    ),
    "a path as data": (
        number,
        fit("data.csv", Y),
        "fit: x must be arrays (NumPy, JAX, torch, tf, ...), frames, lists of numbers, or lists, tuples and"
        " dicts of these; or a dataset, loader or generator of batches, got builtins.str.",
    ),
    "nothing as data": (
        number,
        fit(None, Y),
        "fit: x must be arrays (NumPy, JAX, torch, tf, ...), frames, lists of numbers, or lists, tuples and"
        " dicts of these; or a dataset, loader or generator of batches, got None.",
    ),
    "class weights of a batch without targets": (
        sparse,
        lambda model, path: model.fit(((X,) for _ in range(2)), class_weight={0: 1.0}),
        "fit: class_weight needs one array of targets y, got None.",
    ),
}


def assert_unchanged(model, before):
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(mistake, tmp_path):
    make, act, message = MISTAKES[mistake]
    model = shared(make)
    before, steps = model.get_weights(), int(model.optimizer.iterations.value)
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        act(model, tmp_path)
    assert str(caught.value) == message.replace("{path}", str(tmp_path))
    assert_unchanged(model, before)
    assert int(model.optimizer.iterations.value) == steps
    history = model.fit(*GOOD[make], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all() and int(model.optimizer.iterations.value) == steps + 1


def deaf():
    class Deaf(lamina.Model):
        def __init__(self):
            super().__init__(name="deaf")
            self.inner = lamina.Sequential([layers.Dropout(0.5, name="drop"), layers.Dense(1)])

        def call(self, x):
            return self.inner(x)

    model = Deaf()
    model.compile("sgd", "mse")
    return model


# (model, what is done with it, the warning); it trains
DOUBTS = {
    "NaN in x": (
        number,
        fit(with_value(X, np.nan, 3, 1), Y),
        "fit: x should hold finite numbers, has others: 1 in the first batch, the first (nan) in row 3, column 1; "
        "leave out these rows, or fill the gaps (np.nan_to_num).",
    ),
    "weights of unknown classes": (
        sparse,
        fit(X, LABELS, class_weight={0: 1.0, 7: 2.0}),
        "fit: class_weight should hold classes that are in y, has 7 too, whose weight is not used.",
    ),
    "steps beyond the data": (
        number,
        fit(X, Y, batch_size=8, steps_per_epoch=9),
        "fit: the data hold 3 batches of 8 rows, and an epoch takes these, got steps_per_epoch=9; leave the steps out "
        "to take all.",
    ),
    "a generator that ends early": (
        number,
        lambda model, path: model.fit(((X, Y) for _ in range(2)), steps_per_epoch=5, verbose=0),
        "train: the data ended after 2 of 5 steps; make the generator endless, or ask for fewer steps.",
    ),
    "initial_epoch above epochs": (
        number,
        fit(X, Y, epochs=2, initial_epoch=5),
        "fit: epochs is the number of the last epoch, not how many there are to come, and nothing is done if it is "
        "below initial_epoch, got epochs=2, initial_epoch=5.",
    ),
    "batch_size beside batches": (
        number,
        lambda model, path: model.fit(tf.data.Dataset.from_tensors((X, Y)), batch_size=8, verbose=0),
        "fit: batch_size=8 is not used, x is a tensorflow._TensorDataset of whole batches.",
    ),
    "a name that no input has": (
        two,
        fit({**AB, "c": X}, PQ),
        "Functional \"two\": the inputs must have the keys ['a', 'b'], got ['c'] too, which are not used.",
    ),
    "a call that does not hear of training": (
        deaf,
        fit(X, Y),
        'Deaf "deaf": call takes no training, so Dropout "drop" does not hear that fit trains, as in Keras; '
        "add training=None to it and pass it on.",
    ),
    "a monitor that no log has": (
        number,
        fit(X, Y, callbacks=[callbacks.EarlyStopping("val_loss")]),
        "EarlyStopping: monitor 'val_loss' must be among the logs, which hold loss. Did you mean 'loss'?",
    ),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_may_be_meant_so_is_a_warning(doubt, tmp_path):
    make, act, message = DOUBTS[doubt]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act(make(), tmp_path)
    assert message in [str(each.message) for each in caught]


def test_a_generator_that_goes_on_and_on_is_told_of():
    class Stop(callbacks.Callback):
        replays = True

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch > 10_000

    def endless():
        while True:
            yield X[:1], Y[:1]

    message = "fit: the builtins.generator has given 10,000 batches of a pass and goes on; if it has no end, give"
    with pytest.warns(UserWarning, match=message):
        number().fit(endless(), callbacks=[Stop()], verbose=0)


def widths(model, path):
    model.fit(((X[:, : 3 - i], Y) for i in range(2)), verbose=0)


def texts(model, path):
    model.fit(((X, Y) if i == 0 else (np.array(["a"] * N), Y) for i in range(2)), verbose=0)


def one_part(model, path):
    model.fit(((X, Y) if i == 0 else (X,) for i in range(2)), verbose=0)


@pytest.mark.parametrize(
    "act, message",
    [
        (widths, 'Functional "stack": input "rows" must have shape (None, 3), got (22, 2).'),
        (texts, "fit: x must hold numbers, got dtype str32; turn text and objects into numbers first"),
        (one_part, 'loss: output "top" must have a target in y, got None; give y, batches of (x, y), or "top" among'),
    ],
)
def test_a_later_batch_of_another_kind_loses_no_batch_before_it(act, message, tmp_path):
    model, other = number(), number()
    with pytest.raises(ValueError) as caught:
        act(model, tmp_path)
    assert str(caught.value).startswith(message)
    other.fit(iter([(X, Y)]), verbose=0)
    assert_unchanged(model, other.get_weights())
    model.fit(X, Y, verbose=0)


def test_batches_may_have_other_dtypes():
    model, other = number(), number()
    model.fit(iter([(X.round().astype(kind), Y) for kind in ("float32", "float64", "int32", "int8")]), verbose=0)
    other.fit(iter([(X.round(), Y)] * 4), verbose=0)
    assert_unchanged(model, other.get_weights())


@pytest.mark.parametrize("name", ["CSVLogger", "ModelCheckpoint"])
def test_a_full_disk_says_where_and_keeps_what_was_learnt(name, tmp_path, monkeypatch):
    class Full:
        def __init__(self, *args, **kwargs):
            raise OSError(28, "No space left on device")

    logger = callbacks.CSVLogger(tmp_path / "log.csv")
    saver = callbacks.ModelCheckpoint(tmp_path / "model.keras")
    if name == "CSVLogger":
        monkeypatch.setattr("csv.writer", Full)
    else:
        monkeypatch.setattr("zipfile.ZipFile", Full)
    model, other = number(), number()
    with pytest.raises(OSError, match="No space left on device") as caught:
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[logger if name == "CSVLogger" else saver])
    rest = "the model keeps what it learnt, fit goes on with initial_epoch"
    assert f"in callback {name}, on_epoch_end of epoch 0; {rest}" in caught.value.__notes__
    other.fit(X, Y, epochs=1, verbose=0)
    assert_unchanged(model, other.get_weights())
    assert not (tmp_path / "model.keras").exists()


def test_a_mask_that_does_not_fit():
    with pytest.raises(ValueError) as caught:
        layers.LSTM(2, name="lstm")(np.ones((2, 4, 3), "float32"), mask=np.ones((2, 5), bool))
    rule = 'LSTM "lstm": mask must begin with the axes (batch, time) of its input, (2, 4), got shape (2, 5).'
    assert str(caught.value) == rule


def test_no_note_of_machinery_is_left_on_a_mistake():
    with pytest.raises(ValueError) as caught:
        number().fit(X[:, :2], Y, verbose=0)
    assert not any("JAX" in note for note in getattr(caught.value, "__notes__", ()))


def test_one_batch_need_not_have_all_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparse().train_on_batch(X[:1], LABELS[:1], class_weight={0: 1.0, 1: 2.0, 2: 3.0})
