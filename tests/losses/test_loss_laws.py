"""Laws that hold for every loss: a new one is in `lamina.losses.__all__`, and needs a row only if it takes classes."""

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
every_loss = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def targets(cls):
    return LABELS if cls in OF_CLASSES else ONE_HOT


@every_loss
def test_config_round_trip_loses_nothing(cls):
    loss = cls(**NOT_DEFAULT.get(cls, {}), reduction="sum", name="other", dtype="float16")
    twin = losses.deserialize(losses.serialize(loss))
    assert type(twin) is cls
    assert (twin.name, twin.reduction, twin.dtype) == ("other", "sum", "float16")
    assert twin.get_config() == loss.get_config()
    assert twin._fn_kwargs == loss._fn_kwargs


@every_loss
def test_jit_is_eager(cls):
    loss = cls()
    np.testing.assert_allclose(jax.jit(loss)(targets(cls), SHARES), loss(targets(cls), SHARES), rtol=2e-6)


@every_loss
def test_weights_of_one_change_nothing(cls):
    loss = cls(reduction="sum")
    np.testing.assert_allclose(
        loss(targets(cls), SHARES, sample_weight=np.ones(6)) / (6 if cls in (losses.Dice, losses.Tversky) else 1),
        loss(targets(cls), SHARES),
        rtol=2e-6,
    )


@every_loss
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_weights_of_zero_give_zero(cls, reduction):
    assert cls(reduction=reduction)(targets(cls), SHARES, sample_weight=np.zeros(6)) == 0


@every_loss
def test_masked_samples_do_not_count(cls):
    if cls in (losses.Dice, losses.Tversky, losses.Circle):
        pytest.skip("one number for the batch, or of pairs")
    kept = np.array([0, 1, 3])
    y_pred = jnp.asarray(SHARES)
    set_mask(y_pred, jnp.zeros(6, bool).at[kept].set(True))
    loss = cls()
    np.testing.assert_allclose(loss(targets(cls), y_pred), loss(targets(cls)[kept], SHARES[kept]), rtol=2e-6)


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_stay_finite_and_keep_their_dtype(cls, dtype):
    fn = cls()._fn_kwargs and cls().fn or cls().fn
    for y_pred in (SHARES, CERTAIN):
        values = fn(targets(cls), jnp.asarray(y_pred, dtype), **cls()._fn_kwargs)
        assert values.dtype == dtype
        assert jnp.isfinite(values).all()


@every_loss
def test_gradient_is_finite_at_certain_predictions(cls):
    gradient = jax.grad(lambda p: cls()(targets(cls), p))(jnp.asarray(CERTAIN))
    assert jnp.isfinite(gradient).all() or cls is losses.CategoricalGeneralizedCrossEntropy


@every_loss
def test_every_spelling_of_the_name(cls):
    for name in (cls.__name__, cls.__name__.upper(), cls.__name__.lower()):
        assert isinstance(losses.get(name), cls)


@pytest.mark.parametrize("name", [n for n in losses.__all__ if n[0].islower()])
def test_functions_are_found_by_name(name):
    if name in ("get", "serialize", "deserialize"):
        pytest.skip("not a loss")
    assert losses.get(name) is getattr(losses, name)
    assert losses.deserialize(losses.serialize(getattr(losses, name))) is getattr(losses, name)
