"""Automatic names count from the start in both libraries, so that what they name can be compared."""

import gc

import keras
import pytest

import lamina


@pytest.fixture(autouse=True)
def names_from_the_start(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # Keras does at each weight that it quantizes, half a second long
    lamina.utils.clear_session()
    keras.utils.clear_session(free_memory=False)
