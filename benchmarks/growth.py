"""How a step of lamina's `fit` grows with what it is given: a multi-layer perceptron at one, two and four times."""

import functools
import math
import statistics

from .worker import KerasRun
from .workloads.data import records
from .workloads.workload import Workload

FACTORS = (1, 2, 4)
BASE = {"batch": 128, "width": 256, "depth": 4, "rows": 4096}
# What grows -> which size that is, and what else starts elsewhere. In layers of 8 a variable costs, not its numbers.
GROWS = {
    "batch": ("batch", {}),
    "width": ("width", {}),
    "depth": ("depth", {}),
    "rows": ("rows", {}),
    "variables": ("depth", {"width": 8, "depth": 32}),
}


def measure(lamina, quick: bool) -> dict[str, float]:
    """Seconds of a steady step at every size, each measured once."""
    measured = functools.cache(lambda sizes: step_seconds(lamina, dict(sizes), quick))
    found = {}
    for what, (size, other) in GROWS.items():
        for factor in FACTORS:
            sizes = BASE | other
            sizes[size] *= factor
            found[f"{what} {factor}"] = measured(tuple(sizes.items()))
    return found


def step_seconds(lamina, sizes: dict, quick: bool) -> float:
    """Seconds of a steady step, from the median epoch."""

    def model(k):
        hidden = [k.layers.Dense(sizes["width"], activation="relu") for _ in range(sizes["depth"])]
        return k.Sequential([k.Input((sizes["width"],)), *hidden, k.layers.Dense(1)])

    workload = Workload(
        "", model, None, functools.partial(records, columns=sizes["width"]), sizes["rows"], sizes["rows"],
        sizes["batch"], epochs=3 if quick else 8, loss="MeanSquaredError", metrics=(),
    )  # fmt: skip
    run = KerasRun(lamina, workload, quick)
    run.build()
    return statistics.median(run.fit(workload.epochs)[1:]) / workload.steps(quick)


def exponent(times) -> float:
    """The slope of the logarithm of the times over that of the factors."""
    logs = [[math.log(value) for value in values] for values in (FACTORS, times)]
    return statistics.linear_regression(*logs).slope
