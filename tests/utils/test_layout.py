"""Boxes do not overlap, edges run between them, frames hold what is theirs."""

import random

import pytest

from lamina.utils.layout import arrange


def graph(seed, count=24, frames=True):
    """A random graph with nested frames around some of its boxes."""
    draw = random.Random(seed)
    keys = list(range(count))
    around = {key: () for key in keys}
    if frames:
        around.update({key: ("outer",) for key in range(4, 14)})
        around.update({key: ("outer", "inner") for key in range(6, 10)})
        around.update({key: ("other",) for key in range(16, 19)})
    edges = {(draw.randrange(b), b) for b in keys[1:] for _ in range(draw.choice((1, 1, 2, 3)))}
    sizes = {key: (draw.randint(30, 160), draw.randint(15, 60)) for key in keys}
    return sizes, sorted(edges), around


def inside(point, box, margin=0.5):
    return all(start + margin < at < start + side - margin for at, start, side in zip(point, box[:2], box[2:]))


def apart(a, b):
    return any(x + w <= y + 1e-6 or y + v <= x + 1e-6 for x, y, w, v in zip(a[:2], b[:2], a[2:], b[2:]))


def samples(points, axis, count=40):
    """Points of the curves that are drawn through the points of a route."""
    for a, b in zip(points, points[1:]):
        half = (a[axis] + b[axis]) / 2
        c, d = (tuple(half if k == axis else end[k] for k in (0, 1)) for end in (a, b))
        for i in range(count + 1):
            t = i / count
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(sum(w * p[k] for w, p in zip(weights, (a, c, d, b))) for k in (0, 1))


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_apart_and_edges_do_not_run_through_them(seed, upright):
    sizes, edges, around = graph(seed)
    titles = dict.fromkeys(("outer", "inner", "other"), 80.0)
    layout = arrange(sizes, edges, around, titles, upright)
    boxes = layout.boxes
    assert {key: tuple(box[2:]) for key, box in boxes.items()} == sizes
    assert all(apart(boxes[a], boxes[b]) for a in boxes for b in boxes if a < b)
    for key, box in boxes.items():
        for name, frame in layout.frames.items():
            if name in around[key]:
                corners = [(box[0], box[1]), (box[0] + box[2], box[1] + box[3])]
                assert all(inside(corner, frame) for corner in corners)
            else:
                assert apart(box, frame)
    for edge, points in layout.routes.items():
        assert not [1 for p in samples(points, int(upright)) for box in boxes.values() if inside(p, box)], edge
        for key, point in zip(edge, (points[0], points[-1])):
            x, y, width, height = boxes[key]
            ends = (x, x + width), (y, y + height)
            assert point[upright] == pytest.approx(ends[upright][key is edge[0]]), "at the side that the edge leaves"
            assert point[not upright] == pytest.approx(sum(ends[not upright]) / 2)
    assert all(
        0 <= v <= side + 1e-6 for b in boxes.values() for v, side in zip((b[0] + b[2], b[1] + b[3]), layout.size)
    )


@pytest.mark.parametrize("blocks", [3, 60])
def test_residuals_one_after_the_other_do_not_drift_aside(blocks):
    keys, edges = [0], []
    for _ in range(blocks):
        a, b, c = (keys[-1] + i for i in (0, 1, 2))
        keys += [b, c]
        edges += [(a, b), (b, c), (a, c)]
    layout = arrange(dict.fromkeys(keys, (100, 20)), edges, dict.fromkeys(keys, ()), {})
    assert layout.size[0] < 200


def test_few_edges_cross():
    """A ladder whose sides come in turn needs no crossing, in whatever order its boxes are given."""
    keys = ["top", *[f"{side}{i}" for i in range(6) for side in ("ab", "ba")[i % 2]], "end"]
    edges = [("top", "a0"), ("top", "b0"), ("a5", "end"), ("b5", "end")]
    edges += [(f"{side}{i}", f"{side}{i + 1}") for side in "ab" for i in range(5)]
    boxes = arrange(dict.fromkeys(keys, (40, 20)), edges, dict.fromkeys(keys, ()), {}).boxes
    assert len({boxes[f"a{i}"][0] < boxes[f"b{i}"][0] for i in range(6)}) == 1


def test_an_edge_back_is_drawn_upwards():
    layout = arrange(dict.fromkeys("abc", (40, 20)), [("a", "b"), ("b", "c"), ("c", "a")], dict.fromkeys("abc", ()), {})
    points = layout.routes["c", "a"]
    assert points[0][1] > points[-1][1]
