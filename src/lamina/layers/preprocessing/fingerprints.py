"""Hashes of strings: FarmHash64 and SipHash-2-4, of many strings of about one length at once.

Both are arithmetic on words of 64 bits, written once: the words are NumPy's, or those of a device.
"""

import bisect
import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import checks
from lamina.layers.preprocessing.strings import BLOCK, Integers, Strings, decimals, of_each

Salt = Sequence[int] | None  # the two halves of SipHash's key; without one the hash is FarmHash64

_BITS = 2**64 - 1
_K0, _K1, _K2 = map(np.uint64, (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F))
_SIP = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


class Rows:
    """Strings that are hashed in one way: what is read of all of them at a place, which is negative from the end on.

    Args:
        strings: the strings, of lengths that are `_alike`.
        length: that of one of them.
    """

    def __init__(self, strings: Strings, length: int):
        self.strings, self.length, self.lengths = strings, length, strings.lengths.view(np.uint64)
        self.zero = np.zeros(len(strings), np.uint64)

    def word(self, at: int, size: int = 8) -> Any:
        """So many bytes from a place on."""
        word = self.strings.any_eight(at)
        return word if size == 8 else word & np.uint64(256**size - 1)

    def rest(self, at: int) -> Any:
        """All that is left from a place on, less than eight bytes."""
        return self.strings.eight(at)


class Columns:
    """`Rows` of one length on a device: an array (uint64) for each place."""

    def __init__(self, columns: Sequence[Any]):
        self.columns, self.length, self.lengths = columns, len(columns), np.uint64(len(columns))
        self.zero = jnp.zeros_like(columns[0])

    def word(self, at: int, size: int = 8) -> Any:
        """So many bytes from a place on."""
        return functools.reduce(operator.or_, (self.columns[at + i] << (8 * i) for i in range(size)), self.zero)

    def rest(self, at: int) -> Any:
        """All that is left from a place on, less than eight bytes."""
        return self.word(at, self.length - at)


def checked_salt(who: str, salt: Any) -> list[int] | None:
    """The two integers of a salt."""
    if salt is None:
        return None
    pair = [salt, salt] if checks.is_integer(salt, -(2**63)) else salt
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(checks.is_integer(n, -(2**63)) for n in pair):
        raise ValueError(f"{who}: salt must be an integer or two of them, got {salt!r}.")
    return [int(n) for n in pair]


# FarmHash64 ---------------------------------------------------------------------------------------------------------


def _rotated(x: Any, n: int) -> Any:
    """Rotated to the right."""
    low = x >> n
    low |= x << (64 - n)
    return low


def _mixed(x: Any, shift: int = 47) -> Any:
    return x ^ (x >> shift)


def _joined(u: Any, v: Any, factor: Any) -> Any:
    """One word of two."""
    a = _mixed((u ^ v) * factor)
    return _mixed((v ^ a) * factor) * factor


def farmhash(s: Any) -> Any:
    """FarmHash64 of `Rows` or `Columns`.

    Pike and Alakuijala, 2014, the function `farmhashna::Hash64` of https://github.com/google/farmhash
    """
    n = s.length
    if n > 64:
        return _farmhash_long(s)
    factor = (s.lengths << 1) + _K2
    if n > 16:
        return _farmhash_middle(s, factor)
    if n >= 8:
        a, b = s.word(0) + _K2, s.word(-8)
        return _joined(_rotated(b, 37) * factor + a, (_rotated(a, 25) + b) * factor, factor)
    if n >= 4:
        return _joined((s.word(0, 4) << 3) + s.lengths, s.word(-4, 4), factor)
    if n > 0:
        y, z = s.word(0, 1) + (s.word(n >> 1, 1) << 8), (s.word(-1, 1) << 2) + s.lengths
        return _mixed((y * _K2) ^ (z * _K0)) * _K2
    return s.zero + _K2


def _farmhash_middle(s: Any, factor: Any) -> Any:
    """Of 17 to 64 bytes."""
    long = s.length > 32
    a, b = s.word(0) * (_K2 if long else _K1), s.word(8)
    c, d = s.word(-8) * factor, s.word(-16) * _K2
    y, z = _rotated(a + b, 43) + _rotated(c, 30) + d, a + _rotated(b + _K2, 18) + c
    if not long:
        return _joined(y, z, factor)
    z = _joined(y, z, factor)
    e, f = s.word(16) * factor, s.word(24)
    g, h = (y + s.word(-32)) * factor, (z + s.word(-24)) * factor
    return _joined(_rotated(e + f, 43) + _rotated(g, 30) + h, e + _rotated(f + a, 18) + g, factor)


def _weak(s: Any, at: int, a: Any, b: Any) -> tuple[Any, Any]:
    """Two words of the 32 bytes from a place on, and two seeds."""
    w, x, y, z = (s.word(at + i) for i in (0, 8, 16, 24))
    a = a + w
    b = _rotated(b + a + z, 21)
    c = a
    a = a + x + y
    return a + z, b + _rotated(a, 44) + c


def _farmhash_long(s: Any) -> Any:
    """Of more than 64 bytes, 64 at a time and the last 64 once more."""
    tail = (s.lengths - 1) & 63
    x, y = (s.zero + 81) * _K2, (s.zero + 81) * _K1 + 113
    z = _mixed(y * _K2 + 113) * _K2
    x = x + s.word(0)
    v = w = (s.zero, s.zero)

    def turn(at: int, x: Any, y: Any, z: Any, v: tuple, w: tuple, factor: Any, times: int) -> tuple:
        x = _rotated(x + y + v[0] + s.word(at + 8), 37) * factor
        y = _rotated(y + v[1] + s.word(at + 48), 42) * factor
        x = x ^ (w[1] * times)
        y = y + v[0] * times + s.word(at + 40)
        z = _rotated(z + w[0], 33) * factor
        v = _weak(s, at, v[1] * factor, x + w[0])
        w = _weak(s, at + 32, z + w[1], y + s.word(at + 16))
        return z, y, x, v, w

    for at in range(0, s.length - 64, 64):
        x, y, z, v, w = turn(at, x, y, z, v, w, _K1, 1)
    factor = ((z & 0xFF) << 1) + _K1
    w = (w[0] + tail, w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = turn(-64, x, y, z, v, w, factor, 9)
    first = _joined(v[0], w[0], factor) + _mixed(y) * _K0 + z
    return _joined(first, _joined(v[1], w[1], factor) + x, factor)


def joined_fingerprints(first: Any, second: Any) -> Any:
    """One fingerprint of two, as crossings have it."""
    factor = np.uint64(0xC6A4A7935BD1E995)
    out = ((first ^ factor) ^ (_mixed(second * factor) * factor)) * factor
    return _mixed(_mixed(out) * factor)


# SipHash ------------------------------------------------------------------------------------------------------------


def siphash(s: Any, key: Sequence[int]) -> Any:
    """SipHash-2-4 of `Rows` or `Columns`.

    Aumasson and Bernstein, 2012, https://www.aumasson.jp/siphash/siphash.pdf
    """
    v = [s.zero + np.uint64(constant ^ (key[i % 2] & _BITS)) for i, constant in enumerate(_SIP)]
    end = s.length // 8 * 8
    last = (s.lengths & 0xFF) << 56 | s.rest(end)
    for word in [*(s.word(at) for at in range(0, end, 8)), last]:
        v[3] = v[3] ^ word
        v = _sip_rounds(v, 2)
        v[0] = v[0] ^ word
    v[2] = v[2] ^ 0xFF
    v = _sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _sip_rounds(v: list[Any], count: int) -> list[Any]:
    """So many rounds of four words, which NumPy changes in place."""
    a, b, c, d = v
    for left, right in ((51, 48), (47, 43)) * count:
        a += b
        c += d
        b, d = _rotated(b, left), _rotated(d, right)
        b ^= a
        d ^= c
        a, c = c, _rotated(a, 32)
    return [a, b, c, d]


# Of many strings ----------------------------------------------------------------------------------------------------


def _alike(length: int, salt: Salt) -> tuple[int, int]:
    """The lengths of strings that are hashed in the way of those of one length: the first, and that behind the last."""
    if salt is not None:
        return length // 8 * 8, length // 8 * 8 + 8
    if length > 64:
        return (length - 1) // 64 * 64 + 1, (length - 1) // 64 * 64 + 65
    ends = (0, 1, 2, 3, 4, 8, 17, 33, 65)
    place = bisect.bisect_right(ends, length)
    return ends[place - 1], ends[place]


def fingerprints(texts: Strings, salt: Salt = None) -> np.ndarray:
    """The hash (uint64) of each string, those of about one length at once."""
    out = np.empty(len(texts), np.uint64)
    for at in range(0, len(texts), BLOCK):
        places = np.arange(at, min(at + BLOCK, len(texts)))
        left = texts[at : at + BLOCK]
        while len(left):
            length = int(left.lengths[len(left) // 2])
            first, behind = _alike(length, salt)
            others = (left.lengths - first).view(np.uint64) >= behind - first
            # A few others are hashed in the wrong way, and again: what is behind the text has room for 64 bytes.
            few = behind <= 65 and 8 * np.count_nonzero(others) < len(left)
            these = slice(None) if few else ~others
            rows = Rows(left[these], length)
            with np.errstate(over="ignore"):
                out[places[these]] = farmhash(rows) if salt is None else siphash(rows, salt)
            left, places = left[others], places[others]
    return out


def bins(tokens: Any, count: int, salt: Salt = None) -> Any:
    """The bin of each of `Strings`, `Integers` or an array of JAX, among so many."""
    if not isinstance(tokens, (Strings, Integers)):
        with jax.enable_x64(True):
            return _bins_on_device(tokens, np.uint64(count), salt)

    def part(tokens: Any) -> np.ndarray:
        texts = decimals(tokens) if isinstance(tokens, Integers) else tokens
        hashes, divisor = fingerprints(texts, salt), np.uint64(count)
        return (hashes - hashes // divisor * divisor).view(np.int64)  # in a quarter of the time of NumPy's rest

    return of_each(part, tokens)


def _bins_on_device(x: Any, count: np.uint64, salt: Salt) -> Any:
    """The bin of each integer of a JAX array, those of its decimal string: the hash for each number of digits."""
    unsigned = jnp.uint64 if x.dtype.itemsize == 8 else jnp.uint32
    negative, value = x < 0, x.astype(unsigned)
    magnitude = jnp.where(negative, -value, value)
    most = 20 if x.dtype.itemsize == 8 else 10
    powers = [unsigned(10**i) for i in range(most)]
    digits = [((magnitude // power) % unsigned(10)).astype(jnp.uint64) + 48 for power in powers]
    length = 1 + sum((magnitude >= power).astype(jnp.int32) for power in powers[1:]) + negative
    out = jnp.zeros(x.shape, jnp.uint64)
    for n in range(1, most + 1 + bool(jnp.issubdtype(x.dtype, jnp.signedinteger))):
        if n > most:
            digits.append(jnp.zeros_like(digits[0]))
        columns = [digits[n - 1 - place] for place in range(n)]
        columns[0] = jnp.where(negative, jnp.uint64(ord("-")), columns[0])
        found = farmhash(Columns(columns)) if salt is None else siphash(Columns(columns), salt)
        out = jnp.where(length == n, found, out)
    return (out % count).astype(jnp.int32)
