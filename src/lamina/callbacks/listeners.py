"""`CallbackList`: many callbacks as one, and what they need of the loop.

The loop runs many steps in one launch. A user's callback that overrides a batch hook must see every batch, so it gets
one step a launch, or `steps_per_execution` of them; the library's own are called once after a launch, or, from the
logs, once for each of its steps (`replays`). A `CallbackList` tells the loop which of these holds.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lamina.callbacks.base import BATCH_HOOKS, HOOKS, OLDER_NAMES, Callback, History, ProgbarLogger
from lamina.callbacks.curves import better
from lamina.core import registry, scope
from lamina.core.checks import require

_BETWEEN_EPOCHS = ("on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end")
_STOP_FLAGS = {"train": "stop_training", "test": "stop_evaluating", "predict": "stop_predicting"}


class CallbackList(Callback):
    """Callbacks as one: each hook calls that hook of all, with logs as plain floats.

    Args:
        callbacks: one, or nested lists of them.
        add_history: whether to add a `History` if there is none.
        add_progbar: whether to add a `ProgbarLogger` if there is none.
        model: given to all.
        params: given to all: `verbose`, `epochs`, `steps`.

    Attributes:
        every: the batches that a program's hooks of training and evaluation hear of at once: `steps_per_execution`.
        done: the batches of the epoch that are through.

    Raises: ValueError if an argument is outside its domain.
    """

    every, done = 1, 0
    _untold: tuple[str, int, dict] | None = None  # a hook that a program's callbacks have not heard yet

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
        self._put_last()
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
        self._put_last()

    def _put_last(self) -> None:
        self.callbacks.sort(key=lambda callback: bool(getattr(callback, "comes_last", False)))

    def begin_run(self, position: Any, meet_variables: Callable[[], None]) -> None:
        """Begin a training whose `Position` a callback may change, to go on with an earlier one."""
        self.position = position
        last = [callback for callback in self.callbacks if getattr(callback, "comes_last", False)]
        for callback in last:
            callback.listeners = self
        if last:
            meet_variables()
        self.on_train_begin()

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
            if not isinstance(callback, Callback) and getattr(callback, "mode", None) == "auto":  # one of Keras
                callback.mode = better(model, callback.monitor) or "auto"
            callback.set_model(model)

    def needs_every_batch(self, phase: str) -> bool:
        """Whether a user's callback must be called at each batch of `"train"`, `"test"` or `"predict"`.

        Then a launch is one step, or `every`; otherwise it is at most `launch_limit` steps.
        """
        begin, end = (f"on_{phase}_batch_{edge}" for edge in ("begin", "end"))
        return any(
            _is_users(callback, begin) or (_is_users(callback, end) and not _replays(callback))
            for callback in self.callbacks
        )

    def launch_limit(self, phase: str) -> int | None:
        """The number of steps that the next launch may run at most, so that no callback comes too late."""
        if self.needs_every_batch(phase):
            return self.every - self.done % self.every
        own = [c for c in self.callbacks if isinstance(c, Callback)] if phase == "train" else []
        return min((n for n in (c.steps_until_needed() for c in own) if n is not None), default=None)

    @property
    def may_change_model(self) -> bool:
        """Whether a program's own code runs in callbacks, which may freeze a layer or put another one in."""
        return any(getattr(c, "calls_functions", False) or not registry.is_own(type(c)) for c in self.callbacks)

    @property
    def looks_at_epochs(self) -> bool:
        """Whether anything but a `History` may come between two epochs of training."""
        looks = (
            _put_on(callback, hook) or {*_functions(type(callback), hook)} - {History.on_epoch_end}
            for callback, hook in itertools.product(self.callbacks, _BETWEEN_EPOCHS)
        )
        return type(self) is not CallbackList or self.wants_step_logs or any(looks)

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
        self.done = step + 1
        self._untold = (hook, step, now) if self.done % self.every else None
        for callback in listening:
            if not _replays(callback) and not (self._untold and _is_users(callback, hook)):
                _run(callback, hook, step, now)

    def _tell(self, hook: str, step: int, logs: dict[str, Any]) -> None:
        """Tell a program's callbacks of the last batches of an epoch, which are fewer than `every`.

        As in Keras, they hear the number of the batch that would be the last of so many.
        """
        self._untold = None
        for callback in self._listening(hook):
            if not _replays(callback) and _is_users(callback, hook):
                _run(callback, hook, step + -(step + 1) % self.every, logs)

    def get_state(self) -> dict[str, Any]:
        """The state of each callback that has one, by class name: `EarlyStopping`, `EarlyStopping_1`, ..."""
        return {name: state for name, callback in self._named().items() if (state := callback.get_state())}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Give each callback its state back; one without a partner in the list is an error."""
        named = self._named()
        lost = sorted(set(state) - set(named))
        require(not lost, self, f"state must be of these callbacks: {', '.join(named) or 'none'}", lost)
        for name, inner in state.items():
            named[name].set_state(inner)

    def _named(self) -> dict[str, Callback]:
        named: dict[str, Callback] = {}
        for callback in self.callbacks:
            if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
                named[scope.unused_name(type(callback).__name__, named)] = callback
        return named

    def _listening(self, hook: str) -> list[Any]:
        return [each for each in self.callbacks if _put_on(each, hook) or _functions(type(each), hook)]


def _broadcast(hook: str) -> Callable:
    own = getattr(Callback, hook)
    signature = inspect.signature(own)
    count = len(signature.parameters) - 1
    begins = hook in ("on_train_batch_begin", "on_test_batch_begin")

    @functools.wraps(own)
    def call(self: CallbackList, *args: Any, **kwargs: Any) -> None:
        if self._untold and hook not in BATCH_HOOKS:
            self._tell(*self._untold)
        listening = self._listening(hook)
        if not listening:
            return
        if kwargs or len(args) != count:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            args = bound.args[1:]
        *index, logs = args
        logs = plain_logs(logs)
        inside = begins and self.every > 1 and index[0] % self.every  # of batches that a program hears of at once
        for callback in listening:
            if not (inside and _is_users(callback, hook)):
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
        rest = "; the model keeps what it learnt, fit goes on with initial_epoch" if isinstance(error, OSError) else ""
        error.add_note(f"in callback {type(callback).__name__}, {hook}{place}{rest}")
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


def _replays(callback: Any) -> bool:
    return bool(getattr(callback, "replays", False))


def _functions(cls: type, hook: str) -> list[Any]:
    """The functions of a class behind a hook, its older name included, that are not `Callback`'s own."""
    names = filter(None, (hook, OLDER_NAMES.get(hook)))
    return [f for name in names if (f := getattr(cls, name, None)) is not getattr(Callback, name)]


def _put_on(callback: Any, hook: str) -> bool:
    """Whether a function was put on the object itself, as `LambdaCallback` does."""
    own = getattr(callback, "__dict__", ())
    return hook in own or OLDER_NAMES.get(hook) in own


def _is_users(callback: Any, hook: str) -> bool:
    """Whether code from outside the library runs at the hook."""
    return _put_on(callback, hook) or not all(map(registry.is_own, _functions(type(callback), hook)))


def _column(values: Any) -> Sequence[Any]:
    """The values of all steps: plain floats, or arrays where a step has several."""
    values = np.asarray(values)
    return values.astype(float).tolist() if values.ndim == 1 else values


def plain_logs(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Logs with sorted names, inner dictionaries flattened, and single numbers as Python floats."""
    out: dict[str, Any] = {}
    for name, value in sorted((logs or {}).items()):
        if isinstance(value, (int, float)) or (hasattr(value, "__array__") and np.ndim(value) == 0):
            out[name] = float(value)
        elif isinstance(value, Mapping):
            out.update(plain_logs(value))
        else:
            out[name] = value
    return out
