"""`lstops nsb ...`: the night-sky background of runs, and which production fits it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lstops.nsb.lines import LINE_TOLERANCE_DEG

app = typer.Typer(help="The night-sky background of runs, and which production fits it.", no_args_is_help=True)


@app.callback()
def _nsb() -> None:
    pass


@app.command("match")
def match_command(
    run: Annotated[int, typer.Argument(min=1, help="Run number.")],
    culmination_rule: Annotated[
        bool, typer.Option("--culmination-rule", help="Leave out lines that culminate lower than the run pointed.")
    ] = False,
    line_tolerance: Annotated[
        float, typer.Option(min=0, help="Largest distance of the declination line, in degrees.")
    ] = LINE_TOLERANCE_DEG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The production for a run, always with a verdict; exit status 1 if the run cannot be reduced with any."""
    from lstops.operations.run_match import match_run
    from lstops.site.model import load_site

    found = match_run(load_site(), run, culmination_rule, line_tolerance)
    match = found.match
    if as_json:
        document = {
            "run": run,
            "verdict": match.kind.value,
            "usable": match.usable,
            "production": match.level.name if match.level else None,
            "between": [level.name for level in match.neighbours],
            "line": found.line.line if found.line else None,
            "extra_nsb_ghz": found.nsb.extra_ghz,
            "tailcut": found.nsb.tailcut.directory,
            "explanation": match.explanation,
            "request": found.request,
        }
        typer.echo(json.dumps(document, indent=1))
    else:
        colour = typer.colors.GREEN if match.usable else typer.colors.RED
        production = f"  {match.level.name}" if match.usable and match.level else ""
        typer.echo(typer.style(match.kind.value, fg=colour, bold=True) + production)
        typer.echo(match.explanation)
        if found.line is not None:
            typer.echo(found.line.text())
        if found.request is not None:
            typer.echo(f"waits in request {found.request} (`lstops production requests`)")
        elif match.kind.can_be_requested:
            typer.echo("remedy: start the DAG mc_production for its night; `nightly` files a request by itself")
    if not match.usable:
        raise typer.Exit(1)
