"""Laws that hold for every regularizer and every constraint, over one table, and the numbers of each."""

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import constraints, regularizers
from lamina.core.variable import Variable


class Row(NamedTuple):
    family: Any
    cls: Any
    config: dict  # the arguments, and what get_config returns

    @property
    def path(self):
        return self.family.__name__.removeprefix("lamina.")


REGULARIZERS = [
    Row(regularizers, regularizers.L1, {"l1": 0.5}),
    Row(regularizers, regularizers.L2, {"l2": 0.25}),
    Row(regularizers, regularizers.L1L2, {"l1": 0.5, "l2": 0.25}),
    Row(regularizers, regularizers.OrthogonalRegularizer, {"factor": 0.5, "mode": "columns"}),
]
CONSTRAINTS = [
    Row(constraints, constraints.MaxNorm, {"max_value": 1.5, "axis": 0}),
    Row(constraints, constraints.MinMaxNorm, {"min_value": 1.0, "max_value": 2.0, "rate": 0.5, "axis": 1}),
    Row(constraints, constraints.NonNeg, {}),
    Row(constraints, constraints.UnitNorm, {"axis": [0, 1]}),
]
ROWS = REGULARIZERS + CONSTRAINTS
WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def every(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.cls.__name__)


@pytest.mark.parametrize(("family", "base"), [(regularizers, "Regularizer"), (constraints, "Constraint")])
def test_table_has_every_public_class(family, base):
    public = {getattr(family, name) for name in family.__all__}
    public = {member for member in public if isinstance(member, type)}
    assert public == {row.cls for row in ROWS if row.family is family} | {getattr(family, base)}


@every(ROWS)
def test_configuration_goes_through_json(row):
    made = row.cls(**row.config)
    saved = json.loads(json.dumps(row.family.serialize(made)))
    assert (saved["module"], saved["class_name"]) == (f"keras.{row.path}", row.cls.__name__)
    assert saved["config"] == row.config
    again = row.family.deserialize(saved)
    assert type(again) is row.cls
    np.testing.assert_array_equal(again(WEIGHT), made(WEIGHT))


@every(ROWS)
def test_found_by_name_in_any_case(row):
    name = row.cls.__name__
    for spelling in (name, name.lower(), name.upper()):
        assert type(row.family.get(spelling)) is row.cls


@every(ROWS)
def test_variable_is_read(row):
    made = row.cls(**row.config)
    np.testing.assert_array_equal(made(Variable(WEIGHT)), made(WEIGHT))


@every(ROWS)
def test_jit_is_eager(row):
    made = row.cls(**row.config)
    np.testing.assert_allclose(jax.jit(made)(WEIGHT), made(WEIGHT), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@every(ROWS)
def test_dtype_is_kept(row, dtype):
    value = row.cls(**row.config)(jnp.asarray(WEIGHT, dtype))
    assert value.dtype == dtype
    assert jnp.isfinite(value).all()


@every(REGULARIZERS)
def test_gradient_is_finite_at_zeros(row):
    weight = jnp.asarray(WEIGHT).at[0].set(0.0).at[:, 0].set(0.0)
    assert jnp.isfinite(jax.grad(row.cls(**row.config))(weight)).all()


@every(CONSTRAINTS)
def test_what_is_allowed_stays(row):
    constraint = row.cls(**row.config | ({"rate": 1.0} if "rate" in row.config else {}))
    once = constraint(WEIGHT)
    np.testing.assert_allclose(constraint(once), once, rtol=1e-5)


@pytest.mark.parametrize(
    ("alias", "cls"),
    [
        ("l1", regularizers.L1), ("l2", regularizers.L2), ("l1_l2", regularizers.L1L2),
        ("l1l2", regularizers.L1L2), ("orthogonal_regularizer", regularizers.OrthogonalRegularizer),
    ],
)  # fmt: skip
def test_aliases_of_regularizers(alias, cls):
    assert type(regularizers.get(alias)) is cls


@pytest.mark.parametrize(
    ("alias", "cls"),
    [
        ("max_norm", constraints.MaxNorm), ("min_max_norm", constraints.MinMaxNorm),
        ("non_neg", constraints.NonNeg), ("unit_norm", constraints.UnitNorm),
    ],
)  # fmt: skip
def test_aliases_of_constraints(alias, cls):
    assert type(constraints.get(alias)) is cls


@pytest.mark.parametrize("family", [regularizers, constraints])
def test_get_takes_what_stands_for_a_member(family):
    assert family.get(None) is None
    assert family.get(jnp.abs) is jnp.abs
    kind = family.__name__.split(".")[1][:-1]
    for wrong in (5, "nothing_like_it"):
        with pytest.raises(ValueError, match=f"{kind}.*must be a name"):
            family.get(wrong)


def test_penalties():
    x = jnp.array([[1.0, -2.0], [3.0, 0.0]])
    assert regularizers.L1(0.5)(x) == 3.0
    assert regularizers.L2(0.5)(x) == 7.0
    assert regularizers.L1L2(0.5, 0.5)(x) == 10.0
    assert regularizers.L1L2()(x) == 0.0
    assert regularizers.Regularizer()(x) == 0.0


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_penalty_is_the_mean_cosine(mode):
    x = np.array([[3.0, 0.0], [4.0, 4.0]])
    pairs = {"rows": 4 / np.sqrt(32), "columns": 0.8}
    np.testing.assert_allclose(regularizers.OrthogonalRegularizer(0.5, mode)(x), 0.5 * pairs[mode], rtol=1e-6)
    assert abs(float(regularizers.OrthogonalRegularizer(1.0, mode)(np.eye(3)))) < 1e-7


def test_norms():
    w = np.array([[3.0, 0.3], [4.0, 0.4]], "float32")  # columns of norm 5 and 0.5

    def norms(constraint):
        return np.linalg.norm(constraint(w), axis=0)

    np.testing.assert_allclose(norms(constraints.MaxNorm(2)), [2, 0.5], rtol=1e-5)
    np.testing.assert_allclose(norms(constraints.UnitNorm()), [1, 1], rtol=1e-5)
    np.testing.assert_allclose(norms(constraints.MinMaxNorm(1, 2)), [2, 1], rtol=1e-5)
    np.testing.assert_allclose(norms(constraints.MinMaxNorm(1, 2, rate=0.5)), [3.5, 0.75], rtol=1e-5)


def test_non_negative():
    np.testing.assert_array_equal(constraints.NonNeg()(np.array([-1.0, 0.0, 2.0])), [0, 0, 2])


def test_a_zero_weight_stays_zero():
    for row in CONSTRAINTS:
        np.testing.assert_array_equal(row.cls(**row.config)(np.zeros((2, 2))), np.zeros((2, 2)))


def test_base_constraint_allows_everything():
    assert constraints.Constraint()(WEIGHT) is WEIGHT


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regularizers.L1(-1), "L1: l1 must be a finite number of at least 0, got -1"),
        (lambda: regularizers.L2(float("nan")), "L2: l2 must be"),
        (lambda: regularizers.L1L2(l2=float("inf")), "L1L2: l2 must be"),
        (lambda: regularizers.L1("much"), "L1: l1 must be"),
        (lambda: regularizers.OrthogonalRegularizer(-1), "OrthogonalRegularizer: factor must be"),
        (lambda: regularizers.OrthogonalRegularizer(mode="diagonals"), "mode must be 'rows' or 'columns'"),
        (lambda: regularizers.OrthogonalRegularizer()(np.ones(3)), "inputs must have 2 axes"),
        (lambda: constraints.MaxNorm(-1), "MaxNorm: norms must have bounds"),
        (lambda: constraints.MinMaxNorm(2, 1), "MinMaxNorm: norms must have bounds"),
        (lambda: constraints.MinMaxNorm(rate=2), "MinMaxNorm: rate must be from 0 to 1, got 2"),
        (lambda: constraints.UnitNorm(axis="rows"), "UnitNorm: axis must be"),
        (lambda: constraints.MaxNorm(axis=()), "MaxNorm: axis must be"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
