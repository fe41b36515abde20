"""`lstops production status` and `holes`: what of a production is there, and why the rest is not."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lstops.production.plan_cli import SiteOption

ProductionArgument = Annotated[str, typer.Argument(metavar="PRODUCTION", help="Its name, or the id of a plan.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def status_command(
    production: ProductionArgument,
    nodes: Annotated[bool, typer.Option("--nodes", help="Also list the nodes that are not whole.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the nodes on the sky, coloured by state (.png, .svg or .html).")
    ] = None,
    as_json: JsonOption = False,
    site: SiteOption = None,
) -> None:
    """Expected against produced, by stage, line and node."""
    from lstops.production.picture import write_picture
    from lstops.production.status import production_status
    from lstops.production.summary import node_table, status_json, status_table
    from lstops.site.model import load_site

    status = production_status(load_site(site), production)
    if picture is not None:
        write_picture(status, picture)
    if as_json:
        typer.echo(json.dumps(status_json(status), indent=1))
        return
    console = Console()
    console.print(status_table(status))
    if nodes:
        console.print(node_table(status))
    if picture is not None:
        typer.echo(str(picture))


def holes_command(
    production: ProductionArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Only steps that failed.")] = False,
    as_json: JsonOption = False,
    site: SiteOption = None,
) -> None:
    """What is missing and why; steps that only wait for others are not listed."""
    from lstops.production.status import StepState, production_holes
    from lstops.production.summary import holes_table
    from lstops.site.model import load_site

    status, holes = production_holes(load_site(site), production)
    shown = [hole for hole in holes if not failed or hole.state is StepState.FAILED]
    if as_json:
        typer.echo(json.dumps([{**asdict(hole), "state": hole.state.value} for hole in shown], indent=1))
    elif status.is_whole:
        typer.echo(f"{status.outline.production} has no holes: all {len(status.states)} steps are done.")
    else:
        Console().print(holes_table(status, shown))
