"""Windows: batches of arrays and of streams in memory of one size."""

import gc
import threading
from contextvars import ContextVar

import jax
import numpy as np
import pytest

from lamina.data import windows
from lamina.data.sources import make_source


def batches(*sizes, dtype="float32"):
    return [(np.full((n, 2), i, dtype), {"y": np.full(n, i)}) for i, n in enumerate(sizes)]


def batches_in(window):
    x, y = window.data
    for i in range(window.count):
        yield x[i], {"y": y["y"][i]}


def threads():
    return [t for t in threading.enumerate() if t.name == "lamina-prefetch"]


@pytest.fixture
def small(monkeypatch):
    """Windows of two batches."""
    monkeypatch.setattr(windows, "WINDOW_BATCHES", 2)


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
@pytest.mark.parametrize("rows", [3, 4, 8, 19])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_windows_of_arrays_hold_the_batches_of_the_epoch(small, rows, shuffle, dtype):
    x = np.arange(2 * rows).reshape(rows, 2).astype(dtype)
    source = make_source(x, {"y": np.arange(rows)}, batch_size=4, shuffle=shuffle, seed=3)
    found = [batch for window in windows.of_arrays(source, 1) for batch in batches_in(window)]
    for (x, y), (want_x, want_y) in zip(found, source.epoch(1), strict=True):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y["y"], want_y["y"])


@pytest.mark.parametrize("fills", [False, True])
@pytest.mark.parametrize("start", range(6))
def test_windows_from_a_batch_on(small, start, fills):
    source = make_source(np.arange(19), batch_size=4, shuffle=True, seed=3)
    found = [w for window in windows.of_arrays(source, 1, fills, start) for w in whole_batches(window, fills)]
    assert [batch.tolist() for batch in found] == [batch.tolist() for batch in source.epoch(1, start)]


def whole_batches(window, filled):
    data, counted = window.data if filled else (window.data, [None] * window.count)
    return [data[i][: counted[i]] for i in range(window.count)]


def test_the_shape_of_a_window_does_not_tell_the_number_of_rows():
    shapes = set()
    for rows in (8, 12, 400, 4000):
        first = next(iter(windows.of_arrays(make_source(np.zeros((rows, 3)), batch_size=4), 0)))
        shapes.add(first.data.shape)
    assert len(shapes) == 1


def test_an_array_that_is_input_and_target_lies_in_a_window_once():
    x = np.zeros((8, 3), "float32")
    window = next(iter(windows.of_arrays(make_source(x, x, batch_size=4), 0)))
    assert window.data[0] is window.data[1]


def test_windows_begin_where_a_device_may_read_them_in_place():
    for window in windows.of_arrays(make_source(np.zeros((9, 3), "float32"), batch_size=4), 0):
        assert window.data.ctypes.data % 64 == 0


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4, 4), (4, 4, 4, 2), (4, 2, 2, 4), (4,), ()])
def test_windows_of_a_stream_hold_its_batches_in_order(small, sizes):
    found = [batch for window in windows.of_stream(batches(*sizes)) for batch in batches_in(window)]
    for (x, y), (want_x, want_y) in zip(found, batches(*sizes), strict=True):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y["y"], want_y["y"])


def test_a_batch_does_not_wait_for_the_next():
    asked = threading.Event()

    def items():
        yield batches(4)[0]
        assert asked.wait(10)
        yield batches(4)[0]

    found = windows.of_stream(items())
    assert next(found).count == 1  # while the stream is at work on the second
    asked.set()
    assert next(found).count == 1


def test_what_has_come_meanwhile_is_taken_at_once():
    done = threading.Event()

    def items():
        yield from batches(4, 4, 4)
        done.set()

    found = windows.of_stream(items())
    first = next(found)
    assert done.wait(10)
    assert first.count + sum(window.count for window in found) == 3


def test_another_structure_or_dtype_begins_another_window():
    mixed = [*batches(4), *batches(4, dtype="float16"), (np.zeros((4, 2)),)]
    assert [window.count for window in windows.of_stream(mixed)] == [1, 1, 1]


def test_a_stream_may_use_its_buffer_again():
    buffer = np.zeros((2, 1), "float32")

    def items():
        for i in range(3):
            buffer[:] = i
            yield (buffer,)

    rows = np.concatenate([w.data[0][: w.count, :, 0] for w in windows.of_stream(items())])
    np.testing.assert_array_equal(rows, [[0, 0], [1, 1], [2, 2]])


def test_batches_before_an_error_come_before_it():
    def items():
        yield from batches(4, 4)
        raise KeyError("on purpose")

    seen = 0
    with pytest.raises(KeyError, match="on purpose"):
        for window in windows.of_stream(items()):
            seen += window.count
    assert seen == 2


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_reader_that_stops_ends_the_thread_and_the_stream(small, how):
    closed = []

    def items():
        try:
            while True:
                yield batches(4)[0]
        finally:
            closed.append(True)

    found = windows.of_stream(items())
    next(found)
    if how == "close":
        found.close()
    del found
    gc.collect()
    for thread in threads():
        thread.join(10)
    assert closed == [True]


def test_a_stream_sees_the_context_of_its_reader():
    setting = ContextVar("setting", default=0)
    setting.set(7)

    def items():
        yield (np.full((1, 1), setting.get()),)

    assert next(windows.of_stream(items())).data[0][0, 0, 0] == 7


def test_the_memory_of_a_window_serves_another_when_nobody_looks_at_it():
    shape = (3, 1 << 20)  # large enough to be kept, and of a size that no other test has
    room = windows._room(shape, "float32")
    room[:], place = 3, room.ctypes.data
    part, on_device = room[1, 5:9], jax.device_put(room)
    del room
    other = windows._room(shape, "float32")
    other[:] = 7
    assert part.tolist() == [3, 3, 3, 3] and float(on_device[2, -1]) == 3
    del part
    jax.block_until_ready(on_device).delete()
    del on_device
    gc.collect()
    assert windows._room(shape, "float32").ctypes.data == place != other.ctypes.data
