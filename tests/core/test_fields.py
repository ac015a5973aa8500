"""Constructors that are made of what a class annotates."""

import inspect

import pytest

from lamina.core.configurable import Configurable
from lamina.core.fields import fields


@fields
class Line(Configurable):
    """a x + b.

    Args:
        a: the slope.
        b: the height.
    """

    a: float
    b: float = 1.0

    def __post_init__(self):
        self.order = ["Line"]


@fields
class Parabola(Line):
    """a x + b + c x^2.

    Args:
        c: the curvature.
    """

    b: float = 2.0
    c: float = 3.0

    def __post_init__(self):
        self.order.append("Parabola")


def test_own_names_stand_behind_those_above_and_may_give_these_other_defaults():
    assert str(inspect.signature(Line)) == "(a: float, b: float = 1.0)"
    assert [(p.name, p.default) for p in inspect.signature(Parabola).parameters.values()] == [
        ("a", inspect.Parameter.empty),
        ("b", 2.0),
        ("c", 3.0),
    ]


def test_arguments_become_attributes_before_each_class_has_its_say():
    made = Parabola(5.0, c=7.0)
    assert (made.a, made.b, made.c, made.order) == (5.0, 2.0, 7.0, ["Line", "Parabola"])


def test_the_configuration_is_that_of_the_arguments():
    config = Parabola(5.0, c=7.0).get_config()
    assert config == {"a": 5.0, "b": 2.0, "c": 7.0}
    assert Parabola.from_config(config).get_config() == config


def test_errors_speak_of_the_class_that_was_named():
    with pytest.raises(TypeError, match=r"^Parabola: must be given a\.$"):
        Parabola()
    with pytest.raises(TypeError, match=r"^Parabola: must not be given unknown arguments, got aa; did you mean a"):
        Parabola(1.0, aa=2)


def test_a_class_above_explains_its_arguments():
    assert "a: the slope." in Line.__doc__ and "c: the curvature." in Parabola.__doc__


def test_a_class_below_may_have_a_constructor_of_its_own():
    class Steep(Line):
        def __init__(self, factor):
            super().__init__(10.0 * factor)
            self.factor = factor

    assert (Steep(2).a, Steep(2).get_config()) == (20.0, {"factor": 2})
