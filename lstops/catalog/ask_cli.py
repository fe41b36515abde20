"""`lstops runs` and `lstops why`: questions about runs, answered by `lstops.ask`."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lstops.errors import ConfigError


class Format(str, Enum):
    """How a run list is written."""

    TABLE = "table"
    CSV = "csv"
    ECSV = "ecsv"
    JSON = "json"


runs_app = typer.Typer(help="Select runs, with hours, NSB and what was rejected why.")
why_app = typer.Typer(help="Why a run is taken or not, and what was made of it.")

# what the notebook asks for by default
_ZENITH_DEG, _OFFSET_DEG = (0.0, 75.0), (0.35, 0.45)

ProfileOption = Annotated[
    str | None, typer.Option(help="Selection profile, its name or file; default: that of the site, else `standard`.")
]


@runs_app.command()
def runs(
    target: Annotated[str | None, typer.Option(help='Name, or "ra dec"; default: the whole sky.')] = None,
    night: Annotated[str | None, typer.Option(help="One night as the nightly chain judges it, good and bad.")] = None,
    since: Annotated[str | None, typer.Option(help="First night, 2019-12-01 or 20191201.")] = None,
    until: Annotated[str | None, typer.Option(help="Last night.")] = None,
    zd_min: Annotated[float, typer.Option(help="Least mean zenith distance (deg).")] = _ZENITH_DEG[0],
    zd_max: Annotated[float, typer.Option(help="Largest mean zenith distance (deg).")] = _ZENITH_DEG[1],
    offset: Annotated[
        tuple[float, float], typer.Option(help="Range of the distance between pointing and target (deg).")
    ] = _OFFSET_DEG,
    nsb_max: Annotated[float | None, typer.Option(help="Largest NSB spread (p.e.); 2.3 is about moonless.")] = None,
    profile: ProfileOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another limit of the profile; repeatable.")
    ] = None,
    good_time: Annotated[
        bool, typer.Option("--good-time", help="Cut bad subruns away instead of losing the run.")
    ] = False,
    columns: Annotated[str | None, typer.Option(help="Names with commas; `--columns help` lists them.")] = None,
    form: Annotated[Format, typer.Option("--format", help="csv, ecsv and json are for programs.")] = Format.TABLE,
    rejected: Annotated[bool, typer.Option("--rejected", help="List the rejected runs too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots to this HTML file too.")] = None,
) -> None:
    """Select runs, with hours, NSB and what was rejected why."""
    from lstops.ask import Catalog
    from lstops.catalog import runcolumns, runformats

    if columns == "help":
        for column in runcolumns.COLUMNS.values():
            typer.echo(f"{column.name:36} {column.unit}")
        return
    everything = rejected or night is not None
    names = columns.split(",") if columns else [*runcolumns.DEFAULT, *(runcolumns.GOOD_TIME if good_time else ())]
    if everything and not columns and form is not Format.TABLE:
        names = [*names, *runcolumns.VERDICT]
    if night is not None and not columns and form is Format.TABLE:
        names = [*runcolumns.VERDICT[:1], *names, *runcolumns.VERDICT[1:]]
    shown = runcolumns.columns_named([name.strip() for name in names])
    chosen, catalog, typical = _profile(profile), Catalog(), form in (Format.TABLE, Format.JSON) or report is not None
    if night is not None:
        limits = (zd_min, zd_max, *offset) != (*_ZENITH_DEG, *_OFFSET_DEG)
        if target or since or until or settings or nsb_max is not None or limits:
            raise ConfigError("--night is judged as the nightly chain does.", "Use --since and --until with limits.")
        answer = catalog.night(night, profile=chosen, good_time=good_time, typical=typical)
    else:
        answer = catalog.runs(
            target,
            since=since,
            until=until,
            zd_min=zd_min,
            zd_max=zd_max,
            offset=offset,
            nsb_max=nsb_max,
            profile=chosen,
            settings=dict(map(_setting, settings or ())),
            good_time=good_time,
            typical=typical,
        )
    if report is not None:
        _write(catalog.report(answer, f"night {night}" if night else None), report)
    rows = runcolumns.rows_of(answer, rejected=everything)
    if form is Format.TABLE:
        from lstops.catalog.runtext import run_list_text

        _write(run_list_text(answer, shown, rows if night else runcolumns.rows_of(answer), everything), out)
        return
    write = {Format.CSV: runformats.as_csv, Format.ECSV: runformats.as_ecsv, Format.JSON: runformats.as_json}[form]
    _write(write(answer, shown, rows), out)
    if not answer.runs:
        typer.echo(runformats.why_nothing(answer), err=True)


@why_app.command()
def why(run: Annotated[int, typer.Argument(min=0, help="Run number.")], profile: ProfileOption = None) -> None:
    """Each cut with value, limit and margin; decisions, good time, NSB; what blocked the run, what was made of it."""
    from lstops.ask import Catalog
    from lstops.catalog.runtext import run_answer_text

    typer.echo(run_answer_text(Catalog().why(run, profile=_profile(profile))), nl=False)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    from lstops.step.manifest import write_atomically

    write_atomically(out, text)
    typer.echo(f"Written to {out}.", err=True)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(f"--set {text} sets nothing.", "Write --set min_drdi_at_422pe=1.2.")
    return name.strip(), value.strip()


def _profile(name: str | None) -> str:
    if name is not None:
        return name
    if not os.environ.get("LSTOPS_SITE"):
        return "standard"
    from lstops.site.model import load_site

    return load_site().nightly.profile
