"""Names, order and defaults of the arguments of all that is public, beside those of Keras."""

import inspect

import pytest

from tests.public import in_lamina, of_keras

PAIRS = {name: (in_lamina(name), theirs) for name, theirs in of_keras().items() if callable(theirs)}
PAIRS = {name: pair for name, pair in PAIRS.items() if callable(pair[0])}


def arguments(function):
    """(name, default, how it is passed) of each argument, but for `*args` and `**kwargs`."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.default, str(p.kind)) for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


@pytest.mark.parametrize("name", PAIRS)
def test_arguments(name):
    ours, theirs = PAIRS[name]
    assert arguments(ours) == arguments(theirs)
