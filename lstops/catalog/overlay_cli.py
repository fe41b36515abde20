"""`lstops overlay`: people's decisions about runs."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from lstops.errors import ConfigError

app = typer.Typer(help="Include, exclude or trim runs: decisions with author, reason and date.", no_args_is_help=True)

AuthorOption = Annotated[str, typer.Option(help="Who decides; default: your login name.")]
ReasonOption = Annotated[str, typer.Option(help="Why, in words that a stranger understands.")]


@app.command("add")
def add(
    run: Annotated[int, typer.Argument(min=0, help="Run number.")],
    reason: ReasonOption,
    include: Annotated[bool, typer.Option("--include", help="Take the run in spite of its cuts.")] = False,
    exclude: Annotated[bool, typer.Option("--exclude", help="Do not take the run.")] = False,
    drop_subruns: Annotated[str | None, typer.Option(help="Take the run without these subruns: 3,7-12.")] = None,
    author: AuthorOption = "",
) -> None:
    """Decide about a run. The nightly chain follows it the next time that it looks at the night."""
    if include + exclude + (drop_subruns is not None) != 1:
        raise ConfigError("What is decided about the run?", "Give one of --include, --exclude and --drop-subruns.")

    from lstops.catalog.database import catalog_session
    from lstops.catalog.overlay import add_decision
    from lstops.quality.overlay import OverlayAction, parse_subruns

    subruns = () if drop_subruns is None else parse_subruns(drop_subruns)
    trim = OverlayAction.DROP_SUBRUNS
    action = OverlayAction.INCLUDE if include else OverlayAction.EXCLUDE if exclude else trim
    with catalog_session() as session:
        record = add_decision(session, run, action, author or getpass.getuser(), reason, subruns)
    typer.echo(f"Decision {record.id}: run {run} {record.words}")


@app.command("list")
def show(
    run: Annotated[int | None, typer.Option(help="Only decisions about this run.")] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Also those that were revoked.")] = False,
) -> None:
    """Show the decisions that hold."""
    from lstops.catalog.database import catalog_session
    from lstops.catalog.overlay import list_decisions

    with catalog_session() as session:
        records = list_decisions(session, None if run is None else [run], revoked=all_of_them)
    for record in records:
        typer.echo(f"{record.id:5d}  run {record.run_number}  {record.words}")
    if not records:
        typer.echo("No decision" + ("" if run is None else f" about run {run}") + ("." if all_of_them else " holds."))


@app.command("revoke")
def revoke(
    decision: Annotated[int, typer.Argument(min=1, help="Number of the decision, see `lstops overlay list`.")],
    reason: ReasonOption,
    author: AuthorOption = "",
) -> None:
    """Revoke a decision; it stays on record."""
    from lstops.catalog.database import catalog_session
    from lstops.catalog.overlay import revoke_decision

    with catalog_session() as session:
        record = revoke_decision(session, decision, author or getpass.getuser(), reason)
    typer.echo(f"Decision {record.id}: run {record.run_number} {record.words}")
