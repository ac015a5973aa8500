"""Names, order and defaults of the arguments of all that is public, beside those of Keras."""

import functools
import inspect
from pathlib import Path

import keras
import pytest

import lamina

# Arguments that differ on purpose, and why.
OTHERWISE = {
    f"keras.Model.{kind}_step": "the own form reads and writes variables; overrides may take Keras's (state, data)"
    for kind in ("train", "test", "predict")
}

# Arguments that Keras does not have.
OWN = {f"keras.utils.{kind}_dataset_from_directory": ["on_error"] for kind in ("audio", "image", "text")}
OWN["keras.Model.fit"] = ["dry_run", "locate_nan"]
OWN["keras.Model.quantize"] = ["type_check"]
OWN["keras.distribution.DataParallel"] = ["shard_optimizer", "least"]

NAMES = (Path(__file__).parent / "api" / "keras-3.15.1.txt").read_text().split()


def named(library, name):
    """What a dotted name means in a library, or `None`."""
    return functools.reduce(lambda value, part: getattr(value, part, None), name.split(".")[1:], library)


PAIRS = {name: (named(lamina, name), named(keras, name)) for name in NAMES if name not in OTHERWISE}
PAIRS = {name: pair for name, pair in PAIRS.items() if all(map(callable, pair))}


def parameters(function):
    """The arguments by name, without `*args` and `**kwargs`, and whether there is `*args`."""
    found = list(inspect.signature(function).parameters.values())
    if isinstance(function, type) and not any(p.kind is p.POSITIONAL_OR_KEYWORD for p in found):
        found = list(inspect.signature(function.__init__).parameters.values())[1:]
    named = {p.name: p for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return named, any(p.kind is p.VAR_POSITIONAL for p in found)


@pytest.mark.parametrize("name", PAIRS)
def test_arguments_have_the_names_order_and_defaults_of_keras(name):
    (ours, _), (theirs, takes_any) = map(parameters, PAIRS[name])
    if takes_any:  # what stands before the keywords has no names there
        assert theirs.keys() <= ours.keys()
    else:  # what is ours alone stands behind, and has to be named
        own = list(ours)[len(theirs) :]
        assert list(ours) == [*theirs, *own]
        assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in own)
        assert own == OWN.get(name, [])
    for argument, p in theirs.items():
        # What is needed there may have a default here.
        assert p.default is p.empty or ours[argument].default == p.default
        assert p.kind is p.KEYWORD_ONLY or ours[argument].kind is not p.KEYWORD_ONLY
