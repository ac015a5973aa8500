"""Kernels of all kinds: what no law and no comparison with Keras says."""

import copy
import pickle
import warnings

import jax
import numpy as np
import pytest

import lamina
from lamina import dtype_policies, layers, quantizers

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")


def dense(**options):
    layer = layers.Dense(3, name="d", **options)
    layer.build((None, 6))
    return layer


def quantized(mode, **options):
    layer = dense(**options)
    layer.quantize(mode)
    return layer


def stack(*more, name="m"):
    return lamina.Sequential([lamina.Input((6,)), layers.Dense(5, activation="tanh", name="one"), *more], name=name)


# LoRA ---------------------------------------------------------------------------------------------------------------


def trained(model, epochs=3):
    model.compile(lamina.optimizers.SGD(0.1), "mse")
    return model.fit(X, X[:, :5], epochs=epochs, verbose=0).history["loss"]


@pytest.mark.parametrize("mode", [None, "int8", "int4"])
def test_lora_trains_beside_a_kernel_that_stays(mode):
    model = stack()
    if mode:
        model.quantize(mode)
    model.layers[0].enable_lora(2)
    frozen = [v.numpy() for v in model.non_trainable_variables]
    losses = trained(model, 20)
    assert losses[-1] < 0.9 * losses[0]
    assert all(np.array_equal(v.numpy(), before) for v, before in zip(model.non_trainable_variables, frozen))
    assert [v.name for v in model.trainable_variables] == ["bias", "lora_kernel_a", "lora_kernel_b"]


def test_lora_that_was_opened_from_a_file_goes_on_learning(tmp_path):
    """In Keras both of its arrays are zeros then, from which no gradient leads away."""
    model = stack()
    model.layers[0].enable_lora(2)
    trained(model)
    model.save(tmp_path / "model.keras")
    again = lamina.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(X), model(X), rtol=1e-5, atol=1e-6)
    assert not again.layers[0].lora_kernel_b.numpy().any()
    trained(again)
    assert again.layers[0].lora_kernel_b.numpy().any()


def test_alpha_says_how_much_lora_counts():
    one, other = (layers.Dense(3, lora_rank=2, lora_alpha=alpha) for alpha in (None, 6))
    for layer in (one, other):
        layer.build((None, 6))
    other.set_weights([np.ones(w.shape) if "b" in v.name else w for v, w in zip(one.weights, one.get_weights())])
    one.set_weights(other.get_weights())
    plain = X @ one.get_weights()[0] + one.bias.numpy()
    np.testing.assert_allclose(other(X) - plain, 3 * (one(X) - plain), rtol=1e-4, atol=1e-5)
    assert (one.get_config()["lora_alpha"], other.get_config()["lora_alpha"]) == (2, 6)


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"data_format": "channels_first"}])
def test_lora_beside_the_kernel_of_a_convolution(options):
    layer = layers.Conv1D(4, 2, lora_rank=2, **options)
    x = np.random.default_rng(1).normal(size=(2, 6, 6)).astype("float32")
    layer(x)
    layer.lora_kernel_b.assign(np.ones((2, 4)))
    twin = layers.Conv1D(4, 2, **options)
    twin(x)
    twin.set_weights([layer.kernel, layer.bias])
    np.testing.assert_allclose(layer(x), twin(x), rtol=1e-4, atol=1e-5)


# Quantized kernels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "error"), [("int8", 0.03), ("int4", 0.3), ("float8", 0.15)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16"])
def test_a_quantized_layer_computes_nearly_the_same(mode, error, dtype):
    layer = dense(dtype=dtype)
    before = np.asarray(layer(X), "float32")
    layer.quantize(mode)
    after = layer(X)
    assert str(after.dtype) == layer.compute_dtype
    assert np.abs(np.asarray(after, "float32") - before).max() < error * np.abs(before).max()


@pytest.mark.parametrize("equation", ["...b,bc->...c", "ab...,bc->ac...", "ab,cb->ac", "abd,bc->adc"])
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_equations_that_keras_cannot_quantize(equation, mode):
    shape = (4, 6) if equation == "ab,cb->ac" else (4, 6, 5) if equation.startswith("ab") else (4, 5, 6)
    sizes = {"ab...,bc->ac...": 3, "abd,bc->adc": (None, 3)}.get(equation, 3)
    layer = layers.EinsumDense(equation, sizes, bias_axes="c")
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    before = np.asarray(layer(x))
    layer.quantize(mode)
    assert np.abs(layer(x) - before).max() < (0.03 if mode == "int8" else 0.3) * np.abs(before).max()


def test_gradients_pass_through_integers_to_what_lies_below():
    layer = quantized("int8")
    floats = layer.weights[1].numpy() / layer.kernel_scale.numpy()
    gradient = jax.grad(lambda x: layer(x).sum())(X)
    np.testing.assert_allclose(gradient, np.broadcast_to(floats.sum(1), X.shape), rtol=1e-5)


@pytest.mark.parametrize("change", [lambda layer: layer.quantize("int8"), lambda layer: layer.enable_lora(2)])
def test_a_model_that_has_predicted_sees_a_change_of_its_layers(change):
    model = stack()
    model.predict(X, verbose=0)
    change(model.layers[0])
    for variable in model.layers[0].variables:
        if variable.name.startswith("lora"):
            variable.assign(np.ones(variable.shape))
    np.testing.assert_allclose(model.predict(X, verbose=0), model(X), rtol=1e-5, atol=1e-6)


def test_a_layer_that_cannot_be_quantized_stays_as_it_was():
    layer = dense()
    before, names = layer(X), sorted(vars(layer))
    wrong = quantizers.Int8QuantizationConfig(weight_quantizer=quantizers.AbsMaxQuantizer(axis=1))
    with pytest.raises(ValueError, match="Int8QuantizationConfig: weight_quantizer must take the maximum over axes"):
        layer.quantize(config=wrong)
    assert sorted(vars(layer)) == names and layer.quantization_mode is None
    np.testing.assert_array_equal(layer(X), before)
    layer.quantize("int8")


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("mode", ["int8", "int4", "float8", "gptq"])
def test_copies_stand_alone(clone, mode):
    layer = dense()
    layer.quantize(config=quantizers.GPTQConfig(None, None) if mode == "gptq" else None, mode=mode)
    if mode == "int8":
        layer.enable_lora(2)
    twin, before = clone(layer), layer(X)
    np.testing.assert_array_equal(twin(X), before)
    twin.set_weights([np.zeros(w.shape) for w in twin.get_weights()])
    np.testing.assert_array_equal(layer(X), before)


def test_layers_that_a_layer_makes_are_saved_with_their_policies(tmp_path):
    x = lamina.Input((4, 6))
    model = lamina.Model(x, layers.MultiHeadAttention(2, 3, name="attention")(x, x))
    model.quantize("int8", filters="query|key")
    model.save(tmp_path / "model.keras")
    again = lamina.saving.load_model(tmp_path / "model.keras")
    data = np.random.default_rng(1).normal(size=(2, 4, 6)).astype("float32")
    np.testing.assert_array_equal(again(data), model(data))
    assert [v.dtype for v in again.weights].count("int8") == 2


def test_a_policy_by_name_or_by_path_makes_the_kernel():
    assert layers.Dense(3, dtype="int8_from_float32").quantization_mode == "int8"
    layer = dense(dtype="int4/2_from_bfloat16")
    assert [(v.name, v.shape, v.dtype) for v in layer.weights[1:3]] == [
        ("kernel", (6, 2), "int8"),
        ("kernel_scale", (3, 3), "bfloat16"),
    ]
    policies = dtype_policies.DTypePolicyMap("float32", {"it/(query|key)": "int8_from_float32"})
    attention = layers.MultiHeadAttention(2, 3, name="it", dtype=policies)
    attention(np.ones((1, 4, 6)), np.ones((1, 4, 6)))
    assert attention.query_dense.quantization_mode == "int8"
    assert attention.value_dense.quantization_mode is None
    layer = dense()
    layer.dtype_policy = "int4/2_from_float32"
    assert layer.kernel_zero.shape == (3, 3)
    layer = dense(dtype=dtype_policies.DTypePolicyMap())  # with no entry for the layer
    layer.dtype_policy = "mixed_bfloat16"
    assert layer.dtype_policy[layer.path].name == "mixed_bfloat16"


# Models -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filters",
    ["^two$", ["two", "three"], "m/two", lambda layer: layer.name == "two"],
    ids=["regex", "list", "path", "fn"],
)
def test_filters_say_which_layers(filters):
    model = stack(layers.Dropout(0.5), layers.Dense(2, name="two"))
    model.quantize("int8", filters=filters)
    assert [layer.quantization_mode for layer in model.layers] == [None, None, "int8"]


def test_what_stays_floats_is_said():
    model = lamina.Sequential([lamina.Input((6, 2)), layers.Conv1D(3, 2, name="stem"), layers.Dense(2)], name="m")
    with pytest.warns(UserWarning, match=r'Sequential "m".quantize: Conv1D "stem" stay floats'):
        model.quantize("int8")


def calibrated(mode, config, tmp_path, dataset):
    blocks = [layers.Dense(40, activation="relu", name="one"), layers.Dense(3, name="two")]
    model = lamina.Sequential([lamina.Input((6,)), *blocks])
    before = model(X)
    options = {"group_size": 4, "num_samples": 64, "quantization_layer_structure": {"sequential_blocks": blocks}}
    model.quantize(mode, config=config(dataset, None, **options))
    model.save(tmp_path / "model.keras")
    again = lamina.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(X), model(X))
    assert {v.dtype for v in model.weights if v.name == "kernel"} == {"uint8"}
    return np.abs(model(X) - before).max() / np.abs(before).max()


@pytest.mark.parametrize(("mode", "config"), [("gptq", quantizers.GPTQConfig), ("awq", quantizers.AWQConfig)])
def test_calibration_beside_arrays_of_floats(mode, config, tmp_path):
    assert calibrated(mode, config, tmp_path, np.random.default_rng(2).normal(size=(64, 6)).astype("float32")) < 0.15


def test_strings_are_tokens_by_the_tokenizer():
    config = quantizers.GPTQConfig(["b a", "c"], lambda text: [ord(c) for c in text], num_samples=3, sequence_length=2)
    (samples,) = lamina.models.quantization.batches(config)
    assert [bytes(row.tolist()).decode() for row in samples] == ["b ", "ac", "b "]


DIGITS = {
    "as in the demo": lambda: [
        lamina.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ],
    "without convolutions": lambda: [
        lamina.Input((8, 8, 1)),
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ],
}


@pytest.mark.parametrize("net", DIGITS)
@pytest.mark.filterwarnings("ignore:.*stay floats")
def test_digits_are_read_as_well_in_8_bits(net):
    """At a quarter of the bytes in the kernels that have such a form; convolutions have none, as in Keras."""
    lamina.utils.set_random_seed(7)
    (x, y), (x_test, y_test) = lamina.datasets.digits.load_data()
    x, x_test = (images[..., np.newaxis].astype("float32") / 16 for images in (x, x_test))
    model = lamina.Sequential(DIGITS[net]())
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=8, verbose=0)
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    size, (_, accuracy) = bytes_of(dense), model.evaluate(x_test, y_test, verbose=0)
    model.quantize("int8")
    model.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    _, quantized_accuracy = model.evaluate(x_test, y_test, verbose=0)
    assert accuracy > 0.9
    assert abs(quantized_accuracy - accuracy) <= 0.005
    assert bytes_of(dense) < 0.27 * size


def bytes_of(some):
    return sum(v.numpy().nbytes for layer in some for v in layer.weights if v.name.startswith("kernel"))


# Errors -------------------------------------------------------------------------------------------------------------

WRONG = [
    (lambda: layers.Dense(3, name="d").quantize("int8"), 'Dense "d": must be built before quantize'),
    (lambda: layers.Dense(3, name="d").enable_lora(2), 'Dense "d": must be built before enable_lora'),
    (lambda: dense().quantize("int9"), "got 'int9'. Did you mean 'int8'?"),
    (lambda: dense().quantize(), 'Dense "d".quantize: mode must be one of'),
    (lambda: dense().quantize("gptq"), r"config must be given with mode 'gptq', as GPTQConfig\("),
    (lambda: dense().quantize("int8", config=quantizers.Int4QuantizationConfig()), "that of its config, 'int4'"),
    (lambda: dense().quantize("int8", config=3), "config must be a QuantizationConfig, got 3"),
    (lambda: quantized("int8").quantize("int4"), "must be quantized once, got mode='int4' besides 'int8'"),
    (lambda: dense().enable_lora(0), 'Dense "d": rank must be a positive integer, got 0'),
    (lambda: dense().enable_lora(2, lora_alpha=-1), "lora_alpha must be a number above 0, got -1"),
    (lambda: dense(lora_rank=2).enable_lora(2), "enable_lora must be called once"),
    (lambda: dense(lora_rank=1.5), "lora_rank must be a positive integer, got 1.5"),
    (lambda: dense(lora_rank=2, kernel_constraint="non_neg"), "kernel_constraint must be None with LoRA"),
    (lambda: dense().quantize("int7"), r"mode must be one of .*, got .int7.. Did you mean .int8."),
    (lambda: dense().quantized_build((6, 5), "int7"), "mode must be one of .*, got 'int7'"),
    (lambda: dense(dtype="float16").quantize("int8"), "must not compute in float16 with 'int8'"),
    (lambda: stack().quantize("int8", filters="three"), 'must match the name of a layer, got .three. for Dense "one"'),
    (lambda: stack().quantize("int8", filters=3), "filters must be a regular expression"),
    (lambda: lamina.Sequential([layers.Dense(2)]).quantize("int8"), "must be built before quantize"),
    (lambda: stack().quantize("gptq", config=quantizers.GPTQConfig([1], None)), "structure must be a dict"),
    (lambda: quantizers.Int4QuantizationConfig(block_size=0), "block_size must be a positive integer, got 0"),
    (lambda: quantizers.Int4QuantizationConfig(quantizers.AbsMaxQuantizer()), "block_size must be None or -1 with"),
    (lambda: quantizers.Int4QuantizationConfig(quantizers.AbsMaxQuantizer(), block_size=-1), r"value_range \(-8, 7\)"),
    (lambda: quantizers.AbsMaxQuantizer(value_range=(-200, 7)), "value_range must be two ascending integers"),
    (lambda: quantizers.GPTQConfig([], None, weight_bits=5), "weight_bits must be one of 2, 3, 4, 8, got 5"),
    (lambda: quantizers.AWQConfig([], None, group_size=0), "group_size must be a positive integer, got 0"),
    (lambda: lamina.models.quantization.batches(quantizers.AWQConfig([], None)), "dataset must not be empty"),
    (lambda: lamina.models.quantization.batches(quantizers.AWQConfig(["a"], None)), "tokenizer must be given"),
    (lambda: setattr(dense(), "dtype_policy", "awq/4/-1_from_float32"), "call quantize with a config, which has the"),
    (lambda: dtype_policies.get("int8_from_float16"), "must not compute in float16"),
    (lambda: dtype_policies.get("itn8_from_float32"), "Did you mean 'int8'?"),
    (lambda: dtype_policies.get("gptq/5/4_from_float32"), r"weight_bits one of \(2, 3, 4, 8\), got 'gptq/5/4'"),
    (lambda: dtype_policies.get("int4/x_from_float32"), "must be of the form 'int4/<block_size>', got 'int4/x'"),
    (lambda: dtype_policies.DTypePolicyMap(None, {"a.": "float16", "a+": "float16"})["aa"], 'one key must match "aa"'),
    (lambda: quantizers.pack_int4(np.zeros(3, "int8"), dtype="int16"), "dtype must be 'int8' or 'uint8', got 'int16'"),
    (lambda: quantizers.abs_max_quantize_grouped_with_zero_point(np.zeros(3), 2), "inputs must be a matrix"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_mistake_is_named_in_one_line(wrong, says):
    with pytest.raises(ValueError, match=says) as caught:
        wrong()
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: layers.Dropout(0.5).quantize("int8"),
        lambda: layers.Dropout(0.5).quantized_build((3,), "int8"),
        lambda: layers.Conv1D(2, 2).quantize("int8"),
        lambda: layers.Embedding(3, 2).quantize("float8"),
        lambda: layers.Embedding(3, 2).quantized_build((3, 2), "float8"),
        lambda: layers.ReversibleEmbedding(3, 2, tie_weights=False).quantize("float8"),
        lambda: type("Own", (layers.Dense,), {})(3).quantize("int8"),
        lambda: (layer := layers.SeparableConv1D(2, 2)).build((None, 4, 3)) or layer.enable_lora(2),
    ],
)
def test_a_layer_without_a_form_for_a_mode_says_so(wrong):
    with pytest.raises(NotImplementedError):
        wrong()


def test_weights_in_a_file_take_the_place_of_floats_that_wait(tmp_path):
    model, path = stack(), tmp_path / "model.weights.h5"
    model.quantize(config=config_for(model))
    for saved in (model, stack()):
        if saved is not model:
            saved.layers[0].quantize(config=config_for(saved))
            saved.load_weights(path)
        np.testing.assert_array_equal(saved(X), model(X))
        saved.save_weights(path)


def config_for(model):
    return quantizers.AWQConfig(X, None, quantization_layer_structure={"sequential_blocks": model.layers})


def test_floats_that_wait_for_a_dataset_are_not_saved(tmp_path):
    model = stack()
    model.layers[0].quantize(config=quantizers.GPTQConfig(None, None))
    with pytest.raises(ValueError, match="must be calibrated before it is saved"):
        model.save(tmp_path / "model.keras")
    with warnings.catch_warnings(), pytest.raises(NotImplementedError, match="gptq"):
        model.layers[0].enable_lora(2)
