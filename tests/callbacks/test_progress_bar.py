"""`Progbar` and `ProgbarLogger`: what a reader of a screen, a notebook or a log file sees."""

import copy
import logging
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from lamina.callbacks import Callback, CallbackList, progress
from lamina.callbacks.progress import (
    Progbar,
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
    say,
)


@pytest.fixture
def quiet():
    disable_interactive_logging()
    yield
    enable_interactive_logging()


def fit(model, clock, epochs=1, steps=4, known=True, verbose=1, launch=2, **logs):
    """A run of `fit` in launches of `launch` steps, a second a step."""
    callbacks = CallbackList(
        add_progbar=True, model=model, verbose=verbose, epochs=epochs, steps=steps if known else None
    )
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        for first in range(0, steps, launch):
            clock.now += launch
            callbacks.replay("train", first, {"loss": np.arange(launch, 0, -1.0)})
        callbacks.on_test_begin()
        callbacks.on_test_batch_end(0, {"loss": 9.0})
        callbacks.on_test_end({"loss": 9.0})
        callbacks.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25, **logs})
    callbacks.on_train_end()


BAR = "━" * 20


def test_a_screen_shows_one_line_an_epoch_in_the_end(model, clock, screen):
    fit(model, clock, epochs=2)
    line = f"4/4 {BAR} 4s 1s/step - loss: 0.5000 - val_loss: 0.2500"
    assert screen.rows == ["Epoch 1/2", line, "Epoch 2/2", line, ""]


def test_one_epoch_has_no_title(model, clock, screen):
    fit(model, clock)
    assert screen.rows[0].startswith("4/4 ")


def test_the_line_is_drawn_anew_at_each_launch(model, clock, screen):
    fit(model, clock)
    assert screen.getvalue().count("\r") == 3


def test_a_live_line_shows_the_time_that_is_left(clock, screen):
    bar = Progbar(10)
    clock.now = 3.0
    bar.update(1)
    clock.now = 5.0
    bar.update(2, [("loss", 1.0)])
    assert screen.rows == [f" 2/10 {BAR} 16s 2s/step - loss: 1.0000"]


@pytest.mark.parametrize("left, text", [(50, "50s"), (90, "1:30"), (7384, "2:03:04")])
def test_the_time_that_is_left_is_readable(clock, screen, left, text):
    bar = Progbar(left + 1)
    clock.now = 1.0
    bar.update(1)
    assert f" {text} 1s/step" in screen.rows[0]


@pytest.mark.parametrize("seconds, text", [(2.0, "2s"), (0.25, "250ms"), (0.0004, "400us")])
def test_the_time_of_a_step_is_readable(clock, screen, seconds, text):
    bar = Progbar(2)
    clock.now = seconds
    bar.update(1)
    assert f" {text}/step" in screen.rows[0]


def test_the_first_step_does_not_count_for_the_time_of_a_step(clock, screen):
    bar = Progbar(31)
    clock.now = 60.0  # it compiled
    bar.update(1)
    clock.now = 80.0
    bar.update(21)
    assert " 10s 1s/step" in screen.rows[0]


def test_the_first_steps_count_if_they_come_together(clock, screen):
    bar = Progbar(44)
    clock.now = 22.0
    bar.update(43)
    bar.update(44)
    assert " 22s 500ms/step" in screen.rows[0]


def test_the_wait_for_the_first_launch_is_not_in_the_time_that_is_left(clock, screen):
    bar = Progbar(80, interval=0)
    clock.now = 1000.0  # a stream filled its buffer
    for step in (8, 16, 24):
        bar.update(step)
        clock.now += 8.0
    assert screen.rows[0].startswith("24/80 ") and " 56s 1s/step" in screen.rows[0]


def test_the_wait_for_the_first_batch_is_not_in_the_time_of_a_step(model, clock, screen):
    callbacks = CallbackList(add_progbar=True, model=model, verbose=1, epochs=1, steps=41)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    clock.now = 1000.0  # a stream filled its buffer
    callbacks.on_train_batch_begin(0)
    clock.now = 1020.0
    callbacks.replay("train", 0, {"loss": np.ones(10)})
    assert " 1:02 2s/step" in screen.rows[0]


def test_drawing_waits_for_the_interval(clock, screen):
    bar = Progbar(10, interval=1.0)
    for step in range(1, 6):
        clock.now += 0.3
        bar.update(step)
    assert screen.getvalue().count("\r") == 2


def test_a_shorter_line_leaves_no_rest_of_the_longer_one(clock, screen):
    bar = Progbar(10, stateful_metrics=["loss"])
    bar.update(1, [("loss", 1e-9)])
    clock.now = 1.0
    bar.update(2, [("loss", 1.0)])
    assert screen.rows[0].endswith("loss: 1.0000")


@pytest.mark.parametrize("columns", [5, 20, 30, 45, 60])
def test_a_live_line_fits_in_a_narrow_terminal(clock, screen, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = Progbar(10)
    clock.now = 1.0
    bar.update(5, [("loss", 1.0), ("accuracy", 0.5)])
    assert len(screen.rows[0]) < columns and screen.rows[0].startswith(" 5/")


def test_the_bar_gets_shorter_before_the_text_does(clock, screen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "41")
    bar = Progbar(10)
    clock.now = 5.0
    bar.update(5, [("loss", 1.0)])
    assert screen.rows == [f" 5/10 {'━' * 8} 5s 1s/step - loss: 1.0000"]


METRICS = {"accuracy": 0.9563, "loss": 0.1442, "val_accuracy": 0.9721, "val_loss": 0.0985}
HEAD = f"1875/1875 {BAR} 0s 0s/step"


def last_line(clock, columns=None, verbose=1, monkeypatch=None, **metrics):
    if columns:
        monkeypatch.setenv("COLUMNS", str(columns))
    Progbar(1875, verbose=verbose).update(1875, (metrics or METRICS).items())


@pytest.mark.parametrize("columns", [30, 45, 60, 80, 100, 120])
@pytest.mark.parametrize("verbose", [1, 2])
def test_the_last_line_fits_and_holds_every_metric(clock, screen, monkeypatch, columns, verbose):
    last_line(clock, columns, verbose, monkeypatch)
    assert max(map(len, screen.rows)) <= columns
    assert all(f" - {name}: {value}" in "".join(screen.rows) for name, value in METRICS.items())


def test_what_does_not_fit_goes_to_the_next_row(clock, screen, monkeypatch):
    last_line(clock, 80, 1, monkeypatch)
    assert screen.rows == [
        f"{HEAD} - accuracy: 0.9563 - loss: 0.1442",
        " - val_accuracy: 0.9721 - val_loss: 0.0985",
        "",
    ]


def test_a_shorter_bar_saves_a_row(clock, screen, monkeypatch):
    last_line(clock, 60, 1, monkeypatch, accuracy=0.5, loss=0.25)
    assert screen.rows == ["1875/1875 ━━━━━ 0s 0s/step - accuracy: 0.5000 - loss: 0.2500", ""]


def test_a_name_longer_than_a_row_loses_its_middle(clock, screen, monkeypatch):
    last_line(clock, 80, 1, monkeypatch, **{f"the_{'long_' * 30}end": 0.5})
    first, second, _ = screen.rows
    assert len(second) == 80 and second.startswith(" - the_long_") and second.endswith("long_end: 0.5000")
    assert first == HEAD and "…" in second


def test_a_bar_in_a_file_has_rows_of_80_columns(clock, capsys, monkeypatch):
    last_line(clock, 200, 1, monkeypatch)
    assert capsys.readouterr().out.splitlines()[0] == f"{HEAD} - accuracy: 0.9563 - loss: 0.1442"


def test_a_log_in_a_file_has_a_line_an_epoch(clock, capsys):
    last_line(clock, verbose=2)
    texts = [f" - {name}: {value}" for name, value in METRICS.items()]
    assert capsys.readouterr().out == f"1875/1875 - 0s - 0s/step{''.join(texts)}\n"


def test_nothing_of_the_live_line_stays_beside_a_shorter_last_row(clock, screen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    bar = Progbar(10, stateful_metrics=["a", "b"])
    bar.update(1, [("a", 1.0), ("b", 1.0)])
    bar.update(10, [("a", 1.0), ("a_long_name_of_a_metric", 2.0)])
    assert screen.rows == [f"10/10 {BAR} 0s 0s/step - a: 1.0000", " - b: 1.0000 - a_long_name_of_a_metric: 2.0000", ""]


def test_colors_of_a_terminal(clock, screen):
    Progbar(4).update(2)
    half = "━" * 10
    assert screen.getvalue() == (
        f"\r\x1b[1m2/4\x1b[0m \x1b[32m{half}\x1b[0m\x1b[37m{half}\x1b[0m \x1b[1m0s\x1b[0m 0s/step"
    )


def test_no_colors_where_the_user_wants_none(clock, screen, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    Progbar(4).update(2)
    assert "\x1b" not in screen.getvalue()


def test_a_message_goes_above_the_live_line(clock, screen):
    bar = Progbar(4)
    bar.update(1)
    say("Epoch 1: saved")
    clock.now = 1.0
    bar.update(2)
    assert screen.rows == ["Epoch 1: saved", f"2/4 {BAR} 2s 1s/step"]


@pytest.mark.parametrize("text, rows", [("a\n", ["a"]), ("a\nb\n", ["a", "b"]), ("a", ["a"]), ("", [])])
def test_what_others_print_starts_on_a_line_of_its_own(clock, screen, text, rows):
    bar = Progbar(4, interval=0)
    for step in (1, 2, 4):
        bar.update(step)
        print(text, end="", file=screen) if step == 2 else None
    assert screen.rows == [*rows, f"4/4 {BAR} 0s 0s/step", ""]


def test_each_print_of_a_run_has_its_line(model, clock, screen):
    class Talking(Callback):
        def on_train_batch_end(self, batch, logs=None):
            print("batch", batch, file=screen)

        def on_epoch_end(self, epoch, logs=None):
            print("epoch", epoch, file=screen)

    callbacks = CallbackList(Talking(), add_progbar=True, model=model, verbose=1, epochs=1, steps=3)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(3):
        callbacks.replay("train", batch, {"loss": [1.0]})
    callbacks.on_epoch_end(0, {"loss": 1.0})
    said = ["batch 0", "batch 1", "batch 2", "epoch 0"]
    assert screen.rows == [*said, f"3/3 {BAR} 0s 0s/step - loss: 1.0000", ""]


def test_a_traceback_leaves_the_line_to_be_read(clock, screen, monkeypatch):
    stderr = type(screen)()
    stderr.write = screen.write  # one terminal shows both
    progress.sys.stderr = stderr
    Progbar(4).update(3)
    print("Traceback", file=stderr)
    assert screen.rows == [f"3/4 {BAR} 0s 0s/step", "Traceback", ""]


def test_a_stream_is_left_as_it_was(clock, screen):
    bar = Progbar(4)
    bar.update(1)
    assert "write" in vars(screen)
    bar.update(4)
    assert "write" not in vars(screen)


@pytest.mark.parametrize("theirs", ["before", "meanwhile"])
def test_a_write_that_somebody_put_on_the_stream_stays(clock, screen, theirs):
    def write(text):
        return type(screen).write(screen, text)

    bar = Progbar(4)
    for when in ("before", "meanwhile"):
        if when == theirs:
            screen.write = write
        bar.update(1 if when == "before" else 4)
    assert screen.write is write


def test_a_stream_without_attributes_is_drawn_on_all_the_same(clock, screen, print_on):
    class Bare:
        __slots__ = ()
        encoding, isatty, write, flush = "utf-8", screen.isatty, screen.write, screen.flush

    print_on(Bare())
    bar = Progbar(4)
    bar.update(1)
    bar.update(4)
    assert screen.rows == [f"4/4 {BAR} 0s 0s/step", ""]


@pytest.mark.parametrize("when", ["before", "within", "after"])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_run_can_be_copied_at_any_time(model, clock, screen, when, again):
    callbacks = CallbackList(add_history=True, add_progbar=True, model=model, verbose=1, epochs=1, steps=3)
    stages = [
        lambda: callbacks.on_train_begin(),
        lambda: (callbacks.on_epoch_begin(0), callbacks.replay("train", 0, {"loss": [1.0]})),
        lambda: callbacks.on_epoch_end(0, {"loss": 1.0}),
    ]
    for stage in stages[: ["before", "within", "after"].index(when) + 1]:
        stage()
    twin = again(callbacks)
    assert [type(each) for each in twin.callbacks] == [type(each) for each in callbacks.callbacks]
    assert twin.callbacks[0].history == callbacks.callbacks[0].history
    for made in (twin, callbacks):
        made.on_epoch_end(1, {"loss": 0.5})
    assert twin.model.history.epoch == model.history.epoch


def test_a_bar_within_another_gets_its_own_line(clock, screen):
    outer, inner = Progbar(4), Progbar(1)
    outer.update(1)
    inner.update(1)
    clock.now = 1.0
    outer.update(2)
    assert [row.split()[0] for row in screen.rows] == ["1/4", "1/1", "2/4"]


def test_a_file_gets_the_last_line_only(model, clock, capsys):
    fit(model, clock, epochs=2)
    line = f"4/4 {BAR} 4s 1s/step - loss: 0.5000 - val_loss: 0.2500"
    assert capsys.readouterr().out.splitlines() == ["Epoch 1/2", line, "Epoch 2/2", line]


def test_a_file_gets_a_line_every_ten_seconds(model, clock, capsys):
    fit(model, clock, steps=30)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["10/30", "20/30", "30/30", "30/30"]
    assert lines[0] == f"10/30 {'━' * 20} 20s 1s/step - loss: 1.0000"


def test_a_log_gets_a_line_every_ten_seconds(clock, quiet, caplog):
    bar = Progbar(100)
    with caplog.at_level(logging.INFO, "lamina"):
        for step in range(1, 26):
            clock.now += 1
            bar.update(step)
    assert [message.split("/")[0].strip() for message in caplog.messages] == ["10", "20"]


def test_a_dumb_terminal_is_treated_as_a_file(clock, screen, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    bar = Progbar(4)
    bar.update(2)
    bar.update(4)
    assert screen.getvalue() == f"4/4 {BAR} 0s 0s/step\n"


def test_a_notebook_is_redrawn_in_place(clock, screen, print_on):
    traits = {"__module__": "ipykernel.iostream", "isatty": lambda self: False}
    notebook = print_on(type("OutStream", (type(screen),), traits)())
    bar = Progbar(2)
    bar.update(1)
    bar.update(2)
    assert notebook.rows == [f"2/2 {BAR} 0s 0s/step", ""] and notebook.getvalue().count("\r") == 2


def test_a_stream_that_cannot_draw_the_bar_gets_equal_signs(clock, screen, monkeypatch):
    monkeypatch.setattr(type(screen), "encoding", "ascii")
    Progbar(4).update(4)
    assert screen.rows[0] == f"4/4 {'=' * 20} 0s 0s/step"


def test_an_unknown_number_of_steps(clock, screen):
    clock_line = "      3/Unknown 6s 2s/step - loss: 1.0000"
    bar = Progbar(None)
    clock.now = 6.0
    bar.update(3, [("loss", 1.0)])
    assert screen.rows == [clock_line]


def test_the_number_of_steps_is_known_after_the_first_epoch(model, clock, screen):
    fit(model, clock, epochs=2, known=False)
    assert "      2/Unknown" in screen.getvalue().split("Epoch 2/2")[0]
    assert "Unknown" not in screen.getvalue().split("Epoch 2/2")[1]


def test_a_run_that_was_stopped_shows_how_far_it_came(model, clock, capsys):
    callbacks = CallbackList(add_progbar=True, model=model, verbose=2, epochs=1, steps=8)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    callbacks.replay("train", 0, {"loss": np.ones(3)})
    callbacks.on_epoch_end(0, {"loss": 1.0})
    assert capsys.readouterr().out == "3/8 - 0s - 0s/step - loss: 1.0000\n"


def test_verbose_2_prints_a_short_line_an_epoch(model, clock, screen):
    fit(model, clock, verbose=2)
    assert screen.getvalue() == "4/4 - 4s - 1s/step - loss: 0.5000 - val_loss: 0.2500\n"


def test_verbose_0_prints_nothing(model, clock, screen):
    fit(model, clock, epochs=2, verbose=0)
    assert screen.getvalue() == ""


def test_verbose_auto_draws_the_bar(model, clock, screen):
    fit(model, clock, verbose="auto")
    assert BAR in screen.getvalue()


def test_verbose_auto_logs_a_line_without_interactive_logging(model, clock, screen, quiet, caplog):
    with caplog.at_level(logging.INFO, "lamina"):
        fit(model, clock, verbose="auto")
    assert caplog.messages == ["4/4 - 4s - 1s/step - loss: 0.5000 - val_loss: 0.2500"]
    assert screen.getvalue() == ""


def test_interactive_logging_is_on_unless_disabled(quiet):
    assert not is_interactive_logging_enabled()
    enable_interactive_logging()
    assert is_interactive_logging_enabled()


@pytest.mark.parametrize("phase, logs", [("test", {"loss": 1.0}), ("predict", {"outputs": np.ones(3)})])
def test_evaluate_and_predict_have_a_line(model, clock, capsys, phase, logs):
    callbacks = CallbackList(add_progbar=True, model=model, verbose=1, epochs=1, steps=2)
    getattr(callbacks, f"on_{phase}_begin")()
    getattr(callbacks, f"on_{phase}_batch_end")(1, logs)
    getattr(callbacks, f"on_{phase}_end")({"loss": 1.0} if phase == "test" else None)
    tail = " - loss: 1.0000" if phase == "test" else ""
    assert capsys.readouterr().out == f"2/2 {BAR} 0s 0s/step{tail}\n"


@pytest.mark.parametrize(
    "value, text", [(0.5, "0.5000"), (-2.0, "-2.0000"), (0.0005, "5.0000e-04"), (np.array([1.0, 2.0]), "1.5000")]
)
def test_values_are_readable(clock, screen, value, text):
    Progbar(4).update(1, [("loss", value)])
    assert screen.rows[0].endswith(f" - loss: {text}")


def test_values_are_averaged_over_steps(clock, screen):
    bar = Progbar(10, interval=0)
    bar.update(1, [("loss", 1.0)])
    bar.update(4, [("loss", 3.0)])
    assert screen.rows[0].endswith("loss: 2.5000")


@pytest.mark.parametrize("kwargs", [{"stateful_metrics": ["loss"]}, {"stateless_metrics": []}], ids=str)
def test_stateful_values_are_shown_as_they_are(clock, screen, kwargs):
    bar = Progbar(10, interval=0, **kwargs)
    bar.update(1, [("loss", 1.0)])
    bar.update(4, [("loss", 3.0)])
    assert screen.rows[0].endswith("loss: 3.0000")


def test_add_counts_from_the_last_update(clock, capsys):
    bar = Progbar(5)
    bar.add(3)
    bar.add(2)
    assert capsys.readouterr().out.startswith("5/5 ")


@pytest.mark.parametrize("kwargs", [{"verbose": 3}, {"stateful_metrics": [], "stateless_metrics": []}])
def test_arguments_are_checked(kwargs):
    with pytest.raises(ValueError, match="Progbar: "):
        Progbar(3, **kwargs)


def test_a_real_terminal_shows_what_the_screen_shows(screen):
    pty = pytest.importorskip("pty")  # not on Windows
    program = (
        "from lamina.callbacks.progress import Progbar, say\n"
        "bar = Progbar(3, interval=0)\n"
        "for step in range(1, 4):\n    bar.update(step, [('loss', 1 / step)])\n"
        "    say('half way') if step == 2 else None\n"
    )
    main, worker = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], stdout=worker, env=env, check=True)
    os.close(worker)
    screen.write(os.read(main, 65536).decode().replace("\r\n", "\n"))
    os.close(main)
    assert [row.split(" - ")[0].split()[0] for row in screen.rows[:-1]] == ["half", "3/3"]
