"""Programs with train steps and loops of their own."""

import jax
import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(12, 6)).astype("float32")
Y = RANDOM.normal(size=(12, 1)).astype("float32")


def plain_model(keras):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])


def reference_losses():
    """What plain `fit` gives on the same model."""
    lamina.utils.set_random_seed(1)
    model = plain_model(lamina)
    model.compile(lamina.optimizers.Adam(0.01), "mse")
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return history["loss"], model.get_weights()


def test_a_train_step_in_the_pure_form():
    def program(keras):
        class Custom(keras.Model):
            def __init__(self):
                super().__init__()
                self.hidden, self.top = keras.layers.Dense(4, "relu"), keras.layers.Dense(1)
                self.loss_tracker = keras.metrics.Mean(name="loss")
                self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")
                self.loss_fn = keras.losses.MeanSquaredError()

            def call(self, x, training=False):
                return self.top(self.hidden(x))

            def compute_loss_and_updates(self, trainable, non_trainable, x, y, training=False):
                y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x, training=training)
                return self.loss_fn(y, y_pred), (y_pred, non_trainable)

            def train_step(self, state, data):
                trainable, non_trainable, optimizer, metrics = state
                x, y = data
                both = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
                (loss, (y_pred, non_trainable)), grads = both(trainable, non_trainable, x, y, training=True)
                trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
                logs, metrics = self.updated(metrics, loss, y, y_pred)
                return logs, (trainable, non_trainable, optimizer, metrics)

            def test_step(self, state, data):
                trainable, non_trainable, metrics = state
                x, y = data
                loss, (y_pred, non_trainable) = self.compute_loss_and_updates(trainable, non_trainable, x, y)
                logs, metrics = self.updated(metrics, loss, y, y_pred)
                return logs, (trainable, non_trainable, metrics)

            def updated(self, values, loss, y, y_pred):
                count = len(self.loss_tracker.variables)
                first = self.loss_tracker.stateless_update_state(values[:count], loss)
                second = self.mae_metric.stateless_update_state(values[count:], y, y_pred)
                logs = {
                    "loss": self.loss_tracker.stateless_result(first),
                    "mae": self.mae_metric.stateless_result(second),
                }
                return logs, [*first, *second]

            @property
            def metrics(self):
                return [self.loss_tracker, self.mae_metric]

        model = Custom()
        model(X[:1])
        model.compile(keras.optimizers.Adam(0.01))
        history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        return history, model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True), model.get_weights()

    history, _, weights = same_in_both(program)
    losses, expected = reference_losses()
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    for a, b in zip(weights, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_pure_step_with_compiled_metrics_and_losses():
    def program(keras):
        class Custom(keras.Model):
            def train_step(self, state, data):
                trainable, non_trainable, optimizer, metrics = state
                x, y = data

                def compute(values):
                    y_pred, after, losses = self.stateless_call(
                        values, non_trainable, x, training=True, return_losses=True
                    )
                    loss, (_, after, _) = self.stateless_compute_loss(
                        values, after, metrics, x=x, y=y, y_pred=y_pred, training=True
                    )
                    return loss + sum(losses), (y_pred, after)

                (loss, (y_pred, non_trainable)), grads = jax.value_and_grad(compute, has_aux=True)(trainable)
                trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
                logs = {}
                new_metrics = []
                for metric in self.metrics:
                    here = metrics[len(new_metrics) : len(new_metrics) + len(metric.variables)]
                    if metric.name == "loss":
                        here = metric.stateless_update_state(here, loss)
                    else:
                        here = metric.stateless_update_state(here, y, y_pred)
                    logs[metric.name] = metric.stateless_result(here)
                    new_metrics += here
                return logs, (trainable, non_trainable, optimizer, new_metrics)

        inputs = keras.Input((6,))
        x = keras.layers.Dropout(0.3, seed=3)(keras.layers.Dense(4, kernel_regularizer="l2")(inputs))
        model = Custom(inputs, keras.layers.Dense(1)(x))
        model.compile("sgd", "mse")
        return model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history

    same_in_both(program)


def test_a_loop_in_plain_jax():
    def program(keras):
        model, optimizer = plain_model(keras), keras.optimizers.Adam(0.01)
        loss_fn, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanAbsoluteError()
        optimizer.build(model.trainable_variables)

        def compute_loss(trainable, non_trainable, x, y):
            y_pred, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
            return loss_fn(y, y_pred), (y_pred, non_trainable)

        @jax.jit
        def step(state, x, y):
            trainable, non_trainable, optimizer_values, metric_values = state
            (loss, (y_pred, non_trainable)), grads = jax.value_and_grad(compute_loss, has_aux=True)(
                trainable, non_trainable, x, y
            )
            trainable, optimizer_values = optimizer.stateless_apply(optimizer_values, grads, trainable)
            metric_values = metric.stateless_update_state(metric_values, y, y_pred)
            return loss, (trainable, non_trainable, optimizer_values, metric_values)

        state = tuple(
            [v.value for v in variables]
            for variables in (
                model.trainable_variables, model.non_trainable_variables, optimizer.variables, metric.variables,
            )
        )  # fmt: skip
        losses = []
        for _ in range(2):
            for start in range(0, 12, 4):
                loss, state = step(state, X[start : start + 4], Y[start : start + 4])
                losses.append(loss)
        for variable, value in zip(model.trainable_variables, state[0]):
            variable.assign(value)
        return losses, metric.stateless_result(state[3]), model.get_weights()

    losses, _, weights = same_in_both(program)
    expected, expected_weights = reference_losses()
    np.testing.assert_allclose(np.reshape(losses, (2, 3)).mean(axis=1), expected, rtol=1e-5)
    for a, b in zip(weights, expected_weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "eager"])
def test_a_loop_with_stateful_transforms(compiled):
    lamina.utils.set_random_seed(1)
    model, optimizer = plain_model(lamina), lamina.optimizers.Adam(0.01)
    loss_fn, mean = lamina.losses.MeanSquaredError(), lamina.metrics.Mean()

    def step(x, y):
        loss, grads = lamina.value_and_grad(lambda: loss_fn(y, model(x, training=True)), model)()
        optimizer.apply(grads, model.trainable_variables)
        mean.update_state(loss)
        return loss

    if compiled:
        step = lamina.jit(step)
    losses = []
    for _ in range(2):
        mean.reset_state()
        for start in range(0, 12, 4):
            step(X[start : start + 4], Y[start : start + 4])
        losses.append(float(mean.result()))
    expected, weights = reference_losses()
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_train_step_in_the_stateful_form():
    class Custom(lamina.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.top = lamina.layers.Dense(4, "relu"), lamina.layers.Dense(1)
            self.tracker = lamina.metrics.Mean(name="loss")

        def call(self, x):
            return self.top(self.hidden(x))

        def train_step(self, data):
            x, y = data
            loss, grads = lamina.value_and_grad(lambda: lamina.ops.mean((self(x, training=True) - y) ** 2), self)()
            self.optimizer.apply(grads, self.trainable_variables)
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result(), "norm": lamina.ops.sum(self.top.kernel**2)}

    lamina.utils.set_random_seed(1)
    model = Custom()
    model.compile(lamina.optimizers.Adam(0.01))
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    losses, weights = reference_losses()
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(history["norm"][-1], (weights[2] ** 2).sum(), rtol=1e-4)


# Two networks against each other

REAL = RANDOM.normal(1.0, 0.3, size=(16, 2)).astype("float32")


def networks(keras):
    discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1)])
    generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(2)])
    return discriminator, generator


def adversarial_loop(keras):
    """The losses of a pure loop that trains both networks for two epochs of four batches."""
    nets = networks(keras)
    optimizers = [keras.optimizers.Adam(0.02), keras.optimizers.RMSprop(0.01)]
    loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
    noise = keras.random.SeedGenerator(7)
    for net, optimizer in zip(nets, optimizers):
        optimizer.build(net.trainable_variables)
    judge, make = ((lambda values, x, net=net: net.stateless_call(values, [], x)[0]) for net in nets)

    @jax.jit
    def step(state, real, first, second):
        (d, g), (d_slots, g_slots) = state

        def d_loss(d):
            logits = judge(d, keras.ops.concatenate([make(g, first), real]))
            labels = keras.ops.concatenate([keras.ops.ones((4, 1)), keras.ops.zeros((4, 1))])
            return loss_fn(labels, logits)

        def g_loss(g, d):
            return loss_fn(keras.ops.zeros((4, 1)), judge(d, make(g, second)))

        one, grads = jax.value_and_grad(d_loss)(d)
        d, d_slots = optimizers[0].stateless_apply(d_slots, grads, d)
        two, grads = jax.value_and_grad(g_loss)(g, d)
        g, g_slots = optimizers[1].stateless_apply(g_slots, grads, g)
        return (one, two), ((d, g), (d_slots, g_slots))

    state = tuple(tuple([v.value for v in each.variables] for each in group) for group in (nets, optimizers))
    losses = []
    for _ in range(2):
        epoch = []
        for start in range(0, 16, 4):
            first, second = (keras.random.normal((4, 3), seed=noise) for _ in range(2))
            loss, state = step(state, REAL[start : start + 4], first, second)
            epoch.append(loss)
        losses.append(np.mean(epoch, axis=0))
    return losses, state[0]


def test_two_networks_in_a_pure_loop():
    same_in_both(adversarial_loop, rtol=1e-4)


def test_two_networks_with_a_train_step_and_two_optimizers():
    class Adversaries(lamina.Model):
        def __init__(self, discriminator, generator):
            super().__init__()
            self.discriminator, self.generator = discriminator, generator
            self.noise = lamina.random.SeedGenerator(7)
            self.trackers = [lamina.metrics.Mean(name="d_loss"), lamina.metrics.Mean(name="g_loss")]

        def compile(self, d_optimizer, g_optimizer, loss_fn):
            super().compile()
            self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

        def train_step(self, real):
            ops = lamina.ops
            rows = real.shape[0]

            def d_loss():
                fake = self.generator(lamina.random.normal((rows, 3), seed=self.noise))
                labels = ops.concatenate([ops.ones((rows, 1)), ops.zeros((rows, 1))])
                return self.loss_fn(labels, self.discriminator(ops.concatenate([fake, real])))

            def g_loss():
                fake = self.generator(lamina.random.normal((rows, 3), seed=self.noise))
                return self.loss_fn(ops.zeros((rows, 1)), self.discriminator(fake))

            for loss_of, net, optimizer, tracker in zip(
                (d_loss, g_loss), (self.discriminator, self.generator),
                (self.d_optimizer, self.g_optimizer), self.trackers,
            ):  # fmt: skip
                loss, grads = lamina.value_and_grad(loss_of, net)()
                optimizer.apply(grads, net.trainable_variables)
                tracker.update_state(loss)
            return {tracker.name: tracker.result() for tracker in self.trackers}

    lamina.utils.set_random_seed(1)
    model = Adversaries(*networks(lamina))
    model.compile(
        lamina.optimizers.Adam(0.02),
        lamina.optimizers.RMSprop(0.01),
        lamina.losses.BinaryCrossentropy(from_logits=True),
    )
    history = model.fit(REAL, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    lamina.utils.set_random_seed(1)
    losses, values = adversarial_loop(lamina)
    np.testing.assert_allclose(np.transpose([history["d_loss"], history["g_loss"]]), losses, rtol=1e-4)
    for variable, value in zip(model.weights, [*values[0], *values[1]]):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-3, atol=1e-5)


def test_a_metric_whose_result_is_its_variable():
    """Keras does not take it; the fit must go on and report its value."""

    class Count(lamina.Metric):
        def __init__(self, name="rows"):
            super().__init__(name=name)
            self.total = self.add_weight(name="total")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(lamina.ops.cast(lamina.ops.shape(y_true)[0], "float32"))

        def result(self):
            return self.total

    model = plain_model(lamina)
    model.compile("sgd", "mse", metrics=[Count()])
    history = model.fit(X, Y, batch_size=5, epochs=2, verbose=0, validation_split=0.25).history
    assert history["rows"] == [9.0, 9.0] and history["val_rows"] == [3.0, 3.0]
    assert model.evaluate(X, Y, verbose=0, return_dict=True)["rows"] == 12.0
    assert float(model.metrics[1](Y, Y)) == 24.0


def test_a_loss_of_ones_own_gives_the_losses_more_outputs_than_the_model_has():
    def program(keras):
        class Twice(keras.Model):
            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return super().compute_loss(x, y, [y_pred, -y_pred], sample_weight, training)

        inputs = keras.Input((3,))
        model = Twice(inputs, keras.layers.Dense(1, kernel_initializer="ones")(inputs))
        model.compile("sgd", ["mean_squared_error", "mean_absolute_error"])
        x = np.arange(12.0).reshape(4, 3)
        return model.fit(x, [x[:, :1], x[:, 1:2]], epochs=2, shuffle=False, verbose=0).history

    same_in_both(program)
