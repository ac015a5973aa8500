"""`KerasFileEditor`: the weights in a file, to look at, to change and to write anew; no class is made of it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lamina.core import checks
from lamina.core.budget import printable
from lamina.core.files import atomic_write
from lamina.core.later import rich
from lamina.saving import archive, hdf5, weights
from lamina.saving.inspect import inspect

_ENDINGS = (".keras", ".weights.h5", ".weights.json")


class KerasFileEditor:
    """The weights of a file as nested dicts, `weights_dict`: `{"layers": {"dense": {"0": array, "1": array}}}`.

    Objects (layers, optimizers) are named by their path, or by its last part where only one has it.

    Args:
        filepath: a `.keras`, `.weights.h5` or `.weights.json` file.
    """

    def __init__(self, filepath: Any):
        self.filepath, self.model = checks.path("KerasFileEditor", "filepath", filepath), None
        rule = f"filepath must end in {' or '.join(_ENDINGS)}"
        checks.require(self.filepath.endswith(_ENDINGS), self, rule, self.filepath)
        about = inspect(self.filepath)
        self.config, self.metadata = about.config, None
        with archive.stored_weights(self.filepath) as arrays:
            pairs = [(_object_and_key(path), arrays[path]) for path in sorted(arrays)]
            names = {place: hdf5.text(stored.dataset.parent, "name") for (place, _), stored in pairs}
            self.weights_dict = _nested((place, key, stored.read()) for (place, key), stored in pairs)
        self.object_metadata = {f"/{place}": {"name": name} for place, name in names.items() if name}
        self.console = rich.console.Console(highlight=False)
        self._print(f"Keras model file '{self.filepath}'")
        if about.config is not None:
            self.metadata = {"keras_version": about.keras_version, "date_saved": about.date_saved}
            self._print(f"Saved with Keras {about.keras_version} - date: {about.date_saved}")

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(rich.text.Text(printable(text), style=style), soft_wrap=True)

    def summary(self) -> None:
        """Print the objects and the shapes and dtypes of their weights as a tree."""
        shown = rich.tree.Tree("Weights structure")

        def add(branch: rich.tree.Tree, content: Mapping[str, Any], path: str) -> None:
            for key, value in content.items():
                name, where = rich.text.Text(printable(key), style="bold"), f"{path}/{key}"
                if isinstance(value, dict):
                    label = self.object_metadata.get(where, {}).get("name")
                    name.append(printable(f" ('{label}')") if label else "", style="default")
                    add(branch.add(name), value, where)
                else:
                    branch.add(name.append(f": shape={value.shape}, dtype={value.dtype}", style="not bold"))

        add(shown, self.weights_dict, "")
        self.console.print(shown, soft_wrap=True)

    def compare(self, reference_model: Any) -> dict[str, Any]:
        """Print where the file and a model differ.

        Args:
            reference_model: a built model.

        Returns:
            `{"status": "success" or "error", "error_count": ..., "match_count": ...}`.
        """
        spec = _Spec()
        weights.save(reference_model, spec)  # type: ignore[arg-type]
        wanted = _nested((path, key, value) for path, own in spec.items() for key, value in own.items())
        found = list(_differences(self.weights_dict, wanted, ""))
        errors = [text for text in found if text]
        self._print("Running comparison")
        for text in errors:
            self._print(f"...{text}", "red")
        matches = len(found) - len(errors)
        if errors:
            self._print(
                f"Found {len(errors)} error(s): saved file is not compatible with the reference model", "bold red"
            )
        else:
            self._print(f"Comparison successful: {matches} weight(s) match", "bold green")
        return {"status": "error" if errors else "success", "error_count": len(errors), "match_count": matches}

    # Changes -----------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> tuple[dict[str, Any], str]:
        """The dict that holds an object, and its key there."""
        above, _, key = name.rpartition("/")
        holders = [content for path, content in _objects(self.weights_dict) if path == above and key in content]
        if not holders:
            holders = [content for _, content in _objects(self.weights_dict) if name in content]
        if not holders:
            raise ValueError(f"KerasFileEditor: {name!r} is not in the file; see summary().")
        if len(holders) > 1:
            raise ValueError(f"KerasFileEditor: {name!r} is in the file more than once; give its whole path.")
        return holders[0], key

    def _object(self, name: str) -> dict[str, Any]:
        holder, key = self._place(name)
        if not isinstance(holder[key], dict):
            raise ValueError(f"KerasFileEditor: {name!r} must be an object with weights, and is a weight.")
        return holder[key]

    def rename_object(self, object_name: str, new_name: str) -> None:
        """Give an object another name; `new_name` is the last part of its path."""
        holder, key = self._place(object_name)
        is_new = new_name and "/" not in new_name and new_name not in holder
        checks.require(is_new, self, "new_name must be one new name and no path", new_name)
        renamed = {new_name if name == key else name: value for name, value in holder.items()}
        holder.clear()
        holder.update(renamed)

    def delete_object(self, object_name: str) -> None:
        """Take an object out, with all that is in it."""
        holder, key = self._place(object_name)
        del holder[key]

    def add_object(self, object_path: str, weights: dict[str, Any]) -> None:
        """Add an object, `weights` being its arrays by name: `{"0": kernel, "1": bias}`."""
        above, _, key = object_path.rpartition("/")
        holder = self.weights_dict if not above else self._object(above)
        is_new = key and key not in holder
        checks.require(is_new, self, "object_path must be a new one", object_path, "delete_object first")
        holder[key] = _checked(weights)

    def delete_weight(self, object_name: str, weight_name: str) -> None:
        """Take one array of an object out."""
        content = self._object(object_name)
        rule = f"weight_name must be of {object_name!r} ({', '.join(content)})"
        checks.require(weight_name in content, self, rule, weight_name)
        del content[weight_name]

    def add_weights(self, object_name: str, weights: dict[str, Any]) -> None:
        """Add arrays to an object, or put others in their place."""
        self._object(object_name).update(_checked(weights))

    def save(self, filepath: Any) -> None:
        """Write what `weights_dict` holds to a `.weights.h5` file, all or nothing."""
        path = checks.path("KerasFileEditor.save", "filepath", filepath)
        checks.require(path.endswith(".weights.h5"), "KerasFileEditor.save", "filepath must end in .weights.h5", path)
        with atomic_write(path) as temporary, weights.written(temporary) as sink:
            for place, content in _objects(self.weights_dict):
                own = {key: value for key, value in content.items() if not isinstance(value, dict)}
                store = sink.store(place, self.object_metadata.get(f"/{place}", {}).get("name")) if own else {}
                for key, value in own.items():
                    store[key] = value

    resave_weights = save


class _Spec(dict):
    """What a model would write, by object, in the place of a file."""

    def store(self, path: str, name: Any) -> dict[str, Any]:
        return self.setdefault(path, {})


def _object_and_key(path: str) -> tuple[str, str]:
    place, _, key = path.rpartition("/")
    return place.removesuffix("vars").removesuffix("/"), key


def _nested(entries: Any) -> dict[str, Any]:
    """Dicts in dicts of entries `(path of the object, name, array)`."""
    root: dict[str, Any] = {}
    for place, key, value in entries:
        content = root
        for name in place.split("/") if place else ():
            content = content.setdefault(name, {})
        content[key] = value
    return root


def _objects(content: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, content) of all objects, the root being the first."""
    yield path, content
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _objects(value, f"{path}/{key}" if path else key)


def _differences(file: dict[str, Any], model: dict[str, Any], path: str) -> Iterator[str]:
    """A text for each object or weight that only one has or that differs in shape, an empty one for each that fits."""
    for key in {**file, **model}:
        one, other, where = file.get(key), model.get(key), f"{path}/{key}"
        if one is None and key.startswith("seed_generator"):  # which files of Keras lack
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, where)
        elif one is None or other is None:
            kind = "Object" if isinstance(one if other is None else other, dict) else "Weight"
            names = ("saved file", "reference model") if other is None else ("reference model", "saved file")
            yield f"{kind} {where} present in {names[0]}, missing from {names[1]}"
        else:
            shapes = ["an object" if isinstance(each, dict) else str(tuple(each.shape)) for each in (one, other)]
            same = "" if shapes[0] == shapes[1] else f": {shapes[0]} in saved file, {shapes[1]} in reference model"
            yield same and f"Weight shape mismatch for {where}{same}"


def _checked(given: Any) -> dict[str, np.ndarray]:
    """Arrays of numbers by name."""
    if not isinstance(given, dict):
        raise ValueError(f"KerasFileEditor: weights must be a dict of arrays by name, got {type(given).__name__}.")
    arrays = {str(name): np.asarray(value) for name, value in given.items()}
    odd = next(
        (n for n, a in arrays.items() if a.dtype.kind not in "biufc" and a.dtype.name not in hdf5.BYTES_FORMATS), None
    )
    if odd is not None or any("/" in name or not name for name in arrays):
        raise ValueError(f"KerasFileEditor: weights must be arrays of numbers by name, got {checks.shorten(given)}.")
    return arrays
