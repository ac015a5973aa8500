"""A model and an optimizer with what callbacks ask of them, and a screen that shows what a terminal does."""

import io
import re
import sys
import types
from pathlib import Path

import pytest


class FakeOptimizer:
    def __init__(self, learning_rate=0.1, name="sgd"):
        self.learning_rate = learning_rate
        self.name = name


class FakeModel:
    def __init__(self, metrics=None):
        self.stop_training = False
        self.stop_evaluating = False
        self.optimizer = FakeOptimizer()
        self.metrics = metrics or {}
        self.weights = [0]
        self.saved = []

    def metric_in_logs(self, name):
        return self.metrics.get(name)

    def get_weights(self):
        return list(self.weights)

    def set_weights(self, weights):
        self.weights = list(weights)

    def save(self, path, overwrite=True):
        assert overwrite
        self.saved.append(Path(path).name)

    def save_weights(self, path, overwrite=True):
        self.save(path, overwrite)


class Screen(io.StringIO):
    """Text as a terminal would show it: a carriage return goes back, what follows overwrites."""

    encoding = "utf-8"

    def isatty(self):
        return True

    @property
    def rows(self):
        rows = []
        for line in re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue()).split("\n"):
            row = ""
            for part in line.split("\r"):
                row = part + row[len(part) :]
            rows.append(row.rstrip())
        return rows


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def make_model():
    return FakeModel


@pytest.fixture
def make_optimizer():
    return FakeOptimizer


@pytest.fixture
def print_on(monkeypatch):
    """Let progress bars find a stream as stdout; pytest has a hand in the real one."""

    def stdout_is(stream):
        system = types.SimpleNamespace(stdout=stream, __stdout__=None, maxsize=sys.maxsize)
        monkeypatch.setattr("lamina.callbacks.progress.sys", system)
        return stream

    return stdout_is


@pytest.fixture
def screen(monkeypatch, print_on):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return print_on(Screen())


@pytest.fixture
def clock(monkeypatch):
    """The time that progress bars see; set `clock.now`."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("lamina.callbacks.progress.time", clock)
    return clock
