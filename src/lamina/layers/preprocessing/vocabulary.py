"""Vocabularies: which integer stands for which word or number."""

import heapq
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import checks
from lamina.layers.preprocessing.pipelines import host_array
from lamina.layers.preprocessing.strings import Integers, Strings, Table, of_each, strings

DROPPED = -2  # in place of a number: what counts for nothing


class Vocabulary:
    """Tokens, numbered from `start` on.

    Args:
        tokens: words as bytes in UTF-8, or integers.
        start: the number of the first one.
        more: further tokens and their numbers.
        unknown: the number of what is not there.

    `repeated` are the tokens that are there more than once, which a vocabulary must not have.
    """

    def __init__(self, tokens: list[Any], start: int, more: Sequence[tuple[Any, int]], is_text: bool, unknown: int):
        self.tokens, self._unknown = tokens, unknown
        self._keys = [*tokens, *(token for token, _ in more)]
        once = [*dict.fromkeys(self._keys)]  # a table of one token many times would take long
        repeats = len(once) < len(self._keys)
        self.repeated = [token for token, count in Counter(self._keys).items() if count > 1] if repeats else []
        self._table = Table(strings(once, "") if is_text else Integers(np.array(once, np.int64)))
        numbers = [np.arange(start, start + len(tokens)), [number for _, number in more], [unknown]]
        self._numbers = np.concatenate(numbers).astype(np.int64)
        self._is_row = not more and unknown == start - 1 and len(tokens)  # so that nothing has to be looked up

    def numbers(self, tokens: Any) -> Any:
        """The number of each token of `Strings` or `Integers`, or in an array of JAX."""
        if isinstance(tokens, (Strings, Integers)):
            return of_each(self._numbers_of, tokens)
        keys, limits = np.array(self._keys, np.int64), jnp.iinfo(tokens.dtype)
        order = np.argsort(keys)
        order = order[(keys[order] >= limits.min) & (keys[order] <= limits.max)]
        if not len(order):
            return jnp.full(tokens.shape, self._unknown)
        keys, numbers = jnp.asarray(keys[order].astype(tokens.dtype)), jnp.asarray(self._numbers[order].astype("int32"))
        places = jnp.minimum(jnp.searchsorted(keys, tokens), len(order) - 1)
        return jnp.where(keys[places] == tokens, numbers[places], self._unknown)

    def _numbers_of(self, tokens: Strings | Integers) -> np.ndarray:
        places = self._table.numbers(tokens)
        if self._is_row:
            places += self._numbers[0]
            return places
        return self._numbers.take(places, mode="wrap")


def by_frequency(counts: Counter[Any], most: int | None) -> list[Any]:
    """The tokens, the most frequent first; of those that are as frequent the greater first."""
    return heapq.nlargest(len(counts) if most is None else most, counts, key=lambda token: (counts[token], token))


def tokens_of(vocabulary: Any, is_text: bool, who: str) -> Any:
    """The tokens of a list, an array or a file: bytes, or integers in an array."""
    if isinstance(vocabulary, (str, os.PathLike)):
        return read(os.fspath(vocabulary), is_text, who)
    array = host_array(vocabulary, who)
    checks.require(array.size != 0, who, "vocabulary must hold at least one token", got="none")
    checks.require(array.ndim == 1, who, "vocabulary must be a list of tokens", got=f"shape {array.shape}")
    if is_text:
        return strings(array, f"{who}: vocabulary").tolist()
    checks.require(array.dtype.kind in "iu", who, "vocabulary must hold integers", got=f"dtype {array.dtype}")
    return array.tolist()


def read(path: str, is_text: bool, who: str) -> Any:
    """The tokens in a file, one a line."""
    try:
        with open(path, "rb") as file:
            lines = [line.removesuffix(b"\r") for line in file.read().split(b"\n")]
    except OSError as error:
        raise ValueError(f'{who}: the vocabulary file "{path}" must be there to read, got {error.strerror}.') from None
    while lines and not lines[-1]:
        lines.pop()
    checks.require(lines, who, f'the vocabulary file "{path}" must hold a token a line', got="an empty file")
    for number, line in enumerate(lines, 1):
        try:
            np.int64(int(line)) if not is_text else line.decode()
        except (ValueError, OverflowError):
            wanted, given = "UTF-8" if is_text else "integers", checks.shorten(line)
            raise ValueError(
                f'{who}: the vocabulary file "{path}" must hold {wanted}, got {given} in line {number}.'
            ) from None
    return lines if is_text else list(map(int, lines))
