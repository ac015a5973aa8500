"""What reading one file may cost, and the two errors that refuse a file.

Whatever allocates or loops on behalf of a file says so first: `spend("Dense: a kernel", (3, 4), nbytes=4)`. Outside of
reading a file that costs nothing.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lamina.core import scope

MEBIBYTE = 2**20
# One step of work is an item of a list; a call of a layer on symbolic inputs is a thousand.
CALL = 1000
_LONGEST_MESSAGE = 2000


class FileError(ValueError):
    """A file is refused.

    Args:
        rule: what it must be, what it is, and what helps.
        place: the file, and the part of it.
    """

    def __init__(self, rule: str, place: str = ""):
        self.rule, self.place = printable(" ".join(rule.split())), printable(place)
        super().__init__(self.rule, self.place)

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}" if self.place else self.rule


class UnsafeFileError(FileError):
    """A file asks for what no file may have: code, other files, classes that nobody gave, more than its size."""


class CorruptFileError(FileError):
    """A file is damaged, or says what cannot be made."""


def printable(text: str) -> str:
    """`text` for a terminal: what would steer it is spelt out, and the rest of very long ones is left out."""
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]} [...]"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def blamed_on(place: str, remedy: str = "save or download it again") -> Iterator[None]:
    """What goes wrong inside is the fault of the file at `place`: a `FileError` that says so."""
    try:
        yield
    except FileError as error:
        if not error.place:
            raise type(error)(error.rule, place) from error
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and isinstance(error, ValueError):  # says all already
            raise
        text = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise CorruptFileError(f"{text.rstrip('.')}; {remedy}.", place) from error


class Budget:
    """The bytes and the steps of work that are left for a file. In proportion to its size, and a little for all.

    Args:
        size: the bytes of the file, unpacked.
    """

    def __init__(self, size: int):
        # A model needs its weights once, and an optimizer that was not used yet makes up to five slots for each.
        self._bytes, self._work = 64 * MEBIBYTE + 8 * size, 5_000_000 + 10 * size

    def spend(self, who: str, nbytes: int = 0, work: int = 0) -> None:
        """Take off what `who` needs; an error if that is more than is left."""
        for kind, needed, left in (("bytes", nbytes, self._bytes), ("steps of work", work, self._work)):
            if needed > left:
                raise UnsafeFileError(
                    f"{who} takes {needed:,} {kind}, more than the arrays in the file account for; if you trust it, "
                    "make the model in your program and call load_weights."
                )
        self._bytes -= nbytes
        self._work -= work


def is_reading() -> bool:
    """Whether a file is being read, which may name no other files."""
    return scope.loading.get() is not None


def spend(who: str, count: Any = 1, nbytes: int = 0, work: int = 0) -> None:
    """Charge the file that is being read, if there is one, for what is about to be allocated or gone through.

    Args:
        who: what asks.
        count: how many there are of it, or the shape that they have.
        nbytes, work: what each of them takes.
    """
    file = scope.loading.get()
    if file is not None:
        total = math.prod(map(int, count)) if isinstance(count, (tuple, list)) else int(count)
        file.spend(f"{who} of {count}", max(total, 0) * nbytes, max(total, 0) * work)
