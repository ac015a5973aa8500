"""What travels in a step, and where things lie, read out of the compiled programs and held to what is worked out."""

import math

import jax
import numpy as np
import pytest

import lamina
from lamina import distribution, layers
from tests.compilations import compilations

WIDTH, BATCH, TIME = 32, 16, 8
WORDS = np.random.default_rng(0).integers(0, 40, (BATCH, TIME))


@pytest.fixture(autouse=True)
def _one_device_again():
    yield
    distribution.set_distribution(None)


def transformer(blocks=1):
    lamina.utils.set_random_seed(0)
    words = layers.Input((TIME,), dtype="int32")
    h = layers.Embedding(40, WIDTH, name="words")(words)
    for i in range(blocks):
        normed = layers.LayerNormalization(name=f"before{i}")(h)
        h = layers.Add()([h, layers.MultiHeadAttention(4, 8, name=f"attention{i}")(normed, normed)])
        normed = layers.LayerNormalization(name=f"between{i}")(h)
        inner = layers.Dense(4 * WIDTH, "gelu", name=f"up{i}")(normed)
        h = layers.Add()([h, layers.Dense(WIDTH, name=f"down{i}")(inner)])
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
    devices = distribution.list_devices()[: math.prod(shape)]
    found = distribution.LayoutMap(distribution.DeviceMesh(shape, ["batch", "model"], devices))
    if heads:
        found["attention./(query|key|value)/kernel"] = (None, "model", None)
        found["attention./(query|key|value)/bias"] = ("model", None)
        found["attention./attention_output/kernel"] = ("model", None, None)
    found["up./kernel"], found["up./bias"] = (None, "model"), ("model",)
    found["down./kernel"] = ("model", None)
    return found


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("shape", [(1, 4), (2, 4)])
def test_divided_products_are_summed_once_each_way(shape, blocks):
    plan = distribution.ModelParallel(layout_map=layouts(shape))
    distribution.set_distribution(plan)
    model = transformer(blocks)
    activations = 4 * BATCH // shape[0] * TIME * WIDTH
    # Forward the outputs of attention and of the two products; backward the gradients of what goes into them: one for
    # `up`, and one each for query, key and value, which go together.
    count, size = 4 * blocks, 6 * blocks * activations
    if shape[0] > 1:  # and over the rows, once, the gradients of what a device keeps, and the loss
        kept = [plan.placement_of(v).stored.shard_shape(v.shape) for v in model.trainable_variables]
        count, size = count + 1, size + sum(4 * math.prod(part) for part in kept) + 4
    assert distribution.explain(model, WORDS, WORDS).collectives == (
        distribution.Collective("all-reduce", count, size),
    )


@pytest.mark.parametrize("key", ["up0/output", ".*/up0/output"])
def test_a_layout_of_an_output_holds_in_training(key):
    found = layouts((2, 4))
    found[key] = ("batch", None, None)  # whole, where the compiler would leave it divided
    distribution.set_distribution(distribution.ModelParallel(layout_map=found))
    gathered = distribution.explain(transformer(), WORDS, WORDS).bytes_of("all-gather")
    assert gathered >= 4 * BATCH // 2 * TIME * 4 * WIDTH


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
    found["up0/kernle"] = (None, "model")
    distribution.set_distribution(distribution.ModelParallel(layout_map=found))
    with pytest.warns(UserWarning, match=r"'up0/kernle'.*'up0/kernel'"):
        transformer().fit(WORDS, WORDS, batch_size=BATCH, verbose=0)


def test_eager_calls_and_predictions_on_few_rows():
    expected = transformer().predict(WORDS[:7], verbose=0)
    distribution.set_distribution("fsdp")
    model = transformer()
    np.testing.assert_allclose(model.predict(WORDS[:7], verbose=0), expected, atol=1e-5)
    np.testing.assert_allclose(model(WORDS[:7]), expected, atol=1e-5)
    assert isinstance(model.get_weights()[0], np.ndarray)
    jax.block_until_ready(model.predict_on_batch(WORDS))
