"""The examples in docstrings run, and each layer says what shapes it takes and gives."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import lamina
from lamina import layers

MODULES = sorted(m.name for m in pkgutil.walk_packages(lamina.__path__, "lamina."))
# What is no layer of its own.
BASES = {"InputSpec", "Layer", "Wrapper"}
LAYERS = [name for name in layers.__all__ if inspect.isclass(getattr(layers, name)) and name not in BASES]
SHOWN = ("BatchNormalization", "Conv2D", "Dense", "Dropout", "Embedding", "Input", "LSTM", "MultiHeadAttention")


def examples_of(module):
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs={"lamina": lamina, "layers": layers, "np": np})
    return [test for test in found if test.examples]


def test_the_examples_of_a_module_print_what_they_say():
    failed, names = [], set()
    for name in MODULES:
        for test in examples_of(importlib.import_module(name)):
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
