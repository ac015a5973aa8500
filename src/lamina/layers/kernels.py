"""Kinds of kernels: how the main weight of a layer is kept, and what the layer's product makes of it.

A layer has one `Kernel` and asks it for a product, or for rows, whatever kind it is. All kinds make their variables as
Keras does, and say in which order files hold them and what files get. Here are the plain kind and the one of low rank
beside another; `quantized.py` has integers and 8-bit floats, `calibrated.py` integers found beside a dataset.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from lamina import ops
from lamina.core.variable import Variable
from lamina.layer import Layer
from lamina.layers.weights import weight

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
        beside: whether the layer has another kernel, which is first in files.
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
    beside: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it is a matrix whose second axis is summed over."""
        return self.terms.summed == (1,) and len(self.shape) == 2

    @property
    def matrix(self) -> tuple[int, int]:
        """The shape as a matrix of what is summed over and what is not; a table stays as it is."""
        rows = self.shape[0] if self.is_table else math.prod(self.shape[axis] for axis in self.terms.summed)
        return rows, math.prod(self.shape) // rows


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

    def build(self, old: "Kernel | None" = None) -> None:
        """Make the variables, with the values of the kernel `old` if there is one."""
        layer, name, shape, options, *_ = self.place
        self.variables[name] = old.own if old is not None else weight(layer, name, shape, **options)

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

    def product(self, inputs: Any, added: Any = None) -> Any:
        """The layer's product of the inputs and the kernel, to which `added` is added."""
        return self.place.product(inputs, self.floats if added is None else self.floats + added)

    def rows(self, indices: Any) -> Any:
        """The rows of a table."""
        return self.own.rows(indices)

    def bias(self, bias: Any) -> Any:
        """What is added to the product for a bias."""
        return bias

    def loaded(self) -> None:
        """The variables have got the values in a file."""

    def in_files(self, added: Any = None) -> dict[str, Any]:
        """What files get for the variables, or those that change where `added` is added to the kernel."""
        if added is None:
            return {name: v.numpy() for name, v in self.variables.items()}
        return {name: np.asarray(x) for name, x in self._encoded(self.floats + added).items()}

    def _encoded(self, array: Any) -> dict[str, Any]:
        """The values of those variables that differ from one array of floats to another."""
        return {self.place.name: array.astype(self.own.own_dtype)}


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
        options: dict[str, Any] = {"dtype": "float32", "constraint": None}
        self.a, self.b = (
            weight(base.place.layer, f"lora_{name}_{which}", size, name, initializer=start, **options)
            for which, size, start in zip("ab", shapes, initializers)
        )
        self._stand_on(base)

    def _stand_on(self, base: Kernel) -> None:
        self.base, self.mode, self.after_bias, self.variables = base, base.mode, base.after_bias, base.variables
        for variable in base.held.values():
            variable.trainable = variable.trainable and variable.overwrite_with_gradient
            variable.frozen = variable.frozen and variable.overwrite_with_gradient

    def on(self, base: Kernel) -> Self:
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

    def product(self, inputs: Any, added: Any = None) -> Any:
        matrix = len(self.place.shape) == 2
        if not self.place.splits or (self.base.mode is None and not matrix):  # one product costs less than two
            return self.base.product(inputs, self._added)
        low = ops.matmul(self.place.product(inputs, self.a.value), self.b.value)
        return self.base.product(inputs) + (self.factor * low).astype(inputs.dtype)

    def rows(self, indices: Any) -> Any:
        low = ops.matmul(jnp.take(self.a.value, indices, axis=0), self.b.value)
        return self.base.rows(indices) + self.factor * low

    def bias(self, bias: Any) -> Any:
        return self.base.bias(bias)

    def in_files(self, added: Any = None) -> dict[str, Any]:
        return self.base.in_files(self._added)
