"""Kinds of kernels: how the main weight of a layer is kept, and what the layer's product makes of it.

A layer has one `Kernel` and asks it for a product, or for rows; which kind it is, only this file knows. All kinds make
their variables as Keras does, and say in which order files hold them and what files get.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina import quantizers
from lamina.core.arrays import value_of
from lamina.core.variable import Variable
from lamina.layer import Layer
from lamina.layers.weights import weight
from lamina.quantizers import calibration
from lamina.quantizers.integers import decoded

_SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Terms(NamedTuple):
    """The axes of a product, in letters: a letter that outputs lack is summed over; `.` is any number of axes."""

    inputs: str
    kernel: str
    outputs: str

    @property
    def summed(self) -> tuple[int, ...]:
        """The axes of the kernel that are summed over."""
        return tuple(i for i, letter in enumerate(self.kernel) if letter not in self.outputs)

    @property
    def summed_inputs(self) -> tuple[int, ...]:
        """The axes of the inputs that are summed over, counted from the end if `.` stands before them."""
        back = len(self.inputs) if self.inputs.startswith(".") else 0
        return tuple(i - back for i, c in enumerate(self.inputs) if c not in self.outputs)


def realigned(x: Any, source: str, target: str) -> Any:
    """`x`, with axes as in `source`, with those of `target`; axes that only one of them has are of size 1."""
    spare = "".join(c for c in _SPARE if c not in source + target)[: x.ndim - len(source.replace(".", ""))]
    source, target = (term.replace(".", spare) for term in (source, target))
    x = x.squeeze(tuple(i for i, c in enumerate(source) if c not in target))
    left = [c for c in source if c in target]
    x = x.transpose([left.index(c) for c in target if c in left])
    return jnp.expand_dims(x, [i for i, c in enumerate(target) if c not in left])


class Place(NamedTuple):
    """Where a kernel belongs.

    Args:
        layer: makes its variables.
        name: of its variables and of the layer's arguments for it.
        shape: of the array.
        options: of `add_weight`.
        terms: which axes the product sums over.
        product: of inputs and an array, linear in both.
        splits: whether the product with `a @ b` is that with `a`, times `b`.
        history: how many largest values scales of 8-bit floats are from.
        zero: what the zeros of a calibrated kernel are called.
    """

    layer: Layer
    name: str
    shape: tuple[int, ...]
    options: dict[str, Any]
    terms: Terms
    product: Callable[[Any, Any], Any]
    splits: bool = False
    history: int = 1024
    zero: str = "kernel_zero"


class Kernel:
    """An array of floats, in one variable: the plain kind, of which the others are made.

    Args:
        place: where it belongs.
        config: how it is quantized.
    """

    mode: str | None = None
    after_bias = False  # whether files hold the bias first

    def __init__(self, place: Place, config: Any = None):
        self.place, self.config = place, config
        self.variables: dict[str, Variable] = {}  # attribute of the layer -> variable, in the order of files

    def build(self, old: Kernel | None = None) -> None:
        """Make the variables, with the values of the kernel `old` if there is one."""
        self.variables[self.place.name] = old.own if old is not None else self._float()

    def _float(self) -> Variable:
        return weight(self.place.layer, self.place.name, self.place.shape, **self.place.options)

    def _make(
        self, attribute: str, shape: tuple[int, ...], dtype: str | None = None, label: str = "", **options: Any
    ) -> None:
        """Make a variable that training leaves alone, unless the options say otherwise."""
        options = {"initializer": "zeros", "trainable": False, "regularizer": None, "constraint": None, **options}
        self.variables[attribute] = weight(self.place.layer, label or attribute, shape, dtype=dtype, **options)

    @property
    def own(self) -> Variable:
        """The variable that has the kernel's name."""
        return self.variables[self.place.name]

    @property
    def held(self) -> dict[str, Variable]:
        """All variables of the kernel by attribute."""
        return self.variables

    @property
    def whole(self) -> Any:
        """What the layer's attribute of that name is: a variable, or an array that is computed."""
        return self.own

    @property
    def floats(self) -> Any:
        """The array that the kernel stands for."""
        return self.own.value

    def product(self, inputs: Any, training: bool | None = None, added: Any = None) -> Any:
        """The layer's product of the inputs and the kernel, to which `added` is added."""
        return self.place.product(inputs, self.floats if added is None else self.floats + added)

    def rows(self, indices: Any) -> Any:
        """The rows of a table."""
        return jnp.take(self.own.value, indices, axis=0)

    def bias(self, bias: Any) -> Any:
        """What is added to the product for a bias."""
        return bias

    def loaded(self) -> None:
        """The variables have got the values in a file."""

    def in_files(self, added: Any = None) -> dict[str, Any]:
        """What files get for each variable, where `added` is added to the kernel."""
        if added is None:
            return {name: v.numpy() for name, v in self.variables.items()}
        return {name: np.asarray(x) for name, x in self._encoded(self.floats + added).items()}

    def _encoded(self, array: Any) -> dict[str, Any]:
        """The values of the variables for an array of floats."""
        return {**self.variables, self.place.name: array}


def _straight_through(forward: Callable, linear: Callable) -> Callable:
    """`forward(x, *arrays)`, with the gradient by `x` of `linear(x, *arrays)` and none by the arrays."""

    @jax.custom_vjp
    def run(x: Any, *arrays: Any) -> Any:
        return forward(x, *arrays)

    def first(x: Any, *arrays: Any) -> tuple[Any, Any]:
        return forward(x, *arrays), (jnp.zeros((0, *x.shape), x.dtype), arrays)

    def backward(kept: Any, gradient: Any) -> tuple:
        like, arrays = kept
        struct = jax.ShapeDtypeStruct(like.shape[1:], like.dtype)
        (by_x,) = jax.linear_transpose(lambda x: linear(x, *arrays), struct)(gradient)
        return by_x, *(None for _ in arrays)

    run.defvjp(first, backward)
    return run


class Int8(Kernel):
    """Integers of 8 bits, with a scale for each place of the axes that the product keeps: `codes / scale`."""

    mode = "int8"

    def build(self, old: Kernel | None = None) -> None:
        name, terms = self.place.name, self.place.terms
        self._make(name, self.place.shape, "int8")
        kept = np.empty([1 if axis in terms.summed else size for axis, size in enumerate(self.place.shape)])
        self._make(f"{name}_scale", realigned(jnp.asarray(kept), terms.kernel, self._of_scale).shape, initializer="ones")
        self._fill(old)

    def _fill(self, old: Kernel | None) -> None:
        for name, value in (self._encoded(old.floats) if old is not None else {}).items():
            if value is not self.variables[name]:
                self.variables[name].assign(value)

    @property
    def _of_scale(self) -> str:
        """The axes of the scale: those of the outputs but leading ones that any number may stand for."""
        return self.place.terms.outputs.removeprefix(".")

    @property
    def scale(self) -> Any:
        """The scale, on the axes of the kernel."""
        return realigned(self.variables[f"{self.place.name}_scale"].value, self._of_scale, self.place.terms.kernel)

    def _encoded(self, array: Any) -> dict[str, Any]:
        terms, shape = self.place.terms, np.shape(array)
        quantizer = self.config.weight_quantizer or quantizers.AbsMaxQuantizer(axis=terms.summed)
        codes, scale = quantizer(array, to_numpy=True)
        kept = [1 if axis in terms.summed else size for axis, size in enumerate(shape)]
        try:
            scale = jnp.broadcast_to(scale, kept)
        except ValueError:
            raise ValueError(
                f"{type(self.config).__name__}: weight_quantizer must take the maximum over axes {terms.summed} of "
                f"{self.place.name}, got a scale of shape {np.shape(scale)}."
            ) from None
        return {self.place.name: codes, f"{self.place.name}_scale": realigned(scale, terms.kernel, self._of_scale)}

    @property
    def floats(self) -> Any:
        scale = self.scale
        return self.own.value.astype(scale.dtype) * (1 / scale)

    def _factors(self) -> tuple[Any, Any]:
        """The kernel as an array, and what outputs are divided by."""
        return self.own.value, self.variables[f"{self.place.name}_scale"].value

    def product(self, inputs: Any, training: bool | None = None, added: Any = None) -> Any:
        place, quantizer = self.place, self.config.activation_quantizer
        if quantizer is None:
            return super().product(inputs, training, added)

        def forward(x: Any, codes: Any, scale: Any, floats: Any) -> Any:
            own, own_scale = quantizer(x, axis=place.terms.summed_inputs)
            # Sums of products of 8-bit integers are whole numbers, which float32 holds.
            out = place.product(own.astype("float32"), codes.astype("float32"))
            own_scale = realigned(own_scale.astype("float32"), place.terms.inputs, place.terms.outputs)
            return (out * (1 / own_scale) * (1 / scale.astype("float32"))).astype(x.dtype)

        run = _straight_through(forward, lambda x, codes, scale, floats: place.product(x, floats))
        outputs = run(inputs, *self._factors(), self.floats.astype(inputs.dtype))
        return outputs if added is None else outputs + place.product(inputs, added)

    def rows(self, indices: Any) -> Any:
        codes, scale = (jnp.take(v.value, indices, axis=0) for v in self.variables.values())
        return codes.astype(scale.dtype) / scale[..., None]


class Int4(Int8):
    """Integers of 4 bits, two in a byte, of the kernel as a matrix of what is summed over and what is not.

    There is a scale for each column, or a scale and a zero for each block of it. Of a table, whose second axis is
    summed over, rows take the place of columns.
    """

    mode = "int4"
    packed = -1  # the axis along which neighbours share a byte
    numbered = True  # whether files hold the number of the block of each place

    def build(self, old: Kernel | None = None) -> None:
        name, matrix = self.place.name, self._matrix
        bytes_ = list(matrix)
        bytes_[self.packed] = -(-bytes_[self.packed] // 2)
        self._make(name, tuple(bytes_), "int8")
        scales = list(matrix)
        if not self.config.blocks:
            scales.pop(self._axis)
            self._make(f"{name}_scale", tuple(scales), initializer="ones")
        else:
            scales[self._axis] = -(-matrix[self._axis] // self.config.blocks)
            self._make(f"{name}_scale", tuple(scales), initializer="ones")
            self._make(f"{name}_zero", tuple(scales), "int8")
            if self.numbered:
                start = lambda shape, dtype: np.arange(matrix[self._axis], dtype=dtype) // self.config.blocks  # noqa: E731
                self._make("g_idx", (matrix[self._axis],), "float32", initializer=start)
        self._fill(old)

    @property
    def _axis(self) -> int:
        """The axis of the matrix that is summed over."""
        return int(self.place.terms.summed == (1,) and len(self.place.shape) == 2)

    @property
    def _matrix(self) -> tuple[int, int]:
        """The shape of the matrix."""
        shape, summed = self.place.shape, self.place.terms.summed
        rows = shape[0] if self._axis else math.prod(shape[axis] for axis in summed)
        return rows, math.prod(shape) // rows

    def _encoded(self, array: Any) -> dict[str, Any]:
        name, axis = self.place.name, self._axis
        matrix = np.asarray(value_of(array)).reshape(self._matrix)
        if not self.config.blocks:
            quantizer = self.config.weight_quantizer or quantizers.AbsMaxQuantizer(value_range=(-8, 7))
            codes, scale = quantizer(matrix, axis=axis, to_numpy=True)
            more = {f"{name}_scale": scale.squeeze(axis)}
        else:
            found = quantizers.abs_max_quantize_grouped_with_zero_point(matrix.T if axis else matrix, self.config.blocks)
            codes, scale, zero = (part.T if axis else part for part in found)
            more = {f"{name}_scale": scale, f"{name}_zero": zero}
        fixed = {"g_idx": self.variables["g_idx"]} if "g_idx" in self.variables else {}
        return {name: quantizers.pack_int4(codes, self.packed)[0], **more, **fixed}

    def _decode(self, codes: Any, axis: int, *scales: Any) -> Any:
        """What unpacked integers mean; scales and zeros lie along `axis`, or the scale goes without it."""
        if not self.config.blocks:
            return codes.astype(scales[0].dtype) * jnp.expand_dims(1 / scales[0], axis)
        size, block = codes.shape[axis], self.config.blocks
        scale, zero = (jnp.repeat(x, block, axis, total_repeat_length=x.shape[axis] * block) for x in scales)
        within = (slice(None),) * (axis % codes.ndim) + (slice(size),)
        return (codes.astype(scale.dtype) - zero[within].astype(scale.dtype)) * scale[within]

    @property
    def _scales(self) -> list[Variable]:
        return [v for name, v in self.variables.items() if name not in (self.place.name, "g_idx")]

    @property
    def whole(self) -> Any:
        return quantizers.unpack_int4(self.own, self._matrix[self.packed], self.packed)

    @property
    def floats(self) -> Any:
        return self._decode(self.whole, self._axis, *(v.value for v in self._scales)).reshape(self.place.shape)

    def _factors(self) -> tuple[Any, Any]:
        return self.floats, jnp.ones(())

    def rows(self, indices: Any) -> Any:
        packed, *scales = (jnp.take(v.value, indices, axis=0) for v in (self.own, *self._scales))
        return self._decode(quantizers.unpack_int4(packed, self._matrix[1], -1), -1, *scales)


class Float8(Kernel):
    """Floats whose products are those of 8-bit floats: inputs, kernel and the gradients of outputs are rounded.

    The scales are from the largest values of late. Training gets new ones where gradients would be. Micikevicius et
    al. 2022, https://arxiv.org/abs/2209.05433
    """

    mode = "float8"
    rounded = ("inputs", "kernel", "outputs_grad")

    def build(self, old: Kernel | None = None) -> None:
        super().build(old)
        trained = {"trainable": True, "autocast": False, "overwrite_with_gradient": True}
        for what in self.rounded:
            self._make(f"{what}_scale", (), "float32", initializer="ones", **trained)
            self._make(f"{what}_amax_history", (self.place.history,), "float32", **trained)

    def product(self, inputs: Any, training: bool | None = None, added: Any = None) -> Any:
        def scaled(what: str) -> tuple[Any, Any]:
            return self.variables[f"{what}_scale"].value, self.variables[f"{what}_amax_history"].value

        x = _rounded_value(inputs, *scaled("inputs"), bool(training))
        kernel = _rounded_value(self.floats, *scaled("kernel"), bool(training))
        outputs = _rounded_gradient(self.place.product(x, kernel), *scaled("outputs_grad"))
        return outputs if added is None else outputs + self.place.product(inputs, added)

    def bias(self, bias: Any) -> Any:
        """As Keras: float32 is rounded to bfloat16, which kernels of accelerators add."""
        return bias.astype("bfloat16").astype(bias.dtype) if bias.dtype == jnp.float32 else bias

    def _encoded(self, array: Any) -> dict[str, Any]:
        return {name: v.numpy() for name, v in self.variables.items()} | {self.place.name: array}


def _next_scale(x: Any, scale: Any, history: Any, dtype: str) -> tuple[Any, Any]:
    largest = float(jnp.finfo(dtype).max)
    return (
        quantizers.compute_float8_scale(jnp.max(history), scale, largest),
        quantizers.compute_float8_amax_history(x, history),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _rounded_value(x: Any, scale: Any, history: Any, training: bool) -> Any:
    """`x` in float8_e4m3fn; gradients pass, and in place of those of scale and history come their next values."""
    return quantizers.quantize_and_dequantize(x, scale, "float8_e4m3fn", x.dtype)


def _rounded_value_forward(x: Any, scale: Any, history: Any, training: bool) -> tuple[Any, Any]:
    after = _next_scale(x, scale, history, "float8_e4m3fn") if training else (scale, history)
    return _rounded_value(x, scale, history, training), after


_rounded_value.defvjp(_rounded_value_forward, lambda training, after, gradient: (gradient, *after))


@jax.custom_vjp
def _rounded_gradient(x: Any, scale: Any, history: Any) -> Any:
    """`x`, whose gradient passes in float8_e5m2."""
    return x


def _rounded_gradient_backward(kept: Any, gradient: Any) -> tuple:
    passed = quantizers.quantize_and_dequantize(gradient, kept[0], "float8_e5m2", gradient.dtype)
    return passed, *_next_scale(gradient, *kept, "float8_e5m2")


_rounded_gradient.defvjp(lambda x, scale, history: (x, (scale, history)), _rounded_gradient_backward)


class GPTQ(Kernel):
    """Integers that are found beside the inputs of a dataset; until then the floats themselves.

    The kernel is a matrix of what is summed over and what is not. Integers lie transposed, two of 4 bits in a byte.
    """

    mode = "gptq"
    after_bias = True
    method: type[calibration.GPTQ | calibration.AWQ] = calibration.GPTQ
    seen: calibration.GPTQ | calibration.AWQ | None = None  # what is known of the inputs while a dataset runs
    waiting: Variable | None = None  # the floats

    def build(self, old: Kernel | None = None) -> None:
        if self.place.terms.summed != tuple(range(len(self.place.terms.summed))):
            raise ValueError(
                f"{type(self.config).__name__}: the axes of {self.place.name} that are summed over must come first, "
                f"got {','.join(self.place.terms[:2])}->{self.place.terms.outputs}."
            )
        self.waiting = None if old is None else old.own
        rows, columns = self._matrix
        groups = -(-rows // self.config.group_size) if self.config.group_size > 0 else 1
        name = self.place.name
        self._make(f"quantized_{name}", (-(-columns // 2) if self._packs else columns, rows), "uint8", name)
        self._make(f"{name}_scale", (columns, groups), initializer="ones")
        self._make(f"{name}_zero", (columns, groups), "uint8", self.place.zero)
        self._make_more(rows)
        self._make("g_idx", (rows,), "float32")

    def _make_more(self, rows: int) -> None:
        """Make what a variant has besides."""

    @property
    def _packs(self) -> bool:
        return self.config.weight_bits == 4

    @property
    def _matrix(self) -> tuple[int, int]:
        rows = math.prod(self.place.shape[axis] for axis in self.place.terms.summed)
        return rows, math.prod(self.place.shape) // rows

    @property
    def own(self) -> Variable:
        return self.variables[f"quantized_{self.place.name}"]

    @property
    def held(self) -> dict[str, Variable]:
        return {**self.variables, **({} if self.waiting is None else {self.place.name: self.waiting})}

    @property
    def whole(self) -> Any:
        return self.floats if self.waiting is None else self.waiting

    @property
    def floats(self) -> Any:
        if self.waiting is not None:
            return self.waiting.value
        codes, (_, columns) = self.own.value, self._matrix
        codes = quantizers.unpack_int4(codes, columns, 0, "uint8") if self._packs else codes
        scale, zero = (self.variables[f"{self.place.name}_{kind}"].value for kind in ("scale", "zero"))
        floats = decoded(codes, scale, zero, self.variables["g_idx"].value)  # (columns, rows)
        return self._smoothed(floats).T.reshape(self.place.shape)

    def _smoothed(self, floats: Any) -> Any:
        return floats

    def product(self, inputs: Any, training: bool | None = None, added: Any = None) -> Any:
        if self.seen is not None:
            terms, (rows, _) = self.place.terms, self._matrix
            letters = [terms.kernel[axis] for axis in terms.summed]
            back = len(terms.inputs) if terms.inputs.startswith(".") else 0
            axes = [terms.inputs.index(letter) - back for letter in letters]
            features = jnp.moveaxis(inputs, axes, range(-len(axes), 0)).reshape(-1, rows)
            self.seen.see(np.asarray(features, "float32"))
        return super().product(inputs, training, added)

    def begin(self) -> None:
        """See all inputs from now on."""
        self.seen = self.method(self._matrix[0])

    def calibrate(self) -> None:
        """Make integers of the floats, by what was seen of the inputs."""
        assert self.seen is not None and self.waiting is not None
        matrix = np.asarray(self.waiting.numpy(), "float32").reshape(self._matrix).T
        codes, scale, zero, groups, smoothing = self.seen.quantized(matrix, self.config)
        codes = codes.astype("uint8")
        packed = quantizers.pack_int4(codes, 0, "uint8")[0] if self._packs else codes
        values = (packed, scale, zero.astype("uint8"), smoothing, groups)
        for variable, value in zip(self.variables.values(), values if len(self.variables) == 5 else values[:3] + values[4:]):
            variable.assign(value)
        self.waiting = self.seen = None

    def loaded(self) -> None:
        """The variables have got the values in a file, which are calibrated ones."""
        self.waiting = None

    def in_files(self, added: Any = None) -> dict[str, Any]:
        if self.waiting is not None:
            raise ValueError(
                f"{self.waiting.path}: must be calibrated before it is saved; call quantize({self.mode!r}, config=...) of "
                "the model, which runs the dataset."
            )
        return super().in_files(added)


class AWQ(GPTQ):
    """Integers of what was scaled up before, each input's weights by a scale of their own."""

    mode = "awq"
    method = calibration.AWQ

    def _make_more(self, rows: int) -> None:
        self._make("awq_scales", (rows,), initializer="ones")

    def _smoothed(self, floats: Any) -> Any:
        return floats / self.variables["awq_scales"].value


class LowRank(Kernel):
    """A frozen kernel and what is learned beside it: `kernel + alpha / rank * a @ b`.

    Hu et al. 2021, https://arxiv.org/abs/2106.09685

    Args:
        base: the frozen kernel, of whatever kind.
        rank: the size between `a` and `b`.
        alpha: how much they count.
        initializers: of `a` and `b`.
    """

    def __init__(self, base: Kernel, rank: int, alpha: float, initializers: tuple[Any, Any]):
        super().__init__(base.place, base.config)
        self.factor = alpha / rank
        shape, name = base.place.shape, base.place.name
        shapes = ((*shape[:-1], rank), (rank, shape[-1]))
        self.a, self.b = (
            weight(
                base.place.layer, f"lora_{name}_{which}", size, name, dtype="float32", initializer=start, constraint=None
            )
            for which, size, start in zip("ab", shapes, initializers)
        )
        self._stand_on(base)

    def _stand_on(self, base: Kernel) -> None:
        self.base, self.mode, self.after_bias, self.variables = base, base.mode, base.after_bias, base.variables
        for variable in base.held.values():
            variable.trainable = variable.trainable and variable.overwrite_with_gradient

    def on(self, base: Kernel) -> LowRank:
        """The same beside another frozen kernel."""
        twin = copy.copy(self)
        twin._stand_on(base)
        return twin

    def loaded(self) -> None:
        """What is learned adds nothing; `a` stays, since from two zeros there is no way."""
        self.b.assign(jnp.zeros(self.b.shape))

    @property
    def held(self) -> dict[str, Variable]:
        name = self.place.name
        return {**self.base.held, f"lora_{name}_a": self.a, f"lora_{name}_b": self.b}

    @property
    def _added(self) -> Any:
        return self.factor * (self.a.value @ self.b.value)

    @property
    def floats(self) -> Any:
        return self.base.floats + self._added

    @property
    def whole(self) -> Any:
        return self.floats

    def product(self, inputs: Any, training: bool | None = None, added: Any = None) -> Any:
        if not self.place.splits:
            return self.base.product(inputs, training, self._added)
        low = self.place.product(inputs, self.a.value) @ self.b.value
        return self.base.product(inputs, training) + (self.factor * low).astype(inputs.dtype)

    def rows(self, indices: Any) -> Any:
        return self.base.rows(indices) + self.factor * (jnp.take(self.a.value, indices, axis=0) @ self.b.value)

    def bias(self, bias: Any) -> Any:
        return self.base.bias(bias)

    def in_files(self, added: Any = None) -> dict[str, Any]:
        return self.base.in_files(self._added)


# Mode -> the kind of kernel that the projections have for it.
KINDS: dict[str, type[Kernel]] = {"int8": Int8, "int4": Int4, "float8": Float8, "gptq": GPTQ, "awq": AWQ}
