"""What a model held is gone with it: JAX keeps for ever what a trace meets, so no trace may meet its arrays."""

import gc

import jax
import numpy as np
import pytest

import lamina
from lamina import layers, ops

X, Y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")


def make(*inner):
    model = lamina.Sequential([layers.Input((4,)), *inner, layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


class Branches(layers.Layer):
    """Reads its weights inside control flow."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(4)

    def call(self, x):
        return ops.cond(ops.sum(x) > 0, lambda: self.inner(x), lambda: 2 * self.inner(x))


def jitted(model):
    step = lamina.jit(lambda x: model(x))
    step(X)


USES = {
    "predict": lambda model: model.predict(X, verbose=0),
    "predict in batches": lambda model: model.predict(X, batch_size=3, verbose=0),
    "fit": lambda model: model.fit(X, Y, verbose=0),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "call": lambda model: model(X),
    "jit": jitted,
    "functional": lambda model: jax.jit(lamina.functional(model)[0])(lamina.functional(model)[1], X),
    "copy": lambda model: lamina.models.clone_model(model).predict(X, verbose=0),
}


@pytest.fixture(autouse=True, scope="module")
def _collections_look_at_what_is_new():
    """Each would go through all that the tests before have left, for a second."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("inner", [(), (layers.Dropout, 0.5), (layers.BatchNormalization,), (Branches,)], ids=str)
@pytest.mark.parametrize("use", USES)
def test_nothing_stays(use, inner):
    def once():
        model = make(*(inner[0](*inner[1:]),) if inner else ())
        USES[use](model)
        del model
        gc.collect()
        return {id(array): array.shape for array in jax.live_arrays()}

    once()  # what is made once in a process
    before = once()
    assert list(once().values()) == list(before.values())


def test_nothing_of_a_loaded_model_stays(tmp_path):
    make().save(tmp_path / "model.keras")

    def once():
        lamina.saving.load_model(tmp_path / "model.keras").predict(X, verbose=0)
        gc.collect()
        return len(jax.live_arrays())

    once()
    before = once()
    assert once() == before
