"""What a program costs by its equations and by the compiler: floating operations, and bytes."""

import math
from typing import Any

from jax import tree_util

from lamina.core.effects import programs_in

# What moves, makes or renames numbers and computes none.
_MOVES = frozenset({
    "bitcast_convert_type", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p",
    "debug_callback", "device_put", "dynamic_slice", "dynamic_update_slice", "expand_dims", "gather", "iota",
    "optimization_barrier", "pad", "pure_callback", "random_bits", "random_seed", "random_unwrap", "random_wrap",
    "reshape", "rev", "scatter", "slice", "split", "squeeze", "stop_gradient", "threefry2x32", "transpose",
})  # fmt: skip


def flops(jaxpr: Any) -> float:
    """Floating operations of a program: a product and its addition are two, all else is one for each number.

    Loops count as often as they run, where that is known (a `while` once), and of branches the dearest.
    """
    return sum(map(_equation, jaxpr.eqns))


def _equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    inner = [*programs_in([equation])]
    if inner and not name.startswith(("scatter", "reduce", "select_and")):  # whose part is what they do to each number
        costs = [*map(flops, inner)]
        if name == "cond":
            return max(costs)
        return parameters["length"] * costs[0] if name == "scan" else sum(costs)
    given = [v.aval.shape for v in equation.invars if hasattr(v.aval, "shape")]
    out = float(sum(math.prod(v.aval.shape) for v in equation.outvars if hasattr(v.aval, "shape")))
    if name in _MOVES or not given:
        return 0.0
    if name == "dot_general":
        return 2 * out * math.prod(given[0][axis] for axis in parameters["dimension_numbers"][0][0])
    if name == "conv_general_dilated":
        outputs = given[1][parameters["dimension_numbers"].rhs_spec[0]]
        return 2 * out * math.prod(given[1]) / outputs / math.prod(parameters["lhs_dilation"])
    if "window_dimensions" in parameters:
        return out * math.prod(parameters["window_dimensions"])
    if name.startswith(("reduce", "arg", "cum", "sort", "scatter")):
        return float(math.prod(given[-1 if name.startswith("scatter") else 0]))
    return out


def memory(program: Any) -> tuple[int, int]:
    """Bytes that a compiled program takes at once, and those of them that are neither arguments nor outputs."""
    stats = program.memory_analysis()
    if stats is None:  # a device that does not tell
        return 0, 0
    more = max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)  # outputs in no argument's place
    return stats.argument_size_in_bytes + stats.temp_size_in_bytes + more, stats.temp_size_in_bytes


def size_of(structure: Any) -> int:
    """Bytes of the arrays in a structure, or of what has their shapes and dtypes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in tree_util.tree_leaves(structure) if hasattr(x, "dtype"))
