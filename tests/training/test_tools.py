"""The tools: rates, batch sizes, dry runs, profiles, the first NaN, statistics, one batch. The model stays as it is."""

import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.core import scope
from lamina.core.watch import Calls
from lamina.training.tools import cost
from lamina.training.trial import Trial
from tests.training.conftest import X, Y, compiled
from tests.training.test_custom_steps import Explicit, Stateful

matplotlib.use("Agg")
from matplotlib import pyplot

RANDOM = np.random.default_rng(1)
INPUTS = RANDOM.normal(size=(256, 3)).astype("float32")
TARGETS = INPUTS @ np.array([[2.0], [-1.0], [0.5]], "float32")


def state(model):
    groups = [model.variables, model.optimizer.variables, model.metrics_variables]
    return [np.array(v.value) for group in groups for v in group]


def assert_same(before, after):
    assert len(before) == len(after)
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)


def dropping():
    """Weights, seeds, slots and metrics that a step changes."""
    model = compiled(layers.Dense(4, activation="relu"), layers.Dropout(0.2), layers.Dense(1), optimizer="adam")
    model.fit(X, Y, verbose=0)
    return model


TOOLS = {
    "find_learning_rate": lambda model: model.find_learning_rate(X, Y, batch_size=8, steps=12, verbose=0),
    "find_batch_size": lambda model: model.find_batch_size(X, Y, sizes=[4, 8], verbose=0),
    "dry_run": lambda model: model.fit(X, Y, dry_run=True),
    "locate_nan": lambda model: model.locate_nan(X, Y, verbose=0),
    "layer_statistics": lambda model: model.layer_statistics(X, Y),
    "overfit": lambda model: lamina.overfit(model, (X, Y), steps=5, verbose=0),
    "profile": lambda model: lamina.profile(model, X, verbose=0),
}


@pytest.fixture(scope="module")
def used():
    """Results of all tools on one model, and its state before and after."""
    model = dropping()
    before = state(model)
    return {name: tool(model) for name, tool in TOOLS.items()}, before, state(model)


def test_tools_leave_weights_optimizer_metrics_and_seeds_bitwise(used):
    assert_same(used[1], used[2])


@pytest.mark.parametrize("name", TOOLS)
def test_a_result_is_a_table_and_a_picture(used, name):
    result = used[0][name]
    assert str(result) == repr(result) and len(str(result).splitlines()[0]) > 5
    axes = result.plot()
    assert axes.get_title() and len(axes.get_children()) > 10
    assert result.plot(axes) is axes
    pyplot.close("all")
    with pytest.raises(AttributeError):
        result.anything = 1


@pytest.mark.parametrize("name", sorted(TOOLS.keys() - {"profile"}))
def test_a_model_that_is_not_compiled_is_one_line(name):
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"must be compiled before .*; call compile") as caught:
        TOOLS[name](model)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_said():
    with pytest.raises(ValueError, match="overfit: model must be a Model, got <Dense"):
        lamina.overfit(layers.Dense(1), X, Y)
    with pytest.raises(ValueError, match="profile: model must be a layer or model, got 'm'"):
        lamina.profile("m", X)


def test_training_after_a_tool_is_the_training_without():
    losses = []
    for tool in (None, TOOLS["dry_run"], TOOLS["find_learning_rate"]):
        lamina.utils.set_random_seed(0)
        model = lamina.Sequential([layers.Dense(4), layers.Dropout(0.1), layers.Dense(1)])  # not built
        model.compile("sgd", "mse")
        if tool is not None:
            tool(model)
        losses.append(model.fit(X, Y, epochs=2, verbose=0).history["loss"])
    assert losses[0] == losses[1] == losses[2]


# Learning rates --------------------------------------------------------------------------------------------------


def test_the_rate_that_is_found_trains():
    model = compiled()
    found = model.find_learning_rate(INPUTS, TARGETS, verbose=0)
    assert 0.005 < found.learning_rate < 0.5 < found.diverged  # 2 / (the largest eigenvalue) is about 1
    model.optimizer.learning_rate = found.learning_rate
    losses = model.fit(INPUTS, TARGETS, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.05 * losses[0]


def test_rates_grow_from_step_to_step_and_each_step_takes_its_own():
    model = compiled(
        optimizer=lambda: lamina.optimizers.SGD(lamina.optimizers.schedules.ExponentialDecay(1e-2, 10, 0.9))
    )
    found = model.find_learning_rate(X, Y, batch_size=22, steps=5, min_rate=0.01, max_rate=0.16, verbose=0)
    np.testing.assert_allclose(found.rates, [0.01, 0.02, 0.04, 0.08, 0.16], rtol=1e-6)
    twin, losses = compiled(), []
    for rate in found.rates:
        twin.optimizer.learning_rate = rate
        losses.append(twin.train_on_batch(X, Y))
    np.testing.assert_allclose(np.sort(found.losses), np.sort(losses), rtol=1e-4)


def test_where_no_rate_helps_none_is_suggested():
    found = compiled(layers.Dense(1, kernel_initializer="zeros")).find_learning_rate(X, 0 * Y, steps=20, verbose=0)
    assert found.learning_rate is None and "no rate" in str(found)


def test_ctrl_c_in_a_range_test_leaves_the_model_as_it_was():
    model = dropping()
    before = state(model)
    ended = threading.Event()

    def press():  # again: Python drops an interrupt that comes while an object is finalized, say
        while not ended.wait(1.0):
            signal.raise_signal(signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        try:
            model.find_learning_rate(X, Y, steps=10**6, max_rate=1e-6, verbose=0)
        finally:
            ended.set()
    assert_same(before, state(model))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [({"steps": 1}, "steps must be"), ({"min_rate": 0}, "min_rate must be"), ({"max_rate": 1e-9}, "max_rate must be")],
)
def test_the_range_test_checks_its_arguments(arguments, rule):
    with pytest.raises(ValueError, match=f"find_learning_rate: {rule}"):
        compiled().find_learning_rate(X, Y, **arguments)


def test_a_rate_out_of_reach_is_said():
    optax = pytest.importorskip("optax", reason="the test extra installs it")
    with pytest.raises(ValueError, match="inject_hyperparams"):
        compiled(optimizer=lambda: optax.sgd(0.1)).find_learning_rate(X, Y)


# Batch sizes, dry runs -------------------------------------------------------------------------------------------


def test_batch_sizes_go_as_far_as_memory_carries():
    found = compiled().find_batch_size(INPUTS, TARGETS, memory=6000, verbose=0)
    assert [row.batch_size for row in found.rows] == [8, 16, 32, 64, 128][: len(found.rows)]
    assert found.too_large == 2 * found.rows[-1].batch_size and found.rows[-1].memory <= 6000
    best = max(row.rows_per_second for row in found.rows)
    enough = [row.batch_size for row in found.rows if row.rows_per_second >= 0.9 * best]
    assert found.batch_size == enough[0]
    with pytest.raises(MemoryError, match="does not; try smaller sizes"):
        compiled().find_batch_size(INPUTS, TARGETS, memory=10, verbose=0)


def test_a_device_that_runs_out_of_memory_is_caught(monkeypatch):
    def measured(trial, batch):
        if len(batch[0]) > 16:
            trial.values = ()  # given away, and lost
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return 0.001

    monkeypatch.setattr(Trial, "seconds_a_step", measured)
    model = dropping()
    before = state(model)
    found = model.find_batch_size(INPUTS, TARGETS, verbose=0)
    assert found.too_large == 32 and found.batch_size == 16
    assert_same(before, state(model))


def test_a_dry_run_says_shapes_sizes_and_operations():
    model = compiled(layers.Dense(4), layers.Dense(1), optimizer="adam")
    found = model.fit(X, Y, batch_size=11, epochs=3, dry_run=True, verbose=0)
    assert [(row.layer, row.output_shape, row.weights) for row in found.layers] == [
        ("Sequential", (11, 1), 21), ("Dense", (11, 4), 16), ("Dense", (11, 1), 5),
    ]  # fmt: skip
    assert found.weights == 84 and found.activations == 4 * 11 * 5
    assert found.optimizer == 2 * 84 + 8 and found.steps == 2 and found.epochs == 3
    assert found.peak >= found.temporary > 0 and found.seconds_an_epoch == 2 * found.seconds_a_step
    forward_and_backward = 2 * 11 * (3 * 4 * 2 + 4 * 3)  # no gradient by the data
    assert forward_and_backward < found.flops < 3 * forward_and_backward
    assert int(model.optimizer.iterations) == 0 and model.history is None


# Costs and profiles ----------------------------------------------------------------------------------------------


def operations(fn, *arguments):
    return cost.flops(jax.make_jaxpr(fn)(*arguments).jaxpr)


def test_operations_by_their_formulas():
    dense, conv = layers.Dense(5), layers.Conv2D(6, 3, strides=2, padding="valid")
    assert operations(dense, jnp.ones((7, 3))) == 2 * 7 * 3 * 5 + 7 * 5
    assert operations(conv, jnp.ones((2, 9, 9, 40))) == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 40) + 2 * 4 * 4 * 6
    attention = layers.MultiHeadAttention(2, 4, use_bias=False)
    x = jnp.ones((3, 8, 16))
    products = 3 * (4 * 2 * 8 * 16 * 8 + 2 * 2 * 8 * 8 * 8)  # four projections; scores and their sums of values
    assert products < operations(attention, x, x) < 1.15 * products
    assert operations(lambda x: jax.lax.scan(lambda c, _: (c * 2 + 1, None), x, None, 10)[0], jnp.ones(4)) == 80


def test_a_profile_adds_up_to_the_model():
    inputs = lamina.Input((8, 8, 3))
    inner = lamina.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten()], name="inner")
    dense = layers.Dense(8, name="twice")
    model = lamina.Model(inputs, dense(dense(layers.Dense(8)(inner(inputs)))))
    found = lamina.profile(model, RANDOM.normal(size=(4, 8, 8, 3)), verbose=0)
    for way in ("forward", "backward"):
        whole = getattr(found, way)
        for number, rel in (("flops", 1e-9), ("bytes", 1e-9), ("seconds", 1e-6)):
            parts = sum(getattr(getattr(row, f"own_{way}"), number) for row in found.rows)
            assert parts == pytest.approx(getattr(whole, number), rel=rel, abs=1e-12)
    rows = {row.path: row for row in found.rows}
    assert [row.path.rpartition("/")[2] for row in found.rows].count("twice") == 2
    assert {row.layer for row in found.rows if "/inner/" in row.path} == {"Conv2D", "BatchNormalization", "Flatten"}
    assert rows[f"{model.name}/inner"].output_shape == (4, 144)
    twice = rows[f"{model.name}/twice"]
    product = 2 * 4 * 8 * 8
    assert twice.forward.flops == product + 4 * 8 and twice.backward.flops == pytest.approx(2 * product + 4 * 8, abs=8)
    assert found.sorted()[0].own_seconds == max(row.own_seconds for row in found.rows)


def test_layers_see_their_real_inputs_and_masks():
    seen = []

    class Looks(layers.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            seen.append((x.shape, None if mask is None else mask.shape))
            return x

    model = lamina.Sequential([layers.Embedding(9, 4, mask_zero=True), Looks(), layers.Dense(1)])
    model.build((None, 5))
    seen.clear()
    found = lamina.profile(model, RANDOM.integers(0, 9, (4, 5)), verbose=0)
    assert [row.layer for row in found.rows] == ["Sequential", "Embedding", "Looks", "Dense"]
    assert set(seen) == {((4, 5, 4), (4, 5))}


def test_layers_that_are_computed_again_are_looked_into():
    with lamina.RematScope(mode="full"):
        model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2), layers.Dense(1)])
    found = lamina.profile(model, X, verbose=0)
    assert [row.layer for row in found.rows] == ["Sequential", "Dense", "Dense"]


def test_a_watch_sees_calls_in_their_order_and_those_in_loops_as_shapes():
    class Loops(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            return lamina.scan(lambda carry, _: (self.dense(carry), None), x, length=3)[0]

    model = lamina.Sequential([Loops(), layers.Dense(1)])
    model.build((None, 4))
    calls = Calls()
    with scope.watch(calls):
        model(np.ones((2, 4), "float32"))
    assert [type(call.layer).__name__ for call in calls.calls if not call.inside] == ["Sequential", "Loops", "Dense"]
    inside = [call for call in calls.calls if call.inside]
    assert inside and all(call.layer is model.layers[0].dense and call.parent == 1 for call in inside)
    assert calls.calls[0].outputs.shape == (2, 1) and inside[0].outputs == jax.ShapeDtypeStruct((2, 4), "float32")


SCRIPT = """
import sys
import numpy as np
import lamina
model = lamina.Sequential([lamina.Input((4,)), lamina.layers.Dense(2, name="known")])
if sys.argv[1] == "fit":
    model.compile("sgd", "mse")
    model.fit(np.ones((40, 4)), np.ones((40, 2)), verbose=0)
else:
    model.predict(np.ones((40, 4)), verbose=0)
    raise SystemExit(3)
"""


@pytest.mark.parametrize(("how", "status"), [("fit", 0), ("predict", 3)])
def test_the_command_profiles_what_a_script_runs(tmp_path, how, status):
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "lamina", "profile", str(script), how]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == status, run.stderr
    assert run.stdout.count("Profile of") == 1 and "/known (Dense)" in run.stdout


def test_the_command_says_how_it_is_used():
    run = subprocess.run([sys.executable, "-m", "lamina", "profile", "none.py"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("usage: python -m lamina profile SCRIPT")


# The first NaN ---------------------------------------------------------------------------------------------------


class Log(layers.Layer):
    def call(self, x):
        return jnp.log(x)


class Norm(layers.Layer):
    """Its gradient at 0 is not finite."""

    def call(self, x):
        return jnp.sqrt(jnp.sum(jnp.square(x * 0), axis=-1, keepdims=True))


class Root(layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight((1,), "zeros", name="scale")

    def call(self, x):
        return x * jnp.sqrt(self.scale.value)


POSITIVE = np.abs(X) + 0.1


def negative_in(row):
    x = POSITIVE.copy()
    x[row] *= -1
    return x


def test_the_layer_the_step_and_the_rows_are_found():
    model = compiled(layers.Identity(), Log(name="log"), layers.Dense(1))
    found = model.locate_nan(negative_in(13), Y, batch_size=8, verbose=0)
    assert found and (found.epoch, found.step, found.what, found.layer) == (0, 1, "output", "Log")
    assert found.path == f"{model.name}/log" and (found.count, found.size) == (3, 24)
    assert found.rows == (5,) and found.examples == (13,)
    assert found.low == pytest.approx(negative_in(13)[8:16].min())
    assert len(str(found).splitlines()) == 1 and "/log" in str(found) and "rows 5 of the batch" in str(found)
    assert not model.locate_nan(POSITIVE, Y, verbose=0)


@pytest.mark.parametrize(
    ("make", "what", "end"),
    [
        (lambda: compiled(layers.Dense(2), Norm(name="norm"), layers.Dense(1)), "gradient of input", "/norm"),
        (lambda: compiled(Root(name="scaled"), layers.Dense(1)), "gradient", "/scaled/scale"),
        (lambda: compiled(loss=lambda y, p: jnp.log(-1 - jnp.abs(p))), "loss", ""),
        (lambda: compiled(optimizer=lambda: lamina.optimizers.SGD(1e38)), "updated weight", "kernel"),
    ],
    ids=["backward", "weight", "loss", "update"],
)
def test_places_outside_of_the_forward_pass(make, what, end):
    model = make()
    found = model.locate_nan(100 * POSITIVE, 1e3 * Y, batch_size=22, verbose=0)
    assert found.what == what and found.path.endswith(end) and found.count > 0


def test_layers_that_differentiate_forward_are_looked_into():
    class Slope(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(2, kernel_initializer="ones")

        def call(self, x):
            slope = jax.jvp(self.inner, (x,), (jnp.ones_like(x),))[1]
            return jnp.sqrt(x[:, :1]) * slope

    found = compiled(Slope()).locate_nan(negative_in(3), np.hstack([Y, Y]), batch_size=22, verbose=0)
    assert (found.layer, found.what, found.rows) == ("Slope", "output", (3,))


def test_what_is_not_finite_before_the_first_step_is_said():
    model = compiled()
    model.set_weights([np.array([[1], [np.nan], [2]]), np.zeros(1)])
    found = model.locate_nan(X, Y, verbose=0)
    assert (found.what, found.count, found.size) == ("weight", 1, 3)
    x = X.copy()
    x[3, 1] = np.inf
    found = compiled().locate_nan(x, Y, batch_size=22, verbose=0)
    assert found.what == "input" and found.layer == "Dense" and found.rows == (3,)


@pytest.mark.parametrize("eager", [False, True])
def test_fit_goes_back_and_tells_where_it_began(eager):
    model = compiled(Log(name="log"), layers.Dense(1), run_eagerly=eager)
    x = np.concatenate([POSITIVE] * 10)
    x[117] *= -1
    with pytest.raises(FloatingPointError, match=r"values must be finite.*Log .*/log.*117 of the data") as caught:
        model.fit(x, np.concatenate([Y] * 10), batch_size=11, verbose=0, locate_nan=True)
    assert caught.value.place.examples == (117,)
    assert all(np.isfinite(array).all() for array in model.get_weights())


def test_fit_that_stays_finite_is_the_fit_without_and_keeps_its_launches():
    results = []
    for locate_nan in (False, True):
        model = dropping()
        results.append((model.fit(INPUTS, TARGETS, epochs=3, verbose=0, locate_nan=locate_nan).history, state(model)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_a_metric_that_is_not_finite_is_none_of_its_business():
    class Odd(lamina.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(jnp.nan)

    model = compiled(metrics=[Odd()])
    assert len(model.fit(X, Y, epochs=2, verbose=0, locate_nan=True).epoch) == 2


@pytest.mark.parametrize("cls", [Stateful, Explicit])
def test_own_steps_are_looked_into(cls):
    class Model(cls):
        def call(self, x):
            return self.dense(jnp.sqrt(x))

    model = Model()
    model.compile("sgd", "mse")
    found = model.locate_nan(negative_in(2), Y, verbose=0)
    assert found.what == "input" and found.layer == "Dense" and found.rows == (2,)


# Statistics ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_a_step():
    model = compiled(layers.Dense(2, activation="relu", kernel_initializer="ones", name="one"), layers.Dense(1))
    x = np.array([[1.0, 0, 0], [-1.0, 0, 0]], "float32")
    found = model.layer_statistics(x, Y[:2]).numbers
    one = found[f"{model.name}/one"]
    assert one["activation_mean"] == 0.5 and one["activation_zeros"] == 0.5 and one["activation_dead"] == 0
    assert one["activation_norm"] == pytest.approx(np.sqrt(2)) and one["activation_std"] == 0.5
    kernel = found[f"{model.name}/one/kernel"]
    assert kernel["weight_norm"] == pytest.approx(np.sqrt(6))
    assert kernel["update_ratio"] == pytest.approx(0.01 * kernel["weight_gradient_norm"] / np.sqrt(6), rel=1e-4)


class Writer:
    def __init__(self):
        self.scalars, self.histograms = [], []

    def scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def histogram(self, name, values, step):
        self.histograms.append((name, len(values), step))


def test_the_callback_looks_when_it_should_and_changes_nothing():
    def fitted(*callbacks):
        model = compiled(layers.Dropout(0.2), layers.Dense(1))
        return model.fit(INPUTS, TARGETS, epochs=4, batch_size=64, verbose=0, callbacks=list(callbacks)).history

    writer = Writer()
    epochs = lamina.callbacks.LayerStatistics(X, Y, every=2, writer=writer)
    steps = lamina.callbacks.LayerStatistics(X, Y, every=5, unit="step")
    assert fitted(epochs, steps) == fitted()
    assert epochs.history["epoch"] == [2, 4] and steps.history["step"] == [5, 10, 15]
    norms = next(values for name, values in epochs.history.items() if name.endswith("kernel/weight_norm"))
    assert len(norms) == 2 and norms[0] != norms[1]
    assert {step for _, _, step in writer.scalars} == {step for _, _, step in writer.histograms} == {2, 4}
    with pytest.raises(ValueError, match="writer must have a method scalar"):
        lamina.callbacks.LayerStatistics(X, Y, writer=object())


# One batch -------------------------------------------------------------------------------------------------------


def test_one_batch_is_learned():
    found = compiled(optimizer=lambda: lamina.optimizers.Adam(0.05)).overfit(INPUTS[:16], TARGETS[:16], verbose=0)
    assert found and found.learned and found.causes == ()
    assert found.losses[-1] <= 0.01 * found.losses[0] and len(found.losses) < 500


def frozen():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(1)])
    model.trainable = False
    model.compile("sgd", "mse")
    return model


def sgd(rate):
    return compiled(optimizer=lambda: lamina.optimizers.SGD(rate))


def dead():
    below = lamina.initializers.Constant(-99)
    return compiled(layers.Dense(4, activation="relu", bias_initializer=below), layers.Dense(1))


CAUSES = {
    "low": (lambda: sgd(1e-4), X, Y, "learning rate 0.0001 may be too low"),
    "high": (lambda: sgd(3.0), INPUTS, TARGETS, "learning rate 3 may be too high"),
    "dead": (dead, X, Y, "all units are 0 in all rows in"),
    "still": (dead, X, Y, "the gradient is zero for"),
    "constant": (
        lambda: compiled(layers.Dense(1, activation="softmax")),
        X,
        Y,
        "the outputs are the same for all rows",
    ),
    "labels": (compiled, X[[0, 0, 1]], Y[[0, 1, 2]], "different labels: 1 of them, such as rows 0 and 1"),
    "nan": (compiled, X, Y * np.nan, "the loss is not finite from step 1 on"),
    "frozen": (frozen, X, Y, "no weight is trainable"),
}


@pytest.mark.parametrize(("make", "x", "y", "cause"), CAUSES.values(), ids=CAUSES)
def test_why_one_batch_is_not_learned(make, x, y, cause):
    found = make().overfit(x, y, steps=40, verbose=0)
    assert not found and any(cause in each for each in found.causes), found


# Kinds of models and data ----------------------------------------------------------------------------------------


def many():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    hidden = layers.Concatenate()([a, b])
    outputs = {"one": layers.Dense(1, name="one")(hidden), "two": layers.Dense(2, name="two")(hidden)}
    model = lamina.Model({"a": a, "b": b}, outputs)
    model.compile("adam", {"one": "mse", "two": "mae"})
    return model, ({"a": X, "b": X}, {"one": Y, "two": np.hstack([Y, Y])})


def streamed():
    return compiled(), (((X[:11], Y[:11]) for _ in range(1000)),)


def half():
    model = compiled(layers.Dense(4, dtype="mixed_float16"), layers.Dense(1))
    return model, (X, Y)


def own():
    model = Stateful()
    model.compile("sgd", "mse")
    return model, (X, Y)


@pytest.mark.parametrize("make", [many, streamed, half, own])
def test_tools_work_with(make):
    model, data = make()
    found = model.find_learning_rate(*data, steps=10, verbose=0)
    assert 3 <= len(found.rates) <= 10
    steps = {"steps_per_epoch": 4} if make is streamed else {}
    assert model.fit(*data, dry_run=True, **steps).layers[0].weights == model.count_params()
    assert len(model.overfit(*data, steps=3, verbose=0).losses) <= 3
    assert model.layer_statistics(*data).numbers
    if make is not streamed:
        assert not model.locate_nan(*data, verbose=0)
