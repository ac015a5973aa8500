"""Modules that load when they are first used, so that importing the library is quick."""

import importlib
import sys
from typing import TYPE_CHECKING, Any


class Later:
    """Stands for a package and loads it at the first use of one of its names.

    Args:
        modules: the modules to load, all of one package: `Later("rich.table", "rich.text")` stands for `rich`.
        install: what pip calls an optional package.
    """

    def __init__(self, *modules: str, install: str = ""):
        self._modules, self._package, self._install = modules, modules[0].partition(".")[0], install

    def __getattr__(self, name: str) -> Any:
        try:
            for module in self._modules:
                importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not self._install or (error.name or "").partition(".")[0] != self._package:
                raise
            raise ModuleNotFoundError(f"This needs {self._package}; pip install {self._install}.") from None
        return getattr(sys.modules[self._package], name)


if TYPE_CHECKING:
    import rich.box
    import rich.console
    import rich.table
    import rich.text
    import rich.tree
else:
    rich = Later("rich.box", "rich.console", "rich.table", "rich.text", "rich.tree")
