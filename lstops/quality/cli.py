"""`lstops quality`: the run selection on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstops.quality.ingest_cli import ingest

if TYPE_CHECKING:
    from lstops.quality.select import Sample

app = typer.Typer(help="Which runs are good, and why.", no_args_is_help=True)
app.command("ingest")(ingest)


@app.command("select")
def select_runs(
    datacheck: Annotated[Path, typer.Option(help="Directory of the night-wise data check files.")],
    request: Annotated[Path | None, typer.Option(help="JSON file with source, dates, zenith range and limits.")] = None,
    profile: Annotated[str, typer.Option(help="Name of a profile, or the path of one.")] = "standard",
    out: Annotated[Path | None, typer.Option(help="Write the full answer to this JSON file.")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out damaged nights, naming them, instead of stopping.")
    ] = False,
) -> None:
    """Select runs from a directory of data check files."""
    import json

    from lstops.quality.profiles import load_profile
    from lstops.quality.request import SelectionRequest, load_request

    # Configuration first: a mistake in it should not cost the reading of all nights.
    cuts = load_profile(profile)
    question = load_request(request) if request else SelectionRequest()

    from lstops.quality.select import document, select
    from lstops.step.manifest import write_atomically

    sample = _sample(datacheck, keep_going)
    selection = select(sample.table, sample.subruns, cuts, question)
    if out is not None:
        nights = {"directory": str(datacheck), "files": sample.n_nights}
        write_atomically(out, json.dumps(document(sample, selection, nights), allow_nan=False) + "\n")
    table = selection.judgement.table
    typer.echo(
        f"{len(selection.runs)} of {len(table)} runs in {sample.n_nights} nights selected, {selection.hours:.2f} h. "
        f"NSB: {selection.nsb.median_pe:.3f} p.e. {selection.nsb.recommendation.advice}"
    )
    if not selection.runs:
        typer.echo("No run passes all cuts; the cut flow tells where they were lost.")
    for name, alone, cumulative in selection.judgement.cut_flow():
        typer.echo(f"  {name:32} {alone:6d} pass, {cumulative:6d} left")


@app.command("report")
def report(
    datacheck: Annotated[Path, typer.Option(help="Directory of the night-wise data check files.")],
    out: Annotated[Path, typer.Option(help="Write the page to this HTML file.")],
    request: Annotated[Path | None, typer.Option(help="JSON file with source, dates, zenith range and limits.")] = None,
    profile: Annotated[str, typer.Option(help="Name of a profile, or the path of one.")] = "standard",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out damaged nights, naming them, instead of stopping.")
    ] = False,
) -> None:
    """Write the answer to a request as one HTML page with plots, light enough for an e-mail."""
    from lstops.quality.profiles import load_profile
    from lstops.quality.request import SelectionRequest, load_request

    cuts = load_profile(profile)
    question = load_request(request) if request else SelectionRequest()

    from lstops.quality.select import select
    from lstops.report.selection import named_source, selection_report
    from lstops.report.selection_model import SelectionReport
    from lstops.step.manifest import write_atomically

    sample = _sample(datacheck, keep_going)
    selection = select(sample.table, sample.subruns, cuts, question)
    source = named_source(question)
    content = SelectionReport.of(
        selection.judgement,
        selection.nsb,
        sample.subruns,
        title=source.name if source else "whole sky",
        source=source,
        where=f"{sample.n_nights} data check files",
    )
    write_atomically(out, selection_report(content))
    typer.echo(f"{out}: {len(selection.runs)} runs selected, {out.stat().st_size / 1e6:.2f} MB")


def _sample(datacheck: Path, keep_going: bool) -> Sample:
    """Read a directory; with `keep_going`, name the damaged nights and go on without them."""
    from lstops.quality.collect import collect_nights
    from lstops.quality.datacheck import find_datachecks, read_datacheck
    from lstops.quality.select import Sample

    paths = find_datachecks(datacheck)
    if not keep_going:
        return Sample.of([read_datacheck(path) for path in paths])
    collected = collect_nights(paths)
    for problem in collected.problems:
        typer.echo(f"Left out: {problem.what} Remedy: {problem.remedy}", err=True)
    return Sample.of(collected.nights)


@app.command("why")
def why(
    run: Annotated[int, typer.Argument(min=0, help="Run number.")],
    datacheck: Annotated[Path, typer.Option(help="A night-wise data check file.")],
    profile: Annotated[str, typer.Option(help="Name of a profile, or the path of one.")] = "standard",
) -> None:
    """Show each cut on one run of a night, with value, limit and margin."""
    import math

    import numpy as np

    from lstops.errors import DataError
    from lstops.quality.datacheck import read_datacheck
    from lstops.quality.intervals import cut_runs
    from lstops.quality.judge import judge
    from lstops.quality.profiles import load_profile
    from lstops.quality.quantities import run_quantities

    night = read_datacheck(datacheck)
    cuts = load_profile(profile)
    table = run_quantities(night)
    rows = np.flatnonzero(table.run_number == run)
    if not len(rows):
        raise DataError(
            f"Run {run} is not in {datacheck}.",
            f"It holds: {', '.join(map(str, table.run_number.tolist())) or 'none'}.",
        )
    verdict = judge(table, cuts).verdict(int(rows[0]))
    typer.echo(f"Run {run}, night {verdict.night}: {'selected' if verdict.selected else 'rejected'} by {cuts.name}")
    for item in verdict.results:
        margin = "unknown" if math.isnan(item.margin) else f"{item.margin:+.3g} {item.unit}".strip()
        mark = "ok    " if item.passed else "FAILED"
        typer.echo(f"  {mark} {item.cut:30} {item.comparison} (margin {margin})")
        if not item.passed:
            typer.echo(f"         {item.failure}.")
    if cuts.subruns is None:
        return
    good = cut_runs(table, night.subruns, cuts)
    time = good.good_time[int(rows[0])]
    typer.echo(
        f"Good time: {time.good_s:.0f} of {time.total_s:.0f} s; cut to it the run is "
        f"{'selected' if good.selected[rows[0]] else 'rejected'}. Good subruns: "
        + (", ".join(f"{part.first_subrun}-{part.last_subrun}" for part in time.intervals) or "none")
    )
