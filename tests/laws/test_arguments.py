"""What a constructor is given is good, or refused in one line that says who, what and what was given."""

import inspect
import re

import numpy as np
import pytest

import lamina
from lamina import callbacks, constraints, initializers, layers, losses, metrics, optimizers, regularizers
from lamina.core import domains
from lamina.optimizers import schedules
from tests.laws.descriptors import ROWS

FIRST = list({row.layer: row for row in reversed(ROWS)}.values())
NAMESPACES = (layers, losses, metrics, optimizers, schedules, callbacks, initializers, regularizers, constraints)
SGD = optimizers.SGD()
NEEDED = {
    "GroupedQueryAttention": {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 2},
    "IoU": {"num_classes": 2, "target_class_ids": [0]},
    "LearningRateScheduler": {"schedule": abs},
    "LossScaleOptimizer": {"inner_optimizer": SGD},
    "MeanMetricWrapper": {"fn": abs},
    "MultiOptimizer": {"optimizer_map": optimizers.OptimizerMap(SGD)},
    "OneHotIoU": {"num_classes": 2, "target_class_ids": [0]},
    "OptimizerMap": {"default_optimizer": SGD},
    "Pipeline": {"layers": []},
    "PiecewiseConstantDecay": {"boundaries": [1], "values": [0.1, 0.2]},
}
# One of everything that some argument somewhere is not, and numbers at the ends of what they may be.
ONE_LINE = r"""^[A-Za-z]\w*( ".*"| '.*')?: .*$"""
ODD = (-1, 0, 1.5, float("nan"), float("inf"), "odd", "", None, [], (2, 2, 2, 2, 2), {}, [None], np.ones(2))


def annotated():
    """Each class, and an argument of which its annotation says what it is."""
    for namespace in NAMESPACES:
        for cls in dict.fromkeys(getattr(namespace, name) for name in namespace.__all__):
            if isinstance(cls, type):
                for name in domains.of_signature(domains.signature_of(cls)):
                    yield pytest.param(cls, name, id=f"{cls.__name__}-{name}")


def needed(cls):
    """What the constructor does not work without."""
    parameters = inspect.signature(cls).parameters
    usual = {name: {int: 2, float: 0.5}.get(parameters[name].annotation, "name") for name in parameters}
    return NEEDED.get(cls.__name__) or {n: v for n, v in usual.items() if parameters[n].default is parameters[n].empty}


@pytest.mark.parametrize(("cls", "name"), list(annotated()))
def test_what_is_nothing_that_the_annotation_names_is_refused(cls, name):
    row = next((row for row in FIRST if getattr(layers, row.layer) is cls), None)
    with pytest.raises(ValueError, match=rf'^{cls.__name__}( ".*")?: .*\b{name}\b.* must .*(<(?i:object)|True)'):
        cls(**needed(cls) | {name: object()}) if row is None else row.make(**{name: object()})


@pytest.mark.parametrize("row", FIRST, ids=lambda row: row.layer)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinity times zero, where infinity is allowed
def test_a_layer_works_with_what_it_is_given_or_refuses_it_in_one_line(row):
    parameters = inspect.signature(getattr(layers, row.layer)).parameters.values()
    wrong = []
    for name in [p.name for p in parameters if p.kind in domains.NAMED]:
        for value in ODD:
            try:
                row.make(**{name: value})(*row.symbolic(), **row.call)
            except Exception as error:
                good = isinstance(error, (ValueError, TypeError)) and re.match(ONE_LINE, str(error))
                wrong += [] if good else [f"{name}={value!r}: {type(error).__name__}: {error}"]
    assert not wrong


X, Y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("fit", {"x": X, "y": Y, "epochs": "2"}, "epochs must be "),
        ("fit", {"x": X, "y": Y, "dry_run": np.ones(2)}, "dry_run must be True or False, got float64"),
        ("evaluate", {"x": X, "y": Y, "return_dict": np.ones(2)}, "return_dict must be True or False, got f"),
        ("predict", {"x": X, "batch_size": {}}, "batch_size must be "),
        ("summary", {"positions": 3}, "positions must be a sequence of numbers, got 3"),
        ("summary", {"print_fn": "print"}, "print_fn must be a function, got 'print'"),
        ("set_weights", {"weights": 3}, "weights must be a sequence of values, got 3"),
        ("save", {"filepath": 3}, "filepath must be a path, got 3"),
        ("load_weights", {"filepath": None}, "filepath must be a path, got None"),
    ],
)
def test_a_method_refuses_what_is_no_value_of_its_argument_and_changes_nothing(method, arguments, said):
    model = lamina.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=rf"^\w+: {said}") as caught:
        getattr(model, method)(**arguments)
    assert "\n" not in str(caught.value)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
