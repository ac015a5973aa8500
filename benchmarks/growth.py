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
BASE = {"batch": 128, "width": 256, "depth": 4, "rows": 4096, "variables": 2}
# What grows -> where it starts, if not at the base. Variables: each layer is cut into parts of the same arithmetic.
GROWS = {"batch": {}, "width": {}, "depth": {}, "rows": {}, "variables": {"variables": 16}}


def main() -> None:
    """Measure every size, each once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs")
    quick = parser.parse_args().quick
    lamina, found = import_module("lamina"), {}
    measured = functools.cache(lambda sizes: step_seconds(lamina, dict(sizes), quick))
    for what, other in GROWS.items():
        for factor in FACTORS:
            sizes = BASE | other
            sizes[what] *= factor
            found[f"{what} {factor}"] = measured(tuple(sizes.items()))
    print(json.dumps(found))


def step_seconds(lamina, sizes: dict, quick: bool) -> float:
    """Seconds of a steady step, from the median epoch."""

    def model(k):
        h = inputs = k.Input((sizes["width"],))
        parts = sizes["variables"] // 2  # a kernel and a bias each
        for _ in range(sizes["depth"]):
            each = [k.layers.Dense(sizes["width"] // parts, activation="relu")(h) for _ in range(parts)]
            h = k.layers.concatenate(each) if parts > 1 else each[0]
        return k.Model(inputs, k.layers.Dense(1)(h))

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
