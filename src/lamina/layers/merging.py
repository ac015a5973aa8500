"""Layers with several inputs and one output."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina import ops
from lamina.core import checks, dtypes, masking, tree
from lamina.core.sparse import call as sparse_call
from lamina.core.sparse import is_sparse
from lamina.layer import Layer
from lamina.layer.masks import only_passes

__all__ = [
    "Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract", "add", "average",
    "concatenate", "dot", "maximum", "minimum", "multiply", "subtract",
]  # fmt: skip


class Merge(Layer):
    """Base of the merging layers: a function of two arrays, applied from left to right.

    Inputs of lower rank get axes behind the batch axis, and sizes of 1 are broadcast.

    Shapes: a list of (batch, ...) -> (batch, ...).

    Raises: ValueError if the shapes do not broadcast.
    """

    combine: Any
    _keeps_sparse = True
    _number: int | None = None  # of inputs, if only one will do
    _by_masks = False  # whether an input counts where its mask is true only, and leaves the others alone else

    def __init_subclass__(cls, combine: Any = None, number: int | None = None, by_masks: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if combine is not None:
            cls.combine, cls._number, cls._by_masks = staticmethod(combine), number, by_masks

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        shapes = input_shape
        if not isinstance(shapes, (list, tuple)) or not all(isinstance(s, (tuple, list)) for s in shapes):
            raise ValueError(f"{self._who()}: must be called on a list of inputs, got one of shape {shapes}.")
        checks.require(len(shapes) >= 1, self._who, "must be called on at least one input", got="none")
        if self._number not in (None, len(shapes)):
            raise ValueError(f"{self._who()}: must be called on exactly {self._number} inputs, got {len(shapes)}.")
        self._check_shapes(shapes)

    def _check_shapes(self, shapes: Sequence[Any]) -> None:
        """The shapes must broadcast."""
        rank = max(map(len, shapes))
        for axis in range(rank):
            sizes = {a[axis] for a in (self._expanded(s, rank) for s in shapes)} - {None, 1}
            if len(sizes) > 1 and axis > 0:
                raise ValueError(f"{self._who()}: inputs must have shapes that broadcast, got {list(shapes)}.")

    @staticmethod
    def _expanded(shape: Sequence[Any], rank: int) -> tuple[Any, ...]:
        """A shape of the full rank: axes of size 1 behind the batch axis."""
        return (*shape[:1], *(1 for _ in range(rank - len(shape))), *shape[1:]) if shape else (1,) * rank

    def call(self, inputs: Any) -> Any:
        arrays = list(inputs)
        rank = max(x.ndim for x in arrays)
        arrays = [ops.reshape(x, self._expanded(x.shape, rank)) if x.ndim < rank else x for x in arrays]
        return self._merge(arrays)

    def _merge(self, arrays: list[Any]) -> Any:
        combine = type(self).combine
        if any(map(is_sparse, arrays)):
            return functools.reduce(lambda *pair: sparse_call(combine.__name__, combine, pair, {}), arrays)
        masks = [masking.get_mask(x) for x in arrays]
        if not self._by_masks or all(mask is None for mask in masks):
            return functools.reduce(combine, arrays)
        ranks = [x.ndim - (0 if m is None else m.ndim) for x, m in zip(arrays, masks)]
        masks = [jnp.asarray(True) if m is None else m.reshape(m.shape + (1,) * n) for m, n in zip(masks, ranks)]
        merged, known = arrays[0], masks[0]
        for x, mask in zip(arrays[1:], masks[1:]):
            merged = jnp.where(mask, jnp.where(known, combine(merged, x), x), merged)
            known = known | mask
        return jnp.where(known, merged, 0) if combine is jnp.multiply else merged  # as in Keras

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where one of the masks is; an input without one is true everywhere."""
        masks = tree.flatten(mask)
        return None if any(m is None for m in masks) else functools.reduce(ops.logical_or, masks)


class Add(Merge, combine=jnp.add):
    """`x1 + x2 + ...`"""


class Multiply(Merge, combine=jnp.multiply, by_masks=True):
    """`x1 * x2 * ...`"""


class Average(Merge, combine=jnp.add):
    """`(x1 + x2 + ...) / n`"""

    def _merge(self, arrays: list[Any]) -> Any:
        dtype = jnp.result_type(*(x.dtype for x in arrays))
        mean = super()._merge([x.astype(dtypes.wide(dtype)) for x in arrays]) / len(arrays)
        return mean.astype(dtypes.floating(dtype))


class Maximum(Merge, combine=jnp.maximum, by_masks=True):
    """`max(x1, x2, ...)`"""


class Minimum(Merge, combine=jnp.minimum, by_masks=True):
    """`min(x1, x2, ...)`"""


class Subtract(Merge, combine=jnp.subtract, number=2):
    """`x1 - x2`

    Raises: ValueError if the inputs are not two, or do not broadcast.
    """


class Concatenate(Merge):
    """The inputs behind one another along an axis.

    Args:
        axis: the axis.

    Shapes: a list of (batch, ...) -> (batch, ...), the sizes along the axis added up.

    Raises: ValueError if other sizes than those along the axis differ.
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def _check_shapes(self, shapes: Sequence[Any]) -> None:
        ranks = {len(shape) for shape in shapes}
        checks.require(len(ranks) <= 1, self._who, "inputs must have the same number of axes", list(shapes))
        rank = ranks.pop()
        checks.require(-rank <= self.axis < rank, self._who, f"axis must be one of {rank} axes", self.axis)
        for axis in range(rank):
            sizes = {shape[axis] for shape in shapes} - {None}
            rule = f"inputs must have equal sizes on all axes but {self.axis}"
            checks.require(len(sizes) <= 1 or axis == self.axis % rank, self._who, rule, list(shapes))

    def call(self, inputs: Any) -> Any:
        return ops.concatenate(list(inputs), self.axis)

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The masks behind one another where the axis is theirs, else true where one is."""
        masks = tree.flatten(mask)
        if all(m is None for m in masks):
            return None
        axis, rank = self.axis % inputs[0].ndim, next(m.ndim for m in masks if m is not None)
        masks = [jnp.ones(x.shape[:rank], bool) if m is None else m for x, m in zip(inputs, masks)]
        return jnp.concatenate(masks, axis) if axis < rank else functools.reduce(jnp.logical_or, masks)


class Dot(Merge):
    """The dot products of two inputs along an axis of each.

    Args:
        axes: the axis of both, or (axis of the first, axis of the second).
        normalize: whether the vectors are made of length 1 first: cosine similarities.

    Shapes: (batch, ..., n, ...) and (batch, ..., n, ...) -> (batch, rest of the first, rest of the second).

    Raises: ValueError if the inputs are not two, or their axes differ in size.
    """

    _number, _keeps_sparse = 2, False

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        valid = isinstance(axes, int) or (len(axes) == 2 and all(isinstance(axis, int) for axis in axes))
        checks.require(valid, self._who, "axes must be an integer or two", axes)
        self.axes, self.normalize = axes, normalize

    def _own_axes(self, shapes: Sequence[Any]) -> tuple[int, int]:
        first, second = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        return first % len(shapes[0]), second % len(shapes[1])

    def _check_shapes(self, shapes: Sequence[Any]) -> None:
        first, second = self._own_axes(shapes)
        sizes = shapes[0][first], shapes[1][second]
        checks.require(first and second, self._who, "axes must not be those of the batch", self.axes)
        if None not in sizes and sizes[0] != sizes[1]:
            raise ValueError(f"{self._who()}: axes {self.axes} must have equal sizes, got {list(shapes)}.")

    def call(self, inputs: Any) -> Any:
        x, y = inputs
        first, second = self._own_axes([x.shape, y.shape])
        if self.normalize:
            x, y = (_of_length_one(a, axis) for a, axis in ((x, first), (y, second)))
        x, y = jnp.moveaxis(x, first, -1), jnp.moveaxis(y, second, -1)
        rest_x, rest_y = x.shape[1:-1], y.shape[1:-1]
        flat = jnp.einsum(
            "bmk,bnk->bmn", x.reshape(x.shape[0], -1, x.shape[-1]), y.reshape(y.shape[0], -1, y.shape[-1])
        )
        return flat.reshape(x.shape[0], *((*rest_x, *rest_y) or (1,)))

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """None: the axes are others."""


def _of_length_one(x: Any, axis: int) -> Any:
    wide = x.astype(dtypes.wide(x.dtype))
    wide = wide * lax.rsqrt(jnp.maximum((wide * wide).sum(axis, keepdims=True), 1e-12))
    return wide.astype(dtypes.floating(x.dtype))


def _function(cls: type[Merge]) -> Callable[..., Any]:
    """The class as a function of the inputs."""

    def call(inputs: Sequence[Any], **kwargs: Any) -> Any:
        return cls(**kwargs)(list(inputs))

    call.__name__ = call.__qualname__ = cls.__name__.lower()
    call.__doc__ = f"`{cls.__name__}(**kwargs)(inputs)`"
    return call


add, subtract, multiply = map(_function, (Add, Subtract, Multiply))
average, maximum, minimum = map(_function, (Average, Maximum, Minimum))


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate(axis, **kwargs)(inputs)`"""
    return Concatenate(axis, **kwargs)(list(inputs))


def dot(inputs: Sequence[Any], axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """`Dot(axes, **kwargs)(inputs)`"""
    return Dot(axes, **kwargs)(list(inputs))
