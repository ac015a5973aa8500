"""`Progbar` and `ProgbarLogger`: what a reader of a screen, a notebook or a log file sees."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from lamina.callbacks import CallbackList
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


def test_the_last_line_is_whole_in_a_narrow_terminal(clock, screen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    Progbar(10).update(10, [("loss", 1.0)])
    assert screen.rows == [f"10/10 {BAR} 0s 0s/step - loss: 1.0000", ""]


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
