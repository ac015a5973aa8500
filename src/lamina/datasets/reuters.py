"""11,228 newswires of 46 topics: D. Lewis, 1997, https://doi.org/10.24432/C52G6M."""

from lamina.core import checks
from lamina.datasets import reading

_LABELS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass "
    "crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi "
    "iron-steel rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


def load_data(
    path: str = "reuters.npz", num_words: int | None = None, skip_top: int = 0, maxlen: int | None = None,
    test_split: float = 0.2, seed: int = 113, start_char: int | None = 1, oov_char: int | None = 2, index_from: int = 3,
) -> reading.Split:  # fmt: skip
    """`(x_train, y_train), (x_test, y_test)`: lists of the numbers of words, and the numbers of topics.

    Args:
        path, num_words, skip_top, maxlen, seed, start_char, oov_char, index_from: as for `imdb`.
        test_split: the share of the texts that is for tests.
    """
    checks.number("reuters", "test_split", test_split, 0, 1)
    part = reading.arrays("reuters.npz", path, "x", "y")
    chars = start_char, oov_char, index_from
    return reading.texts("reuters", test_split, num_words, skip_top, maxlen, seed, *chars, part)


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """Each word -> its number, from 1 for the most frequent one."""
    return reading.word_index("reuters_word_index.json", path)


def get_label_names() -> tuple[str, ...]:
    """The topics, in the order of their numbers."""
    return tuple(_LABELS.split())
