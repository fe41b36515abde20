"""`lstops reduce`: an analysis request from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lstops.embedded.rest import AirflowClient
    from lstops.operations.request import RequestPlan
    from lstops.site.model import Site

DAG = "reduction"
#: where an Airflow is that was not started by `lstops services`
URL, USER, PASSWORD = "LSTOPS_AIRFLOW_URL", "LSTOPS_AIRFLOW_USER", "LSTOPS_AIRFLOW_PASSWORD"

app = typer.Typer(help="Reduce the good runs of a target to one bundle of DL3.")


@app.command()
def reduce(
    target: Annotated[str, typer.Option(help='Name of the target list, or "ra dec" in degrees.')] = "",
    run: Annotated[list[int] | None, typer.Option("--run", help="Only this run; may be given several times.")] = None,
    since: Annotated[str | None, typer.Option(help="First night, YYYYMMDD.")] = None,
    until: Annotated[str | None, typer.Option(help="Last night, included.")] = None,
    zd_min: Annotated[float, typer.Option(help="Smallest mean zenith distance of a run (deg).")] = 0.0,
    zd_max: Annotated[float, typer.Option(help="Largest mean zenith distance of a run (deg).")] = 75.0,
    profile: Annotated[str | None, typer.Option(help="Selection profile; default: the site's.")] = None,
    production: Annotated[
        str | None, typer.Option(help="Models for all runs; default: those that fit the NSB of each run.")
    ] = None,
    nsb_tolerance: Annotated[
        float | None, typer.Option(help="Largest difference between a run and its models (GHz); default: the site's.")
    ] = None,
    cuts: Annotated[str | None, typer.Option(help="Cut set; default: the site's.")] = None,
    intensity_per_run: Annotated[
        bool, typer.Option("--intensity-per-run", help="The lower intensity cut is that of each run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show runs, models, steps and cost; start nothing.")
    ] = False,
    site: Annotated[Path | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")] = None,
) -> None:
    """Show what a request needs, and start it: the DAG `reduction` of the Airflow that is up."""
    from lstops.operations.request import build_plan, nothing_to_reduce, store_plan
    from lstops.reduction.request import parse_request
    from lstops.site.model import load_site

    request = parse_request(
        {
            "target": target,
            "runs": run,
            "since": since,
            "until": until,
            "zd_min_deg": zd_min,
            "zd_max_deg": zd_max,
            "profile": own_file(profile),
            "production": production,
            "nsb_tolerance_ghz": nsb_tolerance,
            "cuts": own_file(cuts),
            "intensity_per_run": intensity_per_run,
        }
    )
    chosen = load_site(site)
    made = build_plan(chosen, request)
    _show(chosen, made)
    if not made.nights:
        raise nothing_to_reduce(request, made)
    if dry_run:
        typer.echo(f"not started ({request.name})")
        return
    client = airflow_client()
    if client is None:
        plan_id = store_plan(chosen, request)
        typer.echo(f"stored {plan_id}. No Airflow is configured ({URL} or LSTOPS_HOME): nothing was started.")
        return
    started = start(client, DAG, request.name, request.model_dump(mode="json"))
    typer.echo(f"started {DAG}, run {started}; the bundle will be in DL3/requests/{request.name}")


def own_file(word: str | None) -> str | None:
    """A profile or cut set by name as it is, a file by its whole path: the DAG runs in another folder."""
    return str(Path(word).absolute()) if word and Path(word).suffix in (".json", ".yaml", ".yml") else word


def start(client: AirflowClient, dag: str, name: str, conf: Mapping[str, Any], also: Sequence[str] = ()) -> str:
    """Start a DAG; returns the id of its run: the name of what was asked for, and when.

    Parameters
    ----------
    also : sequence of str
        Further DAGs that it needs.

    Raises
    ------
    ConfigError
        If one of them is switched off: the run would wait for ever, and nobody would know.
    """
    from lstops.errors import ConfigError

    with client:
        if off := [known for known in (dag, *also) if client.is_paused(known)]:
            raise ConfigError(
                f"{' and '.join(off)} switched off in Airflow (paused): nothing was started.",
                "switch the DAG on, on the web page or with `airflow dags unpause`, then give the same command again.",
            )
        return client.trigger(dag, f"{name}__{datetime.now(timezone.utc):%Y%m%dT%H%M%S}", conf).run_id


def airflow_client() -> AirflowClient | None:
    """A client of the Airflow that the environment names, or of the one that `lstops services` started; None: neither.

    Raises
    ------
    ConfigError
        If only a part of the address is set.
    """
    from lstops.errors import ConfigError

    given = {name: os.environ.get(name, "") for name in (URL, USER, PASSWORD)}
    if any(given.values()):
        if missing := [name for name, value in given.items() if not value]:
            raise ConfigError(f"{' and '.join(missing)} not set.", f"set all of {URL}, {USER} and {PASSWORD}, or none.")
        from lstops.embedded.rest import AirflowClient

        return AirflowClient(given[URL], given[USER], given[PASSWORD])
    home = os.environ.get("LSTOPS_HOME", "")
    if not home:
        return None
    from lstops.embedded.services import Services

    services = Services(Path(home))
    return services.client("op") if services.status().url else None


def _show(site: Site, made: RequestPlan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lstops.production.cost import cost_table, plan_cost
    from lstops.quality.overlay import subrun_words

    console, about = Console(), made.plan.context["runs"]
    runs = Table("night", "run", "models", "responses", "without subruns", title=Text(made.plan.title))
    for night, numbers in made.nights.items():
        for number in numbers:
            if what := about.get(str(number)):
                responses = what.get("responses", "interpolated")
                left_out = subrun_words(what.get("dropped_subruns", ()))
                runs.add_row(night.iso, str(number), what["production"], responses, left_out)
    console.print(runs)
    if made.rejected:
        console.print(Text(f"rejected: {made.rejected}; `lstops runs` with the same options names them"))
    if made.unmeasured:
        waiting = ", ".join(map(str, made.unmeasured))
        console.print(Text(f"measured first, then matched to models (their NSB is not known yet): {waiting}"))
    causes = {s: cause for s, cause in made.causes.items() if s not in {f"run {run}" for run in made.unmeasured}}
    if causes:
        blocked = Table("what", "why not", "what helps", title="not reduced")
        for subject, (reason, remedy) in sorted(causes.items()):
            blocked.add_row(*map(Text, (subject, reason, remedy)))
        console.print(blocked)
    console.print(cost_table("", plan_cost(site, made.plan)))
