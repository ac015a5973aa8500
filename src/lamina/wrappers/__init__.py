"""Models as estimators of scikit-learn, which is needed when one of them is first used."""

import importlib
from typing import TYPE_CHECKING, Any

from lamina.core.absent import AbsentName

if TYPE_CHECKING:
    from lamina.wrappers.estimators import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer

__all__ = ["SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("lamina.wrappers.estimators"), name)
    raise AbsentName(__name__, name)
