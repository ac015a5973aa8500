"""Files of Keras 2: whole models as `.h5`, and weights in the order of the layers."""

import json

import h5py
import numpy as np
import pytest

import lamina as keras
from lamina import layers

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def random_arrays(*shapes):
    rng = np.random.default_rng(1)
    return [rng.uniform(0.1, 1, shape).astype("float32") for shape in shapes]


def write_weights(group, weights):
    """`{layer: {name: array}}` as Keras 2 writes it."""
    group.attrs["layer_names"] = [name.encode() for name in weights]
    group.attrs["keras_version"], group.attrs["backend"] = b"2.15.0", b"tensorflow"
    for layer, arrays in weights.items():
        own = group.create_group(layer)
        own.attrs["weight_names"] = [name.encode() for name in arrays]
        for name, array in arrays.items():
            own[name] = array


def write_model(path, config, weights, training=None):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        write_weights(file.create_group("model_weights"), weights)


def dense(name, units, activation="linear", **more):
    init = {"class_name": "GlorotUniform", "config": {"seed": None}}
    return {
        "class_name": "Dense",
        "config": {
            "name": name, "trainable": True, "dtype": "float32", "units": units, "activation": activation,
            "use_bias": True, "kernel_initializer": init, "bias_initializer": {"class_name": "Zeros", "config": {}},
            "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}}, "bias_regularizer": None,
            "activity_regularizer": None, "kernel_constraint": None, "bias_constraint": None, **more,
        },
    }  # fmt: skip


def entry(name, shape=(None, 4)):
    config = {"batch_input_shape": list(shape), "dtype": "float32", "sparse": False, "ragged": False, "name": name}
    return {"class_name": "InputLayer", "config": config}


def norm(name):
    config = {"name": name, "trainable": True, "dtype": "float32", "axis": [1], "momentum": 0.99, "epsilon": 0.001}
    return {"class_name": "BatchNormalization", "config": config}


A, B, C, D = random_arrays((4, 3), (3,), (3, 1), (1,))
STACK = {"class_name": "Sequential", "config": {"name": "s", "layers": [entry("in"), dense("a", 3), dense("b", 1)]}}
STACK_WEIGHTS = {"a": {"a/kernel:0": A, "a/bias:0": B}, "b": {"b/kernel:0": C, "b/bias:0": D}}


def test_stack(tmp_path):
    write_model(tmp_path / "m.h5", STACK, STACK_WEIGHTS)
    model = keras.models.load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(model(X), (X @ A + B) @ C + D, rtol=1e-5)
    assert model.layers[0].kernel_regularizer.l2 == pytest.approx(0.01)


@pytest.mark.parametrize("as_list", [True, False])
def test_stack_whose_first_layer_has_the_shape(tmp_path, as_list):
    inner = [dense("a", 3, batch_input_shape=[None, 4]), dense("b", 1)]
    config = {"class_name": "Sequential", "config": inner if as_list else {"name": "s", "layers": inner}}
    write_model(tmp_path / "m.h5", config, STACK_WEIGHTS)
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.h5")(X), (X @ A + B) @ C + D, rtol=1e-5)


def test_graph_with_a_model_inside(tmp_path):
    """Two inputs, a shared layer, a nested model and a normalization with its moving averages behind."""
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [entry("i", (None, 3)), dense("b", 1)]}}
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": [
                {**entry("x"), "name": "x", "inbound_nodes": []},
                {**entry("y"), "name": "y", "inbound_nodes": []},
                {**dense("a", 3), "name": "a", "inbound_nodes": [[["x", 0, 0, {}]], [["y", 0, 0, {}]]]},
                {
                    "class_name": "Add", "config": {"name": "add", "trainable": True, "dtype": "float32"},
                    "name": "add", "inbound_nodes": [[["a", 0, 0, {}], ["a", 1, 0, {}]]],
                },
                {**norm("n"), "name": "n", "inbound_nodes": [[["add", 0, 0, {}]]]},
                {**inner, "name": "inner", "inbound_nodes": [[["n", 0, 0, {}]]]},
            ],
            "input_layers": [["x", 0, 0], ["y", 0, 0]],
            "output_layers": [["inner", 1, 0]],
        },
    }  # fmt: skip
    config["config"]["output_layers"] = [["inner", 0, 0]]
    gamma, beta, mean, variance = random_arrays((3,), (3,), (3,), (3,))
    moving = {"n/gamma:0": gamma, "n/beta:0": beta, "n/moving_mean:0": mean, "n/moving_variance:0": variance}
    weights = {"x": {}, "y": {}, "a": STACK_WEIGHTS["a"], "add": {}, "n": moving, "inner": STACK_WEIGHTS["b"]}
    write_model(tmp_path / "m.h5", config, weights)
    added = X @ A + B + 2 * X @ A + B
    wanted = ((added - mean) / np.sqrt(variance + 0.001) * gamma + beta) @ C + D
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.h5")([X, 2 * X]), wanted, rtol=1e-4)


def test_training_goes_on(tmp_path):
    metric = {"class_name": "MeanMetricWrapper", "config": {"name": "mae", "dtype": "float32", "fn": "mae"}}
    loss = {"class_name": "MeanSquaredError", "config": {"reduction": "auto", "name": "m", "fn": "mean_squared_error"}}
    training = {
        "loss": loss, "metrics": [[metric]], "weighted_metrics": None, "loss_weights": None,
        "optimizer_config": {"class_name": "SGD", "config": {"name": "SGD", "lr": 0.25, "decay": 0.0, "momentum": 0.0}},
    }  # fmt: skip
    write_model(tmp_path / "m.h5", STACK, STACK_WEIGHTS, training)
    model = keras.models.load_model(tmp_path / "m.h5")
    assert float(model.optimizer.learning_rate) == 0.25
    model.fit(X, X[:, :1], verbose=0)
    assert not keras.models.load_model(tmp_path / "m.h5", compile=False).compiled


def test_state_of_another_kind_of_optimizer(tmp_path):
    training = {"loss": "mse", "optimizer_config": {"class_name": "Adam", "config": {"learning_rate": 0.5}}}
    path = tmp_path / "m.h5"
    write_model(path, STACK, STACK_WEIGHTS, training)
    with h5py.File(path, "a") as file:
        group = file.create_group("optimizer_weights")
        group.attrs["weight_names"] = [b"Adam/iter:0"]
        group["Adam/iter:0"] = np.int64(3)
    with pytest.warns(UserWarning, match="the optimizer starts anew"):
        model = keras.models.load_model(path)
    assert float(model.optimizer.learning_rate) == 0.5


def built():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5), layers.Dense(1)])


@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5", "m.hdf5"])
@pytest.mark.parametrize("whole", [True, False])
def test_weights_in_the_order_of_the_layers(tmp_path, name, whole):
    if whole:
        write_model(tmp_path / name, STACK, STACK_WEIGHTS)
    else:
        with h5py.File(tmp_path / name, "w") as file:
            write_weights(file, STACK_WEIGHTS)
    model = built()
    model.load_weights(tmp_path / name)
    np.testing.assert_allclose(model(X), (X @ A + B) @ C + D, rtol=1e-5)


def test_weights_of_another_model(tmp_path):
    write_model(tmp_path / "m.h5", STACK, STACK_WEIGHTS)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"m\.h5.*b/kernel:0 must have shape \(3, 2\)"):
        model.load_weights(tmp_path / "m.h5")
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, was)
    with pytest.warns(UserWarning, match="b/kernel:0"):
        model.load_weights(tmp_path / "m.h5", skip_mismatch=True)
    np.testing.assert_array_equal(model.get_weights()[0], A)
    with pytest.raises(ValueError, match="must have weights of 1 layers"):
        keras.Sequential([keras.Input((4,)), layers.Dense(3)]).load_weights(tmp_path / "m.h5")


def test_long_lists_of_names_are_kept_in_parts(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_weights(file, STACK_WEIGHTS)
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], [b"b"]
    model = built()
    model.load_weights(tmp_path / "m.h5")
    np.testing.assert_array_equal(model.get_weights()[0], A)


def damaged(change):
    def write(path):
        write_model(path, STACK, STACK_WEIGHTS)
        with h5py.File(path, "a") as file:
            change(file)

    return write


HARM = {
    "no HDF5": lambda path: path.write_bytes(b"x" * 5000),
    "no model": damaged(lambda file: file.attrs.__delitem__("model_config")),
    "numbers": damaged(lambda file: file.attrs.__setitem__("model_config", np.zeros(3))),
    "no JSON": damaged(lambda file: file.attrs.__setitem__("model_config", "{")),
    "names": damaged(lambda file: file["model_weights"].attrs.__setitem__("layer_names", [1, 2])),
    "no names": damaged(lambda file: file["model_weights"].attrs.__delitem__("layer_names")),
    "other names": damaged(lambda file: file["model_weights"].attrs.__setitem__("layer_names", [b"../a", b"/"])),
    "gap": damaged(lambda file: file["model_weights/a/a"].__delitem__("kernel:0")),
    "no weights": damaged(lambda file: file.__delitem__("model_weights")),
    "link": damaged(lambda file: file.__setitem__("x", h5py.ExternalLink("other.h5", "/"))),
    "lambda": lambda path: write_model(
        path, {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {
            "function": {"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}}}}]}}, {}),
    "huge": lambda path: write_model(
        path, {"class_name": "Sequential", "config": {"layers": [entry("in"), dense("a", 10**12)]}}, STACK_WEIGHTS),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_damage_is_refused(tmp_path, name):
    HARM[name](tmp_path / "m.h5")
    with pytest.raises((keras.saving.UnsafeFileError, keras.saving.CorruptFileError), match=r"m\.h5"):
        keras.models.load_model(tmp_path / "m.h5")


class Shifted(keras.Model):
    """A graph with a weight of the model itself."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shift = self.add_weight(shape=(1,), initializer="random_normal", name="shift")

    def call(self, inputs):
        return super().call(inputs) + self.shift


def branches():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(3, name="shared")
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.BatchNormalization()], name="inner")
    h = layers.add([inner(shared(a)), shared(b)])
    return keras.Model([a, b], [layers.Dense(1, name="p")(h), layers.Dense(2, name="q")(h)])


def recurrent():
    return keras.Sequential([keras.Input((3, 4)), layers.Bidirectional(layers.LSTM(2)), layers.Dense(1)])


def shifted():
    x = keras.Input((4,))
    return Shifted(x, layers.Dense(2)(x))


MODELS = {
    "stack": (built, X, {"loss": "mse", "metrics": ["mae"]}),
    "branches": (branches, [X, 2 * X], {"loss": {"p": "mse", "q": keras.losses.Huber(0.5)}, "loss_weights": [1, 2]}),
    "recurrent": (recurrent, np.stack([X, X, X], 1), {"loss": keras.losses.MeanAbsoluteError()}),
    "shifted": (shifted, X, {"loss": "mse"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_written_and_read(tmp_path, name):
    make, x, given = MODELS[name]
    model = make()
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9)), **given)
    y = [np.ones_like(out) for out in model(x)] if name == "branches" else np.ones_like(model(x))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.h5")
    twin = keras.models.load_model(tmp_path / "m.h5", custom_objects={"Shifted": Shifted})
    for was, now in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(now, was)
    for was, now in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_array_equal(now, was)
    assert twin.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))
    other = make()
    other.load_weights(tmp_path / "m.h5")
    np.testing.assert_array_equal(other.weights[0], model.weights[0])


def test_a_model_without_its_optimizer(tmp_path):
    model = built()
    model.compile("adam", "mse")
    model.save(tmp_path / "m.hdf5", include_optimizer=False)
    assert not keras.models.load_model(tmp_path / "m.hdf5").compiled


def test_many_layers_with_long_names(tmp_path):
    inner = [layers.Dense(1, name=f"{'a' * 500}_{i}") for i in range(200)]
    model = keras.Sequential([keras.Input((1,)), *inner])
    model.save(tmp_path / "m.h5")
    for was, now in zip(model.weights, keras.models.load_model(tmp_path / "m.h5").weights, strict=True):
        np.testing.assert_array_equal(now, was)


def test_what_the_format_has_no_place_for_is_not_lost_in_silence(tmp_path):
    words = layers.StringLookup()
    words.adapt(["a", "b"])
    with pytest.raises(ValueError, match=r"save it as \.keras"):
        keras.Sequential([keras.Input((1,), dtype="string"), words]).save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_a_model_that_lacks_what_the_file_has_of_it(tmp_path):
    model = shifted()
    model.save(tmp_path / "m.h5")
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="the model itself must hold 0 variables"):
        keras.Model(x, layers.Dense(2)(x)).load_weights(tmp_path / "m.h5")


def test_inspect(tmp_path):
    write_model(tmp_path / "m.h5", STACK, STACK_WEIGHTS)
    found = keras.saving.inspect(tmp_path / "m.h5")
    assert [(row.name, row.nbytes) for row in found.rows] == [("model_weights/a/a", 60), ("model_weights/b/b", 16)]


def test_lambdas_are_opened_by_the_names_of_their_layers(tmp_path):
    kinds = {"function_type": "lambda", "module": "__main__", "output_shape": None, "output_shape_type": "raw"}
    code = {"class_name": "__tuple__", "items": ["4wAA", None, None]}
    config = {"name": "triple", "trainable": True, "dtype": "float32", "function": code, "arguments": {}, **kinds}
    named = {**config, "name": "same", "function": "unchanged", "function_type": "function"}
    rows = [entry("in"), *({"class_name": "Lambda", "config": each} for each in (config, named))]
    write_model(tmp_path / "m.h5", {"class_name": "Sequential", "config": {"name": "s", "layers": rows}}, {})
    with pytest.raises(keras.saving.UnsafeFileError, match=r"custom_objects=\{'triple': function\}"):
        keras.models.load_model(tmp_path / "m.h5")
    functions = {"triple": lambda x: 3 * x, "unchanged": lambda x: x}
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.h5", custom_objects=functions)(X), 3 * X)
