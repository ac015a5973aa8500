"""Folders of images, texts and sounds as datasets, a class a folder: the files and the order of Keras's loaders."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lamina.core import checks, dtypes
from lamina.core.runtime import keep_freed_memory
from lamina.data import Dataset, elements, flows
from lamina.utils import decoding

_IMAGES, _TEXTS, _SOUNDS = (".bmp", ".gif", ".jpeg", ".jpg", ".png"), (".txt",), (".wav",)
_SKIPPED = object()


class _Folder(NamedTuple):
    """What is asked of any loader, behind who asks, for what kind of file and with which endings of names."""

    who: str
    kind: str
    endings: tuple[str, ...]
    directory: Any
    labels: Any
    label_mode: str | None
    class_names: Sequence[str] | None
    batch_size: int | None
    shuffle: bool
    seed: int | None
    validation_split: float | None
    subset: str | None
    follow_links: bool
    verbose: bool
    on_error: str

    def datasets(self, load: Callable[[str], np.ndarray], join: Callable = elements.stacked) -> Any:
        """The dataset, or those for training and for validation."""
        directory = self._check()
        keep_freed_memory()  # each file needs some, and gives it back
        labelled = self.labels is not None and self.label_mode is not None
        seed = int(np.random.randint(1_000_000)) if self.seed is None else self.seed
        paths, labels, names = self._files(directory, labelled)
        if self.label_mode == "binary" and labelled and len(names) != 2:
            raise ValueError(f'{self.who}: label_mode "binary" needs exactly 2 classes, got {checks.some(names)}.')
        if self.verbose:
            print(f"Found {len(paths)} files{f' belonging to {len(names)} classes' if labelled else ''}.")
        order = np.arange(len(paths))
        if self.shuffle:
            np.random.RandomState(seed).shuffle(order)
        made = []
        for part in ("training", "validation") if self.subset == "both" else (self.subset,):
            rows = self._part(order, part)
            chosen = [paths[i] for i in rows]
            dataset = Dataset(self._flow(chosen, labels[rows] if labelled else None, load, join, part, seed))
            dataset.file_paths = chosen
            dataset.class_names = names if labelled else None  # type: ignore[assignment]
            made.append(dataset)
        return made if self.subset == "both" else made[0]

    def _check(self) -> str:
        who, split = self.who, self.validation_split
        directory = checks.path(who, "directory", self.directory)
        if not os.path.isdir(directory):
            raise FileNotFoundError(f'{who}: directory must be a folder that exists, got "{directory}".')
        listed = isinstance(self.labels, (list, tuple, np.ndarray))
        if not listed and self.labels is not None and self.labels != "inferred":
            raise ValueError(f'{who}: labels must be "inferred", None or a list of integers, got {self.labels!r}.')
        if self.class_names is not None and (listed or self.labels is None):
            raise ValueError(f'{who}: class_names must only be given with labels="inferred".')
        checks.one_of(who, "label_mode", self.label_mode, ("int", "categorical", "binary", None))
        checks.one_of(who, "on_error", self.on_error, ("raise", "skip"))
        checks.one_of(who, "subset", self.subset, ("training", "validation", "both", None))
        if self.batch_size is not None:
            checks.integer(who, "batch_size", self.batch_size)
        if split and not 0 < split < 1:
            raise ValueError(f"{who}: validation_split must be between 0 and 1, got {split!r}.")
        if bool(split) != (self.subset is not None):
            given = f"validation_split={split!r} and subset={self.subset!r}"
            raise ValueError(f"{who}: validation_split and subset must be given together, got {given}.")
        if split and self.shuffle and self.seed is None:
            raise ValueError(
                f"{who}: seed must be given where shuffled files are split, so that no file is in both parts, "
                "got None; give the same to both calls, or shuffle=False."
            )
        return directory

    def _files(self, directory: str, labelled: bool) -> tuple[list[str], np.ndarray, list[str]]:
        """The files, their labels as the model gets them, and the names of the classes."""
        inferred, names = labelled and isinstance(self.labels, str), [""]
        if inferred:
            found = sorted(os.listdir(directory))
            names = [name for name in found if name[0] != "." and os.path.isdir(os.path.join(directory, name))]
            if self.class_names is not None:
                unknown = [name for name in self.class_names if name not in names]
                if unknown:
                    some = f"{checks.some(unknown)}; there are {checks.some(names) or 'none'}"
                    raise ValueError(f"{self.who}: class_names must be names of folders in the directory, got {some}.")
                names = list(self.class_names)
        folders = [os.path.join(directory, name) for name in names]
        found = list(flows.side_by_side(lambda folder: list(self._walked(folder)), folders, flows.cores()))
        paths = [path for files in found for path in files]
        labels = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, found)))
        if labelled and not inferred:
            labels = elements.tidy(list(self.labels), self.who)
            names = [str(label) for label in sorted(set(labels.tolist()))]
            if len(labels) != len(paths):
                rule = f"labels must have one for each of the {len(paths)} files"
                raise ValueError(f"{self.who}: {rule}, got {len(labels)}.")
        if self.label_mode == "binary":
            labels = labels.astype(np.float32)[:, None]
        elif self.label_mode == "categorical":
            labels = (labels[:, None] == np.arange(len(names))).astype(np.float32)
        return paths, labels, names

    def _walked(self, folder: str) -> Iterator[str]:
        for root, _, files in sorted(os.walk(folder, followlinks=self.follow_links), key=lambda each: each[0]):
            yield from (os.path.join(root, name) for name in sorted(files) if name.lower().endswith(self.endings))

    def _part(self, order: np.ndarray, part: str | None) -> np.ndarray:
        held = int((self.validation_split or 0) * len(order))
        rows = (
            order
            if part is None
            else order[len(order) - held :]
            if part == "validation"
            else order[: len(order) - held]
        )
        if not len(rows):
            hint = "; without folders for classes give labels=None" if isinstance(self.labels, str) else ""
            what = f"{part or 'any'} {self.kind} files, whose names end with {' '.join(self.endings)}"
            raise ValueError(f'{self.who}: directory must hold {what}, got "{self.directory}" with {len(order)}{hint}.')
        if part is not None and self.verbose:
            print(f"Using {len(rows)} files for {part}.")
        return rows

    def _flow(
        self, paths: list[str], labels: np.ndarray | None, load: Callable, join: Callable, part: str | None, seed: int
    ) -> flows.Flow:
        broken: dict[str, None] = {}

        def get(number: int) -> Any:
            try:
                content = load(paths[number])
            except Exception as error:
                if self.on_error == "skip":
                    broken[paths[number]] = None
                    return _SKIPPED
                raise ValueError(
                    f'{self.who}: "{paths[number]}" must hold {self.kind} data that can be read, got '
                    f'{type(error).__name__}: {error}; on_error="skip" leaves such files out.'
                ) from error
            return content if labels is None else (content, labels[number, ...])

        def ended(dropped: int) -> None:
            if dropped:
                given = f"{dropped} of {len(paths)} files cannot be read and are left out: {checks.some(list(broken))}"
                warnings.warn(f"{self.who}: {given}.", stacklevel=2)

        flow: flows.Flow = flows.Table(len(paths), get, workers=flows.cores())
        if self.shuffle and not (self.subset == "both" and part == "validation"):
            flow = flows.Shuffled(flow, 8 * self.batch_size if self.batch_size else 1024, seed, True)
        if self.on_error == "skip":
            flow = flows.Kept(flow, lambda element: element is not _SKIPPED, ended)
        if self.batch_size is not None:
            flow = flows.Batched(flow, self.batch_size, False, join)
        return flows.Prefetched(flow, 2)


def image_dataset_from_directory(
    directory: Any, labels: Any = "inferred", label_mode: str | None = "int",
    class_names: Sequence[str] | None = None, color_mode: str = "rgb", batch_size: int | None = 32,
    image_size: Any = (256, 256), shuffle: bool = True, seed: int | None = None,
    validation_split: float | None = None, subset: str | None = None, interpolation: str = "bilinear",
    follow_links: bool = False, crop_to_aspect_ratio: bool = False, pad_to_aspect_ratio: bool = False,
    data_format: str | None = None, format: str = "tf", verbose: bool = True, *, on_error: str = "raise",
) -> Any:  # fmt: skip
    """A dataset of the images in a folder: `(images, labels)`, or images alone.

    The files and their order are those of Keras, and so are the pixels of PNG, BMP and GIF. Those of a JPEG differ by
    up to 4 of 255, since Pillow decodes it, and those of "bicubic" by 0.2, since TensorFlow rounds its weights.

    Args:
        directory: the folder.
        labels: "inferred" from the folders in it; a list with one for each file, by the order of paths; or `None`.
        label_mode: "int", "categorical" (one-hot), "binary" (0.0 and 1.0, of two classes), or `None` for no labels.
        class_names: the folders to read, in the order of their classes.
        color_mode: "rgb", "rgba" or "grayscale".
        batch_size: images in a batch, `None` for one by one.
        image_size: (height, width) that all get.
        shuffle: whether each epoch has an order of its own; else the files go by their names.
        seed: orders and the split are a function of it.
        validation_split: the share of the files that is for validation.
        subset: "training", "validation", or "both", for a list of two datasets.
        interpolation: "bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian" or "mitchellcubic".
        follow_links: whether links to folders inside of the classes are followed.
        crop_to_aspect_ratio: cut the longer side first, so that nothing is stretched.
        pad_to_aspect_ratio: add zeros to the shorter side, so that nothing is stretched.
        data_format: where the channels are.
        format: "tf" or "grain"; either way it is a `lamina.data.Dataset`, which `to_tf()` turns into one of TensorFlow.
        verbose: whether the number of files is printed.
        on_error: "raise" for a file that cannot be read, or "skip", which warns at the end of each epoch.

    Raises: ValueError, or FileNotFoundError, if an argument or the folder does not fit.
    """
    who = "image_dataset_from_directory"
    channels = decoding.CHANNELS[checks.one_of(who, "color_mode", color_mode, decoding.CHANNELS)]
    method = checks.one_of(who, "interpolation", str(interpolation).lower(), decoding.INTERPOLATIONS)
    size = tuple(image_size) if isinstance(image_size, (list, tuple)) else (image_size, image_size)
    if len(size) != 2 or not all(map(checks.is_integer, size)):
        raise ValueError(f"{who}: image_size must be a height and a width above 0, got {image_size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(f"{who}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be set.")
    checks.one_of(who, "format", format, ("tf", "grain"))
    first = dtypes.standardize_data_format(data_format, who) == "channels_first"
    fit = decoding.cropped if crop_to_aspect_ratio else decoding.padded if pad_to_aspect_ratio else decoding.resized

    def load(path: str) -> np.ndarray:
        pixels = fit(decoding.image(path, channels), size, method)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if first else pixels

    return _Folder(
        who, "image", _IMAGES, directory, labels, label_mode, class_names, batch_size, shuffle, seed,
        validation_split, subset, follow_links, verbose, on_error,
    ).datasets(load)  # fmt: skip


def text_dataset_from_directory(
    directory: Any, labels: Any = "inferred", label_mode: str | None = "int",
    class_names: Sequence[str] | None = None, batch_size: int | None = 32, max_length: int | None = None,
    shuffle: bool = True, seed: int | None = None, validation_split: float | None = None, subset: str | None = None,
    follow_links: bool = False, format: str = "tf", verbose: bool = True, *, on_error: str = "raise",
) -> Any:  # fmt: skip
    """A dataset of the texts in a folder: `(texts, labels)`, or texts alone, each the bytes of a file.

    Args:
        max_length: how many bytes of a text are kept.
        directory, labels, label_mode, class_names, batch_size, shuffle, seed: see `image_dataset_from_directory`.
        validation_split, subset, follow_links, format, verbose, on_error: likewise.

    Raises: ValueError, or FileNotFoundError, if an argument or the folder does not fit.
    """
    who = "text_dataset_from_directory"
    checks.one_of(who, "format", format, ("tf", "grain"))
    return _Folder(
        who, "text", _TEXTS, directory, labels, label_mode, class_names, batch_size, shuffle, seed,
        validation_split, subset, follow_links, verbose, on_error,
    ).datasets(lambda path: np.array(Path(path).read_bytes()[:max_length], object))  # fmt: skip


def audio_dataset_from_directory(
    directory: Any, labels: Any = "inferred", label_mode: str | None = "int",
    class_names: Sequence[str] | None = None, batch_size: int | None = 32, sampling_rate: int | None = None,
    output_sequence_length: int | None = None, ragged: bool = False, shuffle: bool = True, seed: int | None = None,
    validation_split: float | None = None, subset: str | None = None, follow_links: bool = False,
    verbose: bool = True, *, on_error: str = "raise",
) -> Any:  # fmt: skip
    """A dataset of the WAV files in a folder: `(sounds, labels)`, or sounds alone, (batch, time, channels).

    Shorter sounds are filled up with zeros, to the length of the longest in a batch or to `output_sequence_length`.

    Args:
        sampling_rate: samples a second that all sounds get; that of each file if not given.
        output_sequence_length: the number of samples that all sounds get, after `sampling_rate`.
        ragged: whether a batch is an array of objects, with one array for each sound in its own length.
        directory, labels, label_mode, class_names, batch_size, shuffle, seed: see `image_dataset_from_directory`.
        validation_split, subset, follow_links, verbose, on_error: likewise.

    Raises: ValueError, or FileNotFoundError, if an argument or the folder does not fit.
    """
    who = "audio_dataset_from_directory"
    for name, value in (("sampling_rate", sampling_rate), ("output_sequence_length", output_sequence_length)):
        if value is not None:
            checks.integer(who, name, value)
    if ragged and output_sequence_length is not None:
        raise ValueError(f"{who}: only one of ragged and output_sequence_length may be set.")
    made = _Folder(
        who,
        "WAV",
        _SOUNDS,
        directory,
        labels,
        label_mode,
        class_names,
        batch_size,
        shuffle,
        seed,
        validation_split,
        subset,
        follow_links,
        verbose,
        on_error,
    ).datasets(
        functools.partial(_sound, rate=sampling_rate, length=output_sequence_length),
        _apart if ragged else elements.padded if output_sequence_length is None else elements.stacked,
    )
    return tuple(made) if isinstance(made, list) else made


def _sound(path: str, rate: int | None, length: int | None) -> np.ndarray:
    samples, given = decoding.sound(path)
    if rate not in (None, given):
        from scipy import signal  # noqa: PLC0415 (slow to load)

        samples = signal.resample_poly(samples, rate, given, axis=0).astype(np.float32)
    if length is None:
        return samples
    return np.pad(samples[:length], ((0, max(0, length - len(samples))), (0, 0)))


def _apart(rows: list[Any]) -> Any:
    """A batch in which sounds keep their lengths."""
    sounds = np.empty(len(rows), object)
    sounds[:] = [row[0] if isinstance(row, tuple) else row for row in rows]
    return (sounds, np.stack([row[1] for row in rows])) if isinstance(rows[0], tuple) else sounds
