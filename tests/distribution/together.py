"""What one of several processes does: `python -m tests.distribution.together NUMBER PROCESSES ADDRESS FOLDER`.

The last line of the first process is what came out, as JSON.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np

import lamina
from lamina import distribution, layers
from lamina.data import windows

X = np.random.default_rng(0).normal(size=(44, 12)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 44)


def make():
    inner = [layers.Dense(16, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.3)]
    model = lamina.Sequential([layers.Input((12,)), *inner, layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Stops(lamina.callbacks.Callback):
    """Stops the training after an epoch, in one process alone."""

    def __init__(self, here):
        super().__init__()
        self.here = here

    def on_epoch_end(self, epoch, logs=None):
        if self.here and epoch == 1:
            self.model.stop_training = True


def stream(batches, slow=False):
    for i in range(batches):
        time.sleep(0.05 if slow else 0)
        yield X[i % 5 * 8 :][:8], Y[i % 5 * 8 :][:8]


@contextlib.contextmanager
def counted(capacity=None):
    """The numbers of batches in the windows of streams, which hold `capacity` at the most."""
    counts, plain, plain_capacity = [], windows.of_stream, windows.capacity_for

    def of_stream(batches):
        for window in plain(batches):
            counts.append(window.count)
            yield window

    windows.of_stream = of_stream
    windows.capacity_for = (lambda size: capacity) if capacity else plain_capacity
    yield counts
    windows.of_stream, windows.capacity_for = plain, plain_capacity


def totals(model, history):
    return [*history.history["loss"], *(float(np.abs(w).sum()) for w in model.get_weights())]


def run(number, count, folder):
    """Each thing that is tried, by name: numbers that must be the same in each process, and on one."""
    last, found = number == count - 1, {}
    for plan in ("data", "fsdp") if count > 1 else (None,):
        distribution.set_distribution(distribution.FullySharded(least=16) if plan == "fsdp" else plan)
        lamina.utils.set_random_seed(0)
        model = make()
        saves = lamina.callbacks.OrbaxCheckpoint(Path(folder) / f"{plan} orbax", "loss")
        held_out = (X[:20], Y[:20])
        history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, validation_data=held_out, callbacks=[saves])
        found[f"arrays {plan}"] = [*totals(model, history), *history.history["val_loss"]]
        found[f"predict {plan}"] = model.predict(X[:7], verbose=0).ravel().tolist()
        model.save(Path(folder) / f"{plan}.keras")
        found[f"saved {plan}"] = (
            lamina.saving.load_model(Path(folder) / f"{plan}.keras").get_weights()[0].ravel().tolist()
        )
        loaded = lamina.saving.load_model(saves.directory)
        for name in ("model", "weights"):
            history = loaded.fit(X, Y, batch_size=8, epochs=1, verbose=0, shuffle=False)
            found[f"{name} of Orbax {plan}"] = totals(loaded, history)
            loaded.load_weights(saves.directory)  # of before
    lamina.utils.set_random_seed(number)  # the first one's holds
    model = make()
    found["seeds"] = totals(model, model.fit(X, Y, batch_size=8, epochs=1, verbose=0))
    found["slow"] = totals(model, model.fit(stream(10, slow=last), steps_per_epoch=5, epochs=2, verbose=0))
    for name, capacity in ("quick", None), ("one by one", 1):
        lamina.utils.set_random_seed(0)
        model = make()
        with counted(capacity) as found[f"windows, {name}"]:
            found[name] = totals(model, model.fit(stream(40), steps_per_epoch=20, epochs=2, verbose=0))
    if count > 1:
        distribution.set_distribution(distribution.DataParallel(auto_shard_dataset=False))
    lamina.utils.set_random_seed(0)
    model, part = make(), 8 // count
    own = ((x[number * part :][:part], y[number * part :][:part]) for x, y in stream(40))
    found["own streams"] = totals(model, model.fit(own, steps_per_epoch=20, epochs=2, verbose=0))
    logs = [
        lamina.callbacks.CSVLogger(Path(folder) / "log.csv"),
        lamina.callbacks.TensorBoard(Path(folder) / "events"),
        lamina.callbacks.ModelCheckpoint(Path(folder) / "best.keras", "loss", save_best_only=True),
        lamina.callbacks.BackupAndRestore(Path(folder) / "backup", delete_checkpoint=False),
    ]
    found["logged"] = totals(model, model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=logs))
    stopped = model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[Stops(last)])
    found["stopped"] = totals(model, stopped)
    if count > 1:  # where no stream ends before the others, there is nothing to agree on
        with np.testing.suppress_warnings() as quiet:
            quiet.filter(UserWarning)
            ended = model.fit(stream(7 if last else 20), steps_per_epoch=5, epochs=3, verbose=0)
        found["ended"] = totals(model, ended)
    source = lamina.data.sources.make_source(X, Y, batch_size=8, shuffle=True, seed=3)
    parts = [window.data[0][: window.count] for window in windows.of_arrays(source, 0)]
    found["own rows"] = [part.shape[1] for part in parts]
    return found


if __name__ == "__main__":
    number, count = map(int, sys.argv[1:3])
    if count > 1:
        distribution.initialize(sys.argv[3], count, number)
    print(json.dumps(run(number, count, sys.argv[4])), flush=True)
