"""Layers in the worker processes of a loader, which are forked and must not touch the device."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")

SCRIPT = """
import warnings

import numpy as np
import torch

import lamina as keras

warnings.simplefilter("ignore")  # JAX does not like forks
text = keras.layers.TextVectorization(output_sequence_length=4)
text.adapt(["a b c", "b c d e"])
numbers = keras.layers.Normalization()
numbers.adapt(np.arange(12.0).reshape(4, 3))
bins = keras.layers.Discretization([0.0, 1.0])
words = keras.layers.StringLookup(vocabulary=["a", "b"])
hashes = keras.layers.Hashing(5)


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        x = np.full((1, 3), i, "float32")
        parts = [text(["a b zz"]), numbers(x), bins(x), words(np.array([["a", "c"]])), hashes(np.array([[i]]))]
        assert all(isinstance(part, np.ndarray) for part in parts)
        return np.concatenate([np.asarray(part, "float32").ravel() for part in parts])


loader = torch.utils.data.DataLoader(Rows(), batch_size=2, num_workers=1, timeout=60)
for batch in loader:
    print(tuple(batch.shape))
"""


def test_layers_of_texts_and_numbers_run_in_forked_workers(tmp_path):
    (tmp_path / "rows.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "rows.py"], capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["(2, 13)", "(2, 13)"]
