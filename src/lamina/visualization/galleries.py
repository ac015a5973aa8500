"""Figures of many images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lamina.core import figures
from lamina.core.figures import matplotlib
from lamina.layers.preprocessing.base import BYTES, scaled, value_range_of
from lamina.visualization.drawing import draw_bounding_boxes, draw_segmentation_masks, images_of, named


def _pixels(who: str, images: Any, value_range: Sequence[float], data_format: str | None) -> np.ndarray:
    """Images from 0 to 255, channels last."""
    array = images_of(who, images, data_format)
    return np.clip(scaled(array, value_range_of(who, value_range), BYTES), *BYTES).astype("uint8")


def plot_image_gallery(
    images: Any, y_true: Any = None, y_pred: Any = None, label_map: Any = None, rows: int | None = None,
    cols: int | None = None, value_range: Sequence[float] = (0, 255), scale: float = 2, path: Any = None,
    show: bool | None = None, transparent: bool = True, dpi: float = 60, legend_handles: Any = None,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """A figure of images side by side, with their labels above them.

    Args:
        images: (batch, height, width, channels).
        y_true, y_pred: labels, and those predicted; their names stand above the images.
        label_map: names by label, in a dict or a list.
        rows, cols: how many; as many as all images need if not given.
        value_range: the smallest and largest value of a pixel.
        scale: inches for an image.
        path: a file to write.
        show: whether pyplot shows it at once; if not given, where there is no path.
        transparent: whether what is not an image is transparent in the file.
        dpi: dots an inch of the file.
        legend_handles: what matplotlib takes as `handles` of a legend.
        data_format: where the images have their channels.

    Returns:
        The figure; nothing where a notebook has just shown it.

    Raises: ValueError if an argument is none of these, and with `path` and `show`, or labels and no `label_map`.
    """
    who = "plot_image_gallery"
    if path is not None and show:
        raise ValueError(f"{who}: only one of path and show must be given, got {path!r} and {show!r}.")
    if (y_true is not None or y_pred is not None) and label_map is None:
        raise ValueError(f"{who}: label_map must be given where labels are, got None.")
    pixels, names = _pixels(who, images, value_range, data_format), named(label_map)
    rows = rows or math.ceil(len(pixels) / cols if cols else math.sqrt(len(pixels)))
    cols = cols or math.ceil(len(pixels) / rows)
    shown = path is None if show is None else show
    figure = figures.new_figure(cols * scale, rows * scale, shown=shown, layout="constrained", frameon=False)
    labels = [(kind, np.ravel(y)) for kind, y in (("Label", y_true), ("Pred", y_pred)) if y is not None]
    for i, axes in enumerate(figure.subplots(rows, cols, squeeze=False).flat):
        axes.axis("off")
        if i < len(pixels):
            axes.imshow(pixels[i], cmap="gray", vmin=0, vmax=255)
            parts = [f"{kind}: {names.get(y[i].item(), 'Unknown')}" for kind, y in labels if i < len(y)]
            line = "  ".join(parts)
            axes.set_title(line if len(line) <= 12 * scale else "\n".join(parts), fontsize=8, parse_math=False)
    if legend_handles is not None:
        figure.legend(handles=legend_handles, loc="outside lower center", ncols=2)
    if path is not None:
        figures.save(who, figure, path, transparent=transparent, dpi=dpi, bbox_inches="tight", pad_inches=0)
    return figures.show(figure) if shown else figure


def plot_bounding_box_gallery(
    images: Any, bounding_box_format: str, y_true: Any = None, y_pred: Any = None,
    value_range: Sequence[float] = (0, 255), true_color: Sequence[int] = (0, 188, 212),
    pred_color: Sequence[int] = (255, 235, 59), line_thickness: int = 2, font_scale: float = 1.0,
    text_thickness: int | None = None, class_mapping: Any = None, ground_truth_mapping: Any = None,
    prediction_mapping: Any = None, legend: bool = False, legend_handles: Any = None, rows: int | None = None,
    cols: int | None = None, data_format: str | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """A figure of images with their boxes, and those predicted.

    Args:
        images, value_range, rows, cols, data_format, legend_handles: as in `plot_image_gallery`.
        bounding_box_format, line_thickness, text_thickness, font_scale: as in `draw_bounding_boxes`.
        y_true, y_pred: {"boxes": ..., "labels": ...}, as there.
        true_color, pred_color: the colors of the two.
        class_mapping, ground_truth_mapping, prediction_mapping: names by label, for both and for each.
        legend: whether there is a legend of the two colors.
        kwargs: of `plot_image_gallery`.

    Raises: ValueError if an argument is none of these, and with both `legend` and `legend_handles`.
    """
    who = "plot_bounding_box_gallery"
    if legend and legend_handles:
        raise ValueError(f"{who}: only one of legend and legend_handles must be given, got both.")
    pixels = _pixels(who, images, value_range, data_format)
    pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels  # boxes have colors
    style: dict[str, Any] = {"line_thickness": line_thickness, "text_thickness": text_thickness}
    kinds = [
        ("Ground Truth", y_true, true_color, ground_truth_mapping),
        ("Prediction", y_pred, pred_color, prediction_mapping),
    ]
    for _, boxes, color, names in kinds:
        if boxes is not None:
            style.update(color=color, class_mapping=names or class_mapping, font_scale=font_scale)
            pixels = draw_bounding_boxes(pixels, boxes, bounding_box_format, data_format="channels_last", **style)
    if legend:
        legend_handles = [matplotlib.patches.Patch(color=f"#{bytes(k[2]).hex()}", label=k[0]) for k in kinds]
    layout = {"rows": rows, "cols": cols, "legend_handles": legend_handles, "data_format": "channels_last"}
    return plot_image_gallery(pixels, **layout, **kwargs)


def plot_segmentation_mask_gallery(
    images: Any, num_classes: int, value_range: Sequence[float] = (0, 255), y_true: Any = None, y_pred: Any = None,
    color_mapping: Any = None, blend: bool = True, alpha: float = 0.8, ignore_index: int = -1,
    data_format: str | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """A figure with a row for each image: the image, and with its mask, and with the mask predicted.

    Args:
        images, value_range, data_format: as in `plot_image_gallery`.
        y_true, y_pred: masks, as in `draw_segmentation_masks`.
        num_classes, color_mapping, blend, alpha, ignore_index: as there.
        kwargs: of `plot_image_gallery`.

    Raises: ValueError if an argument is none of these.
    """
    who = "plot_segmentation_mask_gallery"
    pixels = _pixels(who, images, value_range, data_format)
    pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
    columns = [pixels]
    for masks in (y_true, y_pred):
        if masks is not None:
            masks = np.asarray(masks).astype("int32")
            masks = images_of(who, masks, data_format) if masks.ndim == 4 else masks
            own = {"blend": blend, "ignore_index": ignore_index, "data_format": "channels_last"}
            columns.append(draw_segmentation_masks(pixels, masks, num_classes, color_mapping, alpha, **own))
    whole = np.stack(columns, axis=1).reshape(-1, *pixels.shape[1:])
    return plot_image_gallery(whole, rows=len(pixels), cols=len(columns), data_format="channels_last", **kwargs)
