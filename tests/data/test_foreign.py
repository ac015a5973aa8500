"""Pipelines of TensorFlow and torch that are read by the numbers of rows: the batches, passes and results are theirs.

The attributes of TensorFlow's datasets are not documented. Where they change, pipelines are not recognised any more,
and the tests of this file say so.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import torch
from torch.utils import data as torch_data

import lamina
from lamina.data import sources
from lamina.data.foreign import numbered
from lamina.data.sources import RowSource, StreamSource, make_source

ROWS = 23
X, Y = np.arange(ROWS * 3, dtype="float32").reshape(ROWS, 3), np.arange(ROWS)


def slices(arrays=(X, Y)):
    return tf.data.Dataset.from_tensor_slices(arrays)


def ordinary(data, *arguments):
    """The source that asks the pipeline itself."""
    return StreamSource(data, *arguments or (None, "fit"))


def recognised(data, *arguments):
    found = make_source(data, steps=arguments[0] if arguments else None)
    assert isinstance(found, RowSource)
    return found


def assert_same(given, wanted):
    given, wanted = list(given), list(wanted)
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted):
        assert tf.nest.map_structure(lambda a: a.dtype, one) == tf.nest.map_structure(lambda a: a.dtype, other)
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


# tf.data ----------------------------------------------------------------------------------------

# What is made of slices of arrays.
PIPELINES = {
    "batch": lambda d: d.batch(4),
    "batch without the rest": lambda d: d.batch(4, drop_remainder=True),
    "batch by threads": lambda d: d.batch(4, num_parallel_calls=2).prefetch(1),
    "shuffle, batch": lambda d: d.shuffle(ROWS, seed=3).batch(4).prefetch(tf.data.AUTOTUNE),
    "shuffle of more than all": lambda d: d.shuffle(100, seed=3).batch(5),
    "shuffle of a few": lambda d: d.shuffle(6, seed=0).batch(4),
    "shuffle of one": lambda d: d.shuffle(1, seed=0).batch(4),
    "one order": lambda d: d.shuffle(ROWS, seed=3, reshuffle_each_iteration=False).batch(4),
    "the global seed": lambda d: d.shuffle(ROWS).batch(4),
    "the global seed, one order": lambda d: d.shuffle(ROWS, reshuffle_each_iteration=False).batch(4),
    "batch, shuffle": lambda d: d.batch(4).shuffle(3, seed=1),
    "shuffle twice": lambda d: d.shuffle(5, seed=1).shuffle(9, seed=2).batch(4).shuffle(3, seed=3),
    "shuffle, repeat, batch": lambda d: d.shuffle(ROWS, seed=1).repeat(2).batch(4),
    "repeat, shuffle, batch": lambda d: d.repeat(2).shuffle(30, seed=1).batch(4),
    "shuffle, batch, endless": lambda d: d.shuffle(ROWS, seed=1).batch(4).repeat().take(15),
    "batch, repeat, shuffle": lambda d: d.batch(4).repeat(2).shuffle(4, seed=1),
    "endless, shuffled, taken from": lambda d: d.repeat().shuffle(7, seed=1).batch(4).take(9),
    "endless passes, taken from": lambda d: d.shuffle(ROWS, seed=1).repeat(-1).batch(4).take(9),
    "take, skip": lambda d: d.take(15).skip(2).shuffle(8, seed=1).batch(4).skip(1),
    "shuffle, take": lambda d: d.shuffle(ROWS, seed=1).take(10).batch(4),
    "shuffle, skip, take of batches": lambda d: d.shuffle(ROWS, seed=1).skip(3).batch(4).take(3),
    "all of take and skip": lambda d: d.take(-1).batch(4),
    "nothing is left": lambda d: d.batch(4).skip(-1),
    "no time at all": lambda d: d.repeat(0).batch(4),
    "cache, shuffle": lambda d: d.cache().shuffle(ROWS, seed=1).batch(4).prefetch(2),
    "batch, cache": lambda d: d.skip(1).batch(4).cache(),
}


def made(name, arrays=(X, Y)):
    tf.random.set_seed(7)
    return PIPELINES[name](slices(arrays))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_gives_the_batches_of_tensorflow_in_each_pass(name):
    mine, other = recognised(made(name)), ordinary(made(name))
    for epoch in range(3):
        assert_same(mine.epoch(epoch), other.epoch(epoch))
    assert (mine.num_batches, mine.batch_size) == (other.num_batches, other.batch_size)


@pytest.mark.parametrize("name", ["shuffle, batch", "shuffle of a few", "batch, shuffle", "batch, cache"])
@pytest.mark.parametrize("steps", [None, 2, 4, 50])
def test_epochs_are_the_same_parts_of_passes(name, steps):
    mine, other = recognised(made(name), steps), ordinary(made(name), steps, "fit")
    assert_same([mine.peek(), mine.peek()], [other.peek(), other.peek()])
    for epoch, first in [(0, 0), (1, 1), (2, 0), (3, 0), (0, 2), (1, 0)]:
        assert_same(mine.epoch(epoch, first), other.epoch(epoch, first))
    for source in (mine, other):
        for _ in itertools.islice(source.epoch(2), 1):
            pass  # and is left
        source.pass_over(3)
    assert_same(mine.epoch(4), other.epoch(4))


def test_an_endless_pipeline_goes_on_from_epoch_to_epoch():
    for name in ("shuffle, batch", "shuffle of a few"):
        mine, other = recognised(made(name).repeat(), 4), ordinary(made(name).repeat(), 4, "fit")
        for epoch in range(5):
            assert_same(mine.epoch(epoch), other.epoch(epoch))


STRUCTURES = {
    "an array": X,
    "a tuple of one": (X,),
    "a dict": {"b": X, "a": Y},
    "tuples of dicts": ({"b": X, "a": (Y, X * 2)}, {"out": Y}, np.ones(ROWS, "float32")),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_batches_keep_their_structure(name):
    arrays = STRUCTURES[name]
    assert_same(recognised(made("shuffle, batch", arrays)).epoch(0), ordinary(made("shuffle, batch", arrays)).epoch(0))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int8", "int64", "bool", "str", "complex64"]
)
def test_batches_keep_their_dtype(dtype):
    found, wanted = numbered(made("shuffle, batch", X.astype(dtype))), made("shuffle, batch", X.astype(dtype))
    assert_same((found.arrays.take(numbers, 0) for numbers in found.open()), wanted.as_numpy_iterator())


def test_arrays_are_not_copied():
    data = slices(tf.constant(X)).batch(4)
    assert np.shares_memory(numbered(data).arrays, numbered(data).arrays)
    loader = torch_data.DataLoader(torch_data.TensorDataset(torch.from_numpy(X)), batch_size=4)
    assert np.shares_memory(numbered(loader).arrays[0], X)


def test_pipelines_that_share_a_shuffle_share_its_passes():
    def parts():
        rows = slices().shuffle(ROWS, seed=5)
        return rows.take(15).batch(4), rows.skip(15).batch(4)

    mine, others = [recognised(part) for part in parts()], [ordinary(part) for part in parts()]
    for epoch in range(3):
        for one, other in zip(mine, others):
            assert_same(one.epoch(epoch), other.epoch(epoch))


def test_a_second_fit_goes_on_with_the_passes():
    mine, other = made("shuffle, batch"), made("shuffle, batch")
    for _ in range(3):
        assert_same(recognised(mine).epoch(0), ordinary(other).epoch(0))


def test_without_a_seed_each_pass_has_an_order_of_its_own():
    tf.compat.v1.set_random_seed(None)
    source = recognised(slices().shuffle(ROWS).batch(4))
    found = [np.concatenate([y for _, y in source.epoch(epoch)]).tolist() for epoch in (0, 1)]
    assert found[0] != found[1] != list(Y) and sorted(found[0]) == sorted(found[1]) == list(Y)


UNKNOWN = {
    "map": lambda d: d.map(lambda x, y: (x, y)).batch(4),
    "filter": lambda d: d.filter(lambda x, y: y > 2).batch(4),
    "rows": lambda d: d,
    "batches of batches": lambda d: d.batch(2).batch(2),
    "padded": lambda d: d.padded_batch(4),
    "passes that nobody reads": lambda d: d.shuffle(ROWS, seed=1).batch(4).repeat(2),
    "a cache of a shuffle": lambda d: d.shuffle(ROWS, seed=1).batch(4).cache(),
    "options": lambda d: d.batch(4).with_options(tf.data.Options()),
    "zip": lambda d: tf.data.Dataset.zip((d.batch(4), d.batch(4))),
    "one batch": lambda d: tf.data.Dataset.from_tensors((X, Y)),
    "a generator": lambda d: tf.data.Dataset.from_generator(
        lambda: iter(Y), output_signature=tf.TensorSpec((), tf.int64)
    ).batch(4),
    "texts of a file": lambda d: d.batch(4).cache("none"),
    "TensorFlow 1": lambda d: tf.compat.v1.data.Dataset.from_tensor_slices(X).batch(4),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_only_tensorflow_can_tell_is_asked_of_it(name):
    tf.random.set_seed(7)
    assert numbered(UNKNOWN[name](slices())) is None


def test_one_order_that_nobody_gave_a_seed_is_tensorflows():
    tf.compat.v1.set_random_seed(None)
    assert numbered(slices().shuffle(ROWS, reshuffle_each_iteration=False).batch(4)) is None


@pytest.mark.parametrize("change", ["_buffer_size", "_input_dataset"])
def test_a_pipeline_without_what_is_known_of_it_is_asked_itself(change):
    data = made("shuffle, batch")
    shuffle = data._input_dataset._input_dataset
    delattr(shuffle, change)
    assert numbered(data) is None


# torch ------------------------------------------------------------------------------------------

TENSORS = torch.from_numpy(X), torch.from_numpy(Y)


def rows(*tensors):
    return torch_data.TensorDataset(*tensors or TENSORS)


def subset():
    return torch_data.random_split(rows(), [0.7, 0.3], torch.Generator().manual_seed(0))[0]


def loader(data=None, **options):
    return torch_data.DataLoader(data or rows(), **{"batch_size": 4, **options})


LOADERS = {
    "in order": loader,
    "shuffled": lambda: loader(shuffle=True),
    "without the rest": lambda: loader(shuffle=True, drop_last=True),
    "a generator of its own": lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(1)),
    "a part": lambda: loader(subset(), shuffle=True),
    "a part of a part": lambda: loader(torch_data.Subset(subset(), torch.tensor([5, -1, 2])), batch_size=2),
    "some rows": lambda: loader(sampler=torch_data.SubsetRandomSampler(torch.tensor([3, 1, 9, -2, 8]))),
    "by weight": lambda: loader(sampler=torch_data.WeightedRandomSampler(np.arange(ROWS) + 1.0, 40)),
    "a sampler of batches": lambda: torch_data.DataLoader(
        rows(), batch_sampler=torch_data.BatchSampler(torch_data.RandomSampler(rows()), 5, True)
    ),
    "one of several processes": lambda: loader(sampler=torch_data.DistributedSampler(rows(), 2, 1, seed=3)),
    "an array": lambda: loader(rows(TENSORS[0])),
    "dtypes": lambda: loader(rows(*(TENSORS[1].to(d) for d in (torch.bool, torch.float64, torch.uint8)))),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_gives_the_batches_of_torch_and_leaves_its_generators_as_torch_does(name):
    found, states = [], []
    for make in (recognised, ordinary):
        torch.manual_seed(3)
        given = LOADERS[name]()
        source = make(given)
        found.append([list(source.epoch(epoch)) for epoch in range(3)])
        states.append((torch.get_rng_state().tolist(), given.generator and given.generator.get_state().tolist()))
    assert_same(*map(itertools.chain.from_iterable, found))
    assert states[0] == states[1]


class Own(torch_data.TensorDataset):
    def __getitem__(self, index):
        return tuple(part * 2 for part in super().__getitem__(index))


OTHERS = {
    "a dataset of its own": lambda: loader(Own(*TENSORS)),
    "a part of one": lambda: loader(torch_data.Subset(Own(*TENSORS), [1, 2])),
    "items": lambda: loader([(1.0, 2), (3.0, 4)]),
    "a collate of its own": lambda: loader(collate_fn=lambda items: torch_data.default_collate(items)),
    "workers": lambda: loader(num_workers=1),
    "pinned": lambda: loader(pin_memory=True),
    "rows one by one": lambda: loader(batch_size=None),
    "a sampler of its own": lambda: loader(sampler=list(range(5))),
    "batches of its own": lambda: torch_data.DataLoader(rows(), batch_sampler=[[1, 2], (3,)]),
    "a loader of its own": lambda: type("Loader", (torch_data.DataLoader,), {})(rows(), batch_size=4),
    "a gradient": lambda: loader(rows(TENSORS[0].clone().requires_grad_(), TENSORS[1])),
    "a dtype of torch's": lambda: loader(rows(TENSORS[0].to(torch.bfloat16))),
    "no end": lambda: loader(type("Rows", (torch_data.IterableDataset,), {"__iter__": lambda self: iter(X)})()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_torch_can_tell_is_asked_of_it(name):
    assert numbered(OTHERS[name]()) is None


# Training ---------------------------------------------------------------------------------------


def trained(data, **options):
    lamina.utils.set_random_seed(1)
    model = lamina.Sequential(
        [lamina.Input((3,)), lamina.layers.Dense(4, activation="relu"), lamina.layers.Dense(ROWS)]
    )
    model.compile("adam", lamina.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(data(), epochs=3, validation_data=data(), verbose=0, **options).history
    return history, model.get_weights(), model.evaluate(data(), verbose=0), model.predict(data(), verbose=0)


@pytest.mark.parametrize("options", [{}, {"steps_per_epoch": 3}, {"class_weight": dict.fromkeys(range(ROWS), 2.0)}])
@pytest.mark.parametrize(
    "data",
    [
        lambda: made("shuffle, batch"),
        lambda: made("batch, repeat, shuffle"),
        lambda: made("one order"),
        LOADERS["a generator of its own"],
    ],
    ids=["tf.data", "batches of several sizes", "one order", "torch"],
)
def test_training_computes_the_same_to_the_last_bit(monkeypatch, data, options):
    mine = trained(data, **options)
    monkeypatch.setattr(sources, "numbered", lambda data: None)
    other = trained(data, **options)
    assert mine[0] == other[0] and mine[2] == other[2]
    for one, wanted in zip([*mine[1], mine[3]], [*other[1], other[3]], strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_float64_becomes_floatx_and_weights_are_applied():
    data = made("shuffle, batch", (X.astype("float64"), Y))
    for found in make_source(data, class_weight={0: 3.0}).epoch(0):
        assert [part.dtype.name for part in found] == ["float32", "int64", "float32"]
        np.testing.assert_array_equal(found[2], np.where(found[1] == 0, 3, 1))


def test_what_is_made_of_texts_on_the_host_is_made_for_one_batch_at_a_time():
    words = np.array(["a b", "b", "c a", "a"] * 4)
    vectors = lamina.layers.TextVectorization(output_mode="multi_hot", vocabulary=["a", "b", "c"])
    model = lamina.Sequential([lamina.Input((1,), dtype="string"), vectors, lamina.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = made("batch", (words[:, None], np.ones((16, 1), "float32")))
    assert not isinstance(make_source(data, fed=model._fed), RowSource)
    model.fit(data, verbose=0)
    assert model.predict(data, verbose=0).shape == (16, 1)
