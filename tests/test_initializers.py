"""Laws that hold for every initializer, over one table, and what is particular to some."""

import json
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import initializers, random
from lamina.core import configurable
from lamina.core.variable import Variable
from lamina.random import seeds


class Row(NamedTuple):
    cls: Any
    arguments: dict
    config: dict  # what get_config returns
    shape: tuple = (3, 4)

    @property
    def seeded(self):
        return "seed" in self.config

    def make(self, **more):
        return self.cls(**(self.arguments | more))


SCALED = {"seed": 7, "input_axes": None, "output_axes": None}
ROWS = [
    Row(initializers.Zeros, {}, {}),
    Row(initializers.Ones, {}, {}),
    Row(initializers.Constant, {"value": 2.5}, {"value": 2.5}),
    Row(initializers.Constant, {"value": [1.0, 2.0, 3.0, 4.0]}, {"value": [1.0, 2.0, 3.0, 4.0]}),
    Row(initializers.Identity, {"gain": 2.0}, {"gain": 2.0}),
    Row(
        initializers.STFT,
        {"side": "imag", "scaling": "spectrum"},
        {"side": "imag", "window": "hann", "scaling": "spectrum", "periodic": False},
        (8, 1, 5),
    ),
    Row(initializers.RandomNormal, {"seed": 7}, {"mean": 0.0, "stddev": 0.05, "seed": 7}),
    Row(initializers.TruncatedNormal, {"mean": 1.0, "seed": 7}, {"mean": 1.0, "stddev": 0.05, "seed": 7}),
    Row(initializers.RandomUniform, {"maxval": 1.0, "seed": 7}, {"minval": -0.05, "maxval": 1.0, "seed": 7}),
    Row(initializers.Orthogonal, {"gain": 2.0, "seed": 7}, {"gain": 2.0, "seed": 7}),
    Row(
        initializers.VarianceScaling,
        {
            "scale": 3.0, "mode": "fan_out", "distribution": "normal", "seed": 7, "input_axes": [0],
            "output_axes": [1],
        },
        {
            "scale": 3.0, "mode": "fan_out", "distribution": "truncated_normal", "seed": 7, "input_axes": [0],
            "output_axes": [1],
        },
    ),
    Row(initializers.GlorotUniform, {"seed": 7}, SCALED),
    Row(initializers.GlorotNormal, {"seed": 7}, SCALED),
    Row(initializers.LecunUniform, {"seed": 7}, SCALED),
    Row(initializers.LecunNormal, {"seed": 7}, SCALED),
    Row(initializers.HeUniform, {"seed": 7}, SCALED),
    Row(initializers.HeNormal, {"seed": 7}, SCALED),
]  # fmt: skip
SEEDED = [row for row in ROWS if row.seeded]


def every(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.cls.__name__)


def test_table_has_every_public_initializer():
    public = {getattr(initializers, name) for name in initializers.__all__}
    public = {member for member in public if isinstance(member, type)}
    assert public == {row.cls for row in ROWS} | {initializers.Initializer}


@every(ROWS)
def test_configuration(row):
    assert row.make().get_config() == row.config


@every(ROWS)
def test_configuration_goes_through_json(row):
    saved = json.loads(json.dumps(initializers.serialize(row.make())))
    assert (saved["module"], saved["class_name"]) == ("keras.initializers", row.cls.__name__)
    again = initializers.deserialize(saved)
    assert type(again) is row.cls
    assert again.get_config() == row.config
    np.testing.assert_array_equal(again(row.shape), row.make()(row.shape))


@every(ROWS)
def test_clone(row):
    initializer = row.make()
    twin = initializer.clone()
    assert twin is not initializer
    np.testing.assert_array_equal(twin(row.shape), initializer(row.shape))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@every(ROWS)
def test_shape_and_dtype(row, dtype):
    value = row.make()(row.shape, dtype=dtype)
    assert isinstance(value, jax.Array)
    assert (value.shape, value.dtype) == (row.shape, dtype)
    assert jnp.isfinite(value).all()


@every(ROWS)
def test_default_dtype_is_floatx(row):
    assert row.make()(row.shape).dtype == "float32"


@every(ROWS)
def test_found_by_name_in_any_case(row):
    name = row.cls.__name__
    for spelling in (name, name.lower(), name.upper()):
        assert type(initializers.get(spelling)) is row.cls


@every(ROWS)
def test_value_is_real_inside_a_trace(row):
    made = []

    def traced(x):
        made.append(Variable(row.make(), row.shape))
        return x

    jax.jit(traced)(0.0)
    np.testing.assert_array_equal(made[0].value, row.make()(row.shape))


@every(ROWS)
def test_compiles_nothing(row, caplog):
    with jax.log_compiles():
        row.make()((13, *row.shape[1:]))
    assert "ompiling" not in caplog.text


@every(SEEDED)
def test_same_seed_gives_the_same_values(row):
    np.testing.assert_array_equal(row.make()(row.shape), row.make()(row.shape))
    assert not np.array_equal(row.make()(row.shape), row.make(seed=8)(row.shape))


@every(SEEDED)
def test_without_a_seed_one_object_repeats_itself_and_two_differ(row):
    first, second = row.make(seed=None), row.make(seed=None)
    np.testing.assert_array_equal(first(row.shape), first(row.shape))
    assert not np.array_equal(first(row.shape), second(row.shape))
    assert first.get_config()["seed"] is None


@every(SEEDED)
def test_without_a_seed_the_global_one_governs(row):
    values = []
    for _ in range(2):
        seeds.set_global_seed(3)
        values.append(row.make(seed=None)(row.shape))
    np.testing.assert_array_equal(*values)


@every(SEEDED)
def test_generator_as_seed_gives_new_values_each_time(row):
    initializer = row.make(seed=random.SeedGenerator(5, name="noise"))
    assert not np.array_equal(initializer(row.shape), initializer(row.shape))
    saved = initializers.serialize(initializer)
    assert saved["config"]["seed"]["config"] == {"seed": 5, "name": "noise"}
    fresh = row.make(seed=random.SeedGenerator(5))
    np.testing.assert_array_equal(initializers.deserialize(saved)(row.shape), fresh(row.shape))


@pytest.mark.parametrize("seed", ["seven", 1.5])
@every(SEEDED)
def test_bad_seed_is_refused(row, seed):
    with pytest.raises(ValueError, match=f"{row.cls.__name__}: seed must be"):
        row.make(seed=seed)


@pytest.mark.parametrize(
    ("alias", "cls"),
    [
        ("normal", initializers.RandomNormal), ("uniform", initializers.RandomUniform),
        ("one", initializers.Ones), ("zero", initializers.Zeros), ("he_normal", initializers.HeNormal),
        ("IdentityInitializer", initializers.Identity), ("OrthogonalInitializer", initializers.Orthogonal),
        ("STFTInitializer", initializers.STFT), ("glorot_uniform", initializers.GlorotUniform),
    ],
)  # fmt: skip
def test_aliases(alias, cls):
    assert type(initializers.get(alias)) is cls


def test_get_takes_what_stands_for_an_initializer():
    ones = initializers.Ones()
    assert initializers.get(None) is None
    assert initializers.get(ones) is ones
    assert isinstance(initializers.get(initializers.Ones), initializers.Ones)
    assert initializers.get(jnp.full) is jnp.full
    assert initializers.get({"class_name": "he_normal", "config": {"seed": 3}}).get_config()["seed"] == 3


@pytest.mark.parametrize("make", [np.array, jnp.array])
def test_get_takes_an_array(make):
    array = make([[1.0, 2.0], [3.0, 4.0]])
    initializer = initializers.get(array)
    value = initializer((2, 2), dtype="bfloat16")
    np.testing.assert_array_equal(value, array.astype("bfloat16"))
    again = initializers.deserialize(initializers.serialize(initializer))
    np.testing.assert_array_equal(again((2, 2)), array)
    with pytest.raises(ValueError, match="shape"):
        initializer((3, 2))


def test_get_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")


@pytest.mark.parametrize("identifier", [5, [1, 2], 2.5])
def test_get_refuses_other_things(identifier):
    with pytest.raises(ValueError, match="initializer: must be a name"):
        initializers.get(identifier)


def test_users_initializer_is_found_and_saved():
    class Halves(initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return jnp.full(shape, 0.5, dtype)

    custom = {"Halves": Halves}
    saved = configurable.serialize(Halves())
    assert type(initializers.deserialize(saved, custom)) is Halves
    with pytest.raises(NotImplementedError, match="must define __call__"):
        initializers.Initializer()((2,))


def test_constant_keeps_its_own_copy():
    array = np.ones((64, 64), "float32")
    value = initializers.Constant(array)((64, 64))
    array[:] = 5
    assert (np.asarray(value) == 1).all()


@pytest.mark.parametrize(
    ("shape", "axes", "fans"),
    [
        ((), (None, None), (1, 1)),
        ((5,), (None, None), (5, 5)),
        ((3, 4), (None, None), (3, 4)),
        ((3, 3, 8, 16), (None, None), (72, 144)),
        ((8, 3, 4), ([0], [1, 2]), (8, 12)),
        ((8, 3, 4), ([0, -1], [1]), (32, 3)),
    ],
)
def test_fans(shape, axes, fans):
    assert initializers.compute_fans(shape, *axes) == fans


@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
@pytest.mark.parametrize(("mode", "count"), [("fan_in", 600), ("fan_out", 400), ("fan_avg", 500)])
def test_variance(distribution, mode, count):
    value = initializers.VarianceScaling(2.0, mode, distribution, seed=1)((600, 400))
    assert math.isclose(float(jnp.var(value)), 2.0 / count, rel_tol=0.02)


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (2, 3, 4), (3, 1, 2, 8)], ids=str)
def test_orthogonal(shape):
    matrix = np.asarray(initializers.Orthogonal(gain=3.0, seed=1)(shape)).reshape(-1, shape[-1]) / 3.0
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-6)


@pytest.mark.parametrize("side", ["real", "imag"])
def test_stft_is_the_fourier_transform(side):
    frame = np.random.default_rng(0).normal(size=8)
    kernel = np.asarray(initializers.STFT(side, window=None)((8, 1, 5)))[:, 0]
    spectrum = np.fft.rfft(frame)
    np.testing.assert_allclose(frame @ kernel, spectrum.real if side == "real" else spectrum.imag, atol=1e-6)


def test_stft_takes_a_window_as_an_array():
    by_name = initializers.STFT(window="hann", periodic=True)((8, 1, 5))
    by_value = initializers.STFT(window=np.sin(np.pi * np.arange(8) / 8) ** 2)((8, 1, 5))
    np.testing.assert_allclose(by_name, by_value, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.VarianceScaling(scale=0), "VarianceScaling: scale must be a number above 0, got 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be one of 'fan_in', 'fan_out', 'fan_avg'"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "distribution must be one of"),
        (lambda: initializers.RandomNormal(stddev=-1), "RandomNormal: stddev must be at least 0, got -1"),
        (lambda: initializers.TruncatedNormal(stddev=-1), "TruncatedNormal: stddev must be at least 0"),
        (lambda: initializers.RandomUniform(1, 0), "RandomUniform: maxval must be at least 1, got 0"),
        (lambda: initializers.Constant("one"), "Constant: value must be a number"),
        (lambda: initializers.STFT(side="left"), "STFT: side must be 'real' or 'imag'"),
        (lambda: initializers.STFT(scaling="loud"), "STFT: scaling must be"),
        (lambda: initializers.STFT(window="glass"), "STFT: window must be a name"),
        (lambda: initializers.STFT(window=np.ones(3))((8, 1, 5)), r"STFT: window must have shape \(8,\)"),
        (lambda: initializers.STFT()((8, 5)), "STFT: shape must be"),
        (lambda: initializers.Identity()((2, 2, 2)), "Identity: shape must have 2 axes"),
        (lambda: initializers.Orthogonal()((2,)), "Orthogonal: shape must have at least 2 axes"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
