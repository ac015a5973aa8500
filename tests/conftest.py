"""Settings that hold for every test: the oracle runs on JAX, one CPU device, quietly; what is random has one seed."""

import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import functools
import gc
import itertools
import threading
from pathlib import Path

import jax
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir
from jaxlib.mlir import ir

import lamina

# Each compiled program maps some memory, and Linux lets a process have 65,530 such pieces: then compilers abort.
MOST_MAPS, LOOKS = 20_000, 50
SEED = 1
_tests = itertools.count(1)

# JAX makes a context of MLIR for each program, in more time than most programs here take to be written down: those of a
# thread share some. One for all would keep what all of them hold, and a program inside another would go into its text.
SHARE = 100
_new_context, _programs = mlir.make_ir_context, itertools.count()
_shared_context = functools.lru_cache(maxsize=8)(lambda thread, hundred: _new_context())


def _current():
    try:
        return ir.Context.current
    except ValueError:  # as older versions say that there is none
        return None


def _context():
    if _current() is None:
        return _shared_context(threading.get_ident(), next(_programs) // SHARE)
    return _new_context()


mlir.make_ir_context = _context

# Most of the time of tests is XLA's compilation of small programs: 0.6 of that where LLVM optimizes less, as it does
# for training, and fused operations are not written in MLIR. What training compiles has options of its own, and stays
# as it is for people.
QUICKLY = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
_options = compiler.get_compile_options


def _quick_options(*args, env_options_overrides=None, **kwargs):
    return _options(*args, env_options_overrides=env_options_overrides or QUICKLY, **kwargs)


def pytest_addoption(parser):
    parser.addoption("--optimized", action="store_true", help="compile everything as it is compiled for people")


def pytest_configure(config):
    if not config.getoption("optimized"):
        compiler.get_compile_options = _quick_options


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
