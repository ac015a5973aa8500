"""`Sequential`: a stack of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lamina.core import configurable, errors, tree
from lamina.core.symbolic import KerasTensor
from lamina.data.sources import is_stream
from lamina.layer import Layer
from lamina.layer.parts import Before, GivesWay
from lamina.layers.core import Input, InputLayer
from lamina.layers.preprocessing.pipelines import HostLayer, is_text
from lamina.models.functional import OPS_PASS_MASKS, Function
from lamina.models.hosted import texts_in
from lamina.models.model import Model


class Sequential(Model):
    """Layers one after the other, each with one input and one output; the first may take a list or dict of arrays.

    The stack builds itself from an `Input` in front, or from the first data that it sees.

    Args:
        layers: the layers, first to last.
        trainable: whether training changes the weights.
        name: unique if not given.

    >>> model = lamina.Sequential([lamina.Input((3,)), layers.Dense(4), layers.Dense(1)])
    >>> model(np.ones((2, 3))).shape, model.count_params()
    ((2, 1), 21)
    """

    supports_masking = True
    _not_parts = Model._not_parts | {"_entry", "_tensors", "_whole"}

    def __init__(self, layers: Iterable[Any] | None = None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name)
        self._entry: InputLayer | None = None
        self._stack: list[Layer] = []
        self._tensors: list[Any] = []  # input and each layer's output, once it is known on what to build
        self._whole: Function | None = None
        for layer in layers or ():
            self._append(layer)
        if self._entry is not None and self._stack:
            self.build(self._entry.batch_shape)

    @property
    def _function(self) -> Function | None:  # type: ignore[override]
        """The graph; it is made when it is first asked for after a change, so that adding layers takes no longer."""
        if self._whole is None and len(self._tensors) == len(self._stack) + 1 > 1:
            self._whole = Function(self._tensors[0], self._tensors[-1], self.name)
            self._whole.is_declared = self._entry is not None
        return self._whole

    @GivesWay
    def _layers(self) -> list[Layer]:
        return self._stack if self._function is None else self._function.layers  # as in Keras, with the input

    def __getstate__(self) -> dict[str, Any]:
        """All, and the graph: the tensors alone do not say what they belong to."""
        return {**super().__getstate__(), "_whole": self._function}

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Put a layer on top of the stack; one that does not fit there leaves the stack as it was."""
        before = self._entry, len(self._stack)
        self._append(layer)
        try:
            self._change(rebuild)
        except BaseException:
            self._entry = before[0]
            del self._stack[before[1] :]
            raise

    def _append(self, layer: Any) -> None:
        if isinstance(layer, KerasTensor) and layer.origin is not None:
            layer = layer.origin[0]
        if not isinstance(layer, Layer):
            raise TypeError(f'Sequential "{self.name}": layers must be layers or Input, got {layer!r}.')
        if any(each.name == layer.name and each is not layer for each in self._stack):
            raise ValueError(f'Sequential "{self.name}": names of layers must be unique, got "{layer.name}" twice.')
        if isinstance(layer, InputLayer):
            if self._stack or self._entry is not None:
                raise ValueError(f'Sequential "{self.name}": an Input must come first and once, got "{layer.name}".')
            self._entry = layer
            return
        if not self._stack and self._entry is None:
            self._entry = _entry_of(layer)
        self._stack.append(layer)

    def pop(self, rebuild: bool = True) -> Layer:
        """Take the top layer off the stack."""
        if not self._stack:
            raise ValueError(f'Sequential "{self.name}": pop needs a layer, and there is none.')
        layer = self._stack.pop()
        del self._tensors[len(self._stack) + 1 :]
        self._change(rebuild)
        return layer

    def _change(self, rebuild: bool) -> None:
        """Bring the graph up to the stack, if that is wanted and it is known on what to build."""
        if not rebuild:
            self._tensors = []
        elif self._tensors or self._entry is not None:
            tensors = self._tensors or [self._entry.output]  # type: ignore[union-attr]
            before = [Before(layer) for layer in self._stack[len(tensors) - 1 :]]
            try:
                with self._naming():
                    self._grow(tensors)
            except BaseException:
                for each in before:
                    each.restore()
                raise
        self.built, self._whole = len(self._tensors) == len(self._stack) + 1 > 1, None
        self._forget_programs()

    def _grow(self, tensors: list[Any]) -> None:
        """Call the layers that have no output among the tensors yet."""
        tensors = list(tensors)
        for layer in self._stack[len(tensors) - 1 :]:
            tensors.append(layer(tensors[-1]))
        self._tensors = tensors

    def build(self, input_shape: Any = None) -> None:
        if self._entry is not None:
            entry = self._entry.output
            given = tuple(input_shape or entry.shape)
            if len(given) != len(entry.shape) or any(None not in p and p[0] != p[1] for p in zip(given, entry.shape)):
                raise ValueError(f"{self._who()}: build must get the shape of its Input, {entry.shape}, got {given}.")
        else:
            if not isinstance(input_shape, (tuple, list, dict)):
                raise ValueError(f'Sequential "{self.name}": input_shape must be a tuple, got {input_shape!r}.')
            if not self._stack:
                raise ValueError(f'Sequential "{self.name}": must have a layer to be built, got none.')
            dtypes = iter(self.__dict__.get("_first_dtypes") or ())  # integers stay integers
            first = self._stack[0]
            usual = first.input_dtype if isinstance(first, HostLayer) else self.compute_dtype
            entry = tree.map_shape_structure(
                lambda shape: Input(batch_shape=(None, *shape[1:]), dtype=next(dtypes, usual)), input_shape
            )
        self._grow([entry])
        self._whole = None
        self._forget_programs()

    def _fed(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        """A stack that is not built, and gets strings, is built on them: only a graph tells what runs on the host."""
        texts = texts_in(x, self._who()) if self._function is None and not is_stream(x) else None
        if texts is not None:
            self._build_for({"inputs": texts if texts.ndim > 1 else texts[:, None]})
        return super()._fed(x, y, sample_weight)

    def _build_for(self, arrays: dict[str, Any]) -> Before | None:
        given = tree.flatten(next(iter(arrays.values())))
        self._first_dtypes = ["string" if is_text(each) else str(each.dtype) for each in given]
        before = Before(self)
        try:
            return super()._build_for(arrays)
        except Exception as error:
            if not (self._is_eager and errors.wants_values(error)):
                raise
            before.restore()
            self.built = True  # layers that ask for values cannot make a graph; they build themselves when they run
            return before
        finally:
            self.__dict__.pop("_first_dtypes", None)

    def _run_graph(self, inputs: Any, mask: Any) -> Any:
        if self._function is not None or not self._is_eager:
            return super()._run_graph(inputs, mask)
        for layer in self._stack:
            inputs = layer(inputs)
        return inputs

    @Model.layers.getter
    def layers(self) -> list[Layer]:
        return list(self._stack)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self._function is None:
            for layer in self._stack:
                input_shape = layer.compute_output_shape(input_shape)
            return input_shape
        return super().compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        layers = [*([self._entry] if self._entry is not None else []), *self._stack]
        config = {
            "name": self.name,
            "trainable": self.trainable,
            **({OPS_PASS_MASKS: True} if self.ops_pass_masks else {}),
            "dtype": configurable.serialize(self.dtype_policy),
            "layers": [configurable.serialize(layer) for layer in layers],
        }
        if self._function is not None and isinstance(self._tensors[0], KerasTensor):
            config["build_input_shape"] = tuple(self._tensors[0].shape)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Sequential:
        if "layers" not in config:  # of a class with other arguments
            return super().from_config(config, custom_objects)
        found: dict[Any, Layer] = {}  # what comes twice is one layer
        made = (configurable.deserialize(form, custom_objects) for form in config["layers"])
        layers = [found.setdefault((type(one), getattr(one, "name", id(one))), one) for one in made]
        model = cls(layers, name=config.get("name"))
        model.ops_pass_masks = OPS_PASS_MASKS in config
        shape = config.get("build_input_shape")
        if not model.built and shape and isinstance(shape, (tuple, list)):
            model.build(tuple(shape))
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return "keras", "Sequential", None


def _entry_of(layer: Layer) -> InputLayer | None:
    """The input that a first layer brings along: a model's own, or the one of its `input_shape` argument."""
    if isinstance(layer, Model) and layer._function is not None and len(layer._function.inputs) == 1:
        tensor = layer._function.inputs[0]
        return InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype)
    shape = getattr(layer, "_input_shape_arg", None)
    return None if shape is None else InputLayer(shape=shape, dtype=layer.input_dtype)
