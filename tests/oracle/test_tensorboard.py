"""`TensorBoard` writes the tags, steps and values that Keras's writes.

Keras's loses what belongs to an epoch whose last batch is none to be recorded: here there are 4 batches.
"""

import keras
import numpy as np
import pytest

import lamina
from tests.callbacks.event_files import values_in

OPTIONS = {"histogram_freq": 2, "write_images": True, "update_freq": 2, "write_steps_per_second": True}
RANDOM = np.random.RandomState(1)
X = RANDOM.rand(20, 3, 2).astype("float32")
Y = X.sum(axis=(1, 2))[:, None]
WEIGHTS = [RANDOM.rand(*s).astype("float32") * 0.2 for s in [(2, 2, 4), (4,), (8, 3), (3,), (3, 1), (1,)]]


def run(library, folder):
    layers = library.layers
    first = [library.Input((3, 2)), layers.Conv1D(4, 2, name="conv"), layers.Flatten()]
    model = library.Sequential([*first, layers.Dense(3, name="first"), layers.Dense(1, name="b")], name="m")
    model.compile("sgd", "mse", metrics=["mae"])
    model.set_weights(WEIGHTS)
    board = library.callbacks.TensorBoard(folder, **OPTIONS)
    data = {"batch_size": 5, "shuffle": False, "validation_data": (X, Y)}
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[board], **data)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorflow, which Keras's needs
def test_files_are_those_of_keras(tmp_path):
    run(keras, tmp_path / "keras")
    run(lamina, tmp_path / "lamina")
    for part in ("train", "validation"):
        theirs, ours = (values_in(tmp_path / who / part) for who in ("keras", "lamina"))
        assert set(ours) == set(theirs)
        for key, (plugin, content, value) in theirs.items():
            assert ours[key][:2] == (plugin, content), key
            if plugin == "histograms":
                assert np.allclose(ours[key][2][:, :2], value[:, :2], atol=1e-5), key
                assert abs(ours[key][2][:, 2] - value[:, 2]).sum() <= 2, key  # a value that rounds across an edge
            elif plugin == "images":
                assert ours[key][2][:2].tolist() == value[:2].tolist() and len(ours[key][2]) == len(value), key
            elif plugin == "scalars" and "per_second" not in key[1]:
                assert np.allclose(ours[key][2], value, rtol=1e-4), key
