"""`lstops production plan`: what a production would compute and cost, from a configuration or a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lstops.errors import ConfigError

if TYPE_CHECKING:
    from lstops.operations.planned import Planned

SiteOption = Annotated[
    Path | None, typer.Option("--site", help="Site file; default: the environment variable LSTOPS_SITE.")
]


def plan_command(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yml]", help="An lstmcpipe configuration.")] = None,
    lstchain_config: Annotated[
        Path | None,
        typer.Option("--lstchain-config", "-lc", help="Its lstchain JSON; default: the only one beside CONFIG.yml."),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root", metavar="PREFIX[=FOLDER]", help="Absolute prefix of its paths, and the folder below the base."
        ),
    ] = None,
    night: Annotated[
        str | None, typer.Option(help="Night (YYYYMMDD) whose selected runs say which NSB is typical.")
    ] = None,
    runs: Annotated[str | None, typer.Option(help="Runs (2001,2002,...) that say which NSB is typical.")] = None,
    profile: Annotated[str | None, typer.Option(help="Selection profile; default: the site's.")] = None,
    nsb: Annotated[
        str | None,
        typer.Option(
            "--nsb", help="NSB levels in GHz (0.14,0.22): one production each; of CONFIG.yml, if it does not say it."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help='Source, or "ra dec" in degrees: trains on the nearest line.')
    ] = None,
    line: Annotated[str | None, typer.Option(help="Declination lines (dec_2276,dec_931).")] = None,
    zenith_range: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="Only test nodes around pointings between these degrees.")
    ] = None,
    all_sky: Annotated[bool, typer.Option("--all-sky", help="Every declination line and test node.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the production.")] = None,
    lstchain: Annotated[
        str | None, typer.Option(help="Version of lstchain; default: configuration's or site's.")
    ] = None,
    trainer: Annotated[
        str | None, typer.Option(help="Of the forests: lstchain or accelerated; default: the site's.")
    ] = None,
    tuning: Annotated[
        str | None,
        typer.Option(help="NSB of a night or runs: auto (default, as the selection recommends), image or waveform."),
    ] = None,
    despite_errors: Annotated[
        bool, typer.Option("--despite-errors", help="Plan CONFIG.yml although its lint has errors.")
    ] = False,
    site: SiteOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show plan and cost, store nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan a production: stages, steps, what is left to do, CPU hours, memory, disk.

    From one of: an lstmcpipe configuration; the typical NSB of a night or of runs; NSB levels for a part of the sky.
    """
    from lstops.night import Night
    from lstops.operations.planned import store
    from lstops.operations.planning import plan_request
    from lstops.production.cost import cost_table
    from lstops.production.needs import ZenithRange
    from lstops.production.request import ProductionRequest
    from lstops.production.trainer import parse_trainer
    from lstops.production.tuning import parse_tuning
    from lstops.site.model import load_site

    chosen = load_site(site)
    request = ProductionRequest(
        config=config,
        lstchain_config=lstchain_config,
        roots=roots_of(root),
        night=Night.parse(night) if night else None,
        runs=tuple(_numbers(runs, int, "run")),
        profile=profile,
        target=target,
        lines=tuple(word.strip() for word in line.split(",")) if line else (),
        zenith=ZenithRange.parse(zenith_range) if zenith_range else None,
        levels_ghz=tuple(levels_of(nsb)),
        all_sky=all_sky,
        name=name,
        lstchain_version=lstchain,
        trainer=parse_trainer(trainer),
        tuning=parse_tuning(tuning),
        despite_errors=despite_errors,
    )
    planned = plan_request(chosen, request)
    paths = () if dry_run else store(chosen, planned)
    if as_json:
        typer.echo(json.dumps([_document(p) for p in planned], indent=1))
        return
    console = Console()
    for found in planned:
        shown = cost_table(found.title, found.costs) if found.plan else found.title
        console.print(shown, *(f"- {note}" for note in found.notes), sep="\n", markup=False)
    if len(planned) > 1:
        typer.echo(f"together: {sum(p.cpu_h for p in planned):.2f} CPU hours")
    for path in paths:
        typer.echo(str(path))
    if dry_run:
        typer.echo("not stored: " + (", ".join(p.plan.plan_id for p in planned if p.plan) or "nothing to plan"))


def roots_of(texts: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """The option --root: prefixes of a configuration's paths, and where they are below the site's base."""
    from lstops.production.from_lstmcpipe import DEFAULT_ROOTS

    return tuple(_root(text) for text in texts) if texts else DEFAULT_ROOTS


def _root(text: str) -> tuple[str, str]:
    prefix, _, folder = text.partition("=")
    if not prefix.startswith("/"):
        raise ConfigError(f"--root {text!r} does not begin with an absolute path.", "write /fefs/aswg/data/=FOLDER.")
    return prefix, folder


def levels_of(text: str | None) -> list[float]:
    """The option --nsb.

    Raises
    ------
    ConfigError
        If it is no list of numbers, or may be one number with a decimal comma.
    """
    levels = _numbers(text, float, "NSB level")
    if text and len(levels) > 1 and "." not in text:
        raise ConfigError(
            f"--nsb {text} may be {len(levels)} levels, or one with a decimal comma.",
            f"write {text.replace(',', '.', 1)} for one, {','.join(f'{level:.2f}' for level in levels)} for several.",
        )
    return levels


def _numbers(text: str | None, kind: Any, what: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"{text!r} is no list of {what}s.", "write numbers with commas between them.") from None


def _document(planned: Planned) -> dict[str, Any]:
    return {
        "title": planned.title,
        "plan_id": planned.plan.plan_id if planned.plan else None,
        "production": planned.plan.context.get("production") if planned.plan else None,
        "cpu_h": planned.cpu_h,
        "stages": [asdict(cost) for cost in planned.costs],
        "notes": list(planned.notes),
    }
