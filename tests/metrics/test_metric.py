"""What `Metric` does for its subclasses, and single behaviours of some of them."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import losses, metrics
from lamina.core.variable import Variable
from lamina.metrics.metric import result_of


class Count(metrics.Metric):
    """Returns its variable, not an array."""

    def __init__(self, start=0.0, name="count", **kwargs):
        super().__init__(name=name, **kwargs)
        self.start = start
        filled = lambda shape, dtype: np.full(shape, start, dtype)  # noqa: E731
        self.seen = self.add_weight(shape=(), initializer=filled, name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.assign_add(len(y_true))

    def result(self):
        return self.seen


class Parts(metrics.Metric):
    """Metrics and variables in attributes, lists and dicts."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.own = self.add_weight(name="own")
        self.inner = [metrics.Mean(name="a"), {"b": Count(2.0)}]
        self.free = Variable(np.ones(3, "float32"), trainable=False, name="free")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.own.assign_add(1)
        self.inner[0].update_state(y_pred)
        self.inner[1]["b"].update_state(y_true, y_pred)

    def result(self):
        return {"a": self.inner[0].result(), "b": self.inner[1]["b"].result()}


def test_a_variable_as_result_becomes_an_array():
    metric = Count()
    assert isinstance(metric([1, 2], [3, 4]), jax.Array)
    assert isinstance(result_of(metric), jax.Array)
    assert isinstance(metric.stateless_result([jnp.ones(())]), jax.Array)
    assert isinstance(Parts()(np.ones(2), np.ones(2))["b"], jax.Array)


def test_variables_are_found_in_attributes_own_ones_first():
    assert [v.name for v in Parts().variables] == ["own", "free", "total", "count", "seen"]


def test_reset_reaches_inner_metrics_and_gives_initial_values():
    metric = Parts()
    metric.update_state(np.ones(2), np.ones(2))
    metric.reset_state()
    assert metric.inner[1]["b"].seen.value == 2.0
    assert metric.own.value == metric.inner[0].total.value == 0


def test_config_of_a_subclass():
    assert Count(1.0).get_config() == {"name": "count", "dtype": "float32", "start": 1.0}
    assert Count.from_config(Count(1.0).get_config()).start == 1.0
    assert Parts(name="p").get_config() == {"name": "p", "dtype": "float32"}


def test_lamina_jit_finds_the_variables():
    metric = metrics.Mean()

    @lamina.jit
    def step(x):
        metric.update_state(x)
        return metric.result()

    step(jnp.ones(3))
    assert step(jnp.zeros(3)) == 0.5
    assert metric.count.value == 6


def test_variables_may_be_made_inside_a_trace():
    metric = metrics.F1Score()
    jax.eval_shape(lambda y: metric.stateless_update_state([], y, y), jnp.ones((2, 3)))
    assert [v.shape for v in metric.variables] == [(3,)] * 4


def test_reset_after_the_arrays_were_donated():
    metric = metrics.Mean()
    step = jax.jit(lambda state, x: metric.stateless_update_state(state, x), donate_argnums=0)
    new = step([v.value for v in metric.variables], jnp.ones(3))
    for variable, value in zip(metric.variables, new):
        variable.assign(value)
    metric.reset_state()
    assert metric(jnp.full(2, 4.0)) == 4.0


def test_stateless_calls_need_all_values():
    with pytest.raises(ValueError, match=r'Mean "mean": metric_variables must hold 2 values, .* got 1\.'):
        metrics.Mean().stateless_update_state([0.0], [1.0])


def test_super_init_must_be_called():
    class Forgetful(metrics.Metric):
        def __init__(self):
            self.total = self.add_weight()

    with pytest.raises(RuntimeError, match=r"Forgetful: super\(\).__init__\(\) must be called"):
        Forgetful()


@pytest.mark.parametrize("method", ["update_state", "result"])
def test_methods_must_be_defined(method):
    with pytest.raises(NotImplementedError, match=f"Metric: a subclass must define {method}"):
        getattr(metrics.Metric(), method)()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_its_own_state(copied):
    metric = metrics.Mean()
    metric.update_state([4.0])
    twin = copied(metric)
    metric.update_state([0.0])
    assert (metric.result(), twin.result()) == (2.0, 4.0)
    twin.reset_state()
    assert twin.result() == 0


def test_a_function_is_averaged_with_its_arguments():
    metric = metrics.MeanMetricWrapper(losses.huber, delta=0.5)
    y_true, y_pred = np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")
    assert metric(y_true, y_pred) == losses.huber(y_true, y_pred, delta=0.5)[0]
    assert metric.direction == "min"
    assert metrics.MeanMetricWrapper(lambda y_true, y_pred: y_pred).direction is None


def test_more_classes_than_a_16_bit_float_can_count():
    y_pred = np.zeros((1, 3000), "float16")
    y_pred[0, 2999] = 1
    assert metrics.sparse_categorical_accuracy(np.array([2998]), y_pred) == 0
    assert metrics.categorical_accuracy(np.roll(y_pred, -1, 1), y_pred) == 0


def test_a_snake_case_name_means_the_class():
    assert isinstance(metrics.get("mean_squared_error"), metrics.MeanSquaredError)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'sparse_categorical_accuracy'"):
        metrics.get("sparse_categorical_acuracy")


BAD = [
    (lambda: metrics.Precision(thresholds=[0.5, 1.5]), "thresholds must be between 0 and 1"),
    (lambda: metrics.AUC(curve="RO"), "curve must be one of 'ROC', 'PR', 'PRGAIN', got 'RO'"),
    (lambda: metrics.AUC(summation_method="sum"), "summation_method must be one of"),
    (lambda: metrics.AUC(num_thresholds=1), "num_thresholds must be at least 2"),
    (lambda: metrics.AUC(num_labels=3), "num_labels must be given with multi_label=True only"),
    (lambda: metrics.RecallAtPrecision(2.0), "precision must be from 0 to 1"),
    (lambda: metrics.PrecisionAtRecall(0.5, num_thresholds=0), "num_thresholds must be a positive integer"),
    (lambda: metrics.FBetaScore(beta=2), "beta must be a float above 0"),
    (lambda: metrics.F1Score(average="all"), "average must be"),
    (lambda: metrics.F1Score(threshold=0.0), "threshold must be None or a float"),
    (lambda: metrics.R2Score(class_aggregation="mean"), "class_aggregation must be"),
    (lambda: metrics.R2Score(num_regressors=-1), "num_regressors must be a number of at least 0"),
    (lambda: metrics.IoU(2, [2]), "target_class_ids must be less than num_classes 2"),
]


@pytest.mark.parametrize("make, message", BAD)
def test_arguments_are_checked_by_the_constructor(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SHAPES = [
    (metrics.F1Score, {}, (3,), r"y_pred must have shape \(batch, classes\)"),
    (metrics.R2Score, {}, (3, 2, 2), r"y_pred must have shape \(batch, outputs\)"),
    (metrics.AUC, {"multi_label": True}, (3, 2, 2), r"y_pred must have shape \(batch, labels\)"),
    (metrics.Precision, {"class_id": 1}, (3,), "y_pred must have an axis of classes with class_id"),
]


@pytest.mark.parametrize("cls, arguments, shape, message", SHAPES)
def test_shapes_are_checked_and_change_nothing(cls, arguments, shape, message):
    metric = cls(**arguments)
    with pytest.raises(ValueError, match=message):
        metric.update_state(np.ones(shape), np.ones(shape))
    assert not any(np.asarray(v).any() for v in metric.variables)


# what broadcasts in silence, or is looked at along a wrong axis
UNLIKE = [
    (metrics.F1Score, (3,), (3, 3)),
    (metrics.FBetaScore, (3, 1), (3, 4)),
    (metrics.R2Score, (3, 1), (3, 4)),
    (metrics.R2Score, (4,), (4, 4)),
    (metrics.Precision, (4,), (4, 4)),
    (metrics.Recall, (4, 1), (4, 4)),
    (metrics.AUC, (4,), (4, 4)),
    (metrics.TruePositives, (1, 4), (4, 4)),
    (metrics.CategoricalAccuracy, (4,), (4, 4)),
    (metrics.TopKCategoricalAccuracy, (4, 1), (4, 6)),
    (metrics.SparseCategoricalAccuracy, (4, 4), (4, 4)),
    (metrics.SparseTopKCategoricalAccuracy, (4, 4), (4, 4)),
]


@pytest.mark.parametrize("cls, y_true, y_pred", UNLIKE)
def test_targets_of_another_shape_are_refused_with_both_shapes(cls, y_true, y_pred):
    with pytest.raises(ValueError, match=r"y_true must (have the shape of y_pred|hold integer classes)") as caught:
        cls().update_state(np.ones(y_true), np.ones(y_pred))
    assert str(y_true) in str(caught.value)


@pytest.mark.parametrize("cls", [metrics.Precision, metrics.AUC, metrics.BinaryAccuracy, metrics.MeanSquaredError])
def test_one_weight_a_sample_weighs_samples_whatever_the_sizes(cls):
    """Of a square batch NumPy's rules would weigh the last axis."""
    random = np.random.default_rng(0)
    y_true, y_pred = random.integers(0, 2, (3, 3, 2)), random.uniform(size=(3, 3, 2)).astype("float32")
    weighted, chosen = cls(), cls()
    weighted.update_state(y_true, y_pred, sample_weight=np.array([1.0, 0.0, 0.0]))
    chosen.update_state(y_true[:1], y_pred[:1])
    np.testing.assert_allclose(weighted.result(), chosen.result(), rtol=1e-6)


def test_one_weight_an_image_weighs_its_pixels():
    labels = np.array([[0, 1, 1], [1, 1, 0]])
    weighted, chosen = (metrics.MeanIoU(2) for _ in range(2))
    weighted.update_state(labels, labels[::-1], sample_weight=np.array([1, 0]))
    chosen.update_state(labels[:1], labels[1:])
    assert weighted.result() == chosen.result()


def test_fractions_as_weights_of_an_integer_count_are_reported():
    metric = metrics.MeanIoU(2)
    with pytest.warns(UserWarning, match="sample_weight is cut to integers"):
        metric.update_state(np.array([0, 1]), np.array([0, 1]), sample_weight=np.array([0.5, 1.0]))


def test_too_few_samples_for_an_adjusted_score_are_reported():
    metric = metrics.R2Score(num_regressors=5)
    metric.update_state(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]))
    with pytest.warns(UserWarning, match="num_regressors 5 leave too few samples"):
        assert metric.result() == metrics.R2Score()(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]))


@pytest.mark.parametrize("even", [[0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]])
def test_buckets_count_like_comparisons(even, monkeypatch):
    y_true, y_pred = np.random.default_rng(1).integers(0, 2, 50), np.random.default_rng(2).uniform(size=50)
    fast, plain = (metrics.confusion.ConfusionMetric(even) for _ in range(2))
    fast.update_state(y_true, y_pred)
    monkeypatch.setattr(metrics.confusion, "_are_even", lambda thresholds: False)
    plain.update_state(y_true, y_pred)
    for one, other in zip(fast.variables, plain.variables):
        np.testing.assert_array_equal(one, other)


FALLING = {
    "BinaryCrossentropy", "CategoricalCrossentropy", "CategoricalHinge", "FalseNegatives", "FalsePositives", "Hinge",
    "KLDivergence", "LogCoshError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "RootMeanSquaredError", "SparseCategoricalCrossentropy", "SquaredHinge",
}  # fmt: skip
UNKNOWN = {"Mean", "MeanMetricWrapper", "Metric", "Sum"}


@pytest.mark.parametrize("name", [name for name in metrics.__all__ if name[0].isupper()])
def test_each_class_says_which_results_are_better(name):
    expected = None if name in UNKNOWN else "min" if name in FALLING else "max"
    assert getattr(metrics, name).direction == expected


@pytest.mark.parametrize("fn", [losses.huber, losses.Huber(), losses.cosine_similarity])
def test_the_mean_of_a_loss_is_to_fall(fn):
    assert metrics.MeanMetricWrapper(fn).direction == "min"


@pytest.mark.parametrize(
    "name, direction",
    [("accuracy", "max"), ("binary_accuracy", "max"), ("AUC", "max"), ("r2_score", "max"), ("mse", "min"),
     ("cosine_similarity", "max"), ("huber", "min"), ("log_cosh", "min"), ("score", None)],
)  # fmt: skip
def test_known_names_say_which_results_are_better(name, direction):
    assert metrics.direction_of(name) == direction


def test_a_metric_at_a_rate_names_itself_and_its_own_argument_when_it_gets_none():
    with pytest.raises(TypeError, match="PrecisionAtRecall: must be given recall"):
        metrics.PrecisionAtRecall()
