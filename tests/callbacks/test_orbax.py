"""`OrbaxCheckpoint`, and models read from what it writes."""

import gc
import sys

import numpy as np
import pytest

import lamina as keras
from lamina.callbacks import OrbaxCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Orbax's own
X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def small_model():
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Dense(3, name="a"), keras.layers.Dropout(0.2), keras.layers.Dense(1, name="b")]
    model = keras.Sequential([keras.Input((4,)), *stack], name="m")
    model.compile("adam", "mse", metrics=["mae"])
    return model


def fit(folder, epochs=3, model=None, **options):
    model = model or small_model()
    model.fit(X, Y, batch_size=5, epochs=epochs, verbose=0, callbacks=[OrbaxCheckpoint(folder, "loss", **options)])
    return model


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def states(model):
    return [*(w.numpy() for w in (*model.weights, *model.optimizer.variables))]


def assert_same(model, other):
    assert all(np.array_equal(a, b) for a, b in zip(states(model), states(other), strict=True))


@pytest.mark.parametrize("on_background", [True, False])
def test_load_model(on_background, tmp_path):
    model = fit(tmp_path, max_to_keep=2, save_on_background=on_background)
    assert steps(tmp_path) == [1, 2]
    again = keras.saving.load_model(tmp_path)
    assert_same(model, again)
    both = [m.fit(X, Y, batch_size=5, epochs=1, verbose=0, shuffle=False).history for m in (model, again)]
    assert both[0] == both[1]


def test_load_weights(tmp_path):
    model = fit(tmp_path, save_weights_only=True, max_to_keep=None)
    assert steps(tmp_path) == [0, 1, 2]
    other = small_model()
    other.load_weights(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights()))
    with pytest.raises(ValueError, match="holds weights alone"):
        keras.saving.load_model(tmp_path)


def test_without_an_optimizer_its_state_is_left_out(tmp_path):
    model = fit(tmp_path)
    bare = keras.saving.load_model(tmp_path, compile=False)
    assert bare.optimizer is None and np.array_equal(bare.predict(X, verbose=0), model.predict(X, verbose=0))


def test_an_optimizer_of_another_number(tmp_path):
    model = fit(tmp_path)
    other = small_model()  # whose optimizer has the next name
    other.load_weights(tmp_path)
    assert_same(model, other)


def test_a_step_that_is_there_is_written_anew(tmp_path):
    fit(tmp_path)
    model = fit(tmp_path, epochs=1)
    assert steps(tmp_path) == [0]
    assert_same(model, keras.saving.load_model(tmp_path))


def test_batches(tmp_path):
    fit(tmp_path, save_freq=3, max_to_keep=None)
    assert steps(tmp_path) == [3, 6, 9, 12]


@pytest.mark.parametrize(("mode", "better"), [("min", np.minimum), ("max", np.maximum)])
def test_save_best_only(mode, better, tmp_path, capsys):
    model = fit(tmp_path, epochs=5, save_best_only=True, max_to_keep=None, verbose=1, mode=mode)
    losses = model.history.history["loss"]
    kept = [i for i in range(5) if losses[i] == better.accumulate(losses)[i]]
    assert steps(tmp_path) == kept and capsys.readouterr().out.count("finished saving") == len(kept)


def test_without_the_monitored_value_nothing_is_saved(tmp_path):
    checkpoint = OrbaxCheckpoint(tmp_path, "val_loss", save_best_only=True)
    with pytest.warns(UserWarning, match="'val_loss' must be among the logs"):
        small_model().fit(X, Y, verbose=0, callbacks=[checkpoint])
    assert steps(tmp_path) == []


def test_files_of_layers(tmp_path):
    words = keras.layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), words, keras.layers.Embedding(4, 1)])
    model.compile("sgd", "mse")
    model.fit(np.array([["a"], ["b"]]), np.zeros((2, 1, 1)), verbose=0, callbacks=[OrbaxCheckpoint(tmp_path)])
    again = keras.saving.load_model(tmp_path)
    given = np.array([["b"], ["c"]])
    assert np.array_equal(again.predict(given, verbose=0), model.predict(given, verbose=0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves event loops open
def test_a_damaged_checkpoint(tmp_path):
    fit(tmp_path)
    next((tmp_path / "2" / "pytree").glob("*.ocdbt")).write_bytes(b"odd")
    with pytest.raises(keras.saving.CorruptFileError, match="save it again"):
        keras.saving.load_model(tmp_path)
    gc.collect()  # here, where its warnings are known


def test_another_model(tmp_path):
    fit(tmp_path)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="other")], name="m")
    with pytest.raises(ValueError, match="lacks trainable_variables/m/other/bias"):
        other.load_weights(tmp_path)


def test_weights_of_another_shape_change_nothing(tmp_path):
    fit(tmp_path)
    stack = [keras.layers.Dense(3, name="a"), keras.layers.Dropout(0.2), keras.layers.Dense(2, name="b")]
    other = keras.Sequential([keras.Input((4,)), *stack], name="m")
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"must have shape \(2,\)"):
        other.load_weights(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights()))


@pytest.mark.parametrize("options", [{"save_freq": 0}, {"max_to_keep": 0}, {"directory": 3}])
def test_arguments(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}.* must"):
        OrbaxCheckpoint(**{"directory": "a", **options})


def test_without_orbax(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "orbax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(ModuleNotFoundError, match="pip install orbax-checkpoint"):
        OrbaxCheckpoint("a")
