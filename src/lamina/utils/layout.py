"""Places for boxes and edges: rows by the longest way from a source, few crossings, and no edge through a box.

Sugiyama, Tagawa and Toda, 1981, Methods for visual understanding of hierarchical system structures. "Along" is the
direction of the edges and "across" the other one. A frame is laid out by itself and is then one box among others; edges
reach into it through ports at its border.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

Key = Any
Near = dict[Key, list[tuple[Key, float]]]  # neighbours, and by how much middles differ where the edge is straight
GAP, ROW_GAP, LANE, PAD, TITLE = 20.0, 34.0, 12.0, 12.0, 22.0
_SWEEPS = 12


class Layout(NamedTuple):
    """Places (x, y, width, height) of boxes and frames, the points of edges, and the size of the whole."""

    boxes: dict[Key, tuple[float, ...]]
    frames: dict[Key, tuple[float, ...]]
    routes: dict[tuple[Key, Key], list[tuple[float, ...]]]
    size: tuple[float, ...]
    ports: dict[Key, float] = {}

    def moved(self, across: float, along: float) -> Layout:
        """The same, elsewhere."""
        boxes, frames = (
            {key: (x + across, y + along, *size) for key, (x, y, *size) in places.items()} for places in self[:2]
        )
        routes = {edge: [(x + across, y + along) for x, y in points] for edge, points in self.routes.items()}
        return Layout(boxes, frames, routes, self.size, {port: x + across for port, x in self.ports.items()})

    def turned(self) -> Layout:
        """The same with x and y exchanged."""
        boxes, frames = ({key: (y, x, h, w) for key, (x, y, w, h) in places.items()} for places in self[:2])
        routes = {edge: [(y, x) for x, y in points] for edge, points in self.routes.items()}
        return Layout(boxes, frames, routes, self.size[::-1])


def arrange(
    sizes: Mapping[Key, tuple[float, float]],
    edges: Collection[tuple[Key, Key]],
    around: Mapping[Key, tuple[Key, ...]],
    titles: Mapping[Key, float],
    upright: bool = True,
) -> Layout:
    """Places for boxes.

    Args:
        sizes: (width, height) by key; edges go from earlier keys to later ones, those that do not are drawn upwards.
        edges: pairs of different keys.
        around: the frames around each box, outermost first.
        titles: the width that the title of each frame needs.
        upright: whether edges go down, and not to the right.
    """

    given = {key: size if upright else size[::-1] for key, size in sizes.items()}
    whole = _Frames(given, around, titles, upright).level(list(sizes), edges, 0)
    return whole if upright else whole.turned()


class _Frames(NamedTuple):
    """The arguments of `arrange`, sizes across and along."""

    sizes: Mapping[Key, tuple[float, ...]]
    around: Mapping[Key, tuple[Key, ...]]
    titles: Mapping[Key, float]
    upright: bool

    def level(self, keys: list[Key], edges: Collection[tuple[Key, Key]], depth: int) -> Layout:
        """What lies in one frame, or in none, and the edges that touch it."""
        groups: dict[Key, list[Key]] = {}
        for key in keys:
            groups.setdefault((*self.around[key], key)[depth], []).append(key)
        child = {key: name for name, members in groups.items() for key in members}
        parts: dict[Key, Layout] = {}
        for name, members in groups.items():
            if name in self.titles:
                own = [edge for edge in edges if name in (child.get(edge[0]), child.get(edge[1]))]
                parts[name] = self.framed(name, self.level(members, own, depth + 1))

        def shift(name: Key, port: Key) -> float:
            return parts[name].ports[port] - parts[name].size[0] / 2 if name in parts else 0.0

        # An edge from outside begins at a port for its box, and one that leaves ends at one.
        links = {}
        for a, b in edges:
            start, end = child.get(a, ("in", b)), child.get(b, ("out", a))
            if start != end:
                links[a, b] = (start, shift(start, ("out", a)), end, shift(end, ("in", b)))
        first = {link[0]: (LANE, 0.0) for link in links.values() if link[0] not in groups}
        last = {link[2]: (LANE, 0.0) for link in links.values() if link[2] not in groups}
        sizes = {name: parts[name].size if name in parts else self.sizes[name] for name in groups}
        places, points, size = _rows({**first, **sizes, **last}, list(dict.fromkeys(links.values())), first, last)
        out = Layout({}, {}, {}, size, {port: places[port][0] for port in (*first, *last)})
        for name, own in sizes.items():
            place = places[name][0] - own[0] / 2, places[name][1]
            if name in parts:
                parts[name] = parts[name].moved(*place)
                out.frames[name] = (*place, *own)
                for mine, its in zip(out[:3], parts[name][:3]):
                    mine.update(its)  # type: ignore[union-attr]
            else:
                out.boxes[name] = (*place, *own)
        for (a, b), link in links.items():
            inner = [parts[name].routes[a, b] if name in parts else [] for name in (link[0], link[2])]
            out.routes[a, b] = [*inner[0], *points[link], *inner[1]]
        return out

    def framed(self, name: Key, inner: Layout) -> Layout:
        """With room around, and at the top for a title."""
        (across, along), top = inner.size, PAD / 2 + TITLE
        width = max(across, self.titles[name]) if self.upright else across
        length = along if self.upright else max(along, self.titles[name])
        before = (PAD + (width - across) / 2, top) if self.upright else (top, PAD)
        size = (width + 2 * PAD, length + top + PAD) if self.upright else (width + top + PAD, length + 2 * PAD)
        return inner.moved(*before)._replace(size=size)


def _rows(sizes: dict[Key, Any], links: list[tuple], first: Collection[Key], last: Collection[Key]) -> tuple:
    """(middle across, start along) of each key, the points of each link, and the size: rows, with lanes for links."""
    sizes = dict(sizes)
    order = {key: i for i, key in enumerate(sizes)}
    down = {link: link if order[link[0]] < order[link[2]] else (*link[2:], *link[:2]) for link in links}
    rank = _ranks(list(sizes), [(way[0], way[2]) for way in down.values()], first, last)
    rows: list[list[Key]] = [[] for _ in range(max(rank.values(), default=0) + 1)]
    for key in sizes:
        rows[rank[key]].append(key)
    above: Near = {}
    below: Near = {}
    chains: dict[tuple, list[tuple[Key, float]]] = {}
    for link, (a, from_a, b, from_b) in down.items():
        lanes = [(link, row) for row in range(rank[a] + 1, rank[b])]
        for lane in lanes:
            rows[lane[1]].append(lane)
            sizes[lane] = (LANE, 0.0)
        chains[link] = [(a, from_a), *((lane, 0.0) for lane in lanes), (b, from_b)]
        for (x, from_x), (y, from_y) in zip(chains[link], chains[link][1:]):
            below.setdefault(x, []).append((y, from_y - from_x))
            above.setdefault(y, []).append((x, from_x - from_y))
    rows = _uncrossed(rows, above, below)
    middle = _middles(rows, sizes, above, below)
    left = min(middle[key] - sizes[key][0] / 2 for key in middle)
    right = max(middle[key] + sizes[key][0] / 2 for key in middle)
    bands, start = {}, 0.0 if sizes[rows[0][0]][1] else ROW_GAP / 2
    for row in rows:
        height = max(sizes[key][1] for key in row)
        start -= 0 if height else ROW_GAP / 2  # ports come closer
        bands.update((key, (start, start + height)) for key in row)
        start += height + (ROW_GAP if height else ROW_GAP / 2)
    places = {key: (x - left, (sum(bands[key]) - sizes[key][1]) / 2) for key, x in middle.items()}
    points = {}
    for link, chain in chains.items():
        way = [(places[key][0] + shift, along) for key, shift in chain for along in bands[key]]
        key, end = chain[0][0], chain[-1][0]
        way[0], way[-1] = (way[0][0], places[key][1] + sizes[key][1]), (way[-1][0], places[end][1])
        points[link] = way if down[link] is link else way[::-1]
    return places, points, (right - left, bands[rows[-1][0]][1])


def _ranks(keys: list[Key], edges: list[tuple], first: Collection[Key], last: Collection[Key]) -> dict[Key, int]:
    """Rows: the longest way from a source; sources come right above what they lead to."""
    above: dict[Key, list[Key]] = {}
    below: dict[Key, list[Key]] = {}
    for a, b in edges:
        below.setdefault(a, []).append(b)
        above.setdefault(b, []).append(a)
    rank: dict[Key, int] = {}
    for key in keys:
        rank[key] = max((rank[each] + 1 for each in above.get(key, ())), default=0)
    for key in reversed(keys):
        if key in below and key not in above and key not in first:
            rank[key] = min(rank[each] for each in below[key]) - 1
    lowest = max((n + 1 for key, n in rank.items() if key not in last), default=0)
    return {**rank, **dict.fromkeys(last, lowest)}


def _uncrossed(rows: list[list[Key]], above: Near, below: Near) -> list[list[Key]]:
    """Each row sorted by the medians of its neighbours' places, down and up; the best of all orders."""
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(_SWEEPS if fewest else 0):
        near, rows = (below if sweep % 2 else above), [list(row) for row in rows]
        place = _places(rows)
        for row in rows[::-1] if sweep % 2 else rows:
            ends = {key: sorted(place[each] for each, _ in near.get(key, ())) or [place[key]] for key in row}
            row.sort(key=lambda key: ends[key][(len(ends[key]) - 1) // 2] + ends[key][len(ends[key]) // 2])
            place.update(_places([row]))
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _places(rows: list[list[Key]]) -> dict[Key, float]:
    """The place of each in its row, from 0 to 1."""
    return {key: (i + 0.5) / len(row) for row in rows for i, key in enumerate(row)}


def _crossings(rows: list[list[Key]], below: Near) -> int:
    place, total = _places(rows), 0
    for row in rows:
        seen: list[float] = []
        for key in row:
            ends = sorted(place[each] for each, _ in below.get(key, ()))
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _middles(rows: list[list[Key]], sizes: Mapping[Key, Any], above: Near, below: Near) -> dict[Key, float]:
    """Middles as near to those of neighbours as the row allows, from the top and from below in turn, then from both."""
    middle: dict[Key, float] = {}
    for row in rows:
        middle.update(zip(row, _nearest(row, [0.0] * len(row), sizes)))
    for sweep in range(_SWEEPS + 1):
        ways = (above, below) if sweep == _SWEEPS else (below,) if sweep % 2 else (above,)
        for row in rows[::-1] if sweep % 2 else rows:
            near = [[(each, by) for way in ways for each, by in way.get(key, ())] or [(key, 0.0)] for key in row]
            weights = [sum(_weight(sizes[each]) for each, _ in ends) for ends in near]
            sums = [sum((middle[each] + by) * _weight(sizes[each]) for each, by in ends) for ends in near]
            wanted = [total / weight for total, weight in zip(sums, weights)]
            middle.update(zip(row, _nearest(row, wanted, sizes)))
    return middle


def _nearest(row: list[Key], wanted: list[float], sizes: Mapping[Key, Any]) -> list[float]:
    """The middles nearest to what is wanted, by least squares, in this order and with room for all."""
    offsets = [0.0]
    for a, b in zip(row, row[1:]):
        offsets.append(offsets[-1] + (sizes[a][0] + sizes[b][0]) / 2 + GAP)
    blocks: list[list[float]] = []  # weighted sum, weight, count: their means rise
    for key, place, offset in zip(row, wanted, offsets):
        weight = _weight(sizes[key])
        blocks.append([weight * (place - offset), weight, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [x + y for x, y in zip(blocks[-1], last)]
    means = [total / weight for total, weight, count in blocks for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(means, offsets)]


def _weight(size: tuple[float, float]) -> float:
    """Boxes stay in line before lanes do."""
    return 4.0 if size[1] else 1.0
