"""Docstrings of classes say what is new; what the classes above say of arguments, shapes and errors is added."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type)
_SECTIONS = re.compile(r"^(?:Args|Shapes|Raises):.*(?:\n(?![A-Z>]).*)*", re.MULTILINE)
_ENTRIES = re.compile(r"^(?=    (\w+(?:, \w+)*):)(.*(?:\n {8}.*)*)", re.MULTILINE)  # the names and lines of arguments
# What holds for all constructors of the library; a class whose docstring says nothing else of errors says this.
_RAISES = "Raises: ValueError if an argument is outside its domain."


class _Docstring:
    """The docstring of a class, put together when it is read: what it does not say itself of shapes, errors and
    arguments, the nearest class above says, or one besides."""

    def __init__(self, cls: type, own: str):
        self.cls, self.own = cls, own
        self.besides: tuple[type, ...] = ()

    def __get__(self, instance: Any, owner: Any = None) -> str:
        own, about_own = _told(self.own)
        sections: dict[str, str] = {}
        lines: dict[str, str] = {}
        for each in reversed((*self.besides, *self.cls.__mro__[1:])):
            of_each, about_arguments = _told(each.__doc__)
            sections, lines = sections | of_each, lines | about_arguments
        sections, lines = sections | own, lines | about_own
        names = inspect.signature(self.cls.__init__).parameters
        explained = dict.fromkeys([*(lines[name] for name in names if name in lines), *about_own.values()])
        if sections.get("Raises", _RAISES) == _RAISES:
            sections["Raises"] = _RAISES if explained or "__init__" in vars(self.cls) else ""
        text = inspect.cleandoc(self.own)
        if explained.keys() - about_own.values():
            text, own = _SECTIONS.sub("", text), {}
            sections["Args"] = "\n".join(["Args:", *explained])
        further = (sections.get(name) for name in ("Args", "Shapes", "Raises") if name not in own)
        return re.sub(r"\n{3,}", "\n\n", "\n\n".join([text, *filter(None, further)])) + "\n"


def complete_docstring(cls: type, besides: tuple[type, ...] = ()) -> None:
    """Let the docstring of a class say what those of others say, see `_Docstring`."""
    known = vars(cls)["__doc__"]
    if not isinstance(known, _Docstring):
        known = _Docstring(cls, known or "")
        setattr(cls, "__doc__", known)  # noqa: B010
    known.besides += besides


def explained_by(*others: type) -> Callable[[C], C]:
    """A decorator of classes that have arguments of other ones: the docstring gets what those say of them."""

    def decorate(cls: C) -> C:
        complete_docstring(cls, others)
        return cls

    return decorate


@functools.cache
def _told(doc: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """The sections of a docstring by name, and what it says of each argument."""
    sections = {text.partition(":")[0]: text.rstrip() for text in _SECTIONS.findall(inspect.cleandoc(doc or ""))}
    entries = _ENTRIES.findall(sections.pop("Args", ""))
    return sections, {name: text.rstrip() for names, text in entries for name in names.split(", ")}
