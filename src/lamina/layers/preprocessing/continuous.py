"""Numbers on a line: Normalization to mean 0 and variance 1, Discretization into bins."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from lamina.core import checks, configurable, dtypes
from lamina.core.arrays import value_of
from lamina.core.symbolic import KerasTensor
from lamina.layers.preprocessing.encoding import MODES, checked_mode, encode
from lamina.layers.preprocessing.pipelines import Adapts, numbers, numpy_for


class Normalization(Adapts):
    """`(x - mean) / sqrt(variance)`, with the mean and variance of the data that `adapt` was given.

    Args:
        axis: the axis, or axes, whose elements are kept apart; `None` takes one mean of all.
        mean, variance: those to use in place of learned ones; both or none.
        invert: whether to undo it: `mean + x * sqrt(variance)`.

    Shapes: (batch, ...) -> the same.

    Raises: ValueError if an axis is not there or of unknown size, or only one of mean and variance is given.

    >>> layer = layers.Normalization()
    >>> layer.adapt(np.array([[1.0], [3.0]]))
    >>> layer(np.array([[5.0]])).tolist()
    [[3.0]]
    """

    _not_parts = Adapts._not_parts | {"_totals"}
    _given_by = "mean and variance were given"

    def __init__(self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        axes = () if axis is None else (axis,) if checks.is_integer(axis, -99) else axis
        if not isinstance(axes, Sequence) or not all(checks.is_integer(each, -99) for each in axes):
            raise ValueError(f"{self._who()}: axis must be an integer, a tuple of them or None, got {axis!r}.")
        self.axis = checks.integers(tuple(axes))
        given = f"mean={checks.shorten(mean)} and variance={checks.shorten(variance)}"
        both = (mean is None) == (variance is None)
        checks.require(both, self._who, "mean and variance must be given together", got=given)
        shapes = [np.shape(each) for each in (mean, variance) if each is not None]
        fit = not shapes or (shapes[0] == shapes[1] and len(shapes[0]) <= len(self.axis))
        rule = f"mean and variance must have one shape of at most {len(self.axis)} axes"
        checks.require(fit, self._who, rule, got=" and ".join(map(str, shapes)))
        self.input_mean, self.input_variance = (
            None if each is None else np.asarray(value_of(each), dtypes.floatx()) for each in (mean, variance)
        )
        self.is_given, self.invert = mean is not None, bool(invert)
        self.supports_masking = True
        self.autocast = False  # what comes in may lie far from 0, and be near its mean
        self.adapt_mean: Any = None
        self._totals: tuple[Any, ...] | None = None  # count, mean and sum of squared differences of what was seen

    def build(self, input_shape: Any) -> None:
        rank = len(input_shape)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ValueError(f"{self._who()}: axis must be among the {rank} axes of the inputs, got {self.axis}.")
        self._kept = tuple(sorted(axis % rank for axis in self.axis))
        sizes = tuple(checks.known_size(self._who, tuple(input_shape), axis) for axis in self._kept)
        self._shape = tuple(input_shape[i] if i in self._kept else 1 for i in range(rank))  # of both beside the inputs
        if self.input_mean is None:
            self.adapt_mean = self.add_weight(sizes, "zeros", trainable=False, autocast=False, name="mean")
            self.adapt_variance = self.add_weight(sizes, "ones", trainable=False, autocast=False, name="variance")
            self.count = self.add_weight((), "zeros", "int32", trainable=False, name="count")  # 0, as in Keras
        else:
            self._beside(self.input_mean)  # which checks it

    def _beside(self, value: Any) -> Any:
        """A mean or variance in a shape that lies beside the inputs."""
        shape = np.ones(len(self._shape), int)
        for axis, size in zip(reversed(self._kept), reversed(value.shape)):
            shape[axis] = size
        try:
            return numpy_for(value).broadcast_to(value.reshape(shape), self._shape).astype(dtypes.wide(value.dtype))
        except ValueError:
            raise ValueError(
                f"{self._who()}: mean and variance must fit inputs of shape {self._shape}, got {value.shape}."
            ) from None

    @property
    def mean(self) -> Any:
        """The mean, beside the inputs; `None` before the layer is built."""
        return self._beside(self._statistics[0]) if self.built else None

    @property
    def variance(self) -> Any:
        """The variance, beside the inputs; `None` before the layer is built."""
        return self._beside(self._statistics[1]) if self.built else None

    @property
    def _statistics(self) -> tuple[Any, Any]:
        """The mean and the variance as they were given or learned."""
        if self.adapt_mean is None:
            return self.input_mean, self.input_variance
        return self.adapt_mean.value, self.adapt_variance.value

    def call(self, inputs: Any) -> Any:
        given: Any = self._statistics
        if isinstance(inputs, np.ndarray):  # processes of loaders have no device
            given = map(np.asarray, given)
        mean, variance = map(self._beside, given)
        xp, x = numpy_for(variance), inputs.astype(dtypes.wide(inputs.dtype), copy=False)
        deviation = xp.maximum(xp.sqrt(variance), np.asarray(dtypes.epsilon(), variance.dtype))
        if isinstance(x, np.ndarray) and x.size and x.ndim - 1 in self._kept[:1]:  # many rows as one, for NumPy's sake
            rows = math.gcd(x.size // x.shape[-1], 256)
            x = x.reshape(-1, rows * x.shape[-1])
            mean, deviation = (np.tile(value.ravel(), rows) for value in (mean, deviation))
        if self.invert:
            x = x * deviation
            x += mean
        else:
            x = x - mean
            x *= 1 / deviation
        return numpy_for(inputs).asarray(x, self.compute_dtype).reshape(inputs.shape)

    def adapt(self, data: Any, steps: int | None = None) -> None:
        super().adapt(data, steps)
        if self._totals is None:
            raise ValueError(f"{self._who()}: adapt must get at least one number, got none.")

    def update_state(self, data: Any) -> None:
        x = np.asarray(numbers(data, self._who()), np.float64)
        if not x.size:
            return
        if not self.built:
            kept = {axis % x.ndim for axis in self.axis if -x.ndim <= axis < x.ndim}
            self.build(tuple(size if i in kept else None for i, size in enumerate(x.shape)))
        if len(x.shape) != len(self._shape) or any(x.shape[i] != self._shape[i] for i in self._kept):
            wanted = tuple(size if i in self._kept else None for i, size in enumerate(self._shape))
            raise ValueError(f"{self._who()}: the data must have shape {wanted}, got {x.shape}.")
        reduced = tuple(i for i in range(x.ndim) if i not in self._kept)
        n, mean = x.size // max(1, int(np.prod(self._shape))), x.mean(reduced)
        squares = ((x - np.expand_dims(mean, reduced)) ** 2).sum(reduced)
        if self._totals is not None:  # Chan, Golub and LeVeque, 1979: the moments of two parts together
            before, other, more = self._totals
            far = mean - other
            squares = squares + more + far**2 * (before * n / (before + n))
            mean, n = other + far * (n / (before + n)), before + n
        self._totals = n, mean, squares

    def finalize_state(self) -> None:
        if self._totals is not None:
            n, mean, squares = self._totals
            self.adapt_mean.assign(mean.astype(np.float32))
            self.adapt_variance.assign((squares / n).astype(np.float32))

    def reset_state(self) -> None:
        self._totals = None

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        if name not in ("mean", "variance"):
            return super()._argument(owner, name, recorded)
        return None if recorded is None else np.asarray(value_of(recorded)).tolist()


class Discretization(Adapts):
    """The number of the bin that each value falls into: bin `i` holds `boundaries[i - 1] <= x < boundaries[i]`.

    Args:
        bin_boundaries: the boundaries, lowest first.
        num_bins: in place of boundaries, so many bins that hold about as many of the values that `adapt` was given.
        epsilon: about the share of values by which the boundaries that are learned may be off: what is kept of the
            data is a summary of `1 / epsilon` values.
        output_mode: "int", or what becomes of the numbers: "one_hot", "multi_hot" or "count".
        sparse: whether vectors come in a sparse array of JAX.

    Shapes: (...) -> the same; with another output mode see CategoryEncoding.

    >>> layers.Discretization([0.0, 1.0])(np.array([-2.0, 0.0, 0.5, 3.0])).tolist()
    [0, 1, 1, 2]
    """

    _given_by = "bin_boundaries were given; give num_bins"

    def __init__(
        self,
        bin_boundaries: Any = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ):
        super().__init__(dtype=dtype, name=name)
        who = self._who()
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError(
                f"{who}: either bin_boundaries or num_bins must be given, got {bin_boundaries!r} and {num_bins!r}."
            )
        self.is_given = num_bins is None
        self.num_bins = None if num_bins is None else checks.integer(who, "num_bins", num_bins)
        self.bin_boundaries = None if bin_boundaries is None else _ascending(who, bin_boundaries)
        self.epsilon = checks.positive(who, "epsilon", checks.number(who, "epsilon", epsilon, 0, 1))
        self.output_mode = checked_mode(who, output_mode, ("int", *MODES), sparse and output_mode == "int")
        self.sparse = bool(sparse)
        self.summary = np.zeros((2, 0), "float32")

    @property
    def output_dtype(self) -> str:
        """The dtype of the outputs."""
        return "int32" if self.output_mode == "int" else self.compute_dtype

    @property
    def input_dtype(self) -> str:
        return dtypes.floatx()

    def call(self, inputs: Any) -> Any:
        if self.bin_boundaries is None:
            raise self._not_ready("bin_boundaries")
        x = inputs.astype(dtypes.floatx())
        bounds = np.asarray(self.bin_boundaries, x.dtype)
        places = _places(x, bounds).astype("int32")
        if self.output_mode == "int":
            return places
        return encode(places, self.output_mode, len(bounds) + 1, self.output_dtype, sparse=self.sparse)

    def _evaluate(self, inputs: Any) -> Any:
        """A layer that is to learn its boundaries later may stand in a graph before."""
        if self.bin_boundaries is not None:
            return super()._evaluate(inputs)
        bounds = [0.0] * ((self.num_bins or 1) - 1)
        twin = type(self)(bounds, None, self.epsilon, self.output_mode, self.sparse, self.dtype_policy)
        return twin.compute_output_spec(KerasTensor(inputs.shape, inputs.dtype))

    @property
    def is_ready(self) -> bool:
        return self.bin_boundaries is not None

    def update_state(self, data: Any) -> None:
        values = np.asarray(numbers(data, self._who()), "float32")
        both = np.concatenate([_summary(values, self.epsilon), self.summary], axis=1)
        self.summary = _compressed(both[:, np.argsort(both[0])], self.epsilon)

    def finalize_state(self) -> None:
        if self.num_bins is not None and self.summary.size:
            self.bin_boundaries = _compressed(self.summary, 1.0 / self.num_bins)[0, :-1].tolist()

    def reset_state(self) -> None:
        self.summary = np.zeros((2, 0), "float32")

    def get_config(self) -> dict[str, Any]:
        names = ("bin_boundaries", "num_bins", "epsilon", "output_mode", "sparse", "name")
        return {**{name: getattr(self, name) for name in names}, "dtype": self.dtype_policy.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        values = {key: configurable.deserialize(value) for key, value in config.items()}
        learned = values.pop("bin_boundaries", None) if values.get("num_bins") is not None else None
        layer = cls(**values)
        layer.bin_boundaries = layer.bin_boundaries if learned is None else _ascending(cls.__name__, learned)
        return layer


def _places(x: Any, bounds: np.ndarray) -> Any:
    """How many bounds each value reaches; NaN reaches all."""
    if numpy_for(x) is not np or len(bounds) > 255:
        return numpy_for(x).searchsorted(bounds, x, side="right")
    places = np.full(x.shape, len(bounds), np.uint8)
    for bound in bounds:  # a search of each value takes ten times as long
        places -= (x < bound).view(np.uint8)
    return places


def _ascending(who: str, boundaries: Any) -> list[float]:
    values = np.asarray(value_of(boundaries))
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not (np.diff(values) >= 0).all():
        raise ValueError(f"{who}: bin_boundaries must be numbers, lowest first, got {checks.shorten(boundaries)}.")
    return values.tolist()


# A summary of values: an ascending sample of them, and how many values each stands for (2, size) ---------------------


def _summary(values: np.ndarray, epsilon: float) -> np.ndarray:
    """Each so manieth of the sorted values."""
    ordered = np.sort(values.reshape(-1))
    step = max(ordered.size / (1.0 / epsilon), 1)
    sample = ordered[int(step - 1) :: int(step)]
    return np.stack([sample, np.full_like(sample, step)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """A summary of `1 / epsilon` values that stand for as many each, interpolated where they lie between."""
    if summary.shape[1] * epsilon < 1:
        return summary
    shares = epsilon + np.arange(0.0, 1.0, epsilon)
    until = summary[1].cumsum()
    found = until / until[-1]
    ends = np.interp(shares, found, until)
    weights = ends - np.concatenate([[0], ends[:-1]])
    return np.stack([np.interp(shares, found, summary[0]), weights]).astype("float32")
