"""Layers on tensors of TensorFlow: in the pipelines of `tf.data`, and beside them."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jax import tree_util

from lamina.core.sparse import dense, is_sparse
from lamina.core.symbolic import KerasTensor
from lamina.core.variable import Variable
from lamina.layer import Layer

SCALARS = (bool, int, float, str, bytes, np.generic)
RAGGED = ("RaggedTensor", "SparseTensor")
_one_runs = threading.Lock()  # tf.data calls from several threads, and seeds move on one by one


class PipelineLayer(Layer):
    """A layer that may stand in a pipeline of data: tensors of TensorFlow in, tensors of TensorFlow out."""

    autograph_info__ = None  # which keeps TensorFlow from rewriting the code of this class

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any(map(of_tensorflow, _flat((args, kwargs)))):
            return self._in_tensorflow(args, kwargs)
        return super().__call__(*args, **kwargs)

    def _in_tensorflow(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The call as a function of the host in a graph of TensorFlow, or right now."""
        import tensorflow as tf  # noqa: PLC0415 (only where such tensors come in)

        flat, treedef = tree_util.tree_flatten((args, kwargs), is_leaf=of_tensorflow)
        places = [i for i, leaf in enumerate(flat) if of_tensorflow(leaf)]
        tensors = [flat[i] for i in places]
        for tensor in tensors:
            check_dense(self._who(), tensor)

        def filled(arrays: Iterable[Any]) -> Any:
            found = dict(zip(places, arrays))
            return treedef.unflatten([found.get(i, leaf) for i, leaf in enumerate(flat)])

        def on_host(*arrays: np.ndarray) -> list[np.ndarray]:
            given, named = filled(map(np.asarray, arrays))
            with _one_runs:
                leaves = tree_util.tree_leaves(self(*given, **named), is_leaf=is_sparse)
            return [np.asarray(dense(x)).astype(kind) for x, kind in zip(leaves, kinds, strict=True)]

        known = all(tensor.shape.rank is not None for tensor in tensors)
        shapes = [tuple(tensor.shape) if known else (None,) for tensor in tensors]
        given, named = filled(KerasTensor(s, t.dtype.name) for s, t in zip(shapes, tensors))
        specs, outputs = tree_util.tree_flatten(self.compute_output_spec(*given, **named))
        kinds = [object if spec.dtype == "string" else spec.dtype for spec in specs]
        results = tf.nest.flatten(tf.numpy_function(on_host, tensors, [tf.as_dtype(spec.dtype) for spec in specs]))
        for result, spec in zip(results, specs):
            if known:
                result.set_shape(spec.shape)
        return outputs.unflatten(results)


def check_dense(who: str, x: Any) -> None:
    """Whether `x` is no ragged or sparse tensor of TensorFlow."""
    if type(x).__name__ in RAGGED:
        raise ValueError(
            f"{who}: the input must be dense, got a {type(x).__name__}; call to_tensor() or tf.sparse.to_dense."
        )


def of_tensorflow(x: Any) -> bool:
    """Whether `x` is a tensor of TensorFlow."""
    return type(x).__module__.startswith("tensorflow.") and not isinstance(x, Variable)


def _flat(structure: Any) -> Iterator[Any]:
    """The leaves that may be tensors: a list of texts or numbers has none, which its first item tells."""
    if isinstance(structure, dict):
        structure = structure.values()
    for item in structure:
        plain = isinstance(item, (list, tuple)) and item and isinstance(item[0], SCALARS)
        if isinstance(item, (list, tuple, dict)) and not plain:
            yield from _flat(item)
        else:
            yield item
