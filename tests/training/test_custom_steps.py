"""Steps of one's own, in the stateful form and in Keras's JAX form, under fit, evaluate and predict."""

import jax
import numpy as np
import pytest

import lamina
from tests.training.conftest import X, Y


class Plain(lamina.Model):
    def __init__(self):
        super().__init__()
        self.dense = lamina.layers.Dense(1, kernel_initializer="ones")

    def call(self, x):
        return self.dense(x)


class Stateful(Plain):
    def train_step(self, data):
        x, y = data
        loss, gradients = lamina.value_and_grad(lambda: self.compute_loss(y=y, y_pred=self(x)), self)()
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}

    def test_step(self, data):
        x, y = data
        return {"loss": self.compute_loss(y=y, y_pred=self(x, training=False))}

    def predict_step(self, data):
        return self(lamina.utils.unpack_x_y_sample_weight(data)[0]) * 2


class Explicit(Plain):
    def train_step(self, state, data):
        trainable, non_trainable, slots, metrics = state
        x, y = data

        def loss_of(values):
            y_pred, after = self.stateless_call(values, non_trainable, x, training=True)
            return lamina.ops.mean((y - y_pred) ** 2), after

        (loss, non_trainable), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return {"loss": loss}, (trainable, non_trainable, slots, metrics)

    def test_step(self, state, data):
        trainable, non_trainable, _ = state
        x, y = data
        y_pred, _ = self.stateless_call(trainable, non_trainable, x)
        return {"loss": lamina.ops.mean((y - y_pred) ** 2)}, state

    def predict_step(self, state, data):
        outputs, non_trainable = self.stateless_call(*state, lamina.utils.unpack_x_y_sample_weight(data)[0])
        return outputs * 2, non_trainable


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("cls", [Stateful, Explicit])
def test_own_steps_do_what_the_built_in_ones_do(cls, run_eagerly):
    results = []
    for make, factor in ((Plain, 1), (cls, 2)):
        model = make()
        model.compile("sgd", "mse", run_eagerly=run_eagerly)
        losses = model.fit(X, Y, batch_size=22, epochs=3, verbose=0, shuffle=False).history["loss"]
        logs = model.evaluate(X, Y, batch_size=22, verbose=0)
        results.append((losses, logs, model.predict(X, verbose=0) / factor, model.get_weights()))
    for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1])):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_step_may_assign_variables_that_no_list_holds():
    """What the first trace finds joins the state, seeds and counters included."""
    counter = lamina.Variable(0.0, trainable=False)

    class Counts(Stateful):
        def train_step(self, data):
            counter.assign_add(1.0)
            return {**super().train_step(data), "count": counter.value}

    model = Counts()
    model.compile("sgd", "mse")
    history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
    assert float(counter.value) == 12.0 and history["count"] == [6.0, 12.0]


def test_a_step_may_return_nothing():
    class Silent(Plain):
        def train_step(self, data):
            self.dense.bias.assign_add(lamina.ops.ones(1))

    model = Silent()
    model(X)
    model.compile("sgd")
    assert model.fit(X, Y, batch_size=11, epochs=2, verbose=0).history == {}
    np.testing.assert_array_equal(model.dense.bias.numpy(), [4.0])


def test_an_own_step_needs_no_compile():
    class Counts(Plain):
        def train_step(self, data):
            return {"rows": lamina.ops.sum(lamina.ops.ones_like(data[1]))}

    assert Counts().fit(X, Y, batch_size=22, verbose=0).history == {"rows": [22.0]}


def test_a_step_gets_the_data_as_they_are_given():
    seen = []

    class Looks(Plain):
        def train_step(self, data):
            seen.append(jax.tree.map(lambda leaf: leaf.shape, data))
            return {"loss": lamina.ops.zeros(())}

    weights = np.ones(22)
    for given in ((X,), (X, Y), (X, Y, weights), ({"a": X, "b": Y}, [Y, Y])):
        Looks().fit(*given[:2], batch_size=22, sample_weight=given[2] if len(given) == 3 else None, verbose=0)
    first = [shapes for i, shapes in enumerate(seen) if i == 0 or shapes != seen[i - 1]]
    assert first == [
        (22, 3),
        ((22, 3), (22, 1)),
        ((22, 3), (22, 1), (22,)),
        ({"a": (22, 3), "b": (22, 1)}, [(22, 1), (22, 1)]),
    ]


def test_logs_may_hold_integers_bools_and_variables():
    class Logs(Plain):
        def train_step(self, data):
            return {"a": 1, "b": True, "c": lamina.ops.array(2), "d": self.dense.bias[0]}

    model = Logs()
    model(X)
    model.compile("sgd")
    assert model.fit(X, Y, verbose=0).history == {"a": [1.0], "b": [1.0], "c": [2.0], "d": [0.0]}


def test_a_metric_of_a_layer_is_reported_and_reset():
    class Watched(lamina.layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = lamina.metrics.Mean(name="activity")

        def call(self, x):
            self.mean.update_state(x)
            return x

    model = lamina.Sequential([lamina.Input((3,)), Watched(), lamina.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(X, Y, batch_size=11, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["activity"], [X.mean()] * 2, rtol=1e-4, atol=1e-6)


def test_gradients_may_be_accumulated_by_hand():
    class Every2(Plain):
        def build(self, shape):
            self.dense.build(shape)
            self.kept = [lamina.Variable(np.zeros(v.shape), trainable=False) for v in self.dense.trainable_weights]
            self.steps = lamina.Variable(0, dtype="int32", trainable=False)

        def train_step(self, data):
            x, y = data
            loss, gradients = lamina.value_and_grad(lambda: self.compute_loss(y=y, y_pred=self(x)), self)()
            self.steps.assign_add(1)
            for kept, gradient in zip(self.kept, gradients):
                kept.assign_add(gradient / 2)
            due = self.steps.value % 2 == 0
            for variable, kept in zip(self.trainable_variables, self.kept):
                variable.assign(lamina.ops.where(due, variable - 0.1 * kept, variable))
                kept.assign(lamina.ops.where(due, 0.0, kept.value))
            return {"loss": loss}

    model, plain = Every2(), Plain()
    for each in (model, plain):
        each.compile(lamina.optimizers.SGD(0.1), "mse")
    model.fit(X[:20], Y[:20], batch_size=5, verbose=0, shuffle=False)
    plain.fit(X[:20], Y[:20], batch_size=10, verbose=0, shuffle=False)
    for a, b in zip(model.dense.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_step_that_makes_variables_anew_each_time_is_refused():
    class Local(lamina.Model):
        def train_step(self, data):
            mean = lamina.metrics.Mean()
            mean.update_state(data)
            return {"mean": mean.result()}

    model = Local()
    model.compile()
    with pytest.raises(ValueError, match=r"Local.train_step: must not make variables anew each time it is traced"):
        model.fit(np.ones((4, 1)), verbose=0)


class Ranking(Plain):
    """Of which y holds what only its own loss knows to read."""

    def call(self, x):
        return {"score": self.dense(x), "shape": x}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return lamina.ops.mean((y_pred["score"] - y["rating"]) ** 2 * y["weight"])


def test_targets_that_no_loss_and_metric_gets_are_those_of_the_own_loss():
    model = Ranking()
    model.compile(lamina.optimizers.SGD(0.01))
    history = model.fit(X, {"rating": Y, "weight": np.ones_like(Y)}, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0] and np.isfinite(history).all()


def test_a_file_of_a_model_that_compiles_itself_says_that_it_is_not_compiled(tmp_path):
    @lamina.saving.register_keras_serializable("steps")
    class Compiling(Plain):
        def compile(self, rate):
            super().compile(lamina.optimizers.SGD(rate), "mse")

    model = Compiling()
    model.compile(0.1)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="not compiled, as its class has a compile of its own"):
        assert not lamina.models.load_model(tmp_path / "m.keras").compiled
