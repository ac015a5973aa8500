"""Attention: the definition, masks, and the projections that it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.core import masking

draw = np.random.default_rng(0)
QUERY, VALUE = draw.normal(size=(2, 3, 5)).astype("float32"), draw.normal(size=(2, 6, 5)).astype("float32")
MASK = np.arange(6)[None] < np.array([[6], [2]])


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attended(layer, query, value, allowed=None):
    """The definition, head by head."""
    names = ("query_dense", "key_dense", "value_dense", "output_dense")
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = ([v.numpy() for v in getattr(layer, n).weights] for n in names)
    total = bo
    for head in range(wq.shape[1]):
        q, k, v = (x @ w[:, head] + b[head] for x, w, b in ((query, wq, bq), (value, wk, bk), (value, wv, bv)))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(layer.key_dim)
        if allowed is not None:
            scores = np.where(allowed, scores, -1e30)
        total = total + softmax(scores) @ v @ wo[head]
    return total


def heads(**arguments):
    return layers.MultiHeadAttention(**{"num_heads": 2, "key_dim": 3, "bias_initializer": "uniform", **arguments})


@pytest.mark.parametrize("arguments", [{}, {"value_dim": 4}, {"output_shape": 7}, {"num_heads": 1}], ids=str)
def test_attention_of_several_heads_is_its_definition(arguments):
    layer = heads(**arguments)
    y = layer(QUERY, VALUE)
    np.testing.assert_allclose(y, attended(layer, QUERY, VALUE), rtol=1e-4, atol=1e-5)


def test_masks_are_joined():
    layer = heads()
    allowed = draw.random((2, 3, 6)) < 0.7
    allowed[..., 0] = True
    y = layer(QUERY, VALUE, attention_mask=allowed, value_mask=MASK)
    np.testing.assert_allclose(y, attended(layer, QUERY, VALUE, allowed & MASK[:, None]), rtol=1e-4, atol=1e-5)


def test_masks_that_ride_on_the_inputs_count():
    layer, value = heads(), jnp.asarray(VALUE)
    explicit = layer(QUERY, VALUE, value_mask=MASK)
    masking.set_mask(value, jnp.asarray(MASK))
    np.testing.assert_array_equal(layer(QUERY, value), explicit)


def test_a_causal_mask_hides_what_comes():
    layer = heads()
    y = layer(VALUE, VALUE, use_causal_mask=True)
    np.testing.assert_allclose(y, attended(layer, VALUE, VALUE, np.tri(6, dtype=bool)), rtol=1e-4, atol=1e-5)


def test_a_window_hides_what_is_far():
    layer = heads(sliding_window=2)
    near = abs(np.arange(6)[:, None] - np.arange(6)) < 2
    np.testing.assert_allclose(layer(VALUE, VALUE), attended(layer, VALUE, VALUE, near), rtol=1e-4, atol=1e-5)


def test_scores_are_shares():
    y, scores = heads()(QUERY, VALUE, return_attention_scores=True, value_mask=MASK)
    assert scores.shape == (2, 2, 3, 6)
    np.testing.assert_allclose(scores.sum(-1), np.ones((2, 2, 3)), rtol=1e-5)
    assert not np.asarray(scores)[1, :, :, 2:].any()
    assert y.shape == QUERY.shape


def test_free_axes_do_not_see_each_other():
    layer = heads(attention_axes=2)
    x = draw.normal(size=(2, 4, 3, 5)).astype("float32")
    y = layer(x, x)
    np.testing.assert_allclose(y[:, 1:2], layer(x[:, 1:2], x[:, 1:2]), rtol=1e-4, atol=1e-5)


def test_several_attended_axes_are_one_long_axis():
    layer, flat = heads(attention_axes=(1, 2)), heads()
    x = draw.normal(size=(2, 4, 3, 5)).astype("float32")
    long = x.reshape(2, 12, 5)
    y = layer(x, x)
    flat(long, long)
    flat.set_weights(layer.get_weights())
    np.testing.assert_allclose(y.reshape(2, 12, 5), flat(long, long), rtol=1e-4, atol=1e-5)


def test_children_have_the_names_that_files_know():
    layer = heads(name="attention")
    layer.build(QUERY.shape, VALUE.shape)
    parts = ("query", "key", "value", "attention_output")
    assert [v.path for v in layer.weights] == [f"attention/{p}/{w}" for p in parts for w in ("kernel", "bias")]


@pytest.mark.parametrize("cls", [layers.Attention, layers.AdditiveAttention])
def test_attention_is_its_definition(cls):
    layer = cls(use_scale=True)
    y = layer([QUERY, VALUE], mask=[None, MASK])
    if cls is layers.Attention:
        scores = QUERY @ VALUE.swapaxes(1, 2) * layer.scale.numpy()
    else:
        scores = (np.tanh(QUERY[:, :, None] + VALUE[:, None]) * layer.scale.numpy()).sum(-1)
    weights = softmax(np.where(MASK[:, None], scores, -1e30))
    np.testing.assert_allclose(y, weights @ VALUE, rtol=1e-4, atol=1e-5)


def test_scores_are_what_values_are_weighted_with():
    outputs, scores = layers.Attention(dropout=0.5, seed=1)([QUERY, VALUE], training=True, return_attention_scores=True)
    assert (np.asarray(scores) == 0).any()
    np.testing.assert_allclose(outputs, scores @ VALUE, rtol=1e-5)


@pytest.mark.parametrize("mask", [MASK, [MASK]], ids=["array", "one"])
def test_attention_takes_a_mask_for_each_input(mask):
    with pytest.raises(ValueError, match=r'Attention "it": mask must be \[query mask, value mask\], got .*bool'):
        layers.Attention(name="it")([QUERY, VALUE], mask=mask)


def test_attention_hides_masked_queries():
    y = np.asarray(layers.Attention()([QUERY, VALUE], mask=[np.array([[True, True, False]] * 2), None]))
    assert not y[:, 2].any()
    assert y[:, :2].any()


@pytest.mark.parametrize("inputs", [QUERY, [QUERY], [QUERY] * 4], ids=["array", "one", "four"])
def test_attention_needs_a_query_and_a_value(inputs):
    with pytest.raises(ValueError, match=r'Attention "it": must be called on \[query, value\]'):
        layers.Attention(name="it")(inputs)


@pytest.mark.parametrize(
    ("equation", "output_shape", "bias_axes", "shape", "kernel", "bias"),
    [
        ("ab,bc->ac", 7, "c", (2, 5), (5, 7), (7,)),
        ("abc,cd->abd", (None, 7), None, (2, 3, 5), (5, 7), None),
        ("abc,cde->abde", (3, 2, 4), "de", (2, 3, 5), (5, 2, 4), (2, 4)),
        ("abc,cde->abde", (3, 2, 4), "d", (2, 3, 5), (5, 2, 4), (2, 1)),
        ("...x,xy->...y", 7, "y", (2, 3, 4, 5), (5, 7), (7,)),
        ("ab...,bc->ac...", 7, "c", (2, 5, 3), (5, 7), (7, 1)),
    ],
)
def test_einsum_dense_has_the_weights_of_its_equation(equation, output_shape, bias_axes, shape, kernel, bias):
    layer = layers.EinsumDense(equation, output_shape, bias_axes=bias_axes, bias_initializer="ones")
    x = draw.normal(size=shape).astype("float32")
    expected = np.einsum(equation, x, np.zeros(kernel, "float32"))
    y = layer(x)
    expected = np.einsum(equation, x, layer.kernel.numpy()) + (0 if bias is None else 1) + expected
    assert layer.kernel.shape == kernel
    assert (None if layer.bias is None else layer.bias.shape) == bias
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "output_shape", "shape", "rule"),
    [
        ("abc,cd->abd", 7, (2, 3, 5), "output_shape must have 2 sizes"),
        ("abc,cd->abd", (4, 7), (2, 3, 5), "output_shape must keep the size 3 of axis 'b'"),
        ("ab,bc->ac", 7, (2, None), "the sizes of b must be known"),
    ],
)
def test_einsum_dense_refuses_shapes_that_do_not_fit(equation, output_shape, shape, rule):
    with pytest.raises(ValueError, match=f'EinsumDense "it": {rule}'):
        layers.EinsumDense(equation, output_shape, name="it")(lamina.KerasTensor(shape))


def test_as_many_heads_of_keys_as_of_queries_is_attention_of_several_heads():
    grouped, plain = layers.GroupQueryAttention(3, 2, 2), heads()
    plain(QUERY, VALUE)
    grouped(QUERY, VALUE)
    grouped.set_weights(plain.get_weights())
    np.testing.assert_allclose(grouped(QUERY, VALUE), plain(QUERY, VALUE), rtol=1e-5, atol=1e-6)


def test_heads_of_a_group_share_keys_and_values():
    grouped, plain = layers.GroupQueryAttention(3, 4, 2), heads(num_heads=4)
    plain(QUERY, VALUE)
    grouped(QUERY, VALUE)
    for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
        shared = getattr(grouped, f"_{name}").get_weights()
        if name in ("key_dense", "value_dense"):
            shared = [w.repeat(2, axis=-2) for w in shared]
        getattr(plain, name).set_weights(shared)
    for more in ({}, {"return_attention_scores": True}, {"value_mask": MASK}, {"use_causal_mask": True}):
        pair = [jax.tree.leaves(layer(QUERY, VALUE, **more)) for layer in (grouped, plain)]
        for ours, expected in zip(*pair, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"num_key_value_heads": 3}, "num_query_heads must be a multiple of num_key_value_heads=3, got 4"),
        ({"head_dim": 0}, "head_dim must be a positive integer, got 0"),
        ({"dropout": 0.5, "flash_attention": True}, "dropout must be 0 with flash_attention"),
    ],
    ids=str,
)
def test_heads_that_do_not_fit_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=f'GroupedQueryAttention "it": {rule}'):
        usual = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2, "name": "it"}
        layers.GroupQueryAttention(**{**usual, **arguments})
    with pytest.raises(ValueError, match=r"output_shape must be a positive integer, got 8\.0"):
        layers.MultiHeadAttention(2, 4, output_shape=8.0)


def test_flash_attention_has_no_scores():
    layer = heads(flash_attention=True)
    with pytest.raises(ValueError, match="flash_attention must not be set with return_attention_scores"):
        layer(QUERY, VALUE, return_attention_scores=True)


def test_flash_attention_is_allowed_unless_it_is_disabled():
    assert lamina.config.is_flash_attention_enabled() is None
    lamina.config.disable_flash_attention()
    assert lamina.config.is_flash_attention_enabled() is False
    lamina.config.enable_flash_attention()
    assert lamina.config.is_flash_attention_enabled() is None


class Cached(layers.MultiHeadAttention):
    """Attention as programs write it: projections and what lies between under the names of Keras."""

    def call(self, query, value, attention_mask=None, training=None):
        mask = self._compute_attention_mask(query, value, attention_mask=attention_mask, use_causal_mask=True)
        outputs, scores = self._compute_attention(
            query=self._query_dense(query),
            key=self._key_dense(value),
            value=self._value_dense(value),
            attention_mask=mask.astype("int32"),
            training=training,
            return_attention_scores=True,
        )
        return self._output_dense(outputs), scores


def test_attention_of_a_program_s_own_from_the_parts_of_keras():
    own, plain = Cached(2, 4), layers.MultiHeadAttention(2, 4)
    own.build(QUERY.shape, VALUE.shape)
    plain.build(QUERY.shape, VALUE.shape)
    plain.set_weights(own.get_weights())
    expected = plain(QUERY, VALUE, use_causal_mask=True, return_attention_scores=True)
    for got, wanted in zip(own(QUERY, VALUE), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


class Rebuilt(layers.MultiHeadAttention):
    """Attention of which a program writes all parts anew, out of what Keras keeps under private names."""

    def build(self, query_shape, value_shape, key_shape=None):
        def projection(name, shape, equation, *sizes):
            options = self._get_common_kwargs_for_sublayer()
            axes = equation[-len(sizes) :] if self._use_bias else None
            layer = layers.EinsumDense(equation, (None, *sizes), bias_axes=axes, name=name, **options)
            layer.build(shape)
            return layer

        into = "abc,cde->abde"
        self._query_dense = projection("query", query_shape, into, self._num_heads, self._key_dim)
        self._key_dense = projection("key", value_shape, into, self._num_heads, self._key_dim)
        self._value_dense = projection("value", value_shape, into, self._num_heads, self._value_dim)
        self._build_attention(len(query_shape) + 1)
        heads_shape = (*query_shape[:-1], self._num_heads, self._value_dim)
        self._output_dense = projection("attention_output", heads_shape, "abde,dec->abc", *self._output_shape)

    def _compute_attention(self, query, key, value, attention_mask=None, training=None, return_attention_scores=False):
        scores = lamina.ops.einsum(self._dot_product_equation, key, query * self._inverse_sqrt_key_dim)
        scores = self._masked_softmax(scores, attention_mask)
        dropped = self._dropout_layer(scores, training=training)
        return lamina.ops.einsum(self._combine_equation, dropped, value), scores


@pytest.mark.parametrize("masked", [False, True])
def test_all_parts_of_attention_may_be_a_program_s_own(masked):
    mask = np.random.default_rng(3).random((*QUERY.shape[:2], VALUE.shape[1])) > 0.4 if masked else None
    options = {"num_heads": 2, "key_dim": 4, "value_dim": 3, "output_shape": (5,)}
    own, plain = Rebuilt(**options), layers.MultiHeadAttention(**options)
    own.build(QUERY.shape, VALUE.shape)
    plain.build(QUERY.shape, VALUE.shape)
    plain.set_weights(own.get_weights())
    assert [v.path.partition("/")[2] for v in own.weights] == [v.path.partition("/")[2] for v in plain.weights]
    options = {"attention_mask": mask, "return_attention_scores": True}
    for got, wanted in zip(own(QUERY, VALUE, **options), plain(QUERY, VALUE, **options), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_weights_over_several_axes_are_those_of_the_axes_joined():
    layer = layers.MultiHeadAttention(2, 3, attention_axes=(1, 2))
    layer.build((1, 2, 3, 4), (1, 2, 3, 4))
    scores, mask = np.random.default_rng(0).normal(size=(2, 1, 2, 2, 3, 2, 3)).astype("float32")
    mask = mask[:, 0] > 0
    joined = layers.MultiHeadAttention(2, 3)
    joined.build((1, 6, 4), (1, 6, 4))
    expected = joined._masked_softmax(scores.reshape(1, 2, 6, 6), mask.reshape(1, 6, 6)).reshape(scores.shape)
    np.testing.assert_allclose(layer._masked_softmax(scores, mask), expected, rtol=1e-6)


@pytest.mark.parametrize("base", [layers.MultiHeadAttention, layers.GroupQueryAttention])
def test_a_program_may_have_its_own_form_of_attention_between_the_projections(base):
    class Causal(base):
        def _compute_attention(self, query, key, value, attention_mask=None, training=None):
            return super()._compute_attention(query, key, value, attention_mask, training, use_causal_mask=True)

    sizes = (2, 4) if base is layers.MultiHeadAttention else (4, 2, 2)
    own, plain = Causal(*sizes), base(*sizes)
    own.build(QUERY.shape, VALUE.shape)
    plain.build(QUERY.shape, VALUE.shape)
    plain.set_weights(own.get_weights())
    expected = plain(QUERY, VALUE, use_causal_mask=True)
    np.testing.assert_allclose(own(QUERY, VALUE), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("queries, values", [(1, 3), (3, 1)])
def test_one_sample_serves_a_whole_batch(queries, values, scores):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(queries, 4, 6)).astype("float32"), random.normal(size=(values, 5, 6)).astype("float32")
    all_x, all_y = (np.repeat(a, 3 // len(a), axis=0) for a in (x, y))
    layer, simple = layers.MultiHeadAttention(2, 3), layers.Attention()
    for ours, expected in (
        (layer(x, y, return_attention_scores=scores), layer(all_x, all_y, return_attention_scores=scores)),
        (simple([x, y], return_attention_scores=scores), simple([all_x, all_y], return_attention_scores=scores)),
    ):
        for a, b in zip(*((r if scores else (r,)) for r in (ours, expected))):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="query, key and value must agree in batch and free axes, or have 1 there"):
        layer(np.ones((2, 4, 6), "float32"), np.ones((3, 5, 6), "float32"))
