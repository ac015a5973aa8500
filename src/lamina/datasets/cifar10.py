"""60,000 photographs of 10 kinds: A. Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

import os
from typing import Any

import numpy as np

from lamina.core.budget import blamed_on
from lamina.core.dtypes import image_data_format
from lamina.datasets.reading import Split, Unpickler, fetch


def load_data() -> Split:
    """`(x_train, y_train), (x_test, y_test)`: 50,000 and 10,000 images `(n, 32, 32, 3)` and kinds `(n, 1)`, uint8.

    The images have their channels first if `image_data_format()` is so.
    """
    files = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]
    (x_train, y_train), (x_test, y_test) = batches("cifar-10-python.tar.gz", "cifar-10-batches-py", files, b"labels")
    return (x_train, y_train.astype("uint8")), (x_test, y_test.astype("uint8"))


def batches(name: str, folder: str, files: Any, labels: bytes) -> Split:
    """Images and labels, to train and to test, of the files in a folder of the archive `name`."""
    root = os.path.join(fetch(name, f"{folder}-target", extract=True), folder)
    order, found = (0, 2, 3, 1) if image_data_format() == "channels_last" else (0, 1, 2, 3), []
    for paths in ([os.path.join(root, file) for file in part] for part in files):
        xs, ys = [], []
        for path in paths:
            with blamed_on(path), open(path, "rb") as file:
                batch = Unpickler(file, encoding="bytes").load()
                xs.append(batch[b"data"].reshape(-1, 3, 32, 32).transpose(order))
                ys.append(np.reshape(batch[labels], (-1, 1)))
        found.append((np.ascontiguousarray(np.concatenate(xs)), np.concatenate(ys)))
    return found[0], found[1]
