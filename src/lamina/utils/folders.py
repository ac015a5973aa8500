"""Folders of images, texts and sounds as datasets, a class a folder: the files and the order of Keras's loaders."""

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from lamina.core import checks, dtypes
from lamina.core.runtime import keep_freed_memory
from lamina.data import Dataset, elements, flows
from lamina.data.caches import Decoded
from lamina.utils import decoding


class _Folder(NamedTuple):
    """Files of a kind, by the endings of their names, for `who`, who was called with the arguments `asked`."""

    who: str
    kind: str
    endings: tuple[str, ...]
    asked: Any

    def datasets(self, load: Callable[[str], np.ndarray], join: Callable = elements.stacked) -> Any:
        """The dataset, or those for training and for validation."""
        who, asked = self.who, self.asked
        labelled = asked.labels is not None and asked.label_mode is not None
        directory = self._check(labelled)
        keep_freed_memory()  # each file needs some, and gives it back
        seed = int(np.random.randint(1_000_000)) if asked.seed is None else asked.seed
        paths, labels, names = self._files(directory, labelled)
        if asked.label_mode == "binary" and labelled and len(names) != 2:
            raise ValueError(f'{who}: label_mode "binary" needs exactly 2 classes, got {checks.some(names) or "none"}.')
        self._say(f"Found {len(paths)} files{f' belonging to {len(names)} classes' if labelled else ''}.")
        order = np.arange(len(paths))
        if asked.shuffle:
            np.random.RandomState(seed).shuffle(order)
        made = []
        for part in ("training", "validation") if asked.subset == "both" else (asked.subset,):
            rows = self._part(order, part)
            chosen = [paths[i] for i in rows]
            flow = self._read(chosen, labels[rows] if labelled else None, load)
            if asked.shuffle and not (asked.subset == "both" and part == "validation"):
                flow = flows.Shuffled(flow, 8 * (asked.batch_size or 128), seed)
            flow = self._whole(flow, chosen)
            if asked.batch_size is not None:
                flow = flows.Batched(flow, asked.batch_size, False, join)
            made.append(Dataset(flows.Prefetched(flow)))
            made[-1].class_names, made[-1].file_paths = names if labelled else None, chosen  # type: ignore[assignment]
        return made if asked.subset == "both" else made[0]

    def _say(self, text: str) -> None:
        if self.asked.verbose:
            print(text)

    def _check(self, labelled: bool) -> str:
        who, asked = self.who, self.asked
        directory, labels, split = checks.path(who, "directory", asked.directory), asked.labels, asked.validation_split
        if not os.path.isdir(directory):
            raise FileNotFoundError(f'{who}: directory must be a folder that exists, got "{directory}".')
        inferred = isinstance(labels, str) and labels == "inferred"
        if not inferred and labels is not None and not isinstance(labels, (list, tuple, np.ndarray)):
            raise ValueError(f'{who}: labels must be "inferred", None or a list of integers, got {labels!r}.')
        if asked.class_names is not None and not (inferred and labelled):
            raise ValueError(f"{who}: class_names must only be given where labels are inferred from folders.")
        checks.one_of(who, "label_mode", asked.label_mode, ("int", "categorical", "binary", None))
        checks.one_of(who, "on_error", asked.on_error, ("raise", "skip"))
        checks.one_of(who, "subset", asked.subset, ("training", "validation", "both", None))
        checks.integer(who, "batch_size", 1 if asked.batch_size is None else asked.batch_size)
        checks.require(not split or 0 < split < 1, who, "validation_split must be between 0 and 1", split)
        if bool(split) != (asked.subset is not None):
            given = f"validation_split={split!r} and subset={asked.subset!r}"
            raise ValueError(f"{who}: validation_split and subset must be given together, got {given}.")
        if split and asked.shuffle and asked.seed is None:
            rule = "must be given where shuffled files are split, so that no file is in both parts"
            raise ValueError(f"{who}: seed {rule}, got None; give the same to both calls, or shuffle=False.")
        return directory

    def _files(self, directory: str, labelled: bool) -> tuple[list[str], np.ndarray, list[str]]:
        """The files, their labels as the model gets them, and the names of the classes."""
        asked, names = self.asked, [""]
        inferred = labelled and isinstance(asked.labels, str)
        if inferred:
            inside = sorted(os.listdir(directory))
            known = [name for name in inside if name[0] != "." and os.path.isdir(os.path.join(directory, name))]
            names = known if asked.class_names is None else list(asked.class_names)
            unknown = [name for name in names if name not in known]
            if unknown:
                given = f"{checks.some(unknown)}; there are {checks.some(known) or 'none'}"
                raise ValueError(f"{self.who}: class_names must be names of folders in the directory, got {given}.")
        found = [list(self._walked(os.path.join(directory, name))) for name in names]
        paths = [path for files in found for path in files]
        labels = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, found)))
        if labelled and not inferred:
            labels = elements.tidy(list(asked.labels), self.who)
            names = [str(label) for label in sorted(set(labels.tolist()))]
            rule = f"labels must have one for each of the {len(paths)} files"
            checks.require(len(labels) == len(paths), self.who, rule, len(labels))
        if asked.label_mode == "binary":
            labels = labels.astype(np.float32)[:, None]
        elif asked.label_mode == "categorical":
            labels = (labels[:, None] == np.arange(len(names))).astype(np.float32)
        return paths, labels, names

    def _walked(self, folder: str) -> Iterator[str]:
        for root, _, files in sorted(os.walk(folder, followlinks=self.asked.follow_links), key=lambda each: each[0]):
            yield from (os.path.join(root, name) for name in sorted(files) if name.lower().endswith(self.endings))

    def _part(self, order: np.ndarray, part: str | None) -> np.ndarray:
        """The numbers of the files for training or for validation."""
        first = len(order) - int((self.asked.validation_split or 0) * len(order))
        rows = order[first:] if part == "validation" else order[:first]
        if not len(rows):
            hint = "; without folders for classes give labels=None" if isinstance(self.asked.labels, str) else ""
            what = f"{part or 'any'} {self.kind} files, whose names end with {' '.join(self.endings)}"
            given = f'"{self.asked.directory}" with {len(order)}{hint}'
            raise ValueError(f"{self.who}: directory must hold {what}, got {given}.")
        if part is not None:
            self._say(f"Using {len(rows)} files for {part}.")
        return rows

    def _read(self, paths: list[str], labels: np.ndarray | None, load: Callable[[str], np.ndarray]) -> flows.Flow:
        """What is in the files; for one that cannot be read its path, if such are to be left out."""

        def get(number: int) -> Any:
            path = paths[number]
            try:
                content = load(path)
            except Exception as error:
                if self.asked.on_error == "skip":
                    return path
                given = f'{type(error).__name__}: {error}; on_error="skip" leaves such files out'
                rule = f"must hold {self.kind} data that can be read"
                raise ValueError(f'{self.who}: "{path}" {rule}, got {given}.') from error
            return content if labels is None else (content, labels[number, ...])

        return flows.Table(len(paths), get, workers=flows.cores())

    def _whole(self, flow: flows.Flow, paths: list[str]) -> flows.Flow:
        """Without what is only the path of a file."""
        if self.asked.on_error == "raise":
            return flow

        def ended(dropped: list[str]) -> None:
            given = f"{len(dropped)} of {len(paths)} files cannot be read and are left out: {checks.some(dropped)}"
            warnings.warn(f"{self.who}: {given}.", stacklevel=2)

        return flows.kept(flow, lambda element: not isinstance(element, str), ended)


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
    who, asked = "image_dataset_from_directory", SimpleNamespace(**locals())
    channels = decoding.CHANNELS[checks.one_of(who, "color_mode", color_mode, decoding.CHANNELS)]
    method = checks.one_of(who, "interpolation", str(interpolation).lower(), decoding.INTERPOLATIONS)
    size = checks.height_and_width(who, "image_size", image_size)
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(f"{who}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be set.")
    checks.one_of(who, "format", format, ("tf", "grain"))
    first = dtypes.standardize_data_format(data_format, who) == "channels_first"
    fit = decoding.cropped if crop_to_aspect_ratio else decoding.padded if pad_to_aspect_ratio else decoding.resized

    def load(path: str) -> np.ndarray:
        pixels = fit(decoding.image(path, channels), size, method)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if first else pixels

    return _Folder(who, "image", (".bmp", ".gif", ".jpeg", ".jpg", ".png"), asked).datasets(Decoded(load))


def text_dataset_from_directory(
    directory: Any, labels: Any = "inferred", label_mode: str | None = "int",
    class_names: Sequence[str] | None = None, batch_size: int | None = 32, max_length: int | None = None,
    shuffle: bool = True, seed: int | None = None, validation_split: float | None = None, subset: str | None = None,
    follow_links: bool = False, format: str = "tf", verbose: bool = True, *, on_error: str = "raise",
) -> Any:  # fmt: skip
    """A dataset of the texts in a folder: `(texts, labels)`, or texts alone, each the content of a file.

    Args:
        max_length: how much of a text is kept.
        format: "tf" makes a text bytes, "grain" a string.
        directory, labels, label_mode, class_names, batch_size, shuffle, seed: see `image_dataset_from_directory`.
        validation_split, subset, follow_links, verbose, on_error: likewise.

    Raises: ValueError, or FileNotFoundError, if an argument or the folder does not fit.
    """
    who, asked = "text_dataset_from_directory", SimpleNamespace(**locals())
    checks.one_of(who, "format", format, ("tf", "grain"))
    checks.integer(who, "max_length", max_length or 0, 0)

    def load(path: str) -> np.ndarray:
        content = Path(path).read_bytes()
        return np.array((content.decode() if format == "grain" else content)[:max_length], object)

    return _Folder(who, "text", (".txt",), asked).datasets(load)


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
    who, asked = "audio_dataset_from_directory", SimpleNamespace(**locals())
    for name, value in (("sampling_rate", sampling_rate), ("output_sequence_length", output_sequence_length)):
        if value is not None:
            checks.integer(who, name, value)
    if ragged and output_sequence_length is not None:
        raise ValueError(f"{who}: only one of ragged and output_sequence_length may be set.")
    made = _Folder(who, "WAV", (".wav",), asked).datasets(
        Decoded(functools.partial(_sound, rate=sampling_rate, length=output_sequence_length)),
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
    for i, row in enumerate(rows):  # at once, NumPy would make one array of those of the same length
        sounds[i] = row[0] if isinstance(row, tuple) else row
    return (sounds, np.stack([row[1] for row in rows])) if isinstance(rows[0], tuple) else sounds
