"""Errors of training: who, what, which rule, what was given; and bad input changes nothing."""

import re
import warnings

import numpy as np
import pytest

import lamina
from lamina import layers, ops
from tests.training.conftest import X, Y, compiled


def stack(**options):
    lamina.utils.set_random_seed(1)
    model = lamina.Sequential(
        [lamina.Input((3,), name="rows"), layers.Dense(4, name="below"), layers.Dense(1, name="top")], name="stack"
    )
    model.compile(**{"optimizer": "sgd", "loss": "mse", "metrics": ["mae"], **options})
    return model


def two(kind=dict):
    a, b = lamina.Input((3,), name="a"), lamina.Input((2,), name="b")
    p, q = layers.Dense(1, name="p")(a), layers.Dense(1, name="q")(b)
    model = lamina.Model(*([{"a": a, "b": b}, {"p": p, "q": q}] if kind is dict else [[a, b], [p, q]]), name="two")
    model.compile("sgd", "mse")
    return model


def fit(*data, make=stack, **options):
    return make, lambda model: model.fit(*data, verbose=0, **options)


INPUTS = {"a": X, "b": X[:, :2]}

# (model, what is done to it), the message
ROWS = {
    "width": (fit(X[:, :2], Y), 'Functional "stack": input "rows" must have shape (None, 3), got (22, 2).'),
    "rank": (fit(X[:, None], Y), 'Functional "stack": input "rows" must have shape (None, 3), got (22, 1, 3).'),
    "lengths": (fit(X, Y[:5]), "fit: all arrays must have the same number of rows, got x 22, y 5."),
    "lengths of weights": (
        fit(X, Y, sample_weight=np.ones(3)),
        "fit: all arrays must have the same number of rows, got x 22, y 22, sample_weight 3.",
    ),
    "no rows": (fit(X[:0], Y[:0]), "fit: the data must not be empty, got x 0, y 0."),
    "no batches": (fit(iter(())), "fit: x must give at least one batch, got an empty builtins.tuple_iterator."),
    "text": (
        fit(np.array([["a"] * 3] * 22), Y),
        "fit: x must hold numbers, got dtype str32; turn text and objects into numbers first, for example with "
        "StringLookup or TextVectorization.",
    ),
    "shape of y": (
        fit(X, np.zeros((22, 4, 5))),
        'loss "mse": the shapes for output "top" must fit, got y (22, 4, 5), y_pred (22, 1): Incompatible shapes for '
        "broadcasting: shapes=[(22, 4, 5), (22, 1)]",
    ),
    "a loss for each sample": (
        fit(X, Y, make=lambda: stack(loss=lamina.losses.MeanSquaredError(reduction=None))),
        'Sequential "stack": the loss to train with must be one number, got shape (22,); give each loss a reduction, '
        "or take a mean in compute_loss.",
    ),
    "shape of weights": (
        fit(X, Y, sample_weight=np.ones((22, 4))),
        'LossFunctionWrapper "mse": sample_weight and mask must have the first axes of the losses of shape (22,), got '
        "(22, 4).",
    ),
    "frequency of validation": (
        fit(X, Y, validation_data=(X, Y), validation_freq=0),
        "fit: validation_freq must be a positive integer, got 0.",
    ),
    "no y": (
        fit(X),
        'loss: output "top" must have a target in y, got None; give y, batches of (x, y), or "top" among named data.',
    ),
    "too many inputs": (fit([X, X], Y), 'Functional "stack": must get 1 input (rows), got 2.'),
    "too few inputs": (fit(X, [Y, Y], make=lambda: two(list)), 'Functional "two": must get 2 inputs (a, b), got 1.'),
    "inputs in another order": (
        fit([X[:, :2], X], [Y, Y], make=lambda: two(list)),
        'Functional "two": input "a" must have shape (None, 3), got (22, 2).',
    ),
    "a missing input": (
        fit({"a": X}, {"p": Y, "q": Y}, make=two),
        "Functional \"two\": the inputs must have the keys ['a', 'b'], got ['a']; 'b' is missing.",
    ),
    "a missing target": (
        fit(INPUTS, {"p": Y}, make=two),
        'loss: output "q" must have a target in y, got None; give y, batches of (x, y), or "q" among named data.',
    ),
    "an unknown target": (fit(INPUTS, {"p": Y, "r": Y}, make=two), "y: keys must be names of outputs (p, q), got r."),
    "one target for two": (fit(INPUTS, Y, make=two), "y: must be a list or dict for 2 outputs (p, q), got one array."),
    "three targets for two": (
        fit([X, X[:, :2]], [Y] * 3, make=lambda: two(list)),
        "y: must have one entry for each of 2 outputs, got 3.",
    ),
    "two kinds of weights": (
        fit(X, Y, class_weight={0: 1.0}, sample_weight=np.ones(22)),
        "fit: class_weight and sample_weight must not both be given; multiply the weights of the classes into "
        "sample_weight.",
    ),
    "rows of validation": (
        fit(X, Y, validation_data=(X, Y[:3])),
        "validation_data: all arrays must have the same number of rows, got x 22, y 3.",
    ),
    "share of validation": (fit(X, Y, validation_split=1.5), "fit: validation_split must be between 0 and 1, got 1.5."),
    "batch size": (fit(X, Y, batch_size=0), "fit: batch_size must be a positive integer, got 0."),
    "epochs": (fit(X, Y, epochs="3"), "fit: epochs must be an integer of at least 0, got '3'."),
    "callbacks": (fit(X, Y, callbacks=[3]), "CallbackList: callbacks must be Callback objects, got 3."),
    "loss of an unknown output": (
        fit(INPUTS, {"p": Y, "q": Y}, make=lambda: recompiled(loss={"p": "mse", "x": "mse"})),
        "compile: loss: keys must be names of outputs (p, q), got x.",
    ),
    "metrics of some outputs": (
        fit(INPUTS, {"p": Y, "q": Y}, make=lambda: recompiled(loss="mse", metrics=["mae"])),
        "compile: metrics: must have one entry for each of 2 outputs, got 1.",
    ),
    "weights of some losses": (
        fit(INPUTS, {"p": Y, "q": Y}, make=lambda: recompiled(loss="mse", loss_weights=[1.0])),
        "compile: loss_weights: must have one entry for each of 2 outputs, got 1.",
    ),
    "no loss": (
        fit(X, Y, make=lambda: stack(loss=None)),
        'Sequential "stack": compile must be given a loss, or layers must add one.',
    ),
}


def recompiled(**options):
    model = two()
    model.compile("sgd", **options)
    return model


@pytest.mark.parametrize("name", ROWS)
def test_bad_data_say_why_and_change_nothing(name):
    (make, act), message = ROWS[name]
    model = make()
    weights, iterations = model.get_weights(), int(model.optimizer.iterations.value)
    with pytest.raises(ValueError) as caught:
        act(model)
    assert str(caught.value) == message
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert int(model.optimizer.iterations.value) == iterations == 0


def test_a_fit_that_failed_leaves_the_next_one_as_it_would_have_been():
    """The order of rows, the choice of the metric, seeds: nothing remembers the bad call."""
    classes = np.arange(22) % 3

    def make():
        lamina.utils.set_random_seed(1)
        return compiled(layers.Dense(3, "softmax"), loss="crossentropy", metrics=["accuracy"])

    expected = make().fit(X, classes, batch_size=4, epochs=2, verbose=0).history
    model = make()
    for bad in (np.zeros((22, 3, 2)), np.zeros((22, 5)), classes[:4]):
        with pytest.raises(ValueError, match="must"):
            model.fit(X, bad, verbose=0)
    assert model.fit(X, classes, batch_size=4, epochs=2, verbose=0).history == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamm"}, "optimizer 'adamm': .* Did you mean 'Adam'?"),
        ({"loss": "msee"}, "loss 'msee': .* Did you mean 'mse'?"),
        ({"loss": "binary_crosentropy"}, "loss 'binary_crosentropy': .* Did you mean 'binary_crossentropy'?"),
        ({"loss": "mse", "metrics": ["acuracy"]}, "metric 'acuracy': .* Did you mean 'accuracy'?"),
        ({"loss": "mse", "weighted_metrics": ["cosine"]}, "metric 'cosine': .* Did you mean"),
    ],
)
def test_a_misspelt_name_is_an_error_of_compile_and_changes_nothing(options, message):
    model = stack()
    optimizer, loss = model.optimizer, model.loss
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        model.compile(**options)
    assert model.optimizer is optimizer and model.loss is loss
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_training_needs_compile(method):
    model = lamina.Sequential([layers.Dense(1)], name="stack")
    with pytest.raises(ValueError, match=f'Sequential "stack": must be compiled before {method}; call compile'):
        getattr(model, method)(X, Y)


@pytest.mark.parametrize("method", ["evaluate", "train_on_batch", "test_on_batch"])
def test_the_other_methods_need_targets_too(method):
    with pytest.raises(ValueError, match='output "top" must have a target in y, got None'):
        getattr(stack(), method)(X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.evaluate(X, Y[:3], verbose=0), "evaluate: all arrays must have the same number of rows"),
        (lambda m: m.predict(X[:0], verbose=0), "predict: the data must not be empty, got x 0."),
        (lambda m: m.predict(X[:, :2], verbose=0), 'Functional "stack": input "rows" must have shape'),
        (lambda m: m.predict("text", verbose=0), "predict: x must be arrays"),
        (lambda m: m.train_on_batch(X, Y[:3]), "train_on_batch: all arrays must have the same number of rows"),
        (lambda m: m.evaluate(X, Y, steps=0, verbose=0), "evaluate: steps must be a positive integer, got 0."),
    ],
)
def test_bad_data_for_the_other_methods(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(stack())


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize(
    ("batches", "options", "epochs", "warned"),
    [
        (1, {"steps_per_epoch": 3, "epochs": 1}, [0], "train: the data ended after 1 of 3 steps; make the generator"),
        (4, {"steps_per_epoch": 3, "epochs": 4}, [0, 1], "train: the data ended after 1 of 3 steps; make the"),
        (3, {"steps_per_epoch": 3, "epochs": 2}, [0], "train: the data ended with an earlier epoch; make the"),
        (2, {"epochs": 2}, [0], "train: the data ended with an earlier epoch; make the generator"),
    ],
)
def test_a_generator_that_ends_early_ends_training_with_a_warning(batches, options, epochs, warned, run_eagerly):
    model = stack(run_eagerly=run_eagerly)
    given = ((X[:4], Y[:4]) for _ in range(batches))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(given, verbose=0, **options)
    assert any(str(each.message).startswith(warned) for each in caught)
    assert history.epoch == epochs == list(range(len(history.history["loss"])))
    assert int(model.optimizer.iterations.value) == batches


def test_evaluate_and_predict_warn_of_a_generator_that_ends_early():
    model = stack()
    with pytest.warns(UserWarning, match="test: the data ended after 2 of 3 steps"):
        model.evaluate(((X, Y) for _ in range(2)), steps=3, verbose=0)
    with pytest.warns(UserWarning, match="predict: the data ended after 2 of 3 steps"):
        assert model.predict(((X,) for _ in range(2)), steps=3, verbose=0).shape == (44, 1)


def test_validation_data_that_are_used_up_leave_their_values_out():
    model = stack()
    with pytest.warns(UserWarning, match="test: the data ended with an earlier epoch"):
        history = model.fit(X, Y, epochs=2, verbose=0, validation_data=((X, Y) for _ in range(2))).history
    assert len(history["loss"]) == 2 and len(history["val_loss"]) == 1


def test_validation_looks_at_all_batches_after_an_evaluation_was_stopped():
    class Stop(lamina.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            self.model.stop_evaluating = True

    model = stack(optimizer=lamina.optimizers.SGD(0.0))
    model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[Stop()])
    history = model.fit(X, Y, batch_size=4, verbose=0, validation_data=(X, Y)).history
    assert history["val_loss"] == pytest.approx(history["loss"], rel=1e-5)


def test_an_optimizer_is_needed_to_train():
    with pytest.raises(ValueError, match='Sequential "stack": compile must be given an optimizer to train with'):
        stack(optimizer=None).fit(X, Y, verbose=0)


def test_another_set_of_weights_needs_another_optimizer():
    model = stack(optimizer="adam")
    model.get_layer("below").trainable = False
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.get_layer("below").trainable = True
    before = model.get_weights()
    with pytest.raises(ValueError, match='variables must be those it was built with, got "stack/below/kernel"'):
        model.fit(X, Y, verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)


def test_a_model_without_super_init_says_so():
    class Forgets(lamina.Model):
        def __init__(self):
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    for act in (
        lambda m: m(X), lambda m: m.compile("sgd", "mse"), lambda m: m.fit(X, Y), lambda m: m.evaluate(X, Y),
        lambda m: m.predict(X),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=r"^Forgets: __init__ must call super\(\).__init__\(\)"):
            act(Forgets())


class AsksForValues(layers.Layer):
    def call(self, x):
        return x + (1.0 if ops.sum(x) > 0 else 2.0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_a_stack_of_layers_that_ask_for_values_runs_eagerly_from_the_first_data_on(method):
    model = lamina.Sequential([layers.Dense(4), AsksForValues(), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    quiet = {} if method.endswith("batch") else {"verbose": 0}
    getattr(model, method)(X, Y, **quiet)
    assert model.predict(X, verbose=0).shape == (len(X), 1)
    assert len(model.weights) == 4


def classifier():
    model = lamina.Sequential([layers.Input((3,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


WRONG = np.full(len(X), 5)


@pytest.mark.parametrize(
    "who, act",
    [
        ("validation_data", lambda m: m.fit(X, WRONG % 3, validation_data=(X, WRONG), verbose=0)),
        ("validation_data", lambda m: m.fit(X, np.r_[WRONG[:11] % 3, WRONG[11:]], validation_split=0.5, verbose=0)),
        ("train_on_batch", lambda m: m.train_on_batch(X, WRONG)),
        ("test_on_batch", lambda m: m.test_on_batch(X, WRONG)),
    ],
)
def test_mistakes_in_targets_are_found_wherever_they_are_given(who, act):
    with pytest.raises(ValueError, match=f"^{who}: y must hold classes from 0 to 2 .* got 5 in row 0"):
        act(classifier())


@pytest.mark.parametrize("count", [0, 4])
def test_validation_data_of_too_many_parts_are_named(count):
    with pytest.raises(ValueError, match=f"^validation_data: must be .* got {count} items.$"):
        stack().fit(X, Y, validation_data=(X,) * count, verbose=0)


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: stack().fit(X, Y, epoch=3), "fit: must not be given .* epoch; did you mean epochs?"),
        (lambda: stack().evaluate(X, Y, step=3), "evaluate: must not be given .* step; did you mean steps?"),
        (lambda: stack().compile(optimiser="adam"), "compile: must not be given .* did you mean optimizer?"),
        (lambda: lamina.callbacks.EarlyStopping(patients=3), "EarlyStopping: .* patients; did you mean patience?"),
    ],
)
def test_an_argument_that_does_not_exist_is_answered_with_the_nearest(act, message):
    with pytest.raises(TypeError, match=message):
        act()


def test_a_type_error_inside_is_not_one_of_the_arguments():
    class Breaks(lamina.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        stack().fit(X, Y, callbacks=[Breaks()], verbose=0)
