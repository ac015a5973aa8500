"""What a layer computes in and keeps its weights in, and how it is quantized: its dtype policy."""

import itertools
from typing import Any

from lamina.core.policy import AWQDTypePolicy, DTypePolicy, DTypePolicyMap, GPTQDTypePolicy, get_policy
from lamina.layer.parts import Composite, walk

_changes = itertools.count(1)
_newest = [0]  # the number of the last change of a built layer's weights, of all layers


def weights_changed() -> None:
    """A built layer has got other weights: what was compiled for those before is out of date."""
    _newest[0] = next(_changes)


def newest_change() -> int:
    """The number of the last such change."""
    return _newest[0]


class Typed(Composite):
    """A layer's dtype policy; where that is a map, what it says of the layer's path."""

    _dtype_policy: DTypePolicy
    call: Any

    def _own_policy(self) -> DTypePolicy:
        policy = self._dtype_policy
        return policy[self.path] if isinstance(policy, DTypePolicyMap) else policy  # type: ignore[attr-defined]

    @property
    def dtype_policy(self) -> Any:
        """The dtype policy. To set a quantized one on a built layer is to quantize it."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        policy = get_policy(value)
        follows = self.built and policy.quantization_mode not in (None, self.quantization_mode)
        if follows and isinstance(policy, (GPTQDTypePolicy, AWQDTypePolicy)):
            rule = f"of mode {policy.quantization_mode!r} must not be set on a built layer, got {policy.name!r}"
            raise ValueError(f"{self._who()}: a dtype_policy {rule}; call quantize with a config, which has the data.")
        self._set_policy(policy)
        if follows:
            self._follow_policy(policy)

    def _set_policy(self, policy: DTypePolicy) -> None:
        known = self._dtype_policy
        if isinstance(known, DTypePolicyMap) and not isinstance(policy, DTypePolicyMap):
            if self.path in known:  # type: ignore[attr-defined]
                del known[self.path]  # type: ignore[attr-defined]
            known[self.path] = policy  # type: ignore[attr-defined]  # the layers around, which share it, save it
        else:
            self._dtype_policy = policy

    def _saved_policy(self) -> DTypePolicy:
        """What a configuration says: a map, if layers that this one makes have been quantized since."""
        policy = self._dtype_policy
        inside = [layer for layer in walk(self)[1:] if layer.quantization_mode is not None]
        if not inside or isinstance(policy, DTypePolicyMap):
            return policy
        return DTypePolicyMap(policy, {layer.path: layer._own_policy() for layer in inside})

    def _follow_policy(self, policy: DTypePolicy) -> None:
        """Quantize the built layer as the policy says; a layer that cannot be quantized has nothing to do."""

    @property
    def dtype(self) -> str:
        """The dtype of the weights."""
        return self.variable_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights."""
        return self._own_policy().variable_dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype that the layer computes in."""
        return self._own_policy().compute_dtype

    @property
    def input_dtype(self) -> str:
        """The dtype that float inputs are cast to."""
        return self.compute_dtype

    @property
    def quantization_mode(self) -> str | None:
        """The mode that the layer is quantized in, if any."""
        return self._own_policy().quantization_mode

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Make integers, or floats of 8 bits, of the main weight; for layers that have a form for that."""
        del type_check, config
        raise NotImplementedError(f"{self._who()}: has no weight that can be quantized, got mode={mode!r}.")

    def quantized_build(self, input_shape: Any, mode: str) -> None:
        """Make the variables of the quantized weight; for layers that have a form for that."""
        del input_shape
        raise NotImplementedError(f"{self._who()}: has no weight that can be quantized, got mode={mode!r}.")

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes under a quantized policy: `call`, whose weights know how they are kept."""
        return self.call(*args, **kwargs)
