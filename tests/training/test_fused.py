"""Many steps in one launch give the bits that steps one by one give, in `fit` and in a loop of one's own.

The ways to train are many; rows are chosen so that every two values of two ways meet in some row.
"""

import itertools
import math

import numpy as np
import pytest

import lamina
from lamina import layers

EPOCHS, ROWS, BATCH = 2, 22, 4

WAYS = {
    "callback": ["none", "reads logs", "epoch hook"],
    "data": ["arrays", "weighted", "generator", "PyDataset"],
    "short": [False, True],  # whether the last batch is
    "shuffle": [False, True],
    "accumulation": [None, 3],
    "ema": [False, True],
    "policy": ["float32", "mixed_bfloat16", "mixed_float16"],
    "model": ["masks", "dropout and norm"],
    "optimizer": ["sgd", "adam", "adamw clipped"],
}


def pairwise(ways):
    """Rows in which every two values of two ways meet: each row takes the values that settle most pairs left over."""
    names = list(ways)
    left = {frozenset(p) for a, b in itertools.combinations(names, 2) for p in itertools.product(
        [(a, v) for v in ways[a]], [(b, v) for v in ways[b]])}  # fmt: skip
    rows = []
    while left:
        row = dict(min(left, key=lambda pair: sorted(map(str, pair))))
        for name in names:
            row.setdefault(
                name, max(ways[name], key=lambda v: sum(frozenset([(name, v), other]) in left for other in row.items()))
            )
        rows.append({name: row[name] for name in names})
        left -= {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}
    return rows


CASES = pairwise(WAYS)


class Reads(lamina.callbacks.Callback):
    """Is called after a launch, for each of its steps."""

    replays = True

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, dict(logs)))


class StepByStep(Reads):
    """Any code may stand in a hook, so that a launch is one step."""

    replays = False


class Epochs(lamina.callbacks.Callback):
    """What changes the model between epochs is met by the next launch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.005


def make(case):
    lamina.utils.set_random_seed(7)
    inner = {
        "masks": lambda: [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(5)],
        "dropout and norm": lambda: [layers.Embedding(9, 4), layers.Flatten(), layers.Dense(8),
                                     layers.BatchNormalization(), layers.Dropout(0.4)],
    }  # fmt: skip
    model = lamina.Sequential(
        [layers.Input((6,), dtype="int32"), *inner[case["model"]](), layers.Dense(3, "softmax", dtype="float32")]
    )
    options = {"use_ema": case["ema"], "gradient_accumulation_steps": case["accumulation"]}
    options["ema_overwrite_frequency"] = 4 if case["ema"] else None
    kind, more = {
        "sgd": (lamina.optimizers.SGD, {"momentum": 0.9}),
        "adam": (lamina.optimizers.Adam, {}),
        "adamw clipped": (lamina.optimizers.AdamW, {"global_clipnorm": 0.1, "weight_decay": 0.01}),
    }[case["optimizer"]]
    model.compile(kind(0.01, **options, **more), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Batches(lamina.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return math.ceil(len(self.arrays[0]) / BATCH)

    def __getitem__(self, i):
        return tuple(a[i * BATCH : (i + 1) * BATCH] for a in self.arrays)


def sources(case):
    rng = np.random.default_rng(0)
    rows = ROWS if case["short"] else ROWS // BATCH * BATCH
    x, y, w = rng.integers(0, 9, (rows, 6)), rng.integers(0, 3, rows), rng.uniform(0.5, 2, rows).astype("float32")
    options = {"shuffle": case["shuffle"]}
    if case["data"] in ("arrays", "weighted"):
        weights = {"sample_weight": w} if case["data"] == "weighted" else {}
        return {"x": x, "y": y, "batch_size": BATCH, **weights, **options}
    batches = Batches(x, y, w)
    if case["data"] == "PyDataset":
        return {"x": batches, **options}
    steps = len(batches)
    return {"x": (batches[i % steps] for i in itertools.count()), "steps_per_epoch": steps}


def trained(case, *callbacks):
    lamina.config.set_dtype_policy(case["policy"])
    try:
        model = make(case)
        history = model.fit(**sources(case), epochs=EPOCHS, verbose=0, callbacks=list(callbacks))
    finally:
        lamina.config.set_dtype_policy("float32")
    return [np.asarray(v) for v in [*model.weights, *model.optimizer.variables]], history.history


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(v).replace(" ", "_") for v in case.values()))
def test_many_steps_in_a_launch_are_the_steps_one_by_one(case):
    always = [Epochs()] if case["callback"] == "epoch hook" else []
    reads, plain = Reads(), StepByStep()
    one, other = (
        trained(case, *always, *([reads] if case["callback"] == "reads logs" else [])),
        trained(case, *always, plain),
    )
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    if reads.seen:
        assert reads.seen == plain.seen


IN_ORDER = [case for case in CASES if not case["shuffle"] and case["callback"] != "epoch hook"]


@pytest.mark.parametrize("case", IN_ORDER, ids=lambda case: "-".join(str(v).replace(" ", "_") for v in case.values()))
def test_a_loop_of_ones_own_takes_the_steps_of_fit(case):
    lamina.config.set_dtype_policy(case["policy"])
    try:
        model, source = make(case), sources(case)
    finally:
        lamina.config.set_dtype_policy("float32")
    data = source["x"]
    if case["data"] in ("arrays", "weighted"):
        arrays = [data, source["y"], *([source["sample_weight"]] if "sample_weight" in source else [])]
        batches = [[a[i : i + BATCH] for a in arrays] for i in range(0, len(data), BATCH)]
    elif case["data"] == "PyDataset":
        batches = [data[i] for i in range(len(data))]
    else:
        batches = list(itertools.islice(data, source["steps_per_epoch"]))
    for batch in batches * EPOCHS:
        model.train_on_batch(*batch)
    if case["ema"]:
        model.optimizer.finalize_variable_values(model.trainable_variables)  # as the end of fit does
    fitted = trained(case)[0]
    for a, b in zip([*model.weights, *model.optimizer.variables], fitted):
        np.testing.assert_array_equal(a, b)


def test_every_two_values_of_two_ways_meet():
    met = {frozenset(pair) for case in CASES for pair in itertools.combinations(case.items(), 2)}
    for a, b in itertools.combinations(WAYS, 2):
        for values in itertools.product(WAYS[a], WAYS[b]):
            assert frozenset(zip((a, b), values)) in met
