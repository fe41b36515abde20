"""`lstops reprocess`: a range of nights once more, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DAG = "reprocessing"

app = typer.Typer(help="Reduce nights again in another way, beside what there is, and compare.")


@app.command()
def reprocess(
    since: Annotated[str, typer.Option(help="First night, YYYYMMDD.")],
    until: Annotated[str, typer.Option(help="Last night, included.")],
    profile: Annotated[str | None, typer.Option(help="Selection profile; default: the site's.")] = None,
    cuts: Annotated[str | None, typer.Option(help="Cut set; default: the site's.")] = None,
    pipeline_version: Annotated[str | None, typer.Option(help="DL1 of this version of lstosa, such as v0.13.")] = None,
    lstchain_version: Annotated[str | None, typer.Option(help="One of the site's environments.")] = None,
    make_current: Annotated[
        bool, typer.Option("--make-current", help="Readers get the new versions; what is made is not made again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the nights; start nothing.")] = False,
    site: Annotated[Path | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")] = None,
) -> None:
    """Show which nights a reprocessing has, and start it: the DAG `reprocessing` of the Airflow that is up."""
    from lstops.errors import ConfigError
    from lstops.operations.reprocessing import preview
    from lstops.operations.request_cli import URL, airflow_client, own_file, start
    from lstops.reduction.reprocessing import parse_reprocessing
    from lstops.site.model import load_site

    again = parse_reprocessing(
        {
            "since": since,
            "until": until,
            "profile": own_file(profile),
            "cuts": own_file(cuts),
            "pipeline_version": pipeline_version,
            "lstchain_version": lstchain_version,
            "make_current": make_current,
        }
    )
    made = preview(load_site(site), again)
    typer.echo(made.text)
    if made.needs_approval:
        typer.echo("a person has to approve it, on the page of the run: these are more nights than the site allows")
    if dry_run:
        typer.echo(f"not started ({again.name})")
        return
    client = airflow_client()
    if client is None:
        raise ConfigError(
            f"no Airflow is configured ({URL} or LSTOPS_HOME): nothing was started.",
            "set them, or start the DAG `reprocessing` on the web page.",
        )
    started = start(client, DAG, again.name, again.model_dump(mode="json"), also=["nightly"])
    typer.echo(f"started {DAG}, run {started}; the comparison will be among the night reports")
