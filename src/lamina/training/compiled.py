"""`CompiledModel`: what `compile` says, and the loss and metrics that follow from it."""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina import losses, metrics, optimizers
from lamina.core import checks, configurable, errors, tree
from lamina.core.state import StateScope
from lamina.core.variable import Variable
from lamina.layer import Layer
from lamina.metrics.metric import result_of
from lamina.training.objectives import CHOSEN_BY_TARGET, CompiledLoss, CompiledMetrics, loss_tracker

_KINDS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")  # of the state


class CompiledModel(Layer):
    """The half of training that holds optimizer, loss and metrics; `Trainer` runs the steps."""

    _not_parts = Layer._not_parts | frozenset({
        "optimizer", "loss", "history", "_compiled_loss", "_compiled_metrics", "_loss_tracker", "_launchers",
        "_predict", "_compile_arguments",
    })  # fmt: skip
    optimizer: Any = None
    loss: Any = None
    stop_training = stop_evaluating = stop_predicting = False
    compiled = False
    run_eagerly = False
    jit_compile = True
    steps_per_execution = 1
    _compiled_loss: CompiledLoss | None = None
    _compiled_metrics: CompiledMetrics | None = None
    _loss_tracker: Any = None
    _compile_arguments: dict[str, Any] | None = None

    @property
    def _is_eager(self) -> bool:
        config: Any = jax.config
        return bool(self.run_eagerly or config.jax_disable_jit)  # JAX's own way of running through Python

    # compile -------------------------------------------------------------------------------------

    @errors.entry
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how to train.

        Args:
            optimizer: a name, an optimizer or an optax transformation.
            loss: a name, a `Loss` or a function of (y_true, y_pred); a list or dict of them for many outputs.
            loss_weights: factors of the outputs' losses.
            metrics: names, metrics or functions; lists or dicts of them for many outputs.
            weighted_metrics: the same, weighted with `sample_weight`.
            run_eagerly: run each step through Python, for a debugger.
            steps_per_execution: how many batches a program's batch hooks hear of at once. Launches without such hooks
                have as many steps as do well.
            jit_compile: kept for Keras programs: steps are always compiled, unless `run_eagerly`.
            auto_scale_loss: scale the loss while a policy computes in float16.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "auto_scale_loss")}
        self._check_constructed()
        checks.integer("compile", "steps_per_execution", steps_per_execution, 1)
        made = optimizers.get(optimizer)
        narrow = self.dtype_policy.name == "mixed_float16"
        if auto_scale_loss and narrow and made is not None and not isinstance(made, optimizers.LossScaleOptimizer):
            made = optimizers.LossScaleOptimizer(made, name="loss_scale_optimizer")
        names = getattr(self, "output_names", [])
        compiled_loss = CompiledLoss(loss, loss_weights, names) if loss is not None else None
        measured = metrics or weighted_metrics  # without these, y is what an own loss makes of it
        compiled_metrics = CompiledMetrics(metrics, weighted_metrics, names) if measured else None
        _check_names(loss, loss_weights, metrics, weighted_metrics)
        self.optimizer, self.loss = made, loss
        self._compiled_loss, self._compiled_metrics = compiled_loss, compiled_metrics
        self._loss_tracker = loss_tracker("loss")
        self.run_eagerly, self.steps_per_execution = run_eagerly, steps_per_execution
        self.jit_compile = jit_compile if jit_compile != "auto" else not run_eagerly
        self._forget_programs()
        self.stop_training, self.compiled = False, True
        self._compile_arguments = given | {"optimizer": made, "jit_compile": self.jit_compile}

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile`."""
        if not self.compiled or self._compile_arguments is None:
            return None
        return configurable.serialize(self._compile_arguments)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """`compile` with the arguments of `get_compile_config`, unless the class has one that takes no optimizer."""
        if "optimizer" not in inspect.signature(self.compile).parameters:
            warnings.warn(f"{self._who()}: not compiled, as its class has a compile of its own; call it.", stacklevel=2)
            return
        arguments = configurable.deserialize(dict(config))
        arguments["optimizer"] = optimizers.deserialize(config["optimizer"]) if config.get("optimizer") else None
        self.compile(**arguments)
        if self.optimizer is not None and getattr(self, "built", False):
            self.optimizer.build(self.trainable_variables)

    # Losses and metrics --------------------------------------------------------------------------

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of a batch: the compiled losses and those that layers add. Override for a loss of one's own.

        `None` where there is none and no training to do.
        """
        del x
        compiled = None if self._compiled_loss is None else self._compiled_loss(y, y_pred, sample_weight)
        parts = [] if compiled is None else [compiled]
        parts.extend(jnp.asarray(extra, "float32").astype(jnp.result_type(extra)) for extra in self.losses)
        if not parts and not training:
            return None
        if not parts:
            raise ValueError(f"{self._who()}: compile must be given a loss, or layers must add one.")
        return sum(parts[1:], parts[0])

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update the compiled metrics with a batch, and return all results by name."""
        del x
        if self._compiled_metrics is not None and y is not None:
            self._compiled_metrics.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of all metrics, by name."""
        results: dict[str, Any] = {}
        for name, metric in self._logged_metrics().items():
            value = result_of(metric)
            results.update(value if isinstance(value, dict) else {name: value})
        return results

    def _settled(self, logs: dict[str, Any], arrays: dict[int, Any]) -> dict[str, Any]:
        """What an epoch logs for steps of the program's own: where they log something by the name of each metric, such
        as the loss of their batch, what the metrics hold. As in Keras, where those that no step updates count, too."""
        with StateScope([(v, arrays[id(v)]) for v in self.metrics_variables if id(v) in arrays]):
            results = self.get_metrics_result()
            if results.keys() != logs.keys():
                return logs
            unused = {name for name, metric in self._logged_metrics().items() if _is_reset(metric)}
        return {name: logs[name] if name in unused else value for name, value in results.items()}

    def metric_in_logs(self, name: str) -> Any:
        """The metric whose result the logs hold under this name, `None` if no metric does."""
        logged = self._logged_metrics()
        own = {str(metric.name): metric for metric in logged.values()}  # under which a step of one's own may log them
        if name in logged or name in own:
            return logged.get(name, own.get(name))
        for metric in logged.values():
            result = result_of(metric)
            if isinstance(result, dict) and name in result:
                return metric
        return None

    def _logged_metrics(self) -> dict[str, Any]:
        """The metrics by the names that their results have in logs, the loss first."""
        compiled = self._compiled_metrics
        names: dict[int, list[str]] = {}
        for name, metric in zip(compiled.log_names, compiled.metrics) if compiled is not None else ():
            names.setdefault(id(metric), []).append(name)
        return {name: m for m in self.metrics for name in names.get(id(m), [str(m.name)])}

    @property
    def metrics(self) -> list[Any]:
        """The loss, the compiled metrics, the outputs' losses, and the metrics of the layers."""
        found: list[Any] = [self._loss_tracker] if self._loss_tracker is not None else []
        for each in (self._compiled_metrics, self._compiled_loss):
            found += [] if each is None else each.metrics
        found += super().metrics
        return list({id(m): m for m in found}.values())

    @property
    def metrics_names(self) -> list[str]:
        """The names of the metrics, as `evaluate` returns their values."""
        return self._log_order()

    def reset_metrics(self) -> None:
        """Set every metric to where an epoch starts."""
        for metric in self.metrics:
            metric.reset_state()

    def _log_order(self) -> list[str]:
        """The names of logs as `evaluate` lists them: the loss, the metrics in their order, then those of outputs."""
        logged = self._logged_metrics()
        own = [name for name, metric in logged.items() if name == str(metric.name)]
        return [*dict.fromkeys([*own, *sorted(logged)])]

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        takes = inspect.signature(self.compute_loss).parameters
        extra = {"training": training} if "training" in takes else {}
        return self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **extra)

    def _state_groups(self) -> list[list[Variable]]:
        """The state of a training step, in the lists that Keras's JAX form of it gets."""
        trainable, non_trainable = self.trainable_variables, self.non_trainable_variables
        optimizer = list(self.optimizer.variables) if self.optimizer is not None else []
        return [trainable, non_trainable, optimizer, self.metrics_variables]

    def _test_groups(self) -> list[list[Variable]]:
        return [self.trainable_variables, self.non_trainable_variables, self.metrics_variables]

    # The state as a tree -------------------------------------------------------------------------

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, dict[str, Any]]:
        """The values of all variables as `{kind: {layer: {variable: value}}}`, nested as their paths are.

        Args:
            value_format: "backend_tensor" for JAX's arrays, "numpy_array" for NumPy's.
        """
        checks.one_of("get_state_tree", "value_format", value_format, ("backend_tensor", "numpy_array"))
        found: dict[str, dict[str, Any]] = {}
        for kind, variables in zip(_KINDS, self._state_groups()):
            found[kind] = {}
            for variable in variables:
                *above, last = variable.path.split("/")
                inner = found[kind]
                for part in above:
                    inner = inner.setdefault(part, {})
                if last in inner:
                    raise ValueError(f"{self._who()}: the paths of variables must differ, got {variable.path} twice.")
                inner[last] = variable.value if value_format == "backend_tensor" else variable.numpy()
        return found

    def set_state_tree(self, state_tree: dict[str, Any]) -> None:
        """Assign the values of a tree like that of `get_state_tree`; variables that are not in it stay."""
        own = {f"{kind}/{v.path}": v for kind, group in zip(_KINDS, self._state_groups()) for v in group}
        whole = tree.traverse(lambda node: np.asarray(node) if isinstance(node, (list, tuple)) else None, state_tree)
        given = {"/".join(map(str, path)): value for path, value in tree.flatten_with_path(whole)}
        unknown = [path for path in given if path not in own]
        if unknown:
            raise ValueError(f"{self._who()}: state_tree must hold variables of the model, got {checks.some(unknown)}.")
        for path, value in given.items():
            own[path].assign(value)

    # Keras's pure forms --------------------------------------------------------------------------

    def stateless_compute_loss(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        metrics_variables: Sequence[Any],
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tuple[Any, tuple]:
        """`compute_loss` as a pure function of values: `loss, (trainable, non_trainable, metrics)`."""
        own = self._test_groups()
        given = [trainable_variables, non_trainable_variables, metrics_variables]
        pairs = [pair for variables, values in zip(own, given) for pair in zip(variables, values)]
        with StateScope(pairs) as state:
            loss = self._loss_of(x, y, y_pred, sample_weight, training)
        return loss, tuple(state.values(group) for group in own)

    def _forget_programs(self, *phases: str) -> None:
        """Drop what was compiled for other arguments; for some phases, or for all."""


def compile_like(model: Any, other: Any) -> None:
    """Compile a model as another one is, with an optimizer, losses and metrics of its own."""
    if not other.compiled or type(other).compile is not CompiledModel.compile:
        return

    def anew(value: Any) -> Any:
        return type(value).from_config(value.get_config()) if isinstance(value, configurable.Configurable) else value

    model.compile(**tree.map_structure(anew, other._compile_arguments))


def _is_reset(metric: Any) -> bool:
    """Whether a metric is where an epoch starts; it is there afterwards."""
    before = [v.value for v in metric.variables]
    metric.reset_state()
    return all(np.array_equal(value, v.value) for value, v in zip(before, metric.variables))


def _check_names(loss: Any, loss_weights: Any, *metric_groups: Any) -> None:
    """A misspelt name is an error of `compile`, not of `fit`, and so are metrics in third place, as in Keras 2."""
    for one in tree.flatten(loss_weights):
        if isinstance(one, str) or callable(one):
            raise ValueError(f"compile: loss_weights must be numbers, got {one!r}; metrics go by name, metrics=.")
    for one in tree.flatten(loss):
        if isinstance(one, str) and CHOSEN_BY_TARGET.get(one.lower()) != "crossentropy":
            losses.get(one)
    for one in tree.flatten(list(metric_groups)):
        if isinstance(one, str) and one.lower() not in CHOSEN_BY_TARGET:
            metrics.get(one)
