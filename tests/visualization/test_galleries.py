"""Figures of many images."""

import matplotlib.patches
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from lamina.visualization import plot_bounding_box_gallery, plot_image_gallery, plot_segmentation_mask_gallery

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 10, 3)).astype("uint8")
BOXES = {"boxes": np.tile([[[1.0, 1.0, 5.0, 6.0]]], (5, 1, 1)), "labels": np.zeros((5, 1), int)}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert plt.get_fignums() == []


def shown(figure):
    """The images of a figure."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


@pytest.mark.parametrize(
    ("given", "grid"),
    [
        ({}, (3, 2)),
        ({"cols": 5}, (1, 5)),
        ({"rows": 5}, (5, 1)),
        ({"rows": 2, "cols": 2}, (2, 2)),
        ({"cols": 3}, (2, 3)),
    ],
)
def test_all_images_have_a_place(given, grid):
    figure = plot_image_gallery(IMAGES, show=False, **given)
    assert (figure.axes[0].get_gridspec().nrows, figure.axes[0].get_gridspec().ncols) == grid
    assert all(np.array_equal(a, b) for a, b in zip(shown(figure), IMAGES))
    assert len(shown(figure)) == min(5, grid[0] * grid[1])


def test_values_of_every_range_are_shown_alike():
    wanted = shown(plot_image_gallery(IMAGES, show=False))
    for images, value_range in ((IMAGES / 255.0 + 1e-4, (0, 1)), (IMAGES / 127.5 - 1 + 1e-4, (-1, 1))):
        assert np.array_equal(shown(plot_image_gallery(images, value_range=value_range, show=False)), wanted)
    first = plot_image_gallery(IMAGES.transpose(0, 3, 1, 2), data_format="channels_first", show=False)
    assert np.array_equal(shown(first), wanted)
    assert shown(plot_image_gallery(IMAGES[..., :1], show=False))[0].shape[:2] == (8, 10)


@pytest.mark.parametrize("names", [{0: "cat", 1: "$dog"}, ["cat", "$dog"]])
def test_labels_stand_above_the_images(names):
    labels = np.array([0, 1, 1, 0, 2])
    figure = plot_image_gallery(IMAGES, labels[:, None], labels[::-1], names, show=False)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles[0].split() == ["Label:", "cat", "Pred:", "Unknown"] and "Label: $dog" in titles[1]
    assert figure._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize("ending", ["png", "jpg", "pdf"])
def test_a_file_is_written(tmp_path, ending):
    path = tmp_path / f"gallery.{ending}"
    plot_image_gallery(IMAGES, path=path, transparent=False)
    assert path.stat().st_size > 500
    if ending != "pdf":
        with Image.open(path) as image:
            assert image.size[0] > 100


def test_pyplot_shows_where_there_is_no_path(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(plt, "show", lambda *a, **k: calls.append(plt.get_fignums()))
    assert plot_image_gallery(IMAGES).axes
    plot_image_gallery(IMAGES, path=tmp_path / "a.png")
    plot_image_gallery(IMAGES, show=False)
    assert len(calls) == 1 and len(calls[0]) == 1


def test_a_notebook_that_has_shown_a_figure_gets_none(monkeypatch):
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    assert plot_image_gallery(IMAGES) is None


@pytest.mark.parametrize("value_range", [(0, 255), (0, 1)])
def test_boxes_known_and_predicted_have_their_colors(value_range):
    images = np.zeros((5, 8, 10, 1)) + value_range[0]
    moved = {**BOXES, "boxes": BOXES["boxes"] + 2}
    style = {"line_thickness": 1, "legend": True, "show": False, "value_range": value_range}
    figure = plot_bounding_box_gallery(images, "xyxy", BOXES, moved, **style)
    pixels = shown(figure)[0]
    assert pixels[1, 1].tolist() == [0, 188, 212] and pixels[8 - 1, 7].tolist() == [255, 235, 59]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Ground Truth", "Prediction"]
    assert shown(plot_bounding_box_gallery(images, "xyxy", show=False))[0].max() == 0


@pytest.mark.parametrize("first", [False, True])
def test_each_row_has_an_image_and_its_masks(first):
    masks = np.arange(80).reshape(1, 8, 10, 1).repeat(5, 0) % 3
    images, given = (IMAGES.transpose(0, 3, 1, 2), masks.transpose(0, 3, 1, 2)) if first else (IMAGES, masks)
    data_format = "channels_first" if first else "channels_last"
    style = {"alpha": 1.0, "data_format": data_format, "show": False}
    figure = plot_segmentation_mask_gallery(images, 3, y_true=given, y_pred=given * 0, **style)
    image, true, predicted = shown(figure)[:3]
    assert len(shown(figure)) == 15 and np.array_equal(image, IMAGES[0])
    assert len(np.unique(true.reshape(-1, 3), axis=0)) == 3 and not predicted.any()
    assert len(shown(plot_segmentation_mask_gallery(images, 3, data_format=data_format, show=False))) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_image_gallery(IMAGES[0]), "plot_image_gallery: images must be a batch"),
        (lambda: plot_image_gallery(IMAGES, path="a.png", show=True), "only one of path and show"),
        (lambda: plot_image_gallery(IMAGES, y_true=[1]), "label_map must be given where labels are"),
        (lambda: plot_image_gallery(IMAGES, path="a.xyz"), "the format must be one of .*got 'xyz'"),
        (lambda: plot_image_gallery(IMAGES, value_range=(1, 1)), "value_range must be two different numbers"),
        (
            lambda: plot_bounding_box_gallery(
                IMAGES, "xyxy", BOXES, legend=True, legend_handles=[matplotlib.patches.Patch()]
            ),
            "only one of legend and legend_handles",
        ),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
