"""The page of a source check: significance, theta squared, spectrum, light curve, and a quick look at each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lstops
from lstops.report.drawing import as_svg, data_uri
from lstops.report.look_plots import look_views, looks_words
from lstops.report.night import source_facts
from lstops.report.page import render
from lstops.report.source import SourceCheck
from lstops.report.source_plots import draw_light_curve, draw_spectrum, draw_theta2

_SIZE_INCH = (5.4, 3.8)


def check_page(check: SourceCheck) -> str:
    """One HTML file without scripts and without anything from the network; all text from outside is escaped."""
    plots: list[tuple[str, Callable[[Any, SourceCheck], None]]] = [("theta squared, on and off", draw_theta2)]
    if check.spectrum:
        plots.append(("spectrum against the reference", draw_spectrum))
    if check.light_curve:
        plots.append(("flux of each run", draw_light_curve))
    return render(
        "check.html.j2",
        check=check,
        facts=source_facts(check),
        version=lstops.__version__,
        plots=[{"alt": alt, "src": _image(draw, check)} for alt, draw in plots],
        looks=look_views(check),
        looks_words=looks_words(check),
    )


def _image(draw: Callable[[Any, SourceCheck], None], check: SourceCheck) -> str:
    return data_uri(as_svg(lambda figure: draw(figure.subplots(), check), _SIZE_INCH))
