"""Nested structures: lists, tuples, named tuples, deques, dicts, and what is registered with JAX as a tree.

`None` and sparse arrays are leaves. Dicts go in the order of their sorted keys, an `OrderedDict` in its own; what is
made of a dict has its keys in its order.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util

from lamina.core import checks
from lamina.core.sparse import is_sparse

_DICTS = (dict, OrderedDict, defaultdict)


class MAP_TO_NONE:
    """What `traverse`'s function returns to put `None` in place of a node (`None` itself means: go on)."""


class _Node(NamedTuple):
    """What lies in a structure, one level deep."""

    kind: Any  # equal in structures that are alike; dicts are of one kind
    keys: Sequence[Any]
    children: Sequence[Any]
    made_of: Callable[[list], Any]  # the same structure with other children


def _opened(structure: Any) -> _Node | None:
    """One level of a structure, `None` of a leaf."""
    kind = type(structure)
    if kind in _DICTS:
        keys = list(structure) if kind is OrderedDict else _sorted(structure)
        return _Node(dict, keys, [structure[key] for key in keys], lambda c: structure | dict(zip(keys, c)))
    if kind in (list, tuple):
        return _Node(kind, range(len(structure)), structure, kind)
    if structure is None or is_sparse(structure):
        return None
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return _Node(kind, range(len(structure)), structure, lambda c: kind(*c))
    if isinstance(structure, deque):
        return _Node(kind, range(len(structure)), structure, lambda c: deque(c, structure.maxlen))
    if tree_util.all_leaves((structure,)):
        return None
    pairs, treedef = tree_util.tree_flatten_with_path(structure, is_leaf=lambda x: x is not structure)
    return _Node(treedef, [_key(path[0]) for path, _ in pairs], [child for _, child in pairs], treedef.unflatten)


def _sorted(keys: Iterable[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:  # of several types
        return sorted(keys, key=lambda key: (f"{type(key).__module__}.{type(key).__qualname__}", key))


def _key(entry: Any) -> Any:
    for field in ("key", "idx", "name"):
        if hasattr(entry, field):
            return getattr(entry, field)
    return entry


def _beside(node: _Node, other: Any, who: str, path: tuple) -> Sequence[Any]:
    """What stands in another structure where a node has its children."""
    found = _opened(other)
    alike = found is not None and found.kind == node.kind and len(found.keys) == len(node.keys)
    if found is None or not alike or (node.kind is dict and set(found.keys) != set(node.keys)):
        at = f"at {'/'.join(map(str, path))} " if path else ""
        kinds = f"{_named(node)} and {_named(found) if found else checks.shorten(other)}"
        raise ValueError(f"{who}: structures must be alike, got {at}{kinds}.")
    if node.kind is dict:
        return [other[key] for key in node.keys]
    return found.children


def _named(node: _Node) -> str:
    if node.kind is dict:
        return f"a dict of {checks.some([*map(repr, node.keys)]) or 'nothing'}"
    return f"a {getattr(node.kind, '__name__', node.kind)} of {len(node.keys)}"


def is_nested(structure: Any) -> bool:
    """Whether `structure` holds others (a leaf does not)."""
    return _opened(structure) is not None


def flatten(structure: Any) -> list:
    """The leaves, from left to right."""
    node = _opened(structure)
    return [structure] if node is None else [leaf for child in node.children for leaf in flatten(child)]


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """Pairs of (keys and indices that lead to a leaf, leaf)."""
    node = _opened(structure)
    if node is None:
        return [((), structure)]
    pairs = zip(node.keys, node.children)
    return [((key, *path), leaf) for key, child in pairs for path, leaf in flatten_with_path(child)]


def _mapped(func: Callable, first: Any, others: Sequence[Any], who: str, whole: bool, path: tuple = ()) -> Any:
    """`func` of each leaf of the first structure and what stands there in the others: leaves too, if `whole`."""
    node = _opened(first)
    if node is None:
        nested = next((found for found in map(_opened, others if whole else ()) if found is not None), None)
        if nested is not None:
            _beside(nested, first, who, path)
        return func(first, *others)
    beside = zip(*(_beside(node, other, who, path) for other in others)) if others else [()] * len(node.keys)
    entries = zip(node.keys, node.children, beside)
    return node.made_of([_mapped(func, child, rest, who, whole, (*path, key)) for key, child, rest in entries])


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """`func` on corresponding leaves, in the structure of the first."""
    _check("map_structure", func, structures)

    def without_none(*leaves: Any) -> Any:
        empty = [leaf is None for leaf in leaves]
        if any(empty) != all(empty):
            raise ValueError(f"map_structure: structures must be alike, got None in some places only: {leaves}.")
        return None if all(empty) else func(*leaves)

    return _mapped(func if none_is_leaf else without_none, structures[0], structures[1:], "map_structure", True)


def map_as_given(func: Callable, structure: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """`tree_util.tree_map` for what a program gets to see: dicts keep the order of their keys, which JAX sorts."""
    kind = type(structure)
    if kind not in (dict, list, tuple) or (is_leaf is not None and is_leaf(structure)):
        return tree_util.tree_map(func, structure, is_leaf=is_leaf)
    if kind is dict:
        return {key: map_as_given(func, part, is_leaf) for key, part in structure.items()}
    return kind([map_as_given(func, part, is_leaf) for part in structure])


def flatten_up_to(shallow_structure: Any, structure: Any) -> list:
    """What stands in `structure` where `shallow_structure` has its leaves; `ValueError` if it has not its nesting."""
    found: list[Any] = []
    _mapped(lambda _, part: found.append(part), shallow_structure, [structure], "flatten_up_to", False)
    return found


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """`func` on what stands in each structure where `shallow_structure` has its leaves."""
    _check("map_structure_up_to", func, structures)
    return _mapped(lambda _, *parts: func(*parts), shallow_structure, structures, "map_structure_up_to", False)


def is_shape(x: Any) -> bool:
    """Whether `x` is a tuple or list of sizes, `None` for those that are not known."""
    return isinstance(x, (tuple, list)) and all(d is None or isinstance(d, (int, np.integer)) for d in x)


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """`func` on each shape (a tuple or list of integers and `None`) in `structure`."""
    node = None if is_shape(structure) else _opened(structure)
    if node is None:
        return func(structure)
    return node.made_of([map_shape_structure(func, child) for child in node.children])


def assert_same_structure(a: Any, b: Any, check_types: Any = None) -> None:
    """Raise `ValueError` unless both have the same nesting, keys and container types."""
    del check_types
    _mapped(lambda *_: None, a, [b], "assert_same_structure", True)


def assert_same_paths(a: Any, b: Any) -> None:
    """Raise `ValueError` unless the same paths lead to leaves in both."""
    first, second = ({path for path, _ in flatten_with_path(s)} for s in (a, b))
    if first != second:
        odd = sorted(map(str, first ^ second))
        raise ValueError(f"assert_same_paths: paths must be the same, got {', '.join(odd)} on one side only.")


def pack_sequence_as(structure: Any, flat_sequence: Iterable) -> Any:
    """The items of `flat_sequence` in the shape of `structure`."""
    items, needed = list(flat_sequence), len(flatten(structure))
    if len(items) != needed:
        raise ValueError(f"pack_sequence_as: {needed} leaves are needed, got {len(items)}.")
    waiting = iter(items)
    return _mapped(lambda _: next(waiting), structure, (), "pack_sequence_as", True)


def function_of(
    kind: type, fn: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """`fn(*args, **kwargs)` as a function of the leaves of a kind, the others being fixed; and these leaves."""
    call, leaves = (args, dict(kwargs)), []
    map_as_given(leaves.append, call)

    def run(*given: Any) -> Any:
        waiting = iter(given)
        run_args, run_kwargs = map_as_given(lambda leaf: next(waiting) if isinstance(leaf, kind) else leaf, call)
        return fn(*run_args, **run_kwargs)

    return run, [leaf for leaf in leaves if isinstance(leaf, kind)]


def lists_to_tuples(structure: Any) -> Any:
    """The same structure with a tuple wherever it had a list."""
    return traverse(lambda node: tuple(node) if type(node) is list else None, structure, top_down=False)


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """`func` on every node; what it returns replaces the node, `None` keeps it and goes on below."""
    _check("traverse", func, [structure])

    def below(structure: Any) -> Any:
        node = _opened(structure)
        return structure if node is None else node.made_of([*map(visit, node.children)])

    def visit(structure: Any) -> Any:
        if not top_down:
            structure = below(structure)
        found = func(structure)
        if found is MAP_TO_NONE:
            return None
        if found is not None:
            return found
        return below(structure) if top_down else structure

    return visit(structure)


def _check(who: str, func: Any, structures: Sequence[Any]) -> None:
    if not callable(func):
        raise TypeError(f"{who}: func must be a function, got {func!r}.")
    if not structures:
        raise ValueError(f"{who}: at least one structure is needed, got none.")
