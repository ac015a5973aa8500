"""Synthetic rows, the same in each process: learnable, so that the loss moves as it does in real work."""

import numpy as np

# A size that a workload chooses comes after `rng` and `rows`, and is given by `partial`.
Arrays = tuple[np.ndarray, np.ndarray]


def clouds(rng: np.random.Generator, rows: int) -> Arrays:
    """Two Gaussian clouds in the plane, to be told apart by a line."""
    label = rng.integers(0, 2, rows)
    centre = np.array([[0.0, 3.0], [3.0, 0.0]])
    points = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], rows) + centre[label]
    return points.astype("float32"), label.astype("float32")[:, np.newaxis]


def pictures(rng: np.random.Generator, rows: int, shape: tuple[int, ...]) -> Arrays:
    """Ten noisy prototypes of the given shape: learnable, so that the loss moves as it does in real work."""
    prototypes = rng.random((10, *shape), dtype="float32")
    label = rng.integers(0, 10, rows)
    return prototypes[label] + 0.5 * rng.standard_normal((rows, *shape), dtype="float32"), label


def sentences(rng: np.random.Generator, rows: int, length: int, classes: int) -> Arrays:
    """Sequences of words out of 5,000; the label tells which part of the vocabulary is used more."""
    label = rng.integers(0, classes, rows)
    part = 5000 // classes
    anywhere = rng.integers(0, 5000, (rows, length))
    own = rng.integers(0, part, (rows, length)) + part * label[:, np.newaxis]
    words = np.where(rng.random((rows, length)) < 0.3, own, anywhere).astype("int32")
    return words, label if classes > 2 else label.astype("float32")[:, np.newaxis]


def vectors(rng: np.random.Generator, rows: int) -> Arrays:
    """Vectors of 32 numbers, to be given back."""
    points = rng.random((rows, 32), dtype="float32")
    return points, points


def shades(rng: np.random.Generator, rows: int, shape: tuple[int, ...]) -> Arrays:
    """The same pictures between 0 and 1, to be given back."""
    points = pictures(rng, rows, shape)[0].clip(0, 1)
    return points, points


def records(rng: np.random.Generator, rows: int, columns: int) -> Arrays:
    """Rows of a table; a noisy sum of some columns says yes or no."""
    table = rng.standard_normal((rows, columns), dtype="float32")
    label = table[:, :10].sum(1) + rng.standard_normal(rows) > 0
    return table, label.astype("float32")[:, np.newaxis]


def tagged(rng: np.random.Generator, rows: int, length: int, classes: int) -> Arrays:
    """Sentences of several lengths, filled up with 0, and a class for each word; 0 is no word and no class."""
    words = rng.integers(1, 5000, (rows, length))
    tags = 1 + (words + np.roll(words, 1, axis=1)) // 50 % (classes - 1)
    there = np.arange(length) < rng.integers(length // 4, length + 1, (rows, 1))
    return np.where(there, words, 0).astype("int32"), np.where(there, tags, 0)


def continued(rng: np.random.Generator, rows: int, length: int, vocabulary: int) -> Arrays:
    """Sentences in which a word mostly tells the next one; the targets are the words that follow."""
    words = rng.integers(0, vocabulary, (rows, length + 1))
    known = rng.random((rows, length)) < 0.7
    for i in range(length):
        words[:, i + 1] = np.where(known[:, i], words[:, i] * 7 % vocabulary, words[:, i + 1])
    return words[:, :-1].astype("int32"), words[:, 1:]


def discs(rng: np.random.Generator, rows: int, size: int) -> Arrays:
    """A bright disc in noise, and which pixels are its."""
    x, y, radius = rng.uniform(0.2, 0.8, (3, rows, 1, 1)) * size * np.array([1, 1, 0.4]).reshape(3, 1, 1, 1)
    across, down = np.arange(size), np.arange(size)[:, np.newaxis]
    inside = ((across - x) ** 2 + (down - y) ** 2 < radius**2)[..., np.newaxis].astype("float32")
    return inside + rng.standard_normal(inside.shape, dtype="float32"), inside
