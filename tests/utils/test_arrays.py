"""What a person may give to the functions that make arrays ready for training."""

import keras
import numpy as np
import pytest

import lamina

ROWS = [[3.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize("x", [ROWS, np.array(ROWS)], ids=["list", "array"])
def test_normalize_gives_the_dtype_of_keras(x):
    ours, theirs = (np.asarray(library.utils.normalize(x)) for library in (lamina, keras))
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(
    "name, given, rule",
    [
        ("pad_sequences", ["ab", "c"], "sequences.0. must be a sequence of items, got 'ab'"),
        ("pad_sequences", 5, "sequences.0. must be a sequence of items, got 5"),
        ("pad_sequences", [[1], [2, None]], "sequences.1. must hold values of dtype int32, got .2, None"),
        ("pad_sequences", [[1 << 40]], "sequences.0. must hold values of dtype int32"),
        ("to_categorical", ["cat", "dog"], "x must hold values of dtype int64, got .'cat', 'dog'"),
    ],
)
def test_mistakes_are_told(name, given, rule):
    with pytest.raises(ValueError, match=f"{name}: {rule}"):
        getattr(lamina.utils, name)(given)
