"""Variables for the tests of what reads and assigns them."""

import numpy as np
import pytest

from lamina.core.variable import Variable


@pytest.fixture
def counter():
    return Variable(0.0, trainable=False, name="counter")


@pytest.fixture
def weight():
    return Variable(np.arange(3.0), name="weight")
