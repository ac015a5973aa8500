"""Dense, Embedding, Lambda, Masking, Input: what each does beside the laws."""

import numpy as np
import pytest

import lamina
from lamina import layers, losses
from lamina.core import masking

X = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")


def test_dense_multiplies_adds_and_activates():
    dense = layers.Dense(3, "tanh", bias_initializer="ones")
    np.testing.assert_allclose(dense(X), np.tanh(X @ dense.kernel.numpy() + 1), rtol=1e-5)


def test_dense_needs_to_know_the_features():
    with pytest.raises(ValueError, match='Dense "stem": axis -1 must be an axis of known size'):
        layers.Dense(3, name="stem")(lamina.KerasTensor((None, None)))


def test_regularizers_of_weights_and_outputs_are_losses():
    dense = layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")
    y = np.asarray(dense(X))
    added = sorted(float(loss) for loss in dense.losses)
    kernel = dense.kernel.numpy()
    np.testing.assert_allclose(added, sorted([0.01 * (kernel**2).sum(), 0.01 * np.abs(y).sum() / 4]), rtol=1e-5)


def test_each_call_from_outside_starts_its_losses_anew():
    dense = layers.Dense(3, activity_regularizer="l1")
    dense(X), dense(X)
    assert len(dense.losses) == 1


def test_a_weight_keeps_its_constraint():
    dense = layers.Dense(3, kernel_constraint="non_neg")
    dense.build((None, 5))
    assert isinstance(dense.kernel.constraint, lamina.constraints.NonNeg)


def test_embedding_looks_rows_up():
    embedding = layers.Embedding(7, 3)
    indices = np.array([[0, 6, 1]])
    np.testing.assert_array_equal(embedding(indices), embedding.embeddings.numpy()[indices])
    np.testing.assert_array_equal(embedding(indices.astype("float32")), embedding(indices))
    assert embedding._embeddings is embedding.embeddings  # the name that Keras keeps it under, which programs read


def test_embedding_starts_from_given_vectors():
    table = np.arange(6.0, dtype="float32").reshape(3, 2)
    for weights in (table, [table]):
        embedding = layers.Embedding(3, 2, weights=weights)
        np.testing.assert_array_equal(embedding(np.array([2, 0])), table[[2, 0]])
        assert "weights" not in embedding.get_config()


@pytest.mark.parametrize("mask_zero", [True, False])
def test_embedding_masks_zeros_if_asked(mask_zero):
    indices = np.array([[3, 0, 1]])
    mask = masking.get_mask(layers.Embedding(7, 3, mask_zero=mask_zero)(indices))
    if mask_zero:
        np.testing.assert_array_equal(mask, [[True, False, True]])
    else:
        assert mask is None


def test_masking_masks_and_clears_times_of_one_value():
    x = np.array([[[1.0, 2.0], [2.0, 2.0], [2.0, 0.0]]], "float32")
    y = layers.Masking(2.0)(x)
    np.testing.assert_array_equal(y, [[[1, 2], [0, 0], [2, 0]]])
    np.testing.assert_array_equal(masking.get_mask(y), [[True, False, True]])


def test_a_mask_goes_through_a_model_to_the_loss():
    model = lamina.Sequential([layers.Masking(), layers.Dense(1, kernel_initializer="ones")])
    model.compile(loss=losses.MeanSquaredError())
    x = np.array([[[1.0], [3.0], [0.0]]], "float32")
    targets = np.zeros((1, 3, 1), "float32")
    assert model.evaluate(x, targets, verbose=0) == pytest.approx(5.0)  # the mean of 1 and 9: the third is masked


def test_lambda_passes_what_the_function_takes():
    def function(x, factor, mask=None, training=None):
        return x * factor + (10 if training else 0) + (100 if mask is not None else 0)

    layer = layers.Lambda(function, arguments={"factor": 2.0})
    np.testing.assert_allclose(layer(X), 2 * X)
    np.testing.assert_allclose(layer(X, training=True), 2 * X + 10)
    with pytest.warns(UserWarning, match="does not support masking"):
        np.testing.assert_allclose(layer(X, mask=np.ones(4, bool)), 2 * X + 100)


def test_lambda_puts_its_mask_on():
    layer = layers.Lambda(lambda x: x + 1, mask=lambda x, mask: x[..., 0] > 0)
    x = masked(X)
    np.testing.assert_array_equal(masking.get_mask(layer(x)), X[:, 0] > 0)


def masked(x):
    x = lamina.ops.convert_to_tensor(x)
    masking.set_mask(x, np.ones(x.shape[:1], bool))
    return x


def test_input_is_a_symbolic_tensor():
    tensor = layers.Input((3, None), batch_size=2, dtype="int32", name="tokens")
    assert (tensor.shape, tensor.dtype, tensor.name) == ((2, 3, None), "int32", "tokens")
    assert layers.Input(batch_shape=(None, 4)).shape == (None, 4)
    assert layers.Input(()).shape == (None,)
    assert layers.Input(3).shape == (None, 3)


def test_a_reversible_embedding_gives_the_products_with_its_rows():
    table = layers.ReversibleEmbedding(5, 3)
    vectors = table(np.array([[0, 4]]))
    rows = table.embeddings.numpy()
    np.testing.assert_allclose(table(vectors, reverse=True), np.asarray(vectors) @ rows.T, rtol=1e-5)


def test_a_reversible_embedding_masks_integers_only():
    table = layers.ReversibleEmbedding(3, 3, mask_zero=True)
    vectors = table(np.array([[1, 0]]))
    assert masking.get_mask(vectors).tolist() == [[True, False]]
    assert masking.get_mask(table(np.zeros((1, 2, 3), "float32"), reverse=True)) is None


@pytest.mark.parametrize(("dtype", "expected"), [(None, "bfloat16"), ("float32", "float32")])
def test_the_dtype_of_logits_is_chosen(dtype, expected):
    table = layers.ReversibleEmbedding(5, 3, reverse_dtype=dtype, dtype="mixed_bfloat16")
    assert table(np.ones((2, 3), "float32"), reverse=True).dtype == expected


def test_vectors_of_another_size_have_no_logits():
    with pytest.raises(ValueError, match=r'"it": inputs must have size 3 last, got \(2, 4\)'):
        layers.ReversibleEmbedding(5, 3, name="it")(np.ones((2, 4), "float32"), reverse=True)


def test_an_activation_may_be_taken_away():
    for layer, shape in ((layers.Dense(3, "relu"), (40, 4)), (layers.Conv1D(3, 2, activation="relu"), (40, 5, 4))):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        positive = layer(x)
        layer.activation = None
        assert (np.asarray(layer(x)) < 0).any()
        np.testing.assert_array_equal(np.maximum(layer(x), 0), positive)
        assert layer.get_config()["activation"] is None


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"input_shape": (2, 3)}, (None, 2, 3)),
        ({"input_shape": (2, 3), "batch_size": 4}, (4, 2, 3)),
        ({"batch_input_shape": (4, 3)}, (4, 3)),
        ({"input_tensor": lamina.KerasTensor((4, 3)), "shape": [3], "batch_size": 4}, (4, 3)),
    ],
)
def test_an_input_layer_takes_older_names(arguments, shape):
    assert layers.InputLayer(**arguments).output.shape == shape


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "either shape, with batch_size"),
        ({"batch_size": 4, "batch_shape": (2, 3)}, "either shape, with batch_size"),
        ({"shape": (4,), "input_tensor": lamina.KerasTensor((2, 3))}, r"shape must be that of the tensor, \(3,\), got"),
        ({"batch_size": 5, "input_tensor": lamina.KerasTensor((2, 3))}, "batch_size must be that of the tensor, 2"),
        ({"batch_size": 5, "input_tensor": lamina.KerasTensor(())}, "batch_size must be that of the tensor, None"),
        ({"dtype": "int8", "input_tensor": lamina.KerasTensor((2, 3))}, "dtype must be that of the tensor, float32"),
        ({"input_tensor": np.zeros((2, 3))}, "input_tensor must be a symbolic tensor, got"),
    ],
)
def test_an_input_that_does_not_go_together_is_refused(arguments, rule):
    with pytest.raises(ValueError, match=f'InputLayer "it": {rule}'):
        layers.InputLayer(**arguments, name="it")
