"""`lstops jobs`: what waits, runs and failed on the cluster, and why; logs of jobs; what they used."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lstops.cluster.client import ClusterClient, below_base, open_client
from lstops.cluster.efficiency import efficiency
from lstops.cluster.orphans import clear_orphans
from lstops.cluster.queue import JobView
from lstops.cluster.records import JobRecord, all_records
from lstops.errors import ConfigError
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site

app = typer.Typer(help="Jobs on the cluster: what waits, runs, failed, and why.", no_args_is_help=False)

SiteOption = Annotated[
    Path | None, typer.Option("--site", help="Site file; default: the environment variable LSTOPS_SITE.")
]
_FOLLOW_EVERY_S = 2.0


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    site: SiteOption = None,
    number: Annotated[int, typer.Option("--last", min=1, help="How many submissions to show.")] = 20,
) -> None:
    """Show the latest submissions."""
    if context.invoked_subcommand is not None:
        return
    chosen = load_site(site)
    records = all_records(Layout(chosen.base, chosen.work))[:number]
    client = open_client(chosen)
    try:
        views = client.poll([record.job for record in records if record.job and not record.ending])
    finally:
        client.close()
    table = Table(title=f"Jobs of {chosen.name}")
    for column in ("job", "submitted", "plan", "stage", "steps", "asked", "state"):
        table.add_column(column)
    for record in records:
        table.add_row(*_row(record, views.get(record.job)))
    Console().print(table)


@app.command()
def log(
    job: Annotated[str, typer.Argument(help="Job number, or JOB_POSITION for one step.")],
    site: SiteOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = 40,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Show the end of a job's logs."""
    chosen = load_site(site)
    number, _, position = job.partition("_")
    record = _record(chosen, number)
    wanted = range(len(record.groups)) if not position else (int(position),)
    if wanted[-1] >= len(record.groups):
        raise ConfigError(f"job {number} has no task {position}.", f"use 0 to {len(record.groups) - 1}.")
    client = open_client(chosen)
    try:
        if follow:
            _follow(client, number, [_log_path(chosen, record, place) for place in wanted])
            return
        for place in wanted:
            steps = ", ".join(f"step {index}: {_outcome(record, index)}" for index in record.groups[place])
            typer.secho(f"== {number}_{place}, {steps}", bold=True)
            typer.echo(client.tail(_log_path(chosen, record, place), lines).strip())
    finally:
        client.close()


@app.command("efficiency")
def show_efficiency(
    site: SiteOption = None,
    number: Annotated[int, typer.Option("--last", min=1, help="How many submissions to show.")] = 20,
) -> None:
    """Compare what jobs used with what they asked for."""
    chosen = load_site(site)
    client = open_client(chosen)
    table = Table(title="Used of what was asked for")
    for column in ("job", "plan", "stage", "tasks", "CPU", "memory", "time", "peak"):
        table.add_column(column, justify="right")
    try:
        for record in all_records(Layout(chosen.base, chosen.work))[:number]:
            if not record.job:
                continue
            used = efficiency(record, client.account(record.job))
            peak = "" if used.peak_mb is None else f"{used.peak_mb:.0f} MB"
            parts = (_percent(used.cpu), _percent(used.memory), _percent(used.time), peak)
            table.add_row(record.job, record.plan_id, record.stage, str(used.tasks), *parts)
    finally:
        client.close()
    Console().print(table)


@app.command("orphans")
def show_orphans(
    site: SiteOption = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel them.")] = False,
) -> None:
    """Find jobs of ours that nobody waits for any more."""
    chosen = load_site(site)
    client = open_client(chosen)
    try:
        found = clear_orphans(chosen, client, cancel=cancel)
        for orphan in found:
            typer.echo(orphan.text())
        typer.echo(f"{len(found)} jobs of ours that nobody waits for{', cancelled' if cancel and found else ''}")
    finally:
        client.close()


def _record(site: Site, job: str) -> JobRecord:
    for record in all_records(Layout(site.base, site.work)):
        if record.job == job:
            return record
    raise ConfigError(f"site {site.name!r} has no job {job!r}.", "`lstops jobs` lists them.")


def _log_path(site: Site, record: JobRecord, position: int) -> Path:
    folder = Layout(site.base, site.work).plan_dir(record.plan_id) / "logs"
    return below_base(site, folder / f"{record.name}-{record.job}_{position}.log")


def _outcome(record: JobRecord, index: int) -> str:
    return record.outcomes.get(index, "not judged yet")


def _follow(client: ClusterClient, job: str, paths: list[Path]) -> None:
    offsets = dict.fromkeys(paths, 0)
    while True:
        view = client.poll((job,)).get(job)
        for path in paths:
            text = client.read_after(path, offsets[path])
            offsets[path] += len(text.encode())
            typer.echo(text, nl=False)
        if view is None or not view.active:
            return
        time.sleep(_FOLLOW_EVERY_S)


def _row(record: JobRecord, view: JobView | None) -> tuple[str, ...]:
    asked = record.resources
    if record.ending:
        troubles = sorted({outcome for outcome in record.outcomes.values() if outcome != "done"})
        state = record.ending + (f" ({', '.join(troubles)})" if troubles else "")
    elif view is not None:
        state = view.describe().removeprefix(f"job {record.job}: ")
    else:
        state = "about to be submitted" if not record.job else "not known to the scheduler"
    return (
        record.job or "-",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(record.submitted)),
        record.plan_id,
        record.stage,
        str(len(record.indices)),
        f"{asked.cpus} CPU, {asked.mem_mb} MB, {record.task_time_min} min",
        state,
    )


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.0f} %"
