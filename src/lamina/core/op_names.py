"""How calls of ops stand in files: Keras has a class for each op, and `mean(x, axis=1)` is `Mean(axis=1)(x)` there.

The class name is the op's in camel case, its module is the op's, and the arguments fall into those that the class is
made with (the settings) and those that it is called on. All three derive from the op's name and signature.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lamina.core import registry

# The modules of the library that hold ops, and what files call them.
_MODULES = {
    "ops.numpy": "keras.src.ops.numpy",
    "ops.nn": "keras.src.ops.nn",
    "ops.math": "keras.src.ops.math",
    "ops.linalg": "keras.src.ops.linalg",
    "ops.image": "keras.src.ops.image",
    "ops.control": "keras.src.ops.core",
    "activations": "keras.src.activations.activations",
}

# Words that class names do not write with one capital letter.
_WORDS = {
    "allclose": "AllClose", "cdist": "CDist", "isin": "IsIn", "normalization": "Norm", "searchsorted": "SearchSorted",
    **{word: word.upper() for word in (
        "ctc", "fft", "fft2", "hsv", "ifft2", "irfft", "istft", "psnr", "rfft", "rgb", "rms", "ssim", "stft",
        "svd",
    )},
}  # fmt: skip

# Activations that a graph holds as their own class, or as another op; the others are the ops of their names.
_ACTIVATIONS = {"relu": "ReLU", "exponential": "Exp"}

# Ops that files look for in another module than the library's.
_HOMES = {"Rearrange": "keras.src.ops.einops"}

# The arguments that a class is called on. All others are settings.
_CALLED_ON = frozenset({
    "a", "abs_", "angle", "array", "b", "beta", "bias", "bins", "branches", "choicelist", "condition", "condlist",
    "constant_values", "coordinates", "data", "default", "depthwise_kernel", "elements", "elems", "end_points", "f",
    "false_fn", "gamma", "image1", "image2", "images", "index", "indices", "init", "init_val", "inputs", "kernel",
    "key", "loop_vars", "mask", "mean", "operands", "output", "output_length", "output_shape", "pointwise_kernel",
    "pred", "predictions", "q", "query", "scale", "segment_ids", "sequence_lengths", "sorted_sequence", "start",
    "start_indices", "start_points", "step", "stop", "target", "target_length", "targets", "transform",
    "translation", "true_fn", "updates", "value", "values", "variable", "variance", "weights", "x", "x1", "x2",
    "xs", "y",
})  # fmt: skip
_EXCEPTIONS = {
    "batch_normalization": {"offset": True},
    "bincount": {"weights": False},
    "full": {"fill_value": True},
    "full_like": {"fill_value": True},
    "histogram": {"bins": False},
    "isclose": {"atol": True, "rtol": True},
    "rearrange": {"tensor": True, "pattern": True},
    "squareplus": {"b": False},
    "trapezoid": {"x": False},
}


def class_name(op: Callable) -> str:
    """The name of the class that files have for the op: `"ExpandDims"` for `expand_dims`."""
    if op.__module__ == "lamina.activations" and op.__name__ in _ACTIVATIONS:
        return _ACTIVATIONS[op.__name__]
    return camel_case(op.__name__)


def camel_case(name: str) -> str:
    """`"expand_dims"` -> `"ExpandDims"`."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in name.split("_"))


@functools.cache
def _ops() -> dict[str, dict[str, Callable]]:
    """Module -> class name -> op, of all public ops."""
    found: dict[str, dict[str, Callable]] = {}
    for path, module in _MODULES.items():
        public = [value for name, value in vars(registry.namespace(path)).items() if name[0] != "_"]
        found[module] = {class_name(value): value for value in public if getattr(value, "is_op", False)}
    return found


def saved_class(op: Callable) -> tuple[str, str]:
    """(module, class name) of an op in files."""
    name = class_name(op)
    for module, ops in _ops().items():
        if name in ops:
            return _HOMES.get(name, module), name
    raise ValueError(
        f"serialize: {op.__name__} must be a public op to be saved in a graph; call it in a layer of your own instead."
    )


def find(module: str, name: str) -> Callable | None:
    """The op that a file names, or `None`."""
    tables = _ops()
    first = tables.get(module, {})
    return next((ops[name] for ops in (first, *tables.values()) if name in ops), None)


def is_op_module(module: str) -> bool:
    """Whether what a file takes from this module is an op."""
    return module.startswith(("keras.src.ops", "keras.ops", "keras.src.activations"))


registry.add_kind(
    is_op_module, lambda module, name, is_function: find(module, camel_case(name) if is_function else name)
)


_signature = functools.cache(inspect.signature)


def split(
    op: Callable, args: Sequence[Any], kwargs: Mapping[str, Any], is_symbolic: Callable[[Any], bool]
) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """The arguments of a call in three parts: (called on, called on by name, settings).

    Named are keywords without a place in the signature, and a symbolic tensor where a setting is expected.
    """
    parameters = _signature(op).parameters
    bound = _signature(op).bind(*args, **kwargs)
    bound.apply_defaults()
    called: list[Any] = []
    named: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            called.extend(value)
        elif parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif _EXCEPTIONS.get(op.__name__, {}).get(name, name in _CALLED_ON):
            called.append(value)
        else:
            (named if is_symbolic(value) else settings)[name] = value
    return called, named, settings


def join(
    op: Callable, args: Sequence[Any], kwargs: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[list, dict]:
    """The arguments of the call that `split` took apart: `op(*args, **kwargs)` takes them."""
    waiting, by_name = list(args), {**settings, **kwargs}
    positional: list[Any] = []
    for name, parameter in _signature(op).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional, waiting = positional + waiting, []
        elif parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            break
        elif name in by_name:
            positional.append(by_name.pop(name))
        elif waiting:
            positional.append(waiting.pop(0))
        elif parameter.default is not parameter.empty:
            positional.append(parameter.default)
        else:
            raise ValueError(f"{op.__name__}: argument {name!r} must be given.")
    if waiting:
        raise ValueError(
            f"{op.__name__}: must get {len(args) - len(waiting)} arguments beside its settings, got {len(args)}."
        )
    return positional, by_name
