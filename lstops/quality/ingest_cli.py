"""`lstops quality ingest`: the history of data checks into the catalogue."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lstops.catalog.settle import FileOutcome
    from lstops.night import Night, Run

#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY_S = 10.0


def ingest(
    places: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories and files of data checks.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 2,
    replace: Annotated[
        bool, typer.Option("--replace", help="These files are right, whatever other files said of their nights.")
    ] = False,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read also files whose size and time have not changed.")
    ] = False,
    site: Annotated[
        Path | None, typer.Option(help="Site file, for the names of the sources; default: LSTOPS_SITE, if set.")
    ] = None,
) -> None:
    """Bring the catalogue up to date with night-wise data checks; what is known already costs nothing."""
    from lstops.catalog.ingest import find_files, ingest_files
    from lstops.errors import DataError

    paths = find_files(places)
    runs_of = _runs_of(site)
    started = time.monotonic()
    with _progress(len(paths)) as show:
        report = ingest_files(paths, jobs=jobs, runs_of=runs_of, replace=replace, reread=reread, on_outcome=show)
    typer.echo(f"{report.text()}, {time.monotonic() - started:.1f} s")
    for outcome in report.bad:
        night = outcome.night.iso if outcome.night else "unknown night"
        stays = f" Version {outcome.version} of the night stays." if outcome.version else ""
        typer.echo(f"{outcome.standing.value}: {night}: {outcome.message}{stays}", err=True)
    if report.bad:
        typer.echo("`lstops nights --problems` lists them until they are mended.", err=True)
        raise typer.Exit(DataError.exit_code)


def _runs_of(site: Path | None) -> Callable[[Night], Sequence[Run]] | None:
    if site is None and not os.environ.get("LSTOPS_SITE"):
        return None
    from lstops.operations.nightly import runs_of
    from lstops.site.model import load_site

    chosen = load_site(site)
    return lambda night: runs_of(chosen, night)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[FileOutcome], None]]:
    """A bar on a terminal, now and then a line elsewhere."""
    bad = 0
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("nights"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[bad]} bad"))
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("nights", total=total, bad=0)

            def advance(outcome: FileOutcome) -> None:
                nonlocal bad
                bad += outcome.is_bad
                bar.update(task, advance=1, bad=bad)

            yield advance
        return
    done, started = 0, time.monotonic()
    said = started

    def note(outcome: FileOutcome) -> None:
        nonlocal bad, done, said
        done, bad, now = done + 1, bad + outcome.is_bad, time.monotonic()
        if now - said >= _LINE_EVERY_S:
            said = now
            typer.echo(f"{done} of {total} files, {bad} bad, {now - started:.0f} s", err=True)

    yield note
