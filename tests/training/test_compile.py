"""compile: names in any case, one thing for all outputs or lists and dicts along them, and what logs are called."""

import numpy as np
import pytest

import lamina
from tests.training.conftest import X, Y, compiled


def two_heads():
    inputs = lamina.Input((3,))
    return lamina.Model(inputs, [lamina.layers.Dense(1, name="a")(inputs), lamina.layers.Dense(1, name="b")(inputs)])


@pytest.mark.parametrize("name", ["mse", "MSE", "mean_squared_error", "MeanSquaredError", "Mean_Squared_Error"])
def test_names_in_any_case(name):
    model = compiled(loss=name, metrics=[name])
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", name}
    assert logs["loss"] == pytest.approx(logs[name], rel=1e-6)


@pytest.mark.parametrize("name", ["adam", "Adam", "ADAM", "AdAm"])
def test_names_of_optimizers_in_any_case(name):
    model = compiled()
    model.compile(name)
    assert type(model.optimizer) is lamina.optimizers.Adam


def test_what_is_compiled_may_be_objects_classes_and_functions():
    def distance(y_true, y_pred):
        return lamina.ops.abs(y_true - y_pred)

    given = [lamina.metrics.MeanSquaredError(name="squares"), lamina.metrics.MeanAbsoluteError, distance]
    logs = compiled(loss=distance, metrics=given).evaluate(X, Y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "squares", "mean_absolute_error", "distance"}
    assert logs["loss"] == pytest.approx(logs["distance"], rel=1e-6)


def test_a_loss_without_reduction_is_averaged():
    per_row = compiled(loss=lamina.losses.MeanSquaredError(reduction="sum")).evaluate(X, Y, batch_size=22, verbose=0)
    mean = compiled(loss="mse").evaluate(X, Y, batch_size=22, verbose=0)
    assert per_row == pytest.approx(22 * mean, rel=1e-5)


@pytest.mark.parametrize(
    ("targets", "outputs", "meant"),
    [
        (Y > 0, lamina.layers.Dense(1, "sigmoid"), "binary_accuracy"),
        (np.arange(22) % 4, lamina.layers.Dense(4, "softmax"), "sparse_categorical_accuracy"),
        (np.eye(4)[np.arange(22) % 4], lamina.layers.Dense(4, "softmax"), "categorical_accuracy"),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "acc", "Accuracy"])
def test_accuracy_means_that_of_the_targets(targets, outputs, meant, name):
    logs = compiled(outputs, loss="crossentropy", metrics=[name, meant]).evaluate(
        X, targets * 1.0, verbose=0, return_dict=True
    )
    assert logs[name] == logs[meant] > 0


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ([["mae"], ["mse", "mae"]], {"a_mae", "b_mse", "b_mae"}),
        (["mae", "mse"], {"a_mae", "b_mse"}),
        ({"b": "mae"}, {"b_mae"}),
        ({"a": ["mae", "mae"]}, {"a_mae", "a_mae_1"}),
        (None, set()),
    ],
)
def test_names_of_metrics_of_several_outputs(metrics, names):
    model = two_heads()
    model.compile("sgd", ["mse", "mae"], metrics=metrics)
    logs = model.evaluate(X, [Y, Y], verbose=0, return_dict=True)
    assert set(logs) == {"loss", "a_loss", "b_loss"} | names


def test_one_loss_for_all_outputs_and_weights_of_losses():
    model = two_heads()
    model.compile("sgd", "mse", loss_weights=[2.0, 0.5])
    logs = model.evaluate(X, [Y, -Y], verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(2 * logs["a_loss"] + 0.5 * logs["b_loss"], rel=1e-5)


@pytest.mark.parametrize("y", [[Y, -Y], (Y, -Y), {"b": -Y, "a": Y}])
def test_targets_come_in_lists_tuples_and_dicts(y):
    model = two_heads()
    model.set_weights([np.full(w.shape, 0.1) for w in model.get_weights()])
    model.compile("sgd", ["mse", "mse"])
    outputs = np.asarray(model(X)[0])
    expected = np.mean((outputs - Y) ** 2) + np.mean((outputs + Y) ** 2)
    assert model.evaluate(X, y, verbose=0)[0] == pytest.approx(expected, rel=1e-5)


def test_compile_starts_the_optimizer_and_metrics_anew():
    model = compiled(metrics=["mae"])
    model.fit(X, Y, verbose=0)
    model.compile("sgd", "mse")
    assert int(model.optimizer.iterations.value) == 0
    assert model.metrics_names == ["loss"]


def test_an_optimizer_goes_on_in_the_next_compile():
    optimizer = lamina.optimizers.Adam()
    model = compiled(optimizer=lambda: optimizer)
    model.fit(X, Y, batch_size=11, verbose=0)
    model.compile(optimizer, "mae")
    model.fit(X, Y, batch_size=11, verbose=0)
    assert int(optimizer.iterations.value) == 4


def test_the_compile_config_compiles_an_equal_model():
    model = compiled(optimizer=lambda: lamina.optimizers.SGD(0.25), loss="mae", metrics=["mse"])
    twin = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(1)])
    twin.set_weights(model.get_weights())
    twin.compile_from_config(model.get_compile_config())
    histories = [m.fit(X, Y, verbose=0, shuffle=False).history for m in (model, twin)]
    assert histories[0] == histories[1]


def test_a_loss_of_ones_own():
    class Own(lamina.Model):
        def __init__(self):
            super().__init__()
            self.dense = lamina.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return lamina.ops.mean(lamina.ops.abs(y - y_pred)) + lamina.ops.sum(x) * 0.0

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "largest": lamina.ops.max(y_pred)}

    model = Own()
    model.compile("sgd")
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(np.abs(np.asarray(model(X)) - Y).mean(), rel=1e-5)
    assert logs["largest"] == pytest.approx(np.asarray(model(X)).max(), rel=1e-5)
    assert model.fit(X, Y, epochs=3, verbose=0).history["loss"][2] < logs["loss"]


def test_layers_losses_alone_can_train():
    class Costly(lamina.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(3,), initializer="ones")

        def call(self, x):
            self.add_loss(lamina.ops.sum(self.w**2))
            return x * self.w

    model = lamina.Sequential([Costly()])
    model.compile(lamina.optimizers.SGD(0.1))
    losses = model.fit(X, epochs=3, batch_size=22, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, [3.0, 3 * 0.8**2, 3 * 0.8**4], rtol=1e-5)


def test_half_precision_scales_the_loss():
    lamina.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(optimizer="adam")
    finally:
        lamina.config.set_dtype_policy(None)
    assert type(model.optimizer) is lamina.optimizers.LossScaleOptimizer
    losses = model.fit(X, Y, epochs=3, verbose=0, shuffle=False).history["loss"]
    assert losses[2] < losses[0]
    assert {v.dtype for v in model.weights} == {"float32"}


@pytest.mark.parametrize("steps", [0, 1.5, "auto"])
def test_steps_of_a_launch_are_a_number(steps):
    rule = f"compile: steps_per_execution must be a positive integer, got {steps!r}"
    with pytest.raises(ValueError, match=rule):
        compiled(steps_per_execution=steps)
