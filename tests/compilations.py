"""What is compiled while a test runs."""

import contextlib

import jax


@contextlib.contextmanager
def compilations():
    """What JAX compiles inside the block."""
    found = []

    def note(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
