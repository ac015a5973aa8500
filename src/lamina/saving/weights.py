"""Where a model's variables lie in a file: the layout of `.weights.h5`, and how it is written and read.

A part of the model (a layer, an optimizer, a seed generator) has the path of the attributes that lead to it, and its
own variables are `path/vars/0`, `path/vars/1`, ... Parts in lists, tuples and dicts are named after their classes:
`layers/dense`, `layers/dense_1`. Each part is met once, on the first of the ways that lead to it.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter, UserDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import checks, placement, registry, scope
from lamina.core.budget import CorruptFileError, FileError
from lamina.core.configurable import Configurable
from lamina.core.state import StateScope
from lamina.core.variable import Variable
from lamina.random import SeedGenerator
from lamina.saving.hdf5 import BYTES_FORMATS, Lasting, Stored, h5py

# Attributes that lead nowhere: how the part was made and called.
_NOT_WALKED = frozenset({"_arguments", "_inbound_nodes"})
# Modules whose classes have properties that look at parts in other ways than `layers` does.
_BASES = tuple(f"lamina.{package}." for package in ("core", "layer", "models", "training", "optimizers", "metrics"))
# What a file may hold beyond the model: the state of its training, and seeds, which older files of Keras have.
RUN = "_run"  # see `resume.py`
_TRAINING = ("optimizer", "metrics", f"{RUN}/")


# The way through a model -----------------------------------------------------------------------------------------


@functools.cache
def _class_attributes(cls: type) -> frozenset[str]:
    """The names of the properties and other values that classes define; of the library's bases, `layers` only."""
    names = {"layers"} if hasattr(cls, "layers") else set()
    for each in cls.__mro__:
        if each is not object and not f"{each.__module__}.".startswith(_BASES):
            names.update(n for n, value in vars(each).items() if isinstance(value, property) or not callable(value))
    return frozenset(n for n in names if not n.startswith("__"))


def children(part: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of a part in the order in which Keras looks at them: public ones first, by name."""
    skipped = _NOT_WALKED | (getattr(part, "_not_parts", frozenset()) - {"optimizer"})
    names = sorted((_class_attributes(type(part)) | vars(part).keys()) - skipped, key=lambda n: (n[0] == "_", n))
    if getattr(part, "_function", None) is not None:  # a model made of a graph
        names = ["layers", *names]
    for name in names:
        try:
            yield name, getattr(part, name)
        except Exception:  # a property of a user's class that is not ready
            continue


def parts(model: Any, skip: Iterable[Any] = ()) -> Iterator[tuple[str, Any]]:
    """(path, part) of the model and all that it holds, each part once."""
    met = {id(part) for part in skip}
    around: list[int] = []  # the containers that are open

    def visit(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Configurable):
            if id(value) not in met:
                met.add(id(value))
                yield path, value
                for name, child in children(value):
                    yield from visit(child, f"{path}/{name}" if path else name)
        elif isinstance(value, (list, tuple, dict)) and id(value) not in around:
            around.append(id(value))
            used: Counter[str] = Counter()
            for item in list(value.values() if isinstance(value, dict) else value):
                if isinstance(item, (Configurable, list, tuple, dict)):
                    label = scope.snake_case(type(item).__name__) if isinstance(item, Configurable) else "container"
                    name = f"{label}_{used[label]}" if used[label] else label
                    used[label] += 1
                    yield from visit(item, f"{path}/{name}")
            around.pop()

    return visit(model, "")


def _own_variables(part: Any) -> list[Variable] | None:
    """The variables that the library's own `load_own_variables` fills; `None` where a user's class has another one."""
    if not registry.is_own(getattr(type(part), "load_own_variables", None)):
        return None
    own = getattr(part, "_own_variables", None)
    return own() if own is not None else list(part.variables)


def _who(part: Any) -> str:
    return f'{type(part).__name__} "{getattr(part, "name", "")}"'


# Writing ---------------------------------------------------------------------------------------------------------


class Sink:
    """Where variables are written: one HDF5 file, or several of a largest size.

    Args:
        open_file: `open_file(i)` opens file number i for writing bytes.
        limit: bytes of arrays in a file.
    """

    def __init__(self, open_file: Callable[[int], Any], limit: float = math.inf):
        self._open_file, self._limit = open_file, limit
        self.files: list[h5py.File] = []
        self._targets: list[Lasting] = []
        self._begin_file()
        self.total = 0
        self.places: defaultdict[str, set[int]] = defaultdict(set)  # group -> the files that have variables of it

    def store(self, path: str, name: Any) -> WriteStore:
        """A dict-like store for the variables of the part at `path`."""
        group = f"{path}/vars" if path else "vars"
        label = {"name": name} if isinstance(name, str) else {}
        self.files[-1].require_group(group).attrs.update(label)
        return WriteStore(self, group)

    def put(self, group: str, key: str, value: Any) -> None:
        """Write one array."""
        array = placement.to_host(value)
        named = array.dtype.name in BYTES_FORMATS
        if array.dtype.kind not in "biufc" and not named:
            raise ValueError(f"{group}/{key}: what is saved must be an array of numbers, got {array.dtype}.")
        rule = f"max_shard_size must hold the largest array, {group}/{key} of {array.nbytes:,} bytes"
        checks.require(array.nbytes <= self._limit, "save_weights", rule, got=f"{self._limit:,.0f} bytes")
        if self._filled + array.nbytes > self._limit:
            self._begin_file()
        self._filled += array.nbytes
        self.total += array.nbytes
        dataset = self.files[-1].require_group(group).create_dataset(key, data=array)
        if named:
            dataset.attrs["dtype"] = array.dtype.name
        self.places[group].add(len(self.files) - 1)

    def _begin_file(self) -> None:
        self._targets.append(Lasting(self._open_file(len(self.files))))
        self.files.append(h5py.File(self._targets[-1], "w"))
        self._filled = 0

    def close(self) -> None:
        """Close the files; an `OSError` if not all of it has reached them."""
        for file, target in zip(self.files, self._targets):
            file.close()
            target.finish()


class WriteStore(UserDict[str, None]):
    """What `save_own_variables` writes to, `store["0"] = array`; it holds the keys so far, and no arrays."""

    def __init__(self, sink: Sink, group: str):
        super().__init__()
        self._sink, self._path = sink, group

    def __setitem__(self, key: str, item: Any) -> None:
        self._sink.put(self._path, key, item)
        self.data[key] = None


@contextmanager
def written(target: Any) -> Iterator[Sink]:
    """A new HDF5 file, to write variables to."""
    given = hasattr(target, "write")
    with nullcontext(target) if given else open(target, "w+b") as file, closing(Sink(lambda _: file)) as sink:
        yield sink


def save(model: Any, sink: Sink, skip: Iterable[Any] = ()) -> None:
    """Write the variables of all parts of the model."""
    for path, part in parts(model, skip):
        if isinstance(part, SeedGenerator):
            sink.store(path, part.name)["0"] = part.state.numpy()
        elif hasattr(part, "save_own_variables"):
            part.save_own_variables(sink.store(path, getattr(part, "name", None)))


# Reading ---------------------------------------------------------------------------------------------------------


class ReadStore(UserDict[str, Any]):
    """What `load_own_variables` reads from. Where the variables are known, an array that does not fit is not read.

    Args:
        part: whose variables they are.
        arrays: the arrays by key.
        own: the variables that "0", "1", ... are for, if known.
    """

    def __init__(self, part: Any, arrays: dict[str, Stored], own: Sequence[Variable] | None):
        super().__init__(arrays)
        self._part = part
        self._own = {str(i): variable for i, variable in enumerate(own or ())}

    def __getitem__(self, key: str) -> np.ndarray:
        stored, variable = self.data.get(key), self._own.get(key)
        if stored is None:
            if variable is None:
                raise KeyError(key)
            raise CorruptFileError(
                f"{_who(self._part)}: its arrays must be named 0, 1, ... in the order of its variables, and {key!r} is "
                f"not among {checks.some(list(self.data), 3) or 'none'}; save the weights again."
            )
        if variable is not None:
            rule = f"{stored.path} must have shape {variable.shape} of {variable.path}"
            checks.require(stored.shape == variable.shape, _who(self._part), rule, stored.shape)
            alike = _kind(stored.dtype) == _kind(jnp.dtype(variable.dtype))
            rule = f"{stored.path} must be {variable.dtype} as {variable.path} is"
            checks.require(alike, _who(self._part), rule, got=stored.dtype.name)
        return stored.read()


def _kind(dtype: Any) -> str:
    kinds = {"bool": jnp.bool_, "integer": jnp.integer, "float": jnp.floating}
    return next((name for name, kind in kinds.items() if jnp.issubdtype(dtype, kind)), "complex")


def load(
    model: Any,
    arrays: Mapping[str, Stored],
    file: str,
    *,
    skip_mismatch: bool = False,
    skip: Collection[Any] = (),
    fresh: bool = False,
) -> None:
    """Give the model's variables the values in a file: all of them or, on an error, none.

    Args:
        model: what has the variables.
        arrays: the arrays of the file by path.
        file: what errors call it.
        skip_mismatch: warn about parts that do not fit, and load the others.
        skip: parts to leave as they are.
        fresh: the model was just made from the same file.
    """
    groups: dict[str, dict[str, Stored]] = {}
    for path, stored in arrays.items():
        before, _, key = f"/{path}".rpartition("/vars/")
        groups.setdefault(f"{before}/vars"[1:], {})[key] = stored
    with all_or_none():
        for path, part in parts(model):
            own = groups.pop(f"{path}/vars" if path else "vars", {})
            failure = None if any(part is other for other in skip) else _load_part(model, part, own, fresh)
            if failure is not None and not skip_mismatch:
                raise _refusal(failure, file, fresh)
            if failure is not None:
                warnings.warn(f'load_weights "{file}": {failure} Its other variables stay too.', stacklevel=4)
        surplus = [each.path for group in groups.values() for each in group.values() if not _extra(each.path)]
        if surplus:
            text = f"every array must have a variable in {_who(model)}, and {checks.some(surplus, 3)} have none"
            if not skip_mismatch:
                raise _refusal(ValueError(f"{text}; skip_mismatch=True leaves them out."), file, fresh)
            warnings.warn(f'load_weights "{file}": {text}.', stacklevel=4)


@contextmanager
def all_or_none() -> Iterator[None]:
    """What is assigned inside is assigned at the end, and on an error stays as it was."""
    with StateScope() as state:
        yield
    for variable in state.written:
        variable.assign(state.read(variable))


def _refusal(failure: Exception, file: str, fresh: bool) -> Exception:
    """Of a file whose parts do not fit each other, or of one that does not fit a program's model."""
    if isinstance(failure, FileError):
        return type(failure)(failure.rule, f'"{file}"')
    if fresh:
        return CorruptFileError(str(failure), f'"{file}"')
    error = ValueError(f'"{file}": {failure}')
    error.__cause__ = failure
    return error


def _extra(path: str) -> bool:
    """Whether a model may be without what lies there."""
    return path.startswith(_TRAINING) or any(name.startswith("seed_generator") for name in path.split("/"))


def _load_part(model: Any, part: Any, arrays: dict[str, Stored], fresh: bool) -> Exception | None:
    """Fill the variables of one part, or none of them; what went wrong is returned."""
    try:
        with all_or_none():
            if isinstance(part, SeedGenerator):
                if arrays:  # Keras keeps no seeds
                    part.state.assign(ReadStore(part, arrays, [part.state])["0"])
            elif hasattr(part, "apply_gradients"):
                _load_optimizer(model, part, arrays, fresh)
            elif hasattr(part, "load_own_variables"):
                part.load_own_variables(ReadStore(part, arrays, _own_variables(part)))
    except Exception as error:  # a user's hook may raise anything
        return error if isinstance(error, ValueError) else ValueError(f"{_who(part)}: {type(error).__name__}: {error}.")
    return None


def _load_optimizer(model: Any, optimizer: Any, arrays: dict[str, Stored], fresh: bool) -> None:
    """Its state if the file has one. An optimizer that had not been used yet has no slots in the file."""
    if not arrays:
        return
    if len(arrays) > len(optimizer.variables) and not optimizer.built:
        optimizer.build(model.trainable_variables)
    store = ReadStore(optimizer, arrays, optimizer.variables)
    if fresh and len(store) < len(optimizer.variables):
        for key, variable in zip(map(str, range(len(store))), optimizer.variables):
            variable.assign(store[key])
    else:
        optimizer.load_own_variables(store)
