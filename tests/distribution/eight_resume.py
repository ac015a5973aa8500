"""What was saved under one plan goes on under another."""

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import lamina
from lamina import distribution, layers

X = np.random.default_rng(0).normal(size=(48, 12)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 48)


def tensor(shape):
    mesh = distribution.DeviceMesh(shape, ["batch", "model"], distribution.list_devices()[: shape[0] * shape[1]])
    found = distribution.LayoutMap(mesh)
    found[".*hidden/kernel"], found[".*hidden/bias"] = (None, "model"), ("model",)
    found[".*out/kernel"] = ("model", None)
    return distribution.ModelParallel(layout_map=found)


PLANS = {
    "1": lambda: None,
    "4": lambda: distribution.FullySharded(devices=distribution.list_devices()[:4], least=8),
    "8": lambda: distribution.FullySharded(least=8),
    "2x2": lambda: tensor((2, 2)),
    "2x4": lambda: tensor((2, 4)),
}


@pytest.fixture(autouse=True)
def _one_device_again():
    yield
    distribution.set_distribution(None)


def make():
    lamina.utils.set_random_seed(4)
    stack = [layers.Dense(16, "relu", name="hidden"), layers.Dropout(0.2), layers.Dense(3, name="out")]
    model = lamina.Sequential([layers.Input((12,)), *stack], name="m")
    loss = lamina.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(lamina.optimizers.Adam(0.01), loss)
    return model


def losses(model, first, last):
    history = model.fit(X, Y, batch_size=16, initial_epoch=first, epochs=last, shuffle=False, verbose=0)
    return history.history["loss"]


@pytest.fixture(scope="module")
def expected():
    return losses(make(), 0, 4)[2:]


AROUND = list(zip(PLANS, [*list(PLANS)[1:], next(iter(PLANS))]))


@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_model_goes_on_elsewhere(before, after, expected, tmp_path):
    distribution.set_distribution(PLANS[before]())
    model = make()
    losses(model, 0, 2)
    model.save(tmp_path / "model.keras")
    distribution.set_distribution(PLANS[after]())
    model = lamina.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(losses(model, 2, 4), expected, rtol=1e-5)


def state_of(model):
    return [*model.variables, *model.optimizer.variables]


@pytest.fixture
def passed(monkeypatch):
    """The arrays that Orbax was given to write, and those that it has read."""
    written, read = [], []
    plain_save, plain_load = ocp.training.Checkpointer.save_checkpointables_async, ocp.load_checkpointables

    def save(self, step, content, **options):
        written.extend(jax.tree.leaves(content))
        return plain_save(self, step, content, **options)

    def load(path, forms):
        found = plain_load(path, forms)
        read.extend(jax.tree.leaves(found))
        return found

    monkeypatch.setattr(ocp.training.Checkpointer, "save_checkpointables_async", save)
    monkeypatch.setattr(ocp, "load_checkpointables", load)
    return written, read


def load_model(folder, plan):
    distribution.set_distribution(plan)
    return lamina.saving.load_model(folder)


def load_weights(folder, plan):
    model = make()
    distribution.set_distribution(plan)  # when the model is there already
    model.load_weights(folder)
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Orbax's own
@pytest.mark.parametrize("load", [load_model, load_weights])
@pytest.mark.parametrize(("before", "after"), [("8", "2x2"), ("2x4", "4"), ("4", "1")])
def test_a_checkpoint_of_orbax_goes_on_elsewhere(before, after, load, expected, passed, tmp_path):
    written, read = passed
    distribution.set_distribution(PLANS[before]())
    model = make()
    saves = lamina.callbacks.OrbaxCheckpoint(tmp_path, "loss")
    model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[saves])
    assert {id(v.stored) for v in state_of(model)} <= set(map(id, written))  # as they lie: nothing was gathered
    plan = PLANS[after]()
    model = load(tmp_path, plan)
    assert {id(v.stored) for v in state_of(model)} <= set(map(id, read))  # as they were read: nothing was moved
    for v in state_of(model) if plan else []:
        assert v.stored.sharding == plan.placement_of(v).stored
    np.testing.assert_allclose(losses(model, 2, 4), expected, rtol=1e-5)


def test_a_run_that_was_killed_goes_on_with_other_devices(expected, tmp_path):
    class Killed(lamina.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(*others):
        backup = lamina.callbacks.BackupAndRestore(tmp_path / "backup")
        return make().fit(X, Y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=[backup, *others])

    distribution.set_distribution(PLANS["8"]())
    with pytest.raises(KeyboardInterrupt):
        run(Killed())
    distribution.set_distribution(PLANS["2x2"]())
    np.testing.assert_allclose(run().history["loss"][2:], expected, rtol=1e-5)
