"""`tree`: what each function makes of each structure, beside Keras."""

import types
from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass

import jax
import keras
import numpy as np
import pytest

import lamina

Pair = namedtuple("Pair", "a b")


class Words(list):
    pass


STRUCTURES = {
    "leaf": 1, "none": None, "list": [1, [2, 3]], "empty": [], "no tuple": (), "no dict": {}, "tuple": (1, (2,)),
    "dict": {"b": 1, "a": [2, None]}, "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "default": defaultdict(list, {"b": 1, "a": 2}), "deque": deque([1, 2], maxlen=5), "named": Pair(3, [1, 2]),
    "named none": Pair(None, 1), "set": {1}, "subclass": Words([1, 2]), "shapes": [(1, 2), {"x": (3, None)}],
    "array": np.ones(2), "integers": {2: 1, 1: 2}, "mixed": {"a": 1, 2: 3}, "text": "abc",
    "deep": [{"x": (1, None, [2])}, Pair(1, {"k": 2})], "view": types.MappingProxyType({"b": 1, "a": 2}),
}  # fmt: skip


def tenfold(x):
    return x * 10 if isinstance(x, int) else None


def visited(tree, structure, top_down):
    seen = []
    return tree.traverse(seen.append, structure, top_down=top_down), seen


ONE = {
    "is_nested": lambda tree, x: tree.is_nested(x),
    "flatten": lambda tree, x: tree.flatten(x),
    "flatten_with_path": lambda tree, x: tree.flatten_with_path(x),
    "map_structure": lambda tree, x: tree.map_structure(lambda leaf: (leaf,), x),
    "map without None": lambda tree, x: tree.map_structure(lambda leaf: (leaf,), x, none_is_leaf=False),
    "pack": lambda tree, x: tree.pack_sequence_as(x, [f"v{i}" for i in range(len(tree.flatten(x)))]),
    "pack too many": lambda tree, x: tree.pack_sequence_as(x, range(50)),
    "pack nothing": lambda tree, x: tree.pack_sequence_as(x, 5),
    "map_shape_structure": lambda tree, x: tree.map_shape_structure(lambda shape: ("S", shape), x),
    "traverse down": lambda tree, x: visited(tree, x, True),
    "traverse up": lambda tree, x: visited(tree, x, False),
    "traverse changes": lambda tree, x: tree.traverse(tenfold, x),
    "traverse to None": lambda tree, x: tree.traverse(lambda y: tree.MAP_TO_NONE if tenfold(y) else None, x),
}
TWO = {
    "assert_same_structure": lambda tree, x, y: tree.assert_same_structure(x, y),
    "assert_same_paths": lambda tree, x, y: tree.assert_same_paths(x, y),
    "map_structure": lambda tree, x, y: tree.map_structure(lambda *leaves: leaves, x, y),
    "map_structure_up_to": lambda tree, x, y: tree.map_structure_up_to(x, lambda part: (part,), y),
}


def outcome(function, library, *structures):
    """What comes out, in words: the order of keys counts, and of an error its kind."""
    try:
        return repr(function(library.tree, *structures))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_structure(name):
    for key, structure in STRUCTURES.items():
        assert outcome(ONE[name], lamina, structure) == outcome(ONE[name], keras, structure), key


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_structures(name):
    for first, one in STRUCTURES.items():
        if name == "map_structure_up_to" and any(leaf is None for leaf in keras.tree.flatten(one)):
            continue  # Keras refuses what its documentation shows, a shallow structure of None
        for second, other in STRUCTURES.items():
            expected = outcome(TWO[name], keras, one, other)
            assert outcome(TWO[name], lamina, one, other) == expected, (first, second)


def test_lists_become_tuples_as_in_keras():
    for structure in STRUCTURES.values():
        if not isinstance(structure, Words):  # a leaf to all else
            expected = keras.tree.lists_to_tuples(structure)
            assert repr(lamina.tree.lists_to_tuples(structure)) == repr(expected)


def test_what_is_registered_with_jax_is_a_node():
    @jax.tree_util.register_dataclass
    @dataclass
    class Point:
        x: object
        y: object

    tree, points = lamina.tree, [Point(1, None), {"p": Point(2, [3])}]
    assert tree.is_nested(points[0]) and tree.flatten(points) == [1, None, 2, 3]
    assert [path for path, _ in tree.flatten_with_path(points)][2:] == [(1, "p", "x"), (1, "p", "y", 0)]
    assert tree.map_structure(lambda a, b: (a, b), points[0], Point(3, 4)) == Point((1, 3), (None, 4))
    assert tree.pack_sequence_as(points, "abcd")[1] == {"p": Point("c", ["d"])}
    with pytest.raises(ValueError, match="structures must be alike"):
        tree.map_structure(lambda a, b: a, points[0], (3, 4))


@pytest.mark.parametrize("shallow, deep, expected", [([None, None], [[1, 1], [2, 2]], [2, 2]), (None, [1], 1)])
def test_a_shallow_none_takes_all_that_is_there(shallow, deep, expected):
    assert lamina.tree.map_structure_up_to(shallow, len, deep) == expected


def test_errors_say_where_structures_differ():
    with pytest.raises(ValueError, match=r"map_structure: structures must be alike, got at a/1 a list of 2 and 5\."):
        lamina.tree.map_structure(lambda a, b: a, {"a": [1, [2, 3]]}, {"a": [1, 5]})
    with pytest.raises(TypeError, match=r"map_structure: func must be a function, got 3\."):
        lamina.tree.map_structure(3, [1])
