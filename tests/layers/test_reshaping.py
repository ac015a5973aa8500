"""Elements that move: beside NumPy."""

import numpy as np
import pytest

import lamina
from lamina import layers

SEQUENCE = np.arange(24.0, dtype="float32").reshape(2, 4, 3)
IMAGE = np.arange(60.0, dtype="float32").reshape(2, 3, 5, 2)
FIRST = {"data_format": "channels_first"}

MOVES = [
    (layers.Flatten(), IMAGE, IMAGE.reshape(2, -1)),
    (layers.Flatten(**FIRST), IMAGE, IMAGE.transpose(0, 2, 3, 1).reshape(2, -1)),
    (layers.Flatten(), SEQUENCE[:, 0, 0], SEQUENCE[:, 0, :1]),
    (layers.Reshape((6, 2)), SEQUENCE, SEQUENCE.reshape(2, 6, 2)),
    (layers.Reshape((2, -1)), SEQUENCE, SEQUENCE.reshape(2, 2, 6)),
    (layers.Reshape(12), SEQUENCE, SEQUENCE.reshape(2, 12)),
    (layers.Permute((2, 1)), SEQUENCE, SEQUENCE.transpose(0, 2, 1)),
    (layers.RepeatVector(3), SEQUENCE[:, 0], np.repeat(SEQUENCE[:, :1], 3, axis=1)),
    (layers.ZeroPadding1D((1, 2)), SEQUENCE, np.pad(SEQUENCE, [(0, 0), (1, 2), (0, 0)])),
    (layers.ZeroPadding1D(1, **FIRST), SEQUENCE, np.pad(SEQUENCE, [(0, 0), (0, 0), (1, 1)])),
    (layers.ZeroPadding2D((1, 2)), IMAGE, np.pad(IMAGE, [(0, 0), (1, 1), (2, 2), (0, 0)])),
    (layers.ZeroPadding2D(((1, 0), (2, 3)), **FIRST), IMAGE, np.pad(IMAGE, [(0, 0), (0, 0), (1, 0), (2, 3)])),
    (layers.Cropping1D((1, 2)), SEQUENCE, SEQUENCE[:, 1:2]),
    (layers.Cropping1D(1), SEQUENCE, SEQUENCE[:, 1:3]),
    (layers.Cropping2D(((1, 0), (0, 2))), IMAGE, IMAGE[:, 1:, :-2]),
    (layers.Cropping2D((1, 0), **FIRST), IMAGE, IMAGE[:, :, 1:-1]),
    (layers.UpSampling1D(3), SEQUENCE, SEQUENCE.repeat(3, axis=1)),
    (layers.UpSampling2D((2, 3)), IMAGE, IMAGE.repeat(2, axis=1).repeat(3, axis=2)),
    (layers.UpSampling2D(2, **FIRST), IMAGE, IMAGE.repeat(2, axis=2).repeat(2, axis=3)),
    (layers.UpSampling3D((1, 2, 1)), IMAGE[..., None], IMAGE[..., None].repeat(2, axis=2)),
]


@pytest.mark.parametrize(("layer", "x", "expected"), MOVES, ids=lambda value: getattr(value, "name", ""))
def test_elements_go_where_they_should(layer, x, expected):
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize("shape", [(5, 2), (5, -1), (0, -1)], ids=str)
def test_a_shape_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match='Reshape "stem": cannot reshape samples of shape'):
        layers.Reshape(shape, name="stem")(SEQUENCE)


def test_reshape_of_unknown_sizes_knows_the_rest():
    assert layers.Reshape((-1, 6))(lamina.KerasTensor((None, None, 3))).shape == (None, None, 6)
    assert layers.Reshape((4, 6))(lamina.KerasTensor((None, None, 3))).shape == (None, 4, 6)


def test_cropping_must_leave_something():
    with pytest.raises(ValueError, match='Cropping1D "stem": cropping must leave something of size 4'):
        layers.Cropping1D(2, name="stem")(SEQUENCE)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos3", "lanczos5"])
def test_interpolation_keeps_constants(method):
    y = layers.UpSampling2D(2, interpolation=method)(np.full((1, 3, 4, 2), 7.0, "float32"))
    np.testing.assert_allclose(y, np.full((1, 6, 8, 2), 7.0), rtol=1e-5)
