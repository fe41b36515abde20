"""The nodes of a production on the sky, coloured by state."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstops.errors import ConfigError, StorageError
from lstops.production.status import ProductionStatus, StepState
from lstops.production.summary import EVERY_LINE, NodeTally, Tally, by_node, by_stage_and_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which people with any colour vision tell apart, and a shape of its own for each state, so
#: that the picture can be read without colours too.
STYLES = {
    StepState.DONE: ("#0072B2", "o"),
    StepState.FAILED: ("#D55E00", "X"),
    StepState.READY: ("#E69F00", "^"),
    StepState.WAITING: ("#BBBBBB", "s"),
}
_FORMATS = (".png", ".svg", ".html")


def draw_production(status: ProductionStatus) -> Figure:
    """One sky for the training nodes, one for the test nodes; north is up, east to the right as in azimuth."""
    from matplotlib.figure import Figure

    nodes = by_node(status)
    figure = Figure(figsize=(11, 6.4))
    figure.subplots_adjust(left=0.04, right=0.96, top=0.80, bottom=0.10, wspace=0.12)
    total = Tally.of(status.states)
    figure.suptitle(f"{status.outline.production}: {total.done} of {total.expected} steps done", y=0.97)
    parts = (
        ("training nodes", [n for n in nodes if n.is_training]),
        ("test nodes", [n for n in nodes if not n.is_training]),
    )
    for position, (title, members) in enumerate(parts, start=1):
        _draw_sky(figure.add_subplot(1, 2, position, projection="polar"), title, members)
    figure.legend(handles=_legend(), loc="lower center", ncols=len(STYLES), frameon=False)
    return figure


def _draw_sky(axes: Any, title: str, nodes: Sequence[NodeTally]) -> None:
    import numpy as np

    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_title(f"{title}: {sum(n.tally.state is StepState.DONE for n in nodes)} of {len(nodes)} whole")
    axes.set_rlim(0, 90)
    axes.set_rgrids([20, 40, 60, 80], labels=["20°", "40°", "60°", "80°"], fontsize=8)
    axes.set_thetagrids([0, 90, 180, 270], labels=["N", "E", "S", "W"])
    for state, (colour, marker) in STYLES.items():
        members = [n.node for n in nodes if n.tally.state is state]
        azimuth = np.radians([node.az_deg for node in members])
        axes.scatter(azimuth, [node.zd_deg for node in members], c=colour, marker=marker, s=45, zorder=3,
                     edgecolors="black", linewidths=0.4)  # fmt: skip


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], linestyle="", marker=marker, color=colour, markeredgecolor="black", markersize=8, label=state.value
        )
        for state, (colour, marker) in STYLES.items()
    ]


def write_picture(status: ProductionStatus, path: Path) -> None:
    """Write the picture in the format that the name of the file says.

    Raises
    ------
    ConfigError
        If it is none of .png, .svg, .html.
    StorageError
        If the file cannot be written.
    """
    if path.suffix not in _FORMATS:
        raise ConfigError(f"{path.name!r} is no picture that can be written.", f"end it in {', '.join(_FORMATS)}.")
    buffer = io.BytesIO()
    draw_production(status).savefig(buffer, format="svg" if path.suffix == ".html" else path.suffix[1:], dpi=130)
    content = _page(status, buffer.getvalue()) if path.suffix == ".html" else buffer.getvalue()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}.", "choose another folder.") from error


def _lines(status: ProductionStatus) -> str:
    """Where each line has got to: a row a line, a column a stage; the table after it has all numbers."""
    tallies = by_stage_and_line(status)
    stages = list(dict.fromkeys(stage for stage, _ in tallies))
    heads = "".join(f"<th>{html.escape(stage)}</th>" for stage in ("line", *stages))
    rows = ""
    for line in sorted({line for _, line in tallies}):
        cells = ""
        for stage in stages:
            tally = tallies.get((stage, line))
            if tally is None:
                cells += "<td></td>"
                continue
            state = tally.state
            what = f"{tally.failed} failed" if tally.failed else state.value
            cells += (
                f"<td style='border-left:.4em solid {STYLES[state][0]}'>{tally.done} of {tally.expected}"
                f"<br><small>{what}</small></td>"
            )
        rows += f"<tr><td>{html.escape(line or EVERY_LINE)}</td>{cells}</tr>"
    return f"<h2>Lines</h2><table>{heads}{rows}</table>"


def _page(status: ProductionStatus, svg: bytes) -> bytes:
    title = html.escape(status.outline.title)
    rows = "".join(
        f"<tr><td>{html.escape(stage)}</td><td>{html.escape(line or EVERY_LINE)}</td>"
        + "".join(f"<td>{number}</td>" for number in (t.expected, t.done, t.failed, t.ready, t.waiting))
        + "</tr>"
        for (stage, line), t in by_stage_and_line(status).items()
    )
    heads = "".join(f"<th>{h}</th>" for h in ("stage", "line", "expected", "done", "failed", "to do", "waiting"))
    picture = base64.b64encode(svg).decode()
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}"
        "td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}img{max-width:100%}</style>"
        f"<h1>{title}</h1><img alt='nodes on the sky, coloured by state; the table below has the numbers' "
        f"src='data:image/svg+xml;base64,{picture}'>{_lines(status)}<h2>Stages</h2><table><tr>{heads}</tr>{rows}</table></html>"
    ).encode()
