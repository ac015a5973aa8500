"""The order in which `shuffle` gives items: that of tf.data with the same seed, as a function of (seed, epoch).

Its numbers are those of Philox 4x32 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from lamina.random.seeds import global_seed

T = TypeVar("T")

_MULTIPLIERS, _STEPS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_WORD, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_BLOCKS = 1 << 12  # hashed at once
_NO_SEED = 87654321  # what TensorFlow takes for a global seed where none was set


def _words(seed: int) -> tuple[int, int]:
    return seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF


def _philox(key: int, stream: int, start: int, stop: int) -> list[int]:
    """The 32-bit numbers of the blocks from `start` to `stop`, four a block."""
    blocks = np.arange(start, stop, dtype=np.uint64)
    a, b, (c, d) = blocks & _LOW, blocks >> _WORD, (np.full_like(blocks, word) for word in _words(stream))
    keys = _words(key)
    for _ in range(10):
        first, second = (x * np.uint64(multiplier) for x, multiplier in zip((a, c), _MULTIPLIERS))
        a, b = second >> _WORD ^ b ^ np.uint64(keys[0]), second & _LOW
        c, d = first >> _WORD ^ d ^ np.uint64(keys[1]), first & _LOW
        keys = _words(keys[0] + _STEPS[0])[0], _words(keys[1] + _STEPS[1])[0]
    return np.stack([a, b, c, d], axis=1).reshape(-1).tolist()


def seeds_of(seed: int) -> tuple[int, int]:
    """The pair that a seed means: what `set_random_seed` was given before is a part of it."""
    known = global_seed()
    pair = _NO_SEED if known is None else known, seed
    return pair if any(pair) else (0, 2**31 - 1)


def draws(seeds: tuple[int, int], epoch: int | None) -> Iterator[int]:
    """The numbers that decide the order of an epoch; `None` for one that all epochs share."""
    if epoch is not None:
        numbers, first = _philox(*seeds, epoch // 2, epoch // 2 + 1), 2 * (epoch % 2)
        seeds = numbers[first], numbers[first + 1]
    for start in itertools.count(0, _BLOCKS):
        yield from _philox(*seeds, start, start + _BLOCKS)


def shuffled(items: Iterable[T], buffer: int, numbers: Iterator[int]) -> Iterator[T]:
    """The items in another order: each is one of the `buffer` items that come next, drawn by the next number."""
    source = iter(items)
    held = list(itertools.islice(source, buffer))
    size, oldest = len(held), 0
    for item, number in zip(source, numbers):  # in this order: the end takes no number
        drawn = (oldest + number % size) % size
        chosen, held[drawn], held[oldest] = held[drawn], held[oldest], item
        yield chosen
        oldest = (oldest + 1) % size
    held = held[oldest:] + held[:oldest]
    for first, number in zip(range(size), numbers):
        drawn = first + number % (size - first)
        held[first], held[drawn] = held[drawn], held[first]
    yield from held
