"""70,000 pictures of clothes of 10 kinds: H. Xiao and others, 2017, https://arxiv.org/abs/1708.07747 (MIT)."""

import gzip
from typing import Any

import numpy as np

from lamina.core.budget import blamed_on
from lamina.datasets.reading import Split, fetch


def load_data() -> Split:
    """`(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 images `(n, 28, 28)` and kinds `(n,)`, uint8."""
    train, test = ((_read(f"{part}-images-idx3", 28, 28), _read(f"{part}-labels-idx1")) for part in ("train", "t10k"))
    return train, test


def _read(name: str, *shape: int) -> Any:
    path = fetch(f"{name}-ubyte.gz", cache_subdir="datasets/fashion-mnist")
    with blamed_on(path), gzip.open(path) as file:
        return np.frombuffer(bytearray(file.read()), "uint8", offset=8 + 4 * len(shape)).reshape(-1, *shape)
