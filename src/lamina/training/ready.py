"""Making a model ready for data: what is not built is built for their shapes, and their first batch is looked at."""

from functools import partial
from typing import Any

from jax import tree_util

from lamina.core.registry import is_own
from lamina.core.state import StateScope
from lamina.core.symbolic import KerasTensor, infer
from lamina.data.arrays import may_differ, opened, unpack_x_y_sample_weight
from lamina.data.sources import ArraySource, Source
from lamina.layer.parts import one_look, walk
from lamina.training import rows
from lamina.training.functions import Functions
from lamina.training.loop import Phase
from lamina.training.objectives import examine, makes_masks
from lamina.training.step import Launcher

_OWN_LOSSES = ("train_step", "test_step", "compute_loss")  # a model that overrides one may use its targets in any way


class Ready(Functions):
    """A model that can be made ready."""

    _launchers: dict[str, Launcher]

    def _phase(self, name: str) -> Phase:
        """What the loop needs to train or to evaluate; the compiled loop stays for the next time."""
        trains = name == "train"
        method, groups = (self.train_step, self._state_groups) if trains else (self.test_step, self._test_groups)
        function = self._own_function(name)
        launched = function is None and not self._is_eager
        own_logs = function is not None or self._overrides(f"{name}_step", "compute_metrics")
        if launched and name not in self._launchers:
            self._launchers[name] = Launcher(method, groups, self.reset_metrics, trains)
        if launched:
            self._launchers[name].refresh()
        return Phase(
            name, method, groups, self.reset_metrics,
            stopped=lambda: bool(self.stop_training if trains else self.stop_evaluating),
            launcher=self._launchers[name] if launched else None,
            minimum=self.steps_per_execution, fills=partial(self._rows_stay_apart, trains), function=function,
            settle=self._settled if own_logs else None,
        )  # fmt: skip

    def _overrides(self, *methods: str) -> bool:
        """Whether one of the methods is not the library's."""
        return any(getattr(type(self), name) is not getattr(Ready, name) for name in methods)

    def _rows_stay_apart(self, trains: bool, waste: float = 0.0) -> bool:
        """Whether a short batch may be filled up: not where code of the program's own sees the batch."""
        return is_own(type(self)) and rows.stay_apart(self, self._compiled_loss, self._compiled_metrics, trains, waste)

    @one_look()
    def _make_ready(self, source: Source, train: bool) -> Any:
        """Build what is not built for the shapes of the data: layers, optimizer, metrics; the outputs, where known."""
        x, y, _ = unpack_x_y_sample_weight(source.structure)
        layers = walk(self)
        unbuilt = any(not each.built for each in layers)
        resolved = [each for each in (self._compiled_loss, self._compiled_metrics) if each is not None]
        if not any(launcher.proven for launcher in self._launchers.values()):
            for each in resolved:
                each.forget()  # what a call that failed was given may have been of other shapes
        needs_shapes = not all(each.built for each in resolved)
        outputs = self._declared_outputs()
        if unbuilt or (needs_shapes and outputs is None):
            symbols = tree_util.tree_map(partial(_symbol, whole=may_differ((x, y))), x)
            outputs = self._first_outputs(source) if self._is_eager else self._abstract_outputs(symbols)
        if outputs is not None and y is not None and needs_shapes:
            targets = tree_util.tree_map(_symbol, y)
            for each in resolved:
                if each is not self._compiled_loss or not self._overrides("compute_loss"):  # may be of others
                    each.build(targets, outputs)
        ready = not unbuilt or all(each.built for each in walk(self) if each is not self)
        if train and self.optimizer is not None and not self.optimizer.built and ready:
            self.optimizer.build(self.trainable_variables)
        return outputs

    @one_look()
    def _prepared(self, name: str, source: Source, who: str, held_out: Source | None = None) -> Phase:
        """What the loop needs, the model being ready for the data and these without mistakes."""
        outputs = self._make_ready(source, train=name == "train")
        self._look_for_mistakes(source, outputs, who)
        if isinstance(held_out, ArraySource):  # a stream is not asked for a batch before its time
            y, held = [unpack_x_y_sample_weight(each.peek())[1] for each in (source, held_out)]
            if self._compiled_loss is not None and y is not None and held is None:
                raise ValueError("validation_data: must hold targets, as x and y do, got x alone; give (x, y).")
            self._look_for_mistakes(held_out, outputs, "validation_data")
        return self._phase(name)

    def _look_for_mistakes(self, source: Source, outputs: Any, who: str) -> None:
        """Look at the values of the first batch, once and on the host."""
        loss = None if self._overrides(*_OWN_LOSSES) else self._compiled_loss
        examine(source.peek(), loss, outputs, who, makes_masks(walk(self)))

    def _declared_outputs(self) -> Any:
        """The symbolic outputs, of a model that is a graph."""
        return None

    def _first_outputs(self, source: Source) -> Any:
        """The outputs for the first batch, computed, as code that is run eagerly may ask for values."""
        x, _, _ = unpack_x_y_sample_weight(source.peek())
        with StateScope():
            outputs = self._call_model(x, training=False)
        return tree_util.tree_map(_symbol, outputs)

    def _abstract_outputs(self, symbols: Any) -> Any:
        """The symbolic outputs for symbolic inputs; layers that are not built build themselves on the way.

        `None` for a model that has no `call`, or whose own step calls its layers in another way.
        """
        try:
            return infer(self.__call__, (symbols,), {"training": False})
        except Exception as error:
            if not self._overrides("train_step") and not isinstance(error, NotImplementedError):
                raise
            return None

    def _fed(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        """What a step gets of x, y and the weights, or of those of a batch, which a model may divide and compute on."""
        return opened(x, y, sample_weight)


def _symbol(spec: Any, whole: bool = False) -> KerasTensor:
    return KerasTensor((None, *spec.shape[1:]) if spec.shape and not whole else spec.shape, spec.dtype.name)
