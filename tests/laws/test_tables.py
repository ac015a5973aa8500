"""Every public class is in a table, so that the laws of its family hold for it."""

import pytest

from lamina import layers, optimizers
from lamina.optimizers import schedules
from tests.laws import descriptors
from tests.optimizers import test_laws, test_schedules

OF_OPTIMIZERS = {"LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}  # they have tests of their own

# (namespace, the classes in its table, names that cannot stand in it)
TABLES = [
    (layers, {getattr(layers, row.layer) for row in descriptors.ROWS}, descriptors.NOT_IN_ROWS),
    (optimizers, {getattr(optimizers, row[0]) for row in test_laws.ROWS.values()}, OF_OPTIMIZERS | {"Optimizer"}),
    (schedules, {type(schedule) for schedule, _ in test_schedules.CORNERS}, {"LearningRateSchedule"}),
]


@pytest.mark.parametrize(("namespace", "table", "bases"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_public_class_is_in_its_table(namespace, table, bases):
    public = {getattr(namespace, name) for name in set(namespace.__all__) - bases}
    assert {member for member in public if isinstance(member, type)} == table
