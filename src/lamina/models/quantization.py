"""Quantizing all layers of a model that can be, and running a dataset through it for those that need one."""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import checks
from lamina.core.tree import flatten
from lamina.layer.parts import walk
from lamina.layers.kernel_layer import calibrate, kernel_of
from lamina.quantizers import configs

_BATCH = 16  # sequences that run at once


def quantize(model: Any, who: str, mode: Any, config: Any, filters: Any, type_check: bool = True) -> None:
    """Quantize the layers that match, and warn of those that stay floats; what `Model.quantize` says."""
    config = configs.resolve(who, mode, config)
    leaves = [layer for layer in walk(model) if len(walk(layer)) == 1]
    chosen = [layer for layer in leaves if _matches(who, filters, layer)]
    given = f"{filters!r} for {_names(leaves)}"
    checks.require(chosen, f"{who}.quantize", "filters must match the name of a layer", got=given)
    unbuilt = [layer for layer in chosen if not layer.built]
    if unbuilt:
        raise ValueError(f"{who}: must be built before quantize, and {_names(unbuilt)} is not; call it on data first.")
    structure = None
    if isinstance(config, configs.CalibratedConfig):
        structure = config.quantization_layer_structure or model.get_quantization_layer_structure(config.mode)
        configs.check_structure(f"{who}.quantize", structure)
        inside = {id(layer) for block in structure["sequential_blocks"] for layer in walk(block)}
        chosen, samples = [layer for layer in chosen if id(layer) in inside], batches(config)
    left = []
    for layer in chosen:
        try:
            layer.quantize(config.mode, type_check=type_check, config=config)
        except NotImplementedError:
            left.append(layer)
    left = [layer for layer in left if layer.weights]
    if left:
        warnings.warn(f"{who}.quantize: {_names(left)} stay floats, with no form for {config.mode!r}.", stacklevel=4)
    if structure is not None:
        _calibrate(samples, structure)


def _names(layers: Sequence[Any]) -> str:
    return checks.some([f'{type(layer).__name__} "{layer.name}"' for layer in layers])


def _matches(who: str, filters: Any, layer: Any) -> bool:
    """Whether a pattern is found in the layer's name, or, if it has a slash, in its path; or a function says so."""
    if filters is None:
        return True
    if isinstance(filters, str):
        return bool(re.search(filters, layer.path if "/" in filters else layer.name))
    if isinstance(filters, (list, tuple)):
        return any(_matches(who, each, layer) for each in filters)
    if callable(filters):
        return bool(filters(layer))
    raise ValueError(f"{who}.quantize: filters must be a regular expression, several, or a function, got {filters!r}.")


def batches(config: Any) -> list[np.ndarray]:
    """The samples of a calibration, some at a time: stretches of tokens, or arrays of floats as they are."""
    who, dataset = type(config).__name__, config.dataset
    if dataset is None or isinstance(dataset, (str, bytes)) or not hasattr(dataset, "__iter__"):
        raise ValueError(f"{who}: dataset must be an iterable of strings or arrays, got {checks.shorten(dataset)}.")
    items = list(dataset)
    if not items:
        raise ValueError(f"{who}: dataset must not be empty.")
    if isinstance(items[0], str):
        tokenize = getattr(config.tokenizer, "tokenize", config.tokenizer)
        checks.require(callable(tokenize), who, "tokenizer must be given for a dataset of strings", config.tokenizer)
        items = [tokenize(text) for text in items]
    arrays = [np.asarray(item) for item in items]
    if arrays[0].dtype.kind == "f":
        samples = np.stack(arrays[: config.num_samples])
    else:
        samples = _stretches(np.concatenate([x.reshape(-1) for x in arrays]).astype("int32"), config)
    return [samples[i : i + _BATCH] for i in range(0, len(samples), _BATCH)]


def _stretches(tokens: np.ndarray, config: Any) -> np.ndarray:
    """Stretches of all tokens, at equal distances; they are repeated if they are too few."""
    length, count = config.sequence_length, config.num_samples
    tokens = np.tile(tokens, -(-length * count // max(len(tokens), 1)))
    starts = len(tokens) - length + 1
    step = max(1, starts // count)
    return np.lib.stride_tricks.sliding_window_view(tokens, length)[np.arange(count) * step % starts]


def _calibrate(samples: Sequence[Any], structure: dict[str, Any]) -> None:
    """Make integers block by block: each sees the outputs of those before as they are by then."""
    for layer in structure.get("pre_block_layers", ()):
        samples = _run(layer, samples)
    for block in structure["sequential_blocks"]:
        waiting = [layer for layer in walk(block) if getattr(kernel_of(layer), "waiting", None) is not None]
        try:
            for layer in waiting:
                kernel_of(layer).begin()
            _run(block, samples)
            for layer in waiting:
                calibrate(layer)
        finally:
            for layer in waiting:
                kernel_of(layer).seen = None
        samples = _run(block, samples)


def _run(layer: Callable[[Any], Any], samples: Sequence[Any]) -> list[Any]:
    return [flatten(layer(jnp.asarray(x)))[0] for x in samples]
