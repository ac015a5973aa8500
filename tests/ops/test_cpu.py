"""The forms for the CPU against XLA's plain ones: values and gradients over the grid of options."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lamina import ops
from lamina.ops import attention, cpu

RANDOM = np.random.default_rng(0)


def array(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), "float32")


def assert_same(plain, fast, args, tolerance=2e-5):
    """The functions agree in value, in the gradient by each argument, and in the change along random tangents."""
    cotangent = array(*jax.eval_shape(plain, *args).shape)
    tangents = tuple(array(*a.shape) for a in args)

    @jax.jit
    def both():
        values_and_gradients = [jax.vjp(f, *args) for f in (plain, fast)]
        changes = [jax.jvp(f, args, tangents)[1] for f in (plain, fast)]
        return [(value, change, *back(cotangent)) for (value, back), change in zip(values_and_gradients, changes)]

    for a, b in zip(*both(), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * (np.abs(a).max() + 1))


def plain_convolution(strides, padding, dilation, groups, data_format="channels_last"):
    def call(x, kernel):
        places = "abc"[: x.ndim - 2]
        spec = f"NC{places}" if data_format == "channels_first" else f"N{places}C"
        return lax.conv_general_dilated(
            x, kernel, (strides,) * len(places), padding.upper(), rhs_dilation=(dilation,) * len(places),
            dimension_numbers=(spec, f"{places}IO", spec), feature_group_count=groups,
        )  # fmt: skip

    return call


CONVOLUTIONS = [
    (rank, size, strides, padding, dilation, groups)
    for rank, size, strides, padding, dilation, groups in itertools.product(
        (1, 2), (1, 3), (1, 2), ("valid", "same"), (1, 2), (1, 2, 8)
    )
    if dilation == 1 or (size > 1 and strides == 1)
] + [
    (3, size, strides, padding, dilation, groups)
    for size, strides, padding, dilation, groups in [
        (2, 1, "same", 1, 1), (2, 2, "valid", 1, 1), (3, 1, "same", 1, 8), (3, 1, "valid", 1, 1), (3, 2, "same", 1, 2),
        (4, 1, "same", 1, 1), (2, 1, "same", 2, 1), (2, 3, "same", 1, 1),
    ]
]  # fmt: skip


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=repr)
def test_convolution(options):
    rank, size, strides, padding, dilation, groups = options
    x, kernel = array(2, *(7, 6, 5)[:rank], 8), array(*(size,) * rank, 8 // groups, 16)

    def fast(x, kernel):
        return ops.conv(x, kernel, strides, padding, "channels_last", dilation)

    assert_same(plain_convolution(strides, padding, dilation, groups), fast, (x, kernel))


FEW = [
    (rank, channels, outputs, *options)
    for rank, channels, outputs in [(2, 1, 5), (2, 3, 5), (2, 5, 3), (2, 16, 1), (1, 2, 9), (1, 9, 1), (3, 2, 1)]
    for options in [(1, "same", 1), (1, "valid", 1), (2, "same", 1), (1, "same", 2)]
]


@pytest.mark.parametrize("options", FEW, ids=repr)
def test_convolution_of_few_channels(options):
    rank, channels, outputs, strides, padding, dilation = options
    x, kernel = array(2, *(7, 6, 5)[:rank], channels), array(*(3,) * rank, channels, outputs)
    plain = plain_convolution(strides, padding, dilation, 1)
    assert_same(plain, lambda x, k: ops.conv(x, k, strides, padding, None, dilation), (x, kernel))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_convolution_with_channels_first(groups):
    x, kernel = array(2, 8, 7, 6), array(3, 2, 8 // groups, 16)
    plain = plain_convolution(2, "same", 1, groups, "channels_first")
    assert_same(plain, lambda x, k: ops.conv(x, k, 2, "same", "channels_first"), (x, kernel))


def test_convolution_of_more_groups_than_are_split():
    x, kernel = array(2, 5, 132), array(2, 2, 132)
    assert_same(plain_convolution(1, "valid", 1, 66), lambda x, k: ops.conv(x, k), (x, kernel))


DEPTHWISE = list(itertools.product(((7, 6), (12, 5), (1, 9)), (1, 2), (1, 2), ("valid", "same"), (1, 2)))


def depthwise(places, multiplier, strides, padding, dilation):
    """The plain form, the fast one, and arguments of both."""
    sizes = tuple(min(3, n) for n in places)
    plain = plain_convolution(strides, padding, dilation, 4)

    def fast(x, k):
        return ops.depthwise_conv(x, k, strides, padding, dilation_rate=dilation)

    args = array(2, *places, 4), array(*sizes, 4, multiplier)
    return (lambda x, k: plain(x, k.reshape(*sizes, 1, -1))), fast, args


@pytest.mark.parametrize("options", DEPTHWISE, ids=repr)
def test_depthwise_convolution(options):
    plain, fast, args = depthwise(*options)
    assert_same(plain, fast, args)


@pytest.mark.parametrize("places", [(9,), (8, 5, 4)], ids=repr)
def test_depthwise_convolution_of_signals_and_volumes(places):
    plain, fast, args = depthwise(places, 2, 2, "same", 1)
    assert_same(plain, fast, args)


def test_depthwise_convolution_has_second_derivatives_and_runs_under_vmap():
    plain, fast, (x, kernel) = depthwise((8, 5), 2, 1, "same", 1)

    def mixed(f):
        loss = lambda x, k: jnp.sum(jnp.tanh(f(x, k)))  # noqa: E731
        return jax.grad(lambda x, k: jnp.sum(jnp.square(jax.grad(loss)(x, k))) + loss(x, k), (0, 1))(x, kernel)

    def each(f):
        return jax.vmap(jax.grad(lambda k, a: jnp.sum(jnp.sin(f(a[None], k)))), (None, 0))(kernel, x)

    for ours, theirs in zip((*mixed(fast), each(fast)), (*mixed(plain), each(plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_depthwise_convolution_sums_16_bits_in_32():
    x, kernel = jnp.full((1, 5, 5, 1), 1.0, "bfloat16"), jnp.full((5, 5, 1, 1), 1 / 256, "bfloat16")
    kernel = kernel.at[0, 0].set(1)
    assert ops.depthwise_conv(x, kernel)[0, 0, 0, 0] == jnp.bfloat16(1 + 24 / 256)  # each addend by itself is lost


TRANSPOSED = [
    *itertools.product([(4, 5)], (1, 2, 3), (1, 2, 3), ("valid", "same"), (1,)),
    *itertools.product([(3, 4, 2)], (1, 3), (1, 2, 3), ("valid", "same"), (1,)),
    *itertools.product([(4,), (4, 5), (3, 4, 2)], (2, 3), (1, 2, 4), ("valid",), (2, 3)),
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=repr)
def test_transposed_convolution(options):
    places, size, strides, padding, dilation = options
    x, kernel = array(2, *places, 6), array(*(size for _ in places), 3, 6)

    def fast(x, k):
        return ops.conv_transpose(x, k, strides, padding, dilation_rate=dilation)

    def plain(x, k):
        places = fast(x, k).shape[1:-1]
        image = jax.ShapeDtypeStruct((2, *places, 3), x.dtype)
        forward = plain_convolution(strides, padding, dilation, 1)
        return jax.linear_transpose(lambda y: forward(y, k), image)(x)[0]

    assert_same(plain, fast, (x, kernel))


def test_convolution_has_second_derivatives_and_runs_under_vmap():
    x, kernel = array(2, 5, 4, 8), array(3, 3, 8, 2)
    plain = plain_convolution(1, "same", 1, 1)

    def hessian_times(f):
        loss = lambda k: jnp.sum(jnp.tanh(f(x, k)))  # noqa: E731
        return jax.grad(lambda k: jnp.sum(jax.grad(loss)(k) * kernel))(kernel)

    expected = hessian_times(plain_convolution(1, "valid", 1, 1))
    np.testing.assert_allclose(hessian_times(ops.conv), expected, rtol=1e-3, atol=1e-3)
    each = jax.vmap(jax.grad(lambda k, a: jnp.sum(jnp.sin(ops.conv(a[None], k, 1, "same")))), (None, 0))(kernel, x)
    expected = jax.vmap(jax.grad(lambda k, a: jnp.sum(jnp.sin(plain(a[None], k)))), (None, 0))(kernel, x)
    np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-4)


def test_convolutions_in_a_loop_have_the_operands_that_are_fast():
    """XLA's CPU backend puts operands in order outside of loops only; here they are in order from the start."""
    x, kernel = array(2, 6, 6, 8), array(3, 3, 8, 16)

    def step(_, carry):
        x, kernel = carry
        dx, dkernel = jax.grad(lambda x, k: jnp.sum(jnp.square(ops.conv(x, k, 2, "same"))), (0, 1))(x, kernel)
        return x - dx, kernel - dkernel

    def run(n, x, k):
        return lax.fori_loop(0, n, step, (x, k))

    text = jax.jit(run).lower(3, x, kernel).compile().as_text()
    labels = {part.split(",")[0].split("}")[0] for part in text.split("dim_labels=")[1:]}
    assert labels == {"b01f_01io->b01f"}


POOLS = [
    (pool, strides, padding, data_format)
    for pool, strides, padding, data_format in itertools.product(
        ((2, 2), (3, 2)), ((2, 2), (1, 3)), ("valid", "same"), ("channels_last", "channels_first")
    )
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("options", POOLS, ids=repr)
def test_max_pooling(options, ties):
    pool, strides, padding, data_format = options
    x = array(2, 7, 6, 3)
    x = jnp.maximum(x, 0) if ties else x
    around = (lambda v: (1, *v, 1)) if data_format == "channels_last" else (lambda v: (1, 1, *v))

    def plain(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, around(pool), around(strides), padding.upper())

    assert_same(plain, lambda x: ops.max_pool(x, pool, strides, padding, data_format), (x,))


@pytest.mark.parametrize("options", [*POOLS, ((1, 1), (2, 2), "valid", "channels_last")], ids=repr)
def test_average_pooling(options):
    pool, strides, padding, data_format = options
    x = array(2, 7, 6, 3)
    around = (lambda v: (1, *v, 1)) if data_format == "channels_last" else (lambda v: (1, 1, *v))

    def total(x):
        return lax.reduce_window(x, 0.0, lax.add, around(pool), around(strides), padding.upper())

    plain = lambda x: total(x) / total(jnp.ones_like(x))  # noqa: E731
    assert_same(plain, lambda x: ops.average_pool(x, pool, strides, padding, data_format), (x,))


@pytest.mark.parametrize(
    "steps, gradient", [(2, [[1, 0, 1, 0], [0] * 4, [0] * 4]), (1, [[1, 1, 1, 0]] * 2 + [[0] * 4])]
)
def test_gradient_of_max_pooling_goes_to_the_first_of_equal_values(steps, gradient):
    found = jax.grad(lambda x: jnp.sum(ops.max_pool(x, 2, steps)))(jnp.zeros((1, 3, 4, 1)))
    np.testing.assert_array_equal(found[0, :, :, 0], gradient)


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize("options", [(3, 2, "same"), (3, 2, "valid"), (2, 2, "valid"), (1, 2, "valid")], ids=repr)
def test_pooling_of_sizes_that_are_symbols(options, name):
    (rows,) = jax.export.symbolic_shape("rows")
    fn = jax.jit(lambda x: getattr(ops, name)(x, *options))
    exported = jax.export.export(fn)(jax.ShapeDtypeStruct((rows, 2 * rows, 6, 3), np.float32))
    x = array(4, 8, 6, 3)
    np.testing.assert_allclose(exported.call(x), fn(x), rtol=1e-5, atol=1e-6)  # sums in another order


def test_pooling_of_long_windows_that_overlap():
    x, window = array(2, 60, 3), ((1, 51, 1), (1, 2, 1), "VALID")
    assert_same(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, *window), lambda x: ops.max_pool(x, 51, 2), (x,))
    plain = lambda x: lax.reduce_window(x, 0.0, lax.add, *window) / 51  # noqa: E731
    assert_same(plain, lambda x: ops.average_pool(x, 51, 2), (x,))


@pytest.mark.parametrize("rank", [1, 3])
def test_max_pooling_of_signals_and_volumes(rank):
    x, window = array(2, *(6, 5, 4)[:rank], 3), (1, *(2,) * rank, 1)
    plain = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, window, "SAME")  # noqa: E731
    assert_same(plain, lambda x: ops.max_pool(x, 2, 2, "same"), (x,))


ATTENTIONS = list(itertools.product((4, 2, 1), (False, True), (None, "bias"), (None, "mask")))


@pytest.mark.parametrize("heads, is_causal, bias, mask", ATTENTIONS)
def test_attention(heads, is_causal, bias, mask):
    query, key, value = array(2, 5, 4, 3), array(2, 6, heads, 3), array(2, 6, heads, 3)
    bias = array(1, 4, 5, 6) if bias else None
    mask = jnp.asarray(RANDOM.random((2, 1, 5, 6)) < 0.7) if mask else None

    def plain(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, bias, mask, is_causal=is_causal)

    def fast(q, k, v):
        return ops.dot_product_attention(q, k, v, bias, mask, is_causal=is_causal)

    assert_same(plain, fast, (query, key, value))


@pytest.mark.parametrize("most", [8, 100])
@pytest.mark.parametrize(
    "is_causal, soft_cap, bias, mask", [(0, None, 1, 1), (0, 2.0, 5, 1), (1, None, 1, 5), (1, 2.0, 5, 5)]
)
def test_attention_block_by_block(most, is_causal, soft_cap, bias, mask, monkeypatch):
    args = array(2, 5, 4, 3), array(2, 6, 2, 3), array(2, 6, 2, 7)
    bias, mask = array(1, 4, bias, 6), jnp.asarray(RANDOM.random((2, 1, mask, 6)) < 0.7)

    def attend(q, k, v):
        return attention.attention(q, k, v, bias, mask, 0.5, bool(is_causal), soft_cap)

    expected = jax.vjp(attend, *args)
    monkeypatch.setattr(attention, "_MOST_SCORES", most)
    out = jax.vjp(attend, *args)
    cotangent = array(2, 5, 4, 7)
    for ours, theirs in zip((out[0], *out[1](cotangent)), (expected[0], *expected[1](cotangent)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flash_attention", [None, True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "is_causal, bias, mask", list(itertools.product((False, True), (None, "bias"), (None, "mask")))
)
def test_attention_in_each_dtype_and_with_each_wish_for_a_kernel(dtype, flash_attention, is_causal, bias, mask):
    query, key, value = (array(2, n, 4, 8).astype(dtype) for n in (5, 6, 6))
    bias = array(1, 4, 5, 6) if bias else None
    mask = jnp.asarray(RANDOM.random((2, 1, 5, 6)) < 0.7).at[..., 0].set(True) if mask else None
    wide = (x.astype("float32") for x in (query, key, value))
    exact = jax.nn.dot_product_attention(*wide, bias, mask, is_causal=is_causal)
    out = ops.dot_product_attention(query, key, value, bias, mask, is_causal=is_causal, flash_attention=flash_attention)
    assert out.dtype == dtype
    few_units = 4 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(out.astype("float32"), exact, rtol=few_units, atol=few_units)


def test_values_may_have_another_size_than_keys():
    query, value = array(2, 5, 4, 3), array(2, 5, 4, 7)
    weights = jax.nn.softmax(jnp.einsum("btnh,bsnh->bnts", query, query) / 3**0.5)
    out = ops.dot_product_attention(query, query, value)
    np.testing.assert_allclose(out, jnp.einsum("bnts,bsnh->btnh", weights, value), rtol=1e-4, atol=1e-5)


def test_attention_where_nothing_may_be_seen_is_the_mean():
    value = array(1, 3, 2, 4)
    out = ops.dot_product_attention(value, value, value, mask=jnp.zeros((1, 1, 3, 3), bool))
    np.testing.assert_allclose(out, jnp.broadcast_to(value.mean(1, keepdims=True), value.shape), rtol=1e-5, atol=1e-6)


def test_attention_logits_may_be_capped():
    query = 10 * array(1, 3, 2, 4)
    logits = jnp.einsum("btnh,bsnh->bnts", query, query) / 2
    weights = jax.nn.softmax(logits / (1 + jnp.abs(logits) / 3))
    expected = jnp.einsum("bnts,bsnh->btnh", weights, query)
    out = ops.dot_product_attention(query, query, query, attn_logits_soft_cap=3.0)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_attention_in_half_precision_stays_near_that_of_jax():
    query = array(2, 5, 4, 8).astype("bfloat16")
    out = ops.dot_product_attention(query, query, query)
    assert out.dtype == "bfloat16"
    expected = jax.nn.dot_product_attention(*(query.astype("float32"),) * 3)
    np.testing.assert_allclose(out.astype("float32"), expected, rtol=2e-2, atol=2e-2)


def second(f, *args):
    """Gradients of a function of all its first derivatives."""
    numbers = range(len(args))
    loss = lambda *args: jnp.sum(jnp.tanh(f(*args)))  # noqa: E731
    squares = lambda *args: sum(jnp.sum(jnp.square(g)) for g in jax.grad(loss, numbers)(*args))  # noqa: E731
    return jax.jit(jax.grad(squares, numbers))(*args)


def assert_same_twice(plain, fast, args):
    """The functions agree in second derivatives, too."""
    assert_same(plain, fast, args)
    for ours, theirs in zip(second(fast, *args), second(plain, *args), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * (np.abs(theirs).max() + 1))


# Sizes at which forms change: products of lines forwards, of points by the inputs, XLA's own beyond.
WIDTHS = [(32, 32), (40, 64), (8, 64), (128, 32), (130, 3), (3, 260), (260, 2)]
SHORT = [
    *(
        (widths, (3, 3), padding, dilation)
        for widths in WIDTHS[:2]
        for padding in ("valid", "same")
        for dilation in (1, 2)
    ),
    *((widths, size, "same", 1) for widths in WIDTHS for size in ((2, 3), (1, 2))),
]


@pytest.mark.parametrize("options", SHORT, ids=repr)
def test_convolution_of_many_channels(options):
    (inputs, outputs), size, padding, dilation = options
    x, kernel = array(2, 5, 6, inputs), array(*size, inputs, outputs) / inputs

    def fast(x, kernel):
        return ops.conv(x, kernel, 1, padding, "channels_last", dilation)

    assert_same(plain_convolution(1, padding, dilation, 1), fast, (x, kernel), 1e-4)


def test_convolution_of_many_channels_over_volumes_and_in_second_derivatives():
    volumes = array(1, 3, 4, 3, 32), array(2, 3, 2, 32, 64) / 32
    assert_same(plain_convolution(1, "same", 1, 1), lambda x, k: ops.conv(x, k, 1, "same"), volumes, 1e-4)
    images = array(1, 4, 5, 32), array(3, 3, 32, 64) / 32
    assert_same_twice(plain_convolution(1, "same", 1, 1), lambda x, k: ops.conv(x, k, 1, "same"), images)


def test_gradients_of_a_convolution_of_volumes_are_summed_in_32_bits():
    x, kernel = jnp.zeros((1, 3, 1, 1, 1), "bfloat16"), jnp.array([1 / 256, 1, 1 / 256], "bfloat16")
    _, back = jax.vjp(lambda x: ops.conv(x, kernel.reshape(3, 1, 1, 1, 1), 1, "same"), x)
    assert back(jnp.ones_like(x))[0][0, 1, 0, 0, 0] == jnp.bfloat16(1 + 2 / 256)


def test_convolution_of_many_channels_sums_16_bits_in_32():
    x, kernel = jnp.full((1, 3, 3, 32), 1, "bfloat16"), jnp.full((3, 3, 32, 64), 1 / 2**13, "bfloat16")
    kernel = kernel.at[0, 0, 0].set(1)
    # The first line alone is 1 + 95 / 2^13, which is between two numbers of 16 bits, as is the sum of all.
    assert ops.conv(x, kernel)[0, 0, 0, 0] == jnp.bfloat16(1 + 287 / 2**13)


@pytest.mark.parametrize("shape", [(5, 6), (6, 5), (12, 6), (40, 3)], ids=repr)
def test_matmul_by_a_matrix(shape):
    assert_same_twice(jnp.matmul, lambda x, k: ops.matmul(x, k), (array(2, 3, 4, shape[0]), array(*shape)))
    assert_same_twice(jnp.matmul, lambda x, k: ops.matmul(x, k), (array(7, shape[0]), array(*shape)))


EINSUMS = {
    "abc,cd->abd": ((2, 3, 8), (8, 4)),
    "abc,cde->abde": ((2, 3, 8), (8, 2, 5)),
    "abcd,cde->abe": ((2, 3, 4, 5), (4, 5, 3)),
    "...c,cd->...d": ((2, 3, 8), (8, 3)),
    "ab,b->a": ((2, 3), (3,)),
    "abc,cd->adb": ((2, 3, 8), (8, 4)),  # turned: no product of two matrices
    "abc,dc->abd": ((2, 3, 8), (4, 8)),
    "abb,bc->ac": ((2, 3, 3), (3, 4)),
    "ab,bc": ((2, 3), (3, 4)),
    "b,bc->c": ((3,), (3, 4)),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(equation):
    args = tuple(array(*shape) for shape in EINSUMS[equation])
    plain = lambda *args: jnp.einsum(equation, *args)  # noqa: E731
    assert_same_twice(plain, lambda *args: ops.einsum(equation, *args), args)


def test_an_einsum_of_other_sizes_is_an_error():
    with pytest.raises(ValueError, match="abc,cd->abd"):
        ops.einsum("abc,cd->abd", array(2, 3, 4), array(5, 6))


@pytest.mark.parametrize("axes", [(2,), (1, 2), (0, 1)], ids=repr)
def test_standardize(axes):
    def plain(x):
        return (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-3)

    def fast(x):
        return cpu.standardize(x, axes, 1e-3)

    assert_same_twice(plain, fast, (3 * array(3, 4, 5) + 1,))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_gelu(dtype):
    x = jnp.linspace(-8, 8, 401).astype(dtype)
    expected = jax.nn.gelu(x.astype("float32"), approximate=False)
    out = ops.gelu(x, approximate=False)
    assert out.dtype == dtype
    unit = float(jnp.finfo(dtype).eps)  # erf is off by up to two
    assert np.all(np.abs(out - expected) <= 2 * unit * np.maximum(1, np.abs(x)))
    if dtype == "float32":
        assert_same_twice(lambda x: jax.nn.gelu(x, approximate=False), lambda x: ops.gelu(x, approximate=False), (x,))


def test_windows_count_their_places():
    window = cpu.Window((2,), ((1, 1),), (1,), (2,))
    assert window.outputs(jnp.zeros((1, 7, 1)), (3,)) == [3]


@pytest.mark.parametrize("of", [np.float32, np.array, jnp.asarray])
def test_the_epsilon_of_a_layer_normalization_may_be_an_array(of):
    x, epsilon = array(3, 4), of(0.25)
    expected = jax.grad(lambda x: jnp.sin(ops.layer_normalization(x, epsilon=0.25)).sum())(x)
    gradient = jax.grad(lambda x: jnp.sin(ops.layer_normalization(x, epsilon=epsilon)).sum())
    np.testing.assert_allclose(gradient(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(gradient)(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size, strides", [(26, 13), (30, 8), (27, 30), (64, 8), (65, 8)])
def test_convolution_by_long_steps(size, strides, padding, channels):
    x, kernel = array(2, 131, channels), array(size, channels, 5)

    def fast(x, kernel):
        return ops.conv(x, kernel, strides, padding, "channels_last")

    plain = plain_convolution(strides, padding, 1, 1)
    assert_same(plain, fast, (x, kernel), 2e-4)
    if strides == 8 and padding == "same":
        assert_same(*(jax.grad(lambda x, f=f: (f(x, kernel) ** 3).sum()) for f in (plain, fast)), (x,), 2e-4)
