"""`lamina.data.Dataset`: the words of tf.data, threads, seeking, caches, and training."""

import gc
import threading
import time

import numpy as np
import pytest

import lamina
from lamina.data import AUTOTUNE, Dataset

X, Y = np.arange(20.0, dtype="float32").reshape(10, 2), np.arange(10)


def rows():
    return Dataset.from_tensor_slices((X, Y))


def labels(dataset, epoch=None):
    read = dataset.as_numpy_iterator() if epoch is None else dataset.flow.read(epoch)
    return [np.asarray(y).tolist() for _, y in read]


def data_threads():
    return [t for t in threading.enumerate() if t.name.startswith("lamina-")]


# Each by a name: what is made of the dataset `d`.
PIPELINES = {
    "map": lambda d: d.map(lambda x, y: (x * 2, y + 1), num_parallel_calls=AUTOTUNE),
    "map in order": lambda d: d.map(lambda x, y: {"x": x, "y": y}),
    "batch": lambda d: d.batch(3),
    "batch without the rest": lambda d: d.batch(3, drop_remainder=True),
    "shuffle": lambda d: d.shuffle(4, seed=1),
    "one order": lambda d: d.shuffle(4, seed=1, reshuffle_each_iteration=False),
    "shuffle of all, in batches": lambda d: d.shuffle(20, seed=1).batch(4),
    "shuffle, repeat": lambda d: d.shuffle(10, seed=1).repeat(2).batch(4),
    "repeat, shuffle": lambda d: d.repeat(2).shuffle(7, seed=1),
    "endless": lambda d: d.repeat().shuffle(5, seed=2).take(25),
    "filter": lambda d: d.filter(lambda x, y: y % 2 == 0).batch(2),
    "filter, shuffle": lambda d: d.filter(lambda x, y: y % 2 == 0).shuffle(3, seed=2),
    "filter, repeat": lambda d: d.filter(lambda x, y: y > 6).repeat(2),
    "take, skip": lambda d: d.take(5).skip(1),
    "all of take and skip": lambda d: d.take(-1).concatenate(d.skip(-1)),
    "concatenate": lambda d: d.skip(7).concatenate(d.filter(lambda x, y: y < 2)),
    "unbatch": lambda d: d.batch(3).map(lambda x, y: (x, y)).unbatch(),
    "unbatch without the rest": lambda d: d.filter(lambda x, y: y > 2).batch(3, True).unbatch(),
    "unbatch of padded ones": lambda d: d.map(lambda x, y: y).padded_batch(2).unbatch(),
    "enumerate": lambda d: d.enumerate(5),
    "zip": lambda d: type(d).zip((d, type(d).range(2, 9, 2))),
    "cache of a shuffle": lambda d: d.shuffle(5, seed=3).cache(),
    "cache, shuffle": lambda d: d.cache().shuffle(10, seed=3).batch(2).prefetch(AUTOTUNE),
    "apply": lambda d: d.apply(lambda e: e.take(2)),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_gives_what_tensorflow_gives_in_each_pass(name):
    tf = pytest.importorskip("tensorflow")
    ours, theirs = (PIPELINES[name](cls.from_tensor_slices((X, Y))) for cls in (Dataset, tf.data.Dataset))
    for _ in range(3):
        for mine, other in zip(ours.as_numpy_iterator(), theirs.as_numpy_iterator(), strict=True):
            mine, other = tf.nest.flatten(mine), tf.nest.flatten(other)
            for a, b in zip(mine, other, strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
    assert ours.cardinality() == int(theirs.cardinality())
    shapes = [[tuple(spec.shape) for spec in tf.nest.flatten(d.element_spec)] for d in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", PIPELINES)
def test_reading_from_any_element_on_gives_the_rest_of_the_pass(name):
    dataset = PIPELINES[name](rows())
    for epoch in (0, 3):
        whole = [repr(element) for element in dataset.flow.read(epoch)]
        for start in (0, 1, len(whole) // 2, len(whole), len(whole) + 2):
            assert [repr(element) for element in dataset.flow.read(epoch, start)] == whole[start:]


@pytest.mark.parametrize("name", [name for name in PIPELINES if PIPELINES[name](rows()).flow.indexed])
def test_an_element_by_its_number_is_that_of_the_pass(name):
    flow = PIPELINES[name](rows()).flow
    whole = [repr(element) for element in flow.read(2)]
    assert [repr(flow.get(i, 2)) for i in range(len(whole))] == whole


def test_elements_answer_as_tensors_do():
    for images, numbers in rows().batch(4).take(1):
        assert type(images[1].numpy()) is np.ndarray and images[1].numpy().tolist() == [2, 3]
        assert numbers[2].numpy() == 2 and ["a", "b", "c"][numbers[2]] == "c" and int(numbers[3]) == 3
        assert [n.numpy() for n in numbers] == [0, 1, 2, 3] and f"{numbers[1]}" == "1"
        kept = images
        images /= 2
        assert kept[0, 1] == 1 and images[0, 1] == 0.5 and X[0, 1] == 1
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0
        kept.numpy()[:] = 0
    texts = Dataset.from_tensor_slices(["a", "dé\0"])
    assert [t.numpy() for t in texts] == list(texts.as_numpy_iterator()) == [b"a", "dé\0".encode()]


def test_map_takes_what_other_libraries_return():
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    for made in (tf.constant, torch.as_tensor, lamina.ops.convert_to_tensor, np.asarray, float):
        out = list(Dataset.range(3).map(lambda x, made=made: made(np.asarray(x) + 0.5)).as_numpy_iterator())
        assert [float(x) for x in out] == [0.5, 1.5, 2.5]


def test_a_pipeline_of_augmentation_runs_in_map():
    augment = lamina.Sequential([lamina.layers.RandomFlip(), lamina.layers.RandomRotation(0.1)])
    images = Dataset.from_tensor_slices((np.ones((12, 8, 8, 3), "float32"), np.arange(12)))
    out = images.batch(4).map(lambda x, y: (augment(x, training=True), y), num_parallel_calls=AUTOTUNE)
    assert [x.shape for x, _ in out] == [(4, 8, 8, 3)] * 3


def test_workers_compute_side_by_side_in_order_and_not_too_far_ahead():
    begun, barrier = [], threading.Barrier(3)

    def fn(x):
        begun.append(int(x))
        if x == 0:
            time.sleep(0.05)  # the others have come meanwhile
        if 1 <= x < 4:
            barrier.wait(30)  # three at the same time, or never
        return x

    read = iter(Dataset.range(1000).map(fn, workers=3))
    assert [int(next(read)) for _ in range(5)] == [0, 1, 2, 3, 4]
    time.sleep(0.05)
    assert len(begun) <= 5 + 2 * 3 + 1
    del read
    gc.collect()
    assert not data_threads()


def test_a_map_without_workers_runs_one_after_the_other_even_below_a_shuffle():
    inside, most = [], []

    def fn(x):
        inside.append(x)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return x

    dataset = Dataset.range(30).map(lambda x: x, workers=4).map(fn).shuffle(30, seed=1)
    assert sorted(map(int, dataset)) == list(range(30)) and max(most) == 1


def test_no_thread_is_left_behind_an_abandoned_pass():
    dataset = rows().map(lambda x, y: (x, y), AUTOTUNE).repeat().batch(2).prefetch(AUTOTUNE)
    for _ in dataset:
        break
    for _ in dataset.take(1):
        pass
    model = small_model()
    model.fit(dataset, steps_per_epoch=2, verbose=0)
    gc.collect()
    deadline = time.monotonic() + 10
    while data_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not data_threads()


def test_an_error_in_a_worker_comes_behind_the_elements_before_it():
    def fn(x):
        if x == 3:
            raise RuntimeError("broken")
        return x

    read = iter(Dataset.range(9).map(fn, workers=4).prefetch(2))
    assert [int(next(read)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="broken"):
        next(read)


# Caches ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["memory", "file"])
@pytest.mark.parametrize("name", ["plain", "shuffled after", "filtered"])
def test_a_cache_computes_each_element_once(tmp_path, kept, name):
    calls = []

    def fn(x, y):
        calls.append(int(y))
        return {"x": x, "text": f"{y}\0"}, y

    source = rows().filter(lambda x, y: y < 7) if name == "filtered" else rows()
    dataset = source.map(fn).cache(tmp_path / "kept" if kept == "file" else "")
    dataset = dataset.shuffle(10, seed=1) if name == "shuffled after" else dataset
    count = 7 if name == "filtered" else 10
    passes = [sorted((d["text"], y) for d, y in dataset.as_numpy_iterator()) for _ in range(2)]
    assert passes[0] == passes[1] == [(f"{i}\0".encode(), i) for i in range(count)]
    assert sorted(calls) == list(range(count))
    if kept == "file":
        again = source.map(fn).cache(tmp_path / "kept")
        assert sorted(labels(again)) == list(range(count)) and len(again) == count and len(calls) == count


def test_a_file_appears_only_when_all_is_in_it(tmp_path):
    dataset = rows().cache(tmp_path / "kept")
    list(dataset.take(3))
    del dataset
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r'cache: ".*kept" must be a file that cache has written; delete it'):
        rows().cache(tmp_path / "kept")


# Training -------------------------------------------------------------------------------------------------------------


def small_model():
    lamina.utils.set_random_seed(1)
    model = lamina.Sequential([lamina.Input((2,)), lamina.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_fit_evaluate_predict_and_adapt_read_a_dataset():
    model, arrays = small_model(), small_model()
    for each, data in ((model, (rows().batch(4),)), (arrays, (X, Y))):
        extra = {} if len(data) == 1 else {"batch_size": 4, "shuffle": False}
        each.fit(*data, epochs=2, verbose=0, **extra)
    np.testing.assert_allclose(model.get_weights()[0], arrays.get_weights()[0], rtol=1e-6)
    assert model.predict(rows().batch(4), verbose=0).shape == (10, 1)
    assert model.evaluate(rows().batch(4), verbose=0) == pytest.approx(model.evaluate(X, Y, 4, verbose=0))
    layer = lamina.layers.Normalization()
    layer.adapt(rows().batch(4).map(lambda x, y: x))
    np.testing.assert_allclose(np.asarray(layer.mean).ravel(), X.mean(axis=0))
    words = lamina.layers.TextVectorization()
    words.adapt(Dataset.from_tensor_slices(["a b", "b"]).batch(2))
    assert words.get_vocabulary() == ["", "[UNK]", "b", "a"]


SHUFFLED = {
    "known length": lambda d: d.shuffle(10, seed=1).batch(3),
    "unknown length": lambda d: d.filter(lambda x, y: y < 8).shuffle(10, seed=1).batch(3),
    "endless": lambda d: d.shuffle(10, seed=1).repeat().batch(3),
}


@pytest.mark.parametrize(
    ("name", "steps"),
    [("known length", None), ("known length", 2), ("unknown length", None), ("endless", 2), ("endless", 5)],
)
def test_a_resumed_run_sees_the_batches_of_one_that_went_on(name, steps):
    seen = []

    class Seen(lamina.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, round(logs["loss"], 4)))

    def fit(first, last, weights=None):
        model = small_model()
        if weights is not None:
            model.set_weights(weights)
        kept = {"steps_per_epoch": steps} if steps else {}
        data = SHUFFLED[name](rows())
        model.fit(data, epochs=last, initial_epoch=first, verbose=0, callbacks=[Seen()], **kept)
        return model.get_weights()

    whole = fit(0, 4)
    parts = fit(2, 4, fit(0, 2))
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-6)
    assert seen[:4] == seen[4:] and len(set(seen)) == 4


def test_fit_decodes_each_batch_of_an_epoch_once():
    calls = []
    dataset = rows().map(lambda x, y: (calls.append(int(y)), (x, y))[1]).batch(5)
    small_model().fit(dataset, epochs=2, verbose=0)
    assert sorted(calls) == sorted([*range(10)] * 2)


def test_a_dataset_without_batches_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="batch the data first"):
        small_model().fit(rows(), verbose=0)


# Other libraries ------------------------------------------------------------------------------------------------------


def test_a_dataset_becomes_one_of_tensorflow_and_a_loader_of_torch():
    tf, torch = pytest.importorskip("tensorflow"), pytest.importorskip("torch")
    dataset = rows().batch(4)
    dataset.class_names = ["a"]
    theirs = dataset.to_tf()
    assert isinstance(theirs, tf.data.Dataset) and len(theirs) == 3 and theirs.class_names == ["a"]
    assert [y.numpy().tolist() for _, y in theirs] == labels(dataset)
    loader = dataset.to_torch()
    assert isinstance(loader, torch.utils.data.DataLoader) and len(loader) == 3
    assert [y.tolist() for _, y in loader] == labels(dataset)


def test_from_generator_starts_anew_and_has_the_dtypes_of_its_signature():
    tf = pytest.importorskip("tensorflow")
    dataset = Dataset.from_generator(
        lambda n: ((i, i / 2) for i in range(n)), args=(3,), output_types=("int64", "float64")
    )
    assert (
        [list(map(float, e)) for e in dataset] == [list(map(float, e)) for e in dataset] == [[0, 0], [1, 0.5], [2, 1]]
    )
    assert [leaf.dtype for leaf in next(iter(dataset))] == ["int64", "float64"]
    signed = Dataset.from_generator(lambda: [1, 2], output_signature=tf.TensorSpec((), tf.uint8))
    assert next(iter(signed)).dtype == "uint8"
    assert next(iter(Dataset.from_generator(lambda: [1.5]))).dtype == "float32"


WRONG = {
    "a generator": (lambda: Dataset.from_generator(x for x in ()), "generator must be the function itself"),
    "parts": (lambda: list(Dataset.from_generator(lambda: [1], output_types=("int8",) * 2)), "must have 2 parts"),
    "a scalar": (lambda: Dataset.from_tensor_slices(3), "must have a first axis"),
    "rows": (lambda: Dataset.from_tensor_slices((X, Y[:3])), "same number of rows"),
    "shapes": (lambda: list(Dataset.range(4).map(lambda x: np.ones(int(x))).batch(4)), r"one shape.*\(0,\) and \(1,\)"),
    "nothing": (lambda: list(Dataset.range(2).map(lambda x: None)), "map: an element must hold arrays.*NoneType"),
    "no function": (lambda: rows().map(3), "map_func must be a function"),
    "batch_size": (lambda: rows().batch(0), "batch: batch_size must be a positive integer"),
    "workers": (lambda: rows().map(len, workers=-3), "num_parallel_calls must be a positive integer"),
    "buffer": (lambda: rows().repeat().shuffle(), "shuffle: buffer_size must be a positive integer, got None"),
    "zip": (lambda: Dataset.zip(rows(), [1]), "must be Datasets"),
    "ragged": (lambda: list(Dataset.range(2).map(lambda x: [[1], [1, 2]])), "rows of several lengths"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_length_is_an_error_where_nobody_knows_it():
    for dataset in (rows().repeat(), rows().filter(lambda x, y: True)):
        with pytest.raises(TypeError, match=r"len\(\) needs a known number"):
            len(dataset)
        assert dataset
