"""The examples in docstrings run, and each layer says what shapes it takes and gives."""

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import lamina
from lamina import callbacks, constraints, initializers, layers, losses, metrics, optimizers, regularizers

ROOT = Path(lamina.__path__[0])
MODULES = sorted(".".join(["lamina", *path.relative_to(ROOT).with_suffix("").parts]) for path in ROOT.rglob("*.py"))
# What is no layer of its own.
BASES = {"InputSpec", "Layer", "Wrapper"}
LAYERS = [name for name in layers.__all__ if inspect.isclass(getattr(layers, name)) and name not in BASES]
# What programs use most.
SHOWN = (
    "Accuracy", "Adam", "BatchNormalization", "Conv2D", "Dense", "Dropout", "EarlyStopping", "Embedding", "Input",
    "LSTM", "Model", "MultiHeadAttention", "Sequential", "SparseCategoricalCrossentropy", "Variable",
    "fit", "functional", "jit", "load_model", "matmul", "value_and_grad",
)  # fmt: skip
FAMILIES = (
    layers, losses, metrics, optimizers, optimizers.schedules, callbacks, initializers, regularizers, constraints,
)  # fmt: skip


def examples_of(module):
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs={"lamina": lamina, "layers": layers, "np": np})
    return [test for test in found if test.examples]


def test_the_examples_of_a_module_print_what_they_say():
    failed, names = [], set()
    for name in MODULES:
        for test in examples_of(importlib.import_module(name.removesuffix(".__init__"))):
            names.add(test.name.rpartition(".")[2])
            said: list[str] = []
            if doctest.DocTestRunner().run(test, out=said.append).failed:
                failed.append("".join(said))
    assert not failed, "\n".join(failed)
    assert names >= set(SHOWN)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_says_what_shapes_it_takes_and_gives(name):
    doc = inspect.getdoc(getattr(layers, name))
    assert "Shapes:" in doc
    assert len(doc.split("\n\n")) == len(set(doc.split("\n\n")))


@pytest.mark.parametrize("name", LAYERS)
def test_a_variant_explains_its_arguments(name):
    layer = getattr(layers, name)
    own = [p.name for p in inspect.signature(layer).parameters.values() if p.kind is not p.VAR_KEYWORD]
    explained = inspect.getdoc(layer)
    assert "Args:" in explained or not set(own) - {"name", "dtype"} or name in ("InputLayer", "Masking")


def raises(fn, cls, deeper=2):
    """Whether a constructor, or a function of the library that it calls, raises for what it is given."""
    fn = inspect.unwrap(fn)
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(fn)))):
        if isinstance(node, ast.Raise) and re.match("ValueError|TypeError", ast.unparse(node.exc or node)):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            own = getattr(cls, name[5:], None) if name.startswith("self.") else fn.__globals__.get(name)
            followed = deeper and inspect.isfunction(own) and own.__module__.startswith("lamina.") and "get" not in name
            if name.startswith("checks.") or (followed and raises(own, cls, deeper - 1)):
                return True
    return False


def checks_its_arguments(cls):
    """Whether the constructor, or one above it but those of all layers, does; those made of functions only pass on."""
    every_layers = layers.Layer.__mro__
    with_code = [c for c in cls.__mro__ if "__init__" in vars(c) and c.__module__.startswith("lamina.")]
    constructors = [vars(c)["__init__"] for c in with_code if c not in every_layers]
    written = [fn for fn in constructors if "constructor.<locals>" not in inspect.unwrap(fn).__code__.co_qualname]
    return any(raises(fn, cls) for fn in written)


def public_classes():
    found = {value for family in FAMILIES for name, value in vars(family).items() if name[0] != "_"}
    return sorted((c for c in found if inspect.isclass(c) and c.__module__.startswith("lamina.")), key=repr)


@pytest.mark.parametrize("cls", public_classes(), ids=lambda cls: f"{cls.__module__[7:]}.{cls.__name__}")
def test_a_class_that_checks_its_arguments_says_what_it_raises(cls):
    if checks_its_arguments(cls):
        assert "Raises:" in inspect.getdoc(cls)
