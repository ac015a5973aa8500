"""`Callback`: what training calls at its stages; `CallbackList`: many as one, and what they need of the loop.

The loop runs many steps in one launch. A user's callback that overrides a batch hook must see every batch, so
it gets one step a launch; the library's own are called once after a launch, or, from the logs, once for each
of its steps (`replays`). A `CallbackList` tells the loop which of these holds.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lamina.callbacks import curves
from lamina.callbacks.progress import Progbar, is_interactive_logging_enabled, say
from lamina.core import constructors, registry

PHASES = ("train", "test", "predict")
# The hooks of training batches call these, their older names, unless overridden.
_OLDER_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
BATCH_HOOKS = (*_OLDER_NAMES.values(), *(f"on_{phase}_batch_{edge}" for phase in PHASES for edge in ("begin", "end")))
HOOKS = (
    *BATCH_HOOKS,
    *("on_epoch_begin", "on_epoch_end"),
    *(f"on_{phase}_{edge}" for phase in PHASES for edge in ("begin", "end")),
)
_STOP_FLAGS = {"train": "stop_training", "test": "stop_evaluating", "predict": "stop_predicting"}


def require(condition: Any, owner: Any, rule: str, given: Any) -> None:
    """Raise `ValueError` in the house form unless `condition` holds."""
    if not condition:
        raise ValueError(f"{type(owner).__name__}: {rule}, got {given!r}.")


class Callback:
    """Base of all callbacks: override the hooks of the stages that matter.

    `logs` are plain floats by name. Hooks of batches get running averages, `on_epoch_end` also `val_` values.

    Attributes:
        model: the model that is trained, evaluated or predicts.
        params: `verbose`, `epochs` and `steps` of the run.
        replays: set it to `True` in a class whose `on_*_batch_end` only looks at logs: it may then be called
            for each step after a launch of many, and training keeps its speed.
        state_fields: names of the attributes that a resumed run needs.
    """

    model: Any = None
    params: Any = None
    replays: bool = False
    state_fields: tuple[str, ...] = ()

    @constructors.explaining
    def __init__(self) -> None:
        self.params = None
        self.model = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = constructors.explaining(vars(cls)["__init__"])
        if "replays" not in vars(cls) and any(hook in vars(cls) for hook in BATCH_HOOKS):
            cls.replays = False  # what a class above declared was about other functions

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the parameters of the run."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Take the model."""
        self.model = model

    def get_state(self) -> dict[str, Any]:
        """The attributes named by `state_fields`: JSON values, arrays and lists of arrays, as copies."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.state_fields}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `get_state` gave. To be called after `on_train_begin`, which starts anew."""
        odd = sorted(set(state) ^ set(self.state_fields))
        require(not odd, self, f"state must hold {', '.join(self.state_fields) or 'nothing'}", sorted(state))
        for name in self.state_fields:
            setattr(self, name, copy.deepcopy(state[name]))

    def steps_until_needed(self) -> int | None:
        """How many training steps may run before `on_train_batch_end` must see the model; `None`: any."""
        return None

    def on_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Older name of `on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called before each epoch of training, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called after each epoch, validation included, with the averages of the epoch."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called before each training batch, counted from 0 in each epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called after each training batch with the running averages of the epoch."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called before each batch of `evaluate` and of validation."""

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called after each batch of `evaluate` and of validation with the running averages."""

    def on_predict_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called before each batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called after each batch of `predict` with its `outputs`."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called when training begins."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called when training ends, with the logs of the last epoch."""

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called when an evaluation or validation begins."""

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called when an evaluation or validation ends, with its result."""

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called when a prediction begins."""

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called when a prediction ends."""


class History(Callback):
    """Keeps the logs of all epochs: `history["loss"][i]` belongs to epoch `epoch[i]`. `fit` returns one.

    `plot()` draws the curves; in a notebook the object itself is shown as a table with them.
    """

    state_fields = ("history", "epoch")

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        self.logged_in: dict[str, list[int]] = {}  # the epochs of each name: validation may come in some alone

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
            self.logged_in.setdefault(name, []).append(epoch)
        self.model.history = self

    def plot(self, metrics: str | Sequence[str] | None = None) -> Any:
        """A figure of matplotlib with a panel for each metric: training, validation, and which epoch was best.

        Args:
            metrics: a name or several; all if not given. With "loss" comes "val_loss".

        Raises: ValueError if there is no such metric, or no epoch yet.
        """
        return curves.figure_of(self, metrics)

    def __repr__(self) -> str:
        return f"<History: {curves.text_of(self)}>"

    def _repr_html_(self) -> str:
        return curves.html_of(self)


class ProgbarLogger(Callback):
    """Prints the progress of `fit`, `evaluate` and `predict`: a bar, or a line an epoch with `verbose=2`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.progbar: Progbar | None = None
        self.target: int | None = None
        self.verbose = 1
        self.epochs = 1
        self._in_fit = False  # validation within `fit` is silent

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        verbose = params.get("verbose", 1)
        self.verbose = verbose if verbose != "auto" else 1 if is_interactive_logging_enabled() else 2
        self.epochs = params.get("epochs", 1)
        self.target = params.get("steps")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._in_fit = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start()
        if self.verbose and self.epochs > 1:
            say(f"Epoch {epoch + 1}/{self.epochs}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._finish(logs)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 0:
            (self.progbar or self._start()).begin()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._show(batch, logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._in_fit:
            self._start()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._in_fit:
            self._show(batch, logs)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._start()

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._show(batch)  # the logs are outputs

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        self._finish(logs)

    def _start(self) -> Progbar:
        self.seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose, stateless_metrics=())
        return self.progbar

    def _show(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        bar = self.progbar or self._start()
        self.seen = batch + 1
        bar.update(self.seen, (logs or {}).items(), finalize=False)

    def _finish(self, logs: dict[str, Any] | None) -> None:
        bar = self.progbar or self._start()
        if self.target is None:
            self.target = bar.target = self.seen
        # A run that was stopped within an epoch shows how far it came.
        bar.update(self.seen or self.target, (logs or {}).items(), finalize=True)
        self.progbar = None


class CallbackList(Callback):
    """Callbacks as one: each hook calls that hook of all, with logs as plain floats.

    Args:
        callbacks: one, or nested lists of them.
        add_history: whether to add a `History` if there is none.
        add_progbar: whether to add a `ProgbarLogger` if there is none.
        model: given to all.
        params: given to all: `verbose`, `epochs`, `steps`.

    Raises: ValueError if an argument is outside its domain.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        super().__init__()
        self.callbacks: list[Any] = list(_flat(callbacks))
        for wanted, default in ((add_history, History), (add_progbar, ProgbarLogger)):
            if wanted and not any(isinstance(callback, default) for callback in self.callbacks):
                self.callbacks.append(default())
        self.set_model(model)
        self.set_params(params)

    def append(self, callback: Any) -> None:
        """Add a callback behind the others."""
        for each in _flat(callback):
            self.callbacks.append(each)
            if self.model is not None:
                each.set_model(self.model)
            if self.params:
                each.set_params(self.params)

    def set_params(self, params: dict[str, Any]) -> None:
        """Give the parameters of the run to all callbacks."""
        self.params = params
        for callback in self.callbacks if params else ():
            callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Give the model to all callbacks, and the `History` among them to the model."""
        if model is None:
            return
        self.model = model
        for callback in self.callbacks:
            if isinstance(callback, History):
                model.history = callback
            callback.set_model(model)

    def needs_every_batch(self, phase: str) -> bool:
        """Whether a user's callback must be called at each batch of `"train"`, `"test"` or `"predict"`.

        Then a launch is one step; otherwise it is at most `launch_limit` steps.
        """
        begin, end = (f"on_{phase}_batch_{edge}" for edge in ("begin", "end"))
        return any(
            _is_users(callback, begin) or (_is_users(callback, end) and not _replays(callback))
            for callback in self.callbacks
        )

    def launch_limit(self, phase: str) -> int | None:
        """The number of steps that the next launch may run at most, so that no callback comes too late."""
        if self.needs_every_batch(phase):
            return 1
        own = [c for c in self.callbacks if isinstance(c, Callback)] if phase == "train" else []
        return min((n for n in (c.steps_until_needed() for c in own) if n is not None), default=None)

    @property
    def may_change_model(self) -> bool:
        """Whether a program's own code runs in callbacks, which may freeze a layer or put another one in."""
        return any(map(_runs_own_code, self.callbacks))

    @property
    def wants_step_logs(self) -> bool:
        """Whether `replay` needs the logs of each step of a launch, not only those of its last step."""
        return any(map(_replays, self.callbacks))

    def replay(self, phase: str, first: int, logs: Mapping[str, Any], count: int | None = None) -> None:
        """Call the batch-end hooks after a launch of steps `first`, `first + 1`, ...

        Callbacks that replay see each step until one of them stops the run; the others see the last of these.

        Args:
            phase: `"train"`, `"test"` or `"predict"`.
            first: index of the first step of the launch.
            logs: by name, an array of the values of all steps, steps along the first axis.
            count: the number of steps; that of the values if not given.
        """
        if count is None:
            count = len(next(iter(logs.values()), (None,)))
        if not count:
            return
        hook = f"on_{phase}_batch_end"
        listening = self._listening(hook)
        replaying = [callback for callback in listening if _replays(callback)]
        columns = {name: _column(values) for name, values in sorted(logs.items())}
        step, now = first, {}
        for i in range(0 if replaying else count - 1, count):
            step, now = first + i, {name: column[i] for name, column in columns.items()}
            for callback in replaying:
                _run(callback, hook, step, now)
            if getattr(self.model, _STOP_FLAGS[phase], False):
                break
        for callback in listening:
            if not _replays(callback):
                _run(callback, hook, step, now)

    def get_state(self) -> dict[str, Any]:
        """The state of each callback that has one, by class name: `EarlyStopping`, `EarlyStopping_1`, ..."""
        return {name: state for name, callback in self._named() if (state := callback.get_state())}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Give each callback its state back; one without a partner in the list is an error."""
        named = dict(self._named())
        lost = sorted(set(state) - set(named))
        require(not lost, self, f"state must be of these callbacks: {', '.join(named) or 'none'}", lost)
        for name, inner in state.items():
            named[name].set_state(inner)

    def _named(self) -> Iterator[tuple[str, Callback]]:
        counts: Counter[str] = Counter()
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                name = type(callback).__name__
                yield f"{name}_{counts[name]}" if counts[name] else name, callback
                counts[name] += 1

    def _listening(self, hook: str) -> list[Any]:
        return [callback for callback in self.callbacks if _overrides(callback, hook)]


def _broadcast(hook: str) -> Callable:
    own = getattr(Callback, hook)
    signature = inspect.signature(own)

    @functools.wraps(own)
    def call(self: CallbackList, *args: Any, **kwargs: Any) -> None:
        listening = self._listening(hook)
        if not listening:
            return
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *index, logs = bound.args
        logs = _plain(logs)
        for callback in listening:
            _run(callback, hook, *index, logs)  # one dictionary: what a callback adds, the next ones see

    return call


for _hook in HOOKS:
    setattr(CallbackList, _hook, _broadcast(_hook))


def _run(callback: Any, hook: str, *arguments: Any) -> None:
    """Call a hook; an error from it says where it comes from."""
    try:
        getattr(callback, hook)(*arguments)
    except Exception as error:
        place = "".join(f" of {'epoch' if 'epoch' in hook else 'batch'} {index}" for index in arguments[:-1])
        error.add_note(f"in callback {type(callback).__name__}, {hook}{place}")
        raise


def _flat(callbacks: Any) -> Iterator[Any]:
    if callbacks is None:
        return
    if isinstance(callbacks, CallbackList):
        callbacks = callbacks.callbacks
    if isinstance(callbacks, (list, tuple)):
        for callback in callbacks:
            yield from _flat(callback)
        return
    # Objects of other libraries that have all the hooks may take part.
    if isinstance(callbacks, type) or not all(callable(getattr(callbacks, hook, None)) for hook in HOOKS):
        hint = f"; pass an object: {callbacks.__name__}(...)" if isinstance(callbacks, type) else ""
        raise ValueError(f"CallbackList: callbacks must be Callback objects, got {callbacks!r}{hint}.")
    yield callbacks


def _runs_own_code(callback: Any) -> bool:
    """Whether a callback is a program's own, or calls functions of the program."""
    return getattr(callback, "calls_functions", False) or not registry.is_own(type(callback))


def _replays(callback: Any) -> bool:
    return bool(getattr(callback, "replays", False))


def _functions(cls: type, hook: str) -> list[Any]:
    """The functions of a class behind a hook, its older name included, that are not `Callback`'s own."""
    names = filter(None, (hook, _OLDER_NAMES.get(hook)))
    return [f for name in names if (f := getattr(cls, name, None)) is not getattr(Callback, name)]


def _put_on(callback: Any, hook: str) -> bool:
    """Whether a function was put on the object itself, as `LambdaCallback` does."""
    own = getattr(callback, "__dict__", ())
    return hook in own or _OLDER_NAMES.get(hook) in own


def _overrides(callback: Any, hook: str) -> bool:
    return _put_on(callback, hook) or bool(_functions(type(callback), hook))


def _is_users(callback: Any, hook: str) -> bool:
    """Whether code from outside the library runs at the hook."""
    functions = _functions(type(callback), hook)
    return _put_on(callback, hook) or not all(map(registry.is_own, functions))


def _column(values: Any) -> Sequence[Any]:
    """The values of all steps: plain floats, or arrays where a step has several."""
    values = np.asarray(values)
    return values.astype(float).tolist() if values.ndim == 1 else values


def _plain(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Logs with sorted names, inner dictionaries flattened, and single numbers as Python floats."""
    out: dict[str, Any] = {}
    for name, value in sorted((logs or {}).items()):
        if isinstance(value, Mapping):
            out.update(_plain(value))
        elif isinstance(value, (int, float)) or (hasattr(value, "__array__") and np.ndim(value) == 0):
            out[name] = float(value)
        else:
            out[name] = value
    return out
