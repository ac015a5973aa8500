"""`SwapEMAWeights`: the averages of the weights stand for them where a model is evaluated."""

from typing import Any

from lamina.callbacks.base import Callback
from lamina.core.checks import require


class SwapEMAWeights(Callback):
    """Puts the moving averages of an optimizer with `use_ema=True` in the place of the weights while others look.

    In `evaluate`, `predict` and validation, and back after them.

    Args:
        swap_on_epoch: whether at the end of each epoch too, until the next one begins, so that the callbacks behind
            this one find the averages.

    Raises: ValueError if the model's optimizer keeps no averages.
    """

    state_fields = ("swapped",)

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self.swapped = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._swap(False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self.swap_on_epoch:
            return
        if epoch == (self.params or {}).get("epochs", 0) - 1 or self.model.stop_training:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)  # with which fit ends
        else:
            self._swap(True)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._swap(True)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._swap(False)

    on_predict_begin, on_predict_end = on_test_begin, on_test_end

    def _swap(self, wanted: bool) -> None:
        if self.swapped == wanted:
            return
        outer = self.model.optimizer
        inner = getattr(outer, "inner_optimizer", outer)  # of one that scales losses
        averaging = [each for each in getattr(inner, "optimizers", [inner]) if getattr(each, "use_ema", False)]
        require(averaging, self, "the model's optimizer must have use_ema=True", inner)
        for optimizer in averaging:
            optimizer.swap_averages()
        self.swapped = wanted
