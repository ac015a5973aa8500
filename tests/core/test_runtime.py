"""What the machine keeps between runs: compiled programs, freed memory; and modules that load late."""

import os
import platform
import subprocess
import sys

import jax
import pytest

import lamina
from lamina.core.later import Later
from lamina.core.runtime import by_platform

FAULTS = """
import os, resource, sys
from lamina.core.runtime import keep_freed_memory

keep_freed_memory()
b"x" * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

STEPS = """
import resource
import numpy as np
import lamina
from lamina import layers

wide = [layer for _ in range(4) for layer in (layers.Dense(2048, "relu"), layers.Dense(4))]
model = lamina.Sequential([layers.Input((4,)), *wide])
model.compile("sgd", "mse")
x = np.ones((4096, 4), "float32")
model.fit(x, x, batch_size=4096, epochs=4, verbose=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
model.fit(x, x, batch_size=4096, epochs=4, verbose=0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 4)
"""


FLAG = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold"
LOOP = """
import sys
import lamina
import jax
import jax.numpy as jnp

loop = jax.jit(lambda x: jax.lax.fori_loop(0, 10, lambda i, x: jnp.sin(x) * 2, x))
print([loop.lower(jnp.ones(n)).compile().as_text().count("small_call") for n in (300, 3000)])
"""
CHANNELS = """
import lamina
import jax
import jax.numpy as jnp

jax.jit(lambda x: jnp.maximum(x, 0) + 1).lower(jnp.ones((512, 16))).compile()
"""


def page_faults(code, **environment):
    """How many pages are new to the process where so much memory was freed before."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return float(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told; needs a Linux with it")
def test_freed_memory_is_kept_for_the_next_launch_unless_the_environment_tells_otherwise():
    pages = 2**26 // os.sysconf("SC_PAGE_SIZE")
    assert page_faults(FAULTS) < pages / 10
    assert page_faults(FAULTS, MALLOC_TOP_PAD_="131072") > pages / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told; needs a Linux with it")
def test_a_step_that_works_in_more_memory_than_a_heap_holds_meets_none_of_it_anew():
    pages = 2**27 // os.sysconf("SC_PAGE_SIZE")  # four activations of 32 MiB
    # Of three processes: on a busy machine some of the memory lies in another arena now and then.
    assert any(page_faults(STEPS) < pages / 10 for _ in range(3))
    assert page_faults(STEPS, MALLOC_TOP_PAD_="131072") > pages / 2


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a flag of XLA's CPU backend; needs a CPU")
@pytest.mark.parametrize("flags, found", [("", "[1, 0]"), (f"{FLAG}=9", "[0, 0]")])
def test_a_loop_of_few_bytes_is_one_operation_unless_the_environment_tells_otherwise(flags, found):
    command = [sys.executable, "-c", LOOP]
    run = subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == found


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a flag of XLA's CPU backend; needs a CPU")
@pytest.mark.parametrize("flags, by_vectors", [("", True), (f"{FLAG}=9", False)])
def test_a_loop_over_few_channels_is_compiled_to_vectors_unless_the_environment_tells_otherwise(
    flags, by_vectors, tmp_path
):
    settings = {"XLA_FLAGS": f"--xla_dump_to={tmp_path} {flags}", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    subprocess.run([sys.executable, "-c", CHANNELS], env={**os.environ, **settings}, check=True)
    (code,) = tmp_path.glob("*lambda*.ir-with-opt.ll")
    assert (" x float>" in code.read_text()) == by_vectors


def test_where_there_are_only_cpus_other_forms_are_not_traced(monkeypatch):
    def form(name):
        return lambda x: traced.append(name) or x + len(name)

    traced = []
    assert jax.jit(lambda x: by_platform(x, cpu=form("cpu"), default=form("other")))(1.0) == 4
    assert traced == ["cpu"] or jax.default_backend() != "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = jax.jit(lambda x: by_platform(x, cpu=form("cpu"), default=form("other"))).trace(1.0).jaxpr
    assert "platform_index" in str(text) and set(traced) == {"cpu", "other"}


def test_programs_are_kept_in_the_users_cache(tmp_path):
    code = "import lamina, jax; print(jax.config.jax_compilation_cache_dir)"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    run = [
        subprocess.run([sys.executable, "-c", code], env={**clean, **more}, capture_output=True, text=True, check=True)
        for more in ({"XDG_CACHE_HOME": str(tmp_path)}, {"JAX_ENABLE_COMPILATION_CACHE": "false"})
    ]
    assert run[0].stdout.startswith(f"{tmp_path}/lamina/xla-")
    assert run[1].stdout.strip() == "None"


def test_a_module_loads_at_its_first_use():
    code = """
import sys
from lamina.core.later import Later
from lamina.core.runtime import by_platform

xml = Later("xml.dom.minidom", "xml.sax")
print("xml.sax" in sys.modules, xml.dom.minidom.Document.__name__, "xml.sax" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "Document", "True"]


def test_a_module_that_is_not_there_is_missed_at_its_first_use():
    missing = Later("nowhere_to_be_found")
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        missing.anything  # noqa: B018


def test_importing_loads_neither_files_nor_tables():
    code = "import sys, lamina; print(sorted({'h5py', 'rich', 'jax.extend'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["cpu", "CPU:0", "cpu:0"])
def test_a_device_holds_what_is_made_inside(name):
    with lamina.device(name):
        assert lamina.Variable([1.0]).value.devices() == {jax.devices("cpu")[0]}
    with lamina.device(jax.devices("cpu")[0]):
        assert jax.config.jax_default_device == jax.devices("cpu")[0]
    assert jax.config.jax_default_device is None


@pytest.mark.parametrize("name", ["tpu:7", "cpu:99", "cpu:x", "cpu:-1", 3])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match=r"device: must be one of .*cpu:0"):
        lamina.device(name)
