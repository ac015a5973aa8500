"""Dtype policies: what a layer computes in, and what it keeps its weights in."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, configurable, dtypes
from lamina.core.configurable import Configurable
from lamina.core.patterns import PatternMap

QUANTIZATION_MODES = ("int8", "float8", "int4", "gptq", "awq")

_chosen: list[DTypePolicy | None] = [None]  # what new layers get, if the program has said so


class DTypePolicy(Configurable):
    """What a layer computes in and what it keeps its weights in.

    `"float32"`, `"bfloat16"`, ... use one dtype for both; `"mixed_float16"` and `"mixed_bfloat16"` compute in
    16 bits and keep float32 weights. Without a name it is the default policy's.

    Attributes:
        quantization_mode: the mode of quantization, if any.
    """

    quantization_mode: str | None = None

    def __init__(self, name: str | None = None):
        if name is None:
            name = getattr(dtype_policy(), "source_name", dtype_policy().name)
        if not isinstance(name, str):
            raise TypeError(f"DTypePolicy: name must be a string such as 'mixed_bfloat16', got {name!r}.")
        self._name = name
        self._compute_dtype, self._variable_dtype = self._parse_name(name)

    def _parse_name(self, name: str) -> tuple[str, str]:
        if name in ("mixed_float16", "mixed_bfloat16"):
            return name.removeprefix("mixed_"), "float32"
        try:
            dtype = dtypes.standardize_dtype(name)
        except ValueError:
            raise ValueError(
                f"DTypePolicy: name must be a dtype, 'mixed_float16' or 'mixed_bfloat16', got {name!r}."
            ) from None
        return dtype, dtype

    @property
    def name(self) -> str:
        """The name that the policy was made from."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype of a layer's inputs, computation and outputs."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of a layer's weights."""
        return self._variable_dtype

    def convert_input(self, x: Any, autocast: bool, dtype: Any) -> Any:
        """`x` as an array of `dtype` if it is a float array and `autocast` holds."""
        dtype = dtypes.standardize_dtype(dtype)
        if isinstance(x, (int, float)):
            return jnp.asarray(x, dtype if isinstance(x, float) else None)
        current = getattr(x, "dtype", None)
        if autocast and current is not None and dtypes.is_float(current) and dtypes.standardize_dtype(current) != dtype:
            return x.astype(dtype)
        return x

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __repr__(self) -> str:
        return f'<{type(self).__name__} "{self.name}">'


FloatDTypePolicy = DTypePolicy  # an older name


class QuantizedDTypePolicy(DTypePolicy):
    """The policy of a layer whose main weight is quantized; what else there is has the dtypes of another policy.

    Args:
        mode: "int8", "int4", ..., with the numbers that a variant has behind it, such as "gptq/4/128".
        source_name: the name of the other policy; that of the default policy if not given.

    Raises: ValueError if the mode is none, or its numbers are outside their domain.
    """

    # The mode of a variant, and what stands behind it: names, and the values that these may have (`None`: sizes).
    form: tuple[str, Mapping[str, tuple[int, ...] | None]] | None = None

    def __init__(self, mode: str, source_name: str | None = None):
        source = DTypePolicy(source_name)
        self.source_name = source.name
        self._mode = mode
        kind = self._numbered(mode) if self.form else mode
        self.quantization_mode = check_mode(type(self).__name__, kind)
        super().__init__(f"{mode}_from_{self.source_name}")
        possible = kind != "int8" or self.compute_dtype != "float16"
        checks.require(possible, self, "source_name must not compute in float16 with 'int8'", source)

    def _numbered(self, mode: Any) -> str:
        """The mode without the numbers behind it, which become attributes."""
        assert self.form is not None
        kind, numbers = self.form
        first, *given = str(mode).split("/")
        rule = f"{type(self).__name__}: mode must be of the form '{kind}/{'/'.join(f'<{name}>' for name in numbers)}'"
        if first != kind or len(given) != len(numbers) or not all(re.fullmatch(r"-?\d+", text) for text in given):
            raise ValueError(f"{rule}, got {mode!r}.")
        for (name, allowed), number in zip(numbers.items(), map(int, given)):
            if number not in allowed if allowed else number < -1 or number == 0:
                among = f"one of {allowed}" if allowed else "-1 or a positive integer"
                raise ValueError(f"{rule}, with {name} {among}, got {mode!r}.")
            setattr(self, name, number)
        self.mode = kind
        return kind

    def _parse_name(self, name: str) -> tuple[str, str]:
        return super()._parse_name(self.source_name)

    def get_config(self) -> dict[str, Any]:
        return {"mode": self._mode, "source_name": self.source_name}


class QuantizedFloat8DTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer that multiplies numbers of 8-bit floats, with scales from the largest values of late.

    Args:
        mode: "float8".
        source_name: the policy of what is not quantized.
        amax_history_length: how many of the largest values are kept.
    """

    default_amax_history_length = 1024

    def __init__(self, mode: str, source_name: str | None = None, amax_history_length: int = 1024):
        super().__init__(mode, source_name)
        self.amax_history_length = checks.integer(type(self).__name__, "amax_history_length", amax_history_length)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amax_history_length": self.amax_history_length}


class Int4DTypePolicy(QuantizedDTypePolicy):
    """The policy of 4-bit integers with a scale for each block of inputs: `Int4DTypePolicy("int4/128")`."""

    form = ("int4", {"block_size": None})
    block_size: int


class GPTQDTypePolicy(QuantizedDTypePolicy):
    """The policy of kernels quantized by GPTQ: `GPTQDTypePolicy("gptq/4/128")`, 4 bits and groups of 128 inputs."""

    form = ("gptq", {"weight_bits": (2, 3, 4, 8), "group_size": None})
    weight_bits: int
    group_size: int


class AWQDTypePolicy(QuantizedDTypePolicy):
    """The policy of kernels quantized by AWQ: `AWQDTypePolicy("awq/4/128")`, 4 bits and groups of 128 inputs."""

    form = ("awq", {"weight_bits": (4,), "group_size": None})
    weight_bits: int
    group_size: int


class DTypePolicyMap(DTypePolicy, PatternMap):
    """A policy for each layer, by its path: the one under that key, else under the one pattern that matches it whole.

    Args:
        default_policy: of layers that no key matches; the default policy if not given.
        policy_map: path or regular expression -> policy.

    Raises: ValueError or TypeError if an argument is no such thing.
    """

    def __init__(self, default_policy: Any = None, policy_map: dict[str, Any] | None = None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError(f"DTypePolicyMap: default_policy must not be a map itself, got {default_policy}.")
        PatternMap.__init__(self)
        self._given = default_policy
        self.update(policy_map or {})

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of layers that no key matches."""
        return get_policy(self._given)

    name = property(
        lambda self: f"map_{self.default_policy.name}", doc="The name of the default policy in that of the map."
    )
    compute_dtype = property(lambda self: self.default_policy.compute_dtype, doc="That of the default policy.")
    variable_dtype = property(lambda self: self.default_policy.variable_dtype, doc="That of the default policy.")
    quantization_mode: Any = property(
        lambda self: self.default_policy.quantization_mode, doc="That of the default policy."
    )

    def _checked(self, key: str, value: Any) -> DTypePolicy:
        return get_policy(value)

    def _other(self) -> DTypePolicy:
        return self.default_policy

    def get_config(self) -> dict[str, Any]:
        """As that of Keras: without an own default, the policies follow the default of whoever reads this."""
        policies = {key: configurable.serialize(policy) for key, policy in self._entries.items()}
        if self._given is None:
            for form in policies.values():
                form["config"].update(dict.fromkeys(form["config"].keys() & {"name", "source_name"}))
        return {"default_policy": configurable.serialize(self._given), "policy_map": policies}


# Mode -> the policy that its name stands for, as in "int8_from_float32".
_OF_MODE = {
    "int8": QuantizedDTypePolicy, "float8": QuantizedFloat8DTypePolicy, "int4": QuantizedDTypePolicy,
    "int4/": Int4DTypePolicy, "gptq/": GPTQDTypePolicy, "awq/": AWQDTypePolicy,
}  # fmt: skip
_CLASSES = {cls.__name__: cls for cls in (DTypePolicy, DTypePolicyMap, *_OF_MODE.values())}


def check_mode(who: str, mode: Any) -> str:
    """`mode`, a mode of quantization."""
    if mode not in QUANTIZATION_MODES:
        hint = checks.did_you_mean(str(mode), QUANTIZATION_MODES, 0.4)
        raise ValueError(f"{who}: mode must be one of {', '.join(map(repr, QUANTIZATION_MODES))}, got {mode!r}.{hint}")
    return mode


def _of_name(name: str) -> DTypePolicy:
    mode, quantized, source = name.partition("_from_")
    if not quantized:
        return DTypePolicy(name)
    kind, numbered, _ = mode.partition("/")
    return _OF_MODE.get(kind + numbered, _OF_MODE.get(f"{kind}/", QuantizedDTypePolicy))(mode, source)


_plain_policy = functools.cache(DTypePolicy)


def dtype_policy() -> DTypePolicy:
    """The policy that new layers get."""
    chosen = _chosen[0]
    return _plain_policy(dtypes.floatx()) if chosen is None else chosen


def set_dtype_policy(policy: Any) -> None:
    """Set the policy that new layers get, by name or as an object; `None` goes back to `floatx()`."""
    _chosen[0] = None if policy is None else get_policy(policy)


def get_policy(identifier: Any) -> DTypePolicy:
    """A policy from a policy, a name, a dtype, a saved configuration or `None` (the default policy)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict) and "class_name" in identifier:
        cls = _CLASSES.get(identifier["class_name"])
        return cls.from_config(identifier["config"]) if cls is not None else configurable.deserialize(identifier)
    if isinstance(identifier, dict):
        return DTypePolicy.from_config(identifier)
    if isinstance(identifier, str):
        return _of_name(identifier)
    try:
        return DTypePolicy(dtypes.standardize_dtype(identifier))
    except ValueError:
        raise ValueError(f"dtype: must be a DTypePolicy, a name or a dtype, got {identifier!r}.") from None
