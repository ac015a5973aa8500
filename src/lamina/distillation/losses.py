"""How far a student's outputs, or those of its layers, are from the teacher's."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina import losses
from lamina.core import checks, tree
from lamina.core.configurable import Configurable


class DistillationLoss(Configurable):
    """A loss between the outputs of two models; a subclass defines `compute_loss`.

    One that has attributes `teacher_layer_name` and `student_layer_name` gets the outputs of these layers.
    """

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """The loss, a scalar."""
        raise NotImplementedError(f"{type(self).__name__}: a subclass of DistillationLoss must define compute_loss.")

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Raise `ValueError` unless both are structures alike."""
        tree.assert_same_structure(teacher_outputs, student_outputs)

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Raise `ValueError` if the loss does not fit the models."""


def loss_functions(who: str, loss: Any) -> Any:
    """The losses that names stand for, in their structure; one at least must be there."""
    found = tree.map_structure(lambda one: None if one is None else losses.get(one), loss)
    if all(one is None for one in tree.flatten(found)):
        raise ValueError(f"{who}: loss must be a loss, or a structure with one at least, got {loss!r}.")
    return found


def _total(loss: Any, teacher: Any, student: Any, one: Any) -> Any:
    """The sum of `one(loss, teacher's output, student's output)` over the outputs that have a loss."""
    values = tree.map_structure(lambda fn, *outputs: 0.0 if fn is None else one(fn, *outputs), loss, teacher, student)
    return jnp.sum(jnp.stack([jnp.asarray(value) for value in tree.flatten(values)]))


class FeatureDistillation(DistillationLoss):
    """The mean of `loss(teacher's features, student's features)`.

    Args:
        loss: a loss, or a structure of losses like that of the outputs; `None` leaves an output out.
        teacher_layer_name: the teacher's layer, its outputs if not given.
        student_layer_name: the student's layer, its outputs if not given.
    """

    def __init__(self, loss: Any = "mse", teacher_layer_name: str | None = None, student_layer_name: str | None = None):
        self.teacher_layer_name, self.student_layer_name = teacher_layer_name, student_layer_name
        self.loss = loss_functions("FeatureDistillation", loss)

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        for role, model, name in (
            ("teacher", teacher, self.teacher_layer_name),
            ("student", student, self.student_layer_name),
        ):
            if name is not None:
                if getattr(model, "inputs", None) is None:
                    raise ValueError(
                        f"FeatureDistillation: the {role} must be a Functional or Sequential model with inputs, as "
                        f"layers of a subclass give no symbolic outputs, got {type(model).__name__}; name no layer."
                    )
                model.get_layer(name)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        super().validate_outputs(teacher_outputs, student_outputs)
        tree.assert_same_structure(self.loss, teacher_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        return _total(self.loss, teacher_outputs, student_outputs, lambda fn, *features: jnp.mean(fn(*features)))


class LogitsDistillation(DistillationLoss):
    """The mean of `loss(teacher's logits / temperature, student's logits / temperature)`.

    A `KLDivergence` compares the softmax of these, times `temperature ** 2` (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531). The name "kl_divergence" is a function, which gets them as they are, as in Keras.

    Args:
        temperature: above 0; the higher, the softer are the teacher's targets.
        loss: a loss, or a structure of losses like that of the outputs; `None` leaves an output out.
    """

    def __init__(self, temperature: float = 3.0, loss: Any = "kl_divergence"):
        self.temperature = checks.positive("LogitsDistillation", "temperature", temperature)
        self.loss = loss_functions("LogitsDistillation", loss)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        def one(fn: Any, teacher: Any, student: Any) -> Any:
            teacher, student = teacher / self.temperature, student / self.temperature
            if isinstance(fn, losses.KLDivergence):
                return jnp.mean(fn(jax.nn.softmax(teacher), jax.nn.softmax(student))) * self.temperature**2
            return jnp.mean(fn(teacher, student))

        return _total(self.loss, teacher_outputs, student_outputs, one)
