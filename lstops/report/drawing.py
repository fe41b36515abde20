"""How reports draw: figures as SVG that needs nothing else, and the colours that mean the same in every plot."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

#: blue and orange can be told apart with every kind of colour vision; the markers say it again
GOOD, BAD, STOPPED, OTHER = "#1f5fa8", "#d9730d", "#b3261e", "#8a939b"
#: people's decisions, limits and small print
INK, LIMIT, SOFT = "#1d2730", "#6f42a0", "#5b6670"
_GRID = "#e4e7ea"
#: resolution of the parts of a figure that are drawn as pixels because they are too many
_DPI = 105
#: more points than this are drawn as pixels inside the SVG: 15 000 of them as paths would be megabytes
MANY = 400


def as_svg(draw: Callable[[Any], None], size_inch: tuple[float, float]) -> bytes:
    """Draw into a new figure and return it as SVG.

    Parameters
    ----------
    draw : callable
        Takes the figure.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        # text as text: smaller and sharp; hashsalt: the same data give the same file
        "svg.fonttype": "none",
        "svg.hashsalt": "lstops",
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 10,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size_inch, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": "lstops"})
    return buffer.getvalue()


def data_uri(svg: bytes) -> str:
    """A figure as the address of an image, so that a page holds it.

    Not as base64: the pixels inside are that already, and twice would be a third more.
    """
    return "data:image/svg+xml;charset=utf-8," + quote(svg, safe="/+=:;,()@!$*'? ")


def tidy(axis: Any, *, grid: bool = True) -> None:
    """Give axes the look of the reports."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    if grid:
        axis.grid(visible=True, color=_GRID, lw=0.7)


def say(axis: Any, words: str) -> None:
    """Write into empty axes why they are empty."""
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", color=OTHER)


def plain(name: str) -> str:
    """A name that matplotlib does not take for TeX."""
    return name.replace("$", r"\$")
