"""`Config`: named values with a dot."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from lamina.core import checks, registry


@registry.register_keras_serializable("lamina")
class Config(UserDict):
    """A dict whose values are attributes too, and which may be frozen.

    Layers may have one as an argument, and files hold it.

    >>> config = lamina.utils.Config(units=3)
    >>> config.rate = 0.1
    >>> config["units"], config.rate, config.to_json()
    (3, 0.1, '{"units": 3, "rate": 0.1}')
    """

    _frozen = False

    def __init__(self, **kwargs: Any):
        super().__init__(kwargs)

    @property
    def frozen(self) -> bool:
        """Whether changes are errors."""
        return self._frozen

    def freeze(self) -> None:
        """Let every change be an error from now on."""
        self._frozen = True

    def unfreeze(self) -> None:
        """Allow changes again."""
        self._frozen = False

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return dict(self.data)

    get_config = as_dict

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Config:
        return cls(**config)

    def to_json(self) -> str:
        """The values as JSON."""
        return json.dumps(self.data)

    def get(self, keyname: str, value: Any = None) -> Any:
        return self.data.get(keyname, value)

    # In the order in which they came; iteration is in that of their names.

    def keys(self) -> KeysView[str]:
        return self.data.keys()

    def values(self) -> ValuesView[Any]:
        return self.data.values()

    def items(self) -> ItemsView[str, Any]:
        return self.data.items()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.data))

    def __repr__(self) -> str:
        return f"<Config {self.data}>"

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("data", {})
        if name in values:
            return values[name]
        raise AttributeError(f"Config: {name} must be set before it is read.{checks.did_you_mean(name, values)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data" or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __setitem__(self, key: str, item: Any) -> None:
        self._check_not_frozen(key)
        super().__setitem__(key, item)

    def __delitem__(self, key: str) -> None:
        self._check_not_frozen(key)
        super().__delitem__(key)

    def _check_not_frozen(self, key: str) -> None:
        if self._frozen:
            raise ValueError(f"Config: must not be frozen when {key!r} is changed; call unfreeze().")
