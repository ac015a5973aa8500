"""`OrbaxCheckpoint`: saves the state of training with Orbax, while it goes on."""

import os
from typing import Any

from lamina.callbacks.checkpoint import Checkpoint
from lamina.core import checks
from lamina.saving.orbax import content_of, orbax


class OrbaxCheckpoint(Checkpoint):
    """Saves model, optimizer and metrics with Orbax, after each epoch or some number of batches.

    `load_model` makes the model of the latest checkpoint in the folder, and `load_weights` reads it into a model.

    Args:
        directory: the folder, in which each checkpoint has one of its own: the number of the epoch, or of the steps.
        monitor, verbose, save_best_only, save_weights_only, mode, save_freq, initial_value_threshold: as for
            `ModelCheckpoint`.
        max_to_keep: how many checkpoints stay, the latest; `None`: all.
        save_on_background: whether training goes on while a checkpoint is written.

    Raises: ModuleNotFoundError if Orbax is not installed, ValueError if an argument is outside its domain.
    """

    needs_monitored = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = 1,
        save_on_background: bool = True,
        save_weights_only: bool = False,
    ):
        super().__init__(save_freq, monitor, mode, initial_value_threshold, save_best_only, verbose)
        self.directory = checks.path("OrbaxCheckpoint", "directory", directory)
        if max_to_keep is not None:
            checks.integer("OrbaxCheckpoint", "max_to_keep", max_to_keep)
        self.max_to_keep = max_to_keep
        self.save_on_background = save_on_background
        self.save_weights_only = save_weights_only
        self._training = orbax.checkpoint.v1.training
        self._open: Any = None

    @property
    def checkpointer(self) -> Any:
        """The `Checkpointer` of Orbax, open until training ends."""
        if self._open is None:
            kept, every = self._training.preservation_policies, self._training.save_decision_policies
            self._open = self._training.Checkpointer(
                os.path.abspath(self.directory),
                preservation_policy=None if self.max_to_keep is None else kept.LatestN(self.max_to_keep),
                save_decision_policy=every.FixedIntervalPolicy(1),
            )
        return self._open

    def wait_until_finished(self) -> None:
        """Wait until all checkpoints are written."""
        if self._open is not None:
            self._open.wait()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._open is not None:
            self._open.close()  # which waits
            self._open = None

    def place(self, epoch: int, logs: dict[str, Any], batch: int | None) -> str:
        return os.path.join(self.directory, str(epoch if batch is None else int(self.model.optimizer.iterations)))

    def write(self, place: str) -> None:
        checkpointer, step = self.checkpointer, int(os.path.basename(place))
        write = (
            checkpointer.save_checkpointables_async if self.save_on_background else checkpointer.save_checkpointables
        )
        write(step, content_of(self.model, self.save_weights_only), force=True, overwrite=True)
