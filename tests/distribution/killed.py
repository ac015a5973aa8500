"""One of two processes that are killed while they save: `... tests.distribution.killed NUMBER ADDRESS FOLDER KIND AT`.

What was saved first is noted in `expected.npz`; then both save again, and the first is killed where it would rename a
file, at the time `AT`.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

import numpy as np

import lamina
from lamina import distribution
from tests.distribution.together import X, Y, make


def fit(model, folder, kind, epoch):
    saves = {
        "backup": lambda: lamina.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False),
        "orbax": lambda: lamina.callbacks.OrbaxCheckpoint(folder / "orbax", "loss"),
    }
    callbacks = [saves[kind]()] if kind in saves else []
    model.fit(X, Y, batch_size=8, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=callbacks)
    if kind == "json":
        model.save_weights(folder / "m.weights.json", max_shard_size=1e-6)


def dying(rename, at):
    """`rename`, which ends the process in place of its call number `at`."""
    calls = itertools.count(1)

    def call(*args, **kwargs):
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*args, **kwargs)

    return call


if __name__ == "__main__":
    number, folder, kind = int(sys.argv[1]), Path(sys.argv[3]), sys.argv[4]
    distribution.initialize(sys.argv[2], 2, number)
    distribution.set_distribution(distribution.FullySharded(least=16))
    lamina.utils.set_random_seed(0)
    model = make()
    fit(model, folder, kind, 0)
    expected = model.get_weights()
    if number == 0:
        np.savez(folder / "expected.npz", *expected)
        os.replace = os.rename = dying(os.replace, int(sys.argv[5]))
    fit(model, folder, kind, 1)
