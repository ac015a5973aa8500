"""Connectionist temporal classification (Graves et al., 2006): loss, and decoding, greedy or by beam search."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax import nn as jnn

from lamina.core import checks
from lamina.core.symbolic import op

# The logarithm of a probability of none: finite, for the gradient's sake.
_NEVER = -1e5


@op
def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Any:
    """-log P(target | output): the sum over all ways to write the labels with repetitions and blanks.

    Args:
        target: labels (batch, labels).
        output: logits (batch, time, classes).
        target_length: how many of the labels count.
        output_length: how many of the time steps count.
        mask_index: the class that is the blank.
    """
    target, output = jnp.asarray(target, "int32"), jnp.asarray(output)
    target_length, output_length = jnp.asarray(target_length, "int32"), jnp.asarray(output_length, "int32")
    log_probs = jnn.log_softmax(output.astype(jnp.promote_types(output.dtype, jnp.float32)))
    # A path goes through blank, label, blank, label, ..., blank: (batch, places).
    places = jnp.full((target.shape[0], 2 * target.shape[1] + 1), mask_index).at[:, 1::2].set(target)
    emitted = jnp.take_along_axis(log_probs, places[:, None], axis=-1)  # (batch, time, places)
    # A blank may be left out between two labels that differ, also where one of them is the blank's class.
    skips = jnp.zeros(places.shape, bool).at[:, 3::2].set(target[:, 1:] != target[:, :-1])

    def shifted(alpha: Any, by: int) -> Any:
        return jnp.pad(alpha, ((0, 0), (by, 0)), constant_values=_NEVER)[:, : alpha.shape[1]]

    def step(alpha: Any, now: tuple) -> tuple[Any, None]:
        emit, inside = now
        reached = jnp.logaddexp(alpha, shifted(alpha, 1))
        reached = jnp.logaddexp(reached, jnp.where(skips, shifted(alpha, 2), _NEVER))
        return jnp.where(inside[:, None], reached + emit, alpha), None

    start = jnp.full(places.shape, _NEVER, log_probs.dtype).at[:, 0].set(0)  # before the first blank or label
    first = jnp.logaddexp(start, shifted(start, 1)) + emitted[:, 0]
    inside = jnp.arange(1, output.shape[1])[:, None] < output_length
    alpha, _ = lax.scan(step, first, (jnp.moveaxis(emitted[:, 1:], 1, 0), inside))
    last = 2 * target_length[:, None]
    ends = jnp.take_along_axis(alpha, jnp.concatenate([last, jnp.maximum(last - 1, 0)], axis=1), axis=1)
    return -jnp.where(target_length > 0, jnp.logaddexp(ends[:, 0], ends[:, 1]), ends[:, 0])


@op
def ctc_decode(
    inputs: Any,
    sequence_lengths: Any,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Any, Any]:
    """The likeliest labels for logits (batch, time, classes).

    Args:
        inputs: logits.
        sequence_lengths: how many of the time steps count.
        strategy: `"greedy"` (the best class at each step) or `"beam_search"`.
        beam_width: how many beginnings are followed.
        top_paths: how many results are wanted of a beam search.
        merge_repeated: whether the greedy strategy takes repetitions for one label.
        mask_index: the class that is the blank.

    Returns:
        Labels (top_paths, batch, time), -1 after the last, and their scores (batch, top_paths): of a beam search
        log P, of the greedy strategy the negative sum of the best logits.
    """
    inputs, lengths = jnp.asarray(inputs), jnp.asarray(sequence_lengths, "int32")
    inputs = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
    if checks.one_of("ctc_decode", "strategy", strategy, ("greedy", "beam_search")) == "greedy":
        return _greedy(inputs, lengths, merge_repeated, mask_index)
    search = functools.partial(_beam_search, width=beam_width, blank=mask_index)
    paths, scores = jax.vmap(search)(jnn.log_softmax(inputs), lengths)
    return jnp.moveaxis(paths[:, :top_paths], 1, 0), scores[:, :top_paths]


def _greedy(inputs: Any, lengths: Any, merge_repeated: bool, blank: int) -> tuple[Any, Any]:
    inside = jnp.arange(inputs.shape[1]) < lengths[:, None]  # (batch, time)
    labels = jnp.where(inside, jnp.argmax(inputs, axis=-1), blank)
    kept = labels != blank
    if merge_repeated:
        kept &= jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    order = jnp.argsort(~kept, axis=-1, stable=True)
    packed = jnp.take_along_axis(jnp.where(kept, labels, -1), order, axis=-1)
    scores = -jnp.sum(jnp.where(inside, inputs.max(axis=-1), 0), axis=1, keepdims=True)
    return packed[None], scores


def _beam_search(log_probs: Any, length: Any, width: int, blank: int) -> tuple[Any, Any]:
    """The best label sequences of one sample, followed as beginnings without repetitions (Graves & Jaitly, 2014)."""
    time, classes = log_probs.shape
    beams = jnp.arange(width)

    def step(state: tuple, now: tuple) -> tuple[tuple, None]:
        paths, sizes, in_blank, in_label = state  # the last two: log P of ending with a blank, or the last label
        log_prob, inside = now
        total = jnp.logaddexp(in_blank, in_label)
        last = jnp.where(sizes > 0, paths[beams, sizes - 1], blank)
        stay_blank = total + log_prob[blank]
        stay_label = jnp.where(sizes > 0, in_label + log_prob[last], -jnp.inf)
        # A label equal to the last one is a new one only after a blank.
        grown = jnp.where(jnp.arange(classes) == last[:, None], in_blank[:, None], total[:, None]) + log_prob
        grown = grown.at[:, blank].set(-jnp.inf)  # (beams, classes)
        # Where beam j is beam i and one label more, that growth of i is part of j.
        before = jnp.where(jnp.arange(time) < sizes[:, None] - 1, paths, -1)
        same = (before[None] == paths[:, None]).all(-1) & (sizes[:, None] + 1 == sizes) & (total > -jnp.inf)
        share = jnp.where(same, grown[:, last], -jnp.inf)
        stay_label = jnp.logaddexp(stay_label, jax.scipy.special.logsumexp(share, axis=0))
        taken = jnp.zeros_like(grown, bool).at[:, last].max(same)
        grown = jnp.where(taken, -jnp.inf, grown)
        scores = jnp.concatenate([jnp.logaddexp(stay_blank, stay_label), grown.ravel()])
        _, chosen = lax.top_k(scores, width)
        grows = chosen >= width
        parent = jnp.where(grows, (chosen - width) // classes, chosen)
        label = (chosen - width) % classes
        new_paths = jnp.where(
            grows[:, None] & (jnp.arange(time) == sizes[parent][:, None]), label[:, None], paths[parent]
        )
        new = (
            new_paths,
            sizes[parent] + grows,
            jnp.where(grows, -jnp.inf, stay_blank[parent]),
            jnp.where(grows, scores[chosen], stay_label[parent]),
        )
        return jax.tree.map(lambda a, b: jnp.where(inside, a, b), new, state), None

    nothing = jnp.full(width, -jnp.inf, log_probs.dtype)
    start = (jnp.full((width, time), -1), jnp.zeros(width, int), nothing.at[0].set(0), nothing)
    (paths, _, in_blank, in_label), _ = lax.scan(step, start, (log_probs, jnp.arange(time) < length))
    scores, order = lax.top_k(jnp.logaddexp(in_blank, in_label), width)
    return paths[order], scores
