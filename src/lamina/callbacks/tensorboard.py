"""`TensorBoard`: what training logs, as files that TensorBoard shows."""

import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lamina.callbacks.base import Callback
from lamina.callbacks.control import log_rates
from lamina.callbacks.events import EventWriter
from lamina.core import checks
from lamina.core.checks import require
from lamina.core.dtypes import image_data_format


class TensorBoard(Callback):
    """Writes logs, weights and the graph of the model for TensorBoard: `tensorboard --logdir logs`.

    Training goes into the folder `train`, validation and evaluation into `validation`. A disk that is full, or a
    folder that cannot be written, ends the logging with a warning, and not the training.

    Args:
        log_dir: the folder, one for each run.
        histogram_freq: after how many epochs histograms of the weights are written; 0: never.
        write_graph: whether to write the graph of a functional or sequential model.
        write_images: whether to write the weights as images too, where histograms are.
        write_steps_per_second: whether to write how many steps a second were made.
        update_freq: `"epoch"`, `"batch"`, or after how many batches the running values are written.
        profile_batch: the number of a batch, or of the first and the last, to profile; 0: none.
        embeddings_freq: after how many epochs the tables of `Embedding` layers are written; 0: never.
        embeddings_metadata: a file of labels, or such files by the names of layers.

    Raises: ValueError if an argument is outside its domain, or a name in `embeddings_metadata` not of an embedding.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | tuple[int, int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: str | dict[str, str] | None = None,
    ):
        super().__init__()
        who = type(self).__name__
        self.log_dir = checks.path(who, "log_dir", log_dir)
        self.histogram_freq = checks.integer(who, "histogram_freq", histogram_freq, 0)
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        rule = "update_freq must be 'epoch', 'batch' or a positive integer"
        require(update_freq in ("epoch", "batch") or checks.is_integer(update_freq), self, rule, update_freq)
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self.embeddings_freq = checks.integer(who, "embeddings_freq", embeddings_freq, 0)
        self.embeddings_metadata = embeddings_metadata
        self.replays = self.update_freq != "epoch"
        self._profiled = _batches(self, profile_batch)
        self._writers: dict[str, EventWriter] = {}
        self._batch, self._tracing = 0, False
        self._start: tuple[float, int, int] | None = None  # of the epoch: when, its batch 0, and its first one here

    def get_state(self) -> dict[str, Any]:
        return {"batch": self._batch, "places": {name: writer.place() for name, writer in self._writers.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._close()
        self._batch = state["batch"]
        for name, place in state["places"].items():
            self._writer(name, place)

    def _writer(self, name: str, goes_on: Any = None) -> EventWriter:
        if name not in self._writers:
            self._writers[name] = EventWriter(os.path.join(self.log_dir, name), type(self).__name__, goes_on)
        return self._writers[name]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.flush()
        self._writers = {}

    def set_model(self, model: Any) -> None:
        if model is not self.model:
            self._close()
        super().set_model(model)
        if self.embeddings_freq:
            self._describe_embeddings()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._close()
        self._batch = 0

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._stop_trace()
        self._close()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = None
        if "train" not in self._writers and self.write_graph and getattr(self.model, "inputs", None):
            try:
                self._writer("train").keras_model("keras", self.model.to_json())
            except Exception as error:  # a configuration of a program's own
                warnings.warn(f"TensorBoard: the model's graph is not written: {error}", stacklevel=2)

    def steps_until_needed(self) -> int | None:
        """The number of batches until profiling starts or ends."""
        first, last = self._profiled
        if not first or self._batch >= last:
            return None
        return first - 1 - self._batch if self._batch < first - 1 else last - self._batch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = self._start or (time.perf_counter(), self._batch - batch, self._batch)
        self._batch = self._start[1] + batch
        first, last = self._profiled
        if not self._tracing and 0 < first <= self._batch + 1 <= last:
            try:
                jax.profiler.start_trace(os.path.join(self.log_dir, "train"))
                self._tracing = True
            except Exception as error:  # another profiler runs, or the folder cannot be made
                self._profiled = (0, 0)
                warnings.warn(f"TensorBoard: nothing is profiled: {error}", stacklevel=2)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batch = (self._start or (0.0, 0, 0))[1] + batch + 1
        if self.update_freq != "epoch" and self._batch % int(self.update_freq) == 0:
            self._scalars("train", "batch_{}", self._with_speed(logs or {}), self._batch)
        if self._batch >= self._profiled[1]:
            self._stop_trace()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        held_out = {name.removeprefix("val_"): v for name, v in (logs or {}).items() if name.startswith("val_")}
        own = {name: value for name, value in (logs or {}).items() if not name.startswith("val_")}
        if logs:
            log_rates(self.model, own)
            self._scalars("train", "epoch_{}", self._with_speed(own), epoch)
            self._scalars("validation", "epoch_{}", held_out, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings(epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        iterations = getattr(self.model.optimizer, "iterations", None)
        if iterations is not None:
            self._scalars("validation", "evaluation_{}_vs_iterations", logs or {}, int(iterations))
            self._writer("validation").flush()

    def _scalars(self, folder: str, tag: str, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if np.ndim(value) == 0:  # a metric of many values has no curve
                self._writer(folder).scalar(tag.format(name), value, step)

    def _with_speed(self, logs: dict[str, Any]) -> dict[str, Any]:
        """The logs, and the steps a second of the epoch so far, if these are asked for."""
        if not self.write_steps_per_second or self._start is None:
            return logs
        then, _, first = self._start
        return {**logs, "steps_per_second": (self._batch - first) / (time.perf_counter() - then)}

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for weight in (weight for layer in self.model.layers for weight in layer.weights):
            value = np.asarray(weight.value)
            writer.histogram(f"{weight.path}/histogram", value, epoch)
            picture = _picture(value) if self.write_images else None
            if picture is not None:
                writer.image(f"{weight.path}/image", picture, epoch)

    def _stop_trace(self) -> None:
        if self._tracing:
            self._tracing = False
            with self._writer("train").attempt():
                jax.profiler.stop_trace()

    def _embeddings(self) -> list[Any]:
        return [each for each in self.model.layers if any(c.__name__ == "Embedding" for c in type(each).__mro__)]

    def _describe_embeddings(self) -> None:
        """Write which tables there are, and the files of their labels."""
        names, labels = [layer.name for layer in self._embeddings()], self.embeddings_metadata or {}
        labels = labels if isinstance(labels, Mapping) else dict.fromkeys(names, labels)
        unknown = sorted(set(labels) - set(names))
        known = ", ".join(names) or "none"
        require(not unknown, self, f"embeddings_metadata must be of the model's embeddings ({known})", unknown)
        text = ""
        for name in names:
            text += 'embeddings {\n  tensor_name: "layer_with_weights-0/embeddings/.ATTRIBUTES/VARIABLE_VALUE"\n'
            text += f'  metadata_path: "{os.fspath(labels[name])}"\n' if name in labels else ""
            text += f'  tensor_path: "train/{name}.tsv"\n}}\n'
        with self._writer("train").attempt():
            os.makedirs(self.log_dir, exist_ok=True)
            Path(self.log_dir, "projector_config.pbtxt").write_text(text, encoding="utf-8")

    def _write_embeddings(self, epoch: int) -> None:
        folder = os.path.join(self.log_dir, "train")
        with self._writer("train").attempt():
            os.makedirs(folder, exist_ok=True)
            for layer in self._embeddings():  # what the projector reads
                np.savetxt(os.path.join(folder, f"{layer.name}.tsv"), np.asarray(layer.embeddings.value), "%g", "\t")
            self.model.save_weights(os.path.join(folder, f"keras_embedding.ckpt-{epoch}.weights.h5"))


def _batches(owner: Any, given: Any) -> list[int]:
    """The numbers of the first and the last batch to profile."""
    words = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
    numbers = [int(word) if str(word).strip().isdigit() else -1 for word in words]
    first, last = ends = (numbers * 2)[:2] if 0 < len(numbers) < 3 else [-1, -1]
    require(0 <= first <= last, owner, "profile_batch must be a number of a batch, or of the first and the last", given)
    return ends


def _picture(value: np.ndarray) -> np.ndarray | None:
    """A weight as images (count, height, width, channels), `None` where it has too many axes."""
    value = np.squeeze(value.astype(np.float32))
    if value.ndim == 1:
        return value.reshape(1, -1, 1, 1)
    if value.ndim == 2:
        return (value.T if value.shape[0] > value.shape[1] else value)[None, ..., None]
    if value.ndim == 3:  # every kernel is an image
        return (value.transpose(2, 0, 1) if image_data_format() == "channels_last" else value)[..., None]
    return value if value.ndim == 4 and value.shape[-1] in (1, 3, 4) else None
