"""What a model learns on eight devices is what it learns on one, whatever the plan."""

import itertools

import jax
import numpy as np
import optax
import pytest

import lamina
from lamina import distribution, layers
from lamina.training import loop
from tests.pairs import pairwise

ROWS, BATCH, EPOCHS = 40, 16, 2
WORDS, WIDTH = 12, 8


def tensor(shape, batch):
    mesh = distribution.DeviceMesh(shape, ["batch", "model"])
    layouts = distribution.LayoutMap(mesh)
    layouts[".*hidden/kernel"] = (None, "model")
    layouts[".*hidden/bias"] = ("model",)
    layouts[".*hidden/output"] = (batch, None, "model")
    layouts[".*back/kernel"] = ("model", None)
    return distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


PLANS = {
    "data": distribution.DataParallel,
    "optimizer": lambda: distribution.DataParallel(shard_optimizer=True, least=16),
    "fully": lambda: distribution.FullySharded(least=16, again=True),
    "tensor": lambda: tensor((1, 8), None),
    "2x4": lambda: tensor((2, 4), "batch"),
}
WAYS = {
    "plan": list(PLANS),
    "data": ["windows", "resident", "generator", "PyDataset"],
    "rows": [48, 40, 37],  # full batches; a short one that the mesh divides; one that it does not
    "optimizer": ["accumulation and ema", "clipped", "optax"],
    "model": ["masks", "norm and dropout", "bfloat16", "own step"],
}


@pytest.fixture(autouse=True)
def _one_device_again():
    yield
    distribution.set_distribution(None)
    lamina.config.set_dtype_policy("float32")


class OwnStep(lamina.Model):
    def train_step(self, data):
        x, y = data[:2]

        def loss():
            return self.compute_loss(x, y, self(x, training=True))

        value, gradients = lamina.value_and_grad(loss, self.trainable_variables)()
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": value}


def make(case):
    lamina.utils.set_random_seed(3)
    lamina.config.set_dtype_policy("mixed_bfloat16" if case["model"] == "bfloat16" else "float32")
    words = layers.Input((6,), dtype="int32")
    h = layers.Embedding(WORDS, WIDTH, mask_zero=case["model"] == "masks", name="embedding")(words)
    h = layers.Dense(16, "gelu", name="hidden")(h)
    h = layers.Dense(WIDTH, use_bias=False, name="back")(h)  # before a normalization its gradient would be noise
    if case["model"] == "norm and dropout":
        h = layers.Dropout(0.3)(layers.BatchNormalization()(h))
    h = layers.GlobalAveragePooling1D()(h)
    out = layers.Dense(3, "softmax", dtype="float32")(h)
    model = (OwnStep if case["model"] == "own step" else lamina.Model)(words, out)
    adam = lamina.optimizers.Adam
    optimizer = {
        "plain": lambda: adam(0.01),
        "accumulation and ema": lambda: adam(0.01, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.9),
        "clipped": lambda: adam(0.01, global_clipnorm=0.1),
        "optax": lambda: optax.adam(0.01),
    }[case["optimizer"]]()
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def rows_of(case):
    rng = np.random.default_rng(0)
    return rng.integers(0, WORDS, (case["rows"], 6)), rng.integers(0, 3, case["rows"])


class Batches(lamina.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.batches = [tuple(a[i : i + BATCH] for a in arrays) for i in range(0, len(arrays[0]), BATCH)]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


def fit(model, case, monkeypatch):
    x, y = rows_of(case)
    held_out = (x[:BATCH], y[:BATCH])
    if case["data"] in ("windows", "resident"):
        if case["data"] == "resident":  # as on an accelerator
            monkeypatch.setattr(loop, "reader", lambda source, fills=bool: loop.Resident(source))
        return model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, validation_data=held_out)
    batches = Batches(x, y)
    if case["data"] == "PyDataset":
        return model.fit(batches, epochs=EPOCHS, verbose=0, validation_data=held_out)
    endless = (batches[i % len(batches)] for i in itertools.count())
    return model.fit(endless, steps_per_epoch=len(batches), epochs=EPOCHS, verbose=0, validation_data=held_out)


def results(model, history, case):
    x, _ = rows_of(case)
    return [*map(np.asarray, history.history.values()), *model.get_weights(), model.predict(x[:7], verbose=0)]


@pytest.mark.parametrize(
    "case", pairwise(WAYS), ids=lambda case: "-".join(str(v).replace(" ", "_") for v in case.values())
)
def test_the_curve_is_that_of_one_device(case, monkeypatch):
    with monkeypatch.context() as patched:
        one = make(case)
        expected = results(one, fit(one, case, patched), case)
    distribution.set_distribution(PLANS[case["plan"]]())
    many = make(case)
    found = results(many, fit(many, case, monkeypatch), case)
    # Sums over rows are taken in another order, in bfloat16 of numbers with 8 bits.
    tolerance = 3e-2 if case["model"] == "bfloat16" else 2e-5
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    used = {len(v.stored.sharding.device_set) for v in many.variables}
    assert used == {8}


@pytest.mark.parametrize("name", ["fully", "2x4"])
def test_a_plan_may_be_set_late_and_left_again(name):
    case = {"data": "windows", "rows": 40, "optimizer": "plain", "model": "norm and dropout"}
    expected = make(case)
    expected.fit(*rows_of(case), batch_size=BATCH, epochs=3, verbose=0)
    model = make(case)
    for epoch, plan in enumerate([None, PLANS[name](), None]):
        distribution.set_distribution(plan)
        model.fit(*rows_of(case), batch_size=BATCH, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    assert all(len(v.stored.sharding.device_set) == 1 for v in model.variables)


@pytest.mark.parametrize("name", ["data", "fully", "2x4"])
def test_a_loop_of_ones_own_keeps_its_state_where_the_plan_says(name):
    case = {"data": "windows", "rows": 48, "optimizer": "plain", "model": "norm and dropout"}
    x, y = rows_of(case)

    def run():
        model = make(case)
        loss_of = lamina.losses.SparseCategoricalCrossentropy()
        model.optimizer.build(model.trainable_variables)

        @lamina.jit(donate_state=True)
        def step(x, y):
            loss, gradients = lamina.value_and_grad(lambda: loss_of(y, model(x, training=True)), model)()
            model.optimizer.apply(gradients, model.trainable_variables)
            return loss

        losses = [float(step(x[i : i + BATCH], y[i : i + BATCH])) for i in range(0, 48, BATCH)]
        return model, [np.array(losses), *model.get_weights()]

    _, expected = run()
    plan = PLANS[name]()
    distribution.set_distribution(plan)
    model, found = run()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    for variable in [*model.variables, *model.optimizer.variables]:
        assert variable.stored.sharding == plan.placement_of(variable).stored


def test_layouts_of_outputs_are_those_of_the_map():
    distribution.set_distribution(tensor((2, 4), "batch"))
    model = make({"model": "masks", "optimizer": "plain"})
    hidden = lamina.Model(model.inputs, model.get_layer("hidden").output)
    out = hidden(np.ones((4, 6), "int32"))
    assert out.sharding.spec == jax.sharding.PartitionSpec("batch", None, "model")
