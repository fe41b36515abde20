"""``lstops services``: start, stop and look at the embedded services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL and Airflow.")

Home = Annotated[
    Path,
    typer.Option("--home", help="Folder of data, logs, passwords and pid files.", envvar="LSTOPS_HOME"),
]
DEFAULT_HOME = Path("~/.lstops")


@app.command()
def start(home: Home = DEFAULT_HOME) -> None:
    """Start PostgreSQL and the four Airflow processes and wait until they are healthy."""
    from lstops.embedded.services import Services

    services = Services(home)
    _show(services.start().components)
    typer.echo(f"Web page: {services.airflow.url}  user admin, password in {services.airflow.folders.passwords}")


@app.command()
def stop(home: Home = DEFAULT_HOME) -> None:
    """Stop all of them; nothing of them stays behind."""
    from lstops.embedded.services import Services

    typer.echo("stopped" if Services(home).stop() else "nothing was running")


@app.command()
def status(home: Home = DEFAULT_HOME) -> None:
    """Show what runs; the exit status is 1 unless everything is healthy."""
    from lstops.embedded.services import Services

    state = Services(home).status()
    _show(state.components)
    if not state.healthy:
        raise typer.Exit(1)


def _show(components: tuple[object, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    from lstops.embedded.airflow_services import ComponentStatus

    table = Table("service", "pid", "health")
    for component in components:
        assert isinstance(component, ComponentStatus)
        health = "healthy" if component.healthy else ("not healthy" if component.pid else "stopped")
        table.add_row(component.name, str(component.pid or "-"), health)
    Console().print(table)
