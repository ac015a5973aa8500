"""`BackupAndRestore`: a run that was killed goes on where it was."""

import contextlib
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamina.callbacks.checkpoint import Checkpoint
from lamina.core import checks
from lamina.core.budget import CorruptFileError
from lamina.core.checks import require
from lamina.core.files import leftovers
from lamina.saving.resume import load_run, save_run


class BackupAndRestore(Checkpoint):
    """Backs a run of `fit` up, so that the same program, started again after whatever end, goes on with it.

    It ends as if nothing had happened, bit for bit: weights, optimizer, seeds, metrics, the order of the rows,
    `History` and the state of every callback that has one. A backup is whole or not there.

    Data must give the same batches when they are read again: of arrays and a `PyDataset` the position is sought, other
    streams are gone through from their beginning.

    Args:
        backup_dir: a folder for this run alone.
        save_freq: `"epoch"`, after how many batches, or `False` for no new backups.
        double_checkpoint: whether to keep the backup before the last one too, for disks that lose files.
        delete_checkpoint: whether to delete the backups when the training has ended.

    Raises: ValueError if `backup_dir` is no path or `save_freq` none of these; or in training, if the backup is damaged
        or of another model.
    """

    comes_last = True

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__("epoch" if save_freq is False else save_freq)
        self.backup_dir = checks.path("BackupAndRestore", "backup_dir", backup_dir)
        require(self.backup_dir, self, "backup_dir must be the path of a folder", backup_dir)
        self.save_freq = save_freq or "never"
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._latest = os.path.join(self.backup_dir, "latest.weights.h5")
        self._previous = os.path.join(self.backup_dir, "previous.weights.h5")
        self._goes_on = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._goes_on = self._restore()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        if self._goes_on and self.listeners is not None and self.listeners.position.batch:
            self._restore()  # within an epoch: what callbacks do at its beginning was done
        self._goes_on = False

    def _restore(self) -> bool:
        """Go on where the last backup was made; whether there is one."""
        found = self._read() if self.listeners is not None else None
        if found is None or self.listeners is None:
            return False
        there, states = found
        self.listeners.set_state(states)
        self.model.stop_training = there.stopped
        if there.stopped:
            there.epoch = max(there.epoch, self.params["epochs"])
        vars(self.listeners.position).update(vars(there))
        return True

    def _read(self) -> Any:
        """The position of the run, and the states of its callbacks, from the last backup that is whole."""
        paths = [path for path in (self._latest, self._previous) if os.path.exists(path)]
        for path in paths:
            try:
                return load_run(path, self.model)
            except CorruptFileError as error:
                if path == paths[-1]:
                    raise
                warnings.warn(f"BackupAndRestore: {error} The backup before it is taken.", stacklevel=2)
        return None

    def save(self, epoch: int, logs: dict[str, Any], batch: int | None) -> None:
        stopped = bool(self.model.stop_training)
        if self.listeners is None or (stopped and batch is not None):  # what is left of this epoch has no batches
            return
        position = replace(self.listeners.position, stopped=stopped)
        position.move(*((epoch + 1,) if batch is None else (epoch, batch + 1, logs)))
        try:
            os.makedirs(self.backup_dir, exist_ok=True)
            if self.double_checkpoint and os.path.exists(self._latest):
                os.replace(self._latest, self._previous)
            save_run(self._latest, self.model, position, self.listeners.get_state())
        except OSError as error:
            warnings.warn(f"BackupAndRestore: no backup could be written, the training goes on: {error}.", stacklevel=2)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self.delete_checkpoint or not os.path.isdir(self.backup_dir):
            return
        for left in leftovers(Path(self._latest)):
            shutil.rmtree(left, ignore_errors=True)
        for path in (self._latest, self._previous):
            Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # files of others stay
            os.rmdir(self.backup_dir)
