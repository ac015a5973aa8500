"""The machine: what it keeps between runs of compiled programs, on disk and in memory, and its devices."""

import atexit
import ctypes
import functools
import gc
import hashlib
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax

SHORTEST = 0.02  # seconds of compilation that are worth a file
KEPT_SHARE = 8  # freed memory that is kept: at most one part in so many of the machine's
_BACKGROUND = "lamina-compile"  # the name of threads that compile
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's mallopt
_HEAP = 2**26  # bytes of a heap of glibc
_EXTRA = "xla_backend_extra_options"
_CODE = f"--{_EXTRA}=xla_cpu_small_while_loop_byte_threshold={2**12},xla_cpu_disable_loop_unrolling=true"


def keep_compiled_programs() -> None:
    """Turn JAX's persistent compilation cache on, unless the program or the environment has said what to do.

    `JAX_COMPILATION_CACHE_DIR` puts it elsewhere, `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    """
    settings: Any = jax.config
    if settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache:
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lamina"
    folder = root / f"xla-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: compile anew each time
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def in_background(work: Callable[[], Any]) -> Future:
    """The result of `work`, to come from a thread that does not hold up the end of a program that failed."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name=_BACKGROUND, daemon=True)
    thread.start()
    return future


@contextmanager
def without_collections() -> Iterator[None]:
    """Look for no garbage meanwhile. What a trace makes, it keeps: to go through it again and again takes long."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _leave() -> None:
    """At the end: compilers cannot be stopped, and Python must not end around one. An error does not wait for it."""
    compiling = [thread for thread in threading.enumerate() if thread.name == _BACKGROUND]
    failed = hasattr(sys, "last_value") and not hasattr(sys, "ps1")  # an error that nobody caught, in a script
    if compiling and failed:  # the steps that Python would take, but for that
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    for thread in compiling:
        thread.join()


getattr(threading, "_register_atexit")(_leave)  # noqa: B009 -- before all that atexit holds


def by_platform(*arrays: Any, cpu: Callable, default: Callable) -> Any:
    """`cpu(*arrays)` in programs for CPUs, `default(*arrays)` in others; the other one is not traced on a CPU."""
    if jax.default_backend() == "cpu":
        return cpu(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=cpu, default=default)


def run_where_called() -> None:
    """Have programs on CPUs run in the thread that calls them, unless JAX has its devices already.

    In threads of XLA's own, a program that works in more than a heap of glibc (64 MB) gets that memory anew from the
    system in each launch. Python's first thread has no such limit. Other threads run meanwhile, as they do otherwise.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def write_code_for_cpus() -> None:
    """Have XLA make one operation of a loop whose body meets less than 4 KB, by default 1, and of no others: each
    operation of a step of a linear model costs more than what it computes. And have LLVM unroll no loops: one over 16
    or 32 channels it would write out number by number, and then not by vectors. Not where XLA has its flags already."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _EXTRA not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_CODE}".lstrip()


_nothing = jax.jit(lambda: ())


def settings() -> Any:
    """What JAX's settings are now, to tell programs apart: a trace of nothing, which JAX keeps for each set of them."""
    return _nothing.trace().jaxpr


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what programs on CPUs free for the next one, unless the environment says what to do.

    By default glibc gives the memory that a compiled step works in back to the system after each launch, and the next
    one meets every page of it as new, which takes up to half of a step. See `run_where_called`, too.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if told or platform.libc_ver()[0] != "glibc" or jax.default_backend() != "cpu":
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)  # blocks of all sizes come from heaps ...
    mallopt(_M_TRIM_THRESHOLD, min(memory // KEPT_SHARE, 2**31 - 1))  # ... which shrink only when so much is free ...
    mallopt(_M_TOP_PAD, _HEAP)  # ... and are given back only if others have room for so much


def _processor() -> str:
    """A name for the kind of processor: machines that share a home must not share their code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:12]


def device(device_name: Any) -> AbstractContextManager[Any]:
    """A context in which new arrays lie, and programs run, on another device.

    Args:
        device_name: such as `"cpu"`, `"gpu:0"`, or a device of JAX.

    Raises: ValueError if there is no such device.
    """
    return jax.default_device(device_called(device_name))


def device_called(device_name: Any) -> Any:
    """The device of a name such as `"cpu"` (the first) or `"gpu:1"`; one of JAX as it is."""
    if isinstance(device_name, jax.Device):
        return device_name
    kind, _, number = str(device_name).lower().partition(":")
    try:
        devices = jax.devices(kind)
        return {str(device.id): device for device in devices}[number] if number else devices[0]
    except (RuntimeError, KeyError):
        known = ", ".join(sorted({f"{d.platform}:{d.id}" for d in (*jax.devices(), *jax.devices("cpu"))}))
        raise ValueError(f"device: must be one of {known}, or a device of JAX, got {device_name!r}.") from None
