"""Programs with models made of graphs."""

import numpy as np
import pytest

import lamina
from tests.programs.both import same_in_both

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(8, 6)).astype("float32")
LABELS = RANDOM.integers(0, 3, 8)
NUMBERS = RANDOM.normal(size=(8, 1)).astype("float32")
TOKENS = np.array([[3, 1, 4, 0, 0], [1, 5, 0, 0, 0], [9, 2, 6, 5, 3], [5, 8, 9, 7, 0]])


def trained(model, x, y, **options):
    """Losses and metrics of two short epochs, and outputs after them."""
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, **options).history
    return history, model.predict(x, verbose=0)


def test_two_branches():
    def program(keras):
        inputs = keras.Input((6,), name="features")
        left = keras.layers.Dense(4, "relu")(inputs)
        right = keras.layers.Dense(3, "tanh")(inputs)
        outputs = keras.layers.Dense(1)(keras.layers.concatenate([left, right]))
        model = keras.Model(inputs, outputs, name="branches")
        model.compile("sgd", "mse")
        names = [layer.name for layer in model.layers]
        return names, model.count_params(), model.output_shape, trained(model, X, NUMBERS)

    assert same_in_both(program)[1] == (6 + 1) * 4 + (6 + 1) * 3 + 8


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_many_heads(kind):
    def program(keras):
        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(5, "relu")(inputs)
        heads = {
            "label": keras.layers.Dense(3, "softmax", name="label")(hidden),
            "number": keras.layers.Dense(1, name="number")(hidden),
        }
        losses = {"label": "sparse_categorical_crossentropy", "number": "mse"}
        metrics = {"label": ["accuracy"], "number": ["mae"]}
        targets = {"label": LABELS, "number": NUMBERS}
        if kind == "list":
            heads, losses, metrics, targets = (list(each.values()) for each in (heads, losses, metrics, targets))
        model = keras.Model(inputs, heads)
        model.compile("adam", losses, metrics=metrics)
        evaluated = model.evaluate(X, targets, verbose=0, return_dict=True)
        return evaluated, trained(model, X, targets), model.evaluate(X, targets, verbose=0)

    names = same_in_both(program)[0]
    assert {"loss", "label_loss", "number_loss", "label_accuracy", "number_mae"} == set(names)


def test_residual_connections():
    def program(keras):
        inputs = keras.Input((8, 8, 2))
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
        for filters in (4, 6):
            shortcut = keras.layers.Conv2D(filters, 1)(x) if filters != x.shape[-1] else x
            y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            y = keras.layers.BatchNormalization()(y)
            x = keras.layers.ReLU()(keras.layers.add([shortcut, y]))
        outputs = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["acc"])
        images = np.random.default_rng(2).normal(size=(8, 8, 8, 2)).astype("float32")
        return trained(model, images, LABELS), [w.path.split("/")[-1] for w in model.weights]

    same_in_both(program)


def test_a_transformer():
    def program(keras):
        def block(x):
            h = keras.layers.LayerNormalization()(x)
            x = x + keras.layers.MultiHeadAttention(2, 4, dropout=0.1)(h, h, use_causal_mask=True)
            h = keras.layers.LayerNormalization()(x)
            return x + keras.layers.Dense(8)(keras.layers.Dense(16, "gelu")(h))

        tokens = keras.Input((5,), dtype="int32")
        positions = keras.ops.arange(5)
        x = keras.layers.Embedding(12, 8)(tokens) + keras.layers.Embedding(5, 8)(positions)
        for _ in range(2):
            x = block(x)
        model = keras.Model(tokens, keras.layers.Dense(12)(x))
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        return model.predict(TOKENS, verbose=0), trained(model, TOKENS, np.roll(TOKENS, -1, axis=1))

    same_in_both(program)


def test_models_inside_models():
    def program(keras):
        inner_inputs = keras.Input((6,))
        inner = keras.Model(inner_inputs, keras.layers.Dense(4, "relu")(inner_inputs), name="inner")
        stack = keras.Sequential([keras.layers.Dense(5, "tanh"), keras.layers.Dropout(0.2)], name="stack")
        inputs = keras.Input((6,))
        outputs = keras.layers.Dense(1)(stack(inner(inputs)))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "mse")
        twice = keras.Sequential([model, keras.layers.Activation("tanh")])
        return trained(model, X, NUMBERS), twice(X), [layer.name for layer in model.layers][1:3]

    assert same_in_both(program)[2] == ["inner", "stack"]


def test_shared_layers_have_one_set_of_weights():
    def program(keras):
        left, right = keras.Input((6,)), keras.Input((6,))
        shared = keras.layers.Dense(4, "relu", name="shared")
        merged = keras.layers.subtract([shared(left), shared(right)])
        model = keras.Model([left, right], keras.layers.Dense(1)(merged))
        model.compile("sgd", "mse")
        return trained(model, [X, X[::-1]], NUMBERS), len(model.weights), len(model.layers)

    assert same_in_both(program)[1:] == (4, 5)


def test_layers_of_one_model_used_in_another():
    def program(keras):
        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(4, "relu", name="hidden")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1, name="top")(hidden))
        features = keras.Model(model.input, model.get_layer("hidden").output)
        fresh = keras.Input((6,))
        again = keras.Model(fresh, model.get_layer("top")(model.get_layer("hidden")(fresh)))
        middle = keras.Model(hidden, model.output)
        model.compile("sgd", "mse")
        result = trained(model, X, NUMBERS)
        return result, features(X), again(X) - model(X), middle(features(X)) - model(X)

    assert np.abs(same_in_both(program)[2]).max() < 1e-6


def test_inputs_in_a_dict():
    def program(keras):
        inputs = {"b": keras.Input((6,), name="b"), "a": keras.Input((1,), name="a")}
        outputs = keras.layers.Dense(1)(keras.layers.concatenate([inputs["a"], inputs["b"]]))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "mse")
        data = {"a": NUMBERS, "b": X}
        return trained(model, data, NUMBERS), model(data)

    same_in_both(program)


def test_an_input_that_may_be_left_out():
    def program(keras):
        class AddIfThere(keras.layers.Layer):
            def call(self, x, extra=None):
                return x if extra is None else x + extra

        inputs, extra = keras.Input((6,), name="x"), keras.Input((6,), name="extra", optional=True)
        outputs = keras.layers.Dense(2)(AddIfThere()(inputs, extra))
        model = keras.Model({"x": inputs, "extra": extra}, outputs)
        return model({"x": X, "extra": None}), model({"x": X, "extra": X})

    same_in_both(program)


def test_ops_between_layers():
    def program(keras):
        inputs = keras.Input((6,))
        x = keras.ops.sqrt(keras.ops.abs(inputs) + 1.0)
        x = (x - keras.ops.mean(x, axis=-1, keepdims=True)) / 2.0
        x = keras.ops.concatenate([x[:, :3], x[:, 3:] * 2], axis=1)
        x = keras.ops.reshape(x, (-1, 3, 2))
        outputs = keras.ops.max(x @ keras.ops.transpose(x, (0, 2, 1)), axis=(1, 2))
        model = keras.Model(inputs, outputs)
        return model(X), model.predict(X, verbose=0), model.output_shape

    same_in_both(program)


def test_a_masked_text_classifier():
    def program(keras):
        tokens = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(10, 4, mask_zero=True)(tokens)
        x = keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(0.5)(x))
        model = keras.Model(tokens, keras.layers.Dense(1, "sigmoid")(x))
        model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
        before = model.predict(TOKENS, verbose=0)
        return before, trained(model, TOKENS, np.array([0, 1, 1, 0]))

    same_in_both(program)


def test_a_stack_trained_from_its_first_batch():
    def program(keras):
        model = keras.Sequential(
            [
                keras.layers.Flatten(),
                keras.layers.Dense(4, "relu", kernel_regularizer="l2"),
                keras.layers.Dropout(0.3, seed=5),
                keras.layers.Dense(3, "softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return trained(model, X.reshape(8, 3, 2), LABELS), model.output_shape[1:]

    same_in_both(program)


def test_a_stack_that_grows_and_shrinks():
    def program(keras):
        model = keras.Sequential(name="stack")
        model.add(keras.Input((6,)))
        model.add(keras.layers.Dense(4))
        model.add(keras.layers.Dense(2))
        shapes = [model.output_shape]
        model.pop()
        shapes.append(model.output_shape)
        model.add(keras.layers.Dense(5))
        return shapes, model.output_shape, model(X), len(model.weights)

    assert same_in_both(program)[1] == (None, 5)


def test_a_clone_has_the_same_shape_and_fresh_weights():
    def program(keras):
        inputs = keras.Input((6,))
        x = keras.layers.Dense(4, "relu")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.add([x, x])))
        twin = keras.models.clone_model(model)
        different = float(np.abs(twin.get_weights()[0] - model.get_weights()[0]).max() > 0)
        twin.set_weights(model.get_weights())
        return different, twin(X) - model(X), [w.shape for w in twin.weights]

    same_in_both(program)


@pytest.mark.parametrize("within", [lambda x: [x], lambda x: (x,), lambda x: {"x": x}, lambda x: [[x]]])
def test_an_input_and_an_output_alone_in_a_container(within):
    def program(keras):
        inputs = keras.Input((6,), name="x")
        model = keras.Model(within(inputs), within(keras.layers.Dense(2)(inputs)))
        symbolic = model(within(keras.Input((6,), batch_size=3)))
        shapes = model.input_shape, model.output_shape, keras.tree.map_structure(lambda t: t.shape, symbolic)
        return model(within(X)), model.predict(within(X), verbose=0), model.predict_on_batch(within(X)), shapes

    same_in_both(program)


def test_a_model_that_is_no_graph_has_no_inputs():
    def program(keras):
        stack = keras.Sequential([keras.layers.Dense(1)])
        names = "inputs", "outputs", "input_shape", "output_shape"
        before = [hasattr(stack, name) for name in names]
        stack.build((None, 3))
        return before, [hasattr(stack, name) for name in names]

    assert not any(same_in_both(program)[0])


def test_a_subclass_is_made_anew_with_what_its_configuration_adds():
    def program(keras):
        class Scaled(keras.Model):
            def __init__(self, *args, factor=1, **kwargs):
                super().__init__(*args, **kwargs)
                self.factor = factor

            def get_config(self):
                return {**super().get_config(), "factor": self.factor}

        inputs = keras.Input((6,))
        model = Scaled(inputs, keras.layers.Dense(2)(inputs), factor=3, trainable=False)
        again, twin = Scaled.from_config(model.get_config()), keras.models.clone_model(model)
        return again.factor, again.trainable, type(twin).__name__

    assert same_in_both(program) == (3, False, "Scaled")


def test_tuples_stay_tuples_in_a_configuration():
    def program(keras):
        inputs = keras.Input((6,))
        model = keras.Model((inputs,), (keras.layers.Dense(2)(inputs), {"a": (inputs,)}))
        again = keras.Model.from_config(model.get_config())
        return repr(keras.tree.map_structure(lambda t: t.shape[1], (again.input, again.output)))

    same_in_both(program)


def test_a_state_tree_may_hold_lists():
    def program(keras):
        inputs = keras.Input((2,))
        model = keras.Model(inputs, keras.layers.Dense(1, name="d")(inputs))
        model.set_state_tree({"trainable_variables": {"d": {"kernel": [[1.0], [2.0]], "bias": [3.0]}}})
        return model.get_weights()

    same_in_both(program)


def test_a_clone_of_a_stack_in_a_stack_goes_through_the_function():
    def program(keras):
        def cloned(layer):
            names.append(layer.name)
            return type(layer).from_config(layer.get_config())

        names = []
        inner = keras.Sequential([keras.layers.Dense(2, name="inside")])
        model = keras.Sequential([keras.layers.Dense(3, name="outside"), inner])
        keras.models.clone_model(model, clone_function=cloned, recursive=True)
        return names

    same_in_both(program)


def refused(keras, what):
    x, y = keras.Input((2,), name="x"), keras.Input((2,), name="y")
    if what == "a clone":
        keras.models.clone_model(keras.Model({"x": x, "y": y}, x - y), input_tensors=(x, y))
    else:
        keras.Sequential([x, keras.layers.Dense(1)]).build((3, 4))


@pytest.mark.parametrize("what", ["a clone", "a stack"])
def test_inputs_of_another_form_are_refused(what):
    for keras in pytest.importorskip("keras"), lamina:
        with pytest.raises(ValueError, match=r"must have the same structure|must be alike|build"):
            refused(keras, what)
