"""Ctrl-C at the worst moment: the arrays are given to the device, and what comes back is not in the variables yet."""

import signal
import threading

import numpy as np
import pytest

from lamina.callbacks import Callback
from lamina.training.step import Interrupts, OneStep, Program
from tests.training.conftest import X, Y, compiled

OPTIONS = {"batch_size": 4, "epochs": 3, "verbose": 0}


def state_of(model):
    return [np.asarray(v.value) for v in (*model.variables, *model.optimizer.variables)]


@pytest.fixture
def interrupted_launch(monkeypatch):
    """Every launch gets a signal right after its computation."""
    real = Program.__call__

    def call(self, *arguments):
        out = real(self, *arguments)
        signal.raise_signal(signal.SIGINT)
        return out

    monkeypatch.setattr(Program, "__call__", call)


@pytest.mark.usefixtures("interrupted_launch")
@pytest.mark.parametrize("act", [lambda m: m.fit(X, Y, **OPTIONS), lambda m: m.train_on_batch(X, Y)])
def test_an_interrupt_in_a_launch_waits_for_its_results(act):
    model = compiled(optimizer="adam")
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        act(model)
    assert all(np.isfinite(value).all() for value in state_of(model))
    assert int(model.optimizer.iterations.value) == 1
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights()))


def test_training_goes_on_after_an_interrupt(monkeypatch):
    model = compiled(optimizer="adam")
    with monkeypatch.context() as patch:
        patch.setattr(Program, "__call__", lambda *_: signal.raise_signal(signal.SIGINT) or OneStep((), {}))
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, **OPTIONS)
    assert len(model.fit(X, Y, **OPTIONS).history["loss"]) == 3


def test_a_second_interrupt_does_not_wait(monkeypatch):
    reached = []

    def call(*_):
        signal.raise_signal(signal.SIGINT)
        reached.append("held")
        signal.raise_signal(signal.SIGINT)
        reached.append("never")

    monkeypatch.setattr(Program, "__call__", call)
    with pytest.raises(KeyboardInterrupt):
        compiled().fit(X, Y, **OPTIONS)
    assert reached == ["held"]


def test_between_launches_an_interrupt_comes_at_once():
    class Signals(Callback):
        reached = False

        def on_train_batch_end(self, batch, logs=None):
            signal.raise_signal(signal.SIGINT)
            self.reached = True

    callback = Signals()
    with pytest.raises(KeyboardInterrupt):
        compiled().fit(X, Y, callbacks=[callback], **OPTIONS)
    assert not callback.reached


@pytest.mark.parametrize("fails", [False, True])
def test_the_programs_own_handler_is_back_after_fit(fails):
    class Fails(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if fails:
                raise RuntimeError("on purpose")

    seen = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            compiled().fit(X, Y, callbacks=[Fails()], **OPTIONS)
        except RuntimeError:
            assert fails
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    finally:
        signal.signal(signal.SIGTERM, old)


def test_a_handler_of_the_program_hears_of_a_signal_that_waited():
    seen, interrupts = [], Interrupts()
    old = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with interrupts:
            with interrupts.held():
                signal.raise_signal(signal.SIGTERM)
                assert seen == []
            assert seen == [signal.SIGTERM]
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, old)


def test_training_in_a_thread_leaves_handlers_alone():
    before, failures = signal.getsignal(signal.SIGINT), []

    def work():
        try:
            compiled().fit(X, Y, **OPTIONS)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == [] and signal.getsignal(signal.SIGINT) == before


def test_a_launch_in_another_thread_leaves_signals_to_the_main_thread():
    interrupts, inside, goes_on = Interrupts(), threading.Event(), threading.Event()

    def launch():
        with interrupts, interrupts.held():
            inside.set()
            goes_on.wait()

    before, failed = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=launch)
    with pytest.raises(KeyboardInterrupt), interrupts:
        thread.start()
        inside.wait()
        try:
            signal.raise_signal(signal.SIGINT)  # it is not held here
            failed.append("an interrupt waited for another thread")
        finally:
            goes_on.set()
            thread.join()
    assert failed == [] and signal.getsignal(signal.SIGINT) is before


def test_two_threads_may_train_one_model(monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_value))
    model = compiled()
    model.fit(X, Y, **OPTIONS)

    class Beside(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            other = threading.Thread(target=model.train_on_batch, args=(X, Y))
            other.start()
            other.join()

    model.fit(X, Y, callbacks=[Beside()], **OPTIONS)

    class Within(Callback):
        def on_train_batch_end(self, batch, logs=None):
            other = threading.Thread(target=model.train_on_batch, args=(X, Y))
            other.start()
            other.join()

    model.fit(X, Y, callbacks=[Within()], **OPTIONS)
    assert raised == []
