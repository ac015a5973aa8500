"""Distillation: losses, weights and files beside Keras, and what a person may get wrong."""

import copy
import pickle

import keras
import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(20, 4)).astype("float32")
Y = np.arange(20) % 3
P = RANDOM.uniform(0.1, 1, size=(6, 3)).astype("float32")
Q = RANDOM.uniform(0.1, 1, size=(6, 3)).astype("float32")


def small(keras, name, size=5, outputs=1, dropout=0.0):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(size, "relu", name="hidden")(inputs)
    hidden = keras.layers.Dropout(dropout, seed=2)(keras.layers.BatchNormalization()(hidden))
    tops = [keras.layers.Dense(3, name=f"top_{i}")(hidden) for i in range(outputs)]
    return keras.Model(inputs, tops[0] if outputs == 1 else tops, name=name)


def logits(keras):
    return keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence())


def custom(keras):
    class Largest(keras.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return keras.ops.max(keras.ops.abs(teacher_outputs - student_outputs))

        def get_config(self):
            return {}

    return Largest()


CASES = {
    "default and custom": lambda k: {"distillation_losses": (k.distillation.LogitsDistillation(), custom(k))},
    "divergence": lambda k: {"distillation_losses": logits(k), "student_loss_weight": 0.25},
    "several": lambda k: {
        "distillation_losses": [
            logits(k),
            k.distillation.FeatureDistillation("mse", "hidden", "hidden"),
            k.distillation.FeatureDistillation(k.losses.CosineSimilarity()),
            k.distillation.FeatureDistillation("mae", "batch_normalization", "hidden"),
        ],
        "distillation_loss_weights": [1.0, 0.5, 2, 0.1],
    },
    "student alone": lambda k: {"distillation_losses": logits(k), "student_loss_weight": 1},
    "teacher alone": lambda k: {"distillation_losses": logits(k), "student_loss_weight": 0.0},
}


def distiller(keras, case, **compiled):
    keras.utils.clear_session()
    model = keras.distillation.Distiller(small(keras, "teacher"), small(keras, "student"), **CASES[case](keras))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **compiled)
    return model


@pytest.mark.parametrize("case", CASES)
def test_losses_and_trained_weights_are_those_of_keras(case):
    def program(keras):
        model = distiller(keras, case)
        before = model.teacher.get_weights()
        held_out = {} if case == "several" else {"validation_data": (X[:9], Y[:9])}
        history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, **held_out).history
        assert all(np.array_equal(a, b) for a, b in zip(before, model.teacher.get_weights()))
        assert not model.teacher.trainable
        names = [v.path for v in model.trainable_variables]
        return history, model.student.get_weights(), model.predict(X, verbose=0), names

    same_in_both(program)


def test_several_outputs_each_with_its_loss():
    """Keras gets lost in lists of losses."""
    loss = lamina.distillation.LogitsDistillation(loss=["mse", None])
    model = lamina.distillation.Distiller(small(lamina, "t", outputs=2), small(lamina, "s", 7, outputs=2), loss)
    model.compile("sgd", ["mse", "mae"])
    (taught, _), given = model.teacher.predict(X[:6], verbose=0), model.student.predict(X[:6], verbose=0)
    logs = model.evaluate(X[:6], [P, Q], verbose=0, return_dict=True)
    student = np.mean((given[0] - P) ** 2) + np.mean(np.abs(given[1] - Q))
    distilled = np.mean((taught - given[0]) ** 2) / 9
    found = [logs["student_loss"], logs["distillation_loss"], logs["total_loss"]]
    np.testing.assert_allclose(found, [student, distilled, (student + distilled) / 2], rtol=1e-5)
    losses = model.fit(X[:6], [P, Q], epochs=9, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_dropout_draws_in_training_only():
    """Keras draws for features while it evaluates, too."""
    loss = lamina.distillation.FeatureDistillation("mse", "top_0", "top_0")
    model = lamina.distillation.Distiller(small(lamina, "t"), small(lamina, "s", dropout=0.5), loss)
    model.compile("sgd", lamina.losses.SparseCategoricalCrossentropy(from_logits=True))
    weights = model.student.get_weights()
    assert model.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.student.get_weights()))


@pytest.mark.parametrize("loss", ["kl_divergence", "KLDivergence", "mse", "CosineSimilarity", ["mse"]])
@pytest.mark.parametrize("kind", ["LogitsDistillation", "FeatureDistillation"])
def test_a_loss_alone(kind, loss):
    def program(keras):
        made = getattr(keras.losses, loss)() if isinstance(loss, str) and loss[0].isupper() else loss
        one = getattr(keras.distillation, kind)(loss=made)
        pair = ([P], [Q]) if isinstance(loss, list) else (P, Q)
        one.validate_outputs(*pair)
        again = type(one).from_config(one.get_config())
        return one.compute_loss(*pair), again.compute_loss(*pair)

    same_in_both(program)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_files_go_both_ways(tmp_path):
    ours, theirs = distiller(lamina, "several"), distiller(keras, "several")
    for model in (ours, theirs):
        model.fit(X, Y, verbose=0)
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    again = lamina.saving.load_model(tmp_path / "ours.keras")
    there = keras.saving.load_model(tmp_path / "ours.keras", compile=False)
    assert again.evaluate(X, Y, verbose=0) == ours.evaluate(X, Y, verbose=0)  # compiled, with the student's loss
    assert again.distillation_loss_weights == [1.0, 0.5, 2, 0.1] and not again.teacher.trainable
    np.testing.assert_allclose(there.predict(X, verbose=0), ours.predict(X, verbose=0), rtol=1e-5)
    with pytest.warns(UserWarning, match='Distiller "distiller": the file has no loss; call compile before training'):
        here = lamina.saving.load_model(tmp_path / "theirs.keras")
    np.testing.assert_allclose(here.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-5)
    for a, b in zip(here.get_weights(), theirs.get_weights()):
        np.testing.assert_array_equal(a, b)
    here.save_weights(tmp_path / "here.weights.h5")
    there.load_weights(tmp_path / "here.weights.h5")


def test_copies_and_subclasses():
    model = distiller(lamina, "several")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
        other.fit(X, Y, verbose=0)

    class Own(lamina.Model):
        def __init__(self):
            super().__init__()
            self.top = lamina.layers.Dense(3)

        def call(self, x):
            return self.top(x)

    pair = lamina.distillation.Distiller(Own(), Own(), lamina.distillation.LogitsDistillation(loss="mse"))
    pair.compile("adam", "mse")
    assert set(pair.fit(X, P[:1].repeat(20, 0), verbose=0).history) == {
        "loss", "student_loss", "distillation_loss", "total_loss"
    }  # fmt: skip


def test_a_student_layer_beside_the_teachers_outputs():
    loss = lamina.distillation.FeatureDistillation("mse", student_layer_name="top_0")
    model = lamina.distillation.Distiller(small(lamina, "t"), small(lamina, "s"), loss, student_loss_weight=0)
    model.compile("sgd", "mse")
    expected = np.mean((model.teacher.predict(X, verbose=0) - model.student.predict(X, verbose=0)) ** 2)
    np.testing.assert_allclose(
        model.evaluate(X, P[:1].repeat(20, 0), verbose=0), [expected, 0, expected, expected], 1e-5
    )


MISTAKES = {
    "teacher must be a lamina.Model, got str": lambda d: d.Distiller("t", small(lamina, "s"), logits(lamina)),
    r"must have the same inputs, got \[\(\(None, 4\), 'float32'\)\]": lambda d: d.Distiller(
        small(lamina, "t"), lamina.Sequential([lamina.Input((5,)), lamina.layers.Dense(3)]), logits(lamina)
    ),
    "must have the same outputs": lambda d: d.Distiller(
        small(lamina, "t"), lamina.Sequential([lamina.Input((4,)), lamina.layers.Dense(2)]), logits(lamina)
    ),
    "student_loss_weight must be from 0 to 1, got 2": lambda d: d.Distiller(
        small(lamina, "t"), small(lamina, "s"), logits(lamina), student_loss_weight=2
    ),
    "distillation_loss_weights must be as many as distillation_losses, 1, got 2": lambda d: d.Distiller(
        small(lamina, "t"), small(lamina, "s"), [logits(lamina)], [1, 2]
    ),
    "distillation_losses must be DistillationLoss objects, got None": lambda d: d.Distiller(
        small(lamina, "t"), small(lamina, "s"), None
    ),
    "get_layer must get the name of a layer": lambda d: d.Distiller(
        small(lamina, "t"), small(lamina, "s"), d.FeatureDistillation("mse", "hiden", "hidden")
    ),
    "temperature must be a number above 0, got 0": lambda d: d.LogitsDistillation(0),
    "LogitsDistillation: loss must be a loss, or a structure": lambda d: d.LogitsDistillation(loss=[None]),
    "Distiller.compile: loss must be a loss": lambda d: distiller(lamina, "default and custom").compile("sgd"),
    "metrics must be a list or tuple, got str": lambda d: distiller(lamina, "default and custom").compile(
        "sgd", "mse", "mae"
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(message):
    with pytest.raises(ValueError, match=message):
        MISTAKES[message](lamina.distillation)


def test_a_loss_must_be_a_scalar():
    class Rows(lamina.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return lamina.ops.mean(teacher_outputs - student_outputs, axis=-1)

    model = lamina.distillation.Distiller(small(lamina, "t"), small(lamina, "s"), Rows())
    model.compile("sgd", lamina.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"Rows: compute_loss must return a scalar, got \(20,\)\."):
        model.fit(X, Y, verbose=0)
    with pytest.raises(NotImplementedError, match="must define compute_loss"):
        lamina.distillation.DistillationLoss().compute_loss(1, 2)
