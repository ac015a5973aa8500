"""Attention: of several heads with projections, which may share keys and values, and plain."""

import math
import operator
import string
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina import ops
from lamina.core import checks, dtypes, masking
from lamina.core.constructors import parameters
from lamina.core.docstrings import explained_by
from lamina.layer import InputSpec, Layer
from lamina.layer.masks import check_broadcasts, check_mask, only_passes
from lamina.layer.parts import GivesWay
from lamina.layers.projection import EinsumDense
from lamina.layers.regularization import Dropout
from lamina.layers.weights import resolve_arguments, weight


def _products(query: Any, key: Any) -> Any:
    """`query key^T` in 32 bits at least: scores of 16 bits would not tell large ones apart."""
    return jnp.matmul(query, key.swapaxes(-1, -2), preferred_element_type=dtypes.wide(query.dtype))


def _softmax(scores: Any, mask: Any, axis: Any = -1) -> Any:
    """The softmax over the sources that the mask lets through; over all of them where it lets none."""
    if mask is not None:
        scores = jnp.where(mask, scores, float(jnp.finfo(scores.dtype).min) / 2)
    return ops.softmax(scores, axis=axis)


def _folded_mask(mask: Any, lead: tuple[Any, ...], targets: tuple[Any, ...], sources: tuple[Any, ...]) -> Any:
    """A mask (batch, [free axes], [heads], *targets, *sources) as (batch and free axes, heads, targets, sources)."""
    if mask.ndim > 3 and len(targets) > 1:
        mask = mask.reshape(*mask.shape[: -2 * len(targets)], math.prod(targets), math.prod(sources))
    ones = (1,) * (len(lead) + 3 - mask.ndim)  # one mask for all heads, and along the free axes
    mask = mask.reshape(*mask.shape[:-2], *ones, *mask.shape[-2:])
    if len(lead) > 1:
        mask = jnp.broadcast_to(mask, (*lead, *mask.shape[-3:])).reshape(math.prod(lead), *mask.shape[-3:])
    return mask


def _anew(initializer: Any) -> Any:
    """Another initializer of the same configuration: each weight draws for itself."""
    configured = hasattr(initializer, "get_config")
    return type(initializer).from_config(initializer.get_config()) if configured else initializer


class HeadedAttention(Layer):
    """Base of the attention of several heads: `softmax(Q K^T / sqrt(dim)) V`, with Q, K and V projections.

    A subclass says how many heads there are and how large, and calls `_set_up`, in its constructor.
    """

    _omit_none = frozenset({"flash_attention"})
    _heads: tuple[tuple[int, int], ...]  # the number and the size of the heads of queries, of keys, and of values
    attention_axes: Any = None

    def _set_up(
        self, dropout: float, use_bias: bool, sliding_window: Any, flash_attention: Any, use_gate: bool, seed: Any
    ) -> None:
        self._query_dense: Any = None
        self._key_dense: Any = None
        self._gate_dense: Any = None
        self._value_dense: Any = None
        who = self._who()
        window, self.flash_attention = sliding_window, flash_attention
        self.sliding_window = None if window is None else checks.integer(who, "sliding_window", window)
        self.dropout = checks.number(who, "dropout", dropout, 0, 1)
        if flash_attention and dropout:
            raise ValueError(f"{who}: dropout must be 0 with flash_attention, which has no weights, got {dropout}.")
        self.use_bias, self.use_gate, self.seed = use_bias, use_gate, seed
        resolve_arguments(self)
        self.supports_masking = True

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        head, key_head, value_head = self._heads
        out_head = (head[0], value_head[1])
        projections = (
            ("query", query_shape, head),
            ("key", key_shape, key_head),
            *([("gate", query_shape, out_head)] if self.use_gate else []),
            ("value", value_shape, value_head),
        )
        for name, shape, sizes in projections:
            setattr(self, f"_{name}_dense", self._projection(name, shape, 1, sizes))
        self._build_attention(len(query_shape) + 1)
        heads_shape = (*query_shape[:-1], *out_head)
        outputs = tuple(getattr(self, "output_shape", None) or query_shape[-1:])
        self._output_dense = self._projection("attention_output", heads_shape, 2, outputs)

    def _projection(self, name: str, shape: Any, contracted: int, sizes: tuple[int, ...]) -> EinsumDense:
        """A dense layer from the last `contracted` axes to axes of the given sizes."""
        letters = string.ascii_lowercase
        free, inner = letters[: len(shape) - contracted], letters[len(shape) - contracted : len(shape)]
        outer = letters[len(shape) : len(shape) + len(sizes)]
        layer = EinsumDense(
            f"{free}{inner},{inner}{outer}->{free}{outer}",
            output_shape=(*(None for _ in free[1:]), *sizes),
            bias_axes=outer if self.use_bias else None,
            **self._get_common_kwargs_for_sublayer(),
            name=name,
        )
        layer.build(tuple(shape))
        layer.supports_masking = True
        return layer

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """The attention of `query` to `value`, found by `key` (`value` if not given).

        Args:
            query, value, key: the arrays.
            query_mask, value_mask, key_mask: which places exist, (batch, time).
            attention_mask: which targets may look at which sources, (batch, targets, sources).
            return_attention_scores: whether the weights are returned too, (batch, heads, targets, sources).
            training: whether to drop weights.
            use_causal_mask: whether a target may look only at sources up to its own place.
        """
        key = value if key is None else key
        if return_attention_scores and self.flash_attention:
            raise ValueError(f"{self._who()}: flash_attention must not be set with return_attention_scores.")
        mask = self._compute_attention_mask(
            query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
        )
        heads = (self._query_dense(query), self._key_dense(key), self._value_dense(value))
        scored = (True,) if return_attention_scores else ()  # programs' own have no such argument
        outputs, scores = self._compute_attention(*heads, mask, training, *scored)
        if self.use_gate:
            outputs = outputs * jax.nn.sigmoid(self._gate_dense(query))
        outputs = self._output_dense(outputs)
        return (outputs, scores) if return_attention_scores else outputs

    # The next five have Keras's names and arguments: programs call them in attention of their own.

    def _get_common_kwargs_for_sublayer(self) -> dict[str, Any]:
        """What all projections are made with."""
        kinds = ("initializer", "regularizer", "constraint")
        own = {f"{name}_{kind}": getattr(self, f"{name}_{kind}") for name in ("kernel", "bias") for kind in kinds}
        own |= {name: _anew(value) for name, value in own.items() if name.endswith("initializer")}
        return {**own, "dtype": self.dtype_policy}

    def _build_attention(self, rank: int) -> None:
        """What stands between the projections, whose outputs (batch, ..., heads, size) have `rank` axes."""
        axes = range(1, rank - 2) if self.attention_axes is None else self.attention_axes
        inner = {axis % (rank - 1) for axis in axes} <= {*range(1, rank - 2)} and len({*axes}) == len(axes)
        checks.require(inner, self._who, "attention_axes must be axes between the first and the last", axes)
        self.attention_axes = axes = tuple(axis % (rank - 1) for axis in axes)
        self._dropout_layer = Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)
        targets, others = string.ascii_lowercase[:rank], string.ascii_lowercase[rank:]
        sources = "".join(others[i] if i in axes else letter for i, letter in enumerate(targets))
        beside = "".join(letter for i, letter in enumerate(targets[:-1]) if i not in axes)
        scores = beside + "".join(letters[i] for letters in (targets, sources) for i in axes)
        self._dot_product_equation = f"{sources},{targets}->{scores}"
        self._combine_equation = f"{scores},{sources}->{targets}"

    def _masked_softmax(self, attention_scores: Any, attention_mask: Any = None) -> Any:
        """The softmax over the sources that a mask (batch, ..., targets, sources) lets through."""
        count, scores, mask = len(self.attention_axes), attention_scores, attention_mask
        if mask is not None:
            shape = *mask.shape[: -2 * count], *(1,) * (scores.ndim - mask.ndim), *mask.shape[-2 * count :]
            mask = jnp.asarray(mask).astype(bool).reshape(shape)
        weights = _softmax(scores, mask, tuple(range(-count, 0)))
        return weights if mask is None else jnp.where(mask, weights, 0)

    def _compute_attention_mask(
        self, query: Any, value: Any, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None,
        attention_mask: Any = None, use_causal_mask: bool = False,
    ) -> Any:  # fmt: skip
        """All masks as one that broadcasts to (batch, targets, sources)."""
        for name, one, x in (("query", query_mask, query), ("value", value_mask, value), ("key", key_mask, value)):
            if one is not None:
                check_mask(self._who(), one, x, f"{name}_mask")
        if attention_mask is not None and query.ndim == 3:
            check_broadcasts(self._who(), attention_mask, (query.shape[1], value.shape[1]), "attention_mask")
        masks = [attention_mask if attention_mask is None else jnp.asarray(attention_mask).astype(bool)]
        masks.append(None if query_mask is None else query_mask.astype(bool)[:, :, None])
        masks.extend(None if m is None else m.astype(bool)[:, None, :] for m in (value_mask, key_mask))
        if use_causal_mask or self.sliding_window is not None:
            targets, sources = jnp.arange(query.shape[1])[:, None], jnp.arange(value.shape[1])[None, :]
            if use_causal_mask:
                masks.append((targets >= sources)[None])
            if self.sliding_window is not None:
                masks.append((abs(targets - sources) < self.sliding_window)[None])
        return masking.merge_masks(masks)

    def _compute_attention(
        self, query: Any, key: Any, value: Any, attention_mask: Any = None, training: bool | None = None,
        return_attention_scores: bool = False, use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Outputs of all heads, and their weights if these are wanted; axes without attention go beside the batch."""
        if use_causal_mask:
            attention_mask = self._compute_attention_mask(query, key, None, None, None, attention_mask, True)
        rank, axes = query.ndim - 2, self.attention_axes
        free = tuple(axis for axis in range(rank) if axis not in axes)
        order = (*free, *axes, rank, rank + 1)
        query, key, value = (x.transpose(order) for x in (query, key, value))
        targets, sources = query.shape[len(free) : rank], key.shape[len(free) : rank]
        try:
            lead = jnp.broadcast_shapes(*(x.shape[: len(free)] for x in (query, key, value)))
        except ValueError:
            shapes = [x.shape[: len(free)] for x in (query, key, value)]
            raise ValueError(
                f"{self._who()}: query, key and value must agree in batch and free axes, or have 1 there, got {shapes}."
            ) from None

        def fold(x: Any) -> Any:  # (batch and free axes, places, heads, dim)
            x = jnp.broadcast_to(x, (*lead, *x.shape[len(free) :]))
            return x.reshape(math.prod(lead), math.prod(x.shape[len(free) : rank]), *x.shape[rank:])

        query, key, value = map(fold, (query, key, value))
        mask = weights = None
        if attention_mask is not None:
            mask = _folded_mask(jnp.asarray(attention_mask).astype(bool), lead, targets, sources)
        if return_attention_scores or (training and self.dropout):
            outputs, weights = self._with_weights(query, key, value, mask, training)
            weights = weights.reshape(*lead, weights.shape[1], *targets, *sources)
        else:
            outputs = ops.dot_product_attention(query, key, value, mask=mask, flash_attention=self.flash_attention)
            if mask is not None and (self.dropout or rank != 2):  # as with weights, and in Keras: without both a mean
                outputs = jnp.where(mask.any(-1).swapaxes(1, 2)[..., None], outputs, 0)
        outputs = outputs.reshape(*lead, *targets, *outputs.shape[-2:])
        return outputs.transpose([order.index(axis) for axis in range(rank + 2)]), weights

    def _with_weights(self, query: Any, key: Any, value: Any, mask: Any, training: bool | None) -> tuple[Any, Any]:
        """The outputs, and the weights (batch, heads, targets, sources) before some of them are dropped.

        A target that may look at no source has weights of 0.
        """
        query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
        if query.shape[1] > key.shape[1]:  # heads of queries that share keys and values
            key, value = (jnp.repeat(x, query.shape[1] // x.shape[1], axis=1) for x in (key, value))
        scores = _products(query, key) / math.sqrt(query.shape[-1])
        weights = _softmax(scores, mask).astype(self.compute_dtype)
        weights = weights if mask is None else jnp.where(mask, weights, 0)
        outputs = self._dropout_layer(weights, training=training) @ value
        return outputs.transpose(0, 2, 1, 3), weights


@explained_by(EinsumDense)
class MultiHeadAttention(HeadedAttention):
    """`softmax(Q K^T / sqrt(key_dim)) V` for several heads, each with projections of its own.

    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762

    Args:
        num_heads: the number of heads.
        key_dim: the size of a head's queries and keys.
        value_dim: the size of a head's values, `key_dim` if not given.
        dropout: the share of attention weights that training drops.
        use_bias: whether the projections have biases.
        output_shape: the size of the output, that of the query if not given.
        attention_axes: the axes that are attended over; all but batch and features if not given.
        sliding_window: how far attention may reach to each side.
        flash_attention: whether GPUs use cuDNN's kernel, which wants 16 bits.
        use_gate: whether the heads' outputs are multiplied by `sigmoid(query kernel + bias)`, element by element
            (Qiu et al., 2025, https://arxiv.org/abs/2505.06708).
        seed: of the dropout.

    Shapes: query (batch, targets, features), value and key (batch, sources, features) -> (batch, targets, features).

    Raises: ValueError if a size is not a positive integer, or `dropout` not from 0 to 1.

    >>> x = np.zeros((2, 5, 8), "float32")
    >>> outputs, weights = layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x, return_attention_scores=True)
    >>> outputs.shape, weights.shape
    ((2, 5, 8), (2, 2, 5, 5))
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.num_heads = checks.integer(self._who, "num_heads", num_heads)
        self.key_dim = checks.integer(self._who, "key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else checks.integer(self._who, "value_dim", value_dim)
        one, of_values = (self.num_heads, self.key_dim), (self.num_heads, self.value_dim)
        self._heads = (one, one, of_values)
        sizes: Any = output_shape if isinstance(output_shape, (list, tuple, type(None))) else (output_shape,)
        self.output_shape = sizes and type(sizes)(checks.integer(self._who, "output_shape", size) for size in sizes)
        axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self.attention_axes = axes and tuple(axes)
        self._set_up(dropout, use_bias, sliding_window, flash_attention, use_gate, seed)

    query_dense = property(operator.attrgetter("_query_dense"), doc="The projection of the queries.")
    key_dense = property(operator.attrgetter("_key_dense"), doc="The projection of the keys.")
    value_dense = property(operator.attrgetter("_value_dense"), doc="The projection of the values.")
    output_dense = property(operator.attrgetter("_output_dense"), doc="The projection of the heads' outputs.")
    _inverse_sqrt_key_dim = GivesWay(lambda layer: 1 / math.sqrt(layer.key_dim))


# Keras keeps what the constructor is given under private names, which attention of programs' own reads.
for _name in parameters(MultiHeadAttention):
    setattr(MultiHeadAttention, f"_{_name}", GivesWay(operator.attrgetter(_name)))


@explained_by(MultiHeadAttention)
class GroupedQueryAttention(HeadedAttention):
    """Attention of several heads of queries, groups of which share the keys and values of one head.

    Ainslie et al., 2023, https://arxiv.org/abs/2305.13245

    Args:
        head_dim: the size of a head.
        num_query_heads: the number of heads of queries.
        num_key_value_heads: the number of heads of keys and values, which divides that of queries.

    Shapes: query (batch, targets, features), value and key (batch, sources, features) -> (batch, targets, features).
    """

    _public_name = "GroupQueryAttention"  # files have this one in configurations, and the class's in paths

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.head_dim = checks.integer(self._who, "head_dim", head_dim)
        self.num_query_heads = checks.integer(self._who, "num_query_heads", num_query_heads)
        self.num_key_value_heads = checks.integer(self._who, "num_key_value_heads", num_key_value_heads)
        rule = f"num_query_heads must be a multiple of num_key_value_heads={num_key_value_heads}"
        checks.require(not num_query_heads % num_key_value_heads, self._who, rule, num_query_heads)
        shared = (self.num_key_value_heads, self.head_dim)
        self._heads = ((self.num_query_heads, self.head_dim), shared, shared)
        self._set_up(dropout, use_bias, sliding_window, flash_attention, use_gate, seed)
        self.input_spec = InputSpec(ndim=3)


GroupQueryAttention = GroupedQueryAttention


class Attention(Layer):
    """`softmax(scores(query, key)) value` without projections, called on `[query, value]` or `[query, value, key]`.

    Luong et al., 2015, https://arxiv.org/abs/1508.04025

    Args:
        use_scale: whether the scores are multiplied by a trained number.
        score_mode: "dot" for dot products, "concat" for `v * sum(tanh(query + key))`.
        dropout: the share of attention weights that training drops.
        seed: of the dropout.

    Shapes: (batch, targets, dim), (batch, sources, dim) -> (batch, targets, dim).

    Raises: ValueError if it is not called on 2 or 3 inputs.
    """

    def __init__(
        self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0, seed: Any = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        checks.one_of(self._who, "score_mode", score_mode, ("dot", "concat"))
        self.dropout = checks.number(self._who, "dropout", dropout, 0, 1)
        self.use_scale, self.score_mode, self.seed = use_scale, score_mode, seed
        self._is_product = score_mode == "dot"  # of queries and keys, which accelerators have a kernel for
        self._dropout_layer = Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        rule = "must be called on [query, value] or [query, value, key]"
        checks.require(isinstance(input_shape, list) and len(input_shape) in (2, 3), self._who, rule, input_shape)
        self.scale = self._make_scale(input_shape) if self.use_scale else None
        self.concat_score_weight = None
        if self.score_mode == "concat":
            self.concat_score_weight = weight(self, "concat_score_weight", (), initializer="ones")

    def _make_scale(self, input_shape: Any) -> Any:
        return weight(self, "scale", (), initializer="ones")

    def _scores(self, query: Any, key: Any) -> Any:
        if self.score_mode == "dot":
            scores = _products(query, key)
            return scores if self.scale is None else scores * self.scale.value
        added = query[..., :, None, :] + key[..., None, :, :]
        added = added if self.scale is None else added * self.scale.value
        return self.concat_score_weight.value * jnp.tanh(added).sum(-1)  # type: ignore[union-attr]

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, *rest = (x.astype(dtypes.floating(x.dtype)) for x in inputs)
        key = rest[0] if rest else value
        if mask is not None and not (isinstance(mask, (list, tuple)) and len(mask) in (2, 3)):
            raise ValueError(f"{self._who()}: mask must be [query mask, value mask], got {checks.shorten(mask)}.")
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        for one, x in ((query_mask, query), (value_mask, value)):
            if one is not None:
                check_mask(self._who(), one, x)
        masks = [None if value_mask is None else value_mask.astype(bool)[..., None, :]]
        if use_causal_mask:
            masks.append(jnp.tril(jnp.ones((query.shape[-2], key.shape[-2]), bool))[None])
        joined, weights = masking.merge_masks(masks), None
        if return_attention_scores or (training and self.dropout) or query.ndim != 3 or not self._is_product:
            weights = _softmax(self._scores(query, key), joined).astype(self.compute_dtype)
            weights = self._dropout_layer(weights, training=training)
            outputs = weights @ value
        else:
            query = query if self.scale is None else query * self.scale.value
            heads = (x[:, :, None] for x in (query, key, value))  # one
            mask = None if joined is None else joined[:, None]
            outputs = ops.dot_product_attention(*heads, mask=mask, scale=1.0)[:, :, 0]
        if query_mask is not None:
            outputs = outputs * query_mask[..., None].astype(outputs.dtype)
        return (outputs, weights) if return_attention_scores else outputs

    @only_passes
    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the query."""
        return mask[0] if isinstance(mask, (list, tuple)) else mask


class AdditiveAttention(Attention):
    """`softmax(sum(scale * tanh(query + key))) value`.

    Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473

    Args:
        use_scale: whether the sum is weighted by a trained vector.
    """

    _further = ("seed",)

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)
        self._is_product = False

    def _make_scale(self, input_shape: Any) -> Any:
        return weight(self, "scale", input_shape[0][-1:])

    def _scores(self, query: Any, key: Any) -> Any:
        added = jnp.tanh(query[..., :, None, :] + key[..., None, :, :])
        return (added if self.scale is None else added * self.scale.value).sum(-1)
