"""Modules that load when they are first used, so that importing the library is quick."""

from __future__ import annotations

import importlib
import sys
from typing import Any


class Later:
    """Stands for a package and loads it at the first use of one of its names.

    Args:
        modules: the modules to load, all of one package: `Later("rich.table", "rich.text")` stands for `rich`.
    """

    def __init__(self, *modules: str):
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        for module in self._modules:
            importlib.import_module(module)
        return getattr(sys.modules[self._modules[0].partition(".")[0]], name)
