"""Equal layers are asked once for their outputs' shapes, and no others."""

import pytest

from lamina import KerasTensor, config, layers
from lamina.layer import inferred


@pytest.fixture
def asked(monkeypatch):
    """The abstract evaluations that were made."""
    made = []
    infer = inferred.infer
    monkeypatch.setattr(inferred, "infer", lambda *given: made.append(given) or infer(*given))
    return made


def x(*shape, dtype="float32"):
    return KerasTensor((None, *shape), dtype)


def test_equal_layers_are_asked_once(asked):
    tensor, before = layers.Dense(13, activation="relu")(x(13)), len(asked)
    for _ in range(5):
        tensor = layers.Dense(13, activation="relu")(tensor)
    assert before == 1
    assert len(asked) == 1
    assert tensor.shape == (None, 13)


def test_each_tensor_is_another():
    first, second = layers.Dense(3)(x(3)), layers.Dense(3)(x(3))
    assert first is not second
    assert first.name != second.name
    assert first.origin != second.origin


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "target_shape", (3, 2)),
        lambda layer: setattr(layer, "call", lambda x: x),
        lambda layer: setattr(layer, "dtype_policy", "bfloat16"),
    ],
    ids=["argument", "call", "policy"],
)
def test_a_layer_that_was_changed_is_asked_anew(change, asked):
    layers.Reshape((2, 3))(x(6))
    layer = layers.Reshape((2, 3))
    change(layer)
    before = len(asked)
    layer(x(6))
    assert len(asked) == before + 1


def test_other_arguments_are_asked_for_anew(asked):
    layers.Flatten()(x(2, 17))
    before = len(asked)
    assert layers.Flatten()(x(2, 18)).shape == (None, 36)
    assert layers.Flatten()(x(2, 17, dtype="int32")).dtype == "int32"
    assert layers.Flatten()(KerasTensor((3, 2, 17))).shape == (3, 34)
    assert len(asked) == before + 3


def test_another_default_dtype_is_asked_for_anew():
    def dtype():
        return layers.Activation("softmax")(x(5, dtype="int32")).dtype

    usual = dtype()
    config.set_floatx("float64" if usual == "float16" else "float16")
    try:
        changed = layers.Activation("softmax")
        assert changed(x(5, dtype="int32")).dtype == changed(x(5, dtype="int32")).dtype
    finally:
        config.set_floatx("float32")
    assert dtype() == usual


class Own(layers.Dense):
    """A program's layer."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: Own(11),
        lambda: layers.Dense(11, activation=lambda x: x * 2),
        lambda: layers.Lambda(lambda x: x * 2),
        lambda: layers.TimeDistributed(layers.Dense(11)),
    ],
    ids=["subclass", "activation", "function", "child"],
)
def test_what_may_hold_code_of_a_program_is_always_asked(make, asked):
    make()(x(4, 11))
    before = len(asked)
    make()(x(4, 11))
    assert len(asked) > before
