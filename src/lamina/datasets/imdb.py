"""50,000 reviews of films: A. Maas and others, 2011, https://ai.stanford.edu/~amaas/data/sentiment."""

from typing import Any

from lamina.core import checks
from lamina.datasets import reading


def load_data(
    path: str = "imdb.npz", num_words: int | None = None, skip_top: int = 0, maxlen: int | None = None, seed: int = 113,
    start_char: int | None = 1, oov_char: int | None = 2, index_from: int = 3, **kwargs: Any,
) -> reading.Split:  # fmt: skip
    """`(x_train, y_train), (x_test, y_test)`: 25,000 lists of the numbers of words each, and 1 for praise.

    Args:
        path: the name of the file in the cache.
        num_words, skip_top: numbers from `num_words` on, and below `skip_top`, are left out.
        maxlen: only texts that are shorter are kept.
        seed: of the order of the texts.
        start_char: what every text starts with, if anything.
        oov_char: what takes the place of numbers that are left out, if anything.
        index_from: what is added to the numbers of `get_word_index`.
    """
    if kwargs:
        raise checks.unknown_arguments("imdb.load_data", kwargs, ("num_words", "skip_top", "maxlen", "index_from"))
    found = reading.arrays("imdb.npz", path, "x_train", "y_train", "x_test", "y_test")
    chars = start_char, oov_char, index_from
    return reading.texts("imdb", None, num_words, skip_top, maxlen, seed, *chars, found[:2], found[2:])


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """Each word -> its number, from 1 for the most frequent one."""
    return reading.word_index("imdb_word_index.json", path)
