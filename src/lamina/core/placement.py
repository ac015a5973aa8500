"""Where arrays lie on several devices: the plan that holds now, and what the library asks of it.

A plan (`lamina.distribution`) says of each variable how it is stored and how layers see it, and over which devices the
rows of a batch go. Programs are partitioned by XLA: all that is said here are the layouts of what goes in, of what
stays between steps, and of weights where they are used. Without a plan nothing here does anything.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import tree_util
from jax.core import Tracer
from jax.sharding import Sharding

from lamina.core import handover, scope
from lamina.core.later import Later

_jax: Any = Later("jax.experimental.multihost_utils")
_bound = jax.lax.with_sharding_constraint


class Placement(NamedTuple):
    """How the array of a variable lies: in its cell, and inside a layer."""

    stored: Sharding
    used: Sharding


class Plan:
    """What a plan answers; `lamina.distribution` has those that there are."""

    replicated: Sharding  # whole on every device
    auto_shard_dataset: bool = True  # whether all processes read the same stream; else each has its own rows
    gathers_again: bool = False  # whether the backward pass gathers weights a second time rather than keep them

    def placement_of(self, variable: Any) -> Placement:
        """How a variable is stored and used."""
        raise NotImplementedError

    def rows(self, shape: Sequence[int], before: int = 0) -> Sharding:
        """The layout of data whose rows lie on axis `before`; whole on every device where the mesh does not divide."""
        raise NotImplementedError

    def look_for_slips(self, paths: Sequence[str]) -> None:
        """Warn of what the plan says of variables that are not among these."""

    def output(self, path: str) -> Sharding | None:
        """The layout of what the layer at a path gives, if it has one of its own."""
        raise NotImplementedError


_plan: Plan | None = None
_once = False  # whether there ever was a plan: then arrays may lie on several devices
_asked_for: Callable[[], Any] | None = None  # makes the plan that the environment names, when first asked


def current() -> Plan | None:
    """The plan that holds now."""
    global _asked_for
    if _asked_for is not None:
        make, _asked_for = _asked_for, None
        make()
    return _plan


def use(plan: Plan | None) -> None:
    """Let a plan hold from now on."""
    global _plan, _once, _asked_for
    _asked_for = None
    _plan, _once = plan, _once or plan is not None


def when_asked(make: Callable[[], Any]) -> None:
    """Let `make` set the plan when the first array is placed: only then may devices be looked for."""
    global _asked_for
    _asked_for = make


def put(array: Any, sharding: Sharding) -> jax.Array:
    """The array in that layout, in memory of its own if it has to move."""
    if isinstance(array, jax.Array) and array.sharding.is_equivalent_to(sharding, array.ndim):
        return array
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding, may_alias=False)
    host = to_host(array)  # the same in each process, which sends what its devices hold
    return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def to_host(array: Any) -> np.ndarray:
    """The whole array as NumPy's, in each process."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        array = _jax.experimental.multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


# ---- variables -----------------------------------------------------------------------------------------------


def placed(variable: Any, array: Any) -> Any:
    """A new array for a variable, where the plan stores it."""
    plan = current()
    return array if plan is None or isinstance(array, Tracer) else put(array, plan.placement_of(variable).stored)


def arrange(variables: Iterable[Any]) -> None:
    """Move the arrays of variables to where the plan stores them: it may be younger than they are."""
    plan = current()
    if not _once:
        return
    with handover.still:
        for variable in variables:
            array = variable.stored
            if plan is not None:
                moved = put(array, plan.placement_of(variable).stored)
            elif len(array.sharding.device_set) > 1:
                moved = jax.device_put(to_host(array), may_alias=False)
            else:
                continue
            if moved is not array:
                variable.take(moved)


def meet(variables: Iterable[Any]) -> None:
    """Let the plan see the variables of a training: `arrange`, and a word where it speaks of others."""
    variables = list(variables)
    arrange(variables)
    plan = current()
    if plan is not None:
        plan.look_for_slips([v.path for v in variables])


def as_used(variable: Any, value: Any) -> Any:
    """The value of a variable as a layer sees it.

    First in the layout in which it is stored, then in the other: so it is gathered after it was cast, and its gradient
    comes back in the layout of the variable.
    """
    plan = current()
    if plan is None or not isinstance(value, Tracer) or scope.call.get() is None:
        return value
    stored, used = plan.placement_of(variable)
    if stored == used:
        return value
    return _bound(_bound(value, stored), used)


def gathering(fn: Callable) -> Callable:
    """`fn`, to be differentiated: weights are kept from the forward pass, or gathered again in the backward one."""
    plan = current()
    if plan is None or not plan.gathers_again:
        return fn
    return jax.checkpoint(fn, policy=lambda primitive, *_, **__: primitive.name != "sharding_constraint")


def pinned(variables: Sequence[Any], values: Iterable[Any]) -> list[Any]:
    """New values, in the layout in which their variables are stored."""
    plan = current()
    if plan is None:
        return list(values)
    return [_bound(value, plan.placement_of(variable).stored) for variable, value in zip(variables, values)]


def structs(variables: Sequence[Any]) -> tuple:
    """What tells a compiler of the arrays of variables."""
    plan = current()
    return tuple(
        jax.ShapeDtypeStruct(v.shape, v.own_dtype, sharding=None if plan is None else plan.placement_of(v).stored)
        for v in variables
    )


# ---- data ----------------------------------------------------------------------------------------------------


def rows(data: Any, before: int = 0) -> Any:
    """Data with rows on axis `before`, each row on its device; shapes of such data get their layout."""
    plan = current()
    if plan is None:
        return data
    return tree_util.tree_map(lambda leaf: laid(leaf, plan.rows(np.shape(leaf), before)), data)


def sent(data: Any, before: int | None = None, size: int | None = None) -> Any:
    """Data on the device, or on those of the plan: by rows on axis `before`, or whole on each.

    With `size` rows in all, each process has its own, or all of them.
    """
    if current() is None:
        return jax.device_put(data)
    if before is not None and size is not None and processes() > 1:
        return _joined(data, size, before)
    return whole(data) if before is None else rows(data, before)


def whole(data: Any) -> Any:
    """Data on every device."""
    plan = current()
    if plan is None:
        return data
    return tree_util.tree_map(lambda leaf: laid(leaf, plan.replicated), data)


def laid(leaf: Any, sharding: Sharding) -> Any:
    """An array, what is traced, or the shape of one, in a layout."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return _bound(leaf, sharding) if isinstance(leaf, Tracer) else put(leaf, sharding)


def laid_out(outputs: Any) -> Any:
    """What the layer that is called now gives, in the layout that the plan has for its path."""
    plan = current()
    sharding = None if plan is None else plan.output(scope.current_path())
    if sharding is None:
        return outputs
    return tree_util.tree_map(lambda leaf: laid(leaf, sharding), outputs)


# ---- processes that train together ---------------------------------------------------------------------------


def processes() -> int:
    """How many train together. Looks for no devices before they have joined."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return processes() == 1 or jax.process_index() == 0


def agreed(number: int) -> int:
    """The first process's number, in all of them: whatever comes from a clock or from chance."""
    if processes() == 1:
        return number
    halves = np.array([number >> 31, number & 0x7FFFFFFF], np.int32)
    high, low = _jax.experimental.multihost_utils.broadcast_one_to_all(halves).tolist()
    return (high << 31) | low


def least(number: Any) -> Any:
    """The least number that any process has; of a list of numbers the least of each."""
    if processes() == 1:
        return number
    return _jax.experimental.multihost_utils.process_allgather(np.int32(number)).min(axis=0).tolist()


def any_of(flag: bool) -> bool:
    """Whether it is so in any process."""
    return not least(not flag)


def barrier() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        _jax.experimental.multihost_utils.sync_global_devices("lamina")


def own_rows(size: int) -> slice | None:
    """Which rows of a batch of `size` the devices of this process have, `None` for all."""
    plan = current()
    if plan is None or processes() == 1:
        return None
    (rows,) = zip(*plan.rows((size,)).addressable_devices_indices_map((size,)).values())
    found = slice(min(r.start or 0 for r in rows), max(size if r.stop is None else r.stop for r in rows))
    return None if found == slice(0, size) else found


def own_part(size: int) -> tuple[slice, int]:
    """Which rows of a stream's batch are this process's, and how many there are in all processes."""
    plan = current()
    if plan is not None and not plan.auto_shard_dataset:
        return slice(None), size * processes()
    return own_rows(size) or slice(None), size


def _joined(data: Any, size: int, before: int) -> Any:
    """Batches of `size` rows from those that each process has."""
    plan = current()
    assert plan is not None

    def join(leaf: Any) -> Any:
        shape = leaf.shape if np.ndim(leaf) <= before else (*leaf.shape[:before], size, *leaf.shape[before + 1 :])
        sharding = plan.rows(shape, before)
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf), shape)

    return tree_util.tree_map(join, data)
