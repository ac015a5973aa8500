"""Models: stacks, graphs and subclasses."""

from lamina.models.cloning import clone_model
from lamina.models.functional import Function
from lamina.models.model import Functional, Model, model_from_json
from lamina.models.sequential import Sequential
from lamina.saving.archive import load_model, save_model

__all__ = [
    "Function", "Functional", "Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model",
]  # fmt: skip
