"""Projections: `activation(product(x, kernel) + bias)`, of which a layer says what the product is."""

import copy
import string
from collections.abc import Callable, Sequence
from typing import Any

from lamina import initializers, ops
from lamina.core import checks
from lamina.core.docstrings import explained_by
from lamina.layer import InputSpec
from lamina.layers.calibrated import KINDS
from lamina.layers.kernel_layer import KernelLayer
from lamina.layers.kernels import Terms
from lamina.layers.weights import resolve_arguments, weight


class Projection(KernelLayer):
    """`activation(product(x, kernel) + bias)`.

    A subclass makes its weights by `_make_weights` and defines `_product(inputs, kernel)`, linear in both. Whatever
    kind of kernel there is (of low rank beside a frozen one, or of integers with a scale), no layer asks which it is.
    """

    activation: Callable | None  # a program may take it away
    kernel_initializer: Any
    bias: Any = None

    def _make_weights(self, kernel_shape: Sequence[Any], bias_shape: Sequence[Any] | None, **options: Any) -> None:
        """Make the kernel, with options of `add_weight`, and the bias if it has a shape."""
        self._make_kernel(kernel_shape, **options)
        self.bias = None if bias_shape is None else weight(self, "bias", bias_shape)
        if self.lora_rank is not None:
            self._add_low_rank(self.lora_rank, self.lora_alpha)

    @property
    def kernel(self) -> Any:
        """The kernel: a variable, or what LoRA makes of it."""
        if self._kernel is None:
            raise AttributeError(f"{self._who()}: must be built to have a kernel; call it on data or call build().")
        return self._kernel.whole

    def _projected(self, inputs: Any) -> Any:
        """The product of the inputs and the kernel, of whatever kind it is."""
        return self._kernel.product(inputs)

    def _spread_bias(self, bias: Any) -> Any:
        """The bias so that it broadcasts to the outputs."""
        return bias

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self._projected(inputs)
        if self.bias is not None:
            bias = self.bias.value if self._kernel is None else self._kernel.bias(self.bias.value)
            outputs = outputs + self._spread_bias(bias)
        return outputs if self.activation is None else self.activation(outputs)


class Dense(Projection):
    """`activation(x @ kernel + bias)` over the last axis.

    Args:
        units: the size of the output's last axis.
        activation: a name or function; none if not given.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: what the weights start from.
        kernel_regularizer, bias_regularizer, activity_regularizer: added to the loss.
        kernel_constraint, bias_constraint: applied after each step.
        lora_rank, lora_alpha: of `enable_lora`, which the layer then does itself.
        quantization_config: how a quantized dtype policy is meant, where that does not say.

    Shapes: (..., features) -> (..., units); the kernel is (features, units).

    Raises: ValueError if `units` is not a positive integer, or the input's last axis has no known size.

    >>> layer = layers.Dense(2, activation="relu", kernel_initializer="ones")
    >>> layer(np.array([[1.0, 2.0, 3.0]], "float32")).tolist()
    [[6.0, 6.0]]
    >>> [v.shape for v in layer.weights]
    [(3, 2), (2,)]
    """

    _omit_none = frozenset({"activity_regularizer", "lora_rank", "lora_alpha"})
    _keeps_sparse = True

    def __init__(
        self,
        units: int,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = checks.integer(self._who, "units", units)
        resolve_arguments(self)
        self.use_bias = use_bias
        self._set_kind(lora_rank, lora_alpha, quantization_config)
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features = checks.known_size(self._who, input_shape, -1)
        self._make_weights((features, self.units), (self.units,) if self.use_bias else None)
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})

    _kinds = KINDS
    _product_axes = Terms(".a", "ab", ".b")
    _splits = True

    def _product(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)


@explained_by(Dense)
class EinsumDense(Projection):
    """`activation(einsum(equation, x, kernel) + bias)`.

    Args:
        equation: such as `"ab,bc->ac"`; one `...` stands for axes that pass through.
        output_shape: the sizes of the output's axes behind the batch axis (behind `...`); `None` takes the input's.
        bias_axes: the letters of the output's axes along which the bias varies; no bias if not given.
        kernel_regularizer, bias_regularizer: added to the loss.
        gptq_unpacked_column_size: kept for files of Keras.

    Shapes: those of the equation.

    Raises: ValueError if the equation is of another form or does not fit the sizes.

    >>> layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(np.zeros((2, 3, 5))).shape
    (2, 3, 4)
    """

    _omit_none = frozenset({"lora_rank", "lora_alpha", "gptq_unpacked_column_size"})
    _further = ("activity_regularizer",)

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: str | Callable | None = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: int | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.equation = equation
        self.output_shape: Any = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.bias_axes = bias_axes
        resolve_arguments(self)
        self._set_kind(lora_rank, lora_alpha, quantization_config)
        self.gptq_unpacked_column_size = gptq_unpacked_column_size
        source = self._terms()[0]
        rank = len(source.replace(".", ""))
        self.input_spec = InputSpec(min_ndim=rank) if "." in source else InputSpec(ndim=rank)

    def _terms(self) -> tuple[str, str, str]:
        """The letters of the input, the kernel and the output; `.` is where the axes in between are."""
        compact = self.equation.replace(" ", "").replace("...", ".")
        left, arrow, out = compact.partition("->")
        terms = left.split(",")
        letters = set(left + out) - {",", "."}
        known = arrow and len(terms) == 2 and "." not in terms[1] and letters <= set(string.ascii_letters)
        rule = "equation must be of the form 'ab,bc->ac' with '...' in input and output or nowhere"
        checks.require(known, self._who, rule, self.equation)
        return terms[0], terms[1], out

    def _sizes(self, input_shape: tuple[int | None, ...]) -> dict[str, int | None]:
        """The size of each letter."""
        source, kernel, out = self._terms()
        head, dots, tail = source.partition(".")
        sizes = dict(zip(head, input_shape))
        sizes.update(zip(reversed(tail), reversed(input_shape)))
        wanted = self.output_shape
        letters = out.partition(".")[2] if out.startswith(".") else out.replace(".", "")[1:]
        if len(wanted) > len(letters) and dots:
            wanted = wanted[-len(letters) :]  # sizes of the axes in between are the input's
        rule = f"output_shape must have {len(letters)} sizes for {self.equation!r}"
        checks.require(len(wanted) == len(letters), self._who, rule, wanted)
        for letter, size in zip(letters, wanted):
            rule = f"output_shape must keep the size {sizes.get(letter)} of axis {letter!r}"
            checks.require(size is None or sizes.get(letter) in (None, size), self._who, rule, size)
            sizes[letter] = size if size is not None else sizes.get(letter)
        unknown = [letter for letter in kernel if sizes.get(letter) is None]
        checks.require(not unknown, self._who, f"the sizes of {', '.join(unknown)} must be known", input_shape)
        return sizes

    def _start(self, kernel: str, out: str) -> Any:
        """The kernel's initializer; one that scales with inputs and outputs is told which axes these are."""
        start = self.kernel_initializer
        if not isinstance(start, initializers.VarianceScaling) or None not in (start.input_axes, start.output_axes):
            return start
        start = copy.copy(start)
        start.input_axes = [i for i, letter in enumerate(kernel) if letter not in out]
        start.output_axes = [i for i, letter in enumerate(kernel) if letter in out]
        return start

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        sizes = self._sizes(tuple(input_shape))
        source, kernel, out = self._terms()
        self._behind = len(input_shape) - len(source.replace(".", "")) if out.endswith(".") else 0
        shape = None
        if self.bias_axes:
            letters = out.replace(".", "")
            if not set(self.bias_axes) <= set(letters):
                raise ValueError(f"{self._who()}: bias_axes must be axes of the output, got {self.bias_axes!r}.")
            first = min(map(letters.index, self.bias_axes))
            # Behind the first of its axes the bias has all that follow, with size 1 where it is constant.
            shape = [sizes[c] if c in self.bias_axes else 1 for c in letters[first:]] + [1] * self._behind
        self._make_weights([sizes[letter] for letter in kernel], shape, initializer=self._start(kernel, out))

    _kinds = KINDS
    _name_of_zeros = "zero_point"

    @property
    def _product_axes(self) -> Terms:
        terms, spare = self._terms(), [c for c in string.ascii_letters if c not in self.equation]
        # Behind the letters so many axes pass through as there are.
        return Terms(*(term[:-1] + "".join(spare[: self._behind]) if term.endswith(".") else term for term in terms))

    @property
    def _splits(self) -> bool:
        source, kernel, out = self._terms()
        return kernel[-1] == out[-1] and kernel[-1] not in source

    def _product(self, inputs: Any, kernel: Any) -> Any:
        return ops.einsum(self.equation, inputs, kernel)
