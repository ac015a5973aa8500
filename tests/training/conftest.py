"""Small models and data that tests of training share."""

import numpy as np
import pytest

import lamina

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(22, 3)).astype("float32")
Y = RANDOM.normal(size=(22, 1)).astype("float32")


def compiled(*layers, optimizer="sgd", loss="mse", seed=1, **options):
    """A compiled stack whose weights and seeds are a function of `seed`."""
    lamina.utils.set_random_seed(seed)
    model = lamina.Sequential([lamina.Input((3,)), *(layers or (lamina.layers.Dense(1),))])
    model.compile(optimizer if isinstance(optimizer, str) else optimizer(), loss, **options)
    return model


@pytest.fixture
def model():
    return compiled()


@pytest.fixture
def data():
    return X, Y
