"""Figures of matplotlib that belong to nobody but the caller: no window, no backend chosen, none left open."""

from __future__ import annotations

import functools
import io
import warnings
from typing import TYPE_CHECKING, Any

from lamina.core.later import Later

if TYPE_CHECKING:
    import matplotlib.figure
else:
    matplotlib = Later("matplotlib.figure", install="matplotlib")

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#666666"  # told apart by all kinds of eyes (Okabe and Ito, 2008)


@functools.cache
def _figure_class() -> Any:
    class Picture(matplotlib.figure.Figure):
        """A figure that a notebook shows also where pyplot was never loaded."""

        def _repr_png_(self) -> bytes:
            return image_of(self, "png", dpi=100)

    return Picture


def new_figure(width: float, height: float, **kwargs: Any) -> Any:
    """A figure of this many inches that pyplot does not know of."""
    return _figure_class()(figsize=(width, height), **kwargs)


def image_of(figure: Any, file_format: str, **kwargs: Any) -> bytes:
    """A figure as the bytes of an image file. What the font lacks becomes boxes, no warning; SVG keeps texts."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format=file_format, **kwargs)
    return buffer.getvalue()
