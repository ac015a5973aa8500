"""Kernels of integers of 8 and 4 bits, and of 8-bit floats."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina import quantizers
from lamina.core import scope
from lamina.core.arrays import value_of
from lamina.core.variable import Variable
from lamina.layers.kernels import Kernel, realigned


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
        kept = jnp.zeros([1 if axis in terms.summed else size for axis, size in enumerate(self.place.shape)])
        self._make(f"{name}_scale", realigned(kept, terms.kernel, self._of_scale).shape, initializer="ones")
        self._fill(old)

    def _fill(self, old: Kernel | None) -> None:
        for name, value in (self._encoded(old.floats) if old is not None else {}).items():
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

    def product(self, inputs: Any, added: Any = None) -> Any:
        place, quantizer = self.place, self.config.activation_quantizer
        if quantizer is None:
            return super().product(inputs, added)

        def forward(x: Any, codes: Any, scale: Any, floats: Any) -> Any:
            own, own_scale = quantizer(x, axis=place.terms.summed_inputs)
            out = place.product(own, codes).astype("float32")  # of integers: they are added as int32
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
    # The axis of the matrix on which two neighbours share a byte.
    packed = property(lambda self: 0 if self.place.beside else -1)

    def build(self, old: Kernel | None = None) -> None:
        name, axis, blocks = self.place.name, self._axis, self.config.blocks
        codes, scales = list(self.place.matrix), list(self.place.matrix)
        codes[self.packed] = -(-codes[self.packed] // 2)
        self._make(name, tuple(codes), "int8")
        if blocks:
            scales[axis] = -(-scales[axis] // blocks)
        else:
            scales.pop(axis)
        self._make(f"{name}_scale", tuple(scales), initializer="ones")
        if blocks:
            self._make(f"{name}_zero", tuple(scales), None if self.place.beside else "int8")
        if blocks and not self.place.beside:  # whose blocks are those of the other
            self._make("g_idx", (self.place.matrix[axis],), "float32", initializer=self._number)
        self._fill(old)

    def _number(self, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        """The number of the block of each place."""
        return (np.arange(shape[0]) // self.config.blocks).astype(dtype)

    @property
    def _axis(self) -> int:
        """The axis of the matrix that is summed over."""
        return int(self.place.is_table)

    def _encoded(self, array: Any) -> dict[str, Any]:
        name, axis = self.place.name, self._axis
        matrix = np.asarray(value_of(array)).reshape(self.place.matrix)
        if not self.config.blocks:
            quantizer = self.config.weight_quantizer or quantizers.AbsMaxQuantizer(value_range=(-8, 7))
            codes, scale = quantizer(matrix, axis=axis, to_numpy=True)
            more = {f"{name}_scale": scale.squeeze(axis)}
        else:
            found = quantizers.abs_max_quantize_grouped_with_zero_point(
                matrix.T if axis else matrix, self.config.blocks
            )
            codes, scale, zero = (part.T if axis else part for part in found)
            more = {f"{name}_scale": scale, f"{name}_zero": zero}
        return {name: quantizers.pack_int4(codes, self.packed)[0], **more}

    def _decode(self, codes: Any, axis: int, *scales: Any) -> Any:
        """What unpacked integers mean; scales and zeros lie along `axis`, or the scale goes without it."""
        if not self.config.blocks:
            return codes.astype(scales[0].dtype) * jnp.expand_dims(1 / scales[0], axis)
        each = (jnp.repeat(x, self.config.blocks, axis) for x in scales)
        scale, zero = (lax.slice_in_dim(x, 0, codes.shape[axis], axis=axis) for x in each)
        return (codes.astype(scale.dtype) - zero.astype(scale.dtype)) * scale

    @property
    def _scales(self) -> list[Variable]:
        return [v for name, v in self.variables.items() if name not in (self.place.name, "g_idx")]

    @property
    def whole(self) -> Any:
        size = self.place.matrix[self.packed]
        return quantizers.unpack_int4(self.own, size, self.packed).reshape(self.place.shape)

    @property
    def floats(self) -> Any:
        codes = self.whole.reshape(self.place.matrix)
        return self._decode(codes, self._axis, *(v.value for v in self._scales)).reshape(self.place.shape)

    def _factors(self) -> tuple[Any, Any]:
        return self.floats, jnp.ones(())

    def rows(self, indices: Any) -> Any:
        packed, *scales = (jnp.take(v.value, indices, axis=0) for v in (self.own, *self._scales))
        return self._decode(quantizers.unpack_int4(packed, self.place.matrix[1], -1), -1, *scales)


class Float8(Kernel):
    """Floats whose products are those of 8-bit floats: inputs, kernel and the gradients of outputs are rounded.

    The scales are from the largest values of late. Training gets new ones where gradients would be. Micikevicius et
    al. 2022, https://arxiv.org/abs/2209.05433
    """

    mode = "float8"
    rounded = ("inputs", "kernel", "outputs_grad")

    def build(self, old: Kernel | None = None) -> None:
        super().build(old)
        trained: dict[str, Any] = {"trainable": True, "autocast": False, "overwrite_with_gradient": True}
        for what in self.rounded:
            self._make(f"{what}_scale", (), "float32", initializer="ones", **trained)
            self._make(f"{what}_amax_history", (self.place.history,), "float32", **trained)

    def product(self, inputs: Any, added: Any = None) -> Any:
        context = scope.call.get()
        training = context is not None and bool(context.training)

        def scaled(what: str) -> tuple[Any, Any]:
            return self.variables[f"{what}_scale"].value, self.variables[f"{what}_amax_history"].value

        x = _rounded_value(inputs, *scaled("inputs"), training)
        kernel = _rounded_value(self.floats, *scaled("kernel"), training)
        outputs = _rounded_gradient(self.place.product(x, kernel), *scaled("outputs_grad"))
        return outputs if added is None else outputs + self.place.product(inputs, added)

    def bias(self, bias: Any) -> Any:
        """As Keras: float32 is rounded to bfloat16, which kernels of accelerators add."""
        return bias.astype("bfloat16").astype(bias.dtype) if bias.dtype == jnp.float32 else bias


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
    scale, history = kept
    passed = quantizers.quantize_and_dequantize(gradient, scale, "float8_e5m2", gradient.dtype)
    return passed, *_next_scale(gradient, scale, history, "float8_e5m2")


_rounded_gradient.defvjp(lambda x, *scaled: (x, scaled), _rounded_gradient_backward)
