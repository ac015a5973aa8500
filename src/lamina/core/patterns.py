"""Values by path or by patterns of paths."""

import re
from collections.abc import Iterator, MutableMapping
from typing import Any


class PatternMap(MutableMapping[str, Any]):
    """The value under a path itself, or under the one pattern that matches it whole, or the one for all others.

    A key is set once. A subclass says what a value may be (`_checked`), and which is for all others (`_other`).
    """

    def __init__(self) -> None:
        self._entries: dict[str, Any] = {}

    def _checked(self, key: str, value: Any) -> Any:
        """What is kept for a value."""
        raise NotImplementedError

    def _other(self) -> Any:
        """The value of a path that no key matches."""
        return None

    def __getitem__(self, key: str) -> Any:
        if key in self._entries:
            return self._entries[key]
        found = [pattern for pattern in self._entries if re.fullmatch(pattern, key)]
        if len(found) > 1:
            raise ValueError(f'{type(self).__name__}: at most one key must match "{key}", got {", ".join(found)}.')
        return self._entries[found[0]] if found else self._other()

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or key in self._entries:
            raise ValueError(f"{type(self).__name__}: a key must be a string and be set once, got {key!r}.")
        self._entries[key] = self._checked(key, value)

    def __delitem__(self, key: str) -> None:
        del self._entries[key]

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
