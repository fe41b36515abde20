"""`lstops nights`: which nights the catalogue holds, and what is wrong with some."""

from __future__ import annotations

import json
from datetime import timezone
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from lstops.night import Night

if TYPE_CHECKING:
    from lstops.catalog.nights import NightRecord

app = typer.Typer(help="Nights of the catalogue, their versions and problems.")

_COLUMNS = ("night", "version", "n_runs", "n_subruns", "ingested_at", "path", "sha256", "problem")


class Format(str, Enum):
    """How the nights are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command()
def nights(
    problems: Annotated[bool, typer.Option("--problems", help="Only nights with a problem.")] = False,
    since: Annotated[str | None, typer.Option(help="First night, YYYYMMDD.")] = None,
    until: Annotated[str | None, typer.Option(help="Last night.")] = None,
    form: Annotated[Format, typer.Option("--format", help="csv and json are for programs.")] = Format.TABLE,
) -> None:
    """Nights of the catalogue, their versions and problems."""
    from lstops.catalog.database import catalog_session
    from lstops.catalog.nights import list_nights

    first, last = (Night.parse(text) if text else None for text in (since, until))
    with catalog_session() as session:
        records = list_nights(session, first, last, problems=problems)
    if form is Format.JSON:
        typer.echo(json.dumps([_document(record) for record in records], indent=1))
    elif form is Format.CSV:
        _write_csv(records)
    else:
        _show(records, problems)


def _document(record: NightRecord) -> dict[str, object]:
    earlier = [
        {
            "version": old.version,
            "path": old.path,
            "sha256": old.sha256,
            "n_runs": old.n_runs,
            "ingested_at": old.ingested_at.isoformat(),
            "superseded_at": old.superseded_at.isoformat(),
        }
        for old in record.earlier
    ]
    return {name: _plain(record, name) for name in _COLUMNS} | {"earlier": earlier}


def _plain(record: NightRecord, name: str) -> object:
    if name == "night":
        return record.night.iso
    return record.ingested_at.isoformat() if name == "ingested_at" else getattr(record, name)


def _write_csv(records: list[NightRecord]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([_plain(record, name) for name in _COLUMNS] for record in records)


def _show(records: list[NightRecord], problems: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not records:
        typer.echo("no night has a problem." if problems else "the catalogue holds no night of this range.")
        return
    console, table = Console(), Table("night", "version", "runs", "subruns", "ingested (UTC)", "")
    for item in records:
        subruns = "?" if item.n_subruns is None else str(item.n_subruns)
        when = f"{item.ingested_at.astimezone(timezone.utc):%Y-%m-%d %H:%M}"
        mark = "[red]problem[/red]" if item.problem else ""
        table.add_row(item.night.iso, str(item.version), str(item.n_runs), subruns, when, mark)
    console.print(table)
    # below the table, so that long paths are not cut
    for item in records:
        if item.problem:
            console.print(f"[bold]{item.night.iso}[/bold] {escape(item.problem)}", soft_wrap=True)
    runs, hurt = sum(item.n_runs for item in records), sum(bool(item.problem) for item in records)
    console.print(f"{len(records)} nights, {runs} runs, {hurt} with a problem")
