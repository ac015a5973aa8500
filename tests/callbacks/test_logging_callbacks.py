"""`CSVLogger` and `LambdaCallback`."""

import numpy as np
import pytest

from lamina.callbacks import CallbackList, CSVLogger, LambdaCallback


def write(callback, *epochs, first=0):
    callbacks = CallbackList(callback)
    callbacks.on_train_begin()
    for epoch, logs in enumerate(epochs, first):
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()


def lines(folder):
    return (folder / "log.csv").read_text().splitlines()


def test_csv_logger_writes_a_row_an_epoch(tmp_path):
    write(CSVLogger(tmp_path / "log.csv"), {"val_loss": 3, "loss": 2.5}, {"val_loss": 2, "loss": 1})
    assert lines(tmp_path) == ["epoch,loss,val_loss", "0,2.5,3.0", "1,1.0,2.0"]


def test_csv_logger_has_columns_for_validation_that_comes_later(tmp_path):
    write(CSVLogger(tmp_path / "log.csv"), {"loss": 2}, {"loss": 1, "val_loss": 3})
    assert lines(tmp_path) == ["epoch,loss,val_loss", "0,2.0,NA", "1,1.0,3.0"]


def test_csv_logger_takes_another_separator(tmp_path):
    write(CSVLogger(str(tmp_path / "log.csv"), separator=";"), {"loss": 2, "val_loss": 1})
    assert lines(tmp_path) == ["epoch;loss;val_loss", "0;2.0;1.0"]


def test_csv_logger_starts_the_file_anew(tmp_path):
    (tmp_path / "log.csv").write_text("old\n")
    write(CSVLogger(tmp_path / "log.csv"), {"loss": 2, "val_loss": 1})
    assert (tmp_path / "log.csv").read_text().startswith("epoch,")


def test_csv_logger_appends_without_a_second_header(tmp_path):
    write(CSVLogger(tmp_path / "log.csv"), {"loss": 2, "val_loss": 1})
    write(CSVLogger(tmp_path / "log.csv", append=True), {"loss": 1, "val_loss": 0}, first=1)
    assert lines(tmp_path) == ["epoch,loss,val_loss", "0,2.0,1.0", "1,1.0,0.0"]


def test_csv_logger_appends_in_the_columns_of_the_file(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss,accuracy\n0,1.0,2.0\n")
    write(CSVLogger(tmp_path / "log.csv", append=True), {"accuracy": 5, "loss": 4}, first=1)
    assert lines(tmp_path)[-1] == "1,4.0,5.0"


def test_csv_logger_writes_arrays_as_lists(tmp_path):
    write(CSVLogger(tmp_path / "log.csv"), {"f1": np.array([1.0, 2.0]), "val_f1": 1})
    assert lines(tmp_path)[1] == '0,"""[1.0, 2.0]""",1.0'


def test_csv_logger_shows_each_epoch_at_once(tmp_path):
    callback = CSVLogger(tmp_path / "log.csv")
    callback.on_train_begin()
    callback.on_epoch_end(0, {"loss": 1.0})
    assert len(lines(tmp_path)) == 2
    callback.on_train_end()


def test_csv_logger_goes_on_after_the_last_row_of_its_state(tmp_path):
    first, second = CSVLogger(tmp_path / "log.csv"), CSVLogger(tmp_path / "log.csv")
    first.on_train_begin()
    first.on_epoch_end(0, {"loss": 3.0, "val_loss": 3.0})
    state = first.get_state()
    first.on_epoch_end(1, {"loss": 2.0, "val_loss": 2.0})  # then the run is killed, and starts again
    second.on_train_begin()
    second.set_state(state)
    second.on_epoch_end(1, {"loss": 1.0, "val_loss": 1.0})
    assert lines(tmp_path) == ["epoch,loss,val_loss", "0,3.0,3.0", "1,1.0,1.0"]


def test_csv_logger_leaves_the_old_file_until_there_is_a_row(tmp_path):
    (tmp_path / "log.csv").write_text("old\n")
    write(CSVLogger(tmp_path / "log.csv"))
    assert lines(tmp_path) == ["old"]


def test_csv_logger_needs_a_separator_of_one_character():
    with pytest.raises(ValueError, match="CSVLogger: separator must be one character, got ', '"):
        CSVLogger("log.csv", separator=", ")


def test_lambda_callback_refuses_names_that_are_no_hooks():
    with pytest.raises(ValueError, match=r"got 'on_epoch_ends'\. Did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)


def test_lambda_callback_keeps_other_functions_as_methods():
    assert LambdaCallback(double=lambda x: 2 * x).double(3) == 6


def test_lambda_callback_refuses_what_is_no_function():
    with pytest.raises(ValueError, match="LambdaCallback: on_epoch_end must be a function, got 3"):
        LambdaCallback(on_epoch_end=3)
