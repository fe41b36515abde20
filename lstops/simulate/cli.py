"""Command line of the synthetic observatory: ``python -m lstops.simulate.cli make-site --base DIR``."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lstops.errors import LstOpsError
from lstops.simulate.campaign import NIGHTS as CAMPAIGN_NIGHTS

app = typer.Typer(help="Make synthetic nights and Monte Carlo with known truth.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    """Make synthetic nights and Monte Carlo with known truth."""


@app.command("make-site")
def make_site_command(
    base: Annotated[Path, typer.Option(help="Folder of the site; made if it is not there.")],
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 1,
    nproc: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    size: Annotated[str, typer.Option(help="small (tests), demo or campaign.")] = "demo",
    nights: Annotated[int, typer.Option(min=1, help="Of the campaign, from its first night on.")] = CAMPAIGN_NIGHTS,
) -> None:
    """Make a site: one night with its data check, and a Monte Carlo production. What is up to date is kept."""
    from lstops.simulate.site import make_site

    # SIGTERM then ends the children too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    try:
        done = make_site(base, seed, size, nproc, echo=lambda line: typer.echo(line), nights=nights)
    except LstOpsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    took = time.monotonic() - started
    typer.echo(f"{base}: {done} tasks run in {took:.0f} s" if done else f"{base}: up to date")


if __name__ == "__main__":
    app()
