"""Automatic names count from the start in both libraries, so that what they name can be compared; Keras gives the same
result each time."""

import gc

import keras
import pytest

import lamina


@pytest.fixture(autouse=True)
def names_from_the_start(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # Keras does at each weight that it quantizes, half a second long
    lamina.utils.clear_session()
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(autouse=True)
def added_losses_live_on(monkeypatch):
    """Keras knows the losses of a layer by their `id`, of an earlier trace too: a loss of another layer that gets the
    `id` of a dead one is dropped, in one of some 500 trainings with two such layers."""
    add, losses = keras.layers.Layer.add_loss, []

    def add_loss(self, loss):
        losses.append(loss)
        return add(self, loss)

    monkeypatch.setattr(keras.layers.Layer, "add_loss", add_loss)
