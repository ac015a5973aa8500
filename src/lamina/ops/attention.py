"""Attention of heads, by products of matrices: the form for CPUs, and for whatever no fused kernel takes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# More scores than these are computed block by block.
_MOST_SCORES = 2**26


def attention(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: float, is_causal: bool, soft_cap: float | None
) -> Any:
    """softmax(scale query key^T + bias) value with the heads as a batch.

    Many scores are computed for some queries at a time, and again for the gradient: memory grows with the number of
    queries, not with its square.
    """
    (batch, time, heads, _), source = query.shape, key.shape[1]
    if not all(isinstance(n, int) for n in (batch, time, source)) or batch * heads * time * source <= _MOST_SCORES:
        return _attend(query, key, value, bias, mask, scale, 0 if is_causal else None, soft_cap)
    rows = max(1, _MOST_SCORES // (8 * batch * heads * source))
    query = _whole_blocks(query, 1, rows)
    bias, mask = (None if x is None else x if x.shape[2] == 1 else _whole_blocks(x, 2, rows) for x in (bias, mask))

    @jax.checkpoint
    def block(first: Any) -> Any:
        def part(x: Any, axis: int) -> Any:
            return x if x is None or x.shape[axis] == 1 else lax.dynamic_slice_in_dim(x, first, rows, axis)

        start = first if is_causal else None
        return _attend(part(query, 1), key, value, part(bias, 2), part(mask, 2), scale, start, soft_cap)

    blocks = lax.map(block, jnp.arange(0, query.shape[1], rows))  # (blocks, batch, rows, heads, dim)
    return jnp.moveaxis(blocks, 0, 1).reshape(batch, -1, heads, value.shape[-1])[:, :time]


def _whole_blocks(x: Any, axis: int, size: int) -> Any:
    """`x` with an axis filled up to a multiple of a size."""
    return jnp.pad(x, [(0, -n % size if i == axis else 0) for i, n in enumerate(x.shape)])


def _attend(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: float, first: Any, soft_cap: float | None
) -> Any:
    """Attention of queries, each only to sources up to its place if the place of the `first` is given.

    All of it in 32 bits at least: products of 16-bit arrays are no faster on CPUs, and their gradients are slower.
    """
    batch, time, heads, _ = query.shape
    source, shared = key.shape[1:3]
    dtype, wide = value.dtype, jnp.promote_types(query.dtype, jnp.float32)
    query, key, value = (x.astype(wide) for x in (query, key, value))
    grouped = (query * scale).transpose(0, 2, 1, 3).reshape(batch, shared, -1, query.shape[-1])  # heads of one key
    logits = (grouped @ key.transpose(0, 2, 3, 1)).reshape(batch, heads, time, source)
    if soft_cap is not None:
        logits = logits / (1 + jnp.abs(logits) / soft_cap)
    if bias is not None:
        logits = logits + bias
    if first is not None:
        causal = first + jnp.arange(time)[:, None] >= jnp.arange(source)
        mask = causal if mask is None else mask & causal
    if mask is not None:
        logits = jnp.where(mask, logits, -0.7 * float(jnp.finfo(wide).max))
    out = _weighted_mean(logits.reshape(batch, shared, -1, source), value.transpose(0, 2, 1, 3))
    return out.reshape(batch, heads, time, -1).transpose(0, 2, 1, 3).astype(dtype)


@jax.custom_jvp
def _weighted_mean(logits: Any, value: Any) -> Any:
    """softmax(logits) value. Sums are divided last, being fewer."""
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    return weights @ value / weights.sum(-1, keepdims=True)


@_weighted_mean.defjvp
def _weighted_mean_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    (logits, value), (dlogits, dvalue) = primals, tangents
    # Stored, or the gradient computes the exponentials again.
    weights = lax.optimization_barrier(jax.nn.softmax(logits, axis=-1))
    change = weights * (dlogits - (weights * dlogits).sum(-1, keepdims=True))
    return weights @ value, change @ value + weights @ dvalue
