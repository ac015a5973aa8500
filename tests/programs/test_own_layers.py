"""Programs with layers and models of their own."""

import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 4)).astype("float32")
Y = RANDOM.normal(size=(6, 3)).astype("float32")


def test_a_layer_that_makes_its_weights_in_build():
    def program(keras):
        class SimpleDense(keras.layers.Layer):
            def __init__(self, units, activation=None):
                super().__init__()
                self.units = units
                self.activation = keras.activations.get(activation)

            def build(self, input_shape):
                self.W = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal")
                self.b = self.add_weight(shape=(self.units,), initializer="zeros")

            def call(self, inputs):
                return self.activation(keras.ops.matmul(inputs, self.W) + self.b)

        layer = SimpleDense(5, activation=keras.ops.relu)
        before = layer.built
        outputs = layer(X)
        symbolic = layer(keras.Input((4,)))
        return {
            "built": (before, layer.built),
            "outputs": outputs,
            "shapes": [w.shape for w in layer.weights],
            "trainable": len(layer.trainable_weights),
            "symbolic": symbolic.shape[1:],
            "name": layer.name,
        }

    assert same_in_both(program)["outputs"].shape == (6, 5)


def test_weights_made_in_the_constructor():
    def program(keras):
        class Scale(keras.layers.Layer):
            def __init__(self, size, **kwargs):
                super().__init__(**kwargs)
                self.scale = self.add_weight(shape=(size,), initializer="ones", name="scale")
                self.count = self.add_weight(initializer="zeros", trainable=False, name="count")

            def call(self, inputs):
                self.count.assign_add(1.0)
                return inputs * self.scale

        layer = Scale(4, name="scale")
        outputs = layer(layer(X))
        return outputs, [w.path for w in layer.weights], layer.get_weights(), len(layer.trainable_variables)

    assert same_in_both(program)[1] == ["scale/scale", "scale/count"]


def test_plain_variables_are_weights():
    def program(keras):
        class Affine(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.w = keras.Variable(np.eye(4, 3), dtype="float32", name="w")
                self.b = keras.Variable(np.ones(3), dtype="float32", trainable=False, name="b")

            def call(self, inputs):
                return keras.ops.matmul(inputs, self.w) + self.b

        model = keras.Sequential([Affine()])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses = model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        return losses, [v.name for v in model.trainable_variables], model.get_weights()

    assert same_in_both(program)[1] == ["w"]


def wide(keras):
    """A layer whose output is 2n wide for even and 3n wide for odd n, where n is the size of the last axis."""

    class Wide(keras.layers.Layer):
        def call(self, inputs):
            n = inputs.shape[-1]
            return keras.ops.concatenate([inputs] * (2 if n % 2 == 0 else 3), axis=-1)

    return Wide


@pytest.mark.parametrize(("n", "width"), [(4, 8), (5, 15), (7, 21)])
def test_a_stack_infers_a_width_that_its_code_decides(n, width):
    def program(keras):
        model = keras.Sequential([keras.layers.Dense(n), wide(keras)(), keras.layers.Dense(2)])
        model(X)
        kernels = [w.shape for w in model.weights if len(w.shape) == 2]
        return kernels, [layer.output.shape[1:] for layer in model.layers], model(X)

    assert same_in_both(program)[0] == [(4, n), (width, 2)]


def test_a_stack_infers_widths_from_its_first_input():
    def program(keras):
        class Own(keras.layers.Layer):
            def __init__(self, ratio):
                super().__init__()
                self.ratio = ratio

            def build(self, input_shape):
                n = input_shape[-1]
                self.w = self.add_weight(shape=(n, n * (2 if n % 2 == 0 else 3)), initializer="glorot_uniform")

            def call(self, inputs):
                return keras.ops.relu(keras.ops.matmul(inputs, self.w)) * self.ratio

        model = keras.Sequential([Own(1.0), Own(0.5), keras.layers.Dense(3), Own(2.0)])
        before = len(model.weights), model.built
        outputs = model(X)
        return before, outputs, [w.shape for w in model.weights], model.output_shape[1:]

    assert same_in_both(program)[3] == (9,)


def test_a_model_with_lists_and_dicts_of_layers():
    def program(keras):
        class Mixture(keras.Model):
            def __init__(self):
                super().__init__()
                self.stack = [keras.layers.Dense(5, "relu") for _ in range(2)]
                self.heads = {"a": keras.layers.Dense(3), "b": (keras.layers.Dense(3), keras.layers.Dropout(0.5))}

            def call(self, inputs, training=False):
                x = inputs
                for layer in self.stack:
                    x = layer(x)
                dense, dropout = self.heads["b"]
                return self.heads["a"](x) + dropout(dense(x), training=training)

        model = Mixture()
        first = model(X)
        model.compile("adam", "mse", metrics=["mae"])
        history = model.fit(X, Y, batch_size=3, epochs=2, verbose=0, shuffle=False).history
        return first, history, model.predict(X, verbose=0), [w.shape for w in model.weights]

    assert len(same_in_both(program)[3]) == 8


def test_a_model_that_takes_training_and_mask():
    def program(keras):
        class Average(keras.Model):
            def __init__(self):
                super().__init__()
                self.embed = keras.layers.Embedding(10, 4, mask_zero=True)
                self.norm = keras.layers.BatchNormalization()
                self.dense = keras.layers.Dense(2)
                self.supports_masking = True
                self.seen = []

            def call(self, tokens, training=None, mask=None):
                self.seen.append(training)
                x = self.embed(tokens)
                mask = self.embed.compute_mask(tokens) if mask is None else mask
                weights = keras.ops.cast(mask, "float32")[:, :, None]
                pooled = keras.ops.sum(x * weights, axis=1) / keras.ops.sum(weights, axis=1)
                return self.dense(self.norm(pooled, training=training))

        tokens = np.array([[1, 2, 0, 0], [3, 4, 5, 0], [6, 0, 0, 0]])
        model = Average()
        outputs = [model(tokens), model(tokens, training=True), model(tokens, mask=np.ones((3, 4), bool))]
        return outputs, model.seen[-3:], model.get_weights()

    assert same_in_both(program)[1] == [None, True, None]


def test_a_layer_inside_a_layer_gets_the_training_flag():
    def program(keras):
        class Inner(keras.layers.Layer):
            def call(self, inputs, training=None):
                return inputs * (2.0 if training else 1.0)

        class Outer(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = Inner()

            def call(self, inputs):
                return self.inner(inputs)

        model = keras.Sequential([keras.Input((4,)), Outer()])
        return model(X), model(X, training=True), model.predict(X, verbose=0)

    outputs = same_in_both(program)
    np.testing.assert_allclose(outputs[1], 2 * X)


def test_a_configuration_makes_an_equal_layer():
    def program(keras):
        class Power(keras.layers.Layer):
            def __init__(self, exponent=2, **kwargs):
                super().__init__(**kwargs)
                self.exponent = exponent

            def call(self, inputs):
                return inputs**self.exponent

            def get_config(self):
                return {**super().get_config(), "exponent": self.exponent}

        layer = Power.from_config(Power(3, name="cube").get_config())
        return layer(X), layer.name, layer.exponent

    np.testing.assert_allclose(same_in_both(program)[0], X**3, rtol=1e-6)


@pytest.mark.parametrize("base", ["Layer", "Model"])
def test_two_inputs_and_no_build_go_through_a_file(base, tmp_path):
    @lamina.saving.register_keras_serializable("two_inputs")
    class Both(getattr(lamina, base)):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.one, self.other = lamina.layers.Dense(3), lamina.layers.Dense(3)

        def call(self, x, y=None, training=False):
            return self.one(x) + self.other(y)

    a, b = lamina.Input((4,)), lamina.Input((3,))
    part = Both()
    model = lamina.Model([a, b], part(a, y=b))
    model.save(tmp_path / "a.keras")
    again = lamina.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again([X, Y]), model([X, Y]))
    assert again.layers[-1].get_build_config() == part.get_build_config()
