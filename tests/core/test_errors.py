"""Errors: the note of where they came up, and the frames that they show."""

import traceback
from pathlib import Path

import jax
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.core import errors

X = np.ones((2, 3), "float32")
OURS = str(Path(lamina.__file__).parent)
JAX = str(Path(jax.__file__).parent)


@pytest.fixture
def unfiltered():
    lamina.config.disable_traceback_filtering()
    yield
    lamina.config.enable_traceback_filtering()


class Inner(layers.Layer):
    def call(self, x):
        raise KeyError("on purpose")


class Builds(layers.Layer):
    def build(self, input_shape):
        raise KeyError("on purpose")

    def call(self, x):
        return x


class Block(layers.Layer):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def caught(act, kind=KeyError):
    with pytest.raises(kind) as caught:
        act()
    return caught.value


def frames(error, *roots):
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return [file for file in files if file.startswith(roots)] if roots else files


@pytest.mark.parametrize(("inner", "phase"), [(Inner, "call"), (Builds, "build")])
@pytest.mark.parametrize("way", ["called", "called on a symbol", "in a trace"])
def test_an_error_notes_the_innermost_layer_once(inner, phase, way):
    layer = Block(Block(inner(name="inner"), name="block"), name="outer")
    act = {
        "called": lambda: layer(X),
        "called on a symbol": lambda: layer(lamina.Input((3,))),
        "in a trace": lambda: jax.jit(layer)(X),
    }[way]
    notes = [note for note in caught(act).__notes__ if isinstance(note, errors.Place)]
    assert notes == [f'in layer "outer/block/inner" ({inner.__name__}), {phase}']


def test_an_error_that_says_where_gets_no_note():
    error = caught(lambda: Block(layers.Dense(2, name="d"), name="b")(X[0]), ValueError)
    assert str(error).startswith('Dense "b/d": ') and not hasattr(error, "__notes__")


def test_a_note_is_added_once():
    error = KeyError("x")
    errors.note(error, 'in layer "a"')
    errors.note(error, 'in layer "b"')
    error.add_note("of the program")
    assert error.__notes__ == ['in layer "a"', "of the program"]


def deep():
    layer = Inner()
    for _ in range(10):
        layer = Block(layer)
    return layer


@pytest.mark.parametrize(
    "act",
    [
        lambda: deep()(X),
        lambda: deep()(lamina.Input((3,))),
        lambda: jax.jit(deep())(X),
        lambda: deep().build((None, 3)),
        lambda: lamina.Sequential([lamina.Input((3,)), deep()]),
        lambda: lamina.Sequential([deep()])(X),
    ],
)
def test_an_error_shows_the_programs_frames_and_few_others(act):
    error = caught(act)
    ours, own = frames(error, OURS, JAX), frames(error, __file__)
    assert len(ours) <= 10
    assert own.count(__file__) >= 13  # the test, the ten blocks, and the line itself
    assert traceback.extract_tb(error.__traceback__)[-1].line == 'raise KeyError("on purpose")'


def test_wrong_shapes_of_an_op_show_few_frames():
    error = caught(lambda: lamina.ops.matmul(lamina.Input((3,)), lamina.Input((4,))), Exception)
    assert len(frames(error, OURS, JAX)) <= 10


def test_all_frames_may_be_asked_for(unfiltered):
    assert not lamina.config.is_traceback_filtering_enabled()
    assert len(frames(caught(lambda: deep()(X)), OURS)) > 20
    lamina.config.enable_traceback_filtering()
    assert lamina.config.is_traceback_filtering_enabled()
    assert len(frames(caught(lambda: deep()(X)), OURS)) <= 10


def test_an_entry_keeps_what_it_decorates():
    @errors.entry
    def double(x: int) -> int:
        """Twice x."""
        return 2 * x

    assert double(2) == 4 and double.__name__ == "double" and double.__doc__ == "Twice x."


def test_entries_shorten_what_led_to_an_error_too():
    @errors.entry
    def fails():
        try:
            deep()(lamina.Input((3,)))
        except KeyError as error:
            raise ValueError("later") from error

    error = caught(fails, ValueError)
    assert len(frames(error.__cause__, OURS, JAX)) <= 10 and error.__cause__.args == ("on purpose",)
