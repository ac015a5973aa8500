"""The state of a run of `fit` in one file, whole or not there: who goes on from it ends as if nothing had happened.

The file is one of weights, `load_weights` reads it. Beside model, optimizer and seeds it holds what a run is made of:
metrics, the state of each callback, and the position in the data.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lamina.core.budget import Budget, CorruptFileError, blamed_on
from lamina.core.files import atomic_write
from lamina.core.variable import Variable
from lamina.random.seeds import drawn_global_generator, global_seed_generator
from lamina.saving import hdf5, weights
from lamina.saving.contents import json_object, plain_size

_TEXT, _VALUES, _ARRAYS = "position", "variables", "arrays"


@dataclass
class Position:
    """Where a run of `fit` is.

    Args:
        epoch: the number of the epoch.
        batch: how many batches of it are done.
        seed: the orders of rows are a function of it.
        logs: what the last of these batches logged.
        stopped: whether the run was told to end.
    """

    epoch: int = 0
    batch: int = 0
    seed: int = 0
    logs: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def move(self, epoch: int, batch: int = 0, logs: Mapping[str, Any] | None = None) -> None:
        """Be at a batch of an epoch."""
        self.epoch, self.batch, self.logs = epoch, batch, dict(logs or {})


def save_run(path: str, model: Any, position: Position, callbacks: Mapping[str, Any]) -> None:
    """Write all that the run is, `callbacks` being their states by name, in place of the file that is there."""
    arrays: list[np.ndarray] = []
    form = _plain({**vars(position), "callbacks": callbacks}, "the state", arrays)
    kept = {_VALUES: [v.value for v in _others(model)], _ARRAYS: arrays}
    text = json.dumps({_TEXT: form, **{kind: len(values) for kind, values in kept.items()}})
    with atomic_write(path, together=True) as temporary, weights.written(temporary) as sink:
        weights.save(model, sink)
        store = sink.store(weights.RUN, None)
        store[_TEXT] = np.frombuffer(text.encode(), np.uint8)
        for name, values in kept.items():
            for i, value in enumerate(values):
                store[f"{name}/{i}"] = value


def load_run(path: str, model: Any) -> tuple[Position, dict[str, Any]]:
    """Give the model the state in a file; the position of that run, and the states of its callbacks by name.

    Raises: ValueError if the file is damaged or of another model, which stays as it was.
    """
    size, prefix = plain_size(path), f"{weights.RUN}/vars/"
    with hdf5.opened(path, path, size) as arrays:
        run = {name.removeprefix(prefix): stored for name, stored in arrays.items() if name.startswith(prefix)}
        with blamed_on(f'"{path}"'):
            if _TEXT not in run:
                raise CorruptFileError("must be the backup of a run, and holds weights alone; delete it to start anew.")
            found = json_object(run[_TEXT].read().tobytes(), Budget(size))
            kept = {kind: [run[f"{kind}/{i}"].read() for i in range(found[kind])] for kind in (_VALUES, _ARRAYS)}
            state, values = _restored(found[_TEXT], kept[_ARRAYS]), kept[_VALUES]
        if len(values) > len(model.metrics_variables):
            global_seed_generator()
        variables = _others(model)
        if [v.shape for v in variables] != [value.shape for value in values]:
            raise ValueError(
                f'"{path}": the metrics must be those of the run that it was written by, got '
                f"{[v.path for v in variables]}; compile as then, or delete it to start anew."
            )
        weights.load(model, {name: stored for name, stored in arrays.items() if not name.startswith(prefix)}, path)
    for variable, value in zip(variables, values):
        variable.assign(value)
    return Position(**{name: value for name, value in state.items() if name != "callbacks"}), state["callbacks"]


def _others(model: Any) -> list[Variable]:
    """The variables of a run that no part of the model owns."""
    generator = drawn_global_generator()
    return [*model.metrics_variables, *([] if generator is None else [generator.state])]


def _plain(value: Any, where: str, arrays: list[np.ndarray]) -> Any:
    """A value as JSON has it. What JSON has not is marked by its kind; arrays go into `arrays`."""
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, Mapping):
        return {"dict": [[_plain(key, where, arrays), _plain(v, f"{where}.{key}", arrays)] for key, v in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, f"{where}[{i}]", arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    array = np.asarray(value) if hasattr(value, "__array__") else None
    if array is None or array.dtype.kind in "OUSM":
        raise TypeError(
            f"BackupAndRestore: {where} must be made of numbers, strings, arrays, lists and dicts, got {value!r}; "
            "return others from get_state in such a form."
        )
    arrays.append(array)
    return {"array": len(arrays) - 1}


def _restored(form: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(form, list):
        return [_restored(item, arrays) for item in form]
    if not isinstance(form, dict):
        return form
    ((kind, inner),) = form.items()
    if kind == "array":
        return arrays[inner][()]
    pairs = [_restored(item, arrays) for item in inner]
    return tuple(pairs) if kind == "tuple" else dict(pairs)
