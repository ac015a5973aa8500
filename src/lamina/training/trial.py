"""`Trial`: a model's training step on copies of its state, so that nothing can happen to the model itself."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import jax
import numpy as np
from jax import tree_util

from lamina.core import checks, handover, scope
from lamina.core.arrays import copied
from lamina.core.effects import TRACES, FoundVariables, made_anew
from lamina.core.variable import Variable
from lamina.core.watch import Probes, Seen
from lamina.training.forms import stateful
from lamina.training.step import OneStep, many_steps, on_batch, pure_step, shapes

MOST_STEPS = 32  # of a launch
MOST_BYTES = 1 << 26  # of the batches of a launch
SECONDS = 0.1  # of a launch, about


class Trial:
    """Trains copies of a model's state by its own step, many steps a launch.

    Args:
        phase: what the loop has for the model's training.
        source: the data.
        model: the model, for its optimizer and weights.

    Attributes:
        batch: the first of the data.
        variables: what the step reads or assigns.
        values: their values in the trial.
    """

    def __init__(self, phase: Any, source: Any, model: Any):
        self.phase, self.source, self.model, self.batch = phase, source, model, source.peek()
        self._method = stateful(phase.method, phase.groups)
        self._programs: dict[Any, Callable] = {}
        self.variables: list[Variable] = []
        self.values: tuple = ()
        self._hold(itertools.chain(*phase.groups()))

    @property
    def optimizers(self) -> list[Any]:
        """The model's optimizers, none where a step of its own does without."""
        one = self.model.optimizer
        return [] if one is None else getattr(one, "optimizers", [one])

    def start(self, variables: Sequence[Variable] = (), values: Sequence[Any] = ()) -> None:
        """Begin from the model's present state, in which some variables have other values."""
        self._hold(variables)
        told = dict(zip(map(id, variables), values))
        with handover.still:
            self.values = copied(tuple([told.get(id(v), v.stored) for v in self.variables]))

    def _hold(self, variables: Iterable[Variable]) -> None:
        known = {id(v) for v in self.variables}
        new = [v for v in {id(v): v for v in variables}.values() if id(v) not in known]
        if new:
            with handover.still:
                self.values += copied(tuple([v.stored for v in new]))
            self.variables += new
            self._programs.clear()

    # Steps ---------------------------------------------------------------------------------------

    def _step(self, watch: Any = None) -> Callable:
        """The step on values, whose data are a batch and, or not, its learning rate."""

        def method(data: tuple[Any, Any]) -> Any:
            batch, rate = data
            self.phase.reset()  # so that what is logged is of this batch
            with scope.watch(watch), scope.learning_rate(rate):
                for each in self.optimizers if rate is not None else ():
                    if isinstance(getattr(each, "learning_rate", None), Variable):
                        each.learning_rate = rate
                return on_batch(self._method, batch)

        return pure_step(method, list(self.variables), [], self.phase.groups)

    def _kept(self, key: Any, make: Callable[[], Any], use: Callable[[Any], Any] = lambda made: made) -> Any:
        """`use(make())`, what was made being kept; again where that meets variables that are not held yet."""
        missing: list[Variable] = []
        for _ in range(TRACES):
            try:
                if key not in self._programs:
                    self._programs[key] = make()
                return use(self._programs[key])
            except FoundVariables as error:
                missing = error.missing
                self._programs.pop(key, None)
                self._hold(missing)
        raise made_anew(type(self.model).__name__, missing)

    def step(self, batch: Any, watch: Any = None, rate: Any = None) -> dict[str, Any]:
        """One step, looked at by `watch`; the values before it stay as they were."""
        jitted = (lambda step: step) if self.phase.launcher is None else jax.jit
        self.values, logs = self._kept(
            watch, lambda: jitted(self._step(watch)), lambda step: step(self.values, (), (jax.device_put(batch), rate))
        )
        return logs

    def probed(self, batch: Any, probes: Probes) -> tuple[dict[str, Any], list[Seen]]:
        """A step, and what was seen of it; not of gradients by layers where code differentiates forward."""
        try:
            return self.step(batch, probes), probes.heard()
        except (TypeError, NotImplementedError) as error:
            if not probes.backward or "custom_" not in str(error):
                raise
        probes.backward = False
        return self.probed(batch, probes)

    def equations(self, watch: Any) -> Any:
        """The equations of a step on the first batch, whose trace `watch` looks at."""
        return jax.jit(self._step(watch)).trace(self.values, (), (self.batch, None)).jaxpr.jaxpr

    def program(self, batches: Sequence[Any], rates: Any = None) -> Any:
        """The compiled steps over a window of such batches; `None` where the step is run through Python."""
        if self.phase.launcher is None:
            return None
        data = _window(batches, rates)

        def make() -> Any:
            loop = many_steps(self._step(), lambda values: values, self.variables)
            return loop.trace(self.values, (), data, None, 0, 1, False, 1, capacity=MOST_STEPS).lower().compile()

        return self._kept(shapes(data), make)

    def launch(self, batches: Sequence[Any], count: int, rates: Any = None) -> dict[str, np.ndarray]:
        """Train for `count` steps on a window of batches, beyond its end on the last one: the logs of each step."""
        kept, done, program = [], 0, self.program(batches, rates)
        data = None if program is None else _window(batches, rates)
        while done < count:
            if program is None:
                logs = self.step(batches[min(done, len(batches) - 1)], rate=None if rates is None else rates[done])
                kept.append({name: np.asarray(value)[None] for name, value in logs.items()})
                done += 1
                continue
            out = program(self.values, (), data, None, done, count - done, False, 1)  # an index too large is the last
            self.values, steps = out.values, 1 if isinstance(out, OneStep) else count - done
            kept.append({name: np.asarray(value)[:steps] for name, value in out.logs.items()})
            done += steps
        return {name: np.concatenate([logs[name] for logs in kept]) for name in kept[0]}

    # Runs ----------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Any]:
        """Batches of the first one's shapes, epoch after epoch, for as long as the data give any."""
        first = shapes(self.batch)
        for epoch in itertools.count():
            found = False
            for batch in self.source.epoch(epoch):
                if shapes(batch) == first:
                    found = True
                    yield batch
            if not found:
                return

    def losses(self, who: str, steps: int, rates: Any = None, batches: Iterator[Any] | None = None) -> Iterator[float]:
        """Train for so many steps, each at its rate if rates are given: the loss of each."""
        batches = self.batches() if batches is None else batches
        size = sum(np.asarray(a).nbytes for a in tree_util.tree_leaves(self.batch))
        most, done, count = max(1, min(MOST_STEPS, MOST_BYTES // max(size, 1), steps)), 0, 1
        with closing(self.source):
            while done < steps and (window := list(itertools.islice(batches, min(count, steps - done)))):
                new = len(window)
                window += window[-1:] * (most - new)  # of one length, so that one program serves all
                some = None if rates is None else np.resize(rates[done : done + new], most)
                self.program(window, some)  # which takes long at first, and is no part of a step
                start = time.perf_counter()
                logs = self.launch(window, new, some)
                checks.require("loss" in logs, who, "train_step must return a 'loss'", sorted(logs))
                yield from logs["loss"].astype("float64").tolist()
                done += new
                count = max(1, min(most, int(SECONDS * new / max(time.perf_counter() - start, 1e-9))))

    def seconds_a_step(self, batch: Any) -> float:
        """The time of a step on this batch, measured after the first."""
        window = [jax.device_put(batch)]
        self.launch(window, 1)
        best, total, count = float("inf"), 0.0, 1
        while total < SECONDS:
            start = time.perf_counter()
            self.launch(window, count)
            spent = time.perf_counter() - start
            best, total, count = min(best, spent / count), total + spent, min(2 * count, MOST_STEPS)
        return best


def trial_of(model: Any, who: str, *data: Any, **options: Any) -> Trial:
    """A trial of a model on x, y and sample weights, for the tool `who`."""
    checks.require(hasattr(model, "make_trial"), who, "model must be a Model", got=checks.shorten(model))
    return model.make_trial(who, *data, **options)


def _window(batches: Sequence[Any], rates: Any) -> tuple[Any, Any]:
    """The batches as the data of a launch: each array with an axis of batches in front."""
    data = jax.tree.map(lambda *a: a[0][None] if len(a) == 1 else np.stack(a), *batches)
    return jax.device_put((data, None if rates is None else np.asarray(rates, "float32")))
