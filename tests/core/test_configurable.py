"""The constructor's arguments are the configuration."""

import inspect
import json

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.core.configurable import deserialize, serialize, variant
from lamina.core.docstrings import explained_by


class Recorded(layers.Layer):
    def __init__(self, units, scale=1.0, *, kind="a", **kwargs):
        super().__init__(**kwargs)
        self.size = units

    def call(self, x):
        return x


class Wider(Recorded):
    def __init__(self, extra, **kwargs):
        super().__init__(units=extra * 2, **kwargs)


class Older(layers.Layer):
    """Overrides get_config as Keras programs do."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def get_config(self):
        config = super().get_config()
        config.update({"units": self.units})
        return config


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (Recorded(3, 2.0, name="r"), {"units": 3, "scale": 2.0, "kind": "a"}),
        (Recorded(units=3, kind="b", trainable=False), {"units": 3, "scale": 1.0, "kind": "b", "trainable": False}),
        (Wider(4), {"extra": 4}),
        (Older(5, dtype="bfloat16"), {"units": 5}),
    ],
)
def test_arguments_are_recorded(layer, arguments):
    config = layer.get_config()
    assert arguments.items() <= config.items() and config["name"] == layer.name
    twin = type(layer).from_config(config)
    assert twin.get_config() == config and twin.dtype_policy == layer.dtype_policy


def test_own_classes_may_take_no_keywords():
    class Bare(layers.Layer):
        def __init__(self, units=3):
            super().__init__()
            self.units = units

    layer = Bare(7)
    layer.trainable = False
    layer.name = "mine"
    twin = Bare.from_config({**layer.get_config(), "name": "mine", "trainable": False})
    assert (twin.units, twin.name, twin.trainable) == (7, "mine", False)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, "text", [1, [2.5, "a"]], {"a": {"b": [None]}}, b"bytes", slice(1, None, 2), Ellipsis,
        (1, [2, (3,)]),
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values_survive(value):
    assert deserialize(serialize(value)) == value


def test_tuples_survive_in_a_layer_that_another_holds():
    with lamina.saving.custom_object_scope({"Older": Older}):
        twin = lamina.models.clone_model(lamina.Sequential([layers.TimeDistributed(Older((1, 2)))]))
    assert twin.layers[0].layer.units == (1, 2)


def test_arrays_survive():
    for array in (np.arange(3, dtype="int8"), np.ones((2, 2), "float32")):
        found = deserialize(serialize(array))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_arrays_in_a_configuration_are_plain():
    config = layers.Rescaling(np.array(0.5), np.array([1.0, 2.0])).get_config()
    assert json.loads(json.dumps(config)) == config and config["scale"] == 0.5
    np.testing.assert_array_equal(layers.Rescaling.from_config(config)(np.ones((1, 2))), [[1.5, 2.5]])


def test_functions_and_objects_survive():
    relu = deserialize(serialize(lamina.activations.relu))
    assert relu is lamina.activations.relu
    layer = layers.Dense(3, activation="tanh", kernel_regularizer=lamina.regularizers.L2(0.5), name="d")
    twin = deserialize(serialize(layer))
    assert twin.get_config() == layer.get_config() and twin.kernel_regularizer.l2 == 0.5


def test_an_object_is_built_again_for_its_shape():
    layer = layers.Dense(3)
    layer.build((None, 2))
    assert deserialize(serialize(layer)).kernel.shape == (2, 3)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: serialize(object()), "must have a get_config method to be saved"),
        (lambda: serialize(layers.Dense), "type must have a get_config method to be saved, got <class .*Dense"),
        (
            lambda: deserialize({"class_name": "Evil", "module": "os", "config": {}, "registered_name": None}),
            "deserialize: os.Evil must be a public name of lamina or a registered one",
        ),
        (
            lambda: deserialize({"class_name": "function", "module": "os", "config": "system"}),
            "deserialize: os.system must be a public name of lamina or a registered one",
        ),
        (
            lambda: deserialize({"class_name": "__lambda__", "config": {"value": "code"}}),
            "code from files is never run",
        ),
        (lambda: deserialize({"class_name": "__nothing__", "config": {}}), "class_name must be a known one"),
    ],
)
def test_what_cannot_be_saved_or_read(act, message):
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.parametrize("given", [3, 2.5, ["relu"]])
def test_an_identifier_must_be_a_name_or_an_object(given):
    with pytest.raises(ValueError, match="must be a name, an object, a function or a configuration, got"):
        layers.Dense(1, kernel_initializer=given)


# namespace, what its objects are called in an error, one of them
NAMESPACES = {
    "losses": ("loss", lamina.losses.Huber(0.5)),
    "metrics": ("metric", lamina.metrics.Precision()),
    "optimizers": ("optimizer", lamina.optimizers.SGD(0.5)),
    "optimizers.schedules": ("schedule", lamina.optimizers.schedules.CosineDecay(0.5, 10)),
    "initializers": ("initializer", lamina.initializers.HeNormal(3)),
    "regularizers": ("regularizer", lamina.regularizers.L2(0.5)),
    "constraints": ("constraint", lamina.constraints.MaxNorm(3)),
    "layers": ("layer", layers.Dense(3, name="d")),
}


def functions_of(path):
    namespace = lamina
    for part in path.split("."):
        namespace = getattr(namespace, part)
    return namespace.serialize, namespace.deserialize


@pytest.mark.parametrize("path", NAMESPACES)
def test_every_namespace_reads_what_it_writes(path):
    (_, thing), (write, read) = NAMESPACES[path], functions_of(path)
    assert read(write(thing)).get_config() == thing.get_config()


@pytest.mark.parametrize("path", NAMESPACES)
def test_every_namespace_reads_old_configurations(path):
    """Without a module, and with the class's name in another case."""
    (_, thing), (write, read) = NAMESPACES[path], functions_of(path)
    old = {"class_name": type(thing).__name__.lower(), "config": write(thing)["config"]}
    assert type(read(old)) is type(thing)


@pytest.mark.parametrize("path", NAMESPACES)
def test_every_namespace_refuses_things_of_another(path):
    kind, read = NAMESPACES[path][0], functions_of(path)[1]
    other = layers.Dropout(0.5) if path != "layers" else lamina.losses.Huber()
    with pytest.raises(ValueError, match=f"{kind}: must be a name, .* got that of {type(other).__name__}"):
        read(serialize(other))


def test_the_functions_of_a_namespace_take_their_argument_by_name():
    loss = lamina.losses.serialize(loss=lamina.losses.Huber())
    assert isinstance(lamina.losses.deserialize(name=loss, custom_objects=None), lamina.losses.Huber)
    assert lamina.losses.get.__module__ == "lamina.losses" and lamina.losses.get.__doc__


def test_a_representation_names_the_layer():
    assert repr(layers.Dense(3, name="d")) == "<Dense name=d, built=False>"


# Arguments that a constructor does not take


class Strict(layers.Layer):
    def __init__(self, units, *, kind="a"):
        super().__init__()
        self.units = units


class PassesOn(Strict):
    def __init__(self, extra, **kwargs):
        super().__init__(**kwargs)


class Careless(layers.Layer):
    def __init__(self):
        super().__init__()
        len(5)


class Own(lamina.optimizers.Adam):
    pass


def unknown(name, given, meant=None):
    hint = f"; did you mean {meant}?" if meant else "."
    return f"{name}: must not be given unknown arguments, got {given}{hint}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(2, activations="relu"), unknown("Dense", "activations", "activation")),
        (lambda: layers.Dense(2, nam=1, bias_init=2), unknown("Dense", "nam, bias_init", "name, bias_initializer")),
        (lambda: layers.Dense(2, zzz=1), unknown("Dense", "zzz")),
        (lambda: layers.Conv2D(2, 3, stride=1), unknown("Conv2D", "stride", "strides")),
        (lambda: layers.Conv2D(2), "Conv2D: must be given kernel_size."),
        (lambda: layers.GRU(2, unit_forget_bias=True), unknown("GRU", "unit_forget_bias")),
        (lambda: layers.Dense(), "Dense: must be given units."),
        (lambda: lamina.optimizers.Adam(lr=1), unknown("Adam", "lr", "learning_rate")),
        (lambda: Own(learningrate=1), unknown("Own", "learningrate", "learning_rate")),
        (lambda: lamina.losses.BinaryCrossentropy(logits=True), unknown("BinaryCrossentropy", "logits", "from_logits")),
        (lambda: lamina.metrics.Mean(nome="x"), unknown("Mean", "nome", "name")),
        (lambda: lamina.random.SeedGenerator(sead=1), unknown("SeedGenerator", "sead", "seed")),
        (lambda: Strict(unit=1), unknown("Strict", "unit", "units")),
        (lambda: Strict(1, 2, 3), "Strict: must be given at most 1 arguments without a name, got 3."),
        (lambda: Strict(1, units=2), "Strict: got multiple values for argument 'units'."),
        (lambda: PassesOn(1), "PassesOn: must be given units."),
        (lambda: PassesOn(1, units=1, kimd="b"), unknown("PassesOn", "kimd", "kind")),
        (lambda: Careless(), "object of type 'int' has no len()"),
        (lambda: lamina.Sequential([], nme="x"), unknown("Sequential", "nme", "name")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_a_wrong_argument_names_the_class_and_the_nearest_one(make, message, kind):
    if "len()" in message:
        kind = TypeError  # not about the arguments: it stays Python's
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lamina.callbacks.EarlyStopping(patiense=1), unknown("EarlyStopping", "patiense", "patience")),
        (lambda: lamina.callbacks.ModelCheckpoint(), "ModelCheckpoint: must be given filepath."),
        (lambda: lamina.callbacks.TerminateOnNaN(x=1), unknown("TerminateOnNaN", "x")),
        (lambda: lamina.layers.InputSpec(shap=(1,)), unknown("InputSpec", "shap", "shape")),
        (lambda: lamina.initializers.Zeros(seed=1), unknown("Zeros", "seed")),
        (lambda: lamina.constraints.NonNeg(1), "NonNeg: must be given at most 0 arguments without a name, got 1."),
        (lambda: layers.Conv2D(*[1] * 40), "Conv2D: must be given at most 16 arguments without a name, got 40."),
    ],
)  # fmt: skip
def test_what_has_no_configuration_names_the_class_too(make, message):
    with pytest.raises(TypeError) as error:
        make()
    assert str(error.value) == message


class Most(layers.Layer):
    """All that the others choose from.

    Args:
        first: the first,
            and more of it.
        second: the second.
    """

    def __init__(self, first=1, second=2, *, free=3, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second, self.free = first, second, free


@variant(arguments=("third", "free", "first"), defaults={"first": 5})
class Chosen(Most):
    """Some of them.

    Args:
        third: its own.
    """

    def __init__(self, third, **kwargs):
        super().__init__(**kwargs)
        self.third = third


def test_a_variant_has_the_arguments_that_it_names_in_their_order():
    layer = Chosen(7, 8)
    assert list(inspect.signature(Chosen).parameters) == ["third", "free", "first", "kwargs"]
    assert (layer.third, layer.free, layer.first, layer.second) == (7, 8, 5, 2)
    config = layer.get_config()
    assert [config.get(name) for name in ("third", "free", "first", "second")] == [7, 8, 5, None]
    assert Chosen.from_config(config).get_config() == config


def test_a_variant_explains_each_argument_in_the_words_of_the_nearest_class():
    assert (
        Chosen.__doc__
        == "Some of them.\n\nArgs:\n    third: its own.\n    first: the first,\n        and more of it.\n\n"
        "Raises: ValueError if an argument is outside its domain.\n"
    )


@explained_by(Most)
class Beside(layers.Layer):
    """Another one.

    Args:
        second: its own words.
    """

    def __init__(self, first=1, second=2, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = first, second


def test_a_class_may_have_arguments_that_another_one_explains():
    assert (
        Beside.__doc__ == "Another one.\n\nArgs:\n    first: the first,\n        and more of it.\n"
        "    second: its own words.\n\nRaises: ValueError if an argument is outside its domain.\n"
    )


def test_a_variant_neither_takes_nor_proposes_what_it_does_not_name():
    with pytest.raises(TypeError, match=r"unknown arguments, got second\.$"):
        Chosen(1, second=2)
    with pytest.raises(TypeError, match=r"unknown arguments, got secnd\.$"):
        Chosen(1, secnd=2)


def test_a_slice_of_arrays_is_plain_values():
    saved = json.loads(json.dumps(serialize(slice(None, np.array([1, 2]), 2))))
    again = deserialize(saved)
    assert (again.start, again.stop.tolist(), again.step) == (None, [1, 2], 2)


def test_a_registered_function_is_found_without_its_package():
    @lamina.saving.register_keras_serializable("a_package")
    def squared_and_more(x):
        return x**2

    saved = {"module": "builtins", "class_name": "function", "config": "squared_and_more"}
    assert deserialize(saved) is squared_and_more  # as Keras 3.6 wrote it
    lamina.saving.get_custom_objects()["another>squared_and_more"] = abs
    with pytest.raises(ValueError, match="must be a public name of lamina or a registered one"):
        deserialize(saved)
    for key in [key for key in lamina.saving.get_custom_objects() if key.endswith("squared_and_more")]:
        del lamina.saving.get_custom_objects()[key]


class Stages(layers.Layer):
    def __init__(self, first, *further, **kwargs):
        super().__init__(**kwargs)


class StagesFurther(Stages):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("layer", [Stages(3), Stages(first=3), StagesFurther(3), StagesFurther(first=3)])
def test_a_constructor_that_takes_more_is_configured_by_what_it_got(layer):
    assert layer.get_config()["first"] == 3
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_arguments_without_a_name_are_missed_aloud():
    with pytest.warns(UserWarning, match=r"Stages: arguments without a name .* got \(4, 5\); give Stages a get_config"):
        assert StagesFurther(3, 4, 5).get_config()["first"] == 3
