"""Files hold lambdas as byte code, as Keras writes it; whoever opens them passes the functions by name."""

import json
import zipfile

import keras
import numpy as np
import pytest

import lamina
from lamina import layers, losses

X = np.arange(8, dtype="float32").reshape(4, 2)


def model(*between, **options):
    found = lamina.Sequential([lamina.Input((2,)), *between, layers.Dense(1, kernel_initializer="ones")])
    if options:
        found.compile("sgd", **options)
    return found


def saved(found, path):
    with pytest.warns(UserWarning, match="holds lambdas, which the file has as byte code that lamina never runs"):
        found.save(path)
    return path


def names_asked_for(path):
    with pytest.raises(lamina.saving.UnsafeFileError, match="pass custom_objects=") as caught:
        lamina.models.load_model(path, safe_mode=False)
    return str(caught.value).split("custom_objects={")[1].split("}")[0].replace(": function", "").split(", ")


def test_a_lambda_is_opened_by_the_name_of_its_layer(tmp_path):
    first = model(layers.Lambda(lambda x: 3 * x, name="triple"))
    path = saved(first, tmp_path / "m.keras")
    assert names_asked_for(path) == ["'triple'"]
    again = lamina.models.load_model(path, custom_objects={"triple": lambda x: 3 * x})
    np.testing.assert_array_equal(again.predict(X, verbose=0), first.predict(X, verbose=0))


def test_the_byte_code_is_never_run(tmp_path):
    path = saved(model(layers.Lambda(lambda x: 3 * x, name="triple")), tmp_path / "m.keras")
    again = lamina.models.load_model(path, custom_objects={"triple": lambda x: 0 * x}, safe_mode=False)
    assert not np.any(again.predict(X, verbose=0))


def test_several_lambdas_of_a_layer_have_the_names_of_its_arguments(tmp_path):
    path = saved(model(layers.Lambda(lambda x: x, mask=lambda x, mask: mask, name="both")), tmp_path / "m.keras")
    assert names_asked_for(path) == ["'both.function'", "'both.mask'"]


def test_what_a_model_is_compiled_with_has_the_names_of_the_arguments(tmp_path):
    first = model(loss=lambda y, p: losses.mean_squared_error(y, p), metrics=["mae", lambda y, p: (y - p) ** 2])
    first.fit(X, X[:, :1], verbose=0)
    path = saved(first, tmp_path / "m.keras")
    assert names_asked_for(path) == ["'loss'", "'metrics.1'"]
    assert not lamina.models.load_model(path, compile=False).compiled
    again = lamina.models.load_model(
        path, custom_objects={"loss": losses.mean_squared_error, "metrics.1": losses.mean_squared_error}
    )
    assert again.evaluate(X, X[:, :1], verbose=0) == first.evaluate(X, X[:, :1], verbose=0)


def test_a_lambda_as_an_activation(tmp_path):
    first = model(layers.Dense(2, activation=lambda x: x + 1, name="hidden"))
    again = lamina.models.load_model(saved(first, tmp_path / "m.keras"), custom_objects={"hidden": lambda x: x + 1})
    np.testing.assert_array_equal(again.predict(X, verbose=0), first.predict(X, verbose=0))


def test_a_configuration_in_the_program_still_has_the_function():
    layer = layers.Lambda(lambda x: 3 * x)
    for mode in ({}, {"safe_mode": False}, {"safe_mode": True}):
        np.testing.assert_array_equal(layers.Lambda.from_config(layer.get_config(), **mode)(X), 3 * X)
    first = model(layer)
    np.testing.assert_array_equal(lamina.models.clone_model(first)(X), first(X))


@pytest.mark.filterwarnings("ignore:save_model. .m. holds lambdas:UserWarning")
def test_the_file_is_what_keras_writes(tmp_path):
    function = lambda x, factor=3: factor * x  # noqa: E731 -- it has to be one
    configs = []
    for library in (lamina, keras):
        layer = library.layers.Lambda(function, name="triple")
        library.Sequential([library.Input((2,)), layer], name="m").save(tmp_path / "m.keras")
        with zipfile.ZipFile(tmp_path / "m.keras") as archive:
            configs.append(json.loads(archive.read("config.json"))["config"]["layers"][1]["config"])
    assert configs[0] == configs[1]
    names = {"triple": function}
    np.testing.assert_array_equal(lamina.models.load_model(tmp_path / "m.keras", custom_objects=names)(X), 3 * X)


def test_keras_runs_it(tmp_path):
    path = saved(lamina.Sequential([lamina.Input((2,)), layers.Lambda(lambda x: 3 * x)]), tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(path, safe_mode=False)(X), 3 * X)


def test_a_closure_over_what_no_file_holds_is_left_out(tmp_path):
    lock = object()
    path = saved(model(layers.Lambda(lambda x: x * (lock is not None), name="held")), tmp_path / "m.keras")
    assert names_asked_for(path) == ["'held'"]
