"""Nested structures of lists, tuples and dicts. `None` is a leaf, and dicts go in the order of their sorted keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jax import tree_util

from lamina.core.sparse import is_sparse


class MAP_TO_NONE:
    """What `traverse`'s function returns to put `None` in place of a node (`None` itself means: go on)."""


def _is_leaf(x: Any) -> bool:
    return x is None or is_sparse(x)


def is_nested(structure: Any) -> bool:
    """Whether `structure` is a list, tuple or dict (a leaf is not)."""
    return isinstance(structure, (list, tuple, dict))


def flatten(structure: Any) -> list:
    """The leaves, from left to right."""
    return tree_util.tree_leaves(structure, is_leaf=_is_leaf)


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """Pairs of (keys and indices that lead to a leaf, leaf)."""
    pairs, _ = tree_util.tree_flatten_with_path(structure, is_leaf=_is_leaf)
    return [(tuple(_key(entry) for entry in path), leaf) for path, leaf in pairs]


def _key(entry: Any) -> Any:
    for field in ("key", "idx", "name"):
        if hasattr(entry, field):
            return getattr(entry, field)
    return entry


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """`func` on corresponding leaves, in the structure of the first."""
    if not structures:
        raise ValueError("map_structure: at least one structure is needed, got none.")
    is_leaf = _is_leaf if none_is_leaf else is_sparse
    first, treedef = tree_util.tree_flatten(structures[0], is_leaf=is_leaf)
    rest = []
    for other in structures[1:]:
        leaves, other_def = tree_util.tree_flatten(other, is_leaf=is_leaf)
        if other_def != treedef:
            raise ValueError(f"map_structure: structures must be alike, got {treedef} and {other_def}.")
        rest.append(leaves)
    return treedef.unflatten([func(*leaves) for leaves in zip(first, *rest)])


def flatten_up_to(shallow_structure: Any, structure: Any) -> list:
    """What stands in `structure` where `shallow_structure` has its leaves; `ValueError` if it has not its nesting."""
    return tree_util.tree_structure(shallow_structure, is_leaf=_is_leaf).flatten_up_to(structure)


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """`func` on what stands in each structure where `shallow_structure` has its leaves."""
    parts = zip(*(flatten_up_to(shallow_structure, structure) for structure in structures))
    return pack_sequence_as(shallow_structure, [func(*part) for part in parts])


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """`func` on each shape (a tuple or list of integers and `None`) in `structure`."""

    def is_shape(x: Any) -> bool:
        return isinstance(x, (tuple, list)) and all(d is None or isinstance(d, int) for d in x)

    return tree_util.tree_map(func, structure, is_leaf=lambda x: x is None or is_shape(x))


def assert_same_structure(a: Any, b: Any, check_types: Any = None) -> None:
    """Raise `ValueError` unless both have the same nesting, keys and container types."""
    del check_types
    first = tree_util.tree_structure(a, is_leaf=_is_leaf)
    second = tree_util.tree_structure(b, is_leaf=_is_leaf)
    if first != second:
        raise ValueError(f"assert_same_structure: structures must be alike, got {first} and {second}.")


def assert_same_paths(a: Any, b: Any) -> None:
    """Raise `ValueError` unless the same paths lead to leaves in both."""
    first, second = ({path for path, _ in flatten_with_path(s)} for s in (a, b))
    if first != second:
        odd = sorted(map(str, first ^ second))
        raise ValueError(f"assert_same_paths: paths must be the same, got {', '.join(odd)} on one side only.")


def pack_sequence_as(structure: Any, flat_sequence: Iterable) -> Any:
    """The items of `flat_sequence` in the shape of `structure`."""
    treedef = tree_util.tree_structure(structure, is_leaf=_is_leaf)
    items = list(flat_sequence)
    if len(items) != treedef.num_leaves:
        raise ValueError(f"pack_sequence_as: {treedef.num_leaves} leaves are needed, got {len(items)}.")
    return treedef.unflatten(items)


def function_of(
    kind: type, fn: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """`fn(*args, **kwargs)` as a function of the leaves of a kind, the others being fixed; and these leaves."""
    leaves, treedef = tree_util.tree_flatten((args, dict(kwargs)))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, kind)]

    def run(*given: Any) -> Any:
        filled = list(leaves)
        for place, leaf in zip(places, given):
            filled[place] = leaf
        run_args, run_kwargs = treedef.unflatten(filled)
        return fn(*run_args, **run_kwargs)

    return run, [leaves[i] for i in places]


def lists_to_tuples(structure: Any) -> Any:
    """The same structure with a tuple wherever it had a list."""
    if isinstance(structure, (list, tuple)) and not hasattr(structure, "_fields"):
        return tuple(lists_to_tuples(item) for item in structure)
    if isinstance(structure, dict):
        return {key: lists_to_tuples(item) for key, item in structure.items()}
    return structure


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """`func` on every node; what it returns replaces the node, `None` keeps it and goes on below."""

    def below(node: Any) -> Any:
        if isinstance(node, dict):
            return type(node)((key, visit(node[key])) for key in node)
        if isinstance(node, tuple) and hasattr(node, "_fields"):
            return type(node)(*map(visit, node))
        if isinstance(node, (list, tuple)):
            return type(node)(map(visit, node))
        return node

    def visit(node: Any) -> Any:
        if not top_down:
            node = below(node)
        found = func(node)
        if found is MAP_TO_NONE:
            return None
        if found is not None:
            return found
        return below(node) if top_down else node

    return visit(structure)
