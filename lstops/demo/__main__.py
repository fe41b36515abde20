"""`python -m lstops.demo run|campaign|stop|bench`, behind make's targets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lstops.demo.setting import REPOSITORY, make_setting
from lstops.errors import LstOpsError

app = typer.Typer(help="Synthetic nights through everything.", no_args_is_help=True)


@app.command()
def run(
    cluster: Annotated[str, typer.Option(help="local or slurm")] = "local",
    home: Annotated[str | None, typer.Option(help="Folder of the demo; default: LSTOPS_HOME.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic site.")] = 1,
    size: Annotated[str, typer.Option(help="Size of the synthetic site: demo, or small (few events).")] = "demo",
) -> None:
    """Set everything up and run the main job."""
    from lstops.demo import driver

    driver.run(make_setting(cluster, home), seed, size)


@app.command()
def campaign(
    home: Annotated[str | None, typer.Option(help="Folder of the campaign; default: LSTOPS_HOME.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic site.")] = 1,
    nights: Annotated[int, typer.Option(min=1, help="How many nights, from the first one on.")] = 6,
) -> None:
    """Several nights of two sources through everything, compared with the truth; called again, it goes on."""
    from lstops.demo import campaign as module

    module.run(make_setting("local", home), seed, nights)


@app.command()
def stop(
    home: Annotated[str | None, typer.Option(help="Folder of the demo; default: all of this checkout.")] = None,
) -> None:
    """Stop what demos left running."""
    from lstops.demo import driver

    homes = {Path(home or os.environ.get("LSTOPS_HOME") or REPOSITORY / ".lstops-demo").resolve()}
    if not home:
        homes |= {p.resolve() for p in REPOSITORY.glob(".lstops-demo*")}
    driver.stop(sorted(homes))


@app.command()
def bench() -> None:
    """Show the wall time of each part of the last demo and the CPU time of each kind of step."""
    from lstops.demo import bench as module

    module.show(make_setting("local"))


if __name__ == "__main__":
    try:
        app()
    except LstOpsError as error:
        typer.secho(f"{type(error).__name__}: {error.what}", fg=typer.colors.RED, err=True)
        if error.remedy:
            typer.secho(f"  remedy: {error.remedy}", err=True)
        sys.exit(error.exit_code)
