"""Figures of matplotlib that belong to the caller alone: no backend is chosen, and none is left open in pyplot."""

import functools
import io
import os
import warnings
from typing import TYPE_CHECKING, Any

from lamina.core import checks
from lamina.core.files import write_whole
from lamina.core.later import Later

if TYPE_CHECKING:
    import matplotlib.figure
    import matplotlib.patches
    import matplotlib.path
else:
    matplotlib = Later("matplotlib.figure", "matplotlib.patches", "matplotlib.path", install="matplotlib")

screen: Any = Later("matplotlib.pyplot", install="matplotlib")

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#666666"  # told apart by all kinds of eyes (Okabe and Ito, 2008)


@functools.cache
def _figure_class() -> Any:
    class Picture(matplotlib.figure.Figure):
        """A figure that a notebook shows also where pyplot was never loaded."""

        def _repr_png_(self) -> bytes:
            return image_of("Picture", self, "png", dpi=100)

    return Picture


def new_figure(width: float, height: float, shown: bool = False, **kwargs: Any) -> Any:
    """A figure of this many inches; pyplot knows of it until `show`, if it is to be shown."""
    if shown:
        return screen.pyplot.figure(FigureClass=_figure_class(), figsize=(width, height), **kwargs)
    return _figure_class()(figsize=(width, height), **kwargs)


def show(figure: Any) -> Any:
    """Let pyplot show a figure; what is returned is the figure, but in a notebook, which would show it twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a screen there is nothing to show
        screen.pyplot.show()
    screen.pyplot.close(figure)
    return None if "inline" in screen.pyplot.get_backend() else figure


def image_of(who: str, figure: Any, file_format: str, **kwargs: Any) -> bytes:
    """A figure as the bytes of an image file. What the font lacks becomes boxes, no warning; SVG keeps texts."""
    checks.one_of(who, "the format", file_format, sorted(figure.canvas.get_supported_filetypes()))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format=file_format, **kwargs)
    return buffer.getvalue()


def save(who: str, figure: Any, path: Any, **kwargs: Any) -> None:
    """Write a figure to a file, all or nothing; PNG if its name has no ending."""
    ending = os.path.splitext(checks.path(who, "path", path))[1][1:].lower()
    write_whole(path, image_of(who, figure, ending or "png", **kwargs))
