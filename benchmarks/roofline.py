"""What the machine can do, and what a step asks of it.

python -m benchmarks.roofline [--one]     # prints the float32 FLOPs a second of a matmul, on all cores or on one
python -m benchmarks.roofline --card      # prints the name of the GPU
"""

import argparse
import json
import math
import os

import jax

from .worker import seconds

SIZE = 2048
ELEMENTWISE = """add add_any sub mul div rem max min neg abs sign exp exp2 expm1 log log1p tanh logistic sqrt rsqrt erf
    pow integer_pow square"""


def main() -> None:
    """Print the best of a dozen products of two square matrices."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline")
    parser.add_argument("--one", action="store_true", help="on one core")
    parser.add_argument("--card", action="store_true", help="the name of the GPU, and an error if there is none")
    args = parser.parse_args()
    if args.card:
        return print(json.dumps(jax.devices("gpu")[0].device_kind))
    if args.one:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX starts its threads
    matrix = jax.random.normal(jax.random.key(0), (SIZE, SIZE))
    product = jax.jit(lambda a: a @ a).lower(matrix).compile()
    least = min(seconds(lambda: product(matrix).block_until_ready()) for _ in range(12))
    print(2 * SIZE**3 / least)


def flops(fn, *args) -> int:
    """Floating point operations of a call: 2 for each multiplication of a product or convolution, 1 elementwise.

    Counted in the traced program, where XLA's own analysis takes each loop for one round.
    """
    return count(jax.make_jaxpr(fn)(*args).jaxpr)


def count(jaxpr) -> int:
    """Of a traced program, with those inside it."""
    return sum(of_equation(equation) for equation in jaxpr.eqns)


def of_equation(equation) -> int:
    """Of one operation; of branches the dearest counts, and a loop without a known end once."""
    name, params = equation.primitive.name, equation.params
    size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    shapes = [getattr(v.aval, "shape", ()) for v in equation.invars]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * size * math.prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        _, inputs, *window = params["dimension_numbers"].rhs_spec
        zeros = math.prod(params["lhs_dilation"])  # that a strided one's gradient is spread by
        return 2 * size * shapes[1][inputs] * math.prod(shapes[1][axis] for axis in window) // zeros
    values = (v for value in params.values() for v in (value if isinstance(value, tuple | list) else (value,)))
    programs = (getattr(value, "jaxpr", value) for value in values)
    inner = [count(program) for program in programs if hasattr(program, "eqns")]
    if name == "cond":
        return max(inner)
    return params.get("length", 1) * sum(inner) if inner else size * (name in ELEMENTWISE.split())


if __name__ == "__main__":
    main()
