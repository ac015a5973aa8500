"""What is in a file, told from its texts and headers: nothing is made of it."""

import bisect
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lamina.core import op_names, scope
from lamina.core.budget import Budget, blamed_on, printable
from lamina.core.later import rich
from lamina.saving import archive, contents, loading
from lamina.saving.hdf5 import Stored


class Row(NamedTuple):
    """A part of a model: how deep it lies, and its own and its parts' arrays."""

    depth: int
    name: str
    class_name: str
    arrays: dict[str, tuple[tuple[int, ...], str]]
    nbytes: int


class Inspection:
    """What a file says about itself; printed, a table.

    Args:
        path: the file.
        metadata: who wrote it, and when.
        config: the serialized model, `None` in files of weights.
        stored: its arrays by path.

    Attributes:
        arrays: their shapes and dtypes by path.
        total_bytes: the size of all arrays.
        parameters: the number of the model's own elements, without the optimizer's.
    """

    def __init__(
        self, path: str, metadata: Mapping[str, Any], config: dict[str, Any] | None, stored: Mapping[str, Stored]
    ):
        self.path, self.config = path, config
        self.arrays = {path: (each.shape, each.dtype.name) for path, each in sorted(stored.items())}
        self._paths = list(self.arrays)
        self._nbytes = {path: each.nbytes for path, each in stored.items()}
        self.total_bytes = sum(self._nbytes.values())
        own = {path: shape for path, (shape, _) in self.arrays.items() if not path.startswith("optimizer/")}
        self.parameters = sum(map(math.prod, own.values()))
        self.keras_version = str(metadata.get("keras_version", ""))
        self.date_saved = str(metadata.get("date_saved", ""))
        self.class_name = None if config is None else str(config.get("class_name"))
        self.unknown = [] if config is None else loading.unknown_names(config)
        optimizer = _at(config, "compile_config", "optimizer")
        optimizer = optimizer.get("class_name") if isinstance(optimizer, dict) else optimizer
        self.optimizer = None if optimizer is None else str(optimizer)
        self.rows = list(_rows(self, config) if config is not None else _groups(self))

    def below(self, group: str) -> dict[str, tuple[tuple[int, ...], str]]:
        """The arrays that lie under a path."""
        first, behind = (bisect.bisect_left(self._paths, group + end) for end in ("/", "0"))  # "0" comes next to "/"
        return {path: self.arrays[path] for path in self._paths[first:behind]}

    def size(self, arrays: Mapping[str, Any]) -> int:
        """The bytes of some of the arrays."""
        return sum(self._nbytes[path] for path in arrays)

    def __str__(self) -> str:
        def plain(text: str) -> rich.text.Text:  # what a file says is neither markup nor a message to the terminal
            return rich.text.Text(printable(text))

        table = rich.table.Table(title=plain(os.path.basename(self.path)), title_justify="left")
        for column in ("Part", "Class", "Arrays"):
            table.add_column(column, overflow="fold")
        table.add_column("Bytes", justify="right")
        for row in self.rows:
            shapes = ", ".join(f"{shape} {dtype}" for shape, dtype in list(row.arrays.values())[:4])
            more = f", {len(row.arrays) - 4} more" if len(row.arrays) > 4 else ""
            cells = ("  " * row.depth + row.name, row.class_name, shapes + more, f"{row.nbytes:,}")
            table.add_row(*map(plain, cells))
        console = rich.console.Console(width=100, highlight=False)
        with console.capture() as captured:
            console.print(table)
        facts = {
            "Keras version": self.keras_version,
            "Saved": self.date_saved,
            "Parameters": f"{self.parameters:,}",
            "Bytes": f"{self.total_bytes:,}",
            "Optimizer": self.optimizer,
            "Needs custom_objects": ", ".join(self.unknown),
        }
        return captured.get() + "\n".join(f"{name}: {printable(fact)}" for name, fact in facts.items() if fact)

    __repr__ = __str__


def inspect(path: Any) -> Inspection:
    """What is in a model file or a file of weights: architecture, sizes, and the classes that a program must have.

    Args:
        path: a `.keras`, `.weights.h5` or `.weights.json` file, or a folder that `save_model` wrote.
    """
    path = os.fspath(path)
    if not path.endswith(".keras") and not os.path.isdir(path):
        with archive.stored_weights(path) as stored:
            return Inspection(path, {}, None, stored)
    if not os.path.exists(path):
        raise contents.MissingFileError(f'inspect: "{path}" must be there, and is not.')
    with contents.opened_parts(path) as files, contents.opened_weights(files, path) as stored:
        budget = Budget(contents.size_of(files))
        config = contents.parsed(files, contents.CONFIG, path, budget)
        metadata = contents.parsed(files, contents.METADATA, path, budget) if contents.METADATA in files else {}
        with blamed_on(f'"{path}", {contents.CONFIG}'):
            return Inspection(path, metadata, config, stored)


def _at(form: Any, *keys: str) -> Any:
    """What lies in dicts of dicts, `None` where one lacks it or is none."""
    for key in keys:
        form = form.get(key) if isinstance(form, dict) else None
    return form


def _rows(file: Inspection, config: dict[str, Any], group: str = "", depth: int = 0) -> Iterator[Row]:
    """The layers of a model, those of models inside behind them; a model of no known layers shows its groups."""
    layers = _at(config, "config", "layers")
    if not isinstance(layers, list):
        if depth == 0:
            yield from _groups(file)
        return
    used: Counter[str] = Counter()
    for form in (each for each in layers if isinstance(each, dict) and "class_name" in each):
        class_name = str(form["class_name"])
        label = scope.snake_case(class_name)
        is_op = op_names.is_op_module(str(form.get("module")))
        if config.get("class_name") == "Sequential" and class_name == "InputLayer":
            continue
        own = f"{group}layers/{label}_{used[label]}" if used[label] else f"{group}layers/{label}"
        used[label] += not is_op
        arrays = {} if is_op else file.below(own)
        name = str(form.get("name") or _at(form, "config", "name") or class_name)
        yield Row(depth, name, class_name, arrays, file.size(arrays))
        yield from _rows(file, form, f"{own}/", depth + 1)


def _groups(file: Inspection) -> Iterator[Row]:
    """The groups that hold arrays, where no architecture tells more."""
    for group in sorted({path.rpartition("/")[0] for path in file.arrays}):
        arrays = file.below(group)
        name = "(the model)" if group == "vars" else group.removesuffix("/vars")
        yield Row(0, name, "", arrays, file.size(arrays))
