"""What travels in a step, and where things lie, read out of the compiled programs and held to what is worked out."""

import contextlib
import math

import jax
import numpy as np
import pytest

import lamina
from lamina import distribution, layers

WIDTH, BATCH, TIME = 32, 16, 8
WORDS = np.random.default_rng(0).integers(0, 40, (BATCH, TIME))


@pytest.fixture(autouse=True)
def _one_device_again():
    yield
    distribution.set_distribution(None)


def transformer():
    lamina.utils.set_random_seed(0)
    words = layers.Input((TIME,), dtype="int32")
    h = layers.Embedding(40, WIDTH, name="words")(words)
    normed = layers.LayerNormalization(name="before")(h)
    h = layers.Add()([h, layers.MultiHeadAttention(4, 8, name="attention")(normed, normed)])
    normed = layers.LayerNormalization(name="between")(h)
    h = layers.Add()([h, layers.Dense(WIDTH, name="down")(layers.Dense(4 * WIDTH, "gelu", name="up")(normed))])
    model = lamina.Model(words, layers.Dense(40, name="head")(h))
    model.compile("adam", lamina.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def nbytes(variables, least=0):
    return sum(4 * math.prod(v.shape) for v in variables if math.prod(v.shape) >= least)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("data", lambda: distribution.DataParallel()),
        ("optimizer", lambda: distribution.DataParallel(shard_optimizer=True, least=1)),
        ("fsdp", lambda: distribution.FullySharded(least=1)),
    ],
)
def test_bytes_are_those_on_paper(name, plan):
    distribution.set_distribution(plan())
    model = transformer()
    found = distribution.explain(model, WORDS, WORDS)
    expected = distribution.travelling(name, nbytes(model.trainable_variables))
    assert {c.kind: c.bytes for c in found.collectives} == {c.kind: c.bytes for c in expected}


def test_state_is_divided():
    sizes = {}
    for name, plan in [
        ("data", distribution.DataParallel()),
        ("optimizer", distribution.DataParallel(shard_optimizer=True, least=1)),
        ("fsdp", distribution.FullySharded(least=1)),
    ]:
        distribution.set_distribution(plan)
        model = transformer()
        sizes[name] = distribution.explain(model, WORDS, WORDS).state
        weights = nbytes(model.trainable_variables)
    few = 200  # counters, seeds and the loss
    assert 0 <= sizes["data"] - 3 * weights < few
    assert 0 <= sizes["optimizer"] - (weights + 2 * weights / 8) < few
    assert 0 <= sizes["fsdp"] - 3 * weights / 8 < few


def test_weights_are_gathered_twice_where_memory_is_short():
    counts = {}
    for again in (False, True):
        distribution.set_distribution(distribution.FullySharded(least=1024, again=again))
        counts[again] = distribution.explain(transformer(), WORDS, WORDS).bytes_of("all-gather")
    assert 1.5 * counts[False] < counts[True] <= 2 * counts[False]


def test_weights_are_gathered_in_the_dtype_of_the_layers():
    counts = {}
    for policy in ("float32", "mixed_float16"):  # CPUs gather bfloat16 as float32
        lamina.config.set_dtype_policy(policy)
        distribution.set_distribution(distribution.FullySharded(least=1024))
        model = transformer()
        lamina.config.set_dtype_policy("float32")
        counts[policy] = distribution.explain(model, WORDS, WORDS).bytes_of("all-gather")
    assert counts["mixed_float16"] < counts["float32"]


def layouts(shape, heads=True):
    """Of two products the first is divided by columns, the second by rows (Shoeybi et al., 2019); and heads are."""
    found = distribution.LayoutMap(distribution.DeviceMesh(shape, ["batch", "model"]))
    if heads:
        found["attention/(query|key|value)/kernel"] = (None, "model", None)
        found["attention/(query|key|value)/bias"] = ("model", None)
        found["attention/attention_output/kernel"] = ("model", None, None)
    found["up/kernel"], found["up/bias"] = (None, "model"), ("model",)
    found["down/kernel"] = ("model", None)
    return found


def test_divided_products_are_summed_once_each_way():
    distribution.set_distribution(distribution.ModelParallel(layout_map=layouts((2, 4))))
    found = distribution.explain(transformer(), WORDS, WORDS)
    activations = 4 * BATCH // 2 * TIME * WIDTH
    # The outputs of attention and of the two products, forward; the gradients of what goes into them, backward.
    assert found.bytes_of("all-reduce") >= 4 * activations
    assert found.bytes_of("all-gather") + found.bytes_of("all-to-all") == 0


PLANS = {
    "data": distribution.DataParallel,
    "optimizer": lambda: distribution.DataParallel(shard_optimizer=True),
    "fsdp": distribution.FullySharded,
    "fsdp again": lambda: distribution.FullySharded(again=True),
    "tensor": lambda: distribution.ModelParallel(layout_map=layouts((1, 8), heads=False)),
    "2x4": lambda: distribution.ModelParallel(layout_map=layouts((2, 4))),
}
each_plan = pytest.mark.parametrize("name", PLANS)


@each_plan
@pytest.mark.filterwarnings("ignore:ModelParallel")  # no layout is of this model
def test_data_are_never_gathered(name):
    distribution.set_distribution(PLANS[name]())
    lamina.utils.set_random_seed(0)
    model = lamina.Sequential([layers.Input((1000,)), layers.Dense(2, name="d")])
    model.compile("sgd", "mse")
    x, y = np.ones((16, 1000), "float32"), np.ones((16, 2), "float32")
    assert distribution.explain(model, x, y).bytes_of("all-gather") < x.nbytes / 2


@contextlib.contextmanager
def compilations():
    """What JAX compiles inside the block."""
    found = []

    def note(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


@each_plan
def test_launches_keep_layouts_take_memory_over_and_share_a_program(name):
    plan = PLANS[name]()
    distribution.set_distribution(plan)
    model = transformer()

    def use(batches, rest=0):
        x = np.resize(WORDS, (batches * BATCH + rest, TIME))
        model.fit(x, x, batch_size=BATCH, verbose=0)
        model.evaluate(x, x, batch_size=BATCH, verbose=0)
        model.predict(x, batch_size=BATCH, verbose=0)

    use(1)
    state = [*model.variables, *model.optimizer.variables]
    for batches in (2, 7):
        before = [v.stored for v in model.trainable_variables]
        with compilations() as found:
            use(batches)
        assert found == []
        assert all(v.stored.sharding == plan.placement_of(v).stored for v in state)
        assert all(array.is_deleted() for array in before)  # the first launch has worked on copies
    with compilations() as first:
        use(2, rest=5)
    with compilations() as found:
        use(4, rest=5)
    assert first and found == []  # a program for the short batch, whatever is before it
    program, given = model.compiled_step(WORDS, WORDS)
    held = sum(4 * math.prod(v.stored.sharding.shard_shape(v.shape)) for v in given)
    assert program.memory_analysis().alias_size_in_bytes > 0.9 * held


def test_a_layout_that_matches_nothing_warns():
    found = layouts((2, 4))
    found["up/kernle"] = (None, "model")
    distribution.set_distribution(distribution.ModelParallel(layout_map=found))
    with pytest.warns(UserWarning, match=r"'up/kernle'.*'up/kernel'"):
        transformer().fit(WORDS, WORDS, batch_size=BATCH, verbose=0)


def test_eager_calls_and_predictions_on_few_rows():
    expected = transformer().predict(WORDS[:7], verbose=0)
    distribution.set_distribution("fsdp")
    model = transformer()
    np.testing.assert_allclose(model.predict(WORDS[:7], verbose=0), expected, atol=1e-5)
    np.testing.assert_allclose(model(WORDS[:7]), expected, atol=1e-5)
    assert isinstance(model.get_weights()[0], np.ndarray)
    jax.block_until_ready(model.predict_on_batch(WORDS))
