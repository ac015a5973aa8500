"""Fewer cases than a product of many choices has, in which every two of them meet still."""

import itertools


def pairwise(ways):
    """Rows in which every two values of two ways meet: each row takes the values that settle most pairs left over."""
    names = list(ways)
    left = {frozenset(p) for a, b in itertools.combinations(names, 2) for p in itertools.product(
        [(a, v) for v in ways[a]], [(b, v) for v in ways[b]])}  # fmt: skip
    rows = []
    while left:
        row = dict(min(left, key=lambda pair: sorted(map(str, pair))))
        for name in names:
            row.setdefault(
                name, max(ways[name], key=lambda v: sum(frozenset([(name, v), other]) in left for other in row.items()))
            )
        rows.append({name: row[name] for name in names})
        left -= {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}
    return rows
