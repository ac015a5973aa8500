"""What an error says besides its message: where in the model it came up, and the frames that lead there."""

import contextlib
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import jax
import numpy as np
import opt_einsum

from lamina.core import checks, domains

F = TypeVar("F", bound=Callable)

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ENGINE = (os.path.dirname(os.path.abspath(jax.__file__)) + os.sep, contextlib.__file__, functools.__file__)
_HELPERS = tuple(os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep for module in (np, opt_einsum))
_WHERE = re.compile(r'\w+ "[^"]*": ')  # how the library's own messages begin
_filtering = [True]


class Place(str):
    """A note that says where an error came up."""


def note(error: BaseException, text: str) -> None:
    """Add the note `text`, such as `in layer "model/dense" (Dense), call`, unless the error says where it came up."""
    said = _WHERE.match(str(error)) or any(isinstance(known, Place) for known in getattr(error, "__notes__", ()))
    if not said:
        error.add_note(Place(text))


def entry(fn: F) -> F:
    """Decorator of what programs call: errors that leave it show the program's frames, and of the library's the ends.

    Nothing happens while all goes well, and one entry inside another does no harm.
    """

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except Exception as error:
            takes = inspect.signature(fn).parameters
            unknown = [name for name in kwargs if name not in takes]
            if unknown and error.__traceback__.tb_next is None:  # type: ignore[union-attr]
                raise checks.unknown_arguments(fn.__name__, unknown, takes) from None
            told = _of_argument(fn, args, kwargs, error)
            if told is not None:
                raise told from None
            explain(error)
            shorten(error)
            raise

    return wrapper  # type: ignore[return-value]


def _of_argument(fn: Callable, args: tuple, kwargs: dict[str, Any], error: Exception) -> Exception | None:
    """The error about an argument that is nothing that its annotation says, where the one that came up is unclear."""
    ours, said = _origin(error)
    if not isinstance(error, _UNCLEAR) or not ours or said is not None:
        return None
    signature = domains.signature_of(fn)
    return domains.refusal(fn.__name__, signature, domains.of_signature(signature), args, kwargs)


# What JAX raises where code asks a traced array for its values.
_NEEDS_VALUES = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
)


def wants_values(error: BaseException) -> bool:
    """Whether the error is that of code which asks a traced array for its values."""
    return isinstance(error.__cause__ or error, _NEEDS_VALUES) or "Traced<" in str(error) or "Tracer" in str(error)


SAID = re.compile(r'[\w.]+( "[^"]*")?: ')  # how a message begins that says who speaks
# What the engine says of arguments that do not go together, and what is meant.
_MEANT = {
    r"ncompatible (shapes|types) for broadcasting|^operands could not be broadcast": "shapes must broadcast",
    "contracting dimensions": "contracting axes must have one size",
    r"^(tuple|list) index out of range|^index \d+ is out of bounds for axis 0 ": "axes and indices must exist",
    "only specify one unknown axis": "at most one size of a shape may be -1",
    "^Cannot concatenate": "shapes must be equal but for the axis that is joined",
    "requires ndarray or scalar|^Error interpreting argument": "arguments must be arrays or numbers",
}
_OF_SHAPES = re.compile(r"\b(shapes?(?! must be 1D)|dimensions?|ndim|axes|permutation)\b", re.IGNORECASE)
_UNCLEAR = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, NotImplementedError, NameError,
)  # fmt: skip


def of_op(fn: Callable, args: tuple, kwargs: dict[str, Any], error: BaseException) -> BaseException:
    """The error that a call of an op raises: it names the op and what it was given, in one line.

    What the library said itself stays, and so does the error of a function of the program.
    """
    (ours, said), text = _origin(error), str(error)
    if not isinstance(error, _UNCLEAR) or not ours:  # or Python's, if the arguments are not those of the op
        return error
    if said is not None:
        about_argument = said[0][:-2] in inspect.signature(fn).parameters
        return type(error)(f"{fn.__name__}: {text.replace(':', '', 1)}") if about_argument else error
    try:
        named = inspect.signature(fn).bind(*args, **kwargs).arguments
    except TypeError:
        named = dict(enumerate(args)) | kwargs
    given = ", ".join(f"{name} {_brief(value)}" for name, value in named.items())
    rule = text.partition("\n")[0].rstrip(".") or type(error).__name__
    if wants_values(error):
        rule = "needs values, which arrays inside compiled code do not have yet; call it outside jit, or give numbers"
    elif fn.__name__ != "get_item":  # an index that is not there is an IndexError
        rule = next((meant for said, meant in _MEANT.items() if re.search(said, rule)), rule)
    kind = type(error) if type(error) in (ValueError, IndexError, NotImplementedError) else TypeError
    if kind in (TypeError, IndexError) and (_OF_SHAPES.search(rule) or isinstance(error, ArithmeticError)):
        kind = checks.ArgumentError
    return kind(f"{fn.__name__}: {rule}; got {given}.")


def _origin(error: BaseException) -> tuple[bool, re.Match[str] | None]:
    """Whether only the library and its engine led to an error, and how it begins if the library says who speaks."""
    files = [_file(frame) for frame in _frames(error.__traceback__)]
    ours = bool(files) and all(file.startswith((_HERE, *_ENGINE, *_HELPERS)) for file in files)
    return ours, SAID.match(str(error)) if ours and files[-1].startswith(_HERE) else None


def _brief(value: Any) -> str:
    """An argument, by its dtype and shape if it is an array."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, (list, tuple)) and len(value) < 5:
        return f"[{', '.join(map(_brief, value))}]"
    return checks.shorten(value)


def explain(error: BaseException) -> None:
    """Note the remedy where code asked a traced array for its values, as NumPy and TensorFlow do."""
    if wants_values(error):
        note = (
            "NumPy, TensorFlow and `if` need values, which arrays inside compiled code do not have yet: use lamina.ops "
            "(ops.where, ops.cond), or compile(run_eagerly=True)."
        )
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def shorten(error: BaseException) -> None:
    """Leave out the frames of the library and of JAX, but for the first and the last of the library's own.

    What JAX notes about the frames that it leaves out itself goes, too.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while _filtering[0] and current is not None and id(current) not in seen:
        seen.add(id(current))
        current.__traceback__ = _without_machinery(current.__traceback__)
        notes = getattr(current, "__notes__", [])
        notes[:] = [text for text in notes if "JAX has removed its internal frames" not in text]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _without_machinery(traceback: TracebackType | None) -> TracebackType | None:
    frames = [frame for frame in _frames(traceback) if not _file(frame).startswith((__file__, *_ENGINE))]
    own = [i for i, frame in enumerate(frames) if _file(frame).startswith(_HERE)]
    kept = [frame for i, frame in enumerate(frames) if i not in own or i in (own[0], own[-1])]
    short = None
    for frame in reversed(kept):
        short = TracebackType(short, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return short


def _file(frame: TracebackType) -> str:
    return frame.tb_frame.f_code.co_filename


def enable_traceback_filtering() -> None:
    """Show few of the library's frames in errors, which is how it starts."""
    _filtering[0] = True


def disable_traceback_filtering() -> None:
    """Show all frames in errors."""
    _filtering[0] = False


def is_traceback_filtering_enabled() -> bool:
    """Whether errors show few of the library's frames."""
    return _filtering[0]
