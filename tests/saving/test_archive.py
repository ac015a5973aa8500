"""Models as files: what comes back, what a failure leaves, and what is asked of names."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

import lamina as keras
from lamina import layers
from lamina.core import configurable
from lamina.saving import archive

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 1)).astype("float32")


def make(*extra):
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh"), *extra, layers.Dense(1)])


def trained(*extra, **options):
    model = make(*extra)
    model.compile("adam", "mse", **options)
    model.fit(X, Y, epochs=2, batch_size=2, verbose=0)
    return model


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["str", "Path"])
def test_comes_back_whole(tmp_path, as_path):
    model = trained(metrics=["mae"])
    model.save(as_path(tmp_path / "m.keras"))
    twin = keras.models.load_model(as_path(tmp_path / "m.keras"))
    same(twin.weights, model.weights)
    same(twin.optimizer.variables, model.optimizer.variables)
    assert twin.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    """With dropout: the seeds are in the file too."""
    model = trained(layers.Dropout(0.5))
    model.save(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras")
    for each in (model, twin):
        each.fit(X, Y, epochs=2, batch_size=2, shuffle=False, verbose=0)
    same(twin.weights, model.weights)


def test_file_without_seeds_gets_new_ones(tmp_path):
    """As all files of Keras."""
    model = make(layers.Dropout(0.5))
    path = tmp_path / "m.keras"
    archive_without(model, path, "seed_generator")
    twin = keras.models.load_model(path)
    same(twin.weights, model.weights)
    assert twin.layers[1].seed_generator.state.numpy()[0] > 0


def archive_without(model, path, name):
    with open(path, "wb") as file:
        seeds = [layer.seed_generator for layer in model.layers if hasattr(layer, name)]
        archive.write_archive(model, file, configurable.serialize_model(model), seeds)


def test_without_compiling(tmp_path):
    trained().save(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras", compile=False)
    assert not twin.compiled


def test_without_the_optimizer(tmp_path):
    model = trained()
    model.save(tmp_path / "m.keras", include_optimizer=False)
    twin = keras.models.load_model(tmp_path / "m.keras")
    assert int(twin.optimizer.iterations) == 0
    assert float(twin.optimizer.learning_rate) == pytest.approx(0.001)


@pytest.mark.parametrize("optimizer", ["adam", "schedule_free_adam_w"])
def test_optimizer_that_was_not_used_yet(tmp_path, optimizer):
    """It has no slots in the file; those that start as copies of the weights are copies of the right ones."""
    model = make()
    model.compile(optimizer, "mse")
    model.optimizer.learning_rate.assign(0.25)
    model.save(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras")
    assert float(twin.optimizer.learning_rate) == 0.25
    for each in (model, twin):
        each.fit(X, Y, epochs=1, batch_size=2, shuffle=False, verbose=0)
    same(twin.weights, model.weights)


def test_layer_in_two_models_stays_one(tmp_path):
    dense, a, b = layers.Dense(4), keras.Input((4,)), keras.Input((4,))
    first, second = keras.Model(a, dense(a)), keras.Model(b, layers.Dense(4)(dense(b)))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, first(inputs) + second(inputs))
    model.save(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras")
    assert len(twin.weights) == 4
    np.testing.assert_allclose(twin(X), model(X), rtol=1e-6)


def test_folder_in_place_of_a_file(tmp_path):
    model = trained()
    model.save(tmp_path / "m", zipped=False)
    assert sorted(os.listdir(tmp_path / "m")) == ["config.json", "metadata.json", "model.weights.h5"]
    same(keras.models.load_model(tmp_path / "m").weights, model.weights)


@keras.saving.register_keras_serializable(package="tests")
class Vocabulary(layers.Layer):
    """Keeps words in a file of its own."""

    words: list = []

    def call(self, x):
        return x

    def save_assets(self, dir_path):
        with open(os.path.join(dir_path, "words.txt"), "w") as file:
            file.write("\n".join(self.words))

    def load_assets(self, dir_path):
        with open(os.path.join(dir_path, "words.txt")) as file:
            self.words = file.read().split()


@pytest.mark.parametrize("name", ["m.keras", "folder"])
def test_assets_of_layers(tmp_path, name):
    layer = Vocabulary()
    layer.words = ["one", "two"]
    model = keras.Sequential([keras.Input((4,)), layer, layers.Dense(1)])
    model.save(tmp_path / name, zipped=name == "m.keras")
    assert keras.models.load_model(tmp_path / name).layers[0].words == ["one", "two"]


class Scale(layers.Layer):
    """A class that no file may name until the program says so."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_class_of_ones_own_must_be_named(tmp_path):
    model = make(Scale(3.0))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"names Scale, .* custom_objects"):
        keras.models.load_model(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Scale": Scale})
    np.testing.assert_array_equal(twin(X), model(X))
    with keras.saving.CustomObjectScope({"Scale": Scale}):
        assert keras.models.load_model(tmp_path / "m.keras").layers[1].factor == 3.0


def test_function_of_ones_own(tmp_path):
    def double(x):
        return 2 * x

    model = make(layers.Activation(double))
    model.save(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras", custom_objects={"double": double})
    np.testing.assert_array_equal(twin(X), model(X))


@keras.saving.register_keras_serializable(package="tests")
class Lookup(layers.Layer):
    """Builds itself from more than shapes."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(self.size, input_shape[-1]), initializer="uniform")

    def set_size(self, size):
        self.size = size
        return self

    def call(self, x):
        return x + self.table[0]

    def get_build_config(self):
        return {"size": self.size, "input_shape": (None, 4)}

    def build_from_config(self, config):
        self.set_size(config["size"]).build(tuple(config["input_shape"]))


def test_own_build_config(tmp_path):
    model = keras.Sequential([keras.Input((4,)), Lookup().set_size(7)])
    model.save(tmp_path / "m.keras")
    twin = keras.models.load_model(tmp_path / "m.keras")
    same(twin.weights, model.weights)


def test_loading_draws_no_initial_values(tmp_path, monkeypatch):
    make().save(tmp_path / "m.keras")
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", None)
    assert keras.models.load_model(tmp_path / "m.keras").built


# Names and places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.weights.h5", "m", "m.keras.zip"])
def test_save_wants_keras_in_the_name(tmp_path, name):
    with pytest.raises(ValueError, match=r"filepath must end in \.keras"):
        make().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_load_says_what_it_reads(tmp_path):
    (tmp_path / "m.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"filepath must be a \.keras or \.h5 file"):
        keras.models.load_model(tmp_path / "m.npz")


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError])
def test_missing_file(tmp_path, error):
    with pytest.raises(error, match="must be there"):
        keras.models.load_model(tmp_path / "m.keras")


def test_overwrite_false_without_a_terminal(tmp_path):
    path = tmp_path / "m.keras"
    make().save(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make().save(path, overwrite=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("answer", "replaced"), [("y", True), ("n", False)])
def test_overwrite_false_asks_at_a_terminal(tmp_path, monkeypatch, answer, replaced):
    path = tmp_path / "m.keras"
    path.write_bytes(b"old")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    make().save(path, overwrite=False)
    assert (path.read_bytes() != b"old") == replaced


def test_unknown_argument(tmp_path):
    with pytest.raises(ValueError, match="arguments must be known ones, got colour"):
        archive.save_model(make(), tmp_path / "m.keras", colour=1)


def test_unbuilt_model_is_saved_with_a_warning(tmp_path):
    model = keras.Sequential([layers.Dense(3)])
    with pytest.warns(UserWarning, match="should be built"):
        model.save(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras").built


class Counting(layers.Dense):
    """Writes a number of its own beside the weights."""

    steps = 0

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["steps"] = np.array(self.steps)

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.steps = int(store["steps"])


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_layer_writes_more_than_its_weights(tmp_path, name):
    model, path = make(Counting(2)), tmp_path / name
    model.layers[1].steps = 7
    model.save(path) if name == "m.keras" else model.save_weights(path)
    twin = make(Counting(2))
    if name == "m.keras":
        twin = keras.models.load_model(path, custom_objects={"Counting": Counting})
    else:
        twin.load_weights(path)
    assert twin.layers[1].steps == 7
    same(twin.weights, model.weights)


# Failures --------------------------------------------------------------------------------------------------------


class Failing(layers.Layer):
    """Fails when it is written."""

    def call(self, x):
        return x

    def save_own_variables(self, store):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_failure_leaves_the_old_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    model = make(Failing())
    with pytest.raises(KeyboardInterrupt):
        model.save(path) if name == "m.keras" else model.save_weights(path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_killed_while_saving_leaves_the_old_model(tmp_path):
    path = tmp_path / "m.keras"
    model = make()
    model.save(path)
    code = f"""
        import os, signal
        import lamina as keras
        from lamina.saving import weights
        save = weights.save
        def dying(model, sink, skip):
            save(model, sink, skip)
            os.kill(os.getpid(), signal.SIGKILL)
        weights.save = dying
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save({str(path)!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    same(keras.models.load_model(path).weights, model.weights)


def test_archive_is_what_keras_writes(tmp_path):
    make().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        members = [(member.filename, member.compress_type) for member in file.infolist()]
    assert members == [(name, zipfile.ZIP_STORED) for name in ("metadata.json", "config.json", "model.weights.h5")]


# Names of objects ------------------------------------------------------------------------------------------------


def test_serialized_objects_come_back():
    form = keras.saving.serialize_keras_object(layers.Dense(3, name="d"))
    assert keras.saving.deserialize_keras_object(form).get_config() == form["config"] | {"activation": "linear"} | {
        key: value for key, value in layers.Dense(3, name="d").get_config().items()
    }


def test_module_objects_are_named_too():
    form = {"module": None, "class_name": "Scale", "config": {"factor": 4.0}, "registered_name": "Scale"}
    assert keras.saving.deserialize_keras_object(form, module_objects={"Scale": Scale}).factor == 4.0


def test_files_of_layers_that_could_not_be_read_are_not_written(tmp_path):
    class Wordy(Vocabulary):
        def save_assets(self, dir_path):
            with open(os.path.join(dir_path, "w" * 250), "w") as file:
                file.write("word")

    with pytest.raises(ValueError, match="may have 200 bytes"):
        keras.Sequential([keras.Input((4,)), Wordy()]).save(tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_a_model_goes_through_an_open_file():
    model, file = make(), io.BytesIO()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    keras.saving.save_model(model, file)
    file.seek(0)
    again = keras.saving.load_model(file)
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert int(again.optimizer.iterations.value) == 1


class Sampler:
    def get_config(self):
        return {}


def test_a_name_among_the_objects_of_a_package_means_a_new_object_and_a_given_class_is_that():
    deserialize = keras.saving.deserialize_keras_object
    made = deserialize("greedy", module_objects={"greedy": Sampler}, printable_module_name="samplers")
    assert isinstance(made, Sampler)
    assert deserialize("greedy", custom_objects={"greedy": Sampler}) is Sampler
    assert deserialize("max", module_objects={"max": max}) is max


def test_what_stands_in_the_place_of_deserialize_keras_object_is_asked_for_every_part(monkeypatch):
    """So packages read forms of their own within lists and dicts."""
    original = keras.saving.deserialize_keras_object

    def extended(config, custom_objects=None, safe_mode=True, **kwargs):
        return int if config == "the type int" else original(config, custom_objects=custom_objects, **kwargs)

    monkeypatch.setattr(archive, "deserialize_keras_object", extended)
    form = {"a": ["the type int", 3], "b": keras.saving.serialize_keras_object(layers.Dense(2))}
    made = original(form)
    assert made["a"] == [int, 3] and isinstance(made["b"], layers.Dense)


def test_a_layer_by_itself_is_a_file_too(tmp_path):
    layer = layers.Dense(2, activation="relu")
    outputs = layer(X)
    keras.saving.save_model(layer, tmp_path / "layer.keras")
    again = keras.saving.load_model(tmp_path / "layer.keras")
    assert isinstance(again, layers.Dense)
    same([again(X)], [outputs])


def test_a_file_of_something_without_weights_says_so(tmp_path):
    model = make()
    model.save(tmp_path / "m.keras", zipped=True)
    with zipfile.ZipFile(tmp_path / "m.keras") as old, zipfile.ZipFile(tmp_path / "n.keras", "w") as new:
        for name in old.namelist():
            form = '{"module": "keras.initializers", "class_name": "Zeros", "config": {}}'
            new.writestr(name, form if name == "config.json" else old.read(name))
    with pytest.raises(ValueError, match=r"config\.json: must describe a model or a layer, got Zeros"):
        keras.saving.load_model(tmp_path / "n.keras")
