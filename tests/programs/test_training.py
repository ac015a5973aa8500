"""Programs that train: classifiers, autoencoders, fine-tuning, many inputs and outputs."""

import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(12, 6)).astype("float32")
LABELS = RANDOM.integers(0, 2, 12)
NUMBERS = RANDOM.normal(size=(12, 1)).astype("float32")


def test_a_linear_classifier_of_two_clouds():
    def program(keras):
        rng = np.random.default_rng(0)
        clouds = [rng.multivariate_normal(mean, [[1, 0.5], [0.5, 1]], size=500) for mean in ([0, 3], [3, 0])]
        inputs = np.vstack(clouds).astype(np.float32)
        targets = np.vstack([np.zeros((500, 1)), np.ones((500, 1))]).astype("float32")
        order = rng.permutation(len(inputs))
        cut = int(0.3 * len(inputs))
        held_out, rest = order[:cut], order[cut:]
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(
            optimizer=keras.optimizers.RMSprop(learning_rate=0.1),
            loss=keras.losses.MeanSquaredError(),
            metrics=[keras.metrics.BinaryAccuracy()],
        )
        history = model.fit(
            inputs[rest], targets[rest], epochs=5, batch_size=16, shuffle=False, verbose=0,
            validation_data=(inputs[held_out], targets[held_out]),
        )  # fmt: skip
        loss, accuracy = model.evaluate(inputs[held_out], targets[held_out], batch_size=128, verbose=0)
        return history.history, loss, accuracy, model.predict(inputs[held_out], batch_size=128, verbose=0)

    history, _, accuracy, _ = same_in_both(program, rtol=1e-4, atol=1e-5)
    assert set(history) == {"loss", "binary_accuracy", "val_loss", "val_binary_accuracy"}
    assert accuracy > 0.95


def test_validation_on_the_last_part_of_the_rows():
    def program(keras):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, "sigmoid")])
        model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
        return model.fit(X, LABELS, 4, 3, verbose=0, validation_split=0.3, shuffle=False).history

    assert len(same_in_both(program)["val_loss"]) == 3


def test_an_autoencoder():
    def program(keras):
        encoder = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(2)], name="encoder")
        decoder = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(6)], name="decoder")
        inputs = keras.Input((6,))
        model = keras.Model(inputs, decoder(encoder(inputs)))
        model.compile("adam", "mse")
        history = model.fit(X, X, batch_size=5, epochs=3, shuffle=False, verbose=0).history
        return history, encoder.predict(X, verbose=0), decoder(np.zeros((1, 2), "float32"))

    losses = same_in_both(program)[0]["loss"]
    assert losses[2] < losses[0]


def test_a_variational_autoencoder():
    def program(keras):
        class Sampling(keras.layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.seed_generator = keras.random.SeedGenerator(1337)

            def call(self, inputs):
                mean, log_variance = inputs
                divergence = -0.5 * keras.ops.mean(1 + log_variance - mean**2 - keras.ops.exp(log_variance))
                self.add_loss(0.1 * divergence)
                noise = keras.random.normal(keras.ops.shape(mean), seed=self.seed_generator)
                return mean + keras.ops.exp(0.5 * log_variance) * noise

        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(5, "relu")(inputs)
        code = Sampling()([keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
        model = keras.Model(inputs, keras.layers.Dense(6)(code))
        model.compile(keras.optimizers.Adam(0.01), "mse")
        losses = model.fit(X, X, batch_size=4, epochs=3, shuffle=False, verbose=0).history["loss"]
        state = np.asarray(model.layers[-2].seed_generator.state.value)
        return losses, state, model.evaluate(X, X, batch_size=6, verbose=0)

    same_in_both(program)


def test_transfer_learning():
    def program(keras):
        base = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.BatchNormalization()], name="base"
        )
        base.trainable = False
        inputs = keras.Input((6,))
        model = keras.Model(inputs, keras.layers.Dense(1, name="head")(base(inputs)))
        model.compile(keras.optimizers.Adam(0.05), "mse")
        counts = [len(model.trainable_weights)]
        frozen = base.get_weights()
        first = model.fit(X, NUMBERS, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        unchanged = max(np.abs(a - b).max() for a, b in zip(frozen, base.get_weights()))
        base.trainable = True
        model.compile(keras.optimizers.Adam(0.001), "mse")
        counts.append(len(model.trainable_weights))
        second = model.fit(X, NUMBERS, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        changed = float(np.abs(frozen[0] - base.get_weights()[0]).max() > 0)
        return counts, unchanged, changed, first, second, model.predict(X, verbose=0)

    counts, unchanged, changed, *_ = same_in_both(program)
    assert (counts, unchanged, changed) == ([2, 6], 0, 1)


def test_a_base_called_with_training_false_stays_in_inference_mode():
    """As Keras documents it; in Keras the flag of the outer call wins once the base is unfrozen."""
    base = lamina.Sequential([lamina.Input((6,)), lamina.layers.BatchNormalization(), lamina.layers.Dropout(0.9)])
    inputs = lamina.Input((6,))
    model = lamina.Model(inputs, lamina.layers.Dense(1)(base(inputs, training=False)))
    model.compile("sgd", "mse")
    statistics = base.get_weights()[2:]
    before = model.evaluate(X, NUMBERS, batch_size=12, verbose=0)
    losses = model.fit(X, NUMBERS, batch_size=12, epochs=1, verbose=0).history["loss"]
    assert losses == pytest.approx([before], rel=1e-6)
    for a, b in zip(statistics, base.get_weights()[2:]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("names", [True, False], ids=["dicts", "lists"])
def test_many_inputs_and_outputs(names):
    def program(keras):
        left, right = keras.Input((6,), name="left"), keras.Input((1,), name="right")
        x = keras.layers.concatenate([keras.layers.Dense(4, "relu")(left), right])
        kind = keras.layers.Dense(1, "sigmoid", name="kind")(x)
        size = keras.layers.Dense(1, name="size")(x)
        weights = np.linspace(0.5, 1.5, 12).astype("float32")

        def arranged(*pairs):
            return dict(pairs) if names else [value for _, value in pairs]

        model = keras.Model(arranged(("left", left), ("right", right)), arranged(("kind", kind), ("size", size)))
        model.compile(
            "sgd",
            loss=arranged(("kind", "binary_crossentropy"), ("size", keras.losses.Huber())),
            loss_weights=arranged(("kind", 0.3), ("size", 2.0)),
            metrics=arranged(("kind", ["accuracy"]), ("size", ["mae", "mse"])),
            weighted_metrics=arranged(("kind", ["accuracy"]), ("size", [])),
        )
        x = arranged(("left", X), ("right", NUMBERS))
        y = arranged(("kind", LABELS[:, None]), ("size", 2 * NUMBERS))
        sample_weight = arranged(("kind", weights), ("size", weights[::-1].copy()))
        options = {"batch_size": 5, "verbose": 0}
        history = model.fit(
            x, y, epochs=2, shuffle=False, sample_weight=sample_weight,
            validation_data=(x, y, sample_weight), **options,
        ).history  # fmt: skip
        plain = model.evaluate(x, y, return_dict=True, **options)
        return history, plain, model.evaluate(x, y, sample_weight=sample_weight, **options), model.predict(x, **options)

    history = same_in_both(program)[0]
    assert {"kind_loss", "kind_accuracy", "kind_weighted_accuracy", "size_mae", "size_mse"} < set(history)


def test_one_output_without_a_loss():
    def program(keras):
        inputs = keras.Input((6,))
        x = keras.layers.Dense(3, "relu", name="features")(inputs)
        model = keras.Model(inputs, {"features": x, "size": keras.layers.Dense(1, name="size")(x)})
        model.compile("sgd", loss={"size": "mse"})
        history = model.fit(X, {"size": NUMBERS}, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        return history, model.predict(X, verbose=0)

    same_in_both(program)


def test_weights_of_classes():
    def program(keras):
        model = keras.Sequential([keras.layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
        y = np.arange(12) % 3
        options = {"batch_size": 5, "epochs": 2, "verbose": 0, "shuffle": False}
        return model.fit(X, y, class_weight={0: 0.2, 1: 1.0, 2: 3.0}, **options).history

    same_in_both(program)


def test_learning_rates_by_callback_and_schedule():
    def program(keras):
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
        losses = []
        for optimizer, callbacks in (
            (keras.optimizers.SGD(schedule), []),
            (keras.optimizers.SGD(0.1), [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)]),
            (keras.optimizers.SGD(0.1), [keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10)]),
        ):
            model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
            model.compile(optimizer, "mse")
            history = model.fit(
                X, NUMBERS, batch_size=4, epochs=4, shuffle=False, verbose=0, callbacks=callbacks
            ).history
            losses.append(history)
        return losses

    same_in_both(program)


def test_early_stopping_with_the_best_weights():
    def program(keras):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.6), "mse")
        stop = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        history = model.fit(
            X, NUMBERS, batch_size=4, epochs=20, shuffle=False, verbose=0, callbacks=[stop],
            validation_data=(X[::-1], -NUMBERS),
        ).history  # fmt: skip
        return history, stop.stopped_epoch, stop.best_epoch, model.get_weights()

    assert same_in_both(program, rtol=1e-4)[1] > 0
