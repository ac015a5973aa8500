"""How a step of lamina's `fit` grows with what it is given: a multi-layer perceptron at one, two and four times.

python -m benchmarks.growth [--quick]     # prints seconds of a steady step as JSON
"""

import argparse
import functools
import json
import math
import statistics
from importlib import import_module

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


def main() -> None:
    """Measure every size, each once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs")
    quick = parser.parse_args().quick
    lamina, found = import_module("lamina"), {}
    measured = functools.cache(lambda sizes: step_seconds(lamina, dict(sizes), quick))
    for what, (size, other) in GROWS.items():
        for factor in FACTORS:
            sizes = BASE | other
            sizes[size] *= factor
            found[f"{what} {factor}"] = measured(tuple(sizes.items()))
    print(json.dumps(found))


def step_seconds(lamina, sizes: dict, quick: bool) -> float:
    """Seconds of a steady step, from the median epoch."""

    def model(k):
        hidden = [k.layers.Dense(sizes["width"], activation="relu") for _ in range(sizes["depth"])]
        return k.Sequential([k.Input((sizes["width"],)), *hidden, k.layers.Dense(1)])

    workload = Workload(
        "", model, None, records(sizes["width"]), rows=sizes["rows"], quick_rows=sizes["rows"] // 4,
        batch=sizes["batch"], epochs=3 if quick else 8, loss="MeanSquaredError", metrics=(),
    )  # fmt: skip
    run = KerasRun(lamina, workload, quick)
    run.build()
    return statistics.median(run.fit(workload.epochs)[1:]) / workload.steps(quick)


def exponent(times) -> float:
    """The slope of the logarithm of the times over that of the factors."""
    logs = [[math.log(value) for value in values] for values in (FACTORS, times)]
    return statistics.linear_regression(*logs).slope


if __name__ == "__main__":
    main()
