"""`keras.saving`: models and weights as files, and the names that files may use."""

from lamina.core.budget import CorruptFileError, UnsafeFileError
from lamina.core.configurable import serialize as serialize_keras_object
from lamina.core.registry import (
    CustomObjectScope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from lamina.saving.archive import deserialize_keras_object, load_model, load_weights, save_model, save_weights
from lamina.saving.editor import KerasFileEditor
from lamina.saving.inspect import inspect

custom_object_scope = CustomObjectScope

__all__ = [
    "CorruptFileError", "CustomObjectScope", "KerasFileEditor", "UnsafeFileError", "custom_object_scope",
    "deserialize_keras_object", "get_custom_objects", "get_registered_name", "get_registered_object", "inspect",
    "load_model", "load_weights", "register_keras_serializable", "save_model", "save_weights",
    "serialize_keras_object",
]  # fmt: skip
