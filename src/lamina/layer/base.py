"""`Layer`: weights in `build()`, computation in `call()`. Everything else derives from those two and the constructor.

Children, variables and seeds are found by looking at the attributes; the configuration is the constructor's arguments;
output shapes come from abstract evaluation. `Layer.__call__` is the one way in, and its steps are numbered.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import jax

from lamina import constraints, initializers, regularizers
from lamina.core import checks, configurable, constructors, dtypes, errors, masking, placement, policy, registry, scope
from lamina.core.sparse import dense, is_sparse
from lamina.core.state import StatelessScope
from lamina.core.symbolic import Operation, any_symbolic, infer
from lamina.core.tree import map_as_given
from lamina.core.variable import Variable
from lamina.layer.inferred import remembered
from lamina.layer.losses import AddedLosses
from lamina.layer.masks import Masks
from lamina.layer.parts import Before, Composite, look_again, walk
from lamina.layer.policies import Typed
from lamina.layer.signature import (
    CallContext,
    as_jax_array,
    as_shapes,
    as_told,
    broken_rule,
    method_signature,
    shape_first,
    shape_of,
    signature_of,
    symbolic_inputs,
    with_shapes,
)

_counter = itertools.count(1)
_one_builds = threading.RLock()  # many threads may call a new layer first


class Layer(AddedLosses, Masks, Typed, Operation):
    """A computation with weights.

    Subclasses make weights in `build(input_shape)` with `add_weight` and compute in `call(inputs)`. A layer builds
    itself when it is first called; layers in its attributes (lists, tuples and dicts included) are its children.

    Args:
        activity_regularizer: a function of the outputs that is added to the loss.
        trainable: whether training changes the weights.
        dtype: a dtype, or a dtype policy such as `"mixed_bfloat16"`.
        autocast: whether float inputs are cast to the compute dtype.
        name: unique if not given.
    """

    input_spec: Any = None  # what the layer asks of its inputs: InputSpecs in their structure
    _building = False
    _has_no_weights = False  # whether it is built from the start, unless a class below says what to make
    _keeps_sparse = False  # whether the library's own `call` takes sparse arrays as they are
    _not_parts = Composite._not_parts | {"_arguments", "_inbound_nodes", "_losses", "_build_shapes"}
    # Packages tell the tracker of Keras about parts; here they are found anyway.
    _tracker = SimpleNamespace(track=lambda part: part, lock=lambda: None, unlock=lambda: None)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        build: Any = cls.build  # its own, inherited, or of a class beside the layers
        if build is not Layer.build and getattr(build, "guards", None) is not build:
            cls.build = _guarded_build(build)
        if "call" in vars(cls) and not registry.is_own(cls) and "input_spec" not in vars(cls):
            cls.input_spec = None  # that of a class above is about what its own `call` takes

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name)
        input_dim = kwargs.pop("input_dim", None)
        self._input_shape_arg = kwargs.pop("input_shape", None if input_dim is None else (input_dim,))
        if kwargs:
            raise constructors.unknown_arguments(type(self), kwargs)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.autocast = autocast
        self.built = self._has_no_weights and type(self).build is Layer.build
        self._trainable = checks.flag(self._who, "trainable", trainable)
        self._dtype_policy = policy.get_policy(dtype)
        self._losses = []
        self._build_shapes: dict[str, Any] | None = None
        self._remat = scope.remat.get()
        self._made = next(_counter)

    def _base_config(self) -> dict[str, Any]:
        config = {"name": self.name, "trainable": self.trainable, "dtype": configurable.serialize(self._saved_policy())}
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = configurable.plain(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer that `get_config` described; what its constructor does not take is set afterwards."""
        values = {key: configurable.deserialize(value) for key, value in config.items()}
        accepted = constructors.all_parameters(cls)
        if type(values.get("dtype")) is policy.DTypePolicy:
            values["dtype"] = values["dtype"].name  # as in Keras: constructors of programs get a string
        late = {key: values.pop(key) for key in {"name", "trainable", "dtype"} & values.keys() - {*accepted}}
        layer = cls(**values)
        if "name" in late:
            layer.name = late["name"]
        if "dtype" in late:
            layer.dtype_policy = late["dtype"]
        if late.get("trainable") is False:
            layer.trainable = False
        return layer

    # Building ---------------------------------------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Make the weights. Without an own `build`: call the layer abstractly, so that children build that are not.

        Inside an own `build`, as `super().build(input_shape)`, or where a call takes more than this one input, there
        is nothing to call: children build when they are first called.
        """
        names = signature_of(type(self)).names
        if input_shape is not None and names and not self.built and not self._building:
            waits = any(not layer.built for layer in walk(self)[1:])
            if waits and len(signature_of(type(self)).required) <= 1:
                infer(self.__call__, (symbolic_inputs(input_shape, self.input_dtype),))
            self._build_shapes = {names[0]: input_shape}
        self.built = True

    @shape_first
    def add_weight(
        self,
        shape: Sequence[int] | int | None = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """A new variable of this layer.

        Args:
            shape: its shape; a number without axes if not given.
            initializer: glorot uniform for floats and zeros for other dtypes if not given.
            dtype: the policy's variable dtype if not given.
            trainable: whether training changes it.
            autocast: whether it is read in the layer's compute dtype.
            regularizer: a function of the weight that is added to the loss.
            constraint: a function that every new value goes through after an optimizer's step.
            aggregation: kept for Keras programs.
            overwrite_with_gradient: whether the gradient itself is the new value.
            name: its name in the layer.
        """
        self._check_constructed()
        shape = (shape,) if isinstance(shape, int) else tuple(shape or ())
        dtype = dtypes.standardize_dtype(dtype or self.variable_dtype)
        if initializer is None:
            initializer = "glorot_uniform" if dtypes.is_float(dtype) else "zeros"
        with scope.names(self._inside()):
            variable = Variable(
                initializers.get(initializer),
                shape=shape,
                dtype=dtype,
                trainable=trainable,
                autocast=autocast,
                aggregation=aggregation,
                name=name,
            )
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        self.__dict__.setdefault("_weights", []).append(variable)
        return variable

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Variable:
        """`add_weight` with positional shape and initializer."""
        return self.add_weight(shape, initializer, dtype, trainable, autocast, regularizer, constraint, name=name)

    def _build_once(self, arrays: dict[str, Any]) -> Before | None:
        """Build, unless another thread has done so meanwhile; returned is what to restore if the call fails."""
        with _one_builds:
            return None if self.built else self._build_for(arrays)

    def _build_for(self, arrays: dict[str, Any]) -> Before | None:
        """Build with the shapes of the arrays that the layer is first called on.

        Without an own `build` it is the call that builds the children: returned is what to restore if it fails.
        """
        if self._building:
            return None
        shapes = {name: shape_of(value) for name, value in arrays.items()}
        if type(self).build is Layer.build:
            before = Before(self)
            self._build_shapes, self.built = shapes, True
            return before
        _, self._build_shapes = with_shapes(self.build, shapes, self._who)
        return None

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """What weights are made in: the layer's name, and real values also inside traces."""
        with scope.names((*scope.names.get(), self.name)), jax.ensure_compile_time_eval(), scope.autocast(None):
            yield

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes that the layer was built for."""
        if self._build_shapes is None:
            return None
        if len(self._build_shapes) == 1:
            return {"input_shape": next(iter(self._build_shapes.values()))}
        return {"shapes_dict": {f"{name}_shape": shape for name, shape in self._build_shapes.items()}}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build for the shapes of `get_build_config`."""
        if self.built:
            return
        if "shapes_dict" in config:
            shapes = {name.removesuffix("_shape"): as_shapes(shape) for name, shape in config["shapes_dict"].items()}
            if type(self).build is Layer.build:  # which takes one shape: it is the call that builds the children
                infer(self.__call__, (), {n: symbolic_inputs(s, self.input_dtype) for n, s in shapes.items()})
            else:
                self.build(**{f"{name}_shape": shape for name, shape in shapes.items()})
            self._build_shapes = shapes
        elif config.get("input_shape") is not None:
            self.build(as_shapes(config["input_shape"]))

    # Calling ----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._check_constructed()
        # 1. Symbolic inputs: infer the outputs and record a node of the graph.
        if any_symbolic(args) or any_symbolic(kwargs):
            return self.symbolic_call(*args, **kwargs)
        # 2. Arrays of all kinds become JAX arrays, floats in the dtype that the layer computes in.
        args, kwargs = self._convert(args, kwargs)
        signature = signature_of(type(self))
        arrays = signature.arrays(args, kwargs)
        # 3. The shapes are known now: check the inputs against what the layer asks for, and make the weights.
        if self.input_spec is not None:
            self._check_inputs(args, arrays)
        before = None if self.built else self._build_once(arrays)
        # 4. Whether this is training: said here, or by the layer around, or the default.
        outer = scope.call.get()
        given = args[signature.training_at] if len(args) > signature.training_at else kwargs.get("training")
        training = given if given is not None else outer.training if outer is not None else None
        if training is None:
            training = signature.training_default
        if signature.takes_training and len(args) <= signature.training_at:
            kwargs["training"] = bool(training) if training is not None else None
        elif not signature.takes_any:
            kwargs.pop("training", None)
        # 5. Masks that ride on the arrays go in by their names.
        met = outer.masks if outer is not None else set()
        mask = self._take_masks(signature, arrays, args, kwargs, met)
        # 6. The computation, with the layer's name, dtype and training flag around it.
        if outer is None:
            self._forget_losses()
            look_again()
        try:
            outputs = self._run(CallContext(training, met), args, kwargs)
        except BaseException as error:
            self._leave(error, "call", before)
            raise
        # 7. What the outputs cost, and the mask they carry on.
        if self.activity_regularizer is not None:
            self._regularize(outputs)
        if mask is not None or self._makes_mask:
            self._pass_mask(args[0] if args else next(iter(arrays.values()), None), mask, outputs, met)
        return outputs

    def _run(self, context: CallContext, args: tuple, kwargs: dict[str, Any]) -> Any:
        cast = self.compute_dtype
        cast = cast if self.autocast and dtypes.is_float(cast) else None  # a layer of integers keeps its weights
        call = self.call if self.quantization_mode is None else self.quantized_call
        watch = scope.watch.get()
        plain = self._remat is None or (watch is not None and watch.without_remat)
        call = call if plain else self.rematerialized_call(call, *args, **kwargs)
        with scope.names((*scope.names.get(), self.name)), scope.call(context), scope.autocast(cast):
            outputs = call(*args, **kwargs) if watch is None else watch.call(self, call, args, kwargs)
            return placement.laid_out(outputs)

    def rematerialized_call(self, layer_call: Callable, *args: Any, **kwargs: Any) -> Callable:
        """`layer_call`, what it has inside computed again in the backward pass as the `RematScope` says."""
        return layer_call if self._remat is None else self._remat.applied(self.name, layer_call)

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        arrays = signature_of(type(self)).arrays(args, kwargs)
        if self.input_spec is not None:
            self._check_inputs(args, arrays)
        before = None if self.built else self._build_once(arrays)
        try:
            return super().symbolic_call(*args, **kwargs)
        except BaseException as error:
            self._leave(error, "call", before)
            raise

    def _leave(self, error: BaseException, phase: str, before: Before | None) -> None:
        """Make good what an error on its way out has left behind, and note where it comes from."""
        if before is not None:
            before.restore()
        errors.note(error, f'in layer "{"/".join(self._inside())}" ({type(self).__name__}), {phase}')
        errors.shorten(error)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs' shapes and dtypes as symbolic tensors, by abstract evaluation.

        A program's own `compute_output_shape` tells what that cannot: sizes that depend on more than sizes, and all
        of a body that needs values.
        """
        if registry.is_own(type(self).compute_output_shape):
            return self._evaluate(*args, **kwargs)
        try:
            outputs = self._evaluate(*args, **kwargs)
        except Exception as error:
            if not errors.wants_values(error):
                raise
            outputs = None
        shapes = {name: shape_of(x) for name, x in signature_of(type(self)).arrays(args, kwargs).items()}
        told, _ = with_shapes(self.compute_output_shape, shapes, self._who)
        return as_told(told, outputs, self.compute_dtype)

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        return remembered(self, args, kwargs) if self.built else infer(self.__call__, args, kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The shape of the outputs for inputs of these shapes; a layer that is not built stays so."""
        own = not registry.is_own(type(self).compute_output_spec)
        spec = self.compute_output_spec if own else self._evaluate
        names = signature_of(type(self)).names or ("inputs",)
        given = {**dict(zip(names, args)), **{k.removesuffix("_shape"): v for k, v in kwargs.items()}}
        inputs = {name: symbolic_inputs(shape, self.input_dtype) for name, shape in given.items()}
        with ExitStack() as afterwards:
            if not (self.built or self._building):
                afterwards.callback(Before(self).restore)
            return shape_of(spec(*inputs.values()) if len(inputs) == 1 else spec(**inputs))

    def _check_constructed(self) -> None:
        if "_dtype_policy" not in self.__dict__:
            name = type(self).__name__
            raise RuntimeError(f"{name}: __init__ must call super().__init__() before it uses or makes layers.")

    def _convert(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        cast = self.compute_dtype if self.autocast else None

        def convert(x: Any) -> Any:
            y = as_jax_array(dense(x) if is_sparse(x) and not keeps_sparse else x, cast)
            if y is not x and masking.get_mask(x) is not None:
                masking.set_mask(y, masking.get_mask(x))
            return y

        if len(args) == 1 and not kwargs and isinstance(args[0], jax.Array):  # by far the most calls
            return (convert(args[0]),), {}
        keeps_sparse = self._keeps_sparse or not registry.is_own(type(self).call)
        return map_as_given(convert, (args, kwargs), is_leaf=is_sparse)

    def _check_inputs(self, args: tuple, arrays: dict[str, Any]) -> None:
        broken = broken_rule(self.input_spec, args[0] if args else next(iter(arrays.values()), None))
        if broken is not None:
            shapes = list((self._build_shapes or {}).values())
            built = f"; it was built for {shapes[0]}" if len(shapes) == 1 else ""
            raise ValueError(f"{self._who()}: {broken}{built}.")

    def _who(self) -> str:
        return f'{type(self).__name__} "{"/".join(self._inside())}"'

    # Flags and losses --------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The layer's name behind those of the layers that it was called in."""
        own = self._own_variables()
        if own:
            return own[0].path.rpartition("/")[0]
        inside = next((v.path.split("/") for v in self.variables), [])
        return "/".join(inside[: inside.index(self.name) + 1] if self.name in inside else self._inside())

    @property
    def _call_has_training_arg(self) -> bool:
        return signature_of(type(self)).takes_training

    @property
    def _call_has_mask_arg(self) -> bool:
        return "mask" in signature_of(type(self)).all

    def add_metric(self, *args: Any, **kwargs: Any) -> None:
        """Not there: assign a metric to an attribute and call its `update_state` in place of this."""
        raise NotImplementedError(f"{self._who()}: has no add_metric; set a metric as an attribute and update it.")

    # Pure forms -------------------------------------------------------------------------------------------------

    def stateless_call(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple:
        """Call as a pure function of the variables' values.

        Returns:
            `outputs, new_non_trainable_values`, and the list of losses if `return_losses`.
        """
        own = (self.trainable_variables, self.non_trainable_variables)
        for kind, variables, values in zip(
            ("trainable", "non_trainable"), own, (trainable_variables, non_trainable_variables)
        ):
            if len(variables) != len(values):
                raise ValueError(f"{self._who()}: must get {len(variables)} {kind}_variables, got {len(values)}.")
        values = [*trainable_variables, *non_trainable_variables]
        with StatelessScope(zip(own[0] + own[1], values)) as state:
            outputs = self(*args, **kwargs)
            losses = self.losses if return_losses else []
        after = state.values(own[1])
        return (outputs, after, losses) if return_losses else (outputs, after)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _guarded_build(build: Callable) -> Callable:
    """`build` with the layer's name in scope, real values inside traces, and all or nothing."""

    @functools.wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        if self._building:  # super().build() of a subclass
            return build(self, *args, **kwargs)
        self._check_constructed()
        before = Before(self)
        again, count = self._build_shapes is not None, len(self.__dict__.get("_weights", ()))
        self._building = True
        try:
            with self._naming():
                build(self, *args, **kwargs)
            if again and len(self.__dict__.get("_weights", ())) > count:
                raise ValueError(f"{self._who()}: build must make weights once; begin it with `if self.built: return`.")
        except BaseException as error:
            self._leave(error, "build", before)
            raise
        self._building = False
        self.built = True
        look_again()
        if self._build_shapes is None:
            given = {**dict(zip(method_signature(build).parameters, args)), **kwargs}
            self._build_shapes = {name.removesuffix("_shape"): shape for name, shape in given.items()}

    wrapper.guards = wrapper  # type: ignore[attr-defined]
    return wrapper
