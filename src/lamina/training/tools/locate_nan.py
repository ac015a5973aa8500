"""Where numbers stop being finite: the first step, layer and rows."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import checks, handover
from lamina.core.arrays import copied
from lamina.core.watch import Probes, Seen
from lamina.data.sources import ArraySource
from lamina.training.loop import rows_in
from lamina.training.step import Feed, batch_of
from lamina.training.tools.result import Drawing, Result, Table, progress
from lamina.training.trial import Trial, trial_of


@dataclass(frozen=True, repr=False, eq=False)
class NonFinite(Result):
    """The first place where a training step computed what is not finite; `bool` of it tells whether there is one.

    Attributes:
        epoch, step: counted from 0, the step in its epoch; how far it was looked, where nothing was found.
        path, layer: the layer's path and class; or the path of a weight, and `""`.
        what: "input", "output", "loss", "gradient of output", "gradient of input", "gradient", "weight" (before the
            step) or "updated weight".
        key: which of several inputs or outputs.
        count, size: how many numbers are not finite, of how many.
        rows, examples: the rows of the batch that have some; these as rows of the data, where the data are arrays.
        low, high: the range of the layer's finite inputs.
    """

    epoch: int
    step: int
    path: str = ""
    layer: str = ""
    what: str = ""
    key: str = ""
    count: int = 0
    size: int = 0
    rows: tuple[int, ...] = ()
    examples: tuple[int, ...] | None = None
    low: float | None = None
    high: float | None = None

    def __bool__(self) -> bool:
        return bool(self.what)

    def _table(self) -> Table:
        where = f"step {self.step + 1} of epoch {self.epoch + 1}"
        if not self:
            return Table(f"All is finite up to {where}.")
        name = f' of {self.layer} "{self.path}"' if self.layer else f' "{self.path}"' if self.path else ""
        text = f"{where}: {self.what}{self.key}{name} has {self.count} of {self.size} values that are not finite"
        if self.rows:
            text += f", in rows {checks.some([*map(str, self.rows)])} of the batch"
            text += f" ({checks.some([*map(str, self.examples)])} of the data)" if self.examples else ""
        if self.low is not None:
            text += f"; the layer's input is from {self.low:.4g} to {self.high:.4g}"
        return Table(f"{text}.")

    def _drawing(self) -> Drawing:
        return Drawing("values", bars={"not finite": [self.count], "finite": [self.size - self.count]},
                       names=[f"{self.what} {self.path}"])  # fmt: skip


class NonFiniteError(FloatingPointError):
    """Training computed what is not finite; `place` tells where. The weights are those before that launch."""

    def __init__(self, place: NonFinite):
        super().__init__(f"fit: values must be finite, got others in {place}")
        self.place = place


def _measure(x: Any) -> dict[str, Any]:
    finite, wide = jnp.isfinite(x), x.astype(jnp.promote_types(x.dtype, "float32"))
    return {
        "rows": jnp.sum(~finite, axis=tuple(range(1, x.ndim))),
        "size": jnp.asarray(x.size),
        "low": jnp.min(jnp.where(finite, wide, jnp.inf), initial=jnp.inf),
        "high": jnp.max(jnp.where(finite, wide, -jnp.inf), initial=-jnp.inf),
    }


@jax.jit
def all_finite(arrays: Any) -> Any:
    """Of each array, whether all is finite."""
    floats = (jnp.issubdtype(x.dtype, jnp.floating) for x in arrays)
    return [jnp.all(jnp.isfinite(x)) if is_float else True for x, is_float in zip(arrays, floats)]


def search(trial: Trial, batches: Iterable[tuple[int, int, Any]], bar: Any = None) -> NonFinite:
    """Train a trial on (epoch, step, batch), and look closely at the first step with what is not finite."""
    fine, epoch, step = np.array(all_finite(trial.values)), 0, 0
    weights = {id(v) for v in trial.model.weights}
    for variable, value, is_fine in zip(trial.variables, trial.values, fine):
        if not is_fine and id(variable) in weights:
            return _outside(0, 0, "weight", value, variable.path)
    for number, (epoch, step, batch) in enumerate(batches):
        before, was = trial.values, fine
        loss = _loss(trial.step(batch))
        fine = np.array(all_finite(trial.values))
        if not np.all(np.isfinite(loss)) or np.any(was & ~fine[: len(was)]):
            trial.values = before + trial.values[len(before) :]
            found = _located(trial, epoch, step, batch)
            if found:
                return found
        if bar is not None:
            bar.update(number + 1, [("loss", float(np.max(loss)))])
    return NonFinite(epoch, step)


def _loss(logs: dict[str, Any]) -> np.ndarray:
    """The loss, or in place of one that is not logged all logs."""
    return np.asarray(logs["loss"]) if "loss" in logs else np.hstack([0.0, *map(np.ravel, logs.values())])


def _located(trial: Trial, epoch: int, step: int, batch: Any) -> NonFinite | None:
    """The first place in a step, by running it with probes."""
    logs, seen = trial.probed(batch, Probes(_measure))
    loss, bad = _loss(logs), [each for each in seen if each.values["rows"].sum()]
    forward = [each for each in bad if not each.what.startswith("gradient")]
    if not forward and not np.all(np.isfinite(loss)):
        return _outside(epoch, step, "loss", loss)
    # The last in the order of calls is the first on the way back.
    back = sorted((e for e in bad if e.layer), key=lambda e: (-e.order, e.what.endswith("input")))
    for first in [*forward, *back, *bad]:
        return _place(trial, epoch, step, batch, first, seen)
    measured, own = ({id(v) for v in group} for group in (trial.phase.groups()[-1], trial.model.weights))
    for variable, value in sorted(zip(trial.variables, trial.values), key=lambda pair: id(pair[0]) not in own):
        if id(variable) not in measured and not all_finite([value])[0]:
            return _outside(epoch, step, "updated weight", value, variable.path)
    return None


def _outside(epoch: int, step: int, what: str, value: Any, path: str = "") -> NonFinite:
    """What is not finite outside of layers."""
    lost = ~np.isfinite(np.asarray(value, "float64"))
    return NonFinite(epoch, step, path, what=what, count=int(lost.sum()), size=lost.size)


def _place(trial: Trial, epoch: int, step: int, batch: Any, found: Seen, seen: list[Seen]) -> NonFinite:
    per_row, call = np.atleast_1d(found.values["rows"]), (found.path, found.order)
    rows, source = (), trial.source
    if found.layer and len(per_row) == rows_in(batch):
        rows = tuple(np.flatnonzero(per_row).tolist())
    examples = None
    if rows and isinstance(source, ArraySource):
        order, first = source.order(epoch), step * source.batch_size
        inside = [first + row for row in rows if first + row < source.rows(epoch)]
        examples = tuple(inside if order is None else order[inside].tolist())
    given = [e.values for e in seen if (e.layer, e.path, e.order, e.what) == (found.layer, *call, "input")]
    return NonFinite(
        epoch, step, found.path, found.layer, found.what, found.key, int(per_row.sum()), int(found.values["size"]),
        rows, examples, min((float(v["low"]) for v in given), default=None),
        max((float(v["high"]) for v in given), default=None),
    )  # fmt: skip


def locate_nan(
    model: Any, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None, *,
    epochs: int = 1, verbose: Any = "auto",
) -> NonFinite:  # fmt: skip
    """Train copies of a model's state, and tell where values first become infinite or NaN.

    Args:
        model: a compiled model; one that is not built is built, as by `fit`, and nothing else of it changes.
        x, y, sample_weight, batch_size: as in `fit`.
        epochs: how many at most, the rows in their order.
        verbose: 0 silent, 1 a progress bar, "auto" where progress goes to stdout.
    """
    checks.integer("locate_nan", "epochs", epochs)
    trial = trial_of(model, "locate_nan", x, y, sample_weight, batch_size=batch_size)
    source = trial.source
    steps = source.steps or source.num_batches
    batches = ((epoch, step, batch) for epoch in range(epochs) for step, batch in enumerate(source.epoch(epoch)))
    bar = progress(steps and steps * epochs, verbose)
    with closing(source):
        found = search(trial, batches, bar)
    if found:
        bar.update(found.epoch * (steps or 0) + found.step + 1, finalize=True)
    return found


class Guard:
    """Stands around the launches of a fit: what is not finite after one is an error that tells where it began."""

    def __init__(self, phase: Any, source: Any, model: Any):
        self._phase, self._source, self._model = phase, source, model
        self._ignored: set[int] = set()  # variables that became so for reasons of their own

    @contextmanager
    def __call__(self, variables: list[Any], feed: Feed, epoch: int, step: int) -> Iterator[None]:
        with handover.still:
            before = copied(tuple([v.stored for v in variables]))
        yield
        with handover.still:
            pairs = zip(variables, np.array(all_finite(before)), np.array(all_finite([v.stored for v in variables])))
        lost = {id(v) for v, was, fine in pairs if was and not fine} - self._ignored
        if not lost:
            return
        trial = Trial(self._phase, self._source, self._model)
        trial.start(variables, before)
        numbers, size = range(feed.count), feed.count // feed.epochs
        batches = (batch_of(feed.data, feed.order, feed.first + i) for i in numbers)
        place = search(trial, ((epoch + i // size, step + i % size, batch) for i, batch in zip(numbers, batches)))
        if not place:
            self._ignored |= lost
            return
        for variable, value in zip(variables, before):
            variable.assign(value)
        raise NonFiniteError(place)
