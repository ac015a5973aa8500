"""Weights go to the variables that they belong to: all of them, or none."""

import contextlib
import json
import signal
import warnings

import h5py
import numpy as np
import pytest

import lamina as keras
from lamina import layers
from lamina.core import files
from lamina.saving import weights

X = np.ones((2, 4), "float32")


def make(units=3, k="float32"):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, dtype=k, name="first"), layers.Dense(1, dtype=k, name="last")],
        name="stack",
    )


def values(model):
    return [w.numpy() for w in model.weights]


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def edit(path, change):
    with h5py.File(path, "a") as file:
        change(file)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.weights.h5"
    make().save_weights(path)
    return path


@pytest.mark.parametrize("name", ["m.weights.h5", "m.keras"])
def test_into_another_model(tmp_path, name):
    model, twin = make(), make()
    model.save(tmp_path / name) if name == "m.keras" else model.save_weights(tmp_path / name)
    twin.load_weights(tmp_path / name)
    same(values(twin), values(model))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_float_dtypes(tmp_path, dtype):
    model, twin = make(k=dtype), make(k="float32")
    model.save_weights(tmp_path / "m.weights.h5")
    twin.load_weights(tmp_path / "m.weights.h5")
    same(values(twin), [value.astype("float32") for value in values(model)])


@pytest.mark.parametrize("dtype", [">f4", "f8"])
def test_floats_of_other_programs(path, dtype):
    def change(file):
        del file["layers/dense/vars/1"]
        file["layers/dense/vars/1"] = np.array([1, 2, 3], dtype)

    edit(path, change)
    model = make()
    model.load_weights(path)
    np.testing.assert_array_equal(values(model)[1], [1, 2, 3])


def test_unbuilt_model(tmp_path, path):
    model = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match=r'"sequential.*" must be built'):
        model.load_weights(path)
    with pytest.raises(ValueError, match="must be built"):
        model.save_weights(tmp_path / "n.weights.h5")


def test_names_of_files(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.weights\.h5"):
        make().save_weights(tmp_path / "m.h5")
    (tmp_path / "m.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must end in \.weights\.h5, \.weights\.json, \.keras or \.h5"):
        make().load_weights(tmp_path / "m.npz")
    with pytest.raises(FileNotFoundError, match="must be there"):
        make().load_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="got by_name"):
        make().load_weights(tmp_path / "m.weights.h5", by_name=True)


# Strict ----------------------------------------------------------------------------------------------------------


def test_shape_that_differs_names_both_sides(path):
    model = make(units=5)
    before = values(model)
    both = r'Dense "first": layers/dense/vars/0 must have shape \(4, 5\) of .*first/kernel'
    with pytest.raises(ValueError, match=both):
        model.load_weights(path)
    same(values(model), before)


def test_array_that_misses_names_the_variables(path):
    edit(path, lambda file: file.__delitem__("layers/dense_1/vars/1"))
    model = make()
    before = values(model)
    with pytest.raises(ValueError, match=r"must hold 2 variables \(.*last/kernel, .*last/bias\), got 1"):
        model.load_weights(path)
    same(values(model), before)


def test_array_without_a_variable_is_named(path):
    edit(path, lambda file: file.create_dataset("layers/dense_2/vars/0", data=X))
    model = make()
    before = values(model)
    with pytest.raises(ValueError, match=r"layers/dense_2/vars/0 have none"):
        model.load_weights(path)
    same(values(model), before)


def test_whole_numbers_for_a_float(path):
    def change(file):
        del file["layers/dense/vars/1"]
        file["layers/dense/vars/1"] = np.zeros(3, "int32")

    edit(path, change)
    with pytest.raises(ValueError, match=r"layers/dense/vars/1 must be float32 .* got int32"):
        make().load_weights(path)


def test_all_or_nothing(path):
    """The first layer fits, the second does not."""

    def change(file):
        del file["layers/dense_1/vars/0"]
        file["layers/dense_1/vars/0"] = np.zeros((7, 1), "float32")

    edit(path, change)
    model = make()
    before = values(model)
    with pytest.raises(ValueError, match="dense_1/vars/0"):
        model.load_weights(path)
    same(values(model), before)


def test_skip_mismatch_warns_of_each_and_loads_the_rest(tmp_path):
    model, twin = make(), make(units=5)
    wide = keras.Sequential([*twin.layers, layers.Dense(2, name="top")])
    wide.build((None, 4))
    other = keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(1), layers.Dense(9)])
    other.save_weights(tmp_path / "m.weights.h5")
    before = values(wide)
    with pytest.warns(UserWarning, match=r'Dense "top": layers/dense_2/vars/0 must have shape \(1, 2\)'):
        wide.load_weights(tmp_path / "m.weights.h5", skip_mismatch=True)
    same(values(wide)[:4], values(other)[:4])
    same(values(wide)[4:], before[4:])
    assert len(values(model)) == 4


def test_objects_to_skip(path):
    model = make()
    before = values(model)
    model.load_weights(path, objects_to_skip=[model.layers[0]])
    same(values(model)[:2], before[:2])
    assert np.any(values(model)[2] != before[2])


def test_hook_that_fails_is_named(path):
    class Stubborn(layers.Dense):
        def load_own_variables(self, store):
            raise KeyError("no")

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Stubborn(1, name="s")])
    with pytest.raises(ValueError, match='Stubborn "s": KeyError'):
        model.load_weights(path)


# Optimizers ------------------------------------------------------------------------------------------------------


def compiled(optimizer):
    model = make()
    model.compile(optimizer, "mse")
    return model


def test_state_goes_to_an_optimizer_that_was_not_used_yet(tmp_path):
    model, twin = compiled("adam"), compiled("adam")
    model.fit(X, X[:, :1], verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    twin.load_weights(tmp_path / "m.weights.h5")
    same([v.numpy() for v in twin.optimizer.variables], [v.numpy() for v in model.optimizer.variables])


@pytest.mark.parametrize("target", [make, lambda: compiled("adam")], ids=["no optimizer", "another one"])
def test_state_of_another_optimizer_does_not_matter(tmp_path, target):
    model, twin = compiled(keras.optimizers.SGD(momentum=0.9)), target()
    model.fit(X, X[:, :1], verbose=0)
    if twin.optimizer is not None:
        twin.optimizer.build(twin.trainable_variables)
    model.save_weights(tmp_path / "m.weights.h5")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        twin.load_weights(tmp_path / "m.weights.h5")
    same(values(twin), values(model))
    assert len(caught) == (twin.optimizer is not None)


# The way through a model -----------------------------------------------------------------------------------------


def paths(model):
    return [path for path, part in weights.parts(model) if isinstance(part, layers.Layer)]


def test_parts_in_containers_are_named_after_their_classes():
    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.b = [layers.Dense(1), {"x": layers.Dense(1)}, layers.Dense(1), (layers.Dropout(0.5),)]
            self._a = layers.Dense(1)

    assert paths(Holder()) == ["", "b/dense", "b/container/dense", "b/dense_1", "b/container_1/dropout", "_a"]


def test_a_part_has_the_first_of_its_paths():
    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.z = self.y = layers.Dense(1)

        @property
        def front(self):
            return self.y

    assert paths(Holder()) == ["", "front"]


def test_circles_end():
    layer = layers.Layer()
    layer.items = [layers.Dense(1)]
    layer.items.append(layer.items)
    layer.items.append(layer)
    assert paths(layer) == ["", "items/dense"]


def test_properties_that_are_not_ready_do_not_matter():
    class Holder(layers.Layer):
        @property
        def broken(self):
            raise RuntimeError

    assert paths(Holder()) == [""]


# Shards ----------------------------------------------------------------------------------------------------------


def shards(folder):
    """The files that hold arrays, in order; the one that Keras asks for holds none."""
    return sorted(folder.glob("m_*-*.weights.h5"))


def write_shards(folder, model=None):
    folder.mkdir(exist_ok=True)
    model = model or make()
    model.save_weights(folder / "m.weights.json", max_shard_size=50 / 2**30)
    return model


def test_shards_are_small_and_come_back(tmp_path):
    model, twin = write_shards(tmp_path), make()
    assert len(shards(tmp_path)) == 2
    twin.load_weights(tmp_path / "m.weights.json")
    same(values(twin), values(model))


def test_shard_of_another_writing(tmp_path):
    write_shards(tmp_path / "a")
    write_shards(tmp_path / "b")
    shards(tmp_path / "a")[1].replace(shards(tmp_path / "b")[1])
    with pytest.raises(keras.saving.CorruptFileError, match="same writing"):
        make().load_weights(tmp_path / "b" / "m.weights.json")


def test_shard_that_misses(tmp_path):
    write_shards(tmp_path)
    shards(tmp_path)[1].unlink()
    with pytest.raises(FileNotFoundError, match="m_00001"):
        make().load_weights(tmp_path / "m.weights.json")


def test_shards_of_the_last_writing_go_with_the_next(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "m_copy.weights.h5").write_bytes(b"of somebody else")
    before = shards(tmp_path)
    write_shards(tmp_path)
    assert not any(path.exists() for path in before)
    assert len(list(tmp_path.iterdir())) == 5  # two shards, the index, the file for Keras, and the other one


def test_shards_as_keras_names_them_go_with_the_next_writing(tmp_path):
    write_shards(tmp_path)
    index = tmp_path / "m.weights.json"
    for i, path in enumerate(shards(tmp_path)):
        path.replace(tmp_path / f"m_{i:05}.weights.h5")
        index.write_text(index.read_text().replace(path.name, f"m_{i:05}.weights.h5"))
    make().load_weights(index)
    model, twin = write_shards(tmp_path), make()
    assert not (tmp_path / "m_00001.weights.h5").exists()
    twin.load_weights(index)
    same(values(twin), values(model))


@pytest.mark.parametrize("renames", range(5))
def test_killed_between_the_renames_leaves_one_writing(tmp_path, renames, monkeypatch):
    """Whatever rename is the last: the old weights, or the new ones."""
    model = write_shards(tmp_path)
    made, put = [], files.put

    class Killed(BaseException):
        """As SIGKILL, but that the folder of the writer goes."""

    def dying(new, target):
        if len(made) == renames:
            raise Killed
        made.append(target)
        put(new, target)

    monkeypatch.setattr(files, "put", dying)
    new, twin = make(), make()
    with contextlib.suppress(Killed):
        write_shards(tmp_path, new)
    twin.load_weights(tmp_path / "m.weights.json")
    same(values(twin), values(new if renames >= 3 else model))
    monkeypatch.undo()
    write_shards(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4  # what the killed one left is gone


def test_shards_of_a_living_writer_stay(tmp_path):
    write_shards(tmp_path)
    index = tmp_path / "m.weights.json"
    with files.workplace(index) as (folder, _):
        shard = tmp_path / f"m_00000-{files.mark_of(folder)}.weights.h5"
        shard.write_bytes(b"of a writer that has not named it yet")
        write_shards(tmp_path)
        assert shard.exists()
    write_shards(tmp_path)
    assert not shard.exists()


@pytest.mark.parametrize("name", ["../m.weights.h5", "/etc/m.weights.h5", 7, None, {}, ["m.h5"], "m" * 300 + ".h5"])
def test_shards_lie_beside_their_index(tmp_path, name):
    (tmp_path / "m.weights.json").write_text(json.dumps({"weight_map": {"/vars": [name]}}))
    with pytest.raises(ValueError, match="in the same folder"):
        make().load_weights(tmp_path / "m.weights.json")


def test_largest_array_must_fit(tmp_path):
    with pytest.raises(ValueError, match="max_shard_size must hold the largest array"):
        make().save_weights(tmp_path / "m.weights.json", max_shard_size=1e-9)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.weights.h5", "model.weights.json", "model.keras"])
def test_a_full_disk_is_an_error_of_the_system_and_what_was_there_stays(tmp_path, name):
    resource = pytest.importorskip("resource", reason="Windows has no limit for the size of files")
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(64)])
    given = {"max_shard_size": 1} if name.endswith("json") else {}
    save = model.save if name.endswith(".keras") else model.save_weights
    save(tmp_path / name, **given)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    former, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, former[1]))
        with pytest.raises(OSError, match="File too large"):
            save(tmp_path / name, **given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
