"""Random numbers: the state of generators, and NumPy's samples beside those of `jax.random`."""

import copy
import random as python_random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import random
from lamina.core import configurable
from lamina.core.jit import jit
from lamina.core.state import StateScope
from lamina.random import seeds, threefry

CHUNK = threefry.CHUNK
SHAPES = ((), (0,), (1,), (3, 5), (CHUNK - 1,), (CHUNK,), (CHUNK + 1,), (3, CHUNK // 2, 2))
SEEDS = (0, 1337, 2**32 - 1)
# NumPy's logarithm and XLA's differ in the last bit; the most in 4 million normal samples was 3.
MAX_ULP = 4

NORMALS = {
    "normal": (random.normal, jax.random.normal),
    "truncated_normal": (
        random.truncated_normal,
        lambda key, shape: jax.random.truncated_normal(key, -2.0, 2.0, shape),
    ),
}


def key_of(seed):
    return jnp.array([seed, 0], jnp.uint32)


@pytest.fixture
def no_jax_random(monkeypatch):
    """Any use of `jax.random` fails."""

    def refuse(*_, **__):
        raise AssertionError("jax.random was used")

    for name in ("uniform", "normal", "truncated_normal"):
        monkeypatch.setattr(jax.random, name, refuse)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_is_that_of_jax_to_the_bit(shape, seed):
    sample = random.uniform(shape, seed=seed)
    assert sample.dtype == jnp.float32
    np.testing.assert_array_equal(sample, jax.random.uniform(key_of(seed), shape))


@pytest.mark.parametrize(
    "bounds", [(-0.05, 0.05), (0.0, 3.3), (1.1, 7.7), (-100.0, 0.001), (2.0, 2.0), (-3, 4)], ids=str
)
def test_uniform_between_bounds_is_that_of_jax_to_the_bit(bounds):
    sample = random.uniform((5000,), *bounds, seed=3)
    np.testing.assert_array_equal(sample, jax.random.uniform(key_of(3), (5000,), jnp.float32, *bounds))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NORMALS)
def test_normals_are_those_of_jax_up_to_the_last_bits(name, shape):
    ours, theirs = NORMALS[name]
    sample = ours(shape, seed=1337)
    assert sample.shape == shape
    np.testing.assert_array_max_ulp(np.asarray(sample), np.asarray(theirs(key_of(1337), shape)), MAX_ULP)


def test_normal_is_exact_in_its_tails():
    shape = (1 << 20,)
    sample = np.asarray(random.normal(shape, seed=1))
    reference = np.asarray(jax.random.normal(key_of(1), shape))
    assert np.abs(reference).max() > 4.5
    np.testing.assert_array_max_ulp(sample, reference, MAX_ULP)


def test_truncated_normal_stays_within_two_deviations():
    sample = np.asarray(random.truncated_normal((1 << 18,), mean=1.0, stddev=0.5, seed=2))
    assert 0.0 < sample.min() < 0.001
    assert 1.999 < sample.max() < 2.0


@pytest.mark.parametrize("name", NORMALS)
def test_mean_and_deviation(name):
    ours, _ = NORMALS[name]
    np.testing.assert_allclose(ours((64,), 3.0, 0.5, seed=4), ours((64,), seed=4) * 0.5 + 3.0, rtol=1e-6)


@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.truncated_normal])
def test_eager_samples_compile_nothing(draw, caplog, no_jax_random):
    with jax.log_compiles():
        for size in (1, 77, CHUNK + 5):
            draw((size, 3), seed=1)
            draw((size, 3), seed=random.SeedGenerator(2))
            draw((size, 3))
    assert "ompiling" not in caplog.text


def test_sample_inside_a_trace_is_drawn_by_jax(monkeypatch):
    monkeypatch.setattr(threefry, "draw", lambda *_: pytest.fail("a constant in the trace"))
    assert jax.jit(lambda: random.normal((3,), seed=1))().shape == (3,)


@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.truncated_normal])
def test_sample_inside_a_trace_has_the_same_numbers(draw):
    np.testing.assert_array_max_ulp(
        np.asarray(jax.jit(lambda: draw((100,), seed=9))()), np.asarray(draw((100,), seed=9)), MAX_ULP
    )


def test_sample_is_real_inside_a_trace_at_compile_time(no_jax_random):
    values = []

    def traced(x):
        with jax.ensure_compile_time_eval():
            values.append(random.uniform((3,), seed=1))
        return x

    jax.jit(traced)(0.0)
    np.testing.assert_array_equal(values[0], random.uniform((3,), seed=1))


def test_sample_under_grad():
    assert jax.grad(lambda x: x * random.uniform((), seed=1))(2.0) == random.uniform((), seed=1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.truncated_normal])
def test_half_precision_has_the_numbers_of_jax(draw, dtype):
    sample = draw((100,), dtype=dtype, seed=1)
    assert sample.dtype == dtype
    np.testing.assert_array_equal(sample, jax.jit(lambda: draw((100,), dtype=dtype, seed=1))())


def test_float64_becomes_what_jax_holds():
    assert random.normal((2,), dtype="float64", seed=1).dtype == jax.dtypes.canonicalize_dtype("float64")


def test_old_counters_have_the_numbers_of_jax():
    with jax.threefry_partitionable(False):
        sample, reference = random.uniform((7,), seed=1), jax.random.uniform(key_of(1), (7,))
    np.testing.assert_array_equal(sample, reference)
    assert not np.array_equal(sample, random.uniform((7,), seed=1))


def test_other_generators_have_the_numbers_of_jax():
    key = jax.random.key(1, impl="rbg")
    np.testing.assert_array_equal(random.uniform((7,), seed=key), jax.random.uniform(key, (7,)))


def test_array_parameters():
    mean = jnp.array([0.0, 100.0])
    sample = random.normal((500, 2), mean=mean, seed=1)
    np.testing.assert_allclose(sample.mean(axis=0), mean, atol=0.2)


def test_large_arrays_are_drawn_by_jax(monkeypatch):
    monkeypatch.setattr(threefry, "LIMIT", 10)
    monkeypatch.setattr(threefry, "draw", lambda *_: pytest.fail("drawn by NumPy"))
    np.testing.assert_array_equal(random.uniform((11,), seed=1), jax.random.uniform(key_of(1), (11,)))


def test_samples_can_be_donated():
    sample = random.uniform((300, 300), seed=1)
    doubled = jax.jit(lambda x: x * 2, donate_argnums=0)(sample)
    np.testing.assert_array_equal(doubled, random.uniform((300, 300), seed=1) * 2)


def test_generator_counts_its_draws():
    generator = random.SeedGenerator(5)
    keys = [np.asarray(generator.next()).tolist() for _ in range(3)]
    assert keys == [[5, 0], [5, 1], [5, 2]]
    assert generator.state.numpy().tolist() == [5, 3]


def test_state_is_a_variable_that_is_not_trained():
    state = random.SeedGenerator(5, name="noise").state
    assert (state.path, state.dtype, state.shape, state.trainable) == (
        "noise/seed_generator_state", "uint32", (2,), False,
    )  # fmt: skip


def test_unordered_draws_scramble_the_state():
    generator = random.SeedGenerator(2**32 - 1)
    generator.next(ordered=False)
    assert generator.state.numpy().tolist() == [0, 5387]


def test_generator_gives_new_numbers_each_time():
    generator = random.SeedGenerator(5)
    first, second = (random.normal((10,), seed=generator) for _ in range(2))
    assert not np.array_equal(first, second)


def test_generator_under_jit_goes_on_as_it_does_eagerly():
    inside, outside = random.SeedGenerator(5), random.SeedGenerator(5)
    compiled = jit(lambda: random.uniform((4,), seed=inside))
    for _ in range(3):
        np.testing.assert_array_equal(compiled(), random.uniform((4,), seed=outside))
    np.testing.assert_array_equal(inside.state.value, outside.state.value)


def test_generator_in_a_state_scope_stays_as_it_was():
    generator = random.SeedGenerator(5)
    with StateScope() as scope:
        generator.next()
        assert scope.read(generator.state).tolist() == [5, 1]
    assert generator.state.numpy().tolist() == [5, 0]


def test_generator_in_a_plain_transform_is_refused():
    generator = random.SeedGenerator(5)
    with pytest.raises(ValueError, match=r"lamina\.jit"):
        jax.jit(lambda: random.uniform((4,), seed=generator))()
    assert generator.state.numpy().tolist() == [5, 0]


def test_generator_made_inside_a_trace_is_real():
    made = []
    jax.jit(lambda x: made.append(random.SeedGenerator(5)) or x)(0.0)
    assert made[0].next().tolist() == [5, 0]


def test_generator_has_a_configuration():
    generator = random.SeedGenerator(5, name="noise")
    saved = configurable.serialize(generator)
    assert (saved["module"], saved["config"]) == ("keras.random", {"seed": 5, "name": "noise"})
    assert configurable.deserialize(saved).state.numpy().tolist() == [5, 0]
    assert random.SeedGenerator().get_config()["seed"] is None


def test_copied_generator_goes_its_own_way():
    generator = random.SeedGenerator(5)
    twin = copy.deepcopy(generator)
    generator.next()
    assert twin.state.numpy().tolist() == [5, 0]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7"])
def test_bad_seed_is_refused(seed):
    for use in (random.SeedGenerator, lambda s: random.normal((2,), seed=s), seeds.set_global_seed):
        with pytest.raises(ValueError, match="seed must be an integer from 0"):
            use(seed)


def test_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="got sede"):
        random.SeedGenerator(sede=1)


def test_global_seed_governs_what_is_drawn_without_one():
    def draw():
        seeds.set_global_seed(11)
        generated = random.normal((3,)), random.uniform((3,)), random.SeedGenerator().next()
        return *generated, np.random.rand(3), python_random.random()

    first, second = draw(), draw()
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(random.normal((3,)), first[0])
    assert seeds.global_seed() == 11


def test_global_generator_under_jit_gives_new_numbers_each_time():
    compiled = jit(lambda: random.normal((3,)))
    assert not np.array_equal(compiled(), compiled())


def test_seed_may_be_a_key():
    key = jnp.array([3, 4], jnp.uint32)
    np.testing.assert_array_equal(random.uniform((3,), seed=key), jax.random.uniform(key, (3,)))
    np.testing.assert_array_equal(seeds.draw_seed(np.asarray(key)), key)


def test_batch_of_keys_is_refused_and_mapped():
    keys = jnp.array([[0, 1], [0, 2]], jnp.uint32)
    with pytest.raises(ValueError, match="single key"):
        random.uniform((3,), seed=keys)
    mapped = jax.vmap(lambda key: random.uniform((3,), seed=key))(keys)
    np.testing.assert_array_equal(mapped, [random.uniform((3,), seed=key) for key in keys])


def test_reset_makes_a_new_global_generator():
    seeds.set_global_seed(11)
    first = seeds.global_seed_generator()
    assert seeds.global_seed_generator() is first
    seeds.reset_global_generator()
    assert seeds.global_seed_generator() is not first


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_dropout_rate_is_checked(rate):
    with pytest.raises(ValueError, match="rate must be from 0 to 1"):
        random.dropout(jnp.ones(3), rate, seed=1)


def test_dropout_keeps_the_mean():
    out = random.dropout(jnp.ones((100, 100)), 0.25, seed=1)
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(float(out.mean()) - 1) < 0.02


def test_dropout_at_the_ends_of_its_range():
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(random.dropout(x, 0.0), x)
    np.testing.assert_array_equal(random.dropout(x, 1.0), jnp.zeros(4))


def test_dropout_noise_shape_is_shared_along_axes_of_size_one():
    out = np.asarray(random.dropout(jnp.ones((5, 40, 3)), 0.5, noise_shape=(None, 1, None), seed=1))
    assert (out == out[:, :1]).all()
    assert len(np.unique(out[:, 0])) == 2


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: random.uniform((2,), dtype="int32"), "uniform: dtype must be a float"),
        (lambda: random.normal((2,), dtype="bool"), "normal: dtype must be a float"),
        (lambda: random.randint((2,), 0, 5, dtype="float32"), "randint: dtype must be an integer"),
        (lambda: random.categorical(jnp.ones(3), 2), "categorical: logits must have shape"),
    ],
)
def test_bad_arguments_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


SAMPLES = {
    "uniform": lambda key: jax.random.uniform(key, (3, 50), jnp.float32, -1.0, 2.0),
    "half": lambda key: jax.random.uniform(key, (7,), jnp.bfloat16),
    "normal": lambda key: jax.random.normal(key, (40_000,)),
    "integers": lambda key: jax.random.randint(key, (9, 3), -5, 100),
    "bytes": lambda key: jax.random.bits(key, (11,), "uint8"),
    "signs": lambda key: jax.random.bernoulli(key, 0.3, (5, 9)),
    "gamma": lambda key: jax.random.gamma(key, 2.0, (5,)),
    "order": lambda key: jax.random.permutation(key, 17),
    "parts": lambda key: jax.random.normal(jax.random.split(key)[1], (2,)),
    "folded": lambda key: jax.random.uniform(jax.random.fold_in(key, 7)),
    "nothing": lambda key: jax.random.uniform(key, (0, 3)),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_the_generator_of_programs_gives_the_numbers_of_jax(sample):
    def own(key):
        return sample(threefry.generator(key))

    keys = jnp.array([[3, 7], [2**32 - 1, 2**32 - 1], [0, 0]], jnp.uint32)
    expected = [sample(key) for key in keys]
    for found in ([own(key) for key in keys], [jax.jit(own)(key) for key in keys], jax.vmap(own)(keys)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_random_bits_are_drawn_once_for_all_their_uses():
    @jax.jit
    def spread(key):
        return random.dropout(jnp.ones((4, 64, 32)), 0.5, (4, 1, 32), seed=key)

    text = spread.lower(jnp.array([1, 2], jnp.uint32)).compile().as_text()
    assert " while(" in text  # which XLA does not make part of what reads it
