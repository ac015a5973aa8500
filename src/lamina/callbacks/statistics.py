"""`LayerStatistics`: what goes through the layers, looked at now and then while a model trains."""

from typing import Any

from lamina.callbacks.base import Callback
from lamina.core import checks
from lamina.core.checks import require


class LayerStatistics(Callback):
    """Keeps the statistics of activations, gradients and updates of each layer, see `Model.layer_statistics`.

    They are of a training step on one fixed batch, on copies of the state: training goes on as without, and at full
    speed in between.

    Args:
        x, y, sample_weight: the batch.
        every: after so many epochs, or steps.
        unit: `"epoch"` or `"step"`; a number of epochs or of steps.
        writer: an object with `scalar(name, value, step)`, which gets each number, and perhaps
            `histogram(name, values, step)`, which gets samples.

    Attributes:
        history: `{"dense/activation_std": [numbers]}`, and under `"epoch"` or `"step"` after how many of these.
        last: the newest `Statistics`, with a table and `plot()`.

    Raises: ValueError if an argument is outside its domain.
    """

    state_fields = ("history", "done")

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, every: int = 1, unit: str = "epoch", writer: Any = None
    ):
        super().__init__()
        self.batch = (x, y, sample_weight)
        self.every = checks.integer("LayerStatistics", "every", every)
        self.unit = checks.one_of("LayerStatistics", "unit", unit, ("epoch", "step"))
        fits = writer is None or callable(getattr(writer, "scalar", None))
        require(fits, self, "writer must have a method scalar(name, value, step)", writer)
        self.writer = writer
        self.history: dict[str, list[float]] = {}
        self.last: Any = None
        self.done = 0  # epochs or steps so far
        self._before = -1  # the batch before, in the epoch
        self._measure: Any = None

    def steps_until_needed(self) -> int | None:
        return None if self.unit == "epoch" else self.every - self.done % self.every

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.history, self.done, self._measure = {}, 0, None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._before = -1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.unit == "step":
            self._passed(batch - self._before)  # the last launch may have been of several
        self._before = batch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.unit == "epoch":
            self._passed(1)

    def _passed(self, count: int) -> None:
        self.done += count
        if self.done % self.every:
            return
        self._measure = self._measure or self.model.statistics_function(*self.batch)
        self.last = self._measure()
        self.history.setdefault(self.unit, []).append(self.done)
        for path, numbers in self.last.numbers.items():
            for name, number in numbers.items():
                self.history.setdefault(f"{path}/{name}", []).append(number)
                if self.writer is not None:
                    self.writer.scalar(f"{path}/{name}", number, self.done)
        if self.writer is not None and hasattr(self.writer, "histogram"):
            for path, samples in self.last.values.items():
                for name, sample in samples.items():
                    self.writer.histogram(f"{path}/{name}", sample, self.done)
