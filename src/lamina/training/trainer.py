"""`Trainer`: compile, fit, evaluate, predict."""

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import tree_util

from lamina.callbacks import CallbackList
from lamina.callbacks.base import PHASES
from lamina.callbacks.listeners import plain_logs
from lamina.callbacks.progress import is_interactive_logging_enabled
from lamina.core import checks, dtypes, errors, placement
from lamina.core.jit import jit
from lamina.core.runtime import keep_freed_memory
from lamina.data.arrays import train_validation_split
from lamina.data.limits import limited, max_epochs
from lamina.data.sources import Source, held_out_source, make_source
from lamina.layer.parts import one_look
from lamina.layer.policies import newest_change
from lamina.random import seeds
from lamina.saving.resume import Position
from lamina.training import loop
from lamina.training.forms import stateful
from lamina.training.loop import Runner
from lamina.training.ready import Ready
from lamina.training.step import Feed, Run
from lamina.training.tools.dry_run import dry_run as estimate
from lamina.training.tools.locate_nan import Guard
from lamina.training.trial import Trial


class Trainer(Ready):
    """A layer that trains.

    `train_step(data)`, `test_step(data)` and `predict_step(data)` may be overridden, either in this stateful form or in
    Keras's JAX form `train_step(state, data) -> logs, state`.
    """

    history: Any = None  # of the last fit
    _predict: Any = None
    _predict_made = 0  # the change of weights that it knows of
    _runs = 0

    def _prepare_training(self) -> None:
        self._launchers = {}
        self._entropy = placement.agreed(int.from_bytes(os.urandom(4), "little"))

    def _forget_programs(self, *phases: str) -> None:
        for phase in phases or PHASES:
            self._launchers.pop(phase, None)
            setattr(self, f"{phase}_function", None)
            if phase == "predict":
                self._predict = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the compiled programs: a copy makes its own."""
        functions = {f"{phase}_function": None for phase in PHASES}
        return {**super().__getstate__(), **functions, "_launchers": {}, "_predict": None}

    def _order_seed(self, run: int) -> int:
        """The seed of the orders of rows in a run."""
        base = seeds.global_seed()
        return (self._entropy if base is None else base) + max(0, run - 1)

    # fit, evaluate, predict ----------------------------------------------------------------------

    @errors.entry
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        *,
        dry_run: bool = False,
        locate_nan: bool = False,
    ) -> Any:
        """Train for a number of epochs, and return the `History` of losses and metrics.

        Args:
            x, y: arrays, or structures of them; or x a dataset, loader or generator of batches, without y.
            batch_size: rows of a batch, 32 if not given.
            epochs: the number of the last epoch.
            verbose: 0 silent, 1 a progress bar, 2 a line each epoch, "auto" the one that fits the output.
            callbacks: called at every stage.
            validation_split: the last part of the rows to hold out.
            validation_data: (x, y) or (x, y, sample_weight), or a dataset.
            shuffle: a new order of the rows each epoch.
            class_weight: weights of classes, `{class: weight}`.
            sample_weight: weights of the rows.
            initial_epoch: the number of the first epoch, to go on from an earlier run.
            steps_per_epoch: batches of an epoch.
            validation_steps, validation_batch_size: the same for validation.
            validation_freq: validate after every so many epochs, or after those in a list.
            dry_run: train nothing, and return a `DryRun`: shapes, memory, operations and time.
            locate_nan: where values become infinite or NaN, raise a `NonFiniteError` that tells in which layer.

        >>> model = lamina.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(np.ones((8, 2)), np.ones((8, 1)), batch_size=4, epochs=3, verbose=0)
        >>> len(history.history["loss"]), int(model.optimizer.iterations)
        (3, 6)
        """
        self._require_compiled("fit")
        _check_epochs(epochs, initial_epoch, validation_freq)
        epochs = limited("fit", "the number of epochs", epochs, max_epochs()) or 0
        run = self._runs if initial_epoch else self._runs + 1  # one that goes on has the orders of the run before
        if validation_split and validation_data is None:
            parts = self._fed(x, y, sample_weight)
            (x, y, sample_weight), validation_data = train_validation_split(parts, validation_split)
        position = Position(initial_epoch, seed=self._order_seed(run))
        source = make_source(
            x, y, sample_weight, batch_size=batch_size, steps=steps_per_epoch, shuffle=shuffle,
            class_weight=class_weight, seed=position.seed, who="fit", fed=self._fed,
        )  # fmt: skip
        rows = batch_size if validation_batch_size is None else validation_batch_size
        held_out = held_out_source(validation_data, rows, validation_steps, self._fed)
        training = self._prepared("train", source, "fit", held_out)
        if dry_run:
            return estimate(Trial(training, source, self), epochs - initial_epoch)
        training.guard = Guard(training, source, self) if locate_nan else training.guard
        listeners = self._listeners("fit", callbacks, verbose, source, epochs, history=True)
        self.stop_training = False
        runner = Runner(training, source, listeners)
        validator = None if held_out is None else Runner(self._phase("test"), held_out, listeners)
        listeners.begin_run(position, runner.meet_variables)
        validates = partial(_validates, frequency=validation_freq)
        try:
            if loop.seek(position, initial_epoch, source, held_out, validates):
                self._runs = run
            logs = self._run_epochs(run, position, epochs, runner, validator, validates)
        finally:
            source.close()
            if held_out is not None:
                held_out.close()
        if self.optimizer is not None and epochs > initial_epoch:
            self.optimizer.finalize_variable_values(self.trainable_variables)
        listeners.on_train_end(logs)
        return self.history

    def _run_epochs(
        self, run: int, at: Position, end: int, runner: Runner, validator: Runner | None, validates: Callable
    ) -> dict[str, Any]:
        """The epochs from a position on, each with validation where that is wanted: the last one's logs."""
        logs: dict[str, Any] = {}
        while at.epoch < end:
            runner.callbacks.on_epoch_begin(at.epoch, None)
            found = runner.epoch(at, end - at.epoch if validator is None else 1)
            if found is None:
                break
            logs, self._runs, epoch = found, run, at.epoch  # one that fails before has not been one
            if validator is not None and validates(epoch):
                logs = logs | self._validate(validator)
            at.move(epoch + 1)
            runner.callbacks.on_epoch_end(epoch, logs)
            if placement.any_of(self.stop_training):
                break
        return logs

    def _validate(self, runner: Runner) -> dict[str, Any]:
        """What an epoch's logs get from validation."""
        self.stop_evaluating = False
        runner.callbacks.on_test_begin()
        found = runner.epoch(Position()) or {}
        runner.callbacks.on_test_end(found)
        return {f"val_{name}": value for name, value in found.items()}

    @errors.entry
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and metrics on data: a float, a list of floats, or a dict with `return_dict`."""
        self._require_compiled("evaluate")
        source = make_source(x, y, sample_weight, batch_size=batch_size, steps=steps, who="evaluate", fed=self._fed)
        phase = self._prepared("test", source, "evaluate")
        listeners = self._listeners("evaluate", callbacks, verbose, source)
        self.stop_evaluating = False
        runner = Runner(phase, source, listeners)
        listeners.on_test_begin()
        with closing(source):
            logs = runner.epoch(Position()) or {}
        listeners.on_test_end(logs)
        return logs if return_dict else self._as_list(logs)

    @errors.entry
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for all of x as NumPy arrays."""
        self._check_constructed()
        x, *_ = self._fed(x)
        if verbose == 0 and callbacks is None and steps is None and _is_small(x, batch_size):
            x = x.astype(dtypes.floatx()) if x.dtype == np.float64 else x
            return _to_keep(self._predict_function()(x))
        source = make_source(x, batch_size=batch_size, steps=steps, who="predict", fed=self._fed)
        listeners = self._listeners("predict", callbacks, verbose, source)
        listeners.on_predict_begin()
        self.stop_predicting = False
        with closing(source):
            outputs = loop.collect_outputs(
                self._predict_function(), source, listeners, lambda: bool(self.stop_predicting)
            )
        listeners.on_predict_end()
        return outputs

    def _predict_function(self) -> Callable:
        """The compiled `predict_step`; what it assigns, such as seeds, is assigned."""
        function = self._own_function("predict")
        if function is not None:
            own = stateful(function, self._predict_groups, keep=True)
            return lambda data: own(iter([data]))
        newest = newest_change()
        if self._is_eager or self._predict is None or self._predict_made < newest:
            step = stateful(self._predict_method(), self._predict_groups)
            if self._is_eager:
                return step
            keep_freed_memory()
            self._predict, self._predict_made = jit(lambda data: step(placement.rows(data))), newest
        return self._predict

    # One batch at a time -------------------------------------------------------------------------

    @errors.entry
    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One training step; loss and metrics of this batch alone."""
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict)

    @errors.entry
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch alone."""
        return self._on_batch("test", x, y, sample_weight, None, return_dict)

    @errors.entry
    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch as NumPy arrays."""
        x, *_ = self._fed(x)
        source = make_source(x, batch_size=loop.rows_in(x), who="predict_on_batch")
        return _to_keep(self._predict_function()(source.peek()))

    @errors.entry
    def compiled_step(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, list[Any]]:
        """JAX's compiled program of training steps on such batches, and the variables that it changes.

        It tells its text (`as_text()`), its memory (`memory_analysis()`) and its cost (`cost_analysis()`).
        """
        self._require_compiled("compiled_step")
        x, y, sample_weight = self._fed(x, y, sample_weight)
        source = make_source(x, y, sample_weight, batch_size=loop.rows_in(x), who="compiled_step")
        launcher = self._prepared("train", source, "compiled_step").launcher
        if launcher is None:
            raise ValueError(
                f"{self._who()}: run_eagerly and jax_disable_jit must be off for compiled_step, one is on."
            )
        program = launcher.program(Feed.of(source.peek()), 1)
        return program.compiled, program.given

    def _on_batch(self, phase: str, x: Any, y: Any, sample_weight: Any, class_weight: Any, as_dict: bool) -> Any:
        who = f"{phase}_on_batch"
        self._require_compiled(who)
        x, y, sample_weight = self._fed(x, y, sample_weight)
        size = loop.rows_in(x)
        source = make_source(x, y, sample_weight, batch_size=size, class_weight=class_weight, who=who)
        with one_look():
            outputs = self._make_ready(source, train=phase == "train")
            found = self._phase(phase)
            order, settled = self._log_order(), None
            if found.launcher is not None and not found.launcher.proven:
                self._look_for_mistakes(source, outputs, who)
        if found.launcher is None:
            self.reset_metrics()
            logs = loop.eager_step(found, iter([source.peek()]))
        else:
            feed = Feed.of(source.peek())
            program = found.launcher.program(feed, 1)
            if program.proven and not program.calls_host:  # no code of the program's own runs, which may add metrics
                settled = order
            with found.launcher.interrupts, Run() as run:
                kept = jax.device_get(found.launcher.launch(program, feed, run, reset=True))
            logs = {name: values[0] for name, values in kept.items()}
        logs = plain_logs(logs)
        return logs if as_dict else self._as_list(logs, settled)

    def _as_list(self, logs: dict[str, Any], order: list[str] | None = None) -> Any:
        """The values of logs, the loss first and then the metrics in their order; one value as it is."""
        names = [name for name in order or self._log_order() if name in logs]
        values = [logs[name] for name in dict.fromkeys([*names, *logs])]
        return values[0] if len(values) == 1 else values

    def make_trial(self, who: str, x: Any, *others: Any, batch_size: int | None = None, shuffle: bool = False) -> Trial:
        """Training on x, y and sample weights with copies of the state, for the tool `who`."""
        self._require_compiled(who)
        options = {"batch_size": batch_size, "shuffle": shuffle, "seed": self._order_seed(1), "fed": self._fed}
        source = make_source(*self._fed(x, *others), who=who, **options)
        self._make_ready(source, train=True)
        return Trial(self._phase("train"), source, self)

    # Inside --------------------------------------------------------------------------------------

    def _require_compiled(self, who: str) -> None:
        self._check_constructed()
        own = (type(self).train_step, type(self).test_step) != (Trainer.train_step, Trainer.test_step)
        if not self.compiled and not own:
            raise ValueError(f"{self._who()}: must be compiled before {who}; call compile(optimizer, loss).")

    def _listeners(
        self, who: str, callbacks: Any, verbose: Any, source: Source, epochs: int = 1, history: bool = False
    ) -> Any:
        checks.one_of(who, "verbose", verbose, ("auto", 0, 1, 2))
        if verbose == "auto":
            verbose = 1 if is_interactive_logging_enabled() else 2
        verbose = verbose if placement.is_first() else 0
        if isinstance(callbacks, CallbackList):
            callbacks.set_model(self)
        else:
            callbacks = CallbackList(
                callbacks, add_history=history, add_progbar=verbose != 0, model=self,
                verbose=int(verbose), epochs=epochs, steps=source.steps or source.num_batches,
            )  # fmt: skip
        callbacks.every = self.steps_per_execution
        return callbacks


def _to_keep(outputs: Any) -> Any:
    """The outputs as NumPy arrays that a program may write to."""
    return tree_util.tree_map(lambda array: np.array(placement.to_host(array)), outputs)


def _is_small(x: Any, batch_size: int | None) -> bool:
    """Whether x is one plain array of one batch."""
    if not isinstance(x, (np.ndarray, jax.Array)) or x.ndim < 2 or x.dtype.kind not in "fiub":
        return False
    return 0 < x.shape[0] <= (batch_size or 32)


def _check_epochs(epochs: Any, initial_epoch: Any, validation_freq: Any) -> None:
    checks.integer("fit", "epochs", epochs, 0)
    checks.integer("fit", "initial_epoch", initial_epoch, 0)
    if initial_epoch > epochs:
        rule = "fit: epochs is the number of the last epoch, not how many there are to come, and"
        given = f"got epochs={epochs}, initial_epoch={initial_epoch}"
        warnings.warn(f"{rule} nothing is done if it is below initial_epoch, {given}.", stacklevel=4)
    for number in validation_freq if isinstance(validation_freq, (list, tuple, set)) else [validation_freq]:
        checks.integer("fit", "validation_freq", number, 1)


def _validates(epoch: int, frequency: Any) -> bool:
    if isinstance(frequency, (list, tuple, set)):
        return epoch + 1 in frequency
    return (epoch + 1) % frequency == 0
