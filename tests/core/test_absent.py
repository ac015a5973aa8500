"""What errors say of public names that are not there."""

import pickle

import pytest

import lamina
from lamina.core.absent import not_there


@pytest.mark.parametrize("name", [name for name in not_there() if name.split(".")[1] not in ("Layer", "Model")])
def test_a_name_of_keras_says_whether_it_will_come(name):
    found, path = lamina, "lamina"
    with pytest.raises(AttributeError) as error:
        for part in name.split(".")[1:]:
            path = f"{path}.{part}"
            found = getattr(found, part)
    assert str(error.value).startswith(f"{path} ")
    assert (
        "will not come: " if not_there()[name] and path.count(".") == name.count(".") else "is not there yet"
    ) in str(error.value)


def absent(module, name, meant):
    return f"module {module!r} has no attribute {name!r}; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: lamina.layers.Dens, absent("lamina.layers", "Dens", "Dense")),
        (
            lambda: lamina.optimizers.schedules.CosineDecayRestart,
            absent("lamina.optimizers.schedules", "CosineDecayRestart", "CosineDecayRestarts"),
        ),
        (lambda: lamina.Sequental, absent("lamina", "Sequental", "Sequential")),
        (lambda: lamina.ops.matmull, absent("lamina.ops", "matmull", "matmul")),
        (lambda: lamina.layers.Qxzzy, "module 'lamina.layers' has no attribute 'Qxzzy'."),
        (
            lambda: lamina.layers.TFSMLayer,
            "lamina.layers.TFSMLayer will not come: "
            "it runs a SavedModel of TensorFlow, and JAX is the one engine here.",
        ),
    ],
)
def test_messages(ask, message):
    with pytest.raises(AttributeError) as error:
        ask()
    assert str(error.value) == message
    assert str(pickle.loads(pickle.dumps(error.value))) == message


def test_names_may_be_asked_for():
    assert not hasattr(lamina.layers, "Qxzzy") and getattr(lamina.layers, "Dens", 5) == 5
    assert hasattr(lamina.layers, "Dense") and lamina.datasets.__name__ == "lamina.datasets"
