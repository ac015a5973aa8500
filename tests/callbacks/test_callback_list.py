"""`CallbackList`: who is called with what, and what the loop is told; `History`; states of callbacks."""

import copy
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from lamina.callbacks.base import HOOKS

BUILT_IN = {
    "CSVLogger": lambda: CSVLogger("log.csv"),
    "EarlyStopping": EarlyStopping,
    "History": History,
    "ModelCheckpoint": lambda: ModelCheckpoint("a.keras", save_freq=5),
    "ProgbarLogger": ProgbarLogger,
    "ReduceLROnPlateau": ReduceLROnPlateau,
    "TerminateOnNaN": TerminateOnNaN,
}


class Recorder(Callback):
    """Keeps the batches and logs that it is called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append((batch, logs))


class Replayed(Recorder):
    replays = True

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)


def overriding(hook):
    return type("Own", (Callback,), {hook: lambda self, batch, logs=None: None})()


def listening(hook):
    """A list of one callback that notes the arguments of a hook, and its notes."""
    calls = []
    return CallbackList(LambdaCallback(**{hook: lambda *args: calls.append(args)})), calls


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_reaches_the_callbacks(hook):
    callbacks, calls = listening(hook)
    index = (3,) if "batch" in hook or "epoch" in hook else ()
    getattr(callbacks, hook)(*index, {"loss": 1})
    assert calls == [(*index, {"loss": 1.0})]


def test_hooks_take_their_arguments_by_name():
    callbacks, calls = listening("on_epoch_end")
    callbacks.on_epoch_end(epoch=1, logs={"a": 2})
    assert calls == [(1, {"a": 2.0})]


def test_training_batches_reach_the_older_name():
    callbacks, calls = listening("on_batch_end")
    callbacks.on_train_batch_end(2, {"loss": 1.0})
    assert calls == [(2, {"loss": 1.0})]


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.array(1.0), jnp.ones(())], ids=type)
def test_numbers_in_logs_become_floats(value):
    recorder = Recorder()
    CallbackList(recorder).on_train_batch_end(0, {"loss": value})
    assert type(recorder.calls[0][1]["loss"]) is float


def test_arrays_in_logs_stay():
    recorder = Recorder()
    CallbackList(recorder).on_train_batch_end(0, {"f1": np.ones(2)})
    assert recorder.calls[0][1]["f1"].shape == (2,)


def test_logs_are_flat_and_sorted():
    recorder = Recorder()
    CallbackList(recorder).on_train_batch_end(0, {"loss": 1.0, "accuracy": {"b": 2.0, "a": 3.0}})
    assert list(recorder.calls[0][1].items()) == [("a", 3.0), ("b", 2.0), ("loss", 1.0)]


def test_callbacks_share_the_logs_that_one_adds_to():
    seen = []
    first = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=1.0))
    CallbackList([first, LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))]).on_epoch_end(0)
    assert seen == [{"extra": 1.0}]


def test_lists_may_be_nested_and_hold_callback_lists():
    a, b, c = Recorder(), Recorder(), Recorder()
    assert CallbackList([a, (b, CallbackList([c]))]).callbacks == [a, b, c]


def test_history_and_progress_bar_are_added_at_the_end(model):
    callbacks = CallbackList([Recorder()], add_history=True, add_progbar=True, model=model, verbose=0)
    assert [type(c).__name__ for c in callbacks.callbacks] == ["Recorder", "History", "ProgbarLogger"]


def test_a_history_that_is_given_is_the_models(model):
    history = History()
    callbacks = CallbackList([history], add_history=True, model=model)
    assert callbacks.callbacks == [history] and model.history is history


def test_append_gives_the_callback_model_and_params(model):
    callbacks, recorder = CallbackList(model=model, epochs=3), Recorder()
    callbacks.append(recorder)
    assert recorder.model is model and recorder.params == {"epochs": 3}


def test_a_class_among_the_callbacks_is_an_error():
    with pytest.raises(ValueError, match=r"CallbackList: callbacks must be .*EarlyStopping\(\.\.\.\)"):
        CallbackList([EarlyStopping])


def test_objects_with_all_hooks_may_take_part(model):
    hooks = {hook: lambda self, *args: None for hook in (*HOOKS, "set_model", "set_params")}
    foreign = type("Foreign", (), hooks)()
    assert CallbackList([foreign], model=model).needs_every_batch("train")


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_callbacks_do_not_need_every_batch(name):
    callbacks = CallbackList(BUILT_IN[name]())
    assert not any(callbacks.needs_every_batch(phase) for phase in ("train", "test", "predict"))


@pytest.mark.parametrize("phase", ["train", "test", "predict"])
@pytest.mark.parametrize("edge", ["begin", "end"])
def test_a_users_batch_hook_needs_every_batch_of_its_phase(phase, edge):
    callbacks = CallbackList([EarlyStopping(), overriding(f"on_{phase}_batch_{edge}")])
    assert [p for p in ("train", "test", "predict") if callbacks.needs_every_batch(p)] == [phase]


def test_the_older_name_needs_every_training_batch():
    callbacks = CallbackList(overriding("on_batch_end"))
    assert [p for p in ("train", "test", "predict") if callbacks.needs_every_batch(p)] == ["train"]


def test_a_users_epoch_hook_does_not_need_batches():
    assert not CallbackList(overriding("on_epoch_end")).needs_every_batch("train")


def test_a_lambda_callback_with_a_batch_function_needs_every_batch():
    assert CallbackList(LambdaCallback(on_train_batch_end=lambda b, logs: None)).needs_every_batch("train")


def test_a_lambda_callback_without_one_does_not():
    assert not CallbackList(LambdaCallback(on_epoch_end=lambda e, logs: None)).needs_every_batch("train")


def test_a_users_batch_hook_on_top_of_a_built_in_one_needs_every_batch():
    own = type("Own", (TerminateOnNaN,), {"on_train_batch_end": lambda self, batch, logs=None: None})()
    assert CallbackList(own).needs_every_batch("train")


def test_a_user_may_declare_a_callback_to_be_replayed():
    callbacks = CallbackList(Replayed())
    assert not callbacks.needs_every_batch("train") and callbacks.wants_step_logs


def test_step_logs_are_wanted_for_replayed_callbacks_only():
    assert CallbackList(TerminateOnNaN()).wants_step_logs
    assert not CallbackList([EarlyStopping(), ProgbarLogger()]).wants_step_logs


def test_any_number_of_steps_may_be_launched_for_built_in_callbacks():
    assert CallbackList([EarlyStopping(), TerminateOnNaN()]).launch_limit("train") is None


def test_one_step_may_be_launched_for_a_users_batch_hook():
    callbacks = CallbackList(overriding("on_train_batch_end"))
    assert callbacks.launch_limit("train") == 1 and callbacks.launch_limit("test") is None


def test_a_launch_ends_where_the_next_checkpoint_is_due(model):
    callbacks = CallbackList(ModelCheckpoint("a.keras", save_freq=10), model=model)
    callbacks.on_epoch_begin(0)
    callbacks.replay("train", 0, {"loss": np.ones(4)})
    assert callbacks.launch_limit("train") == 6


def test_replay_calls_declared_callbacks_for_each_step():
    recorder = Replayed()
    CallbackList(recorder).replay("train", 5, {"loss": np.array([3.0, 2.0])})
    assert recorder.calls == [(5, {"loss": 3.0}), (6, {"loss": 2.0})]


def test_replay_calls_the_others_once_with_the_last_step():
    recorder = Recorder()
    CallbackList(recorder).replay("train", 5, {"loss": np.array([3.0, 2.0])})
    assert recorder.calls == [(6, {"loss": 2.0})]


def test_replay_ends_at_the_step_that_stops_training(model):
    stopping = TerminateOnNaN()
    recorder = Recorder()
    CallbackList([recorder, stopping], model=model).replay("train", 0, {"loss": np.array([1.0, np.inf, 3.0])})
    assert model.stop_training and recorder.calls == [(1, {"loss": np.inf})]


def test_replay_without_logs_takes_the_number_of_steps():
    recorder = Recorder()
    CallbackList(recorder).replay("train", 4, {}, count=3)
    assert recorder.calls == [(6, {})]


def test_replay_of_no_steps_calls_nobody():
    recorder = Recorder()
    CallbackList(recorder).replay("train", 4, {"loss": np.ones(0)})
    assert recorder.calls == []


def test_history_keeps_epochs_and_logs(model):
    callbacks = CallbackList(add_history=True, model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 2.0})
    callbacks.on_epoch_end(1, {"loss": 1.0, "val_loss": 3.0})
    assert model.history.epoch == [0, 1]
    assert model.history.history == {"loss": [2.0, 1.0], "val_loss": [3.0]}


@pytest.mark.parametrize("name", ["EarlyStopping", "History", "ModelCheckpoint", "ReduceLROnPlateau"])
def test_a_state_goes_over_to_another_object(name, model):
    first, second = BUILT_IN[name](), BUILT_IN[name]()
    callbacks = CallbackList(first, model=model)
    callbacks.on_train_begin()
    for epoch, loss in enumerate([3.0, 2.0, 2.5]):
        callbacks.on_epoch_begin(epoch)
        callbacks.replay("train", 0, {"loss": np.full(3, loss)})
        callbacks.on_epoch_end(epoch, {"val_loss": loss})
    second.set_state(first.get_state())
    assert first.get_state() == second.get_state() != BUILT_IN[name]().get_state()


def test_a_state_is_a_copy(model):
    history = History()
    CallbackList(history, model=model).on_epoch_end(0, {"loss": 1.0})
    state = history.get_state()
    history.on_epoch_end(1, {"loss": 2.0})
    assert state == {"history": {"loss": [1.0]}, "epoch": [0]}


def test_a_state_with_other_names_is_an_error():
    with pytest.raises(ValueError, match="History: state must hold history, epoch, got"):
        History().set_state({"history": {}})


def test_the_states_of_a_list_have_the_names_of_the_classes():
    callbacks = CallbackList([EarlyStopping(), Recorder(), EarlyStopping(), History()])
    assert list(callbacks.get_state()) == ["EarlyStopping", "EarlyStopping_1", "History"]


def test_a_list_takes_its_states_back():
    callbacks = CallbackList([EarlyStopping(), EarlyStopping()])
    state = callbacks.get_state()
    state["EarlyStopping_1"]["wait"] = 5
    callbacks.set_state(state)
    assert [c.wait for c in callbacks.callbacks] == [0, 5]


def test_a_state_without_its_callback_is_an_error():
    with pytest.raises(ValueError, match="state must be of these callbacks: History, got"):
        CallbackList(History()).set_state(CallbackList(EarlyStopping()).get_state())


class Failing(Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyError("lr")

    def on_train_batch_end(self, batch, logs=None):
        raise KeyError("lr")

    def on_train_begin(self, logs=None):
        raise KeyError("lr")


@pytest.mark.parametrize(
    "call, place",
    [
        (lambda callbacks: callbacks.on_epoch_end(3, {}), "on_epoch_end of epoch 3"),
        (lambda callbacks: callbacks.replay("train", 7, {"loss": [1.0]}), "on_train_batch_end of batch 7"),
        (lambda callbacks: callbacks.on_train_begin(), "on_train_begin"),
    ],
)
def test_an_error_says_which_callback_it_comes_from(model, call, place):
    with pytest.raises(KeyError, match="lr") as caught:
        call(CallbackList([[Failing()]], model=model))
    assert caught.value.__notes__ == [f"in callback Failing, {place}"]


COPIES = {"copy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


class Copying(Callback):
    """Copies what it is told to in the middle of a run."""

    def __init__(self, again, what):
        super().__init__()
        self.again, self.what, self.made = again, what, []

    def on_train_batch_end(self, batch, logs=None):
        made, self.made = self.made, []  # not the copies themselves
        self.made = [*made, self.again(self.what[0])]


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_a_run_of_a_real_model_can_be_copied_within_and_after(again):
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    trained = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(1)])
    trained.compile("adam", "mse")
    what = []
    built_in = [make() for name, make in BUILT_IN.items() if name not in ("ModelCheckpoint", "CSVLogger")]
    copying = Copying(again, what)
    what.append(CallbackList(built_in, model=trained))
    trained.fit(x, y, batch_size=2, verbose=0, validation_data=(x, y), callbacks=[*built_in, copying])
    assert [len(made.callbacks) for made in copying.made] == [len(built_in)] * 2
    twin = again(trained.history)
    assert twin.history == trained.history.history and twin.model.history is twin
    np.testing.assert_array_equal(twin.model.predict(x, verbose=0), trained.predict(x, verbose=0))
