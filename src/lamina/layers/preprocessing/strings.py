"""Many strings at once: as parts of one array of bytes, which are split, compared, numbered and counted as arrays."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lamina.core.checks import shorten
from lamina.core.runtime import keep_freed_memory
from lamina.data.flows import cores
from lamina.data.streams import side_by_side

UNKNOWN = -1  # the number of a string that is not in a table
_NEWLINE, _PADDING, _HEAD = 10, 64, 15
_SMALL_TABLE = 1 << 13  # more slots than so many are further away than the next one
_PART = 1 << 18  # so many strings or integers are a thread's share
BLOCK = 1 << 16  # arrays of so many are in the caches; of fewer, threads would wait for each other at each
_FEW = 1 << 11  # objects
_MASKS = np.array([256**n - 1 for n in range(9)], np.uint64)  # the first bytes of eight
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_IS_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\v\f\r", np.uint8))


class Strings:
    """Strings, as bytes in UTF-8.

    Args:
        content: the bytes of all, whitespace between any two, and 64 more behind.
        starts: where each begins.
        lengths: how many bytes each has.
    """

    def __init__(self, content: np.ndarray, starts: np.ndarray, lengths: np.ndarray):
        self.content, self.starts, self.lengths = content, starts, lengths
        self._eights = np.ndarray((len(content) - 7,), "<u8", content, strides=(1,))  # from every place on

    def __len__(self) -> int:
        return len(self.starts)

    def eight(self, at: int, which: np.ndarray | None = None) -> np.ndarray:
        """The eight bytes of strings, of all if not given, from a place on (uint64), zeros behind the end of each."""
        starts, lengths = (all if which is None else all.take(which) for all in (self.starts, self.lengths))
        places = np.minimum(starts + at, len(self._eights) - 1) if at else starts
        return self._eights[places] & _MASKS.take(lengths - at, mode="clip")

    def any_eight(self, at: int) -> np.ndarray:
        """The eight bytes of all strings from a place on, which is negative from the end on, whatever is behind."""
        return self._eights[self.starts + (self.lengths + at if at < 0 else at) if at else self.starts]

    def __getitem__(self, which: Any) -> Strings:
        return Strings(self.content, self.starts[which], self.lengths[which])

    def tolist(self) -> list[bytes]:
        """The strings one by one."""
        content = self.content.tobytes()
        return [content[at : at + n] for at, n in zip(self.starts.tolist(), self.lengths.tolist())]

    def heads(self) -> list[np.ndarray]:
        """The first 15 bytes of each string and its length (two of uint64), which are all of one of up to 15 bytes."""
        lengths = np.minimum(self.lengths, 255).astype(np.uint64) << 56
        if self.lengths.max(initial=0) <= 8:
            return [self.eight(0), lengths]
        return [self.eight(0), self.eight(8) & _MASKS[_HEAD - 8] | lengths]

    def fingerprints(self, heads: list[np.ndarray]) -> np.ndarray:
        """A number (uint64) for each string, given the heads, which strings that differ may share."""
        mixed, at = _mixed(_mixed(heads[0]) ^ heads[1]), _HEAD
        longer = np.flatnonzero(self.lengths > at)
        while len(longer):
            mixed[longer] = _mixed(mixed.take(longer) ^ self.eight(at, longer))
            at += 8
            longer = longer[self.lengths.take(longer) > at]
        return mixed

    def differ(self, alike: np.ndarray, which: Any, others: Strings, those: np.ndarray) -> np.ndarray:
        """Where strings that have the heads of others, as `alike` says, are not the same behind them."""
        lengths, at = self.lengths[which], _HEAD
        places = left = np.flatnonzero(alike & (lengths > at))
        if not len(places):
            return places
        same, which = alike & (lengths == others.lengths.take(those, mode="clip")), np.arange(len(self))[which]
        while len(left):
            same[left] &= self.eight(at, which.take(left)) == others.eight(at, those.take(left))
            at += 8
            left = left[same.take(left) & (lengths.take(left) > at)]
        return places[~same.take(places)]

    def replaced(self, table: bytes, left_out: bytes) -> Strings:
        """Each byte as `table` has it, and those in `left_out` taken out."""
        content = np.frombuffer(self.content.tobytes().translate(table, left_out), np.uint8)
        if not left_out or len(content) == len(self.content):
            return Strings(content, self.starts, self.lengths)
        gone = np.flatnonzero(np.isin(np.arange(256), np.frombuffer(left_out, np.uint8))[self.content])
        starts, ends = (places - np.searchsorted(gone, places) for places in (self.starts, self.starts + self.lengths))
        return Strings(content, starts, ends - starts)

    def split(self) -> tuple[Strings, np.ndarray]:
        """The words between whitespace (of ASCII), and how many each string has."""
        outside = np.concatenate([[True], _IS_SPACE[self.content[:-_PADDING]], [True]])
        starts, ends = np.flatnonzero(outside[:-1] & ~outside[1:]), np.flatnonzero(~outside[:-1] & outside[1:])
        found = np.searchsorted(starts, np.append(self.starts, len(self.content)))
        return Strings(self.content, starts, ends - starts), np.diff(found)

    def counts(self, documents: np.ndarray | None = None) -> Counts:
        """Each string once, and how often and in how many documents it is, where the document of each is given."""
        heads = self.heads()
        _, first, number = np.unique(self.fingerprints(heads), return_index=True, return_inverse=True)
        alike = _equal(heads, (head[first][number] for head in heads))
        if not alike.all() or len(self.differ(alike, slice(None), self, first[number])):  # two have one fingerprint
            known = {text: i for i, text in enumerate(dict.fromkeys(self.tolist()))}
            number = np.array([known[text] for text in self.tolist()])
            first = np.unique(number, return_index=True)[1]
        return Counts(self[first].tolist(), *_counted(number, len(first), documents))


def _equal(some: Iterable[np.ndarray], others: Iterable[np.ndarray]) -> np.ndarray:
    return functools.reduce(operator.and_, map(operator.eq, some, others))


def _mixed(x: np.ndarray) -> np.ndarray:
    x = x * _SPREAD
    return x ^ (x >> 29)


class Counts(NamedTuple):
    """Tokens, how often each is there, and in how many documents."""

    tokens: list[Any]
    times: np.ndarray
    documents: np.ndarray | None


class Integers:
    """Integers (int64), for tables and counts as `Strings` are."""

    def __init__(self, values: np.ndarray):
        self.values = values.ravel().astype(np.int64, copy=False)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, which: Any) -> Integers:
        return Integers(self.values[which])

    def tolist(self) -> list[int]:
        """The integers one by one."""
        return self.values.tolist()

    def heads(self) -> list[np.ndarray]:
        """The integers themselves (uint64)."""
        return [self.values.view(np.uint64)]

    def fingerprints(self, heads: list[np.ndarray]) -> np.ndarray:
        """The heads, mixed: integers at equal distances would want slots side by side."""
        return _mixed(heads[0])

    def differ(self, alike: np.ndarray, which: Any, others: Integers, those: np.ndarray) -> np.ndarray:
        """Where integers that have the heads of others are not the same behind them: nowhere."""
        return those[:0]

    def counts(self, documents: np.ndarray | None = None) -> Counts:
        """Each integer once, and how often and in how many documents it is, where the document of each is given."""
        found, number = np.unique(self.values, return_inverse=True)
        return Counts(found.tolist(), *_counted(number, len(found), documents))


def of_each(function: Callable[[Any], np.ndarray], tokens: Strings | Integers | np.ndarray) -> np.ndarray:
    """`function` (int64) of tokens, which knows nothing of the others: of integers in a narrow range once for each of
    these, of many strings part by part, on all cores."""
    if isinstance(tokens, Integers) and len(tokens):
        first, last = int(tokens.values.min()), int(tokens.values.max())
        if last - first < len(tokens) // 4:
            return function(Integers(np.arange(first, last + 1)))[tokens.values - first]
    if len(tokens) <= _PART:
        return function(tokens)
    keep_freed_memory()
    out = np.empty(len(tokens), np.int64)

    def fill(part: slice) -> None:
        out[part] = function(tokens[part])

    for _ in side_by_side(fill, (slice(at, at + _PART) for at in range(0, len(out), _PART)), cores()):
        pass
    return out


def decimals(numbers: Integers) -> Strings:
    """Integers as the strings of their digits, between them zeros instead of whitespace."""
    negative, left = numbers.values < 0, np.abs(numbers.values).view(np.uint64)  # of the lowest one too
    powers = [np.uint64(10**i) for i in range(1, len(str(left.max(initial=0))))]
    lengths = sum((left >= power for power in powers), np.add(negative, 1, dtype=np.uint8)).astype(np.int64)
    width = -(-(len(powers) + 2) // 8)  # in words of eight digits, with a place for the sign
    words = np.zeros(len(left) * width + _PADDING // 8, np.uint64)
    for at in range(0, len(left), BLOCK):
        rows, some = words[at * width : len(left) * width].reshape(-1, width)[:BLOCK], left[at : at + BLOCK]
        for place in range(width - 1, -1, -1):
            rest = some // 10**8
            rows[:, place], some = _eight_digits(some - rest * 10**8), rest
    content, starts = words.view(np.uint8), 8 * width * np.arange(1, len(left) + 1) - lengths
    content[starts.take(np.flatnonzero(negative))] = ord("-")
    return Strings(content, starts, lengths)


def _eight_digits(x: np.ndarray) -> np.ndarray:
    """The digits of numbers below 10^8, the first one in the lowest byte: halves, their halves, and theirs, all at
    once. The factors are 1 / 100 and 1 / 10, rounded up."""
    high = x // 10000
    x = high | ((x - high * 10000) << 32)
    high = ((x * 10486) >> 20) & 0x0000007F0000007F
    x = high | ((x - high * 100) << 16)
    high = ((x * 103) >> 10) & 0x000F000F000F000F
    return (high | ((x - high * 10) << 8)) + 0x3030303030303030


def _counted(number: np.ndarray, size: int, documents: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    times = np.bincount(number, minlength=size)
    if documents is None or not size:
        return times, None if documents is None else times
    return times, np.bincount(np.unique(documents * size + number) % size, minlength=size)


def strings(values: Any, who: str) -> Strings:
    """The strings of an array, row by row, or of a list."""
    kind = values.dtype.kind if isinstance(values, np.ndarray) else ""
    if kind in ("U", "S") and values.size:
        units = np.ascontiguousarray(values).view(np.uint32 if kind == "U" else np.uint8).reshape(values.size, -1)
        if kind == "S" or units.max() < 128:
            return _of_columns(units, np.strings.str_len(values).ravel())
    items = values.ravel() if isinstance(values, np.ndarray) else values
    try:
        content = "\n".join([*("\n".join(some) for some in _few_at_once(items)), "\0" * _PADDING]).encode()
    except (TypeError, UnicodeEncodeError):  # bytes, as TensorFlow has them, or a mistake
        content = b"\n".join([*(_encoded(item, who) for some in _few_at_once(items) for item in some), bytes(_PADDING)])
    content = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(content == _NEWLINE)
    if len(ends) != len(items):  # some are in the strings
        lengths = [len(_encoded(item, who)) for some in _few_at_once(items) for item in some]
        ends = np.cumsum(np.array(lengths, np.int64) + 1) - 1
    starts = np.zeros_like(ends)
    np.add(ends[:-1], 1, out=starts[1:])
    return Strings(content, starts, ends - starts)


def _few_at_once(items: np.ndarray | list) -> Iterator[list]:
    """So many that they stay in the caches from one look at each to the next: objects lie anywhere in memory."""
    for at in range(0, len(items), _FEW):
        some = items[at : at + _FEW]
        yield some.tolist() if isinstance(some, np.ndarray) else some


def _of_columns(units: np.ndarray, lengths: np.ndarray) -> Strings:
    """Of strings of one size, which NumPy fills up with zeros."""
    count, width = units.shape
    content = np.zeros((count, width + 1), np.uint8)
    np.copyto(content[:, :-1], units, casting="unsafe")
    behind = content == 0
    if np.count_nonzero(behind) > content.size - lengths.sum():  # some are in the strings
        behind = np.arange(width + 1) >= lengths[:, None]
    content += behind * np.uint8(_NEWLINE)
    padded = np.concatenate([content.ravel(), np.zeros(_PADDING, np.uint8)])
    return Strings(padded, np.arange(count) * (width + 1), lengths)


def _encoded(item: Any, who: str) -> bytes:
    if not isinstance(item, (str, bytes)):
        remedy = "; fill in missing values first, as with fillna('')" if item is None or item != item else ""
        raise ValueError(f"{who}: the input must hold strings, got {shorten(item)}{remedy}.")
    try:
        return item if isinstance(item, bytes) else item.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{who}: strings must have a form in UTF-8, got {item!r}.") from None


class Table:
    """A hash table of strings or integers, with open addresses: the number of each of many at once.

    Args:
        keys: what is in the table; their numbers are their places.
    """

    def __init__(self, keys: Any):
        self.keys = keys
        bits = max(4, 4 * len(keys), min(16 * len(keys), _SMALL_TABLE)).bit_length()
        self._shift, self._last = np.uint64(64 - bits), 2**bits - 1
        self._heads = keys.heads()
        self._numbers = numbers = np.full(2**bits, UNKNOWN, np.int32)  # apart from the heads, to be in a cache
        waiting, slots = np.arange(len(keys)), self._slots(keys.fingerprints(self._heads))
        while len(waiting):
            free = numbers[slots] == UNKNOWN
            numbers[slots[free]] = waiting[free]  # the last of several that want one place gets it
            left = numbers[slots] != waiting
            waiting, slots = waiting[left], (slots[left] + 1) & self._last

    def _slots(self, fingerprints: np.ndarray) -> np.ndarray:
        return ((fingerprints * _SPREAD) >> self._shift).view(np.int64)

    def numbers(self, texts: Any) -> np.ndarray:
        """The number of each string or integer, or `UNKNOWN`."""
        if not len(self.keys):
            return np.full(len(texts), UNKNOWN)
        heads, which, out = texts.heads(), slice(None), np.empty(len(texts), np.int64)
        slots = self._slots(texts.fingerprints(heads))
        while len(slots):
            out[which] = found = self._numbers.take(slots)
            alike = _equal(heads, (known.take(found, mode="clip") for known in self._heads))
            alike[texts.differ(alike, which, self.keys, found)] = False
            left = np.flatnonzero((found != UNKNOWN) > alike)
            which = left if isinstance(which, slice) else which[left]
            heads, slots = [head.take(left) for head in heads], (slots.take(left) + 1) & self._last
        return out
