"""Sources: arrays with their orders, and every kind of stream."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

from lamina.data.sources import make_source
from lamina.data.streams import PyDataset

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


def first_values(batches):
    """The first value of x of each batch: which rows came, in which order."""
    return [int(jax.tree.leaves(batch)[0].ravel()[0]) for batch in batches]


# Arrays


def test_arrays_are_what_a_train_step_gets():
    x, y, weights = X, Y, np.ones(10)
    assert isinstance(make_source(x).arrays, np.ndarray)
    assert len(make_source([x]).arrays) == 1 and isinstance(make_source([x]).arrays, tuple)
    assert len(make_source(x, y).arrays) == 2
    assert len(make_source(x, y, weights).arrays) == 3


@pytest.mark.parametrize(
    ("options", "batch_size", "num_batches"),
    [
        ({}, 32, 1),
        (dict(batch_size=4), 4, 3),
        (dict(batch_size=5), 5, 2),
        (dict(batch_size=np.int64(10)), 10, 1),
        (dict(steps=4), 3, 4),
        (dict(steps=7), 2, 5),
        (dict(batch_size=2, steps=3), 2, 5),
    ],
)
def test_batches_of_arrays(options, batch_size, num_batches):
    source = make_source(X, Y, **options)
    assert (source.size, source.batch_size, source.num_batches) == (10, batch_size, num_batches)


def test_the_structure_tells_shapes_and_dtypes_of_a_batch():
    x, y = make_source({"a": X}, Y, batch_size=4).structure
    assert (x["a"].shape, x["a"].dtype) == ((4, 2), np.float32)
    assert (y.shape, y.dtype) == ((4,), jnp.zeros(0, int).dtype)


def test_rows_keep_their_order_without_shuffle():
    assert make_source(X).order(3) is None


@pytest.mark.parametrize("shuffle", [True, "batch"])
def test_an_order_is_a_permutation_that_the_seed_and_the_epoch_tell(shuffle):
    np.random.seed(0)
    options = dict(batch_size=4, shuffle=shuffle)
    big = np.zeros((50, 1))
    orders = [make_source(big, seed=s, **options).order(e) for s, e in itertools.product((1, 2), (0, 1))]
    np.random.seed(1)
    again = [make_source(big, seed=s, **options).order(e) for s, e in itertools.product((1, 2), (0, 1))]
    for order, other in zip(orders, again):
        assert order.dtype == np.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
        np.testing.assert_array_equal(order, other)
    assert len({order.tobytes() for order in orders}) == 4


def test_drawing_an_order_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    make_source(X, shuffle=True).order(0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_orders_stay_the_same_over_versions():
    """A run that is resumed under another NumPy must see the same batches."""
    assert make_source(X, shuffle=True, seed=42).order(3).tolist() == [8, 4, 7, 1, 6, 3, 0, 2, 9, 5]


def test_shuffle_batch_keeps_rows_in_their_batch():
    order = make_source(X, batch_size=4, shuffle="batch", seed=1).order(0)
    assert [sorted(part.tolist()) for part in np.split(order, [4, 8])] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_with_steps_epochs_share_a_pass(shuffle):
    """5 batches of 2 rows, 2 steps an epoch: 2, 2, 1 batches, then the next pass."""
    source = make_source(X, batch_size=2, steps=2, shuffle=shuffle, seed=5)
    whole = make_source(X, batch_size=2, shuffle=shuffle, seed=5)
    assert [source.rows(e) for e in range(6)] == [4, 4, 2, 4, 4, 2]
    for number in range(2):
        parts = []
        for epoch in range(3 * number, 3 * number + 3):
            order = source.order(epoch)
            parts.append((np.arange(10) if order is None else order)[: source.rows(epoch)])
        full = whole.order(number)
        np.testing.assert_array_equal(np.concatenate(parts), np.arange(10) if full is None else full)


def test_a_source_passes_through():
    source = make_source(X)
    assert make_source(source) is source


# Streams


class Batches(PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], Y[rows]


class Endless(Batches):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return np.full((4, 2), index, "float32"), np.zeros(4)


class Iterable:
    """Neither a generator nor of any library."""

    def __iter__(self):
        return (Batches()[i] for i in range(3))


def grain_like(name, **methods):
    """A class that looks as those of Grain, which may not be installed."""
    return type(name, (), {"__module__": "grain._src.python.dataset.dataset", **methods})()


STREAMS = {
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(4),
    "torch": lambda: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=4
    ),
    "PyDataset": Batches,
    "iterable": Iterable,
    "grain MapDataset": lambda: grain_like(
        "MapDataset", __len__=Batches.__len__, __getitem__=Batches.__getitem__, __iter__=Iterable.__iter__
    ),
    "grain IterDataset": lambda: grain_like("IterDataset", __iter__=Iterable.__iter__),
    "grain DataLoader": lambda: grain_like("DataLoader", __iter__=Iterable.__iter__),
}
ONCE = {"generator": lambda: (Batches()[i] for i in range(3)), "iterator": lambda: iter(list(Iterable()))}
KNOWN_LENGTH = {"tf.data", "torch", "PyDataset", "grain MapDataset"}
KNOWN_SIZE = {"torch"}


def make(kind, **options):
    return make_source((STREAMS | ONCE)[kind](), **options)


@pytest.mark.parametrize("kind", [*STREAMS, *ONCE])
def test_a_stream_gives_batches_of_numpy_arrays(kind):
    got = list(make(kind).epoch(0))
    assert len(got) == 3
    for i, batch in enumerate(got):
        assert isinstance(batch, tuple) and len(batch) == 2
        for part, whole in zip(batch, (X, Y)):
            assert type(part) is np.ndarray and part.dtype == whole.dtype
            np.testing.assert_array_equal(part, whole[4 * i : 4 * i + 4])


@pytest.mark.parametrize("kind", [*STREAMS, *ONCE])
def test_the_number_of_batches_is_known_where_the_data_tell_it(kind):
    source = make(kind)
    assert source.num_batches == (3 if kind in KNOWN_LENGTH else None)
    assert source.batch_size == (4 if kind in KNOWN_SIZE else None)


@pytest.mark.parametrize("kind", [*STREAMS, *ONCE])
def test_peeking_takes_nothing_away(kind):
    source = make(kind)
    assert source.structure[0].shape == (4, 2)
    assert first_values([source.peek()]) == [0]
    assert first_values(source.epoch(0)) == [0, 8, 16]


@pytest.mark.parametrize("kind", STREAMS)
def test_what_can_be_iterated_again_starts_anew_each_epoch(kind):
    source = make(kind)
    assert [first_values(source.epoch(e)) for e in range(2)] == [[0, 8, 16]] * 2


@pytest.mark.parametrize("kind", STREAMS)
def test_an_epoch_that_is_left_early_does_not_shift_the_next(kind):
    source = make(kind)
    early = source.epoch(0)
    next(early)
    early.close()
    assert first_values(source.epoch(1)) == [0, 8, 16]


@pytest.mark.parametrize("kind", ONCE)
def test_an_iterator_goes_on_where_it_was_and_ends(kind):
    source = make(kind, steps=2)
    assert [first_values(source.epoch(e)) for e in range(3)] == [[0, 8], [16], []]


@pytest.mark.parametrize("kind", STREAMS)
def test_with_steps_epochs_of_a_stream_share_a_pass(kind):
    source = make(kind, steps=2)
    assert [first_values(source.epoch(e)) for e in range(4)] == [[0, 8], [16], [0, 8], [16]]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_pass_that_ends_with_an_epoch_leaves_no_empty_one(kind):
    source = make(kind, steps=3)
    assert [first_values(source.epoch(e)) for e in range(2)] == [[0, 8, 16]] * 2


def sought(make, epoch, first):
    """What is left of an epoch for a run that goes on there, without those before it and from their whole."""
    source, whole = make(), make()
    for earlier in range(epoch):
        source.pass_over(earlier)
        list(whole.epoch(earlier))
    return first_values(source.epoch(epoch, first)), first_values(whole.epoch(epoch))[first:]


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_the_position_in_arrays_can_be_sought(shuffle, first):
    found, wanted = sought(lambda: make_source(X, Y, batch_size=5, shuffle=shuffle, seed=3), 1, first)
    assert found == wanted


@pytest.mark.parametrize("options", [{}, {"steps": 2}], ids=["passes", "parts of passes"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_goes_on_at_a_position(kind, options):
    for epoch, first in [(0, 2), (1, 0), (1, 1), (2, 0)]:
        found, wanted = sought(lambda: make(kind, shuffle=True, **options), epoch, first)
        assert found == wanted


def test_an_iterator_is_gone_through():
    source = make("generator", steps=1)
    source.pass_over(0)
    assert first_values(source.epoch(1, 0)) == [8]


@pytest.mark.parametrize("kind", STREAMS)
def test_epoch_0_starts_a_pass(kind):
    """So that each validation with `validation_steps` sees the same batches."""
    source = make(kind, steps=2)
    source.peek()
    assert [first_values(source.epoch(0)) for _ in range(3)] == [[0, 8]] * 3


def test_the_first_batch_of_a_dataset_is_computed_once_however_often_it_is_looked_at():
    class Counts(Batches):
        asked = 0

        def __getitem__(self, index):
            self.asked += 1
            return super().__getitem__(index)

    data = Counts()
    source = make_source(data)
    assert source.structure is not None and source.peek() is source.peek()
    assert data.asked == 1


@pytest.mark.parametrize("kind", sorted(set(STREAMS) - {"PyDataset"}))
def test_reset_starts_a_pass_anew(kind):
    source = make(kind, steps=2)
    first_values(source.epoch(0))
    source.reset()
    assert first_values(source.epoch(1)) == [0, 8]


def test_an_epoch_with_steps_takes_no_batch_beyond_them():
    taken = []
    source = make_source((taken.append(i) or (X,) for i in range(9)), steps=2)
    list(source.epoch(0))
    assert taken == [0, 1]


@pytest.mark.parametrize(
    "data",
    [
        Endless(),
        tf.data.Dataset.from_tensors((X, Y)).repeat(),
        grain_like("MapDataset", __len__=lambda self: sys.maxsize, __iter__=Iterable.__iter__),
        torch.utils.data.DataLoader(
            type("Rows", (torch.utils.data.IterableDataset,), {"__iter__": Iterable.__iter__})()
        ),
    ],
    ids=["PyDataset", "tf.data", "grain", "torch"],
)
def test_data_without_end_have_no_number_of_batches(data):
    assert make_source(data, steps=1).num_batches is None


def test_an_endless_dataset_goes_on_by_position():
    source = make_source(Endless(), steps=2)
    assert [first_values(source.epoch(e)) for e in (0, 1, 7)] == [[0, 1], [2, 3], [14, 15]]


def test_the_batches_of_a_dataset_are_shuffled_by_seed_and_epoch():
    class Many(Batches):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return np.full((1, 1), index)

    def order(seed, epoch):
        return first_values(make_source(Many(), shuffle=True, seed=seed).epoch(epoch))

    assert sorted(order(1, 0)) == list(range(20))
    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(s, e)) for s, e in itertools.product((1, 2), (0, 1))}) == 4


def test_hooks_of_a_dataset_frame_each_epoch_and_a_peek():
    log = []

    class Logged(Batches):
        def __getitem__(self, index):
            log.append(index)
            return super().__getitem__(index)

        def on_epoch_begin(self):
            log.append("begin")

        def on_epoch_end(self):
            log.append("end")

    source = make_source(Logged(), steps=2)
    source.peek()
    for epoch in range(2):
        list(source.epoch(epoch))
    assert log == ["begin", 0, "end", "begin", 0, 1, "end", "begin", 2, "end"]


@pytest.mark.parametrize("kind", STREAMS)
def test_class_weights_are_applied_to_each_batch(kind):
    weights = [w for _, _, w in make(kind, class_weight={0: 0.5, 9: 3.0}).epoch(0)]
    np.testing.assert_array_equal(np.concatenate(weights), [0.5] + [1] * 8 + [3])
    assert weights[0].dtype == np.float32


def test_float64_becomes_floatx_and_smaller_floats_stay():
    batch = next(make_source((X.astype("float64"), X.astype("float16")) for _ in range(1)).epoch(0))
    assert [part.dtype for part in batch] == [np.float32, np.float16]


BATCHES = [
    pytest.param([X, Y], (X, Y), id="a list"),
    pytest.param((X.tolist(), Y.tolist()), (X, Y), id="lists of numbers"),
    pytest.param((X,), (X,), id="x alone"),
    pytest.param(({"a": X, "b": [X]}, Y), ({"a": X, "b": [X]}, Y), id="nested"),
    pytest.param((X, None, Y), (X, None, Y), id="None"),
    pytest.param((jnp.asarray(X), torch.tensor(Y)), (X, Y), id="other libraries"),
]


@pytest.mark.parametrize(("given", "wanted"), BATCHES)
def test_what_a_batch_may_be(given, wanted):
    batch = next(make_source(iter([given])).epoch(0))
    assert jax.tree.structure(batch) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, batch, wanted)


@pytest.mark.parametrize("batch", [X, {"a": X}], ids=["array", "dict"])
def test_a_dataset_may_give_x_without_a_tuple(batch):
    class Bare(Batches):
        def __getitem__(self, index):
            return batch

    got = next(make_source(Bare()).epoch(0))
    assert type(got) is type(batch)


WRONG_BATCHES = [
    pytest.param((X, Y, Y, Y), r"fit: a batch of builtins.generator must be a tuple .* got a tuple of 4\.", id="4"),
    pytest.param((), "got a tuple of 0", id="0"),
    pytest.param(X, "must be a tuple .* got numpy.ndarray", id="no tuple"),
    pytest.param(None, "got None", id="None"),
    pytest.param((X, Y[:3]), "in a batch of builtins.generator: all arrays must have .* x 10, y 3", id="lengths"),
    pytest.param((X[:0], Y[:0]), "must not be empty", id="empty"),
    pytest.param((X, 3.0), "y must have a first axis of rows, got a single number; batch the data", id="a number"),
    pytest.param((np.array(["a"]),), "x must hold numbers", id="strings"),
    pytest.param(({"a": object()}, Y), r"x\['a'\] must be arrays", id="an object"),
]


@pytest.mark.parametrize(("batch", "message"), WRONG_BATCHES)
def test_wrong_batches_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        make_source(b for b in [batch]).peek()


@pytest.mark.parametrize("data", [iter([]), type("Empty", (Batches,), {"__len__": lambda self: 0})()])
def test_a_stream_without_batches_is_an_error(data):
    with pytest.raises(ValueError, match="fit: x must give at least one batch, got an empty"):
        make_source(data).peek()


@pytest.mark.parametrize("kind", [*STREAMS, *ONCE])
@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_targets_beside_a_stream_are_refused(kind, name):
    with pytest.raises(ValueError, match=f"fit: {name} must be part of each batch when x is a "):
        make(kind, **{name: Y})


@pytest.mark.parametrize("kind", [*STREAMS, *ONCE])
def test_a_batch_size_beside_a_stream_has_no_effect_and_a_warning(kind):
    with pytest.warns(UserWarning, match="fit: batch_size=2 is not used"):
        source = make(kind, batch_size=2)
    assert len(list(source.epoch(0))) == 3


def test_class_weights_beside_sample_weights_in_a_batch_are_refused():
    with pytest.raises(ValueError, match="class_weight and sample_weight must not both be given"):
        make_source(iter([(X, Y, Y)]), class_weight={0: 1}).peek()


@pytest.mark.parametrize(
    "tensor", [tf.ragged.constant([[1], [2, 3]]), tf.sparse.from_dense([[0, 1], [2, 0]])], ids=["ragged", "sparse"]
)
def test_tensors_that_are_not_dense_are_refused(tensor):
    with pytest.raises(ValueError, match="fit: x must give dense tensors"):
        make_source(tf.data.Dataset.from_tensors(tensor))


def test_single_rows_of_tf_data_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="y must have a first axis of rows, got a single number; batch the data first"):
        make_source(tf.data.Dataset.from_tensor_slices((X, Y))).peek()


def test_tf_data_tells_the_size_of_its_batches():
    data = tf.data.Dataset.from_tensor_slices(X).batch(4, drop_remainder=True)
    source = make_source(data)
    assert (source.batch_size, source.num_batches) == (4, 2)
    assert source.peek().shape == (4, 2)


def test_a_torch_loader_with_workers():
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(rows, batch_size=4, num_workers=1, multiprocessing_context="forkserver")
    assert first_values(make_source(loader).epoch(0)) == [0, 8, 16]
