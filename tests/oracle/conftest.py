"""Automatic names count from the start in both libraries, so that what they name can be compared."""

import keras
import pytest

import lamina


@pytest.fixture(autouse=True)
def names_from_the_start():
    lamina.utils.clear_session()
    keras.utils.clear_session(free_memory=False)
