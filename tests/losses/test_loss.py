"""What `Loss` does around `call`, one behaviour at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import losses
from lamina.core.masking import get_mask, set_mask
from lamina.core.variable import Variable

Y = np.array([[0.0, 1.0], [0.0, 0.0]], "float32")
P = np.array([[1.0, 1.0], [1.0, 0.0]], "float32")


class Weighted(losses.Loss):
    def __init__(self, factor=2.0, name="weighted", reduction="sum"):
        super().__init__(name, reduction)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * jnp.mean(jnp.abs(y_true - y_pred), -1)


def test_a_subclass_defines_call():
    assert Weighted()(Y, P) == 2.0


def test_a_subclass_has_its_arguments_as_configuration():
    assert Weighted(3.0).get_config() == {"name": "weighted", "reduction": "sum", "factor": 3.0}
    assert Weighted.from_config(Weighted(3.0).get_config()).factor == 3.0


def test_a_subclass_without_arguments_has_the_base_configuration():
    class Plain(losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred - y_true

    assert Plain(name="p").get_config() == {"name": "p", "reduction": "sum_over_batch_size"}


def test_a_handwritten_config_extends_that_of_the_base():
    class Written(losses.Loss):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    assert Written(2, name="w").get_config() == {"name": "w", "reduction": "sum_over_batch_size", "factor": 2}
    assert Written.from_config(Written(2, name="w").get_config()).factor == 2


def test_call_must_be_defined():
    with pytest.raises(NotImplementedError, match="Loss: a subclass must define call"):
        losses.Loss()(Y, P)


def test_lists_of_numbers_are_one_array():
    assert losses.MeanSquaredError()(Y.tolist(), P.tolist()) == 0.5


def test_variables_are_read():
    assert losses.mean_squared_error(Y[0], Variable(P[0])) == 0.5
    assert losses.MeanSquaredError()(Variable(Y), Variable(P)) == 0.5


def test_structures_reach_call():
    class Both(losses.Loss):
        def call(self, y_true, y_pred):
            return jnp.mean(y_true["a"] - y_pred["a"], -1) + jnp.mean(y_true["b"][0] - y_pred["b"][0], -1)

    structure = {"a": Y, "b": [Y]}
    assert Both()({"a": P, "b": [P]}, structure) == 1.0


def test_a_wrapped_function_gets_aligned_structures():
    def of_pairs(y_true, y_pred):
        assert all(t.shape == p.shape for t, p in zip(y_true, y_pred))
        return sum(jnp.abs(t - p)[:, 0] for t, p in zip(y_true, y_pred))

    loss = losses.loss.LossFunctionWrapper(of_pairs, name="pairs")
    assert loss((Y[:, 0], Y[:, 1]), (P[:, :1], P[:, 1:])) == 1.0


def test_integer_classes_are_not_rounded_to_a_16_bit_dtype():
    y_pred = np.full((1, 3000), 1e-6, "float32")
    y_pred[0, 2999] = 1.0
    loss = losses.SparseCategoricalCrossentropy(dtype="bfloat16")
    assert loss(np.array([2999]), y_pred) < 0.1


def test_user_losses_see_the_dtype_of_the_loss():
    class Seen(losses.Loss):
        def call(self, y_true, y_pred):
            assert y_true.dtype == y_pred.dtype == "float32"
            return y_pred[:, 0] - y_true[:, 0]

    assert Seen()(Y.astype("uint8"), P.astype("float16")) == 1.0


def test_ignored_classes_are_masked_out_of_the_mean():
    y_pred = np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]], "float32")
    loss = losses.SparseCategoricalCrossentropy(ignore_class=0)
    np.testing.assert_allclose(loss([1, 0, 1], y_pred), -np.log([0.5, 0.9]).mean(), rtol=1e-6)
    mask = get_mask(losses.sparse_categorical_crossentropy(np.array([1, 0, 1]), y_pred, ignore_class=0))
    assert mask.tolist() == [True, False, True]


def test_ignored_predictions_send_no_gradient():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=0, from_logits=True)
    gradient = jax.grad(lambda p: loss(np.array([0, 1]), p))(jnp.ones((2, 3)))
    assert not gradient[0].any() and gradient[1].any()


def test_an_impossible_class_does_not_spoil_the_crossentropy():
    logits = jnp.array([[1.0, 2.0, -jnp.inf]])
    assert jnp.isfinite(losses.sparse_categorical_crossentropy(np.array([1]), logits, from_logits=True)).all()


def test_classes_on_an_inner_axis():
    y_pred = np.random.default_rng(0).uniform(size=(2, 3, 4)).astype("float32")
    y_true = np.array([[0, 1, 2, 0], [2, 2, 1, 0]])
    inner = losses.SparseCategoricalCrossentropy(axis=1, reduction=None)(y_true, y_pred)
    last = losses.SparseCategoricalCrossentropy(reduction=None)(y_true, y_pred.transpose(0, 2, 1))
    np.testing.assert_allclose(inner, last, rtol=1e-6)


def test_cosine_similarity_of_nothing_has_a_gradient():
    gradient = jax.grad(lambda p: losses.CosineSimilarity()(Y, p))(jnp.zeros((2, 2)))
    assert jnp.isfinite(gradient).all()


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match=r"Huber .*: reduction must be one of .*, got 'average'\."):
        losses.Huber(reduction="average")


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"MeanSquaredError .* losses of shape \(2,\), got \(3,\)\."):
        losses.MeanSquaredError()(Y, P, sample_weight=np.ones(3))


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
def test_one_weight_a_sample_weighs_samples_whatever_the_sizes(reduction):
    """Of as many times as samples NumPy's rules would weigh the times."""
    y_true, y_pred = (np.random.default_rng(i).uniform(size=(3, 3, 2)).astype("float32") for i in (0, 1))
    loss, weight = losses.MeanSquaredError(reduction=reduction), np.array([2.0, 0.0, 1.0], "float32")
    beside = weight[:, None]  # the form that Keras takes
    np.testing.assert_allclose(loss(y_true, y_pred, weight), loss(y_true, y_pred, beside), rtol=1e-6)


def test_one_weight_a_sample_goes_with_a_mask_of_places():
    y_true, y_pred = (jnp.asarray(np.random.default_rng(i).uniform(size=(3, 3, 2)), "float32") for i in (0, 1))
    mask = np.array([[True, True, False], [True, False, False], [True, True, True]])
    losses_of_places = losses.mean_squared_error(y_true, y_pred)
    set_mask(y_pred, jnp.asarray(mask))
    weight = np.array([2.0, 0.0, 1.0], "float32")
    expected = np.sum(losses_of_places * mask * weight[:, None])
    np.testing.assert_allclose(losses.MeanSquaredError(reduction="sum")(y_true, y_pred, weight), expected, rtol=1e-6)


def test_weights_of_places_beside_losses_of_samples_are_refused():
    with pytest.raises(ValueError, match=r"first axes of the losses of shape \(2,\), got \(2, 2\)"):
        losses.MeanSquaredError()(Y, P, sample_weight=np.ones((2, 2)))


@pytest.mark.parametrize("size", [1, 3])
def test_a_number_weighs_all_alike(size):
    loss = losses.MeanSquaredError(reduction=None)
    weighted = loss(np.zeros((size, 2)), np.ones((size, 2)), 0.5)
    assert weighted.shape == (size,) and (weighted == 0.5).all()


def test_one_hot_targets_of_a_sparse_loss_are_refused():
    with pytest.raises(ValueError, match=r"of shape \(2,\), got shape \(2, 2\); for one-hot targets use"):
        losses.SparseCategoricalCrossentropy()(Y, P)


def test_different_shapes_are_refused():
    for name in ("categorical_crossentropy", "binary_crossentropy"):
        with pytest.raises(ValueError, match=rf"{name}: y_true must have the shape of y_pred"):
            losses.get(name)(Y, P[:, :1].repeat(3, 1))


def test_one_class_is_suspicious():
    with pytest.warns(SyntaxWarning, match="binary_crossentropy"):
        losses.categorical_crossentropy(Y[:, :1], P[:, :1])


def test_q_is_checked():
    with pytest.raises(ValueError, match="q must be between 0 and 1, got 2"):
        losses.CategoricalGeneralizedCrossEntropy(q=2)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'mean_squared_error'"):
        losses.get("mean_sqared_error")


def test_get_passes_functions_and_objects_on():
    loss = losses.Huber()
    assert losses.get(loss) is loss
    assert losses.get(len) is len
    assert losses.get(None) is None
    assert isinstance(losses.get(losses.Huber), losses.Huber)


def test_custom_objects_are_found():
    assert isinstance(losses.deserialize("Weighted", {"Weighted": Weighted}), Weighted)


def test_circle_takes_a_class_a_sample():
    one_hot = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    with pytest.raises(ValueError, match=r"^circle: y_true must be one class for each of the 4 samples, .* \(4, 3\)"):
        losses.Circle()(one_hot, np.ones((4, 5), "float32"))
