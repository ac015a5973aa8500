"""Objects as `{"class_name", "config"}`, the form of older programs."""

from collections.abc import Mapping
from typing import Any

from lamina.core import checks, configurable, registry

__all__ = ["deserialize_keras_object", "serialize_keras_object"]


def serialize_keras_object(instance: Any) -> Any:
    """The name of a function, `{"class_name", "config"}` of all else, or `None`."""
    form = configurable.serialize(instance)
    if not isinstance(form, dict) or form["class_name"] == "function":
        return form and form["config"]
    return {"class_name": form["registered_name"] or form["class_name"], "config": form["config"]}


def deserialize_keras_object(
    identifier: Any,
    module_objects: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """The object that a name or `{"class_name", "config"}` means.

    Args:
        identifier: a name, a configuration, a function, which comes back as it is, or `None`.
        module_objects: the objects that may be named, by name.
        custom_objects: more of them, which go before.
        printable_module_name: what the object is called in errors.

    Raises: ValueError if nothing has that name.
    """
    named = {**(module_objects or {}), **(custom_objects or {})}
    if isinstance(identifier, str):
        found = registry.get_registered_object(identifier, custom_objects, module_objects)
        checks.require(found is not None, printable_module_name, f"must be one of {', '.join(named)}", identifier)
        return found() if isinstance(found, type) else found
    form = {"module": "keras.any", **identifier} if isinstance(identifier, Mapping) else identifier
    return configurable.deserialize(form, named)
