"""What a function returns for inputs of unknown sizes: symbols stand for them, or several sizes are tried."""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import export, tree_util

from lamina.core.scope import Scope

# Sizes of each axis, a try a row: no two axes are alike in a row, and no axis in two rows; nor do their differences and
# ratios stay. Small ones are odd and even, the others have many divisors. Where these fail, all axes get one size.
_SMALL = ((2, 3, 5, 7, 11, 13, 17, 19, 23, 29), (3, 2, 4, 9, 8, 15, 14, 21, 20, 27))
_USUAL = (96, 120, 240, 168, 192, 144, 216, 288, 264, 312)
_LARGER = (
    (24, 36, 48, 60, 72, 84, 96, 108, 132, 144),
    _USUAL,
    (3360, 6720, 5040, 1920, 7680, 8400, 4200, 9240, 640, 960),
)
_ALIKE = tuple((n,) * 10 for n in (3, 120, 240, 1920, 3840))

_SYMBOL = re.compile(r"\bsize_of_axis_(\d+)\b")

# What a program asked of symbols: (symbol, the number that it may be).
_asked: Scope[list[tuple[str, Any]] | None] = Scope("asked", None)


def outputs_for(
    fn: Callable,
    structs: Callable[[Sequence[Any]], list[Any]],
    axes: Sequence[int],
    make: Callable[[Any, str], Any],
    beside: Sequence[Sequence[Any]] = (),
) -> Any:
    """What `fn` returns, with `make(shape, dtype)` in place of the arrays; sizes that differ with those of `axes` are
    `None`.

    A size is known if it is the same in all tries that succeed. If none does, sizes that arrays beside have at the same
    places are tried, as of a state for a batch of so many, and those that the error names, as of a kernel for so many
    features. Else the first error is the one that is told.

    Args:
        fn: of arrays.
        structs: their shapes and dtypes, for sizes of the axes.
        axes: the places of unknown sizes.
        make: makes what stands for an output.
        beside: the shapes of the arguments.
    """
    if not axes:
        return _common([jax.eval_shape(fn, *structs(()))], [], make)
    asked: list[tuple[str, Any]] = []
    found, error = [], None
    try:
        with _asked(asked):
            found.append(jax.eval_shape(fn, *structs(_symbols())))
    except Exception as first:  # sizes that a symbol cannot stand for, or a real mistake
        error = first
    if found and not asked:
        return _common(found, [], make)
    tries = _Tries(fn, structs, axes)
    try:
        if error is None or _is_about_symbols(error) or tries.run(_USUAL) or tries.run(_ALIKE[1]):
            found += tries.climb(_SMALL, _LARGER) or tries.climb(_ALIKE[:2], _ALIKE[2:])
        if error is not None and len(found) < 2:
            for sizes in [*_known(beside, axes), *_named(error)]:
                rows = [_placed(row, sizes) for row in _LARGER[:2]]
                if all(map(tries.run, rows)):
                    return _common(tries.climb(rows, ()), [], make)
            told = tries.told(error)
            raise told from told.__cause__
        asked_for = [(_SYMBOL.fullmatch(symbol), n) for symbol, n in asked if isinstance(n, int) and n > 0]
        odd = [{axes[0]: 1}, dict.fromkeys(axes[1:], 1), *({int(m[1]): n} for m, n in asked_for if m)]
        return _common(found, tries.odd([sizes for sizes in odd if sizes]), make)
    finally:
        error, tries = None, None  # tracebacks hold this frame, and arrays in others


class _Tries:
    """Runs with sizes in place of symbols."""

    def __init__(self, fn: Callable, structs: Callable[[Sequence[Any]], list[Any]], axes: Sequence[int]):
        self.fn, self.structs, self.axes = fn, structs, axes
        self.errors: list[tuple[Exception, Sequence[int]]] = []
        self.run = functools.cache(self._run)

    def _run(self, sizes: Sequence[int]) -> list[tuple[Any, int]]:
        """What the function returns for these sizes, with the number of its steps; nothing if it fails."""
        try:
            program, outputs = jax.make_jaxpr(self.fn, return_shape=True)(*self.structs(sizes))
        except Exception as error:
            self.errors.append((error, sizes))
            return []
        return [(outputs, len(program.eqns))]

    def climb(self, small: Sequence[Sequence[int]], larger: Sequence[Sequence[int]]) -> list[Any]:
        """The outputs of the tries that succeed, if these are two or more.

        The first of the larger sizes stand in where small ones fail. A body that runs a loop over a size, which its
        number of steps tells, is not asked for a long one.
        """
        rows = [row for row in small if self.run(row)]
        for row in larger[len(rows) > 1 :]:
            steps = [steps for row in rows[-2:] for _, steps in self.run(row)]
            if len(steps) > 1 and steps[1] > 2 * steps[0]:
                break
            rows += [row] if self.run(row) else []
        return [outputs for row in rows for outputs, _ in self.run(row)] if len(rows) > 1 else []

    def odd(self, places: Sequence[dict[int, int]]) -> list[Any]:
        """The outputs where some axes have sizes of their own."""
        found: list[Any] = []
        for sizes in places:
            small, usual = (_placed(row, sizes) for row in (_SMALL[0], _USUAL))
            found += [outputs for outputs, _ in self.run(small) or self.run(usual)]
        return found

    def told(self, error: Exception) -> Exception:
        """The error to raise: the first, or where that speaks of symbols only, the one for usual sizes; with `None` for
        the unknown sizes."""
        named: dict[str, str] = {}
        if _is_about_symbols(error):
            error, sizes = next((e for e in self.errors if e[1] is _USUAL), (error, ()))
            named = {str(n): "None" for n in sizes[: max(self.axes) + 1]}
        if error.args and isinstance(error.args[0], str):
            text = _SYMBOL.sub("None", error.args[0])
            error.args = (re.sub(r"\b\d+\b", lambda m: named.get(m[0], m[0]), text), *error.args[1:])
        return error


def _placed(row: Sequence[int], sizes: dict[int, int]) -> tuple[int, ...]:
    """Sizes of a try, but of some axes their own."""
    return tuple(sizes.get(axis, n) for axis, n in enumerate(row))


def _known(shapes: Sequence[Sequence[Any]], axes: Sequence[int]) -> list[dict[int, int]]:
    """The sizes in shapes of unknown ones of others: of a shape each by itself, and then all; at last all of all."""
    own = [{i: n for i, n in enumerate(shape) if i in axes and isinstance(n, int) and n > 1} for shape in shapes]
    each = [sizes for known in own for sizes in (*({i: n} for i, n in known.items()), known)]
    return [sizes for sizes in (*each, {i: n for known in own for i, n in known.items()}) if sizes]


def _named(error: Exception) -> list[dict[int, int]]:
    """An axis, but for the batch's, with one of the numbers that stand first in an error about its size."""
    numbers = [int(n) for n in dict.fromkeys(re.findall(r"\b\d+\b", str(error))) if int(n) > 1]
    axes = sorted({int(axis) for axis in _SYMBOL.findall(str(error))} - {0})
    return [{axis: n} for n in numbers[:4] for axis in axes]


def _is_about_symbols(error: Exception) -> bool:
    texts = (f"{type(e)}{e}" for e in (error, error.__cause__))
    return any(re.search(r"_DimExpr|[Ss]ymbolic|nconclusive|polymorphism", text) for text in texts)


def outputs_of(tries: Sequence[Callable[[], Any]], make: Callable[[Any, str], Any]) -> Any:
    """What several calls return, with `make(shape, dtype)` in place of arrays, and `None` for sizes that differ.

    `None` if fewer than two succeed.
    """
    found = []
    with jax.ensure_compile_time_eval():
        for call in tries:
            with contextlib.suppress(Exception):
                found.append(call())
    return _common(found, [], make) if len(found) > 1 else None


def _common(found: Sequence[Any], odd: Sequence[Any], make: Callable[[Any, str], Any]) -> Any:
    """The sizes that all have. Other numbers of axes are an error, but for odd sizes, with which some axes may go."""
    first, treedef = tree_util.tree_flatten(found[0])
    ranks, shapes = [x.ndim for x in first], []
    for outputs in (*found, *odd):
        leaves, other_def = tree_util.tree_flatten(outputs)
        own = [x.shape for x in leaves]
        if other_def == treedef and list(map(len, own)) == ranks:
            shapes.append(own)
        elif not any(outputs is each for each in odd):
            raise ValueError(
                "the outputs must have the same structure and numbers of axes whatever the unknown sizes of the "
                f"inputs are, got {len(own)} with {list(map(len, own))} axes and {len(first)} with {ranks}."
            )
    agreed = [tuple(map(_agreed, zip(*(shape[i] for shape in shapes)))) for i in range(len(first))]
    return treedef.unflatten([make(shape, x.dtype.name) for shape, x in zip(agreed, first)])


def _agreed(sizes: Sequence[Any]) -> int | None:
    return sizes[0] if isinstance(sizes[0], int) and len(set(sizes)) == 1 else None


@functools.cache
def _symbols() -> tuple[Any, ...]:
    symbols = tuple(export.symbolic_shape(", ".join(f"size_of_axis_{i}" for i in range(10))))
    _listen(type(symbols[0]))
    return symbols


def _listen(kind: Any) -> None:
    """Note where a program asks whether a symbol is a certain number, or not 0.

    JAX cannot say, and says that it differs. Its own questions, and those of this library, are about broadcasting.
    """
    equals = kind.__eq__

    def __eq__(self: Any, other: Any) -> bool:
        equal = equals(self, other)
        if not equal:
            _note(inspect.currentframe(), self, other)
        return equal

    def __bool__(self: Any) -> bool:
        _note(inspect.currentframe(), self, 0)
        return True

    kind.__eq__, kind.__bool__ = __eq__, __bool__
    kind.__ne__ = object.__ne__  # which asks the other


def _note(frame: Any, symbol: Any, other: Any) -> None:
    asked = _asked.get()
    package = frame.f_back.f_globals.get("__name__", "").partition(".")[0]
    if asked is not None and package not in ("jax", "lamina", "numpy"):
        asked.append((str(symbol), other))
