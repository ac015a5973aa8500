"""Laws that hold for every public loss."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import losses
from lamina.core.masking import set_mask

random = np.random.default_rng(3)
LABELS = np.array([0, 1, 0, 2, 2, 1])
ONE_HOT = np.eye(4, dtype="float32")[LABELS]
SHARES = random.dirichlet(np.ones(4), 6).astype("float32")
CERTAIN = np.eye(4, dtype="float32")[[0, 0, 1, 1, 2, 2]]

CLASSES = [getattr(losses, n) for n in losses.__all__ if n[0].isupper() and n != "Loss"]
OF_CLASSES = (losses.SparseCategoricalCrossentropy, losses.CategoricalGeneralizedCrossEntropy, losses.Circle)
NOT_DEFAULT = {
    losses.Huber: {"delta": 0.3},
    losses.CosineSimilarity: {"axis": 0},
    losses.BinaryCrossentropy: {"from_logits": True, "label_smoothing": 0.1, "axis": 0},
    losses.BinaryFocalCrossentropy: {"gamma": 1.0, "apply_class_balancing": True},
    losses.CategoricalCrossentropy: {"from_logits": True, "label_smoothing": 0.1, "axis": 0},
    losses.CategoricalFocalCrossentropy: {"gamma": 1.0, "alpha": 0.5},
    losses.SparseCategoricalCrossentropy: {"from_logits": True, "ignore_class": 1},
    losses.CategoricalGeneralizedCrossEntropy: {"q": 0.3},
    losses.Dice: {"axis": 1},
    losses.Tversky: {"alpha": 0.1, "beta": 0.7, "axis": 1},
    losses.Circle: {"gamma": 4.0, "margin": 0.2, "remove_diagonal": False},
}
OF_WHOLE_BATCHES = (losses.Dice, losses.Tversky)


def every_loss_but(*others):
    chosen = [cls for cls in CLASSES if cls not in others]
    return pytest.mark.parametrize("cls", chosen, ids=lambda cls: cls.__name__)


every_loss = every_loss_but()


def targets(cls):
    return LABELS[:, None] if cls is losses.CTC else LABELS if cls in OF_CLASSES else ONE_HOT


def predictions(cls, of_one_time=SHARES):
    return np.stack([of_one_time, of_one_time[::-1], of_one_time], 1) if cls is losses.CTC else of_one_time


@every_loss
def test_config_round_trip_loses_nothing(cls):
    loss = cls(**NOT_DEFAULT.get(cls, {}), reduction="sum", name="other", dtype="float16")
    twin = losses.deserialize(losses.serialize(loss))
    assert type(twin) is cls
    assert (twin.name, twin.reduction, twin.dtype) == ("other", "sum", "float16")
    assert twin.get_config() == loss.get_config()
    assert twin._fn_kwargs == loss._fn_kwargs


@every_loss
def test_a_pickled_loss_is_the_same(cls):
    loss = cls(**NOT_DEFAULT.get(cls, {}))
    twin = pickle.loads(pickle.dumps(loss))
    assert twin.get_config() == loss.get_config()
    np.testing.assert_array_equal(twin(targets(cls), predictions(cls)), loss(targets(cls), predictions(cls)))


@every_loss
def test_the_docstring_names_every_argument(cls):
    arguments = cls.__doc__.partition("Args:")[2]
    assert all(name in arguments for name in list(inspect.signature(cls).parameters))


@every_loss
def test_an_unknown_argument_is_refused_by_name(cls):
    with pytest.raises(TypeError, match="reductoin"):
        cls(reductoin="sum")


@every_loss
def test_jit_is_eager(cls):
    loss = cls()
    np.testing.assert_allclose(
        jax.jit(loss)(targets(cls), predictions(cls)), loss(targets(cls), predictions(cls)), rtol=2e-6
    )


@every_loss
def test_weights_of_one_change_nothing(cls):
    loss, ones = cls(), np.ones(6)
    np.testing.assert_allclose(
        loss(targets(cls), predictions(cls), ones), loss(targets(cls), predictions(cls)), rtol=2e-6
    )


@every_loss
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_weights_of_zero_give_zero(cls, reduction):
    assert cls(reduction=reduction)(targets(cls), predictions(cls), sample_weight=np.zeros(6)) == 0


@every_loss_but(*OF_WHOLE_BATCHES, losses.Circle)
def test_masked_samples_do_not_count(cls):
    kept = np.array([0, 1, 3])
    y_pred = jnp.asarray(predictions(cls))
    set_mask(y_pred, jnp.zeros(6, bool).at[kept].set(True))
    loss = cls()
    np.testing.assert_allclose(loss(targets(cls), y_pred), loss(targets(cls)[kept], predictions(cls)[kept]), rtol=2e-6)


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_stay_finite_and_keep_their_dtype(cls, dtype):
    loss, y_true = cls(), targets(cls)
    if cls is losses.MeanAbsolutePercentageError:
        y_true = SHARES + 0.1  # in percent of 0, nothing fits into float16
    for y_pred in (SHARES, CERTAIN):
        values = loss.fn(y_true, jnp.asarray(predictions(cls, y_pred), dtype), **loss._fn_kwargs)
        assert values.dtype == dtype
        assert jnp.isfinite(values).all()


@every_loss_but(losses.CategoricalGeneralizedCrossEntropy)  # p^q is vertical at 0
def test_gradient_is_finite_at_certain_predictions(cls):
    gradient = jax.grad(lambda p: cls()(targets(cls), p))(jnp.asarray(predictions(cls, CERTAIN)))
    assert jnp.isfinite(gradient).all()


@every_loss
def test_every_spelling_of_the_name(cls):
    assert isinstance(losses.get(cls.__name__), cls)
    assert isinstance(losses.get(cls.__name__.upper()), cls)


FUNCTIONS = sorted({n for n in losses.__all__ if n.islower()} - {"get", "serialize", "deserialize"})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_found_by_name(name):
    assert losses.get(name) is getattr(losses, name)
    assert losses.deserialize(losses.serialize(getattr(losses, name))) is getattr(losses, name)
