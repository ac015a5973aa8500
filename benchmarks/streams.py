"""The rows of a workload as what else people hold them in: each gives the same batches, shuffled, epoch after epoch."""

import itertools
import math
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def generator(library, x, y, batch: int) -> dict[str, Any]:
    """An endless generator, and the steps of an epoch."""
    rng, steps = np.random.default_rng(0), math.ceil(len(x) / batch)

    def batches():
        for _ in itertools.count():
            order = rng.permutation(len(x))
            for first in range(0, len(x), batch):
                rows = order[first : first + batch]
                yield x[rows], y[rows]

    return {"x": batches(), "steps_per_epoch": steps}


def sequence(library, x, y, batch: int) -> dict[str, Any]:
    """A `PyDataset`."""

    class Batches(library.utils.PyDataset):
        def __init__(self):
            super().__init__()
            self.order = np.random.default_rng(0).permutation(len(x))

        def __len__(self):
            return math.ceil(len(x) / batch)

        def __getitem__(self, i):
            rows = self.order[i * batch : (i + 1) * batch]
            return x[rows], y[rows]

    return {"x": Batches()}


def tf_data(library, x, y, batch: int) -> dict[str, Any]:
    """A `tf.data.Dataset`."""
    tf = import_module("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    return {"x": rows.shuffle(len(x), seed=0).batch(batch).prefetch(tf.data.AUTOTUNE)}


def loader(library, x, y, batch: int) -> dict[str, Any]:
    """A `DataLoader` of torch."""
    torch = import_module("torch")
    data = import_module("torch.utils.data")
    rows = data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    return {"x": data.DataLoader(rows, batch_size=batch, shuffle=True)}


def folder(library, x, y, batch: int) -> dict[str, Any]:
    """JPEG files in a folder for each class, read by the library's own loader."""
    image_module = import_module("PIL.Image")
    place = Path(tempfile.mkdtemp())
    pixels = (np.clip(x / 2, 0, 1) * 255).astype("uint8")[..., 0]
    for i, (image, label) in enumerate(zip(pixels, y)):
        (place / str(label)).mkdir(exist_ok=True)
        image_module.fromarray(image).save(place / str(label) / f"{i}.jpg")
    options = {"color_mode": "grayscale", "image_size": x.shape[1:3], "batch_size": batch, "seed": 0, "verbose": False}
    return {"x": library.utils.image_dataset_from_directory(place, **options)}


# What a row of the table is called -> what makes it.
STREAMS = {
    "generator": generator,
    "PyDataset": sequence,
    "tf.data": tf_data,
    "DataLoader": loader,
    "JPEG files": folder,
}
