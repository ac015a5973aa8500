"""Opening a file computes nothing, and takes time and memory in proportion to its size."""

import copy
import json
import os
import random
import zipfile

import h5py
import numpy as np
import pytest

import lamina as keras
from lamina import layers, ops
from tests.saving.damage import REFUSALS, bounded, edit_config, edit_weights, parts, rewrite

CorruptFileError, UnsafeFileError = keras.saving.CorruptFileError, keras.saving.UnsafeFileError
INPUT = {
    "class_name": "__keras_tensor__",
    "config": {"shape": [None, 4], "dtype": "float32", "keras_history": ["in", 0, 0]},
}
HUGE = 10**9


@pytest.fixture
def path(tmp_path):
    inputs = keras.Input((4,), name="in")
    model = keras.Model(inputs, layers.Dense(2, name="dense")(inputs))
    model.compile("sgd", "mse")
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def plant_call(path, module, name, args, **settings):
    """Make a call of an op the model's output."""

    def change(config):
        node = {"args": args, "kwargs": {}}
        form = {"module": f"keras.src.ops.{module}", "class_name": name, "registered_name": name, "name": "op"}
        config["config"]["layers"].append({**form, "config": {"name": "op", **settings}, "inbound_nodes": [node]})
        config["config"]["output_layers"] = [["op", 0, 0]]

    edit_config(path, change)


def function(name):
    return {"module": "keras.src.ops.numpy", "class_name": "function", "config": name, "registered_name": name}


# Calls that take constants only: (module, class, arguments, settings).
CONSTANT = {
    "WhileLoop": ("core", "WhileLoop", [function("isfinite"), function("negative"), 1.0], {}),
    "ForiLoop": ("core", "ForiLoop", [0, 2**31, function("add"), 1.0], {}),
    "Zeros": ("numpy", "Zeros", [[HUGE]], {}),
    "Arange": ("numpy", "Arange", [HUGE], {}),
    "Eye": ("numpy", "Eye", [HUGE], {}),
    "OneHot": ("nn", "OneHot", [[1, 2]], {"num_classes": HUGE}),
    "Pad": ("numpy", "Pad", [[1.0]], {"pad_width": HUGE}),
    "Repeat": ("numpy", "Repeat", [[1.0]], {"repeats": HUGE}),
    "Scatter": ("core", "Scatter", [[[1]], [1.0], [HUGE]], {}),
    "Add": ("numpy", "Add", [1.0, 2.0], {}),
    "Cond": ("core", "Cond", [True, function("isfinite"), function("negative"), 1.0], {}),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_calls_on_constants_are_not_computed(path, name):
    module, cls, args, settings = CONSTANT[name]
    plant_call(path, module, cls, args, **settings)
    with bounded(), pytest.raises(UnsafeFileError, match=r'm\.keras", config\.json: .* must take an output'):
        keras.models.load_model(path)


def test_a_layer_on_constants_is_not_called(path):
    def change(config):
        config["config"]["layers"][1]["inbound_nodes"] = [{"args": [[[1.0, 2.0, 3.0, 4.0]]], "kwargs": {}}]

    edit_config(path, change)
    with pytest.raises(UnsafeFileError, match='one of "dense" does not'):
        keras.models.load_model(path)


# Calls that take a tensor, and settings that ask for much: they are traced, with nothing made, or refused.
SYMBOLIC = {
    "Repeat": ("numpy", "Repeat", [INPUT], {"repeats": HUGE}, False),
    "OneHot": ("nn", "OneHot", [INPUT], {"num_classes": HUGE}, False),
    "Pad": ("numpy", "Pad", [INPUT], {"pad_width": [[0, 0], [HUGE, HUGE]]}, False),
    "ForiLoop": ("core", "ForiLoop", [0, 2**31 - 1, function("add"), INPUT], {}, False),
    "Diff": ("numpy", "Diff", [INPUT], {"n": HUGE}, True),
    "ArraySplit": ("numpy", "ArraySplit", [INPUT], {"indices_or_sections": HUGE}, True),
    "Unstack": ("core", "Unstack", [INPUT], {"num": HUGE}, True),
}


@pytest.mark.parametrize("name", SYMBOLIC)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_calls_on_tensors_make_nothing(path, name):
    module, cls, args, settings, refused = SYMBOLIC[name]
    plant_call(path, module, cls, args, **settings)
    with bounded():
        if refused:
            with pytest.raises(UnsafeFileError, match="more than the arrays in the file account for"):
                keras.models.load_model(path)
        else:
            try:
                keras.models.load_model(path)
            except REFUSALS as error:
                assert "m.keras" in str(error)


@pytest.mark.parametrize(
    "metric",
    [
        ("AUC", {"num_thresholds": 10**7}),
        ("PrecisionAtRecall", {"recall": 0.5, "num_thresholds": 10**9}),
        ("SpecificityAtSensitivity", {"sensitivity": 0.5, "num_thresholds": 10**9}),
        ("MeanIoU", {"num_classes": 2**63}),
        ("MeanIoU", {"num_classes": 10**6}),
        ("IoU", {"num_classes": 10**6, "target_class_ids": [0]}),
    ],
    ids=lambda metric: f"{metric[0]}-{next(iter(metric[1].values()))}",
)
def test_metrics_are_within_the_budget(path, metric):
    name, settings = metric
    form = {"module": "keras.metrics", "class_name": name, "config": settings, "registered_name": None}
    edit_config(path, lambda config: config["compile_config"].update(metrics=[form]))
    with bounded(), pytest.raises(UnsafeFileError, match="account for"):
        keras.models.load_model(path)


@pytest.mark.parametrize("dtype", ["S1000000000", "U1000000000", "V1000000000", "O", "datetime64[s]", 7])
def test_constants_are_within_the_budget(path, dtype):
    value = {"class_name": "__numpy__", "config": {"value": [1, 2], "dtype": dtype}}
    plant_call(path, "numpy", "Add", [INPUT, value])
    with bounded(), pytest.raises(REFUSALS, match=r"m\.keras"):
        keras.models.load_model(path)


def nested(levels, batch=None):
    """A model that is called twice in a model that is called twice in ..."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(4)(inputs))
    for _ in range(levels):
        inputs = keras.Input((4,))
        model = keras.Model(inputs, model(model(inputs)))
    return model


def test_models_in_models_are_inferred_once(tmp_path):
    nested(24).save(tmp_path / "m.keras")
    with bounded():
        assert keras.models.load_model(tmp_path / "m.keras").output_shape == (None, 4)


def test_models_in_models_that_differ_in_shape_are_within_the_budget(tmp_path):
    """The innermost input has another shape: what fits the one does not tell of the other."""
    path = tmp_path / "m.keras"
    nested(24).save(path)

    def change(config):
        text = json.dumps(config["config"]["layers"][0]["config"]).replace("null, 4", "8, 4")
        config["config"]["layers"][0]["config"] = json.loads(text)

    edit_config(path, change)
    with pytest.raises(UnsafeFileError, match="steps of work"):
        keras.models.load_model(path)


def test_a_step_for_each_time_is_within_the_budget(tmp_path):
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.TimeDistributed(layers.BatchNormalization())(inputs, training=True))
    model.save(tmp_path / "m.keras")

    def change(config):
        text = json.dumps(config).replace("[null, 3, 4]", "[null, 10000000, 4]")
        config.update(json.loads(text))

    edit_config(tmp_path / "m.keras", change)
    with bounded(), pytest.raises(UnsafeFileError, match="steps of work"):
        keras.models.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("setting", [{"fft_length": 2**30, "sequence_length": 2**30}, {"num_mel_bins": 2**40}])
def test_spectrograms_are_within_the_budget(tmp_path, setting):
    keras.Sequential([keras.Input((300,)), layers.MelSpectrogram(32, 16)]).save(tmp_path / "m.keras")
    edit_config(tmp_path / "m.keras", lambda config: config["config"]["layers"][1]["config"].update(setting))
    with bounded(), pytest.raises(UnsafeFileError, match="account for"):
        keras.models.load_model(tmp_path / "m.keras")


def test_a_word_many_times_takes_no_longer_than_many_words(tmp_path):
    words = layers.StringLookup(vocabulary=["a", "b"])
    keras.Sequential([keras.Input((1,), dtype="string"), words]).save(tmp_path / "m.keras")

    def change(config):
        config["config"]["layers"][1]["config"]["vocabulary"] = ["a"] * 100_000

    edit_config(tmp_path / "m.keras", change)
    with bounded(), pytest.raises(CorruptFileError, match=r"must hold each token once, got \['a'\] again"):
        keras.models.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("text", ["[],", '{"":0},', "0,", '"",'])
def test_json_is_within_the_budget(path, text):
    """20 MiB of it, in a file of a few KB."""
    count = 20 * 2**20 // len(text)
    config = f'{{"class_name": "Functional", "config": [{text * count}0]}}'
    rewrite(path, parts(path) | {"config.json": config}, zipfile.ZIP_DEFLATED)
    with bounded(), pytest.raises(REFUSALS, match=r"config\.json"):
        keras.models.load_model(path)


def test_many_chunks_take_time_in_proportion(path):
    def change(file):
        del file["layers/dense/vars/1"]
        file.create_dataset("layers/dense/vars/1", data=np.zeros(20_000, "f4"), chunks=(1,), compression="gzip")

    edit_weights(path, change)
    with bounded(), pytest.raises(REFUSALS, match=r"m\.keras"):
        keras.models.load_model(path)


def test_sizes_that_overflow(path):
    def change(file):
        del file["layers/dense/vars/1"]
        file.create_dataset("layers/dense/vars/1", shape=(2**33, 2**31), dtype="f4", chunks=(1, 1))

    edit_weights(path, change)
    with pytest.raises(UnsafeFileError, match="cannot hold"):
        keras.models.load_model(path)


def test_a_library_function_is_no_layer(path):
    """It would be given a name, and be called."""

    def change(config):
        config["config"]["layers"][1] = {
            "module": "keras.activations", "class_name": "function", "config": "relu", "registered_name": "relu",
            "name": "dense", "inbound_nodes": config["config"]["layers"][1]["inbound_nodes"],
        }  # fmt: skip

    edit_config(path, change)
    with pytest.raises(keras.saving.CorruptFileError, match="must be a layer or an op"):
        keras.models.load_model(path)
    assert getattr(keras.activations.relu, "name", None) is None


# Whatever stands in a configuration -------------------------------------------------------------------------------

ODD = [
    None, -1, 2**31, 2**63, 10**30, 1e308, float("nan"), True, "", "relu", "../x", "\x1b[31m[/]", [], [1], [None], {},
    [[1, 2], [3]], {"class_name": "__numpy__", "config": {"value": [1], "dtype": "S1000000000"}},
    {"class_name": "__tuple__", "config": 7}, {"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}},
    {"class_name": "function", "config": "relu", "module": "keras.activations"}, {"class_name": 7, "config": 3},
]  # fmt: skip


def places(value, at=()):
    """The paths to all that stands in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


def mutated(rng, value):
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2])):
        *way, last = rng.choice(list(places(value)))
        holder = value
        for key in way:
            holder = holder[key]
        if rng.random() < 0.15:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD))
    return value


def stack():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_regularizer="l2"), layers.BatchNormalization()])
    model.compile("adam", "mse", metrics=["mae", keras.metrics.AUC(num_thresholds=7)])
    return model


def graph():
    a, b = keras.Input((4,)), keras.Input((4,))
    dense, inner = layers.Dense(4), keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    h = ops.reshape(layers.Concatenate()([dense(a), inner(dense(b))]), (-1, 2, 4))
    return keras.Model([a, b], {"x": layers.GRU(3)(h * 2.0), "y": ops.where(h > 0, h, np.ones(4, "float32"))})


@pytest.mark.parametrize("make", [stack, graph])
@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.filterwarnings("ignore")
def test_odd_values_load_or_are_refused(tmp_path, make, name):
    path, rng = tmp_path / "m.keras", random.Random(7)
    make().save(path)
    members = parts(path)
    for _ in range(25):
        value = mutated(rng, json.loads(members[name]))
        rewrite(path, members | {name: json.dumps(value)})
        for read in (keras.models.load_model, lambda p: str(keras.saving.inspect(p)))[name == "metadata.json" :]:
            try:
                read(path)
            except REFUSALS as error:
                assert "m.keras" in str(error)


# Other kinds of files ---------------------------------------------------------------------------------------------


def test_attributes_that_are_no_text(tmp_path):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("vars/0", data=np.zeros(4, "V2"))
        dataset.attrs["dtype"] = np.zeros(2000)
    with pytest.raises(REFUSALS, match=r"m\.weights\.h5"):
        keras.saving.inspect(path)


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.weights.json", "m.h5"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    for read in (keras.models.load_model, model.load_weights, keras.saving.inspect):
        with pytest.raises(ValueError, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "metadata.json", "assets/words.txt", "assets"])
def test_a_folder_does_not_lead_elsewhere(tmp_path, path, name):
    """Its parts may be no links: who sends a folder does not know what else lies on the disk, and may not ask."""
    keras.models.load_model(path).save(tmp_path / "m", zipped=False)
    (tmp_path / "m" / name).parent.mkdir(exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    if (tmp_path / "m" / name).exists():
        (tmp_path / "m" / name).replace(elsewhere)
    else:
        elsewhere.mkdir()
    (tmp_path / "m" / name).symlink_to(elsewhere)
    with pytest.raises(UnsafeFileError, match="not a link"):
        keras.models.load_model(tmp_path / "m")


@pytest.mark.parametrize(
    "names",
    [["assets/" + "a" * 300], ["assets/a", "assets/a/b"], ["assets/\x1b[31m"], [f"assets/{i}" for i in range(600)]],
    ids=["long", "in another", "control characters", "many"],
)
def test_names_that_no_disk_has(path, names):
    rewrite(path, parts(path) | dict.fromkeys(names, b"x"))
    with pytest.raises(REFUSALS, match=r"m\.keras") as caught:
        keras.models.load_model(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("order", [("1", "x"), ("0", "x"), ("x", "y")])
def test_variables_of_other_names(path, order):
    def change(file):
        group = file["layers/dense/vars"]
        for name, other in zip(("1", "0"), reversed(order)):
            group.move(name, f"{other}_")
        for other in order:
            group.move(f"{other}_", other)

    edit_weights(path, change)
    with pytest.raises(keras.saving.CorruptFileError, match="must be named 0, 1"):
        keras.models.load_model(path)


@pytest.mark.parametrize("name", ["[/]", "[red]", "\x1b[31mred\x1b[0m", "a\nSaved: never", "\u202eabc"])
def test_names_are_printed_as_text(path, name):
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(name=name))
    edit_config(path, lambda config: config["config"]["layers"][1].update(name=name))
    text = str(keras.saving.inspect(path))
    assert all(line.isprintable() for line in text.splitlines())
    assert not any(line.startswith("Saved: never") for line in text.splitlines())
    if name.isprintable():
        assert name in text


def test_errors_are_printed_as_text(path):
    edit_config(path, lambda config: config.update(class_name="\x1b[31m" + "x" * 10**5))
    with pytest.raises(UnsafeFileError, match=r"custom_objects|\[\.\.\.\]") as caught:
        keras.models.load_model(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    "values",
    [[1.0], [[1.0], [2.0, 3.0]], ["x"], {"a": 1}, 10**30, None],
    ids=["flat", "ragged", "text", "dict", "big", "none"],
)
def test_constants_of_odd_values(path, values):
    value = {"class_name": "__tensor__", "config": {"value": values, "dtype": "int32"}}
    plant_call(path, "numpy", "Add", [INPUT, value])
    try:
        assert keras.models.load_model(path).output_shape == (None, 4)
    except REFUSALS as error:
        assert "m.keras" in str(error)
