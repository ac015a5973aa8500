"""`keras.ops.image`: resizing, warping, filtering and colours of images, in batches or alone."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import ndimage

from lamina import random
from lamina.core import checks, dtypes
from lamina.core.dtypes import standardize_data_format
from lamina.core.symbolic import op
from lamina.ops import control, cpu, filters, sampling
from lamina.ops.windows import each, window_of

RESIZES = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
_SCALINGS = ("linear", "bilinear", "trilinear", "cubic", "bicubic", "tricubic", "lanczos3", "lanczos5")


def _images(who: str, images: Any, ranks: tuple[int, ...] = (3, 4)) -> Any:
    images = jnp.asarray(images)
    if images.ndim not in ranks:
        raise ValueError(f"{who}: images must have {' or '.join(map(str, ranks))} axes, got shape {images.shape}.")
    return images


def _axes(data_format: str | None) -> tuple[int, int, int]:
    """The axes of height, width and channels, from the end."""
    return (-3, -2, -1) if standardize_data_format(data_format) == "channels_last" else (-2, -1, -3)


def by_batch(who: str, images: Any, data_format: str | None, fn: Callable[[Any], Any], rank: int = 4) -> Any:
    """`fn` on a batch with channels last, and its result in the order of `images`, alone if they were."""
    images = _images(who, images, (rank - 1, rank))
    channels = -1 if standardize_data_format(data_format) == "channels_last" else 1 - rank
    batch = images if images.ndim == rank else images[None]
    out = jnp.moveaxis(fn(jnp.moveaxis(batch, channels, -1)), -1, channels)
    return out if images.ndim == rank else out[0]


@op
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Any:
    """0.2989 red + 0.5870 green + 0.1140 blue, as one channel."""
    images, axis = _images("rgb_to_grayscale", images), _axes(data_format)[2]
    if images.shape[axis] not in (1, 3):
        raise ValueError(f"rgb_to_grayscale: images must have 1 or 3 channels, got shape {images.shape}.")
    if images.shape[axis] == 1:
        return images
    weights = jnp.asarray([0.2989, 0.5870, 0.1140], jnp.result_type(images.dtype, float))
    gray = jnp.tensordot(images.astype(weights.dtype), weights, axes=(axis, -1))
    return jnp.expand_dims(gray, axis).astype(images.dtype)


def _colours(who: str, images: Any, axis: int) -> list[Any]:
    """The three channels."""
    if not jnp.issubdtype(images.dtype, jnp.floating) or images.shape[axis] != 3:
        given = f"{images.dtype.name} and shape {images.shape}"
        raise ValueError(f"{who}: images must be of a float dtype and have 3 channels, got {given}.")
    return planes(images, axis)


def planes(images: Any, axis: int) -> list[Any]:
    """The channels. Their gradients are put side by side, when all are there."""
    return [plane.squeeze(axis) for plane in _gradient_first(lax.split(images, (1,) * images.shape[axis], axis))]


@jax.custom_jvp
def _gradient_first(x: Any) -> Any:
    """`x`, whose gradient is computed once and kept: XLA would compute it for each of its uses again."""
    return x


@_gradient_first.defjvp
def _gradient_first_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    return primals[0], lax.optimization_barrier(tangents[0])


@op
def rgb_to_hsv(images: Any, data_format: str | None = None) -> Any:
    """Hue, saturation and value, each from 0 to 1, of red, green and blue."""
    images, axis = _images("rgb_to_hsv", images), _axes(data_format)[2]
    tiny = jnp.abs(images) < jnp.finfo(dtypes.floating(images.dtype)).eps
    red, green, blue = _colours("rgb_to_hsv", jnp.where(tiny, 0, images), axis)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    span = value - jnp.minimum(jnp.minimum(red, green), blue)
    saturation = jnp.where(value > 0, span / jnp.where(value > 0, value, 1), 0)
    sixth = 1 / (6 * jnp.where(span > 0, span, 1))
    hue = jnp.where(value == green, sixth * (blue - red) + 2 / 6, sixth * (red - green) + 4 / 6)
    hue = jnp.where(value == red, sixth * (green - blue), hue)
    hue = jnp.where(span > 0, hue, 0) + (hue < 0).astype(hue.dtype)
    return jnp.stack([hue, saturation, value], axis)


@op
def hsv_to_rgb(images: Any, data_format: str | None = None) -> Any:
    """Red, green and blue of hue, saturation and value."""
    images, axis = _images("hsv_to_rgb", images), _axes(data_format)[2]
    hue, saturation, value = _colours("hsv_to_rgb", images, axis)
    angle = jnp.mod(hue, 1) * 6
    pure = (jnp.abs(angle - 3) - 1, 2 - jnp.abs(angle - 2), 2 - jnp.abs(angle - 4))
    return jnp.stack([value * (1 - saturation + saturation * jnp.clip(colour, 0, 1)) for colour in pure], axis)


@op
def resize(
    images: Any, size: Sequence[int], interpolation: str = "bilinear", antialias: bool = False,
    crop_to_aspect_ratio: bool = False, pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant", fill_value: float = 0.0, data_format: str | None = None,
) -> Any:  # fmt: skip
    """Images in another size.

    Args:
        images: one or a batch.
        size: (height, width).
        interpolation: `"bilinear"`, `"nearest"`, `"lanczos3"`, `"lanczos5"` or `"bicubic"`.
        antialias: whether to smooth what is made smaller.
        crop_to_aspect_ratio: cut the longer side first, so that nothing is stretched.
        pad_to_aspect_ratio: pad the shorter side first, so that nothing is stretched.
        fill_mode: `"constant"`.
        fill_value: what to pad with.
        data_format: where the channels are.
    """
    images, (h, w, _) = _images("resize", images), _axes(data_format)
    checks.one_of("resize", "interpolation", interpolation, RESIZES)
    checks.one_of("resize", "fill_mode", fill_mode, ("constant",))
    size = checks.height_and_width("resize", "size", size)
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("resize: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be set.")
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        height, width = images.shape[h], images.shape[w]
        fitting = {h: int(width * size[0] / size[1]), w: int(height * size[1] / size[0])}
        for axis, length in fitting.items():
            images = _cut(images, axis, length) if crop_to_aspect_ratio else _widen(images, axis, length, fill_value)
    shape = list(images.shape)
    shape[h], shape[w] = size
    out = jax.image.resize(images, shape, method=interpolation, antialias=antialias)
    if images.dtype.kind in "iu":
        return control.saturate_cast(jnp.round(out), images.dtype)
    return out.astype(images.dtype)


def _cut(images: Any, axis: int, length: int) -> Any:
    """The middle along an axis, where that is longer."""
    present = images.shape[axis]
    start = (present - max(min(present, length), 1)) // 2
    return lax.slice_in_dim(images, start, start + max(min(present, length), 1), axis=axis)


def _widen(images: Any, axis: int, length: int, fill_value: float) -> Any:
    """As much on both sides of an axis, where that is shorter."""
    edges = [(0, 0)] * images.ndim
    edges[axis] = (max(length - images.shape[axis], 0) // 2,) * 2
    return jnp.pad(images, edges, constant_values=fill_value)


@op
def affine_transform(
    images: Any, transform: Any, interpolation: str = "bilinear", fill_mode: str = "constant",
    fill_value: Any = 0, data_format: str | None = None,
) -> Any:  # fmt: skip
    """Images whose place (x, y) shows (a0 x + a1 y + a2, b0 x + b1 y + b2) of the given ones.

    Args:
        images: one or a batch.
        transform: (a0, a1, a2, b0, b1, b2, 0, 0), for all images or for each.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode: what lies outside: `"constant"`, `"nearest"`, `"wrap"`, `"mirror"` or `"reflect"`.
        fill_value: the constant.
        data_format: where the channels are.
    """
    checks.one_of("affine_transform", "interpolation", interpolation, sampling.INTERPOLATIONS)
    checks.one_of("affine_transform", "fill_mode", fill_mode, sampling.FILLS)
    transform = jnp.asarray(transform)
    if transform.ndim not in (1, 2) or transform.shape[-1] != 8:
        raise ValueError(f"affine_transform: transform must have shape (8,) or (batch, 8), got {transform.shape}.")
    maps = sampling.affine_map(jnp.atleast_2d(transform).at[:, 6:].set(0))
    options = (maps.astype(dtypes.floating(maps.dtype)), interpolation, fill_mode, fill_value)
    return by_batch("affine_transform", images, data_format, lambda batch: sampling.warp(batch, *options))


@op
def perspective_transform(
    images: Any, start_points: Any, end_points: Any, interpolation: str = "bilinear",
    fill_value: Any = 0, data_format: str | None = None,
) -> Any:  # fmt: skip
    """Images drawn so that the four points (x, y) `start_points` come to lie at `end_points`.

    Args:
        images: one or a batch.
        start_points: (4, 2), or (batch, 4, 2).
        end_points: of the same shape.
        interpolation, fill_value, data_format: see `affine_transform`; outside lies the constant.
    """
    checks.one_of("perspective_transform", "interpolation", interpolation, sampling.INTERPOLATIONS)
    start, end = (jnp.asarray(points, "float32") for points in (start_points, end_points))
    fit = start.shape == end.shape and start.shape[-2:] == (4, 2) and start.ndim in (2, 3)
    rule = "start_points and end_points must both have shape (4, 2) or (batch, 4, 2)"
    checks.require(fit, "perspective_transform", rule, got=f"{start.shape} and {end.shape}")
    maps = sampling.homography(*(points.reshape(-1, 4, 2) for points in (start, end)))
    options = (maps, interpolation, "constant", fill_value)
    return by_batch("perspective_transform", images, data_format, lambda batch: sampling.warp(batch, *options))


@op
def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Any:
    """Images moved, place by place, by smooth random distances (Simard, 2003).

    Args:
        images: one or a batch.
        alpha: how far.
        sigma: how smoothly.
        seed: `None`, an integer or a `SeedGenerator`.
        interpolation, fill_mode, fill_value, data_format: see `affine_transform`.
    """
    checks.one_of("elastic_transform", "interpolation", interpolation, sampling.INTERPOLATIONS)
    checks.one_of("elastic_transform", "fill_mode", fill_mode, sampling.FILLS)

    def warp(batch: Any) -> Any:
        # Keras draws both components with one key, so they are one: places move along the diagonal.
        draw = random.normal(batch.shape[:3], dtype=batch.dtype.name, seed=seed) * sigma
        size = int(6 * sigma) | 1
        moved = alpha * _blur(draw[..., None], (size, size), (sigma, sigma))[..., 0]
        rows, columns = sampling.grid(*batch.shape[1:3])
        return sampling.sample(batch, rows + moved, columns + moved, interpolation, fill_mode, fill_value)

    return by_batch("elastic_transform", images, data_format, warp)


@op
def map_coordinates(inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: Any = 0) -> Any:
    """The values of an array at places between its own.

    Args:
        inputs: an array.
        coordinates: for each of its axes an array of places.
        order: 0 (nearest) or 1 (linear).
        fill_mode, fill_value: see `affine_transform`.
    """
    inputs, coordinates = jnp.asarray(inputs), jnp.asarray(coordinates)
    checks.one_of("map_coordinates", "fill_mode", fill_mode, sampling.FILLS)
    checks.one_of("map_coordinates", "order", order, (0, 1))
    fit = coordinates.ndim >= 2 and coordinates.shape[0] == inputs.ndim
    rule = f"coordinates must have shape ({inputs.ndim}, ...) for inputs of shape {inputs.shape}"
    checks.require(fit, "map_coordinates", rule, coordinates.shape)
    return ndimage.map_coordinates(inputs, coordinates, order, fill_mode, fill_value)


@op
def scale_and_translate(
    images: Any,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Any:
    """Images with the axes `spatial_dims` scaled and moved, in another shape.

    Args:
        images: an array.
        output_shape: the shape of the result.
        scale: a factor for each of the axes.
        translation: a distance for each of the axes, in places of the result.
        spatial_dims: the axes.
        method: `"linear"`, `"cubic"`, `"lanczos3"`, `"lanczos5"`, and `"bilinear"`, ... for the same.
        antialias: whether to smooth what is made smaller.
    """
    checks.one_of("scale_and_translate", "method", method, _SCALINGS)
    images, scale, translation = (jnp.asarray(a) for a in (images, scale, translation))
    return jax.image.scale_and_translate(images, output_shape, spatial_dims, scale, translation, method, antialias)


def _fill_in(who: str, names: str, length: int, values: tuple[Any, Any, Any], sign: int) -> tuple[int, int]:
    """(before, after) of which one may follow from the target: target = length + sign (before + after)."""
    before, after, target = values
    checks.require([before, after, target].count(None) == 1, who, f"exactly two of {names} must be given", values)
    if before is None:
        before = sign * (target - length) - after
    elif after is None:
        after = sign * (target - length) - before
    if min(before, after, length + sign * (before + after)) < 0:
        raise ValueError(f"{who}: {names} must be at least 0 for a size of {length}, got {values}.")
    return before, after


@op
def pad_images(
    images: Any,
    top_padding: int | None = None, left_padding: int | None = None,
    bottom_padding: int | None = None, right_padding: int | None = None,
    target_height: int | None = None, target_width: int | None = None,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """Images with zeros around them; of top, bottom and target height two are given, and likewise of width."""
    images, (h, w, _) = _images("pad_images", images), _axes(data_format)
    rows, columns = (top_padding, bottom_padding, target_height), (left_padding, right_padding, target_width)
    edges = [(0, 0)] * images.ndim
    edges[h] = _fill_in("pad_images", "top_padding, bottom_padding, target_height", images.shape[h], rows, 1)
    edges[w] = _fill_in("pad_images", "left_padding, right_padding, target_width", images.shape[w], columns, 1)
    return jnp.pad(images, edges)


@op
def crop_images(
    images: Any,
    top_cropping: int | None = None, left_cropping: int | None = None,
    bottom_cropping: int | None = None, right_cropping: int | None = None,
    target_height: int | None = None, target_width: int | None = None,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """The middle of images; of top, bottom and target height two are given, and likewise of width."""
    images, (h, w, _) = _images("crop_images", images), _axes(data_format)
    rows, columns = (top_cropping, bottom_cropping, target_height), (left_cropping, right_cropping, target_width)
    top, bottom = _fill_in("crop_images", "top_cropping, bottom_cropping, target_height", images.shape[h], rows, -1)
    left, right = _fill_in("crop_images", "left_cropping, right_cropping, target_width", images.shape[w], columns, -1)
    images = lax.slice_in_dim(images, top, images.shape[h] - bottom, axis=h)
    return lax.slice_in_dim(images, left, images.shape[w] - right, axis=w)


@op
def extract_patches(
    images: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """The windows of images (or, for three sizes, of volumes), each as one vector of its values.

    Args:
        images: one or a batch.
        size: of a window, one or one for each axis.
        strides: the step of the window, `size` if not given.
        dilation_rate: the distance of the window's places.
        padding: `"valid"` or `"same"`.
        data_format: where the channels are.

    Shapes:
        (batch, height, width, channels) -> (batch, rows, columns, size * size * channels)
    """
    rank = 2 if isinstance(size, int) else len(size)
    checks.require(rank in (2, 3), "extract_patches", "size must be an integer or 2 or 3 of them", size)
    sizes = each(size, rank, "extract_patches: size")

    def cut(batch: Any) -> Any:
        kernel = jax.ShapeDtypeStruct((*sizes, batch.shape[-1], 1), batch.dtype)
        steps = strides or sizes
        window = window_of("extract_patches", batch, kernel, steps, padding, "channels_last", dilation_rate)
        return jnp.concatenate(list(cpu.seen(batch, sizes, window)), axis=-1)

    return by_batch("extract_patches", images, data_format, cut, rank + 2)


def extract_patches_3d(
    volumes: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """The windows of volumes, each as one vector of its values. Arguments as for `extract_patches`."""
    sizes = each(size, 3, "extract_patches_3d: size")
    return extract_patches(volumes, sizes, strides, dilation_rate, padding, data_format)


def _blur(batch: Any, kernel_size: Sequence[int], sigma: Sequence[Any], padding: str = "same") -> Any:
    across, down = (filters.gaussian(size, s, batch.dtype) for size, s in zip(kernel_size, sigma))
    return filters.separable(batch, down, across, padding)


@op
def gaussian_blur(
    images: Any,
    kernel_size: Sequence[int] = (3, 3),
    sigma: Sequence[float] = (1.0, 1.0),
    data_format: str | None = None,
) -> Any:
    """Images smoothed by a Gaussian window.

    Args:
        images: one or a batch.
        kernel_size: the width and height of the window.
        sigma: the standard deviation of each.
        data_format: where the channels are.
    """
    return by_batch("gaussian_blur", images, data_format, lambda batch: _blur(batch, kernel_size, sigma))


@op
def sobel_edges(images: Any, data_format: str | None = None) -> Any:
    """The change downwards and to the right, by Sobel's windows, along a new last axis."""
    images, smooth, change = _images("sobel_edges", images, (4,)), (1, 2, 1), (-1, 0, 1)
    windows = ((change, smooth), (smooth, change))
    edges = [
        by_batch("sobel_edges", images, data_format, lambda batch, window=window: filters.separable(batch, *window))
        for window in windows
    ]
    return jnp.stack(edges, axis=-1)


@op
def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Any:
    """The structural similarity of images, at most 1 (Wang et al., 2004).

    Args:
        image1: one or a batch.
        image2: of the same shape.
        max_val: the range of the values.
        filter_size: the size of the Gaussian window.
        filter_sigma: its standard deviation.
        k1, k2: small constants that keep the quotient finite.
        data_format: where the channels are.
    """
    pair = [_images("ssim", image) for image in (image1, image2)]
    dtype, axes = pair[0].dtype, _axes(data_format)
    wide = jnp.promote_types(dtype, jnp.float32)  # the variances are small differences of squares
    x, y = (jnp.moveaxis(image, axes[2], -1).astype(wide) for image in pair)
    x, y = (image[None] if image.ndim == 3 else image for image in (x, y))
    blur = functools.partial(_blur, kernel_size=(filter_size,) * 2, sigma=(filter_sigma,) * 2, padding="valid")
    mean_x, mean_y = blur(x), blur(y)
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    quotient = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    quotient = quotient / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    means = quotient.mean((1, 2, 3)).astype(dtype)
    return means[0] if pair[0].ndim == 3 else means
