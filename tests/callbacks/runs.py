"""A training that is stopped in several ways, and what it ends with; also run as a process of its own, to be killed."""

import os
import signal
import types

import h5py
import numpy as np

import lamina as keras
from lamina.saving import resume, weights

EPOCHS, SIZE, BATCHES = 4, 46, 6  # the last batch is a short one
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(SIZE, 4)).astype("float32")
Y = (X @ RANDOM.normal(size=(4, 1))).astype("float32")


class Stop(keras.callbacks.Callback):
    """Ends the run in its own way at a batch of an epoch."""

    def __init__(self, how=None, epoch=-1, batch=-1):
        super().__init__()
        self.how, self.where, self.epoch = how, (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.where:
            end(self.how)


class Counts(keras.callbacks.Callback):
    """A program's own callback with a state of many kinds."""

    state_fields = ("met",)

    def __init__(self):
        super().__init__()
        self.met = {"a": (1, [np.arange(3)]), 7: None}

    def on_epoch_begin(self, epoch, logs=None):
        self.met["epoch", epoch] = self.met.get(("epoch", epoch), 0) + 1


class Rows(keras.utils.PyDataset):
    """A dataset that shuffles itself."""

    def __init__(self):
        super().__init__()
        self.order, self.random = np.arange(SIZE), np.random.default_rng(1)

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        rows = self.order[8 * index : 8 * index + 8]
        return X[rows], Y[rows]

    def on_epoch_end(self):
        self.random.shuffle(self.order)


def endless(seed):
    random = np.random.default_rng(seed)
    while True:
        rows = random.permutation(SIZE)[:8]
        yield X[rows], Y[rows]


def end(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise how("on purpose")


def data_of(kind):
    if kind == "dataset":
        return {"x": Rows(), "validation_data": (X[:10], Y[:10])}
    if kind == "generator":
        steps = {"steps_per_epoch": BATCHES, "validation_steps": 2}
        return {"x": endless(2), "validation_data": endless(3), "validation_freq": 2, **steps}
    return {"x": X, "y": Y, "batch_size": 8, "validation_data": (X[:10], Y[:10])}


def model_of(policy, eager):
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((4,)), layers.Dense(8, "relu", dtype=policy), layers.Dropout(0.3), layers.GaussianNoise(0.1)),
            *(layers.BatchNormalization(), layers.Lambda(lambda x: x + keras.random.normal((1,)) * 0.01)),
            layers.Dense(1, dtype=policy),
        ]
    )
    optimizer = keras.optimizers.Adam(0.02, use_ema=True, gradient_accumulation_steps=3)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse", metrics=["mae", keras.metrics.R2Score()], run_eagerly=eager)
    return model


def train(folder, kind="arrays", save_freq=4, seed=7, stop=(), half=True, eager=False, write_dies=0, **options):
    """What a run has in the end, by name. Stopped runs leave their files in the folder."""
    keras.utils.set_random_seed(seed)
    model = model_of("mixed_float16" if half else "float32", eager)
    callbacks = keras.callbacks
    counts = Counts()
    listeners = [
        callbacks.BackupAndRestore(folder / "backup", save_freq, **options),
        callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.5),
        callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
        callbacks.CSVLogger(folder / "log.csv"),
        callbacks.ModelCheckpoint(folder / "best.weights.h5", "loss", save_weights_only=True, save_best_only=True),
        callbacks.TensorBoard(folder / "logs", update_freq=1),
        *(counts, Stop(*stop)),
    ]
    if write_dies:
        die_while_writing(write_dies)
    history = model.fit(epochs=EPOCHS, verbose=0, callbacks=listeners, **data_of(kind))
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return {
        "arrays": [np.asarray(v.value).tobytes() for v in variables],
        "history": (history.history, history.epoch),
        "callbacks": (repr(counts.met), listeners[1].get_state()["best"], listeners[2].get_state()),
        "rows": (folder / "log.csv").read_text(),
        "best": arrays_in(folder / "best.weights.h5"),
        "backup": (folder / "backup").exists(),
    }


def arrays_in(path):
    found = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item).tobytes()

    with h5py.File(path) as file:
        file.visititems(take)
    return found


def die_while_writing(number):
    """Be killed in the middle of writing a backup, the one of this number."""
    count = []

    def dying(model, sink):
        weights.save(model, sink)
        count.append(sink)
        if len(count) == number:
            sink.files[-1].flush()
            end("kill")

    resume.weights = types.SimpleNamespace(**{**vars(weights), "save": dying})
