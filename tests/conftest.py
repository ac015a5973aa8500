"""Settings that hold for every test: the oracle runs on JAX, one CPU device, quietly; what is random has one seed."""

import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import gc
import itertools
from pathlib import Path

import jax
import pytest

import lamina

# Each compiled program maps some memory, and Linux lets a process have 65,530 such pieces: then compilers abort.
MOST_MAPS, LOOKS = 20_000, 50
SEED = 1
_tests = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart():
    lamina.utils.set_random_seed(SEED)  # modules make layers when they are imported


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    lamina.utils.set_random_seed(SEED)  # whatever ran before: a test fails always or never


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # collections pass over the millions of objects that packages made when they were imported


@pytest.fixture(autouse=True)
def _few_compiled_programs():
    yield
    maps = Path("/proc/self/maps")
    if next(_tests) % LOOKS == 0 and maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
