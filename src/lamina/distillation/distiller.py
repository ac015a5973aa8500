"""`Distiller`: a model that trains a student on targets and on what a teacher says."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina import metrics
from lamina.core import checks, configurable, tree
from lamina.distillation.losses import loss_functions
from lamina.models.model import Model

_ARGUMENTS = ("teacher", "student", "distillation_losses", "distillation_loss_weights", "student_loss_weight")


class Distiller(Model):
    """Trains `student` with `student_loss_weight * loss + (1 - student_loss_weight) * distillation losses`.

    Called, it is the student. The teacher is frozen and runs as in inference.

    Args:
        teacher: the model to learn from.
        student: the model that is trained.
        distillation_losses: a `DistillationLoss`, or several of them.
        distillation_loss_weights: a factor for each of several, 1 if not given.
        student_loss_weight: the share of the compiled loss, from 0 to 1.

    Raises: ValueError where the shapes or dtypes of the models differ, or a loss does not fit them.
    """

    _not_parts = Model._not_parts | {"_sources", "_student_loss", "distillation_losses"}

    def __init__(
        self,
        teacher: Model,
        student: Model,
        distillation_losses: Any,
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        _check_models(teacher, student)
        self.student_loss_weight = checks.number("Distiller", "student_loss_weight", student_loss_weight, 0, 1)
        several = isinstance(distillation_losses, (list, tuple))
        given = list(distillation_losses) if several else [distillation_losses]
        weights = [1.0] * len(given) if distillation_loss_weights is None or not several else distillation_loss_weights
        rule = f"distillation_loss_weights must be as many as distillation_losses, {len(given)}"
        checks.require(len(weights) == len(given), "Distiller", rule, len(weights))
        for each in given:
            if not hasattr(each, "compute_loss"):
                raise ValueError(f"Distiller: distillation_losses must be DistillationLoss objects, got {each!r}.")
            each.validate_model_compatibility(teacher, student)
        self.teacher, self.student = teacher, student
        self.distillation_losses, self.distillation_loss_weights = given, list(weights)
        names = [*map(_layer_names, given)]
        self._sources = [_source(model, [pair[i] for pair in names]) for i, model in enumerate((teacher, student))]
        teacher.trainable = False
        self.student_loss_tracker = metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = metrics.Mean(name="distillation_loss")
        self.total_loss_tracker = metrics.Mean(name="total_loss")

    def compile(self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any) -> None:
        """Say how to train the student.

        Args:
            optimizer: of the student's weights.
            loss: the student's own, or a structure of losses like that of its outputs.
            metrics: a list of further ones.
            kwargs: those of `Model.compile`.
        """
        if metrics is not None and not isinstance(metrics, (list, tuple)):
            raise ValueError(f"Distiller.compile: metrics must be a list or tuple, got {type(metrics).__name__}.")
        self._student_loss = loss_functions("Distiller.compile", loss)
        super().compile(optimizer=optimizer, loss=None, metrics=metrics, **kwargs)
        self._compile_arguments = {**(self._compile_arguments or {}), "loss": loss}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """`compile` with the arguments of `get_compile_config`; files of Keras lack the loss, and are not compiled."""
        if config.get("loss") is not None:
            super().compile_from_config(config)
        else:
            warnings.warn(f"{self._who()}: the file has no loss; call compile before training.", stacklevel=2)

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The student's outputs."""
        return self.student(inputs, training=training, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The weighted sum of the student's loss and those of distillation; sample weights are not used."""
        y_pred = self(x, training=training) if y_pred is None else y_pred
        share = self.student_loss_weight
        student_loss, distilled = jnp.zeros(()), jnp.zeros(())
        if share > 0 and y is not None:
            values = tree.flatten(tree.map_structure(lambda loss, *pair: loss(*pair), self._student_loss, y, y_pred))
            student_loss = sum(map(jnp.mean, values))
        if share < 1:
            distilled = self._distilled(x, y_pred, training)
        total = share * student_loss + (1 - share) * distilled
        self.student_loss_tracker.update_state(student_loss)
        self.distillation_loss_tracker.update_state(distilled)
        self.total_loss_tracker.update_state(total)
        return total

    def _distilled(self, x: Any, y_pred: Any, training: bool) -> Any:
        taught, (learnt, names) = self._sources
        teacher = _outputs(*taught, x, training=False)
        student = _outputs(learnt, names, x, training) if len(names) > 1 else {}
        student[None] = y_pred
        total = jnp.zeros(())
        for each, weight in zip(self.distillation_losses, self.distillation_loss_weights):
            pair = [outputs[name] for outputs, name in zip((teacher, student), _layer_names(each))]
            each.validate_outputs(*pair)
            value = each.compute_loss(*pair)
            checks.require(jnp.ndim(value) == 0, each, "compute_loss must return a scalar", jnp.shape(value))
            total = total + weight * value
        return total

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _ARGUMENTS}
        return {**super().get_config(), **configurable.serialize(own)}


def _layer_names(loss: Any) -> tuple[str | None, str | None]:
    """The teacher's layer and the student's whose outputs a loss compares; `None` stands for the model's own."""
    return getattr(loss, "teacher_layer_name", None), getattr(loss, "student_layer_name", None)


def _source(model: Model, names: Sequence[str | None]) -> tuple[Model, list[str | None]]:
    """A model that gives the outputs of `model` and of the layers of these names, and the names of what it gives."""
    found = list(dict.fromkeys([None, *names]))
    if len(found) == 1:
        return model, found
    layers = [model.get_layer(name).output for name in found[1:]]
    return Model(model.input, [model.output, *layers], name=f"{model.name}_features"), found


def _outputs(model: Model, names: list[str | None], x: Any, training: bool) -> dict[str | None, Any]:
    """Outputs by the name of the layer."""
    outputs = model(x, training=training)
    return {None: outputs} if len(names) == 1 else dict(zip(names, outputs))


def _check_models(teacher: Any, student: Any) -> None:
    """The models must take and give arrays of the same shapes and dtypes, where these are known."""
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, Model):
            raise ValueError(f"Distiller: {role} must be a lamina.Model, got {type(model).__name__}.")
    for what in ("inputs", "outputs"):
        pair = [getattr(model, what, ()) for model in (teacher, student)]
        forms = [[(tuple(t.shape), t.dtype) for t in tensors] for tensors in pair]
        alike = len(forms[0]) == len(forms[1]) and all(
            dtype == other and len(shape) == len(size) and all(None in d or d[0] == d[1] for d in zip(shape, size))
            for (shape, dtype), (size, other) in zip(*forms)
        )
        rule, given = f"teacher and student must have the same {what}", f"{forms[0]} and {forms[1]}"
        checks.require(alike or not all(pair), "Distiller", rule, got=given)
