"""`lstops production list|history|promote|withdraw|abandon|requests|register`: the registry of productions."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer
from rich.console import Console

from lstops.errors import ConfigError
from lstops.production.plan_cli import SiteOption

NameArgument = Annotated[str, typer.Argument(metavar="PRODUCTION", help="Its name.")]
LineOption = Annotated[str | None, typer.Option(help="Only on this declination line; default: on all of its lines.")]
AuthorOption = Annotated[str, typer.Option(help="Who decides this.")]
ReasonOption = Annotated[str, typer.Option(help="Why.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class ProductionStatus(str, Enum):
    """States of a production in the registry."""

    CANDIDATE = "candidate"
    CURRENT = "current"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


def list_command(
    status: Annotated[ProductionStatus | None, typer.Option(help="Only those in this state.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Registered productions; * is the standard of its line, a name beside the NSB is who gave it."""
    from rich.table import Table

    from lstops.catalog.database import catalog_session
    from lstops.catalog.productions import all_productions, standards
    from lstops.production.outline import LEVEL_SOURCE
    from lstops.site.model import Trainer

    with catalog_session() as session:
        pointers = standards(session)
        rows = [row for row in all_productions(session) if status is None or row.status == status.value]
    if as_json:
        names = ("name", "line", "lstchain_version", "tailcut", "nsb_level_ghz", "status", "plan_id", "models_sha256")
        documents = [
            {
                **{n: getattr(row, n) for n in names},
                "trainer": row.facts.get("trainer", Trainer.LSTCHAIN.value),
                "retrained_from": row.facts.get("retrained_from"),
                LEVEL_SOURCE: row.facts.get(LEVEL_SOURCE),
                "standard": pointers.get((row.line, row.lstchain_version)) == row.name,
            }
            for row in rows
        ]
        typer.echo(json.dumps(documents, indent=1))
        return
    table = Table("", "production", "line", "GHz", "cleaning", "lstchain")
    table.add_column("status", no_wrap=True)
    table.add_column("registered")
    for row in rows:
        star = "*" if pointers.get((row.line, row.lstchain_version)) == row.name else ""
        when = row.registered_at.strftime("%Y-%m-%d %H:%M")
        source = row.facts.get(LEVEL_SOURCE, {}).get("author")
        level = f"{row.nsb_level_ghz:.2f}" + (f" ({source})" if source else "")
        table.add_row(star, row.name, row.line, level, row.tailcut, row.lstchain_version, row.status, when)
    Console().print(table)


def history_command(production: NameArgument) -> None:
    """What became of a production, who wanted it, and why."""
    from rich.table import Table

    from lstops.catalog.database import catalog_session
    from lstops.catalog.productions import find_productions, production_events

    table = Table("when", "line", "what", "who", "why", title=production)
    with catalog_session() as session:
        find_productions(session, production)
        for event in production_events(session, production):
            when = event.at.strftime("%Y-%m-%d %H:%M")
            table.add_row(when, event.line, event.action, event.author, event.reason)
    Console().print(table)


def promote_command(
    production: NameArgument,
    author: AuthorOption,
    reason: ReasonOption,
    line: LineOption = None,
    standard: Annotated[bool, typer.Option("--standard", help="Make it the standard of its lines, too.")] = False,
    site: SiteOption = None,
) -> None:
    """Use a production for data from now on; another current one of the same level is superseded."""
    from lstops.catalog.database import catalog_session
    from lstops.catalog.productions import promote
    from lstops.catalog.registry_record import keep_events
    from lstops.catalog.requests import close_requests
    from lstops.site.layout import Layout
    from lstops.site.model import load_site

    chosen = load_site(site)
    with catalog_session() as session:
        rows = promote(session, production, line, author, reason, standard)
        for row in rows:
            close_requests(session, row, chosen.nightly.nsb_tolerance_ghz)
        keep_events(session, Layout(chosen.base, chosen.work))
    typer.echo(f"{production} is current on {', '.join(row.line for row in rows)}" + (", the standard" * standard))


def withdraw_command(
    production: NameArgument,
    author: AuthorOption,
    reason: ReasonOption,
    line: LineOption = None,
    site: SiteOption = None,
) -> None:
    """Take a production out of use; what was made with it is found by `lstops trace`."""
    from lstops.catalog.database import catalog_session
    from lstops.catalog.productions import withdraw
    from lstops.catalog.registry_record import keep_events
    from lstops.site.layout import Layout
    from lstops.site.model import load_site

    chosen = load_site(site)
    with catalog_session() as session:
        rows = withdraw(session, production, line, author, reason)
        keep_events(session, Layout(chosen.base, chosen.work))
    typer.echo(f"{production} is withdrawn on {', '.join(row.line for row in rows)}")


def abandon_command(
    production: NameArgument, author: AuthorOption, reason: ReasonOption, site: SiteOption = None
) -> None:
    """Give up what was never registered: its products are moved aside, its name is free. Cancel its run first."""
    from lstops.operations.abandon import abandon
    from lstops.production.findings import counted
    from lstops.site.model import load_site

    found = abandon(load_site(site), production, author, reason)
    left = f"; {counted(found.left, 'adopted product')} left in place" if found.left else ""
    typer.echo(f"{production} is given up: {counted(found.moved, 'product')} moved to {found.folder}{left}")


def requests_command(
    done: Annotated[bool, typer.Option("--all", help="Also those that a production has answered.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Productions that runs wait for, with the command that plans each."""
    from rich.table import Table

    from lstops.catalog.database import catalog_session
    from lstops.catalog.requests import OPEN, production_requests

    with catalog_session() as session:
        rows = production_requests(session, status=None if done else OPEN)
    if as_json:
        names = ("id", "line", "lstchain_version", "tailcut", "level_ghz", "runs", "status", "production")
        typer.echo(json.dumps([{name: getattr(row, name) for name in names} for row in rows], indent=1))
        return
    table = Table("id", "line", "NSB (GHz)", "cleaning", "lstchain", "runs", "status", "production", "to plan it")
    for row in rows:
        runs = ",".join(map(str, row.runs))
        numbers = (str(row.id), row.line, f"{row.level_ghz:.2f}", row.tailcut, row.lstchain_version, runs, row.status)
        plan = f"lstops production plan --line {row.line} --runs {runs}" if row.status == OPEN else ""
        table.add_row(*numbers, row.production or "", plan)
    Console().print(table)


def register_command(
    plan: Annotated[str, typer.Argument(metavar="PRODUCTION", help="Its name, or the id of a plan.")],
    nsb: Annotated[
        float | None,
        typer.Option(min=0, metavar="GHZ", help="Its extra NSB, where its configuration does not say it."),
    ] = None,
    author: Annotated[str, typer.Option(help="With --nsb: who says so.")] = "",
    reason: Annotated[str, typer.Option(help="With --nsb: how that is known.")] = "",
    site: SiteOption = None,
) -> None:
    """Register a finished production; one with a hole, or of unknown NSB, is refused."""
    from datetime import datetime, timezone

    from lstops.operations.registration import GivenLevel, register
    from lstops.production.outline import find_plan
    from lstops.site.layout import Layout
    from lstops.site.model import load_site

    chosen, given = load_site(site), None
    if nsb is not None:
        given = GivenLevel(nsb_level_ghz=nsb, author=author, reason=reason, at=datetime.now(timezone.utc))
    elif author or reason:
        raise ConfigError("--author and --reason say nothing without --nsb.", "give the level, too, or leave them out.")
    typer.echo(f"registered: {register(chosen, find_plan(Layout(chosen.base, chosen.work), plan), given)}")
