"""`lstops night` and `lstops catalog`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from lstops.catalog.database import upgrade
from lstops.night import Night

night_app = typer.Typer(help="What became of a night.")
catalog_app = typer.Typer(help="The catalogue itself.", no_args_is_help=True)


@night_app.command()
def night(night: Annotated[str, typer.Argument(help="YYYYMMDD, the date before midnight.")]) -> None:
    """Per run what happened, what is blocked, why, and the one action that helps."""
    from lstops.operations.report import make_report
    from lstops.report.night import night_table
    from lstops.site.model import load_site

    Console().print(night_table(make_report(load_site(), Night.parse(night))))


@catalog_app.command("upgrade")
def catalog_upgrade() -> None:
    """Bring the tables to this version of lstops."""
    before, after = upgrade()
    typer.echo(f"catalogue at revision {after}" + ("" if before == after else f" (was {before or 'empty'})"))


@catalog_app.command("rebuild")
def catalog_rebuild(
    nights: Annotated[bool, typer.Option(help="Ingest and judge the nights too.")] = True,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="Restore people's decisions from what the published versions hold.")
    ] = False,
    site: Annotated[str | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")] = None,
) -> None:
    """Fill the catalogue anew from manifests, published versions and data checks; people's decisions are not touched.

    Exit status 1 if something could not be read.
    """
    from lstops.operations.rebuild import rebuild
    from lstops.site.model import load_site

    done = rebuild(
        load_site(site), nights=nights, decisions=decisions, progress=lambda what: typer.echo(what, err=True)
    )
    typer.echo(done.text())
    if done.skipped:
        raise typer.Exit(1)


@catalog_app.callback()
def _catalog() -> None:
    """The catalogue itself."""
