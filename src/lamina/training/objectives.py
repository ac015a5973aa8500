"""What `compile` was given, resolved: losses, weights and metrics laid out along the model's outputs.

Every argument may be one thing for all outputs, a list along the outputs, or a dict by output name. `Outputs.along` is
the one place that turns these into a list with an entry for each output.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lamina import losses, metrics
from lamina.core import errors, masking, scope, tree
from lamina.core.checks import require, shorten, some
from lamina.core.registry import is_own
from lamina.data.arrays import unpack_x_y_sample_weight
from lamina.data.checking import Target, check_target, check_values
from lamina.losses.loss import LossFunctionWrapper, target_kind
from lamina.losses.weighting import mask_weights
from lamina.metrics import Mean, MeanMetricWrapper, Metric


class Outputs(NamedTuple):
    """The outputs of a model, and what `compile` and targets may call them.

    names: their paths, such as `"a"` or `"a/b"`.
    layers: the names of the layers that they come from, where the model declares them.
    structure: how they are nested, lists as tuples.
    """

    names: list[str]
    layers: Sequence[str]
    structure: Any

    @classmethod
    def of(cls, y_pred: Any, declared: Sequence[str]) -> Outputs:
        """Those of a model that declares the names of its outputs, or none."""
        names = output_names(y_pred, declared)
        structure = tree.map_structure(lambda _: 0, tree.lists_to_tuples(y_pred))
        return cls(names, declared if len(declared) == len(names) else names, structure)

    def along(self, value: Any, what: str, *, spread: bool) -> list[Any]:
        """`value` as a list with an entry for each output.

        Args:
            value: `None`, one entry for all, a list along the outputs, a dict by name, or their structure.
            what: what the value is, for errors.
            spread: whether one entry may stand for all outputs.
        """
        count = len(self.names)
        if value is None:
            return [None] * count
        if count > 1 and tree.is_nested(value):
            try:
                return tree.flatten_up_to(self.structure, tree.lists_to_tuples(value))
            except ValueError:
                pass  # a list of another nesting, or a dict of other keys
        if isinstance(value, dict):
            return self._by_name(value, what)
        if isinstance(value, (list, tuple)):
            flat = tree.flatten(value) if not spread else list(value)
            flat = flat if len(flat) == count else list(value)
            if len(flat) != count:
                raise ValueError(f"{what}: must have one entry for each of {count} outputs, got {len(flat)}.")
            return flat
        if spread or count == 1:
            return [value] * count
        raise ValueError(
            f"{what}: must be a list or dict for {count} outputs ({', '.join(self.names)}), "
            f"got {'one array' if hasattr(value, 'shape') else shorten(value)}."
        )

    def targets(self, y_true: Any) -> list[Any]:
        """The target of each output; one output may have a target of any structure."""
        if len(self.names) == 1 and tree.is_nested(y_true):
            if isinstance(y_true, dict) and set(y_true) == set(self.names):
                return [y_true[self.names[0]]]
            flat = tree.flatten(y_true)
            return [flat[0]] if len(flat) == 1 else [y_true]
        return self.along(y_true, "y", spread=False)

    def _by_name(self, value: dict[Any, Any], what: str) -> list[Any]:
        """The entries of a dict: by the names of outputs, of what they are in, or of their layers."""
        heads = {name.partition("/")[0] for name in self.names}
        unknown = sorted(map(str, set(value) - {*self.names, *heads, *self.layers}))
        if unknown and len(self.names) == len(value) == 1:
            return list(value.values())
        require(not unknown, what, f"keys must be names of outputs ({', '.join(self.names)})", got=", ".join(unknown))
        return [_entry(value, name, value.get(layer)) for name, layer in zip(self.names, self.layers)]


def _entry(value: dict[Any, Any], name: str, otherwise: Any) -> Any:
    """What a dict, or one in it, has under the name of an output or of what that is in."""
    if name in value:
        return value[name]
    head, _, rest = name.partition("/")
    if head not in value:
        return otherwise
    return _entry(value[head], rest, None) if isinstance(value[head], dict) else value[head]


def output_names(y_pred: Any, declared: Sequence[str]) -> list[str]:
    """The paths to the outputs, such as `"a"` or `"a/b"`; in place of a number, the name that the model declares."""
    paths = [path for path, _ in tree.flatten_with_path(y_pred)]
    if len(declared) != len(paths):
        declared = [f"output_{i}" for i in range(len(paths))]
    ends = [path[-1] if path and isinstance(path[-1], str) else name for path, name in zip(paths, declared)]
    return ["/".join(map(str, (*path[:-1], end))) for path, end in zip(paths, ends)]


class Part(NamedTuple):
    """A loss, its weight in the sum, and the number of its output, or those of several outputs, nested as these are."""

    name: str
    loss: Any
    weight: Any
    places: Any

    def of(self, leaves: Sequence[Any]) -> Any:
        """What the loss gets, of the outputs or of their targets."""
        return tree.map_structure(lambda i: leaves[i], self.places)


def _parts(given: Any, places: Any, keys: tuple = ()) -> Iterator[tuple[int, Any, tuple]]:
    """`(number, places, keys)` of each loss; a list of another kind than the outputs has several losses of the same."""
    flat = tree.flatten(places)
    if not tree.is_nested(given):
        yield given, places, keys
    elif isinstance(given, dict):
        unknown = given.keys() - (places.keys() if isinstance(places, dict) else ())
        if unknown:
            raise ValueError(f"compile: loss: keys must be those of the outputs, got {some([*map(str, unknown)])}.")
        for key, each in given.items():
            yield from _parts(each, places[key], (*keys, key))
    elif len(given) == len(flat) and not any(map(tree.is_nested, given)):
        yield from ((each, place, keys) for each, place in zip(given, flat))
    else:
        beside = places if isinstance(places, type(given)) else [places] * len(given)
        if len(beside) != len(given):
            raise ValueError(f"compile: loss: must have one entry for each of {len(beside)} outputs, got {len(given)}.")
        for each, part in zip(given, beside):
            yield from _parts(each, part, keys)


class CompiledLoss:
    """The weighted sum of the outputs' losses.

    Args:
        loss, loss_weights: as given to `compile`.
        declared: the names of the model's outputs, if it has any.
    """

    def __init__(self, loss: Any, loss_weights: Any, declared: Sequence[str]):
        self._loss, self._weights, self._declared = loss, loss_weights, declared
        self.forget()

    def forget(self) -> None:
        """Resolve the losses anew when they are next needed."""
        self.built, self.outputs = False, Outputs([], [], None)
        self.parts: list[Part] = []
        self.metrics: list[Mean] = []  # each loss, where there are several

    def build(self, y_true: Any, y_pred: Any) -> None:
        """Resolve the losses for outputs and targets of these shapes."""
        if self.built:
            return
        self.outputs, flat = Outputs.of(y_pred, self._declared), tree.flatten(y_pred)
        self.parts = self._given(tree.pack_sequence_as(y_pred, range(len(flat))))
        targets = self._targets(y_true)
        self.parts = [p._replace(loss=_as_loss(p.loss, p.name, p.of(targets), p.of(flat))) for p in self.parts]
        self.built, own = True, {p.places: p.loss.name for p in self.parts if isinstance(p.places, int)}
        declared = self._declared if len(self._declared) == len(flat) else [own.get(i, "") for i in range(len(flat))]
        names = output_names(y_pred, declared)
        for p in self.parts if len(self.parts) > 1 else ():
            name = names[p.places] if isinstance(p.places, int) else p.name
            self.metrics.append(loss_tracker(scope.unused_name(f"{name}_loss", [m.name for m in self.metrics])))

    def _given(self, places: Any) -> list[Part]:
        """The losses as they were given, with what each is of."""
        names, flat = self.outputs.names, tree.flatten(self._loss)
        loss: Any = tree.pack_sequence_as(self._loss, range(len(flat)))  # their numbers
        by_key = isinstance(loss, dict) and isinstance(places, dict) and loss.keys() <= places.keys()
        inside = loss.values() if isinstance(loss, dict) else loss if tree.is_nested(loss) else ()
        deep = any(map(tree.is_nested, inside))
        if by_key or (deep and not isinstance(loss, dict)):
            found = [*_parts(loss, places)]
        else:
            entries = enumerate(self.outputs.along(loss, "compile: loss", spread=True))
            found = [part for i, entry in entries if entry is not None for part in _parts(entry, i)]
        scales = self.outputs.along(None if deep else self._weights, "compile: loss_weights", spread=True)
        weights = tree.flatten(self._weights) if deep and self._weights is not None else [None] * len(flat)
        if len(weights) != len(flat):
            raise ValueError(f"compile: loss_weights must be one for each of {len(flat)} losses, got {len(weights)}.")
        whole, parts = "_".join(dict.fromkeys(name.partition("/")[0] for name in names)), []
        for number, at, keys in found:
            one, name = flat[number], "/".join(map(str, keys)) or whole
            apart = isinstance(at, dict) and (isinstance(one, str) or is_own(one))  # the library's own take no dicts
            for i in tree.flatten(at) if apart or isinstance(at, int) else [at]:
                scale = weights[number] if deep else scales[tree.flatten(i)[0]]
                parts.append(Part(names[i] if isinstance(i, int) else name, one, scale, i))
        return [part for part in parts if part.loss is not None]

    def _targets(self, y_true: Any) -> list[Any]:
        """The target of each output; of those alone that have a loss, if there are so many."""
        count, flat = len(self.outputs.names), tree.flatten(y_true)
        wanted = sorted({i for part in self.parts for i in tree.flatten(part.places)})
        if isinstance(y_true, dict) or len(flat) != len(wanted) or len(wanted) == count:
            return self.outputs.targets(y_true)
        given = dict(zip(wanted, flat))
        return [given.get(i) for i in range(count)]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        self.build(y_true, y_pred)
        total, trackers = None, iter(self.metrics)
        for part, target, output, weight in self.by_part(y_true, y_pred, sample_weight):
            _check_target(part.name, target, output)
            value = _value(part.loss, part.name, target, output, weight)
            if self.metrics:
                next(trackers).update_state(value, sample_weight=counted_rows(output))
            value = value if part.weight is None else value * part.weight
            total = value if total is None else total + value
        return total

    def by_part(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Iterator[tuple[Part, Any, Any, Any]]:
        """`(part, target, output, sample weight)` of each loss."""
        flat, targets = tree.flatten(y_pred), self._targets(y_true)
        weights = self.outputs.along(sample_weight, "sample_weight", spread=True)
        for part in self.parts:
            yield part, part.of(targets), part.of(flat), weights[tree.flatten(part.places)[0]]


# What targets the library's losses take; of others nothing is known.
_KINDS = {
    "values": "mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error "
    "huber log_cosh poisson cosine_similarity",
    "binary": "binary_crossentropy binary_focal_crossentropy",
    "one_hot": "categorical_crossentropy categorical_focal_crossentropy",
    "classes": "sparse_categorical_crossentropy",
    "signs": "hinge squared_hinge",
    "shares": "kl_divergence dice tversky",
}
_KIND_OF = {getattr(losses, name): kind for kind, names in _KINDS.items() for name in names.split()}


def examine(batch: Any, loss: CompiledLoss | None, outputs: Any, who: str, masked: bool = False) -> None:
    """Look once, on the host, for mistakes in the first batch of a run; see `data/checking.py`.

    Args:
        batch: what a train step gets.
        loss: the losses, if the targets go to them and they are resolved.
        outputs: the symbolic outputs of the model, if they are known.
        who: the method that was called.
        masked: whether layers make masks.
    """
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    for part, value in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        check_values(value, part, who)
    if loss is None or outputs is None or y is None or not loss.outputs.names:
        return
    for part, target, output, weight in loss.by_part(y, outputs, sample_weight):
        one, fn = part.loss, getattr(part.loss, "fn", part.loss)
        if fn in _KIND_OF and hasattr(target, "shape"):
            what = f"y of output {part.name!r}" if len(loss.outputs.names) > 1 else "y"
            weight = None if weight is None else np.asarray(weight)
            logits, axis = getattr(one, "from_logits", False), getattr(one, "axis", -1)
            ignored, activation = getattr(one, "ignore_class", None), activation_of(output)
            found = (fn.__name__, _KIND_OF[fn], output.shape, axis, logits, ignored, activation, weight, masked)
            check_target(Target(np.asarray(target), what, *found), who)


def makes_masks(layers: Iterable[Any]) -> bool:
    """Whether one of the layers hides places behind a mask."""
    return any(getattr(each, "mask_zero", type(each).__name__ == "Masking") for each in layers)


def activation_of(tensor: Any) -> str | None:
    """The name of the activation that a symbolic tensor comes from, `None` if that cannot be told."""
    layer: Any = tensor.origin.operation if getattr(tensor, "origin", None) is not None else None
    if type(layer).__name__ == "TimeDistributed":
        layer = layer.layer
    if not type(layer).__module__.startswith("lamina.layers"):
        return None
    return getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__.lower())


def loss_tracker(name: str) -> Mean:
    """The running mean of a loss."""
    tracker = Mean(name=name)
    tracker.direction = "min"
    return tracker


def _value(loss: Any, name: str, target: Any, output: Any, weight: Any) -> Any:
    try:
        return loss(target, output, weight)
    except Exception as error:
        errors.note(error, f'in loss "{loss.name}" of output "{name}"')
        if not isinstance(error, (TypeError, ValueError)):
            raise
        shapes = {"y": tree.map_structure(np.shape, target), "y_pred": tree.map_structure(np.shape, output)}
        if errors.SAID.match(str(error)) or (weight is None and shapes["y"] == shapes["y_pred"]):
            raise
        if weight is not None:
            shapes["sample_weight"] = np.shape(weight)
        given = ", ".join(f"{what} {shape}" for what, shape in shapes.items())
        raise ValueError(
            f'loss "{loss.name}": the shapes for output "{name}" must fit, got {given}: {str(error).splitlines()[0]}'
        ) from error


def _as_loss(identifier: Any, name: str, target: Any, output: Any) -> Any:
    """A loss object for an output from whatever `compile` takes for one."""
    _check_target(name, target, output)
    loss = losses.get(by_target(identifier, target, output))
    if isinstance(loss, losses.Loss):
        return loss
    own = getattr(loss, "__name__", type(loss).__name__).strip("<>")
    return LossFunctionWrapper(loss, name=identifier if isinstance(identifier, str) else own)


def _check_target(name: str, target: Any, output: Any) -> None:
    if target is None:
        remedy = f'give y, batches of (x, y), or "{name}" among named data'
        raise ValueError(f'loss: output "{name}" must have a target in y, got None; {remedy}.')
    for leaf in tree.flatten(target):
        rows, shape = np.shape(leaf)[:1], np.shape(tree.flatten(output)[0])
        known = [n for n in (*rows, *shape[:1]) if isinstance(n, int)]
        if len(known) == 2 and known[0] != known[1]:
            raise ValueError(f'loss: y for output "{name}" must have {shape[0]} rows, got {rows[0]}.')


def counted_rows(batch: Any) -> Any:
    """How many rows of a batch count, by the first array in it."""
    leaf = next((leaf for leaf in tree.flatten(batch) if leaf is not None), None)
    if leaf is None or not leaf.ndim:
        return 1
    counted = scope.rows.get()
    return leaf.shape[0] if counted is None else counted


def only_counted(outputs: Any) -> Any:
    """The outputs, with a mask on them where rows only fill the batch up: losses and metrics heed it."""
    if scope.rows.get() is not None:
        for leaf in tree.flatten(outputs):
            masking.set_mask(leaf, masking.with_rows(masking.get_mask(leaf), leaf.shape[0]))
    return outputs


class CompiledMetrics:
    """The metrics of all outputs, under the names that logs have.

    Args:
        given, weighted: as given to `compile` as `metrics` and `weighted_metrics`.
        declared: the names of the model's outputs, if it has any.
    """

    def __init__(self, given: Any, weighted: Any, declared: Sequence[str]):
        self._given, self._weighted, self._declared = given, weighted, declared
        self.forget()

    @property
    def metrics(self) -> list[Metric]:
        """All metrics, unweighted ones first."""
        return [metric for _, metric, _ in self._entries]

    def forget(self) -> None:
        """Make the metrics anew when they are next needed."""
        self.built, self.outputs = False, Outputs([], [], None)
        self._entries: list[tuple[int, Metric, bool]] = []
        self.log_names: list[str] = []

    def build(self, y_true: Any, y_pred: Any) -> None:
        """Make the metrics for outputs and targets of these shapes."""
        if self.built:
            return
        self.outputs = Outputs.of(y_pred, self._declared)
        flat, targets = tree.flatten(y_pred), self.outputs.targets(y_true)
        prefixes = self._prefixes(y_pred)
        entries: list[tuple[int, Metric, bool]] = []
        log_names: list[str] = []
        for value, use_weight in ((self._given, False), (self._weighted, True)):
            what = "compile: weighted_metrics" if use_weight else "compile: metrics"
            for i, group in enumerate(_groups(value, self.outputs, what)):
                for identifier in group:
                    metric, name = _as_metric(identifier, targets[i], flat[i])
                    taken = use_weight and prefixes[i] + name in log_names
                    entries.append((i, metric, use_weight))
                    log_names.append(scope.unused_name(f"{prefixes[i]}{'weighted_' if taken else ''}{name}", log_names))
        self.built, self._entries, self.log_names = True, entries, log_names

    def _prefixes(self, y_pred: Any) -> list[str]:
        """What the names of metrics begin with: the output's, where there are several and they have names."""
        flat_dict = isinstance(y_pred, dict) and not any(map(tree.is_nested, y_pred.values()))
        own = self.outputs.names
        names = own if flat_dict else self._declared
        return [f"{name}_" for name in names] if len(names) == len(own) > 1 else [""] * len(own)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.build(y_true, y_pred)
        flat, targets = tree.flatten(y_pred), self.outputs.targets(y_true)
        weights = self.outputs.along(sample_weight, "sample_weight", spread=True)
        for i, metric, use_weight in self._entries:
            if targets[i] is not None:
                weight = weights[i] if use_weight else None
                if not isinstance(metric, MeanMetricWrapper):  # which sees the masks
                    weight = mask_weights(weight, masking.with_rows(None, flat[i].shape[0]), metric.dtype, "sum")
                try:
                    metric.update_state(targets[i], flat[i], **({} if weight is None else {"sample_weight": weight}))
                except Exception as error:
                    errors.note(error, f'in metric "{metric.name}" of output "{self.outputs.names[i]}"')
                    raise


def _groups(value: Any, outputs: Outputs, what: str) -> list[list[Any]]:
    """The metrics of each output."""
    if len(outputs.names) == 1 and not isinstance(value, dict):
        groups = [tree.flatten(value) if isinstance(value, (list, tuple)) else value]
    else:
        groups = outputs.along(value, what, spread=False)
    lists = [group if isinstance(group, (list, tuple)) else [group] for group in groups]
    return [[metric for metric in each if metric is not None] for each in lists]


# Names that mean another function for each kind of target: "accuracy" is "binary_accuracy", ...
CHOSEN_BY_TARGET = {"accuracy": "accuracy", "acc": "accuracy", "crossentropy": "crossentropy", "ce": "crossentropy"}


def by_target(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """What a name that is chosen by the target means for these shapes; all else as it is."""
    chosen = CHOSEN_BY_TARGET.get(identifier.lower()) if isinstance(identifier, str) else None
    return identifier if chosen is None else f"{target_kind(y_true, y_pred)}_{chosen}"


def _as_metric(identifier: Any, y_true: Any, y_pred: Any) -> tuple[Metric, str]:
    """A metric object, and its name in logs."""
    wanted = by_target(identifier, y_true, y_pred)
    metric = wanted if isinstance(wanted, losses.Loss) else metrics.get(wanted)
    called = scope.snake_case(type(metric).__name__)  # where it has no name
    name = identifier if isinstance(identifier, str) else getattr(metric, "name", getattr(metric, "__name__", called))
    name = name.strip("<>")
    if isinstance(metric, Metric):
        if isinstance(identifier, str):
            metric.name = name
        return metric, metric.name
    try:
        inspect.signature(metric).bind(None, None)
    except TypeError:
        raise ValueError(f"compile: metric {name!r} must be a function of (y_true, y_pred).") from None
    except ValueError:
        pass  # a built-in without a signature
    averaged = MeanMetricWrapper(metric, name=name)
    averaged.direction = averaged.direction or metrics.direction_of(name)
    return averaged, name
