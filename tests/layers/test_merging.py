"""Several inputs, one output: values, broadcasting, masks, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.core import masking
from tests.programs.both import same_in_both

draw = np.random.default_rng(0)
A, B, C = (draw.normal(size=(2, 3, 4)).astype("float32") for _ in range(3))

VALUES = [
    ("Add", A + B + C),
    ("Multiply", A * B * C),
    ("Average", (A + B + C) / 3),
    ("Maximum", np.maximum(np.maximum(A, B), C)),
    ("Minimum", np.minimum(np.minimum(A, B), C)),
    ("Concatenate", np.concatenate([A, B, C], -1)),
]


@pytest.mark.parametrize(("name", "expected"), VALUES)
def test_values(name, expected):
    np.testing.assert_allclose(getattr(layers, name)()([A, B, C]), expected, rtol=1e-5)
    np.testing.assert_allclose(getattr(layers, name.lower())([A, B, C]), expected, rtol=1e-5)


def test_subtract_takes_the_second_from_the_first():
    np.testing.assert_allclose(layers.subtract([A, B]), A - B, rtol=1e-5)


@pytest.mark.parametrize(
    ("axes", "second", "equation"),
    [(2, (2, 5, 4), "bij,bkj->bik"), (1, (2, 3, 5), "bij,bik->bjk"), ((1, 2), (2, 5, 3), "bij,bki->bjk")],
    ids=str,
)
def test_dot_products_along_axes(axes, second, equation):
    other = draw.normal(size=second).astype("float32")
    np.testing.assert_allclose(layers.dot([A, other], axes), np.einsum(equation, A, other), rtol=1e-4, atol=1e-5)


def test_normalized_dot_products_of_equal_vectors_are_one():
    np.testing.assert_allclose(layers.Dot(-1, normalize=True)([A[:, 0], 3 * A[:, 0]]), np.ones((2, 1)), rtol=1e-5)


def test_lower_ranks_are_broadcast_behind_the_batch():
    np.testing.assert_allclose(layers.Add()([A, B[:, 0]]), A + B[:, :1], rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shapes", "rule"),
    [
        ("Add", [(2, 3), (2, 4)], "shapes that broadcast"),
        ("Subtract", [(2, 3)], "exactly 2 inputs, got 1"),
        ("Subtract", [(2, 3)] * 3, "exactly 2 inputs, got 3"),
        ("Concatenate", [(2, 3), (2, 3, 4)], "same number of axes"),
        ("Concatenate", [(2, 3, 4), (2, 5, 4)], "equal sizes on all axes but -1"),
        ("Dot", [(2, 3), (2, 4)], "must have equal sizes"),
        ("Dot", [(2, 3)], "exactly 2 inputs, got 1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(layer, shapes, rule):
    arguments = {"axes": -1} if layer == "Dot" else {}
    with pytest.raises(ValueError, match=f'^{layer} "stem": .*{rule}'):
        getattr(layers, layer)(**arguments, name="stem")([np.ones(shape, "float32") for shape in shapes])


@pytest.mark.parametrize("layer", [layers.Add, layers.Concatenate, layers.Subtract])
def test_one_array_is_no_list(layer):
    with pytest.raises(ValueError, match="must be called on a list of inputs"):
        layer()(A)


def with_mask(x, mask):
    x = jnp.asarray(x)
    masking.set_mask(x, jnp.asarray(mask))
    return x


FIRST, SECOND = np.array([[1, 1, 0], [1, 0, 0]], bool), np.array([[1, 0, 1], [1, 1, 0]], bool)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Add(), FIRST | SECOND),
        (layers.Concatenate(), FIRST | SECOND),
        (layers.Concatenate(axis=1), np.concatenate([FIRST, SECOND], 1)),
        (layers.Dot(axes=2), None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_masks_of_both_inputs(layer, expected):
    mask = masking.get_mask(layer([with_mask(A, FIRST), with_mask(B, SECOND)]))
    np.testing.assert_array_equal(mask, expected)


def test_an_input_without_a_mask_is_there_at_all_times():
    both = [with_mask(A, FIRST), jnp.asarray(B)]
    assert masking.get_mask(layers.Add()(both)) is None
    assert masking.get_mask(layers.Concatenate()(both)).all()
    joined = masking.get_mask(layers.Concatenate(axis=1)(both))
    np.testing.assert_array_equal(joined, np.concatenate([FIRST, np.ones((2, 3), bool)], 1))


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("all_masked", [True, False])
@pytest.mark.parametrize("name", ["Multiply", "Maximum", "Minimum", "Add", "Average"])
def test_what_is_masked_counts_as_in_keras(name, all_masked, number):
    def program(keras):
        arrays = [keras.ops.convert_to_tensor(x) for x in (A, B, A - B)[:number]]
        for x, mask in zip(arrays, (FIRST, SECOND, FIRST & SECOND) if all_masked else (FIRST, SECOND)[: number - 1]):
            set_mask(keras, x, mask)
        return getattr(keras.layers, name)()(arrays)

    same_in_both(program)


def set_mask(keras, x, mask):
    if keras is lamina:
        masking.set_mask(x, jnp.asarray(mask))
    else:
        keras.src.backend.set_keras_mask(x, jnp.asarray(mask))


def test_symbolic_inputs_merge():
    tensors = [lamina.KerasTensor((None, None, 4)), lamina.KerasTensor((None, None, 5))]
    assert layers.concatenate(tensors).shape == (None, None, 9)
