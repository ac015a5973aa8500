"""Models as estimators: scikit-learn's own checks, and what people do with estimators."""

import importlib
import pickle
import sys
import unittest
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import lamina
from lamina.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer

RANDOM = np.random.default_rng(4)
X = RANDOM.normal(size=(60, 4))
CLASSES = np.argmax(X[:, :3], axis=1)
LABELS = np.array(["ash", "beech", "elm"])[CLASSES]
QUIET = {"verbose": 0}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*softmax over axis"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]


def network(X, y, loss="mse", activation=None, units=(10,), rate=0.05):
    """A small compiled network for the data."""
    lamina.utils.set_random_seed(1)  # so that two fits are the same
    model = lamina.Sequential([lamina.Input((X.shape[1],))])
    for size in units:
        model.add(lamina.layers.Dense(size, "relu"))
    model.add(lamina.layers.Dense(y.shape[1], activation))
    model.compile(lamina.optimizers.Adam(rate), loss)
    return model


def cross_entropy(form="softmax", **kwargs):
    loss = "categorical_crossentropy" if form == "softmax" else lamina.losses.CategoricalCrossentropy(from_logits=True)
    activation = "softmax" if form == "softmax" else None
    return SKLearnClassifier(
        network, model_kwargs={"loss": loss, "activation": activation}, fit_kwargs={"epochs": 30, **QUIET, **kwargs}
    )


EXPECTED = {
    "check_classifiers_train": "decision_function has a column for each of two classes, as in Keras",
    "check_classifiers_classes": "so short a training does not find all classes",
}


CHECKS = parametrize_with_checks(
    [
        cross_entropy(epochs=2),
        SKLearnRegressor(network, fit_kwargs=QUIET),
        SKLearnTransformer(network, fit_kwargs=QUIET),
    ],
    expected_failed_checks=lambda estimator: EXPECTED if isinstance(estimator, SKLearnClassifier) else {},
)


def _name(part):
    """Of an estimator or a check; scikit-learn's own has the addresses of functions in it."""
    return part.func.__name__ if hasattr(part, "func") else type(part).__name__


@pytest.mark.parametrize("estimator, check", list(CHECKS.args[1]), ids=_name)
def test_the_checks_of_scikit_learn(estimator, check):
    try:
        check(estimator)
    except unittest.SkipTest as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    "labels, form", [(LABELS, "softmax"), (CLASSES * 10 - 5, "logits"), (LABELS == "elm", "softmax")]
)
def test_labels_and_probabilities_agree(labels, form):
    estimator = cross_entropy(form).fit(X, labels)
    probabilities, scores, found = (getattr(estimator, f)(X) for f in ("predict_proba", "decision_function", "predict"))
    assert estimator.classes_.tolist() == sorted(set(labels.tolist()))
    assert probabilities.shape == scores.shape == (60, len(estimator.classes_))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert found.dtype == labels.dtype
    assert (found == estimator.classes_[probabilities.argmax(axis=1)]).all()
    assert (found == estimator.classes_[scores.argmax(axis=1)]).all()
    assert estimator.score(X, labels) > 0.85 and estimator.epoch_ == 30
    again = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(again.decision_function(X), scores)


def test_samples_with_several_labels():
    y = (X[:, :3] > 0).astype(int)
    kwargs = {"loss": "binary_crossentropy", "activation": "sigmoid"}
    estimator = SKLearnClassifier(network, model_kwargs=kwargs, fit_kwargs={"epochs": 40, **QUIET}).fit(X, y)
    assert estimator.predict(X).shape == (60, 3) and set(np.unique(estimator.predict(X))) <= {0, 1}
    assert ((estimator.predict_proba(X) > 0.5) == estimator.predict(X)).all()
    assert (estimator.predict(X) == y).mean() > 0.9


@pytest.mark.parametrize("targets", [X[:, 0], X[:, :1].ravel().tolist(), X[:, :2]], ids=["one", "list", "two"])
def test_regression_keeps_the_form_of_the_targets(targets):
    estimator = SKLearnRegressor(network, fit_kwargs={"epochs": 60, **QUIET}).fit(X, targets)
    assert estimator.predict(X).shape == np.shape(targets)
    assert estimator.score(X, targets) > 0.8


def test_a_search_over_arguments_of_all_kinds():
    search = GridSearchCV(
        SKLearnRegressor(network, fit_kwargs=QUIET),
        {"model_kwargs__units": [(4,)], "fit_kwargs__epochs": [1, 8], "warm_start": [False]},
        cv=2,
    )
    search.fit(X, X[:, 0])
    assert search.best_params_["fit_kwargs__epochs"] == 8 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.fit_kwargs == {"verbose": 0, "epochs": 8}
    whole = GridSearchCV(
        search.estimator, {"fit_kwargs": [{"epochs": 2, **QUIET}], "model_kwargs": [{"rate": 0.1}]}, cv=2
    )
    assert whole.fit(X, X[:, 0]).best_estimator_.epoch_ == 2
    assert search.estimator.fit_kwargs == QUIET  # nothing is written into what was given


def test_processes_and_pipelines():
    pipe = make_pipeline(StandardScaler(), cross_entropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of joblib, about processes on a slow machine
        scores = cross_val_score(pipe, X, LABELS, cv=2, n_jobs=2)
    assert scores.min() > 0.6
    probabilities = cross_val_predict(pipe, X, LABELS, cv=2, method="predict_proba")
    right = np.array(["ash", "beech", "elm"])[probabilities.argmax(axis=1)] == LABELS
    assert right.mean() == pytest.approx(scores.mean())  # the same in other processes


def test_a_transformer_gives_features_to_what_follows():
    transformer = SKLearnTransformer(network, fit_kwargs={"epochs": 5, **QUIET})
    assert transformer.fit_transform(X, X[:, :2]).shape == (60, 2)
    frozen = FrozenEstimator(transformer)
    pipe = make_pipeline(frozen, HistGradientBoostingClassifier(max_iter=3)).fit(X, LABELS)
    assert set(pipe.predict(X)) <= set(LABELS)


def compiled(seed=1):
    lamina.utils.set_random_seed(seed)
    model = lamina.Sequential([lamina.Input((4,)), lamina.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_a_model_is_copied_unless_the_start_is_warm():
    model = compiled()
    before = model.get_weights()
    estimator = SKLearnRegressor(model, fit_kwargs=QUIET).fit(X, X[:, 0])
    assert estimator.model_ is not model and np.array_equal(model.get_weights()[0], before[0])
    warm = SKLearnRegressor(model, warm_start=True, fit_kwargs=QUIET).fit(X, X[:, 0])
    first = model.get_weights()
    assert warm.fit(X, X[:, 0]).model_ is model and not np.array_equal(model.get_weights()[0], first[0])
    twin = clone(warm)
    assert twin.model is not model and twin.fit_kwargs == QUIET and twin.warm_start
    made = SKLearnRegressor(network, warm_start=True, fit_kwargs=QUIET).fit(X, X[:, 0])
    assert made.model_ is made.fit(X, X[:, 0]).model_


def test_weights_of_samples_and_arguments_of_a_call():
    weights = (X[:, 0] > 0).astype(float)
    estimator = SKLearnRegressor(compiled(), fit_kwargs={"epochs": 3, **QUIET})
    assert estimator.fit(X, X[:, 0], sample_weight=weights, epochs=1).epoch_ == 1
    kept = SKLearnRegressor(compiled(), fit_kwargs=QUIET).fit(X, X[:, 0])
    assert not np.allclose(estimator.model_.get_weights()[0], kept.model_.get_weights()[0])
    scores = cross_val_score(estimator, X, X[:, 0], cv=2, params={"sample_weight": weights})
    assert np.isfinite(scores).all()
    with sklearn.config_context(enable_metadata_routing=True):
        routed = estimator.set_fit_request(sample_weight=True)
        assert routed.get_metadata_routing().fit.requests == {"sample_weight": True}
    with pytest.raises(RuntimeError, match="metadata routing must be enabled"):
        estimator.set_fit_request(sample_weight=True)


def test_mistakes_are_named():
    plain = lamina.Sequential([lamina.layers.Dense(1)])
    with pytest.raises(RuntimeError, match="SKLearnRegressor: model must be compiled with a loss and an optimizer"):
        SKLearnRegressor(plain).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="model must be a Model or make one, got 'network'"):
        SKLearnRegressor("network").fit(X, X[:, 0])
    with pytest.raises(ValueError, match="y must have two classes at least"):
        cross_entropy().fit(X, np.ones(60, int))
    with pytest.raises(ValueError, match="not continuous, got continuous"):
        cross_entropy().fit(X, X[:, 0])
    narrow = SKLearnClassifier(compiled(), fit_kwargs=QUIET)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        narrow.predict(X)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "sklearn" or n == "lamina.wrappers.estimators"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r"This needs sklearn; pip install scikit-learn\."):
        importlib.import_module("lamina.wrappers").SKLearnRegressor  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'SKLearnRegressor'"):
        lamina.wrappers.SKLearnRegresor  # noqa: B018
