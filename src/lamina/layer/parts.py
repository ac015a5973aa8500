"""What a layer is made of: layers, variables, seeds and metrics, found by looking at its attributes.

A look asks each value for its class and for nothing else: `_kinds` knows what the objects of a class are.
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from lamina.core import checks, errors, handover, placement, registry, scope
from lamina.core.scope import Scope
from lamina.core.state import Meter
from lamina.core.variable import Variable, assign_all
from lamina.random import SeedGenerator

# What the objects of a class are to a look: none of its business, a field of `Parts`, or containers.
_OTHER, _LAYER, _VARIABLE, _SEED, _METRIC, _ITEMS, _VALUES = 0, 1, 2, 3, 4, 5, 6
_REMEMBERED = 5000  # classes, for programs that make some without end
_LARGE = 256  # entries of a container that is not looked into again after no part was found


class Parts(NamedTuple):
    """The parts right below a layer, each once, in Keras's order."""

    layers: list[Any]
    variables: list[Variable]
    seeds: list[SeedGenerator]
    metrics: list[Any]


class _Kinds(dict[type, int]):
    """class -> what its objects are, found out when a look first meets it."""

    def __missing__(self, cls: type) -> int:
        if len(self) > _REMEMBERED:
            self.clear()
        parts = ((Composite, _LAYER), (Variable, _VARIABLE), (SeedGenerator, _SEED), (Meter, _METRIC))
        containers = ((dict, _VALUES), ((list, tuple, set, frozenset), _ITEMS))
        self[cls] = next((kind for base, kind in (*parts, *containers) if issubclass(cls, base)), _OTHER)
        return self[cls]


_kinds = _Kinds()
_known: Scope[dict[Any, list] | None] = Scope("known_parts", None)
# class, names and classes of attributes -> the names worth a look, and what the objects in them are
_layouts: dict[tuple, list[tuple[str, int]]] = {}


class GivesWay:
    """A property that gives way to what a program sets in its place, as in `self._layers = layers`."""

    def __init__(self, find: Callable[[Any], Any]):
        self._find = find

    def __get__(self, whole: Any, cls: type | None = None) -> Any:
        return self if whole is None else self._find(whole)


class Composite:
    """Something whose parts are in its attributes, in lists, tuples, sets and dicts there, and in the parts' own."""

    # Attributes that hold no part.
    _not_parts: frozenset[str] = frozenset({"_without_parts"})
    _who: Callable[[], str]  # class and name, for errors
    _trainable: bool
    built: bool
    _made = 0  # the number of this one among all that were made
    _without_parts: dict[int, tuple[Any, int]] = {}  # id -> (large container, its length when no part was in it)

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets it on the children, and their variables, too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer, parts in _looks(self):
            layer._trainable = bool(value)
            for variable in parts.variables:  # one that was frozen by itself stays so
                if variable.frozen if value else variable.trainable:
                    variable.trainable, variable.frozen = bool(value), not value

    def _own_variables(self) -> list[Variable]:
        return _in_order(look(self).variables)

    def _carried(self) -> list[Variable]:
        """What a call carries on to the next one and weights leave out, besides seeds."""
        return []

    @GivesWay
    def _layers(self) -> list[Any]:
        return look(self).layers

    @GivesWay
    def _metrics(self) -> list[Any]:
        return look(self).metrics

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list[Any]:
        """Keras's name for `walk`."""
        found = walk(self) if recursive else [self, *(layer for layer in look(self).layers if layer is not self)]
        return found[0 if include_self else 1 :]

    def _collect(self, seeds: bool = True) -> list[tuple[Variable, bool]]:
        """(variable, whether training changes it) of the layer and all below, each once, in Keras's order."""
        return _once(("variables", id(self), seeds), lambda: self._collected(seeds))

    def _collected(self, seeds: bool) -> list[tuple[Variable, bool]]:
        found: dict[int, tuple[Variable, bool]] = {}
        inherited: dict[int, bool] = {}
        for layer, parts in _looks(self):
            trainable = inherited.get(id(layer), True) and layer.trainable
            own = _in_order(parts.variables)
            if seeds:
                own += [*[seed.state for seed in parts.seeds], *layer._carried()]
            for variable in own:
                found.setdefault(id(variable), (variable, trainable and variable.trainable))
            for child in parts.layers:
                inherited[id(child)] = trainable
        return list(found.values())

    @property
    def variables(self) -> list[Variable]:
        """All state but metrics': weights and seeds."""
        return [v for v, _ in self._collect()]

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that training changes."""
        return [v for v, trainable in self._collect() if trainable]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that training by gradients does not change, seeds included."""
        return [v for v, trainable in self._collect() if not trainable]

    @property
    def weights(self) -> list[Variable]:
        """The variables without the seeds."""
        return [v for v, _ in self._collect(seeds=False)]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        return [v for v, trainable in self._collect(seeds=False) if trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that training by gradients does not change."""
        return [v for v, trainable in self._collect(seeds=False) if not trainable]

    @property
    def metrics(self) -> list[Any]:
        """The metrics in the attributes of the layer and those below it."""
        return list({id(metric): metric for _, parts in _looks(self) for metric in parts.metrics}.values())

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of the metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def get_weights(self) -> list[np.ndarray]:
        """The weights as NumPy arrays."""
        arrays = handover.settled(lambda weights: [v.value for v in weights], self.weights)  # all of one moment
        return [np.array(placement.to_host(array)) for array in arrays]

    @errors.entry
    def set_weights(self, weights: Sequence[Any]) -> None:
        """Assign arrays to the weights, in the order of `get_weights`; all of them or, on an error, none."""
        assign_all(self._who, self.weights, weights)

    def count_params(self) -> int:
        """The number of weights' elements."""
        if not self.built:
            raise ValueError(f"{self._who()}: must be built to count its weights; call it on data or call build().")
        return sum(math.prod(v.shape) for v in self.weights)

    def save_own_variables(self, store: Any) -> None:
        """Write the layer's own variables, children's not, into a dict-like `store` under "0", "1", ..."""
        for i, variable in enumerate(self._own_variables()):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote."""
        own = self._own_variables()
        # A program's own method may have written more, under names.
        count = len(store) if registry.is_own(type(self).load_own_variables) else sum(map(str.isdigit, store.keys()))
        rule = f"the file must hold {len(own)} variables ({', '.join(v.path for v in own)})"
        remedy = "" if self.built or own else "the layer is not built: call it on data or call build() first"
        checks.require(len(own) == count, self._who(), rule, count, remedy)
        for i, variable in enumerate(own):
            variable.assign(store[str(i)])


def _in_order(variables: list[Variable]) -> list[Variable]:
    """Those that were made for training first."""
    return sorted(variables, key=operator.attrgetter("made_trainable"), reverse=True)


def walk(layer: Composite) -> list[Any]:
    """The layer and those below it, each once, parents first."""
    return [each for each, _ in _looks(layer)]


def _looks(layer: Composite) -> list[tuple[Any, Parts]]:
    """(layer, its parts) of the layer and those below it, each once, parents first."""
    return _once(("parts", id(layer)), lambda: _all_looks(layer))


def _once(key: tuple, find: Callable[[], list]) -> list:
    """What `find` finds, inside `one_look` what it found for the key before."""
    known = _known.get() if scope.call.get() is None else None  # code inside calls may change layers
    if known is None:
        return find()
    if key not in known:
        known[key] = find()
    return known[key]


def _all_looks(layer: Composite) -> list[tuple[Any, Parts]]:
    found: dict[int, tuple[Any, Parts]] = {}
    waiting: list[Any] = [layer]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            parts = look(each)
            found[id(each)] = each, parts
            if parts.layers:
                waiting += reversed(parts.layers)
    return list(found.values())


@contextmanager
def one_look() -> Iterator[None]:
    """One look at a model is enough for all that is asked of it inside, up to the next build or call of a layer.

    For code that asks much and runs none of the program's, which may change layers.
    """
    known = _known.get()
    with _known({} if known is None else known):
        yield


def look_again() -> None:
    """Layers may have changed: inside `one_look`, what was seen does not count any longer."""
    known = _known.get()
    if known:
        known.clear()


def look(whole: Composite) -> Parts:
    """The layers, variables, seed generators and metrics in the attributes, each once, in Keras's order.

    That is the order in which they came. Attributes tell it, but for what was appended to a list later, between
    other attributes or lists: there it is the order in which the layers were made.

    Lists, tuples, sets and dicts, and their subclasses, are looked into. One of more than 256 entries in which no
    part was found, such as a vocabulary, is not looked into again until its length changes or another takes its place.
    """
    layers, variables, seeds, metrics = parts = Parts([], [], [], [])
    fields: Any = (None, layers, variables, seeds, metrics)
    times: list[int] = []
    met: set[int] = set()
    reached = 0  # what a layer in an attribute says of the time
    attributes = vars(whole)
    for name, kind in _worth_a_look(whole, attributes):
        value = attributes[name]
        if _LAYER < kind < _ITEMS:  # as below, in short
            if id(value) not in met:
                met.add(id(value))
                fields[kind].append(value)
            continue
        time = reached
        for part in (value,) if kind < _ITEMS else _inside(value, kind, whole, met):
            which = _kinds[type(part)]
            if which == _LAYER:
                time = max(time, part._made)
            if id(part) not in met:
                met.add(id(part))
                fields[which].append(part)
                if which == _LAYER:
                    times.append(time)
        if kind == _LAYER:
            reached = time
    if len(times) > 1 and times != sorted(times):
        order = sorted(range(len(times)), key=times.__getitem__)
        parts.layers[:] = [parts.layers[i] for i in order]
    if whole._without_parts:  # those that another took the place of
        vars(whole)["_without_parts"] = {key: entry for key, entry in whole._without_parts.items() if key in met}
    return parts


def _worth_a_look(whole: Composite, attributes: dict[str, Any]) -> list[tuple[str, int]]:
    """The attributes that are parts or containers, with their kinds; layers of a class mostly have the same."""
    layout = (type(whole), *attributes, *map(type, attributes.values()))
    names = _layouts.get(layout)
    if names is None:
        if len(_layouts) > _REMEMBERED:
            _layouts.clear()
        skipped = whole._not_parts
        kinds = [(name, _kinds[type(value)]) for name, value in attributes.items() if name not in skipped]
        names = [(name, kind) for name, kind in kinds if kind]
        _layouts[layout] = names
    return names


def _inside(container: Any, kind: int, whole: Composite, met: set[int]) -> list[Any]:
    """The parts in a container of a layer, `met` being what this look has met so far."""
    again, size = id(container) in met, len(container)
    met.add(id(container))
    if again or (size > _LARGE and _is_known(whole, container)):
        return []
    found: list[Any] = []
    lasting = size > _LARGE  # whether a later look would find the same, unless the length changes
    for item in container.values() if kind == _VALUES else container:
        which = _kinds[type(item)]
        if which >= _ITEMS:
            lasting = lasting and len(item) > 0 and id(item) not in met
            found += _inside(item, which, whole, met)
        elif which:
            found.append(item)
    if lasting and not found:
        vars(whole)["_without_parts"] = {**whole._without_parts, id(container): (container, size)}
    return found


def _is_known(whole: Composite, container: Any) -> bool:
    """Whether an earlier look found no part in a large container."""
    known, size = whole._without_parts.get(id(container), (None, 0))
    return known is container and size == len(container)


def containers(whole: Composite) -> Iterator[Any]:
    """The lists, sets and dicts in the attributes and in each other; large ones without parts are not gone into."""
    met: set[int] = set()
    waiting: list[Any] = [value for name, value in vars(whole).items() if name != "_arguments"]
    while waiting:
        each = waiting.pop()
        kind = _kinds[type(each)]
        if kind >= _ITEMS and id(each) not in met:
            met.add(id(each))
            if not _is_known(whole, each):
                values = each.values() if kind == _VALUES else each
                waiting.extend([value for value in values if _kinds[type(value)] >= _ITEMS])
            if not isinstance(each, (tuple, frozenset)):
                yield each


def _content(container: Any) -> list[Any]:
    return list(chain.from_iterable(container.items())) if isinstance(container, dict) else list(container)


class Before:
    """How a layer and those below it are now, so that what goes wrong can leave them as they were."""

    def __init__(self, layer: Composite):
        held = (each for part in walk(layer) for each in (vars(part), *containers(part)))
        self._contents = [(each, _content(each)) for each in held]

    def restore(self) -> None:
        """Bring attributes, and what lists, sets and dicts in them held, back."""
        look_again()
        for container, content in self._contents:
            if [*map(id, _content(container))] != [*map(id, content)]:
                container.clear()
                if isinstance(container, dict):
                    container.update(zip(content[::2], content[1::2]))
                else:
                    container.extend(content) if isinstance(container, list) else container.update(content)
