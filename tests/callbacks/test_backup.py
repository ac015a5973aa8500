"""A run that was stopped, in whatever way, and started again ends as the one that was never stopped, bit for bit."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lamina as keras
from lamina.callbacks import BackupAndRestore
from tests.callbacks.runs import X, Y, train

ROOT = Path(__file__).parents[2]


@functools.cache
def never_stopped(make_folder, **options):
    return train(make_folder("whole"), **options)


@pytest.fixture
def whole(tmp_path_factory):
    return functools.partial(never_stopped, tmp_path_factory.mktemp)


def killed(folder, **options):
    """A run in a process of its own, which must have been killed."""
    code = (
        f"from pathlib import Path; from tests.callbacks.runs import train; train(Path({str(folder)!r}), **{options})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=100, check=False)
    assert run.returncode == -9, run.stderr.decode()


def stopped(folder, error, epoch, batch, **options):
    with pytest.raises(error):
        train(folder, stop=(error, epoch, batch), **options)


def assert_same(found, wanted):
    assert len(found["arrays"]) == len(wanted["arrays"])
    for name, value in wanted.items():
        assert found[name] == value, name


@pytest.mark.parametrize("options", [{"stop": ("kill", 2, 2)}, {"write_dies": 5}], ids=["training", "writing"])
def test_kill_9(options, tmp_path, whole):
    killed(tmp_path, **options)
    left = sorted(path.name for path in (tmp_path / "backup").iterdir())
    assert "latest.weights.h5" in left and (len(left) == 2) == ("write_dies" in options)
    assert_same(train(tmp_path, seed=8), whole())


KINDS = {
    "arrays, after epochs": {"save_freq": "epoch"},
    "dataset": {"kind": "dataset"},
    "generator": {"kind": "generator"},
    "eagerly, in single precision": {"eager": True, "half": False},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_exceptions(options, tmp_path, whole):
    stopped(tmp_path, RuntimeError, 2, 4, **options)
    assert_same(train(tmp_path, seed=8, **options), whole(**options))


def test_again_and_again(tmp_path, whole):
    """At the last batch of an epoch, at the first of one, and before there was a backup."""
    for seed, (error, *where) in enumerate([(ValueError, 0, 2), (KeyboardInterrupt, 2, 5), (RuntimeError, 3, 0)]):
        stopped(tmp_path, error, *where, seed=7 if seed < 2 else seed, save_freq=6)
    assert_same(train(tmp_path, seed=9, save_freq=6), whole(save_freq=6))


def plain_model(units=1):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    return model


def fit(folder, model=None, epochs=3, **options):
    model = model or plain_model()
    backup = BackupAndRestore(folder / "backup", **options)
    return model, model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[backup])


def test_what_was_finished_is_not_done_again(tmp_path):
    first, history = fit(tmp_path, delete_checkpoint=False)
    again, found = fit(tmp_path, delete_checkpoint=False)
    assert (found.epoch, found.history) == (history.epoch, history.history)
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights()))
    longer, found = fit(tmp_path, epochs=5)
    assert found.epoch == [0, 1, 2, 3, 4] and int(longer.optimizer.iterations) == 10


def test_the_backup_opens_as_weights(tmp_path):
    first, _ = fit(tmp_path, delete_checkpoint=False)
    other = plain_model()
    other.load_weights(tmp_path / "backup" / "latest.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), other.get_weights()))


def test_only_what_it_has_written_is_deleted(tmp_path):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine.txt").write_text("stays")
    fit(tmp_path)
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["mine.txt"]


def test_a_damaged_backup(tmp_path):
    wanted, _ = fit(tmp_path, epochs=2, double_checkpoint=True, delete_checkpoint=False)
    latest = tmp_path / "backup" / "latest.weights.h5"
    latest.write_bytes(latest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"latest.*whole HDF5 file.*The backup before it is taken"):
        found, history = fit(tmp_path, epochs=2, double_checkpoint=True, delete_checkpoint=False)
    assert all(np.array_equal(a, b) for a, b in zip(wanted.get_weights(), found.get_weights()))
    assert history.epoch == [0, 1]
    for path in (tmp_path / "backup").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="latest"), pytest.raises(keras.saving.CorruptFileError, match="previous"):
        fit(tmp_path)


def test_a_backup_of_another_model_changes_nothing(tmp_path):
    fit(tmp_path, delete_checkpoint=False)
    other = plain_model(2)
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"latest.*must have shape \(4, 2\)"):
        other.fit(X, Y[:, [0, 0]], epochs=1, verbose=0, callbacks=[BackupAndRestore(tmp_path / "backup")])
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights()))


def test_a_full_disk_does_not_end_the_training(tmp_path):
    (tmp_path / "backup").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="no backup could be written, the training goes on"):
        _, history = fit(tmp_path)
    assert history.epoch == [0, 1, 2]


def test_a_state_that_cannot_be_written_says_whose(tmp_path):
    class Odd(keras.callbacks.Callback):
        state_fields = ("inside",)
        inside = object()

    with pytest.raises(TypeError, match=r"callbacks\.Odd\.inside must be made of numbers"):
        plain_model().fit(X, Y, verbose=0, callbacks=[Odd(), BackupAndRestore(tmp_path / "backup")])


@pytest.mark.parametrize(
    ("arguments", "rule"), [(("",), "backup_dir"), (("a", "often"), "save_freq"), (("a", 0), "save_freq")]
)
def test_arguments(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        BackupAndRestore(*arguments)


def test_a_stop_by_early_stopping_is_remembered(tmp_path):
    def run():
        model = plain_model()
        stopping = keras.callbacks.EarlyStopping("loss", patience=0, baseline=-1.0)
        backup = BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        return model.fit(X, 0 * Y, epochs=9, verbose=0, callbacks=[stopping, backup]).epoch

    keras.utils.set_random_seed(0)
    first = run()
    assert run() == first
