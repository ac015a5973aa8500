"""Attention, and the projection of arrays along named axes that it is made of."""

from __future__ import annotations

import copy
import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina import activations, constraints, initializers, regularizers
from lamina.core import checks, masking
from lamina.layer import InputSpec, Layer
from lamina.layer.masks import check_broadcasts, check_mask, only_passes
from lamina.layers.activation import Softmax
from lamina.layers.regularization import Dropout


class EinsumDense(Layer):
    """`activation(einsum(equation, x, kernel) + bias)`.

    Args:
        equation: such as `"ab,bc->ac"`; one `...` stands for axes that pass through.
        output_shape: the sizes of the output's axes behind the batch axis (behind `...`); `None` takes the input's.
        activation: a name or function; none if not given.
        bias_axes: the letters of the output's axes along which the bias varies; no bias if not given.
        kernel_initializer, bias_initializer: what the weights start from.
        kernel_regularizer, bias_regularizer: added to the loss.
        kernel_constraint, bias_constraint: applied after each step.
        lora_rank, lora_alpha, gptq_unpacked_column_size, quantization_config: must be `None`.
    """

    _omit_none = frozenset({"lora_rank", "lora_alpha", "gptq_unpacked_column_size"})
    _further = ("activity_regularizer",)

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: str | Callable | None = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: int | None = None,
        gptq_unpacked_column_size: int | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if lora_rank is not None or quantization_config is not None:
            raise NotImplementedError(f"{self._who()}: lora_rank and quantization_config are not there yet.")
        self.equation = equation
        self.output_shape: Any = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.activation = activations.get(activation)
        self.bias_axes = bias_axes
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.lora_rank = self.lora_alpha = self.gptq_unpacked_column_size = self.quantization_config = None
        source = self._terms()[0]
        rank = len(source.replace(".", ""))
        self.input_spec = InputSpec(min_ndim=rank) if "." in source else InputSpec(ndim=rank)

    def _terms(self) -> tuple[str, str, str]:
        """The letters of the input, the kernel and the output; `.` is where the axes in between are."""
        compact = self.equation.replace(" ", "").replace("...", ".")
        left, arrow, out = compact.partition("->")
        terms = left.split(",")
        letters = set(left + out) - {",", "."}
        if not arrow or len(terms) != 2 or "." in terms[1] or not letters <= set(string.ascii_letters):
            raise ValueError(
                f"{self._who()}: equation must be of the form 'ab,bc->ac' with '...' in input and output or nowhere, "
                f"got {self.equation!r}."
            )
        return terms[0], terms[1], out

    def _sizes(self, input_shape: tuple[int | None, ...]) -> dict[str, int | None]:
        """The size of each letter."""
        source, kernel, out = self._terms()
        head, dots, tail = source.partition(".")
        sizes = dict(zip(head, input_shape))
        sizes.update(zip(reversed(tail), reversed(input_shape)))
        wanted = self.output_shape
        letters = out.partition(".")[2] if out.startswith(".") else out.replace(".", "")[1:]
        if len(wanted) > len(letters) and dots:
            wanted = wanted[-len(letters) :]  # sizes of the axes in between are the input's
        if len(wanted) != len(letters):
            raise ValueError(
                f"{self._who()}: output_shape must have {len(letters)} sizes for {self.equation!r}, got {wanted}."
            )
        for letter, size in zip(letters, wanted):
            if size is not None and sizes.get(letter) not in (None, size):
                raise ValueError(
                    f"{self._who()}: output_shape must keep the size {sizes[letter]} of axis {letter!r}, got {size}."
                )
            sizes[letter] = size if size is not None else sizes.get(letter)
        unknown = [letter for letter in kernel if sizes.get(letter) is None]
        if unknown:
            raise ValueError(f"{self._who()}: the sizes of {', '.join(unknown)} must be known, got {input_shape}.")
        return sizes

    def _start(self, kernel: str, out: str) -> Any:
        """The kernel's initializer; one that scales with inputs and outputs is told which axes these are."""
        start = self.kernel_initializer
        if not isinstance(start, initializers.VarianceScaling) or None not in (start.input_axes, start.output_axes):
            return start
        start = copy.copy(start)
        start.input_axes = [i for i, letter in enumerate(kernel) if letter not in out]
        start.output_axes = [i for i, letter in enumerate(kernel) if letter in out]
        return start

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        sizes = self._sizes(tuple(input_shape))
        _, kernel, out = self._terms()
        self.kernel = self.add_weight(
            name="kernel",
            shape=[sizes[letter] for letter in kernel],  # type: ignore[misc]
            initializer=self._start(kernel, out),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.bias_axes is not None:
            letters = out.replace(".", "")
            if not set(self.bias_axes) <= set(letters):
                raise ValueError(f"{self._who()}: bias_axes must be axes of the output, got {self.bias_axes!r}.")
            first = min(map(letters.index, self.bias_axes))
            # Behind the first of its axes the bias has all that follow, with size 1 where it is constant.
            trailing = len(input_shape) - len(self._terms()[0].replace(".", "")) if out.endswith(".") else 0
            shape = [sizes[c] if c in self.bias_axes else 1 for c in letters[first:]] + [1] * trailing
            self.bias = self.add_weight(
                name="bias",
                shape=shape,  # type: ignore[arg-type]
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = jnp.einsum(self.equation, inputs, self.kernel.value)
        if self.bias is not None:
            outputs = outputs + self.bias.value
        return self.activation(outputs)


class MultiHeadAttention(Layer):
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
        flash_attention: kept for Keras programs.
        kernel_initializer, bias_initializer: what the weights start from.
        kernel_regularizer, bias_regularizer, activity_regularizer: added to the loss.
        kernel_constraint, bias_constraint: applied after each step.
        use_gate: whether the heads' outputs are multiplied by `sigmoid(query kernel + bias)`, element by element
            (Qiu et al., 2025, https://arxiv.org/abs/2505.06708).
        seed: of the dropout.

    Shapes: query (batch, targets, features), value and key (batch, sources, features) -> (batch, targets, features).
    """

    _omit_none = frozenset({"flash_attention"})

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
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._query_dense: Any = None
        self._key_dense: Any = None
        self._gate_dense: Any = None
        self._value_dense: Any = None
        who = self._who()
        self.num_heads = checks.integer(who, "num_heads", num_heads)
        self.key_dim = checks.integer(who, "key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else checks.integer(who, "value_dim", value_dim)
        self.sliding_window, self.flash_attention = sliding_window, None
        if sliding_window is not None:
            self.sliding_window = checks.integer(who, "sliding_window", sliding_window)
        self.dropout = checks.number(who, "dropout", dropout, 0, 1)
        self.use_bias, self.use_gate, self.seed = use_bias, use_gate, seed
        self.output_shape: Any = (output_shape,) if isinstance(output_shape, int) else output_shape
        axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self.attention_axes: Any = axes and tuple(axes)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.supports_masking = True

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        rank = len(query_shape)
        if self.attention_axes is None:
            self.attention_axes = tuple(range(1, rank - 1))
        self.attention_axes = tuple(axis % rank for axis in self.attention_axes)
        head = (self.num_heads, self.key_dim)
        out_head = (self.num_heads, self.value_dim)
        projections = (
            ("query", query_shape, head),
            ("key", key_shape, head),
            *([("gate", query_shape, out_head)] if self.use_gate else []),
            ("value", value_shape, out_head),
        )
        for name, shape, sizes in projections:
            setattr(self, f"_{name}_dense", self._projection(name, shape, 1, sizes))
        self._softmax = Softmax(axis=-1, dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)
        out = tuple(self.output_shape or query_shape[-1:])
        heads_shape = (*query_shape[:-1], *out_head)
        self._output_dense = self._projection("attention_output", heads_shape, 2, out)

    def _projection(self, name: str, shape: Any, contracted: int, sizes: tuple[int, ...]) -> EinsumDense:
        """A dense layer from the last `contracted` axes to axes of the given sizes."""
        letters = string.ascii_lowercase
        free, inner = letters[: len(shape) - contracted], letters[len(shape) - contracted : len(shape)]
        outer = letters[len(shape) : len(shape) + len(sizes)]

        def fresh(initializer: Any) -> Any:  # each weight draws for itself
            return (
                type(initializer).from_config(initializer.get_config())
                if hasattr(initializer, "get_config")
                else initializer
            )

        layer = EinsumDense(
            f"{free}{inner},{inner}{outer}->{free}{outer}",
            output_shape=(*(None for _ in free[1:]), *sizes),
            bias_axes=outer if self.use_bias else None,
            kernel_initializer=fresh(self.kernel_initializer),
            bias_initializer=fresh(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(tuple(shape))
        layer.supports_masking = True
        return layer

    @property
    def query_dense(self) -> EinsumDense:
        """The projection of the queries."""
        return self._query_dense

    @property
    def key_dense(self) -> EinsumDense:
        """The projection of the keys."""
        return self._key_dense

    @property
    def value_dense(self) -> EinsumDense:
        """The projection of the values."""
        return self._value_dense

    @property
    def output_dense(self) -> EinsumDense:
        """The projection of the heads' outputs."""
        return self._output_dense

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
        mask = self._joined_mask(query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        heads = (self._query_dense(query), self._key_dense(key), self._value_dense(value))
        outputs, scores = self._attend(*heads, mask, training)
        if self.use_gate:
            outputs = outputs * jax.nn.sigmoid(self._gate_dense(query))
        outputs = self._output_dense(outputs)
        return (outputs, scores) if return_attention_scores else outputs

    def _joined_mask(
        self, query: Any, value: Any, query_mask: Any, value_mask: Any, key_mask: Any, attention_mask: Any, causal: bool
    ) -> Any:
        """All masks as one that broadcasts to (batch, targets, sources)."""
        for name, one, x in (("query", query_mask, query), ("value", value_mask, value), ("key", key_mask, value)):
            if one is not None:
                check_mask(self._who(), one, x, f"{name}_mask")
        if attention_mask is not None and query.ndim == 3:
            check_broadcasts(self._who(), attention_mask, (query.shape[1], value.shape[1]), "attention_mask")
        masks = [attention_mask if attention_mask is None else jnp.asarray(attention_mask).astype(bool)]
        masks.append(None if query_mask is None else query_mask.astype(bool)[:, :, None])
        masks.extend(None if m is None else m.astype(bool)[:, None, :] for m in (value_mask, key_mask))
        if causal or self.sliding_window is not None:
            targets, sources = jnp.arange(query.shape[1])[:, None], jnp.arange(value.shape[1])[None, :]
            if causal:
                masks.append((targets >= sources)[None])
            if self.sliding_window is not None:
                masks.append((abs(targets - sources) < self.sliding_window)[None])
        return masking.merge_masks(masks)

    def _attend(self, query: Any, key: Any, value: Any, mask: Any, training: bool | None) -> tuple[Any, Any]:
        """Outputs and weights of all heads, by batched matrix products: the heads go beside the batch."""
        axes = self.attention_axes
        rank = query.ndim - 1
        free = [axis for axis in range(rank - 1) if axis not in axes]
        order = (*free, rank - 1, *axes, rank)  # (batch and free axes, heads, places..., dim)

        def rows(x: Any) -> Any:
            x = x.transpose(order)
            lead = len(free) + 1
            return x.reshape(*x.shape[:lead], math.prod(x.shape[lead:-1]), x.shape[-1])

        places = [tuple(x.shape[axis] for axis in axes) for x in (query, key)]
        q, k, v = (rows(query * jnp.asarray(1.0 / math.sqrt(self.key_dim), query.dtype)), rows(key), rows(value))
        scores = q @ jnp.swapaxes(k, -1, -2)  # (..., heads, targets, sources)
        if mask is not None:
            mask = (
                mask.reshape(*mask.shape[: mask.ndim - len(axes) * 2], scores.shape[-2], scores.shape[-1])
                if (mask.ndim > 3 and len(axes) > 1)
                else mask
            )
            while mask.ndim < scores.ndim:
                mask = jnp.expand_dims(mask, axis=-3)
        weights = self._softmax(scores, mask=mask)
        dropped = self._dropout_layer(weights, training=training)
        out = dropped @ v
        out = out.reshape(*out.shape[:-2], *places[0], out.shape[-1])
        back = [order.index(axis) for axis in range(rank + 1)]
        return out.transpose(back), weights.reshape(*weights.shape[:-2], *places[0], *places[1])


class Attention(Layer):
    """`softmax(scores(query, key)) value` without projections, called on `[query, value]` or `[query, value, key]`.

    Luong et al., 2015, https://arxiv.org/abs/1508.04025

    Args:
        use_scale: whether the scores are multiplied by a trained number.
        score_mode: "dot" for dot products, "concat" for `v * sum(tanh(query + key))`.
        dropout: the share of attention weights that training drops.
        seed: of the dropout.

    Shapes: (batch, targets, dim), (batch, sources, dim) -> (batch, targets, dim).
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"{self._who()}: score_mode must be 'dot' or 'concat', got {score_mode!r}.")
        self.dropout = checks.number(self._who(), "dropout", dropout, 0, 1)
        self.use_scale, self.score_mode, self.seed = use_scale, score_mode, seed
        self._dropout_layer = Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if not isinstance(input_shape, list) or len(input_shape) not in (2, 3):
            raise ValueError(
                f"{self._who()}: must be called on [query, value] or [query, value, key], got {input_shape}."
            )
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(name="concat_score_weight", shape=(), initializer="ones")

    def _scores(self, query: Any, key: Any) -> Any:
        if self.score_mode == "dot":
            scores = query @ jnp.swapaxes(key, -1, -2)
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
        query, value = inputs[0], inputs[1]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = (mask[0], mask[1]) if isinstance(mask, (list, tuple)) else (None, None)
        for one, x in ((query_mask, query), (value_mask, value)):
            if one is not None:
                check_mask(self._who(), one, x)
        scores = self._scores(query, key)
        masks = [None if value_mask is None else value_mask.astype(bool)[..., None, :]]
        if use_causal_mask:
            masks.append(jnp.tril(jnp.ones(scores.shape[-2:], bool))[None])
        joined = masking.merge_masks(masks)
        if joined is not None:
            scores = jnp.where(joined, scores, scores - (6.5e4 if scores.dtype == jnp.float16 else 1e9))
        weights = self._dropout_layer(jax.nn.softmax(scores, axis=-1), training=training)
        outputs = weights @ value
        if query_mask is not None:
            outputs = outputs * query_mask[..., None].astype(outputs.dtype)
        return (outputs, weights) if return_attention_scores else outputs

    @only_passes
    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the query."""
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask


class AdditiveAttention(Attention):
    """`softmax(sum(scale * tanh(query + key))) value`.

    Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473

    Args:
        use_scale: whether the sum is weighted by a trained vector.
        dropout: the share of attention weights that training drops.
    """

    _further = ("seed",)

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.__dict__.pop("_weights", None)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(input_shape[0][-1],), initializer="glorot_uniform")

    def _scores(self, query: Any, key: Any) -> Any:
        added = jnp.tanh(query[..., :, None, :] + key[..., None, :, :])
        return (added if self.scale is None else added * self.scale.value).sum(-1)
