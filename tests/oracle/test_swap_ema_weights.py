"""`SwapEMAWeights` puts averages in the place of weights where Keras's does."""

import keras
import numpy as np
import pytest

import lamina

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
X = np.random.RandomState(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Sees:
    """A callback, for either library, that notes the weights."""

    def on_epoch_begin(self, epoch, logs=None):
        self.note()

    on_epoch_end = on_epoch_begin

    def on_test_begin(self, logs=None):
        self.note()

    on_test_end = on_predict_begin = on_train_end = on_test_begin

    def note(self):
        self.seen = [*getattr(self, "seen", []), *map(np.array, self.model.get_weights())]


def run(library, validated, swap_on_epoch, wrap):
    model = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
    optimizers = library.optimizers
    optimizer = wrap(optimizers, optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5))
    model.compile(optimizer, "mse")
    model.set_weights([np.full((3, 1), 0.5, "float32"), np.zeros(1, "float32")])
    swap = library.callbacks.SwapEMAWeights(swap_on_epoch)
    sees = type("Sees", (Sees, library.callbacks.Callback), {})()
    held_out = {"validation_data": (X, Y)} if validated else {}
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=3, callbacks=[swap, sees], **options, **held_out)
    model.set_weights([np.full((3, 1), 0.25, "float32"), np.ones(1, "float32")])  # no longer their averages
    result = model.evaluate(X, Y, verbose=0, callbacks=[library.callbacks.SwapEMAWeights(), sees])
    outputs = model.predict(X, verbose=0, callbacks=[library.callbacks.SwapEMAWeights(), sees])
    return [*sees.seen, result, outputs]


WRAPPED = {
    "plain": lambda optimizers, inner: inner,
    "scaled": lambda optimizers, inner: optimizers.LossScaleOptimizer(inner, initial_scale=2.0),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize(("validated", "swap_on_epoch"), [(True, False), (True, True), (False, True)])
def test_what_others_see(validated, swap_on_epoch, wrap):
    ours, theirs = (run(library, validated, swap_on_epoch, wrap) for library in (lamina, keras))
    assert len(ours) == len(theirs) > 20
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ours, theirs))


def test_weights_are_back_after_predict():
    """In Keras the averages stay."""
    model = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(1)])
    model.compile(lamina.optimizers.SGD(0.05, use_ema=True), "mse")
    model.train_on_batch(X, Y)
    model.train_on_batch(X, Y)
    before = model.get_weights()
    plain, averaged = (
        model.predict(X, verbose=0, callbacks=callbacks) for callbacks in ([], [lamina.callbacks.SwapEMAWeights()])
    )
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert not np.allclose(plain, averaged)


def test_an_optimizer_without_averages():
    model = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"SwapEMAWeights: the model's optimizer must have use_ema=True"):
        model.fit(X, Y, verbose=0, validation_data=(X, Y), callbacks=[lamina.callbacks.SwapEMAWeights()])
