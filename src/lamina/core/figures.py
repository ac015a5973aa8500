"""Figures of matplotlib that belong to nobody but the caller: no window, no backend chosen, none left open."""

from __future__ import annotations

import functools
import io
import warnings
from typing import TYPE_CHECKING, Any

from lamina.core.later import Later

if TYPE_CHECKING:
    import matplotlib.backends.backend_agg
    import matplotlib.figure
else:
    matplotlib = Later("matplotlib.figure", "matplotlib.backends.backend_agg", install="matplotlib")

# Colours that people with any kind of sight tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#666666"


@functools.cache
def figure_class() -> Any:
    """The class of our figures: that of matplotlib, which a notebook shows also where pyplot was never loaded."""

    class Picture(matplotlib.figure.Figure):
        def _repr_png_(self) -> bytes:
            return image_of(self, "png", dpi=100)

    return Picture


def new_figure(width: float, height: float, **kwargs: Any) -> Any:
    """A figure of this many inches that pyplot does not know of."""
    figure = figure_class()(figsize=(width, height), **kwargs)
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    return figure


def image_of(figure: Any, file_format: str, **kwargs: Any) -> bytes:
    """A figure as the bytes of an image file. Characters that the font lacks become boxes without a word."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format=file_format, **kwargs)
    return buffer.getvalue()
