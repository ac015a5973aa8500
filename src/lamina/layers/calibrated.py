"""Kernels of integers that are found beside the inputs of a dataset: GPTQ and AWQ."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina import quantizers
from lamina.core import checks
from lamina.core.variable import Variable
from lamina.layers.kernels import Kernel
from lamina.layers.quantized import Float8, Int4, Int8
from lamina.quantizers import calibration
from lamina.quantizers.integers import decoded


class GPTQ(Kernel):
    """Integers that are found beside the inputs of a dataset; until then the floats themselves.

    The kernel is a matrix of what is summed over and what is not. Integers lie transposed, two of 4 bits in a byte.
    """

    mode = "gptq"
    after_bias = True
    method: type[calibration.GPTQ | calibration.AWQ] = calibration.GPTQ
    scales_inputs = False  # whether the weights of each input have a scale of their own
    seen: calibration.GPTQ | calibration.AWQ | None = None  # what is known of the inputs while a dataset runs
    waiting: Variable | None = None  # the floats

    def build(self, old: Kernel | None = None) -> None:
        terms, rule = self.place.terms, f"the axes of {self.place.name} that are summed over must come first"
        given = f"{','.join(terms[:2])}->{terms.outputs}"
        checks.require(terms.summed == tuple(range(len(terms.summed))), self.config, rule, got=given)
        self.waiting = None if old is None else old.own
        rows, columns = self.place.matrix
        groups = -(-rows // self.config.group_size) if self.config.group_size > 0 else 1
        name = self.place.name
        self._make(f"quantized_{name}", (-(-columns // 2) if self._packs else columns, rows), "uint8", name)
        self._make(f"{name}_scale", (columns, groups), initializer="ones")
        self._make(f"{name}_zero", (columns, groups), "uint8", self.place.zero)
        if self.scales_inputs:
            self._make("awq_scales", (rows,), initializer="ones")
        self._make("g_idx", (rows,), "float32")

    @property
    def _packs(self) -> bool:
        return self.config.weight_bits == 4

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
        codes = self.own.value
        codes = quantizers.unpack_int4(codes, self.place.matrix[1], 0, "uint8") if self._packs else codes
        scale, zero = (self.variables[f"{self.place.name}_{kind}"].value for kind in ("scale", "zero"))
        floats = decoded(codes, scale, zero, self.variables["g_idx"].value)  # (columns, rows)
        floats = floats / self.variables["awq_scales"].value if self.scales_inputs else floats
        return floats.T.reshape(self.place.shape)

    def product(self, inputs: Any, added: Any = None) -> Any:
        if self.seen is not None:
            terms, (rows, _) = self.place.terms, self.place.matrix
            letters = [terms.kernel[axis] for axis in terms.summed]
            back = len(terms.inputs) if terms.inputs.startswith(".") else 0
            axes = [terms.inputs.index(letter) - back for letter in letters]
            features = jnp.moveaxis(inputs, axes, range(-len(axes), 0)).reshape(-1, rows)
            self.seen.see(np.asarray(features, "float32"))
        return super().product(inputs, added)

    def begin(self) -> None:
        """See all inputs from now on."""
        self.seen = self.method(self.place.matrix[0])

    def calibrate(self) -> None:
        """Make integers of the floats, by what was seen of the inputs."""
        assert self.seen is not None and self.waiting is not None
        matrix = np.asarray(self.waiting.numpy(), "float32").reshape(self.place.matrix).T
        codes, scale, zero, groups, smoothing = self.seen.quantized(matrix, self.config)
        codes = codes.astype("uint8")
        values = {
            f"quantized_{self.place.name}": quantizers.pack_int4(codes, 0, "uint8")[0] if self._packs else codes,
            f"{self.place.name}_scale": scale,
            f"{self.place.name}_zero": zero.astype("uint8"),
            "awq_scales": smoothing,
            "g_idx": groups,
        }
        for name, variable in self.variables.items():
            variable.assign(values[name])
        self.waiting = self.seen = None

    def loaded(self) -> None:
        """The variables have got the values in a file, which are calibrated ones."""
        self.waiting = None

    def in_files(self, added: Any = None) -> dict[str, Any]:
        if self.waiting is not None:
            raise ValueError(
                f"{self.waiting.path}: must be calibrated before it is saved; the model's "
                f"quantize({self.mode!r}, config=...) runs the dataset."
            )
        return super().in_files(added)


class AWQ(GPTQ):
    """Integers of what was scaled up before, each input's weights by a scale of their own."""

    mode = "awq"
    method, scales_inputs = calibration.AWQ, True


# Mode -> the kind of kernel that the projections have for it.
KINDS: dict[str, type[Kernel]] = {"int8": Int8, "int4": Int4, "float8": Float8, "gptq": GPTQ, "awq": AWQ}
