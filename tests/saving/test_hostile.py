"""Files that are damaged, or made to do harm: a clear error, nothing run, nothing allocated, nothing changed."""

import os
import subprocess
import sys
import textwrap
import zipfile
import zlib

import h5py
import numpy as np
import pytest

import lamina as keras
from lamina import layers
from lamina.core.variable import Variable
from lamina.saving.hdf5 import Stored
from tests.saving.damage import edit_config, edit_weights, parts, rewrite

X = np.ones((2, 4), "float32")


def make():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)], name="stack")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.keras"
    make().save(path)
    return path


def refuses(path, reason):
    """Neither `load_model` nor `load_weights` nor `inspect` takes the file; a model in memory stays as it is."""
    model = make()
    before = [w.numpy() for w in model.weights]
    with pytest.raises(ValueError, match=reason) as caught:
        keras.models.load_model(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match=reason):
        model.load_weights(path)
    with pytest.raises(ValueError, match=reason):
        keras.saving.inspect(path)
    for was, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


# Code ------------------------------------------------------------------------------------------------------------


def plant(path, form):
    """Put a serialized object where the first Dense has its activation."""
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(activation=form))


@pytest.mark.parametrize("safe_mode", [True, False])
def test_lambda_is_never_run(path, safe_mode):
    plant(path, {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}})
    with pytest.raises(ValueError, match="code from files is never run, whatever safe_mode says"):
        keras.models.load_model(path, safe_mode=safe_mode)
    assert [name[:17] for name in keras.saving.inspect(path).unknown] == ["the lambda 'dense"]


@pytest.mark.parametrize(
    "function",
    [
        ["4wEAAAAAAAAA", None, None],
        "eval",
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {"module": "keras.models", "class_name": "function", "config": "save_model", "registered_name": "save_model"},
    ],
)
def test_lambda_layer_calls_nothing_but_what_computes(path, function):
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": function}}
    edit_config(path, lambda config: config["config"]["layers"].insert(1, layer))
    with pytest.raises(ValueError, match="must be"):
        keras.models.load_model(path)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "open"),
        ("subprocess", "Popen"),
        ("keras.utils", "get_file"),
        ("keras.models", "load_model"),
        ("keras.saving", "load_model"),
        ("keras.config", "set_floatx"),
        ("keras.ops", "custom_gradient"),
        ("lamina.core.files", "shutil"),
        ("keras.src.ops.numpy", "jnp"),
        ("keras.activations", "deserialize"),
        ("numpy", "load"),
        ("", "__import__"),
    ],
)
@pytest.mark.parametrize("function", [True, False])
def test_only_what_computes_can_be_named(path, module, name, function):
    named = {"class_name": "function", "config": name} if function else {"class_name": name, "config": {}}
    plant(path, {"module": module, **named, "registered_name": name})
    with pytest.raises(ValueError, match=r"must be (a public name|public names) of lamina|must be a known one"):
        keras.models.load_model(path)


@pytest.mark.parametrize("name", [7, None, ["Dense"], {"a": 1}])
def test_names_are_strings(path, name):
    plant(path, {"module": "keras.layers", "class_name": "function", "config": name})
    with pytest.raises(ValueError, match="must be strings"):
        keras.models.load_model(path)


# Configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10**12, 10**30])
def test_size_that_the_arrays_do_not_account_for(path, size):
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(units=size))
    with pytest.raises(ValueError, match=rf"shape \(4, {size}\) takes .* more than the arrays in the file account for"):
        keras.models.load_model(path)


def test_many_variables_that_the_arrays_do_not_account_for(path):
    def change(config):
        dense = config["config"]["layers"][1]
        dense["config"].update(units=4_000_000, use_bias=False)
        flat = {**dense, "config": {**dense["config"], "units": 1}}
        config["config"]["layers"][1:] = [
            {**layer, "config": {**layer["config"], "name": f"dense{i}"}, "build_config": None}
            for i, layer in enumerate((dense, flat) * 9)
        ]

    edit_config(path, change)
    with pytest.raises(ValueError, match="more than the arrays in the file account for"):
        keras.models.load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.clear(),
        lambda config: config.pop("config"),
        lambda config: config.update(class_name="Dense", module="keras.layers"),
        lambda config: config["config"].pop("layers"),
        lambda config: config["config"]["layers"][1]["config"].pop("units"),
        lambda config: config["config"]["layers"][1]["config"].update(units="many"),
        lambda config: config["config"]["layers"][1].update(config=[1, 2]),
        lambda config: config["config"]["layers"][1].update(config=None),
        lambda config: config["config"].update(layers=7),
        lambda config: config.update(compile_config={"optimizer": 7}),
        lambda config: config["config"]["layers"][0]["config"].update(batch_shape=[None, "x"]),
    ],
)
def test_config_that_describes_nothing(path, change):
    edit_config(path, change)
    with pytest.raises(ValueError, match=r"m\.keras"):
        keras.models.load_model(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"a": ' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"\xff\xfe"]
)
def test_config_that_is_not_json(path, text):
    rewrite(path, parts(path) | {"config.json": text})
    with pytest.raises(ValueError, match=r"config\.json: must be"):
        keras.models.load_model(path)


def test_config_of_too_many_levels(path):
    def change(config):
        for _ in range(300):
            inner = {key: value for key, value in config.items()}
            config.update(config={"layers": [inner], "name": "deep"})

    edit_config(path, change)
    with pytest.raises(ValueError, match=r"RecursionError|levels deep"):
        keras.models.load_model(path)


# Archives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "assets/../../evil", "assets\\evil", "C:evil", "evil.pkl", "assets//evil", "assets"],
)
def test_unexpected_member(path, name):
    rewrite(path, parts(path) | {name: b"x"})
    refuses(path, "it may hold")
    assert not list(path.parent.rglob("*evil*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_that_stands_twice(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    refuses(path, "stands in it twice")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_member_that_misses(path, name):
    members = parts(path)
    del members[name]
    rewrite(path, members)
    with pytest.raises(ValueError, match=f"must hold {name}"):
        keras.models.load_model(path)


def test_zip_bomb(path):
    rewrite(path, parts(path) | {"model.weights.h5": bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    refuses(path, "may unpack to")


def test_archive_that_was_packed_anew(path):
    model = keras.models.load_model(path)
    rewrite(path, parts(path), zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(keras.models.load_model(path)(X), model(X))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refuses(path, "must be a whole .keras file")


def test_flipped_bit_is_found(path):
    content = bytearray(path.read_bytes())
    place = content.index(parts(path)["model.weights.h5"][3000:3040])
    content[place] ^= 1
    path.write_bytes(content)
    refuses(path, "Bad CRC-32")


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_is_an_error_or_does_not_matter(path, seed):
    """Bytes changed anywhere in the weights, checksums and all: a `ValueError` or a model, no crash."""
    rng = np.random.default_rng(seed)
    members = parts(path)
    content = bytearray(members["model.weights.h5"])
    for place in rng.integers(0, len(content), 20):
        content[place] = rng.integers(256)
    rewrite(path, members | {"model.weights.h5": bytes(content)})
    try:
        model = keras.models.load_model(path)
    except ValueError as error:
        assert "m.keras" in str(error)
    else:
        assert model(X).shape == (2, 1)


# HDF5 ------------------------------------------------------------------------------------------------------------

PLACE = "layers/dense/vars/1"


def replaced(make_item):
    def change(file):
        del file[PLACE]
        make_item(file)

    return change


def far_shape(file):
    file.create_dataset(PLACE, shape=(10**12,), dtype="f4")


def far_chunks(file):
    file.create_dataset(PLACE, shape=(10**12,), dtype="f4", chunks=(1000,), compression="gzip")


def bomb(file):
    file.create_dataset(PLACE, data=np.zeros(200 * 2**20 // 4, "f4"), compression="gzip", chunks=(2**20,))


def fat_chunk(file):
    """A chunk that unpacks to more than its size."""
    dataset = file.create_dataset(PLACE, shape=(3,), dtype="f4", chunks=(3,), compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(10**6)))


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3,))
    file.create_virtual_dataset(PLACE, layout)


def circle(file):
    file[f"{PLACE}/again"] = file["layers"]


def set_item(value):
    return lambda file: file.__setitem__(PLACE, value)


HARM = {
    "external link": (set_item(h5py.ExternalLink("other.h5", "/x")), "ExternalLink"),
    "soft link": (set_item(h5py.SoftLink("/layers/dense/vars/0")), "SoftLink"),
    "soft link to nothing": (set_item(h5py.SoftLink("/nothing")), "SoftLink"),
    "hard link": (lambda file: file.__setitem__(PLACE, file["layers/dense/vars/0"]), "second name"),
    "circle": (circle, "second name"),
    "named type": (set_item(np.dtype("f4")), "array or a group, got Datatype"),
    "external data": (lambda f: f.create_dataset(PLACE, (3,), "f4", external="/etc/passwd"), "in the file itself"),
    "virtual": (virtual, "in the file itself"),
    "strings": (lambda f: f.create_dataset(PLACE, data=["a", "b", "c"]), "array of numbers"),
    "records": (set_item(np.zeros(3, [("a", "f4")])), "array of numbers"),
    "bytes": (set_item(np.zeros(3, "V4")), "array of numbers"),
    "empty": (set_item(h5py.Empty("f4")), "array of numbers"),
    "shape of nothing": (far_shape, "cannot hold"),
    "chunks of nothing": (far_chunks, "cannot hold"),
    "packed zeros": (bomb, "may unpack to"),
    "fat chunk": (fat_chunk, "does not unpack to its size"),
    "other filter": (lambda f: f.create_dataset(PLACE, data=np.ones(3), compression="lzf"), "packed by gzip"),
}


@pytest.mark.parametrize("name", HARM)
def test_harmful_item(path, name):
    make_item, reason = HARM[name]
    edit_weights(path, replaced(make_item))
    refuses(path, reason)


def test_gzip_is_read(path):
    def pack(file):
        for name in ("0", "1"):
            value = file[f"layers/dense/vars/{name}"][()]
            del file[f"layers/dense/vars/{name}"]
            file.create_dataset(f"layers/dense/vars/{name}", data=value, compression="gzip", shuffle=True)

    model = keras.models.load_model(path)
    edit_weights(path, pack)
    np.testing.assert_array_equal(keras.models.load_model(path)(X), model(X))


def test_too_many_levels(path):
    edit_weights(path, lambda file: file.create_group("/".join("a" * 100)))
    refuses(path, "at most 64 deep")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x89HDF\r\n\x1a\n", bytes(10_000)])
def test_weights_that_are_no_hdf5(path, content):
    rewrite(path, parts(path) | {"model.weights.h5": content})
    refuses(path, "must be a whole HDF5 file")


def test_lie_about_a_shape_reads_nothing(path, monkeypatch):
    """The shape is compared with the variable's before the array is read."""

    def change(file):
        del file[PLACE]
        file[PLACE] = np.zeros(1000, "f4")

    edit_weights(path, change)
    read = []
    real = Stored.read
    monkeypatch.setattr(Stored, "read", lambda self: read.append(self.path) or real(self))
    with pytest.raises(ValueError, match=r"must have shape \(3,\)"):
        keras.models.load_model(path)
    assert read
    assert PLACE not in read


def test_opening_harm_takes_little_memory(path):
    """In a process that may not have more than it needs for itself."""
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(units=2**31))
    code = f"""
        import resource
        import lamina as keras
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            keras.models.load_model({os.fspath(path)!r})
        except ValueError as error:
            assert "account for" in str(error), error
        else:
            raise AssertionError
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 64 * 1024
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_failed_loading_leaves_no_scope_behind(path):
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(units=10**12))
    with pytest.raises(ValueError, match="account for"):
        keras.models.load_model(path)
    assert Variable("ones", (3,)).numpy().tolist() == [1, 1, 1]
