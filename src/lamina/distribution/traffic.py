"""What travels between devices in a training step: read out of the compiled program, and worked out on paper."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lamina.core import checks
from lamina.distribution.plans import distribution

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CALL = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_BITS = {"pred": 8, **{f"{kind}{bits}": bits for kind in "suf" for bits in (4, 8, 16, 32, 64)}, "bf16": 16, "c64": 64}


class Collective(NamedTuple):
    """Operations of one kind, and the bytes of what they give, on a device."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Traffic:
    """What a training step keeps and sends on each device.

    Attributes:
        plan: its name.
        devices: how many there are.
        state: bytes of weights, the optimizer's state and metrics on a device.
        collectives: what travels in a step.
    """

    plan: str
    devices: int
    state: int
    collectives: tuple[Collective, ...]

    def __str__(self) -> str:
        rows = [f"{c.kind:20}{c.count:8,}{c.bytes:16,}" for c in self.collectives]
        head = f"{self.plan}, devices: {self.devices}, state on each: {self.state:,} bytes"
        return "\n".join([head, f"{'a step':20}{'count':>8}{'bytes':>16}", *(rows or ["nothing travels"])])

    def bytes_of(self, kind: str) -> int:
        """The bytes of all collectives of a kind."""
        return sum(c.bytes for c in self.collectives if c.kind == kind)


def explain(model: Any, x: Any, y: Any = None, sample_weight: Any = None) -> Traffic:
    """What the plan that holds now makes of a training step of `model` on such a batch; nothing is trained.

    Args:
        model: a compiled model.
        x, y, sample_weight: one batch.

    >>> model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> print(lamina.distribution.explain(model, np.ones((8, 2)), np.ones((8, 1))).collectives)
    ()
    """
    program, given = model.compiled_step(x, y, sample_weight)
    plan = distribution()
    state = sum(math.prod(v.stored.sharding.shard_shape(v.shape)) * np.dtype(v.dtype).itemsize for v in given)
    name, devices = ("one device", 1) if plan is None else (type(plan).__name__, plan.device_mesh.devices.size)
    return Traffic(name, devices, state, collectives(program.as_text()))


def collectives(program: str) -> tuple[Collective, ...]:
    """What travels in a program, given as XLA's text; the body of a loop counts once."""
    found: dict[str, list[int]] = {}
    for given, kind, start in _CALL.findall(program):
        arrays = [_size(*array) for array in _ARRAY.findall(given)]
        if start and kind != "all-reduce":  # the arguments come first in what an asynchronous one gives
            arrays = arrays[len(arrays) // 2 :]
        found.setdefault(kind, []).append(sum(arrays))
    return tuple(Collective(kind, len(found[kind]), sum(found[kind])) for kind in KINDS if kind in found)


def _size(dtype: str, shape: str) -> int:
    return math.prod(int(size) for size in shape.split(",") if size) * _BITS.get(dtype, 32) // 8


# ---- on paper -------------------------------------------------------------------------------------------------------

# How often a step gathers the weights under each plan.
_GATHERS = {"data": 0, "optimizer": 1, "fsdp": 1, "fsdp again": 2}


class Forecast(NamedTuple):
    """What a plan would take on so many devices: bytes and seconds a step, and bytes of state on each."""

    plan: str
    devices: int
    state: int
    collectives: tuple[Collective, ...]
    seconds: float


def travelling(plan: str, weights: int, scalars: int = 4, used: int | None = None) -> tuple[Collective, ...]:
    """The bytes that a step's collectives give, on paper.

    Args:
        plan: `"data"`, `"optimizer"` (`DataParallel(shard_optimizer=True)`), `"fsdp"` or `"fsdp again"`.
        weights: bytes of all weights and of their gradients.
        scalars: bytes of losses and metrics, 4 each.
        used: bytes of the weights in the dtype in which layers compute, if another.
    """
    checks.one_of("travelling", "plan", plan, _GATHERS)
    gathered = _GATHERS[plan] * (weights if plan == "optimizer" else used or weights)
    sent = Collective("all-reduce", 1, weights + scalars), Collective("all-gather", 1, gathered)
    return sent if gathered else sent[:1]


def forecast(
    weights: int, devices: Iterable[int], bandwidth: float, latency: float = 1e-5, slots: int = 2, plans: Any = None
) -> list[Forecast]:
    """What each plan would take on clusters that are not there.

    In a ring of n devices an all-reduce of b bytes sends 2 b (n - 1) / n over each link, in 2 (n - 1) turns; an
    all-gather, and a reduce-scatter, half of that (Patarasuk and Yuan, 2009, https://doi.org/10.1016/j.jpdc.2008.09.002).
    What is reduced and kept in parts is taken as a reduce-scatter, as accelerators have it.

    Args:
        weights: bytes of all weights.
        devices: the numbers of devices to look at.
        bandwidth: bytes a second over each link.
        latency: seconds of a turn.
        slots: arrays that the optimizer keeps for each weight: 2 for Adam.
        plans: as in `travelling`; all if not given.
    """
    found = []
    for plan in plans or _GATHERS:
        for n in devices:
            sent = travelling(plan, weights)
            halves = sum(c.bytes * (2 if c.kind == "all-reduce" and plan == "data" else 1) for c in sent)
            turns = (n - 1) * (2 if plan == "data" else len(sent))
            kept = {"data": 1 + slots, "optimizer": 1 + slots / n}.get(plan, (1 + slots) / n)
            found.append(
                Forecast(plan, n, int(weights * kept), sent, halves * (n - 1) / n / bandwidth + turns * latency)
            )
    return found
