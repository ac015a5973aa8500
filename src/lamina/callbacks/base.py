"""`Callback`: what training calls at its stages; the two that every `fit` has, `History` and `ProgbarLogger`."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.callbacks import curves
from lamina.callbacks.progress import Progbar, is_interactive_logging_enabled, say
from lamina.core import constructors
from lamina.core.checks import require

PHASES = ("train", "test", "predict")
# The hooks of training batches call these, their older names, unless overridden.
OLDER_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
BATCH_HOOKS = (*OLDER_NAMES.values(), *(f"on_{phase}_batch_{edge}" for phase in PHASES for edge in ("begin", "end")))
HOOKS = (
    *BATCH_HOOKS,
    *("on_epoch_begin", "on_epoch_end"),
    *(f"on_{phase}_{edge}" for phase in PHASES for edge in ("begin", "end")),
)


class Callback:
    """Base of all callbacks: override the hooks of the stages that matter.

    `logs` are plain floats by name. Hooks of batches get running averages, `on_epoch_end` also `val_` values.

    Attributes:
        model: the model that is trained, evaluated or predicts.
        params: `verbose`, `epochs` and `steps` of the run.
        replays: set it to `True` in a class whose `on_*_batch_end` only looks at logs: it may then be called
            for each step after a launch of many, and training keeps its speed.
        state_fields: names of the attributes that a resumed run needs.
        comes_last: whether its hooks come behind those of all others, so that it finds these in the state that a
            stage leaves them in. In `fit`, `listeners` are all of them, with the `position` of the run.
    """

    model: Any = None
    params: Any = None
    replays: bool = False
    state_fields: tuple[str, ...] = ()
    comes_last: bool = False
    listeners: Any = None

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

    _repr_html_ = curves.html_of


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

    on_predict_begin, on_predict_end = on_test_begin, on_test_end

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._show(batch)  # the logs are outputs

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
