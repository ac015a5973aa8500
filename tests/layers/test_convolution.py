"""Convolutions: the definition, and what is refused."""

import itertools

import numpy as np
import pytest

import lamina
from lamina import layers

draw = np.random.default_rng(0)


def convolved(x, kernel, strides, dilation):
    """The definition, for "valid" padding and channels at the end: a sum over the window for each place."""
    rank = kernel.ndim - 2
    sizes = [(x.shape[1 + i] - (kernel.shape[i] - 1) * dilation[i] - 1) // strides[i] + 1 for i in range(rank)]
    out = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    for place in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, kernel.shape[:rank])):
            source = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilation))
            out[(slice(None), *place)] += x[(slice(None), *source)] @ kernel[tap]
    return out


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_a_convolution_is_its_definition(rank, strides, dilation):
    layer = getattr(layers, f"Conv{rank}D")(3, 2, strides, dilation_rate=dilation, bias_initializer="ones")
    x = draw.normal(size=(2, *(5, 6, 4)[:rank], 2)).astype("float32")
    expected = convolved(x, np.zeros((2,) * rank + (2, 3)), (strides,) * rank, (dilation,) * rank)
    y = np.asarray(layer(x))
    expected += convolved(x, layer.kernel.numpy(), (strides,) * rank, (dilation,) * rank) + 1
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_channels_first_is_the_same_with_the_axes_moved():
    last, first = layers.Conv2D(3, 2), layers.Conv2D(3, 2, data_format="channels_first")
    x = draw.normal(size=(2, 5, 6, 4)).astype("float32")
    y = last(x)
    first.build((2, 4, 5, 6))
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(first(x.transpose(0, 3, 1, 2)), np.transpose(y, (0, 3, 1, 2)), rtol=1e-4, atol=1e-5)


def test_a_causal_convolution_does_not_see_what_comes():
    layer = layers.Conv1D(3, 3, padding="causal", dilation_rate=2)
    x = draw.normal(size=(1, 9, 2)).astype("float32")
    before = np.asarray(layer(x))
    x[:, 5:] += 1
    after = np.asarray(layer(x))
    np.testing.assert_array_equal(after[:, :5], before[:, :5])
    assert (after[:, 5:] != before[:, 5:]).any()
    first = layers.Conv1D(3, 3, padding="causal", dilation_rate=2, data_format="channels_first")
    first.build((1, 2, 9))
    first.set_weights(layer.get_weights())
    np.testing.assert_allclose(first(x.transpose(0, 2, 1)), after.transpose(0, 2, 1), rtol=1e-5, atol=1e-6)


def test_groups_do_not_see_each_other():
    layer = layers.Conv2D(4, 2, groups=2)
    x = draw.normal(size=(1, 4, 4, 6)).astype("float32")
    before = np.asarray(layer(x))
    x[..., 3:] += 1
    after = np.asarray(layer(x))
    np.testing.assert_array_equal(after[..., :2], before[..., :2])
    assert (after[..., 2:] != before[..., 2:]).any()
    assert layer.kernel.shape == (2, 2, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "shape", "rule"),
    [
        ({"kernel_size": 3}, (1, 2, 5, 1), "must be at least as large as the kernel"),
        ({"kernel_size": 2, "dilation_rate": 4}, (1, 4, 9, 1), "must be at least as large as the kernel"),
        ({"kernel_size": 2, "groups": 2}, (1, 4, 4, 3), "must be a multiple of groups=2"),
        ({"kernel_size": 2}, (1, 4, 4, None), "axis -1 must be an axis of known size"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_are_refused_before_weights_are_made(arguments, shape, rule):
    layer = layers.Conv2D(4, **arguments, name="stem")
    with pytest.raises(ValueError, match=f'Conv2D "stem": .*{rule}'):
        layer(lamina.KerasTensor(shape))
    assert not layer.built
    assert layer.weights == []


def test_other_channels_than_built_for_are_refused():
    layer = layers.Conv2D(4, 2, name="stem")
    layer.build((None, None, None, 3))
    with pytest.raises(ValueError, match=r'"stem": the input must have size 3 on axis -1, got shape \(1, 4, 4, 2\)'):
        layer(np.ones((1, 4, 4, 2), "float32"))


def test_a_separable_convolution_is_a_depthwise_one_and_one_of_single_places():
    x = draw.normal(size=(2, 6, 5, 3)).astype("float32")
    both, first, second = (
        layers.SeparableConv2D(4, 3, 2),
        layers.DepthwiseConv2D(3, 2, use_bias=False),
        layers.Conv2D(4, 1),
    )
    expected = second(first(x))
    both(x)
    both.set_weights([*first.get_weights(), *second.get_weights()])
    np.testing.assert_allclose(both(x), expected, rtol=1e-4, atol=1e-5)


def test_a_depthwise_convolution_keeps_channels_apart():
    layer = layers.DepthwiseConv1D(3, depth_multiplier=2)
    x = draw.normal(size=(1, 6, 2)).astype("float32")
    before = np.asarray(layer(x))
    x[..., 1] += 1
    after = np.asarray(layer(x))
    np.testing.assert_array_equal(after[..., :2], before[..., :2])
    assert (after[..., 2:] != before[..., 2:]).any()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), [(3, 1), (3, 2), (2, 3)])
def test_a_transposed_convolution_gives_back_the_size(padding, size, strides):
    x = np.ones((1, 11, 11, 2), "float32")
    smaller = layers.Conv2D(3, size, strides, padding)(x)
    larger = layers.Conv2DTranspose(2, size, strides, padding)(smaller).shape[1]
    assert layers.Conv2D(3, size, strides, padding)(np.ones((1, larger, larger, 2), "float32")).shape == smaller.shape


@pytest.mark.parametrize(
    ("name", "arguments", "rule"),
    [
        ("Conv2DTranspose", {"output_padding": 2, "strides": 2}, r"output_padding must be less than strides=\(2, 2\)"),
        ("Conv2DTranspose", {"output_padding": -1}, "output_padding must be 1 or 2 integers of at least 0, got -1"),
        ("Conv2DTranspose", {"dilation_rate": 2, "strides": 2}, "strides and dilation_rate must not both be above 1"),
        ("Conv1D", {"kernel_size": 2.5}, "kernel_size must be a positive integer, got 2.5"),
        ("SeparableConv2D", {"filters": None}, "filters must be a positive integer, got None"),
        ("SeparableConv2D", {"depth_multiplier": 0}, "depth_multiplier must be a positive integer, got 0"),
        ("DepthwiseConv2D", {"padding": "causal"}, "padding must be 'valid' or 'same', got 'causal'"),
    ],
    ids=str,
)
def test_arguments_outside_their_domains_are_refused(name, arguments, rule):
    takes_filters = {"filters": 4} if "Depthwise" not in name else {}
    with pytest.raises(ValueError, match=f'{name} "stem": {rule}'):
        getattr(layers, name)(**{"kernel_size": 3, **takes_filters, **arguments}, name="stem")


def test_a_depthwise_convolution_is_given_no_filters():
    with pytest.raises(TypeError, match="DepthwiseConv2D: must not be given unknown arguments, got filters"):
        layers.DepthwiseConv2D(3, filters=4)
