"""`Model`: a layer that trains. `Functional`: a model made of a graph."""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from lamina.core import configurable, errors, masking, tree
from lamina.core.constructors import KEYWORDS, parameters
from lamina.core.registry import is_own
from lamina.core.symbolic import KerasTensor, any_symbolic
from lamina.data.sources import is_stream
from lamina.data.tables import by_name
from lamina.layer import Layer
from lamina.layer.masks import only_passes
from lamina.layer.parts import look
from lamina.layers.core import InputLayer
from lamina.models import quantization
from lamina.models.functional import OPS_PASS_MASKS, Function, function_from_config, input_like, warn_of_keras
from lamina.models.summary import html_summary, summary
from lamina.saving import archive
from lamina.training.tools.batch_size import find_batch_size
from lamina.training.tools.learning_rate import find_learning_rate
from lamina.training.tools.locate_nan import locate_nan
from lamina.training.tools.overfit import overfit
from lamina.training.tools.statistics import layer_statistics, statistics_function
from lamina.training.trainer import Trainer


def _is_graph(args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether constructor arguments are symbolic inputs and outputs."""
    if "inputs" in kwargs or not args:
        return "inputs" in kwargs
    return len(args) + ("outputs" in kwargs) >= 2 and all(isinstance(t, KerasTensor) for t in tree.flatten(args[0]))


def _alone(items: Any) -> Any:
    """The only item of a list or tuple, else all."""
    return items[0] if isinstance(items, (list, tuple)) and len(items) == 1 else items


class Model(Trainer):
    """Layers put together, with training.

    Either of a graph, `Model(inputs, outputs)`, or a subclass that makes layers in `__init__` and uses them in `call`.

    Args:
        inputs, outputs: symbolic tensors, alone or in lists, tuples and dicts.
        name: unique if not given.
        trainable: whether training changes the weights.

    >>> x = lamina.Input((3,))
    >>> model = lamina.Model(x, layers.Dense(1, kernel_initializer="ones")(x) + 1.0)
    >>> model.predict(np.ones((2, 3)), verbose=0).tolist()
    [[4.0], [4.0]]
    """

    _not_parts = Trainer._not_parts | {"_function", "_with_added", "_added"}
    _function: Function | None = None
    _with_added: Function | None = None  # the graph with the losses that were added to it ...
    _added: Sequence[KerasTensor] = ()  # ... which are these
    supports_masking, _misses_mask = False, False  # the layers inside take masks and pass them on
    ops_pass_masks = True  # whether elementwise ops in the graph do; they do not in one that Keras has written

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(Functional if cls is Model and _is_graph(args, kwargs) else cls)

    def __init__(self, *args: Any, **kwargs: Any):
        graph: dict[str, Any] = {}
        if _is_graph(args, kwargs):
            graph = dict(zip(("inputs", "outputs", "name"), args))
            graph.update({key: kwargs.pop(key) for key in ("inputs", "outputs") if key in kwargs})
            kwargs.setdefault("name", graph.pop("name", None))
            args = ()
        if args:
            raise TypeError(
                f"{type(self).__name__}: must be given symbolic inputs and outputs or keywords, got "
                f"{', '.join(type(argument).__name__ for argument in args)}."
            )
        self._prepare_training()
        super().__init__(**kwargs)
        if graph:
            self._set_graph(graph["inputs"], graph["outputs"])
            if not self.trainable:
                self.trainable = False  # so are the layers, which were there before

    def _rows_stay_apart(self, trains: bool, waste: float = 0.0) -> bool:
        return not self._added and super()._rows_stay_apart(trains, waste)

    def _declared_outputs(self) -> Any:
        return None if self._function is None else self._function.outputs_structure

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        function = Function(inputs, outputs, name=self.name)
        if any(not isinstance(t.origin[0], InputLayer) for t in function.inputs):  # type: ignore[index]
            # The graph begins in the middle of another one: it gets inputs of its own.
            inputs = tree.map_structure(input_like, inputs)
            function = Function(inputs, function.call(inputs), name=self.name)
        self._function = function
        self._graph_layers = function.layers
        self.supports_masking = self.built = True

    def add_loss(self, loss: Any) -> None:
        """Add a scalar, or each of a list, to the loss: in `call`, or symbolic ones of a functional model's graph."""
        if not any_symbolic(loss):
            super().add_loss(loss)
            return
        added = tree.flatten(loss)
        if self._function is None or any(not isinstance(t, KerasTensor) or t.shape for t in added):
            raise ValueError(
                f"{self._who()}: add_loss must get symbolic scalars of a functional model, got {loss}; "
                "take a mean or a sum first."
            )
        declared = self._function.outputs_structure
        whole = Function(self._function.inputs_structure, [declared, *self._added, *added], name=self.name)
        self._added = [*self._added, *added]
        self._with_added, self._graph_layers = whole, whole.layers

    # What a graph knows ------------------------------------------------------------------------------------------

    def _graph(self) -> Function:
        if self._function is None:
            raise AttributeError(f"{self._who()}: only a model that is a graph has inputs and outputs.")
        return self._function

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs of the graph."""
        return self._graph().inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs of the graph."""
        return self._graph().outputs

    @property
    def input(self) -> Any:
        return self._function.inputs_structure if self._function else super().input

    @property
    def output(self) -> Any:
        return self._function.outputs_structure if self._function else super().output

    @property
    def input_shape(self) -> Any:
        """The shape of the input, or those of several."""
        return _alone([t.shape for t in self.inputs])

    @property
    def output_shape(self) -> Any:
        """The shape of the output, or those of several."""
        return _alone([t.shape for t in self.outputs])

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs."""
        return [t.name for t in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that the outputs come from."""
        return [t.origin[0].name for t in self.outputs]  # type: ignore[index]

    @property
    def operations(self) -> list[Any]:
        """The layers and ops of the graph."""
        return list(self._function.operations) if self._function else []

    @property
    def layers(self) -> list[Layer]:
        """The layers of the graph, or else those right below the model."""
        return look(self).layers if self._function is None else list(self._graph_layers)

    @layers.setter
    def layers(self, value: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__}: layers is what lists the layers of a model and cannot be set; use another name."
        )

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or at a place in `layers`."""
        layers = self.layers
        if (name is None) == (index is None):
            raise ValueError(f"{self._who()}: get_layer must get a name or an index, one of the two.")
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"{self._who()}: get_layer's index must be below {len(layers)}, got {index}.")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in layers)
        raise ValueError(f"{self._who()}: get_layer must get the name of a layer ({known}), got {name!r}.")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph; a subclass without one defines its own."""
        if self.ops_pass_masks:
            return self._run_graph(inputs, mask)
        with masking.ops_pass(False):
            return self._run_graph(inputs, mask)

    def _run_graph(self, inputs: Any, mask: Any) -> Any:
        if self._function is None:
            raise NotImplementedError(f"{self._who()}: a subclass of Model must define call, or be given a graph.")
        if self._with_added is None:
            return _alone(self._function.call(inputs, mask))
        outputs, *added = self._with_added.call(inputs, mask)
        super().add_loss(added)
        return _alone(outputs)

    _keeps_sparse = True

    def _convert(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if self._function is not None and len(args) > 0:  # the graph casts its inputs itself, each to its own dtype
            return args, kwargs
        return super()._convert(args, kwargs)

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the graph, where it is called on what it was made for; else by abstract evaluation."""
        graph = self._function if type(self).call is Model.call else None
        if graph is not None and len(args) == 1 and graph.is_declared_for(args[0]):
            return graph.compute_output_spec(args[0])
        found = super()._evaluate(*args, **kwargs)
        return found if graph is None else tree.pack_sequence_as(graph.outputs_structure, tree.flatten(found))

    @only_passes
    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """None of its own for a graph: the layers inside have given the outputs theirs."""
        return None if self._function is not None else super().compute_mask(inputs, previous_mask)

    def _fed(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        graph = self._function if type(self).call is Model.call else None
        if graph is not None and type(x) is np.ndarray and x.dtype.kind in "fiub":  # single predictions go this way
            return graph.on_host(x), y, sample_weight
        x, y, sample_weight = super()._fed(x, y, sample_weight)
        if graph is None or is_stream(x):
            return x, y, sample_weight
        keys = [
            {*names, *(structure if isinstance(structure, dict) else ())}
            for names, structure in ((self.input_names, self.input), (self.output_names, self.output))
        ]
        x, y, sample_weight = by_name(x, y, sample_weight, *keys)
        return graph.on_host(np.stack(list(x)) if graph.takes_rows(x) else x), y, sample_weight

    # Tools ------------------------------------------------------------------------------------------------------

    summary = summary
    _repr_html_ = html_summary
    find_learning_rate = find_learning_rate
    find_batch_size = find_batch_size
    locate_nan = locate_nan
    layer_statistics = layer_statistics
    statistics_function = statistics_function
    overfit = overfit

    # Files ------------------------------------------------------------------------------------------------------

    @classmethod
    def _is_configured_by_arguments(cls) -> bool:
        """Not where the constructor, `(inputs, outputs)`, passes a graph on."""
        named = {name for name, p in parameters(cls).items() if p.kind is not KEYWORDS} - {"name", "trainable"}
        return super()._is_configured_by_arguments() and named != {"inputs", "outputs"}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        makers = (cls for cls in type(self).__mro__ if "__init__" in vars(cls) and issubclass(cls, Model))
        if self._function is not None and not any(cls._is_configured_by_arguments() for cls in makers):
            config = {**self._function.get_config(), "name": self.name, "trainable": self.trainable}
            if self.ops_pass_masks:
                config[OPS_PASS_MASKS] = True
                warn_of_keras(self._function)
        if self._added:
            warnings.warn(
                f"{self._who()}: losses that were added to the graph have no place in its configuration; "
                "add them again to a model that is made of it.",
                stacklevel=2,
            )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The model that `get_config` described."""
        if isinstance(config, dict) and {"layers", "input_layers", "output_layers"} <= config.keys():
            inputs, outputs = function_from_config(config, custom_objects)
            known = {"name", "trainable", "layers", "input_layers", "output_layers"}
            own = {} if is_own(cls) else {k: v for k, v in config.items() if k not in (*known, OPS_PASS_MASKS)}
            model = cls(inputs, outputs, name=config.get("name"), **configurable.deserialize(own, custom_objects))
            model.ops_pass_masks = OPS_PASS_MASKS in config
            if config.get("trainable") is False:
                model.trainable = False
            return model
        return super().from_config(config)

    def to_json(self, **kwargs: Any) -> str:
        """The architecture as JSON, for `model_from_json`."""
        return json.dumps(configurable.serialize(self), **kwargs)

    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
        """Write architecture, weights and the state of training to a `.keras` file, all or nothing."""
        archive.save_model(self, filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None) -> None:
        """Write the weights to a `.weights.h5` file, all or nothing."""
        archive.save_weights(self, filepath, overwrite=overwrite, max_shard_size=max_shard_size)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Read the weights from a `.weights.h5` or `.keras` file; on an error the model stays as it was."""
        archive.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    # Quantization -----------------------------------------------------------------------------------------------

    @errors.entry
    def quantize(self, mode: Any = None, config: Any = None, filters: Any = None, *, type_check: bool = True) -> None:
        """Quantize the layers of the model that have a form for the mode; the others stay as they are.

        Args:
            mode: "int8", "int4", "float8", "gptq" or "awq", or a configuration.
            config: a `lamina.quantizers.QuantizationConfig`; "gptq" and "awq" need one, with a dataset.
            filters: which layers: a regular expression that is found in their names (in their paths, if it has a
                slash), several of these, or a function of a layer.
            type_check: whether layers of a program's own classes are left as they are.

        Raises: ValueError if the model is not built, or an argument is no such thing or fits no layer.
        """
        quantization.quantize(self, self._who(), mode, config, filters, type_check)
        self._forget_programs()

    def get_quantization_layer_structure(self, mode: str | None = None) -> dict[str, Any] | None:
        """The order in which "gptq" and "awq" go through the model, if a subclass says it.

        `{"pre_block_layers": [...], "sequential_blocks": [...]}`: what runs first, and what is quantized in turns.
        """
        del mode
        return None


class Functional(Model):
    """A model made of the graph between inputs and outputs. `Model(inputs, outputs)` makes one."""

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        return "keras.src.models.functional", "Functional", "Functional"


def model_from_json(json_string: str, custom_objects: Any = None) -> Any:
    """The model, with fresh weights, that `to_json` described."""
    return configurable.deserialize(json.loads(json_string), custom_objects)
