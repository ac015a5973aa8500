"""The plain ones: Input, Embedding (also there and back), Lambda, Masking, Identity."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina import ops
from lamina.core import checks, configurable, dtypes, masking, registry
from lamina.core.functions import by_name
from lamina.core.symbolic import KerasTensor, Node
from lamina.layer import InputSpec, Layer
from lamina.layer.masks import check_broadcasts
from lamina.layer.parts import GivesWay
from lamina.layers.activation import Elementwise
from lamina.layers.kernel_layer import KernelLayer
from lamina.layers.kernels import Kernel, Terms
from lamina.layers.quantized import Int4, Int8
from lamina.layers.weights import resolve_arguments


class InputLayer(Layer):
    """The place where data enters a graph.

    Shapes: none -> (batch, *shape).

    Raises: ValueError unless exactly one of `shape` and `batch_shape` is given.
    """

    def __init__(
        self,
        shape: Sequence[int | None] | int | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: KerasTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        super().__init__(name=name, **kwargs)
        shape = self._input_shape_arg if shape is None else shape  # older names
        if ragged:
            raise ValueError(f"{self._who()}: ragged must be False; pad ragged inputs, and mask what was padded.")
        if input_tensor is not None:
            if not isinstance(input_tensor, KerasTensor):
                given = checks.shorten(input_tensor)
                raise ValueError(f"{self._who()}: input_tensor must be a symbolic tensor, got {given}.")
            whole, kind = input_tensor.shape, None if dtype is None else dtypes.standardize_dtype(dtype)
            told = {
                "shape": (shape, whole[1:]),
                "batch_shape": (batch_shape, whole),
                "batch_size": (batch_size, (*whole, None)[0]),
                "sparse": (sparse, input_tensor.sparse),
                "dtype": (kind, input_tensor.dtype),
            }
            for what, (one, its) in told.items():
                if one is not None and checks.integers(one) != its:
                    raise ValueError(f"{self._who()}: {what} must be that of the tensor, {its}, got {one}.")
            shape, batch_size, batch_shape, sparse, dtype = None, None, whole, input_tensor.sparse, input_tensor.dtype
        if (shape is None) == (batch_shape is None) or None not in (batch_size, batch_shape):
            raise ValueError(f"{self._who()}: either shape, with batch_size or without, or batch_shape must be given.")
        if batch_shape is None:
            batch_shape = (batch_size, *((shape,) if isinstance(shape, int) else shape or ()))
        self.batch_shape = tuple(batch_shape)
        if any(d is not None and (not isinstance(d, (int, np.integer)) or d < 0) for d in self.batch_shape):
            raise ValueError(f"{self._who()}: sizes must be integers of at least 0 or None, got {self.batch_shape}.")
        self._input_dtype = dtypes.standardize_dtype(dtype)
        self.sparse, self.ragged, self.optional = bool(sparse), False, optional
        self.built = True
        tensor = (
            input_tensor if input_tensor is not None else KerasTensor(self.batch_shape, self._input_dtype, self.sparse)
        )
        tensor.name = self.name
        Node(self, (), {}, tensor)

    def call(self) -> None:
        """Nothing: the model puts the data in."""

    @property
    def dtype(self) -> str:
        return self._input_dtype

    def get_config(self) -> dict[str, Any]:
        names = ("batch_shape", "dtype", "sparse", "ragged", "name", "optional")
        return {name: getattr(self, name) for name in names}


def Input(
    shape: Sequence[int | None] | int | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: KerasTensor | None = None,
    optional: bool = False,
) -> Any:
    """A symbolic tensor to begin a graph with.

    Args:
        shape: the shape of one sample; `None` for unknown sizes.
        batch_size: the number of samples in a batch, if it is fixed.
        dtype: the default float dtype if not given.
        sparse: whether the layers are told that data are sparse arrays; they may be in any case.
        ragged: must be false.
        batch_shape: the whole shape, in place of `shape` and `batch_size`.
        name: unique if not given; keys of data dicts are matched with it.
        tensor: a symbolic tensor to take shape and dtype from.
        optional: whether `None` may be passed.

    Shapes: (batch, *shape), the batch of any size if `batch_size` is not given.

    >>> x = layers.Input((28, 28, 1))
    >>> x.shape, x.dtype
    ((None, 28, 28, 1), 'float32')
    """
    layer = InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name)
    return layer.output


class Embedding(KernelLayer):
    """Row `i` of a table of vectors for each integer `i`.

    Args:
        input_dim: the number of rows.
        output_dim: the size of a vector.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: of the table.
        mask_zero: whether 0 means "nothing here": later layers get the mask `inputs != 0`.
        weights: a table to start from.
        lora_rank, lora_alpha: of `enable_lora`, which the layer then does itself.
        quantization_config: how a quantized dtype policy is meant, where that does not say.

    Shapes: (...) of integers -> (..., output_dim).

    Raises: ValueError if a size is not a positive integer.

    >>> table = layers.Embedding(3, 2, embeddings_initializer="ones")
    >>> table(np.array([[0, 2, 1]])).shape
    (1, 3, 2)
    """

    input_spec = InputSpec()  # one array

    embeddings_initializer: Any
    _omit_none = frozenset({"weights", "lora_rank", "lora_alpha"})
    _further = ("activity_regularizer",)
    _kinds = {"int8": Int8, "int4": Int4}
    _product_axes = Terms(".b", "ab", ".a")

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Sequence[Any] | None = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.input_dim = checks.integer(self._who, "input_dim", input_dim)
        self.output_dim = checks.integer(self._who, "output_dim", output_dim)
        resolve_arguments(self)
        self.mask_zero = mask_zero
        self._set_kind(lora_rank, lora_alpha, quantization_config)
        self.supports_masking = mask_zero
        self.autocast = False  # integers are looked up as they are
        self.weights_given = weights
        if weights is not None:
            self.build()
            self.embeddings.assign(weights[0] if len(weights) == 1 and isinstance(weights, (list, tuple)) else weights)

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        return None if name == "weights" else super()._argument(owner, name, recorded)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self._make_kernel((self.input_dim, self.output_dim), "embeddings")
        if self.lora_rank is not None:
            self._add_low_rank(self.lora_rank, self.lora_alpha)

    @property
    def embeddings(self) -> Any:
        """The table: a variable, or what LoRA makes of it."""
        if self._kernel is None:
            raise AttributeError(f"{self._who()}: must be built to have a table; call it on data or call build().")
        return self._kernel.whole

    _embeddings = GivesWay(operator.attrgetter("embeddings"))  # Keras's name of the variable, which programs read

    def _product(self, inputs: Any, kernel: Any) -> Any:
        """The products of vectors and all rows, for which the table is quantized."""
        return ops.matmul(inputs, kernel.T)

    def call(self, inputs: Any) -> Any:
        indices = inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs.astype("int32")
        return self._kernel.rows(indices).astype(self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """`inputs != 0` with `mask_zero`, else none."""
        return jnp.not_equal(inputs, 0) if self.mask_zero else None


class ReversibleEmbedding(Embedding):
    """`Embedding`, and with `reverse=True` the products of vectors with its rows: logits of the integers.

    Press and Wolf, 2017, https://arxiv.org/abs/1608.05859

    Args:
        tie_weights: whether the way back has the same table, or one of its own.
        reverse_dtype: the dtype of the logits, the compute dtype if not given.
        logit_soft_cap: c in logits of `c tanh(logits / c)`; none if not given.

    Shapes: (...) of integers -> (..., output_dim); with `reverse`, (..., output_dim) -> (..., input_dim).

    Raises: ValueError if a size is not a positive integer, or the cap not above 0.
    """

    _kinds = Embedding._kinds
    _back: Kernel | None = None  # the kernel of the way back, where it has one of its own
    _further = ("activity_regularizer", "weights", "lora_rank", "lora_alpha", "quantization_config")

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        self.tie_weights = tie_weights
        table = (embeddings_initializer, embeddings_regularizer, embeddings_constraint)
        super().__init__(input_dim, output_dim, *table, mask_zero, **kwargs)
        self.reverse_dtype = None if reverse_dtype is None else dtypes.standardize_dtype(reverse_dtype)
        cap = logit_soft_cap
        self.logit_soft_cap = None if cap is None else checks.positive(self._who, "logit_soft_cap", cap)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        super().build(input_shape)
        self._make_back()

    def _make_back(self) -> None:
        """Make the kernel of the way back, if it has one of its own, of the kind of the table, with the old values."""
        table, old = getattr(self._kernel, "base", self._kernel), self._back
        if not self.tie_weights:
            place = table.place._replace(
                name="reverse_embeddings",
                shape=(self.output_dim, self.input_dim),
                options={"initializer": self.embeddings_initializer},
                terms=Terms(".a", "ab", ".b"),
                product=self._product_back,
                beside=True,
            )
            self._back = back = type(table)(place, table.config)
            back.build(old)
            self._drop(old.variables.values() if old is not None else ())
            vars(self).update(back.variables)

    def _product_back(self, inputs: Any, kernel: Any) -> Any:
        return self._product(inputs, kernel.T)

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if not reverse:
            vectors = super().call(inputs)
            if self.mask_zero:
                masking.set_mask(vectors, super().compute_mask(inputs))
            return vectors
        if inputs.shape[-1] != self.output_dim:
            raise ValueError(f"{self._who()}: inputs must have size {self.output_dim} last, got {inputs.shape}.")
        logits = (self._back or self._kernel).product(inputs)
        cap = self.logit_soft_cap
        logits = logits if cap is None else jnp.tanh(logits / cap) * cap
        return logits.astype(self.reverse_dtype or self.compute_dtype)

    def _product(self, inputs: Any, kernel: Any) -> Any:
        if self.reverse_dtype is not None and dtypes.is_float(kernel.dtype):
            inputs, kernel = inputs.astype(self.reverse_dtype), kernel.astype(self.reverse_dtype)
        return super()._product(inputs, kernel)

    def quantized_build(self, input_shape: Any, mode: str, config: Any = None) -> None:
        """As any `Embedding`; a way back with a kernel of its own gets one of the same kind."""
        super().quantized_build(input_shape, mode, config)
        self._make_back()

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """None: the call sets it, as the way back has none."""


class Lambda(Layer):
    """A function as a layer.

    A function that is registered with `@register_keras_serializable()` is saved by its name. A lambda is saved as byte
    code, as in Keras, which is never run: to open the file takes `custom_objects={"the layer's name": function}`.

    Args:
        function: of the inputs, and of `mask` or `training` if it has arguments of these names.
        output_shape: kept for Keras programs; the shape is inferred.
        mask: a mask for the outputs, or a function of (inputs, mask).
        arguments: further keyword arguments of the function.

    Shapes: whatever the function takes -> whatever it returns.

    Raises: TypeError if `function` cannot be called.
    """

    _omit_none = frozenset({"output_shape", "mask"})

    def __init__(
        self,
        function: Callable,
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        mask_like = mask is None or callable(mask) or hasattr(mask, "shape")
        checks.require(mask_like, self._who, "mask must be an array or a function that makes one", mask)
        self.function, self.output_shape, self.mask, self.arguments = (function, output_shape, mask, arguments or {})
        code = getattr(function, "__code__", None)
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
        self._accepts = frozenset(names) & {"mask", "training"}
        self.supports_masking, self._misses_mask = mask is not None, "mask" in self._accepts

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        given = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: given[name] for name in self._accepts})

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict[str, Any]:
        given = {"function": self.function, "output_shape": self.output_shape, "mask": self.mask}
        forms = {name: by_name(configurable.plain(value)) for name, value in given.items() if value is not None}
        return {**super().get_config(), **forms, "arguments": self.arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: bool | None = None) -> Any:
        """The layer that `get_config` described; whatever `safe_mode` says, code from files is never run."""
        with registry.custom_objects(custom_objects):
            return super().from_config(config)


class Masking(Elementwise):
    """The inputs, masked (and zero) at the times where every feature is `mask_value`.

    Shapes: (batch, time, features) -> the same.
    """

    input_spec = InputSpec()  # one array

    def __init__(self, mask_value: float | Sequence[float] = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        checks.require(mask_value is not None, self._who, "mask_value must be a number, or one for each feature")
        self.mask_value = mask_value

    def call(self, inputs: Any) -> Any:
        return jnp.where(self.compute_mask(inputs)[..., None], inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where some feature differs from `mask_value`."""
        value = jnp.asarray(self.mask_value)
        check_broadcasts(self._who(), value, inputs.shape, "mask_value")
        return jnp.any(jnp.not_equal(inputs, value), axis=-1)


class Identity(Elementwise):
    """The inputs."""

    _keeps_sparse = True

    def call(self, inputs: Any) -> Any:
        return inputs
