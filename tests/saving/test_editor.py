"""`KerasFileEditor`: what it shows, compares, changes and writes."""

import h5py
import keras
import numpy as np
import pytest

import lamina
from lamina.saving import KerasFileEditor


def network(library, size=3):
    model = library.Sequential(
        [
            library.Input((4,)),
            library.layers.Dense(size, name="first"),
            library.layers.Dropout(0.1),
            library.Sequential([library.layers.Dense(2)], name="inner"),
            library.layers.Dense(2),
        ]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def model():
    return network(lamina)


@pytest.fixture(params=[".keras", ".weights.h5"])
def editor(request, model, tmp_path):
    path = str(tmp_path / f"model{request.param}")
    (model.save if request.param == ".keras" else model.save_weights)(path)
    return KerasFileEditor(path)


def shapes(content):
    return {key: shapes(value) if isinstance(value, dict) else value.shape for key, value in content.items()}


def test_it_shows_what_is_there(editor, model, capsys):
    editor.summary()
    shown = capsys.readouterr().out
    assert "dense ('first')" in shown and "0: shape=(4, 3), dtype=float32" in shown and "sequential" in shown
    assert shapes(editor.weights_dict)["layers"]["sequential"] == {"layers": {"dense": {"0": (3, 2), "1": (2,)}}}
    assert np.array_equal(editor.weights_dict["layers"]["dense"]["0"], model.get_weights()[0])
    assert editor.object_metadata["/layers/dense"] == {"name": "first"}
    assert (editor.metadata is None) == editor.filepath.endswith("h5") == (editor.config is None)


def test_changes_are_written_whole(editor, model, tmp_path):
    editor.rename_object("layers/dense", "moved")
    editor.delete_weight("moved", "1")
    editor.add_weights("moved", {"1": np.ones(3, "float32"), "0": np.zeros((4, 3))})
    editor.delete_object("optimizer")
    editor.add_object("layers/new", {"0": np.arange(3)})
    editor.add_object("top", {"0": [1.0]})
    editor.resave_weights(tmp_path / "new.weights.h5")
    again = KerasFileEditor(str(tmp_path / "new.weights.h5"))
    assert shapes(again.weights_dict) == shapes({k: v for k, v in editor.weights_dict.items()})
    assert list(again.weights_dict["layers"]) == ["dense_1", "dropout", "moved", "new", "sequential"]
    assert again.weights_dict["layers"]["new"]["0"].tolist() == [0, 1, 2] and "optimizer" not in again.weights_dict
    again.delete_object("top")
    again.delete_object("new")
    again.rename_object("moved", "dense")
    again.save(str(tmp_path / "back.weights.h5"))
    model.load_weights(tmp_path / "back.weights.h5")
    assert not model.get_weights()[0].any() and (model.get_weights()[1] == 1).all()


def test_an_edited_file_opens_in_keras(editor, model, tmp_path):
    if editor.weights_dict["layers"].get("dropout"):
        editor.delete_object("layers/dropout")  # seeds, which Keras keeps none of
    editor.add_weights("optimizer", {"1": np.float32(0.5)})
    editor.save(tmp_path / "edited.weights.h5")
    there = network(keras)
    there.load_weights(tmp_path / "edited.weights.h5")
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(there.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)


def test_a_comparison_counts_each_difference_once(editor, model, capsys):
    assert editor.compare(model) == {"status": "success", "error_count": 0, "match_count": 21}
    editor.delete_object("optimizer")
    editor.add_weights("layers/dense", {"0": np.zeros((4, 5))})
    editor.delete_weight("dense_1", "1")
    editor.add_object("extra", {"0": np.zeros(2)})
    capsys.readouterr()
    found = editor.compare(model)
    assert found["status"] == "error" and found["error_count"] == 4
    shown = capsys.readouterr().out
    assert "Object /optimizer present in reference model, missing from saved file" in shown
    assert "Object /extra present in saved file, missing from reference model" in shown
    assert "Weight /layers/dense_1/1 present in reference model, missing from saved file" in shown
    assert "mismatch for /layers/dense/0: (4, 5) in saved file, (4, 3) in reference model" in shown


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_files_of_keras(tmp_path, model):
    there = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    there.save(tmp_path / "there.keras")
    ours, theirs = (lib.saving.KerasFileEditor(str(tmp_path / "there.keras")) for lib in (lamina, keras))
    assert shapes(ours.weights_dict) == shapes(theirs.weights_dict)
    assert ours.config == theirs.config and ours.object_metadata == theirs.object_metadata
    same = lamina.Sequential([lamina.Input((4,)), lamina.layers.Dense(3), lamina.layers.Dense(2)])
    assert ours.compare(same)["status"] == theirs.compare(there)["status"] == "success"


def test_numbers_that_hdf5_does_not_know(tmp_path):
    layer = lamina.Sequential([lamina.Input((2,)), lamina.layers.Dense(3, dtype="bfloat16")])
    layer.save_weights(tmp_path / "narrow.weights.h5")
    editor = KerasFileEditor(str(tmp_path / "narrow.weights.h5"))
    editor.save(tmp_path / "again.weights.h5")
    assert KerasFileEditor(str(tmp_path / "again.weights.h5")).weights_dict["layers"]["dense"]["0"].dtype == "bfloat16"


MISTAKES = {
    r"'dense' is in the file more than once": lambda e: e.delete_object("dense"),
    r"'dens' is not in the file; see summary\(\)": lambda e: e.delete_object("dens"),
    r"'layers/x/y' is not in the file": lambda e: e.rename_object("layers/x/y", "z"),
    r"new_name must be one new name and no path, got 'a/b'": lambda e: e.rename_object("dense_1", "a/b"),
    r"new_name must be one new name and no path, got 'dropout'": lambda e: e.rename_object("dense_1", "dropout"),
    r"object_path must be a new one, got 'layers/dense'": lambda e: e.add_object("layers/dense", {}),
    r"'nowhere' is not in the file": lambda e: e.add_object("nowhere/dense", {}),
    r"weight_name must be of 'dense_1' \(0, 1\), got '7'": lambda e: e.delete_weight("dense_1", "7"),
    r"must be an object with weights, and is a weight": lambda e: e.add_weights("layers/dense_1/0", {}),
    r"weights must be a dict of arrays by name, got list": lambda e: e.add_weights("dense_1", [1]),
    r"weights must be arrays of numbers by name": lambda e: e.add_weights("dense_1", {"0": "text"}),
    r"filepath must end in .weights.h5, got 'x.h5'": lambda e: e.save("x.h5"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named_and_change_nothing(message, model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    editor = KerasFileEditor(str(tmp_path / "model.weights.h5"))
    with pytest.raises(ValueError, match=message):
        MISTAKES[message](editor)
    assert editor.compare(model)["status"] == "success"


def test_strangers_files_are_refused_and_shown_plainly(tmp_path, capsys):
    with h5py.File(tmp_path / "link.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(lamina.saving.UnsafeFileError, match="ExternalLink"):
        KerasFileEditor(str(tmp_path / "link.weights.h5"))
    with h5py.File(tmp_path / "odd.weights.h5", "w") as file:
        file["layers/[bold]\x1b[31m/vars/0"] = np.ones(2)
    KerasFileEditor(str(tmp_path / "odd.weights.h5")).summary()
    shown = capsys.readouterr().out
    assert "[bold]\\x1b[31m" in shown and "\x1b" not in shown
    with pytest.raises(ValueError, match=r"filepath must end in .keras or .weights.h5 or .weights.json, got 'x.h5'"):
        KerasFileEditor("x.h5")
