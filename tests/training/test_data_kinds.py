"""Whatever holds the rows: fit, evaluate and predict give what they give for NumPy arrays, bit by bit."""

import array
import tracemalloc

import datasets
import grain
import h5py
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import tensorflow as tf
import torch
import xarray as xr

import lamina
from lamina import layers
from lamina.data.sources import make_source

ROWS, SIZE = 24, 8
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(ROWS, 1)).astype("float32")
W = np.random.default_rng(2).uniform(size=ROWS).astype("float32")
B = X[:, :2] * 2
PARTS = {"x": X, "y": Y, "sample_weight": W}


def one():
    lamina.utils.set_random_seed(1)
    inputs = lamina.Input((3,), name="x")
    model = lamina.Model(inputs, layers.Dense(1, name="y")(inputs))
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
    return model


def two():
    lamina.utils.set_random_seed(1)
    a, b = lamina.Input((3,), name="a"), lamina.Input((2,), name="b")
    model = lamina.Model({"a": a, "b": b}, layers.Dense(1, name="y")(layers.Concatenate()([a, b])))
    model.compile("sgd", "mse")
    return model


class Only:
    """An array that shows itself by some names alone."""

    def __init__(self, whole, *names):
        self.whole, self.shape, self.dtype = whole, whole.shape, whole.dtype
        for name in {"shape", "dtype"} - set(names):
            delattr(self, name)


class OnlyArray(Only):
    def __array__(self, dtype=None, copy=None):
        return self.whole


class OnlyInterface(Only):
    __array_interface__ = property(lambda self: self.whole.__array_interface__)


class OnlyDlpack(Only):
    def __dlpack__(self, **options):
        return self.whole.__dlpack__(**options)


class OnlySlices(Only):
    """As an array of zarr: it knows slices and no other index."""

    def __getitem__(self, index):
        assert isinstance(index, slice) and index.step in (None, 1)
        return self.whole[index]


def in_file(whole, path):
    name = path / f"{len(list(path.iterdir()))}.h5"
    with h5py.File(name, "w") as file:
        file["rows"] = whole
    return h5py.File(name)["rows"]


def mapped(whole, path):
    name = path / f"{len(list(path.iterdir()))}.npy"
    np.save(name, whole)
    return np.load(name, mmap_mode="r")


def hugging_face(whole, form=None):
    return datasets.Dataset.from_dict({"part": whole.tolist()}).cast_column(
        "part", datasets.List(datasets.Value("float32")) if whole.ndim > 1 else datasets.Value("float32")
    ).with_format(form)["part"]  # fmt: skip


# What makes an array of a kind out of x, y or the weights.
ARRAYS = {
    "jax": lambda a, path: jnp.asarray(a),
    "lists": lambda a, path: a.tolist(),
    "rows in a list": lambda a, path: list(a),
    "tensors in a list": lambda a, path: list(torch.tensor(a)) if a.ndim > 1 else torch.tensor(a),
    "objects": lambda a, path: np.array([*a, None], object)[:-1] if a.ndim > 1 else a,
    "torch": lambda a, path: torch.tensor(a),
    "torch with gradients": lambda a, path: torch.tensor(a, requires_grad=True),
    "tf": lambda a, path: tf.constant(a),
    "pandas": lambda a, path: pd.DataFrame(a) if a.ndim > 1 else pd.Series(a),
    "pandas nullable": lambda a, path: (pd.DataFrame(a) if a.ndim > 1 else pd.Series(a)).convert_dtypes(),
    "pandas of Arrow": lambda a, path: pd.DataFrame(a).convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda a, path: pl.DataFrame(a) if a.ndim > 1 else pl.Series(a),
    "polars rows": lambda a, path: pl.Series("rows", a),
    "polars lists": lambda a, path: pl.Series("rows", a.tolist()),
    "Arrow table": lambda a, path: pa.table({str(i): column for i, column in enumerate(a.reshape(ROWS, -1).T)}),
    "Arrow array": lambda a, path: pa.array(a.tolist()),
    "Arrow chunks": lambda a, path: pa.chunked_array([a[:9].tolist(), a[9:].tolist()]),
    "xarray": lambda a, path: xr.DataArray(a),
    "sparse": lambda a, path: scipy.sparse.csr_matrix(a) if a.ndim > 1 else a,
    "sparse by keys": lambda a, path: scipy.sparse.dok_matrix(a) if a.ndim > 1 else a,
    "sparse of tf": lambda a, path: tf.sparse.from_dense(a) if a.ndim > 1 else a,
    "sparse of torch": lambda a, path: torch.tensor(a).to_sparse() if a.ndim > 1 else a,
    "Hugging Face": lambda a, path: hugging_face(a),
    "Hugging Face numpy": lambda a, path: hugging_face(a, "numpy"),
    "Hugging Face torch": lambda a, path: hugging_face(a, "torch"),
    "HDF5": in_file,
    "memory map": mapped,
    "__array__": lambda a, path: OnlyArray(a),
    "__array_interface__": lambda a, path: OnlyInterface(a),
    "__dlpack__": lambda a, path: OnlyDlpack(a),
    "slices": lambda a, path: OnlySlices(a, "shape", "dtype"),
    "buffers": lambda a, path: memoryview(a) if a.ndim > 1 else array.array("f", a),
    "float64": lambda a, path: a.astype("float64"),
    "memory map of float64": lambda a, path: mapped(a.astype("float64"), path),
}


def results(model, x, y=None, weights=None, **options):
    """All that comes out of fit, evaluate and predict."""
    given = {} if weights is None else {"sample_weight": weights}
    history = model.fit(x() if callable(x) else x, y, epochs=2, verbose=0, **given, **options).history
    options.pop("shuffle", None)
    scores = model.evaluate(x() if callable(x) else x, y, verbose=0, return_dict=True, **given, **options)
    return history, scores, model.predict(x() if callable(x) else x, verbose=0, **options), model.get_weights()


def assert_same(got, wanted):
    assert got[:2] == wanted[:2]
    np.testing.assert_array_equal(got[2], wanted[2])
    for a, b in zip(got[3], wanted[3], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def of_numpy():
    """The results for NumPy arrays, by how they are given."""
    return {
        "labels": results(one(), X, Y, batch_size=SIZE),
        "weights": results(one(), X, Y, W, batch_size=SIZE),
        "dicts": results(two(), {"a": X, "b": B}, {"y": Y}, batch_size=SIZE),
        "in order": results(one(), X, Y, batch_size=SIZE, shuffle=False),
        "weights in order": results(one(), X, Y, W, batch_size=SIZE, shuffle=False),
        "dicts in order": results(two(), {"a": X, "b": B}, {"y": Y}, batch_size=SIZE, shuffle=False),
    }


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_kind(kind, of_numpy, tmp_path):
    x, y, b, weights = (ARRAYS[kind](each, tmp_path) for each in (X, Y, B, W))
    assert_same(results(one(), x, y, batch_size=SIZE), of_numpy["labels"])
    assert_same(results(one(), x, y, weights, batch_size=SIZE), of_numpy["weights"])
    assert_same(results(two(), {"a": x, "b": b}, {"y": y}, batch_size=SIZE), of_numpy["dicts"])


def columns(**parts):
    return datasets.Dataset.from_dict({name: part.tolist() for name, part in parts.items()})


class Items(torch.utils.data.Dataset):
    """Rows that are made one at a time."""

    def __init__(self, *parts, as_dict=()):
        self.parts, self.names = parts, as_dict

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        row = [part[i] for part in self.parts]
        return dict(zip(self.names, row)) if self.names else tuple(row)


def tensors(*parts):
    return torch.utils.data.TensorDataset(*map(torch.tensor, parts))


# What holds x, y and the weights by name or by place: (with labels, with weights too, by the names of two inputs).
TABLES = {
    "Hugging Face": (
        lambda: columns(x=X, y=Y), lambda: columns(x=X, y=Y, sample_weight=W), lambda: columns(a=X, b=B, y=Y)),
    "Hugging Face in a format": (
        lambda: columns(x=X, y=Y).with_format("torch"), lambda: columns(**PARTS).with_format("jax"),
        lambda: columns(a=X, b=B, y=Y).with_format("numpy")),
    "Hugging Face with indices": (
        lambda: columns(x=X[::-1], y=Y[::-1]).select(range(ROWS - 1, -1, -1)), lambda: columns(**PARTS),
        lambda: columns(a=X, b=B, y=Y)),
    "torch": (lambda: Items(X, Y), lambda: Items(X, Y, W), lambda: Items(X, B, Y, as_dict=("a", "b", "y"))),
    "torch tensors": (lambda: tensors(X, Y), lambda: tensors(X, Y, W), lambda: Items(X, B, Y, as_dict=("a", "b", "y"))),
    "xarray": (
        lambda: xr.Dataset({"x": (("row", "i"), X), "y": (("row", "j"), Y)}),
        lambda: xr.Dataset({"x": (("row", "i"), X), "y": (("row", "j"), Y), "sample_weight": (("row",), W)}),
        lambda: xr.Dataset({"a": (("row", "i"), X), "b": (("row", "k"), B), "y": (("row", "j"), Y)})),
    "dict": (lambda: {"x": X, "y": Y}, lambda: dict(PARTS), lambda: {"a": X, "b": B, "y": Y}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_kind(kind, of_numpy):
    labels, weights, dicts = TABLES[kind]
    assert_same(results(one(), labels, batch_size=SIZE), of_numpy["labels"])
    assert_same(results(one(), weights, batch_size=SIZE), of_numpy["weights"])
    assert_same(results(two(), dicts, batch_size=SIZE), of_numpy["dicts"])


class Batches(lamina.utils.PyDataset):
    def __init__(self, parts, make=tuple, **options):
        super().__init__(**options)
        self.parts, self.make = parts, make

    def __len__(self):
        return ROWS // SIZE

    def __getitem__(self, i):
        rows = slice(SIZE * i, SIZE * i + SIZE)
        return self.make([{k: v[rows] for k, v in p.items()} if isinstance(p, dict) else p[rows] for p in self.parts])


class Repeats:
    """An iterable of batches, and nothing else."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return (self.batches[i] for i in range(len(self.batches)))


def tf_data(parts):
    return tf.data.Dataset.from_tensor_slices(tuple(parts)).batch(SIZE)


def loader(parts):
    rows = [tuple({k: v[i] for k, v in p.items()} if isinstance(p, dict) else p[i] for p in parts) for i in range(ROWS)]
    return torch.utils.data.DataLoader(rows, batch_size=SIZE)


def grain_of(parts):
    rows = [tuple({k: v[i] for k, v in p.items()} if isinstance(p, dict) else p[i] for p in parts) for i in range(ROWS)]
    return grain.MapDataset.source(rows).batch(SIZE)


NAMES = ("x", "y", "sample_weight")
STREAMS = {
    "PyDataset": Batches,
    "threads": lambda parts: Batches(parts, workers=2, max_queue_size=3),
    "iterable": lambda parts: Repeats(Batches(parts)),
    "iterable of dicts": lambda parts: Repeats(Batches(parts, by_name)),
    "tf.data": tf_data,
    "tf.data of dicts": lambda parts: tf_data(parts).map(lambda *p: by_name(p)),
    "loader": loader,
    "loader of dicts": lambda parts: Repeats([by_name(batch) for batch in loader(parts)]),
    "Grain": grain_of,
    "Grain iterator": lambda parts: grain_of(parts).to_iter_dataset(),
}


def by_name(parts):
    x, *others = parts
    named = x if isinstance(x, dict) else {"x": x}
    y = {} if not others else others[0] if isinstance(others[0], dict) else {"y": others[0]}
    return {**named, **y, **({"sample_weight": others[1]} if len(others) > 1 else {})}


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_of_every_kind(kind, of_numpy):
    make = STREAMS[kind]
    assert_same(results(one(), make([X, Y]), shuffle=False), of_numpy["in order"])
    assert_same(results(one(), make([X, Y, W]), shuffle=False), of_numpy["weights in order"])
    assert_same(results(two(), make([{"a": X, "b": B}, {"y": Y}]), shuffle=False), of_numpy["dicts in order"])


@pytest.mark.parametrize("make", [tuple, by_name], ids=["tuples", "dicts"])
def test_generators(make, of_numpy):
    def batches():
        return (Batches([X, Y], make)[i] for i in [0, 1, 2] * 2)

    model = one()
    history = model.fit(batches(), epochs=2, steps_per_epoch=3, shuffle=False, verbose=0).history
    scores = model.evaluate(batches(), steps=3, verbose=0, return_dict=True)
    found = history, scores, model.predict(batches(), steps=3, verbose=0), model.get_weights()
    assert_same(found, of_numpy["in order"])


def test_a_stream_of_rows_is_batched_if_it_can_be(of_numpy):
    rows = columns(x=X, y=Y).to_iterable_dataset()
    assert_same(results(one(), rows, batch_size=SIZE, shuffle=False), of_numpy["in order"])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "Arrow"])
def test_a_frame_goes_by_name_to_several_inputs(frame):
    def model():
        lamina.utils.set_random_seed(1)
        inputs = [lamina.Input((1,), name=name) for name in "ab"]
        made = lamina.Model(inputs, layers.Dense(1, name="y")(layers.Concatenate()(inputs)))
        made.compile("sgd", "mse")
        return made

    wanted = results(model(), [X[:, :1], X[:, 1:2]], Y, batch_size=SIZE)
    assert_same(results(model(), frame({"b": X[:, 1], "y": Y[:, 0], "a": X[:, 0]}), batch_size=SIZE), wanted)


def test_a_lazy_frame_is_collected_with_a_word(of_numpy):
    with pytest.warns(UserWarning, match="fit: a LazyFrame is collected, all of it; give its collect"):
        history = one().fit(pl.DataFrame(X).lazy(), Y, batch_size=SIZE, epochs=2, verbose=0).history
    assert history == of_numpy["labels"][0]


def test_a_split_of_rows_that_are_read_when_asked_for(tmp_path):
    x, y = in_file(X, tmp_path), mapped(Y, tmp_path)
    options = dict(batch_size=SIZE, epochs=2, validation_split=0.25, verbose=0)
    assert one().fit(x, y, **options).history == one().fit(X, Y, **options).history


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_larger_than_memory_is_read_by_the_window(shuffle, dtype, tmp_path):
    rows, width = 1 << 24, 1 << 14  # a terabyte or two, none of it written
    big = np.memmap(tmp_path / "big", dtype, "w+", shape=(rows, width))
    model = lamina.Sequential([lamina.Input((width,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    y = np.lib.stride_tricks.as_strided(np.zeros(1, "float32"), (rows, 1), (0, 0))
    tracemalloc.start()
    try:
        model.fit(big[: 1 << 10], np.zeros((1 << 10, 1)), batch_size=64, verbose=0, shuffle=shuffle)
        source = make_source(big, y, batch_size=64)
        assert source.num_batches == rows // 64 and source.peek()[0].shape == (64, width)
        assert model.predict(big, batch_size=4, steps=3, verbose=0).shape[1:] == (1,)
        assert tracemalloc.get_traced_memory()[1] < 400 << 20
    finally:
        tracemalloc.stop()


def test_validation_data_of_rows_have_the_batches_of_arrays():
    options = dict(batch_size=SIZE - 1, verbose=0)
    wanted = one().fit(X, Y, validation_data=(X, Y), **options).history
    for data in (columns(x=X, y=Y), tensors(X, Y), {"x": X, "y": Y}):
        assert one().fit(X, Y, validation_data=data, **options).history == wanted


def test_text_in_a_dataset_goes_to_a_model_of_texts_and_past_others(of_numpy):
    texts = ["a b", "b c", "c"] * (ROWS // 3)
    assert_same(results(one(), columns(x=X, y=Y).add_column("t", texts), batch_size=SIZE), of_numpy["labels"])
    words = layers.TextVectorization(max_tokens=10, output_sequence_length=3)
    words.adapt(texts)
    inputs = lamina.Input((1,), dtype="string", name="t")
    outputs = layers.Dense(1, name="y")(layers.Flatten()(layers.Embedding(10, 2)(words(inputs))))
    model = lamina.Model(inputs, outputs)
    data = columns(y=Y).add_column("t", texts)
    np.testing.assert_array_equal(model.predict(data, verbose=0), model.predict(np.array(texts), verbose=0))


class Sums(lamina.Model):
    """What comes to each node of a graph from those with edges to it."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, graph):
        nodes, edges = graph  # (nodes, features), (2, edges)
        loops = lamina.ops.concatenate([edges, lamina.ops.zeros((2, 3), "int32")], axis=1)
        sent = lamina.ops.take(self.dense(nodes), loops[0], axis=0)
        return lamina.ops.segment_sum(sent, loops[1], num_segments=nodes.shape[0])


def graph(nodes, edges, seed):
    rng = np.random.default_rng(seed)
    given = (rng.normal(size=(nodes, 3)).astype("float32"), rng.integers(0, nodes, (2, edges)).astype("int32"))
    return given, rng.normal(size=(nodes, 1)).astype("float32")


def test_a_batch_is_a_graph_of_nodes_and_edges():
    """Arrays of x may have rows of their own, and those of the next batch others."""
    graphs = [graph(10, 20, 0), graph(10, 20, 1), graph(7, 9, 2)]
    models = []
    for step in ("fit", "train_on_batch"):
        lamina.utils.set_random_seed(0)
        model = Sums()
        model.compile(lamina.optimizers.SGD(0.01), "mse")
        if step == "fit":
            model.fit((each for each in graphs), verbose=0)
        else:
            for each in graphs:
                model.train_on_batch(*each)
        models.append(model)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert models[0].predict(iter([(x,) for x, _ in graphs]), verbose=0).shape == (27, 1)
    assert models[0].predict_on_batch(graphs[2][0]).shape == (7, 1)
    losses = [models[0].test_on_batch(*each) for each in graphs]
    total = models[0].evaluate(iter(graphs), verbose=0)
    np.testing.assert_allclose(total, np.average(losses, weights=[10, 10, 7]), rtol=1e-5)


def test_a_graph_has_targets_of_its_nodes():
    model = Sums()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match='loss: y for output "output_0" must have 10 rows, got 4'):
        model.train_on_batch(graph(10, 20, 0)[0], np.ones((4, 1)))
