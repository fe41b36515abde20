"""The reports on Airflow's web page, behind its login: nights and comparisons of reprocessings.

Who may read the DAG `nightly` may read its reports. Only files of the site's report folder are ever served.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, Response

from lstops.errors import LstOpsError
from lstops.night import Night
from lstops.site.layout import Layout
from lstops.site.model import load_site

#: reports come from telescope data: no script of theirs may ever run in the page of somebody who is logged in
_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
}
_LIST = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Night reports</title>
<style>body{{font:15px/1.6 system-ui,sans-serif;margin:24px}}</style></head>
<body><h1>Night reports</h1>{content}{comparisons}</body></html>"""
#: names of reprocessings as `Reprocessing.name` makes them
_REPROCESSING = re.compile(r"^\d{8}-\d{8}_[0-9a-f]{8}$")

app = FastAPI(
    title="lstops reports",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_access_dag("GET", param_dag_id="nightly"))],
)


@app.get("/reports")
def list_of_nights() -> HTMLResponse:
    """Every night that has a report, the newest first."""
    layout = _layout()
    nights = [folder.name for folder in _folder(layout).glob("*") if _is_night(folder.name)]
    links = [
        f'<li><a href="reports/{name}">{escape(Night.parse(name).iso)}</a></li>'
        for name in sorted(nights, reverse=True)
        if _report_path(layout, name)
    ]
    content = f"<ul>{''.join(links)}</ul>" if links else "<p>There are none yet.</p>"
    # links have to work here, scripts nowhere
    headers = _HEADERS | {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return HTMLResponse(_LIST.format(content=content, comparisons=_comparisons(layout)), headers=headers)


def _comparisons(layout: Layout) -> str:
    """The reprocessings that have a page, the latest nights first."""
    names = sorted((folder.name for folder in _folder(layout).glob("reprocessing/*")), reverse=True)
    links = [
        f'<li><a href="reports/reprocessing/{name}">{escape(name)}</a> '
        f'(<a href="reports/reprocessing/{name}/json">JSON</a>)</li>'
        for name in names
        if _comparison_path(layout, name, ".html")
    ]
    return f"<h2>Reprocessings, old and new</h2><ul>{''.join(links)}</ul>" if links else ""


@app.get("/reports/reprocessing/{name}")
def comparison_page(name: Annotated[str, InPath(max_length=64)]) -> HTMLResponse:
    """What a reprocessing changed."""
    return HTMLResponse(_comparison(name, ".html"), headers=_HEADERS)


@app.get("/reports/reprocessing/{name}/json")
def comparison_numbers(name: Annotated[str, InPath(max_length=64)]) -> Response:
    """The same for programs."""
    return Response(_comparison(name, ".json"), media_type="application/json", headers=_HEADERS)


def _comparison(name: str, suffix: str) -> str:
    path = _comparison_path(_layout(), name, suffix)
    if path is None:
        raise HTTPException(404, "There is no such reprocessing, or it has not been compared yet.")
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise HTTPException(404, "There is no such reprocessing, or it has not been compared yet.") from None


def _comparison_path(layout: Layout, name: str, suffix: str) -> Path | None:
    if not _REPROCESSING.match(name):
        return None
    return _served(layout, Path(layout.comparison_report(name)).with_suffix(suffix).as_posix())


@app.get("/reports/{night}")
def night_report(night: Annotated[str, InPath(max_length=64)]) -> HTMLResponse:
    """One night's report."""
    if not _is_night(night):
        raise HTTPException(404, "No such night: give it as YYYYMMDD.")
    layout = _layout()
    path = _report_path(layout, night)
    if path is None:
        raise HTTPException(404, f"There is no report of the night {night}.")
    try:
        return HTMLResponse(path.read_text(encoding="utf-8"), headers=_HEADERS)
    except OSError:
        raise HTTPException(404, f"There is no report of the night {night}.") from None


def _folder(layout: Layout) -> Path:
    return layout.absolute(f"{layout.work}/reports")


def _report_path(layout: Layout, night: str) -> Path | None:
    """The report's file; None if there is none, or if a link in its place leads out of the folder."""
    return _served(layout, layout.night_report(Night.parse(night)))


def _served(layout: Layout, relative: str) -> Path | None:
    try:
        path = layout.absolute(relative)
    except LstOpsError:
        return None
    inside = path.resolve().is_relative_to(_folder(layout).resolve())
    return path if inside and path.is_file() else None


def _is_night(text: str) -> bool:
    if not (text.isascii() and text.isdigit() and len(text) == 8):
        return False
    try:
        Night.parse(text)
    except LstOpsError:
        return False
    return True


def _layout() -> Layout:
    try:
        site = load_site()
    except LstOpsError as error:
        # the error names paths of this host, which are no business of a reader
        raise HTTPException(503, "The site file cannot be read: see `lstops site check`.") from error
    return Layout(site.base, site.work)
