"""Programs that call, wrap or replace the functions of a step, and own steps on top of `compute_loss_and_updates`."""

import copy
import pickle

import jax
import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(20, 6)).astype("float32")
Y = RANDOM.normal(size=(20, 1)).astype("float32")
WEIGHTS = RANDOM.uniform(size=20).astype("float32")


def body(keras):
    """Inputs and outputs of a graph with a state of every kind."""
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5, "relu", kernel_regularizer="l2")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    return inputs, keras.layers.Dense(1)(hidden)


def trained(keras, cls, **compiled):
    """What a run with validation leaves behind: logs, results and weights."""
    model = cls(*body(keras))
    model.compile(keras.optimizers.Adam(0.01), "mse", **{"metrics": ["mae"], **compiled})
    held_out = {"validation_data": (X[:8], Y[:8]), "shuffle": False, "verbose": 0}
    history = model.fit(X, Y, batch_size=8, epochs=2, **held_out).history
    results = model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    return history, results, model.predict(X, batch_size=8, verbose=0), model.get_weights()


def values(*groups):
    return tuple([v.value for v in group] for group in groups)


def assign(groups, state):
    for group, new in zip(groups, state):
        for variable, value in zip(group, new):
            variable.assign(value)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
@pytest.mark.parametrize("run_eagerly", [False, True], ids=["compiled", "eager"])
def test_a_loop_on_the_functions_themselves(run_eagerly, steps_per_execution):
    def program(keras):
        model = keras.Model(*body(keras))
        model.compile(
            keras.optimizers.Adam(0.01),
            "mse",
            metrics=["mae"],
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )
        model.optimizer.build(model.trainable_variables)
        model.train_on_batch(X[:8], Y[:8])  # builds the metrics
        model.make_train_function()
        model.make_test_function(force=True)
        model.make_predict_function()
        lists = (
            model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
        )  # fmt: skip
        state, batches, found = values(*lists), iter([(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 12)]), []
        for _ in range(3 // steps_per_execution):
            logs, state = model.train_function(state, batches)
            found.append(logs)
        assign(lists, state)
        logs, state = model.test_function((*state[:2], state[3]), iter([(X, Y, WEIGHTS)]))
        assign([lists[3]], [state[2]])
        outputs, state = model.predict_function(state[:2], iter([(X[:3],), (X[3:7],), (X,)]))
        assign(lists[:2], state)
        model.jax_state_sync()
        return found, logs, outputs, model.get_weights()

    same_in_both(program)


def test_the_functions_take_nothing_away_and_assign_nothing():
    model = lamina.Model(*body(lamina))
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    lists = (
        model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
    )  # fmt: skip
    before = model.get_weights()
    state = values(*lists)
    with pytest.raises(StopIteration):
        model.train_function(state, iter([]))
    _, after = model.train_function(state, iter([(X, Y)]))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert not np.array_equal(after[0][0], state[0][0])
    with pytest.raises(ValueError, match=r"train_step: state must hold \d+ arrays of the model, got 2\."):
        model.train_function(((1, 2), (), (), ()), iter([(X, Y)]))


class Form:
    """The programs of the guide to own steps in JAX, each a class of either library."""

    @staticmethod
    def whole(keras):
        """All of a step by `compute_loss_and_updates`, compiled metrics and all."""

        class Custom(keras.Model):
            def train_step(self, state, data):
                trainable, non_trainable, optimizer, metrics = state
                x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
                both = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
                (_, aux), grads = both(
                    trainable, non_trainable, metrics, x, y, weight, training=True, optimizer_variables=optimizer
                )
                loss, y_pred, non_trainable, metrics = aux
                trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
                logs, metrics = self.updated(metrics, loss, x, y, y_pred, weight)
                return logs, (trainable, non_trainable, optimizer, metrics)

            def test_step(self, state, data):
                trainable, non_trainable, metrics = state
                x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
                _, aux = self.compute_loss_and_updates(trainable, non_trainable, metrics, x, y, weight, training=False)
                loss, y_pred, non_trainable, metrics = aux
                logs, metrics = self.updated(metrics, loss, x, y, y_pred, weight)
                return logs, (trainable, non_trainable, metrics)

            def updated(self, held, loss, x, y, y_pred, weight):
                with keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, held))) as scope:
                    self.metrics[0].update_state(loss, sample_weight=x.shape[0])
                    logs = self.compute_metrics(x, y, y_pred, weight)
                new = [scope.get_current_value(v) for v in self.metrics_variables]
                return logs, [old if value is None else value for value, old in zip(new, held)]

        return Custom

    @staticmethod
    def own_metrics(keras):
        """The class has metrics and a loss of its own, and a `compute_loss_and_updates` with fewer arguments."""

        class Custom(keras.Model):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.loss_tracker = keras.metrics.Mean(name="loss")
                self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")
                self.loss_fn = keras.losses.MeanSquaredError()

            def compute_loss_and_updates(self, trainable, non_trainable, x, y, weight, training=False):
                y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x, training=training)
                return self.loss_fn(y, y_pred, weight), (y_pred, non_trainable)

            def train_step(self, state, data):
                trainable, non_trainable, optimizer, metrics = state
                x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
                both = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
                (loss, (y_pred, non_trainable)), grads = both(trainable, non_trainable, x, y, weight, training=True)
                trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
                logs, metrics = self.updated(metrics, loss, y, y_pred, weight)
                return logs, (trainable, non_trainable, optimizer, metrics)

            def test_step(self, state, data):
                trainable, non_trainable, metrics = state
                x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
                loss, (y_pred, non_trainable) = self.compute_loss_and_updates(trainable, non_trainable, x, y, weight)
                logs, metrics = self.updated(metrics, loss, y, y_pred, weight)
                return logs, (trainable, non_trainable, metrics)

            def updated(self, held, loss, y, y_pred, weight):
                count = len(self.loss_tracker.variables)
                first = self.loss_tracker.stateless_update_state(held[:count], loss)
                second = self.mae_metric.stateless_update_state(held[count:], y, y_pred, sample_weight=weight)
                results = self.loss_tracker.stateless_result(first), self.mae_metric.stateless_result(second)
                return dict(zip(("loss", "mae"), results)), [*first, *second]

            @property
            def metrics(self):
                return [self.loss_tracker, self.mae_metric]

        return Custom

    @staticmethod
    def on_top(keras):
        """The steps of the library, called with state from overrides, and more logs."""

        class Custom(keras.Model):
            def train_step(self, state, data):
                logs, state = super().train_step(state, data)
                return {**logs, "size": keras.ops.sum(keras.ops.abs(state[0][0]))}, state

            def test_step(self, *args, **kwargs):
                logs, state = super().test_step(*args, **kwargs)
                return {**logs, "first": state[0][0][0, 0]}, state

            def predict_step(self, state, data):
                outputs, non_trainable = super().predict_step(state=state, data=data)
                return outputs * 2, non_trainable

        return Custom

    @staticmethod
    def wrapped(keras):
        """The functions of the library in wrappers that look at what goes in and out."""

        class Custom(keras.Model):
            def make_train_function(self, force=False):
                if self.train_function is None or force:
                    super().make_train_function(force)
                    inner = self.train_function

                    def outer(state, iterator):
                        logs, state = inner(state, ((x + 1.0, y) for x, y in iterator))
                        return {**logs, "calls": np.float32(1.0)}, state

                    self.train_function = outer

            def make_test_function(self, force=False):
                super().make_test_function(force)
                inner = self.test_function
                self.test_function = lambda state, iterator: inner(state, iterator)

            def make_predict_function(self, force=False):
                super().make_predict_function(force=True)
                inner = self.predict_function
                self.predict_function = lambda state, iterator: inner(state, (x * 2.0 for x in iterator))

        return Custom

    @staticmethod
    def replaced(keras):
        """Functions from scratch, which take the memory of what they are given."""

        class Custom(keras.Model):
            def make_train_function(self, force=False):
                if self.train_function is None or force:
                    step = jax.jit(self.train_step, donate_argnums=0)
                    self.train_function = lambda state, iterator: step(state, next(iterator))

            def make_test_function(self, force=False):
                if self.test_function is None or force:
                    step = jax.jit(self.test_step, donate_argnums=0)
                    self.test_function = lambda state, iterator: step(state, next(iterator))

        return Custom


@pytest.mark.parametrize("form", ["whole", "own_metrics", "on_top", "wrapped", "replaced"])
@pytest.mark.parametrize("how", ["plain", "eager", "two"])
def test_own_steps_and_functions_give_what_they_give_in_keras(form, how):
    if (form, how) == ("replaced", "two"):
        pytest.skip("Keras counts two batches a call, and this function takes one: half the data are left out there")
    compiled = {"plain": {}, "eager": {"run_eagerly": True}, "two": {"steps_per_execution": 2}}[how]
    if form == "own_metrics":
        compiled["metrics"] = None
    same_in_both(lambda keras: trained(keras, getattr(Form, form)(keras), **compiled), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", ["whole", "own_metrics", "on_top", "replaced"])
@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_weights_reach_own_steps(form, weights):
    def program(keras):
        model = getattr(Form, form)(keras)(*body(keras))
        model.compile(keras.optimizers.SGD(0.1), "mse", weighted_metrics=[] if form == "own_metrics" else ["mae"])
        given = WEIGHTS if weights == "sample_weight" else {0: 1.0, 1: 3.0}
        targets = (Y > 0).astype("float32")
        history = model.fit(X, targets, batch_size=8, epochs=2, shuffle=False, verbose=0, **{weights: given}).history
        one = model.train_on_batch(X, targets, return_dict=True, **{weights: given})
        return history, one, model.test_on_batch(X, targets, WEIGHTS, return_dict=True), model.predict_on_batch(X)

    same_in_both(program)


def test_two_optimizers_in_an_own_step():
    """A generator against a discriminator; the second optimizer's variables lie in a list of the model."""

    def program(keras):
        class Gan(keras.Model):
            def __init__(self):
                super().__init__()
                self.generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
                self.critic = keras.Sequential(
                    [keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
                )
                self.built = True

            def compile(self, optimizer, second):
                super().compile(optimizer)
                self.second = second
                second.build(self.generator.trainable_variables)
                optimizer.build(self.critic.trainable_variables)
                self.slots = list(second.variables)

            def call(self, x):
                return self.critic(x)

            def train_step(self, state, data):
                trainable, non_trainable, optimizer, metrics = state
                kinds = [v.path.split("/")[0] for v in self.trainable_variables]
                mine = [i for i, kind in enumerate(kinds) if kind == self.generator.layers[0].path.split("/")[0]]
                others = [i for i in range(len(kinds)) if i not in mine]
                noise = keras.ops.cos(data[:, :3])

                def critic_loss(values):
                    fake, _ = self.generator.stateless_call([trainable[i] for i in mine], [], noise)
                    real, _ = self.critic.stateless_call(values, [], data)
                    wrong, _ = self.critic.stateless_call(values, [], fake)
                    return keras.ops.mean(keras.ops.softplus(-real)) + keras.ops.mean(keras.ops.softplus(wrong))

                def generator_loss(values):
                    fake, _ = self.generator.stateless_call(values, [], noise)
                    return keras.ops.mean(keras.ops.softplus(-self.critic.stateless_call(critic, [], fake)[0]))

                first, grads = jax.value_and_grad(critic_loss)([trainable[i] for i in others])
                critic, optimizer = self.optimizer.stateless_apply(optimizer, grads, [trainable[i] for i in others])
                loss, grads = jax.value_and_grad(generator_loss)([trainable[i] for i in mine])
                places = [next(i for i, v in enumerate(self.non_trainable_variables) if v is s) for s in self.slots]
                made, slots = self.second.stateless_apply(
                    [non_trainable[i] for i in places], grads, [trainable[i] for i in mine]
                )
                new = dict(zip([*others, *mine], [*critic, *made]))
                kept = list(non_trainable)
                for i, value in zip(places, slots):
                    kept[i] = value
                logs = {"critic": first, "generator": loss}
                return logs, ([new[i] for i in range(len(new))], kept, optimizer, metrics)

        model = Gan()
        model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02))
        history = model.fit(X, batch_size=8, epochs=3, shuffle=False, verbose=0).history
        return history, model.generator.get_weights(), [np.asarray(v) for v in model.second.variables]

    same_in_both(program)


def test_a_function_that_a_program_sets_is_run():
    def program(keras):
        model = keras.Model(*body(keras))
        model.compile("sgd", "mse")
        seen = []

        def counts(state, iterator):
            x, _ = next(iterator)
            seen.append(x.shape[0])
            return {"rows": np.float32(x.shape[0])}, state

        model.train_function = counts
        history = model.fit(X, Y, batch_size=8, verbose=0, shuffle=False).history
        model.compile("sgd", "mse")  # forgets it
        return history, seen, model.fit(X, Y, batch_size=8, verbose=0, shuffle=False).history

    same_in_both(program)


@pytest.mark.parametrize("how", ["none", "force"])
def test_functions_made_anew_see_what_a_program_changed(how):
    class Scaled(lamina.Model):
        factor = 1.0

        def train_step(self, data):
            return {"factor": lamina.ops.convert_to_tensor(self.factor)}

        def test_step(self, data):
            return {"factor": lamina.ops.convert_to_tensor(self.factor)}

        def predict_step(self, data):
            return data * self.factor

    model = Scaled()
    model.compile("sgd", "mse")
    for factor in (1.0, 3.0):
        model.factor = factor
        assert model.fit(X, Y, verbose=0).history == {"factor": [factor]}
        assert model.evaluate(X, Y, verbose=0) == factor
        np.testing.assert_allclose(model.predict(X[:4], verbose=0), X[:4] * factor)
        for phase in ("train", "test", "predict"):
            if how == "none":
                setattr(model, f"{phase}_function", None)
            else:
                getattr(model, f"make_{phase}_function")(force=True)


def test_weights_are_valid_after_a_function_that_fails():
    model = lamina.Model(*body(lamina))
    model.compile("sgd", "mse")
    take = jax.jit(lambda state: jax.tree.map(lambda a: a + 1, state), donate_argnums=0)

    def fails(state, iterator):
        take(state)
        raise RuntimeError("after the arrays were taken")

    model.train_function = fails
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="after the arrays were taken"):
        model.fit(X, Y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_a_function_may_take_several_batches():
    model = lamina.Model(*body(lamina))
    model.compile("sgd", "mse", steps_per_execution=2)
    ends = []

    def pairs(state, iterator):
        rows = sum(x.shape[0] for _, (x, _) in zip(range(2), iterator))
        return {"rows": np.float32(rows)}, state

    model.train_function = pairs
    watch = lamina.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append((batch, logs["rows"])))
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[watch])
    assert [rows for _, rows in ends] == [8.0, 8.0, 4.0]


def test_what_a_stateful_step_assigns_beyond_the_state_is_assigned():
    counter = lamina.Variable(0.0, trainable=False)

    class Counts(lamina.Model):
        def train_step(self, data):
            counter.assign_add(1.0)
            return {"count": counter.value}

    model = Counts()
    model.make_train_function()
    for expected in (1.0, 2.0):
        logs, _ = model.train_function(([], [], [], []), iter([X]))
        assert float(logs["count"]) == float(counter) == expected


def test_copies_make_their_own_functions():
    model = lamina.Model(*body(lamina))
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.train_function is None
        other.fit(X, Y, verbose=0)
        assert other.train_function is not model.train_function


def test_float16_scales_the_loss_of_compute_loss_and_updates():
    model = lamina.Sequential([lamina.Input((6,)), lamina.layers.Dense(1, dtype="mixed_float16")], name="m")
    model.compile(lamina.optimizers.LossScaleOptimizer(lamina.optimizers.SGD(), initial_scale=8.0), "mse")
    model.optimizer.build(model.trainable_variables)
    lists = values(model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
    own = [v.value for v in model.optimizer.variables]
    scaled, (loss, *_) = model.compute_loss_and_updates(*lists, X, Y, None, training=True, optimizer_variables=own)
    assert float(scaled) == 8 * float(loss)
    held_out, (loss, *_) = model.compute_loss_and_updates(*lists, X, Y, None)
    assert float(held_out) == float(loss)


def of_the_batch(keras):
    """A model whose steps log the loss of their batch, and have a metric of that name."""

    class Net(keras.Model):
        def __init__(self, *graph):
            super().__init__(*graph)
            self.tracker = keras.metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.tracker]

        def loss_of(self, trainable, non_trainable, x, y):
            outputs, non_trainable = self.stateless_call(trainable, non_trainable, x)
            return keras.ops.mean(keras.ops.square(outputs - y)), non_trainable

        def train_step(self, state, data):
            trainable, non_trainable, optimizer, metrics = state
            both = jax.value_and_grad(self.loss_of, has_aux=True)(trainable, non_trainable, *data)
            (loss, non_trainable), gradients = both
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            metrics = self.tracker.stateless_update_state(metrics, loss)
            return {"loss": loss}, (trainable, non_trainable, optimizer, metrics)

        def test_step(self, state, data):
            trainable, non_trainable, metrics = state
            loss, _ = self.loss_of(trainable, non_trainable, *data)
            return {"loss": loss}, (trainable, non_trainable, self.tracker.stateless_update_state(metrics, loss))

    return Net


def of_own_results(names):
    """A model whose `compute_metrics` returns values of its own by some names."""

    def make(keras):
        class Net(keras.Model):
            def compute_metrics(self, x, y, y_pred, sample_weight=None):
                super().compute_metrics(x, y, y_pred, sample_weight)
                return {name: keras.ops.sum(y_pred) for name in names}

        return Net

    return make


@pytest.mark.parametrize("run_eagerly", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("looks", [False, True], ids=["at epochs", "at batches"])
@pytest.mark.parametrize(
    "make",
    [of_the_batch, of_own_results(["loss", "mae"]), of_own_results(["loss", "other"])],
    ids=["step", "same", "other"],
)
def test_logs_of_an_epoch_are_the_results_of_metrics_of_the_same_names(make, looks, run_eagerly):
    def program(keras):
        seen = []

        class Look(keras.callbacks.Callback):
            if looks:

                def on_train_batch_end(self, batch, logs=None):
                    seen.append({name: float(value) for name, value in logs.items()})

            def on_test_end(self, logs=None):
                seen.append({name: float(value) for name, value in logs.items()})

        options = {"callbacks": [Look()], "shuffle": False, "verbose": 0}
        model = make(keras)(*body(keras))
        model.compile("sgd", "mse", metrics=["mae"], run_eagerly=run_eagerly)
        history = model.fit(X, Y, batch_size=8, epochs=2, validation_data=(X[:8], Y[:8]), **options).history
        return seen, history, model.evaluate(X, Y, batch_size=8, verbose=0)

    same_in_both(program)


def test_logs_of_epochs_that_nobody_looks_at_are_those_of_the_metrics_too():
    histories = []
    for callbacks in ([], [lamina.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)]):
        lamina.utils.set_random_seed(1)
        model = of_the_batch(lamina)(*body(lamina))
        model.compile("sgd", "mse")
        histories.append(model.fit(X, Y, batch_size=8, epochs=6, verbose=0, callbacks=callbacks).history["loss"])
    assert histories[0] == histories[1]
