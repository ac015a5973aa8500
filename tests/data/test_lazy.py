"""Rows that are read when they are asked for."""

import numpy as np
import pytest

from lamina.data import lazy
from lamina.data.lazy import LazyRows, of_rows, of_slices

WHOLE = np.arange(300.0).reshape(100, 3)
INDICES = [slice(None), slice(20, 40), slice(90, 200), np.array([7, 3, 3, 99, 0]), [5]]


class Counts:
    """Slices of an array, and how many rows were read."""

    shape, dtype = WHOLE.shape, WHOLE.dtype

    def __init__(self):
        self.read = []

    def __getitem__(self, index):
        self.read.append(len(range(*index.indices(100))))
        return WHOLE[index]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_rows_of_slices_are_those_of_the_array(index):
    np.testing.assert_array_equal(of_slices(Counts())[index], WHOLE[index])


def test_rows_that_lie_near_are_read_together_and_others_apart(monkeypatch):
    monkeypatch.setattr(lazy, "NEAR", 3 * 24)
    data = Counts()
    rows = of_slices(data)
    data.read.clear()
    rows[np.array([50, 1, 3, 2, 52, 90])]
    assert data.read == [3, 3, 1]


def test_what_is_read_at_once_has_a_limit(monkeypatch):
    monkeypatch.setattr(lazy, "TOGETHER", 10 * 24)
    data = Counts()
    np.testing.assert_array_equal(of_slices(data)[np.arange(100)], WHOLE)
    assert max(data.read) <= 10


def test_a_part_of_a_part_and_what_is_done_to_it():
    rows = of_slices(Counts()).part(slice(10, 60)).then(lambda a: a.astype("float32")).part(slice(5, 9))
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == ((4, 3), "float32", 2, 4)
    np.testing.assert_array_equal(rows, WHOLE[15:19].astype("float32"))
    np.testing.assert_array_equal(rows[np.array([3, 0])], WHOLE[[18, 15]])


def test_arrays_of_one_dataset_are_read_once_for_the_same_rows():
    asked = []

    def fetch(rows):
        asked.append(rows)
        return {"a": WHOLE[rows], "b": [WHOLE[rows, 0]]}

    found = of_rows(fetch, 100)
    assert isinstance(found["a"], LazyRows) and found["b"][0].shape == (100,)
    for rows in (slice(3, 9), np.array([4, 2])):
        asked.clear()
        np.testing.assert_array_equal(found["a"][rows], WHOLE[rows])
        np.testing.assert_array_equal(found["b"][0][rows], WHOLE[rows, 0])
        assert len(asked) == 1
