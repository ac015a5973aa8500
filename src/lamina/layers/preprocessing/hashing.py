"""Strings and integers as one of few numbers, by a hash: Hashing and HashedCrossing."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from lamina.core import checks, dtypes
from lamina.layers.preprocessing import fingerprints
from lamina.layers.preprocessing.encoding import MODES, checked_mode, encode
from lamina.layers.preprocessing.pipelines import HostLayer, is_text, numpy_for
from lamina.layers.preprocessing.strings import Integers, Table, of_each, strings

_CROSSING_KEY = 0xDECAFCAFFE


class Binned(HostLayer):
    """Base of the layers whose integers are below `num_bins`."""

    _modes: tuple[str, ...] = ("int", *MODES)

    def __init__(
        self,
        num_bins: int,
        output_mode: str = "int",
        sparse: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype="int64" if dtype is None and output_mode == "int" else dtype, **kwargs)
        self.num_bins = checks.integer(self._who, "num_bins", num_bins)
        self.output_mode = checked_mode(self._who(), output_mode, self._modes, sparse)
        self.sparse = False

    def encoded(self, indices: Any) -> Any:
        if self.output_mode == "int":
            return indices.astype(self.compute_dtype) if isinstance(indices, np.ndarray) else indices
        return encode(indices, self.output_mode, self.num_bins, self.compute_dtype)


class Hashing(Binned):
    """The bin of each string or integer: its hash modulo the number of bins.

    The hash is FarmHash64 of the string, or of the integer's decimal string; the bins are those of TensorFlow.

    Args:
        num_bins: the number of bins; with a `mask_value` the first one is for that alone.
        mask_value: the value that gets bin 0.
        salt: an integer or two: the hash is SipHash with this key.
        output_mode: "int", or what becomes of the numbers: "one_hot", "multi_hot" or "count".
        sparse: must be false.

    Shapes: (...) of strings or integers -> the same; with another output mode see CategoryEncoding.

    >>> layers.Hashing(3)(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """

    def __init__(
        self,
        num_bins: int,
        mask_value: Any = None,
        salt: Any = None,
        output_mode: str = "int",
        sparse: bool = False,
        **kwargs: Any,
    ):
        if kwargs.get("dtype") is None and output_mode != "int":
            kwargs["dtype"] = dtypes.floatx()
        super().__init__(num_bins, output_mode, sparse, **kwargs)
        who = self._who()
        if self.output_mode == "int" and not dtypes.is_int(self.compute_dtype):
            raise ValueError(f"{who}: dtype must be an integer one with output_mode='int', got {self.compute_dtype!r}.")
        if not (isinstance(mask_value, (str, bytes, type(None))) or checks.is_integer(mask_value, -(2**63))):
            raise ValueError(f"{who}: mask_value must be a string, an integer or None, got {mask_value!r}.")
        self.mask_value, self.salt = mask_value, fingerprints.checked_salt(who, salt)

    def indices(self, inputs: Any) -> Any:
        xp, masks = numpy_for(inputs), self.mask_value is not None and self.num_bins > 1
        bins = self._bins(inputs, self.num_bins - masks)
        if not masks:
            return bins
        mask: Any = self.mask_value
        if isinstance(inputs, np.ndarray) and is_text(inputs):
            known = Table(strings([mask] if isinstance(mask, (str, bytes)) else [], self._who()))
            masked = (known.numbers(strings(inputs, self._who())) == 0).reshape(inputs.shape)
        else:
            masked = inputs == mask if not isinstance(mask, (str, bytes)) else xp.zeros(inputs.shape, bool)
        return xp.where(masked, 0, bins + 1)

    def _bins(self, inputs: Any, count: int) -> Any:
        on_host = isinstance(inputs, np.ndarray)
        if inputs.dtype == bool:
            table = fingerprints.bins(strings([b"false", b"true"], ""), count, self.salt)
            return numpy_for(inputs).asarray(table)[inputs.astype("int32")]
        if on_host and is_text(inputs):

            def part(texts: np.ndarray) -> np.ndarray:
                return fingerprints.bins(strings(texts, self._who()), count, self.salt)

            return of_each(part, inputs.ravel()).reshape(inputs.shape)
        whole = inputs if inputs.dtype.kind in "iu" else inputs.astype("int64" if on_host else "int32")
        return fingerprints.bins(Integers(whole) if on_host else whole, count, self.salt).reshape(inputs.shape)


class HashedCrossing(Binned):
    """The bin of each combination of values of several features, by a hash of them all.

    Args:
        num_bins: the number of bins.
        output_mode: "int", or "one_hot" for vectors.
        sparse: must be false.

    Shapes: a list of (batch) or (batch, 1) of strings or integers -> the same; with "one_hot" (batch, num_bins).

    >>> layers.HashedCrossing(5)([np.array(["a", "b"]), np.array([1, 2])]).tolist()
    [0, 2]
    """

    several = True
    _modes = ("int", "one_hot")

    def indices(self, inputs: Any) -> Any:
        self._check(inputs)
        out: Any = np.full(inputs[0].shape, _CROSSING_KEY, np.uint64)
        with np.errstate(over="ignore"), jax.enable_x64(True):
            for x in inputs:
                x = x if isinstance(x, Tracer) else np.asarray(x)
                hashes = fingerprints.fingerprints(strings(x, self._who())).reshape(x.shape) if is_text(x) else x
                out = fingerprints.joined_fingerprints(out, hashes.astype("uint64"))
            return (out % np.uint64(self.num_bins)).astype("int64" if isinstance(out, np.ndarray) else "int32")

    def _check(self, inputs: Any) -> None:
        who = self._who()
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ValueError(f"{who}: the input must be a list of at least two arrays, got {checks.shorten(inputs)}.")
        shapes = [tuple(x.shape) for x in inputs]
        if len(set(shapes)) > 1 or len(shapes[0]) > 2 or (len(shapes[0]) == 2 and shapes[0][1] != 1):
            raise ValueError(f"{who}: the inputs must have one shape, (batch,) or (batch, 1), got {shapes}.")
        wrong = [str(x.dtype) for x in inputs if not is_text(x) and not dtypes.is_int(x.dtype)]
        if wrong:
            raise ValueError(f"{who}: the inputs must hold integers or strings, got dtype {wrong[0]}.")

    def _symbolic_indices(self, inputs: Any) -> Any:
        self._check(inputs)
        return super()._symbolic_indices(inputs[0])

    def get_config(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("num_bins", "output_mode", "sparse", "name")}
        return {**named, "dtype": self.dtype_policy.name}
