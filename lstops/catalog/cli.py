"""Questions to the catalogue: `lstops runs`, `why`, `products`, `night`, `catalog`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lstops.catalog.database import catalog_session, upgrade
from lstops.errors import DataError
from lstops.night import Night

runs_app = typer.Typer(help="Runs of a night with their verdicts.")
why_app = typer.Typer(help="Why a run was selected or rejected, and what was made of it.")
products_app = typer.Typer(help="What was made, the newest first.")
night_app = typer.Typer(help="What became of a night.")
catalog_app = typer.Typer(help="The catalogue itself.", no_args_is_help=True)

ProfileOption = Annotated[str | None, typer.Option(help="Selection profile; default: the site's.")]


def _profile(name: str | None) -> str:
    from lstops.quality.profiles import load_profile
    from lstops.site.model import load_site

    return load_profile(name or load_site().nightly.profile).name


@runs_app.command()
def runs(
    night: Annotated[str, typer.Argument(help="YYYYMMDD, the date before midnight.")], profile: ProfileOption = None
) -> None:
    """Runs of a night with their verdicts."""
    from lstops.catalog.nights import find_night, night_runs, run_table
    from lstops.catalog.verdicts import verdicts

    chosen, which = Night.parse(night), _profile(profile)
    table = Table("run", "source", "zenith (deg)", "NSB std (p.e.)", "dR/dI 422 p.e.", "verdict", "why")
    with catalog_session() as session:
        find_night(session, chosen)
        rows, judged = night_runs(session, chosen), verdicts(session, chosen, which)
        zenith = run_table(rows).zenith_deg
        for row, zd in zip(rows, zenith, strict=True):
            verdict = judged.get(row.run_id)
            said = "not judged" if verdict is None else "selected" if verdict.selected else "rejected"
            numbers = [row.quantities.get(n) for n in ("mean_diffuse_nsb_std_pe", "mean_r422")]
            words = ["unknown" if n is None else f"{n:.2f}" for n in numbers]
            reasons = "; ".join(verdict.reasons) if verdict else ""
            table.add_row(str(row.run_id), row.source_name or "", f"{zd:.1f}", *words, said, reasons)
    table.title = f"night {chosen.iso}, profile {which}"
    Console().print(table)


@why_app.command()
def why(run: Annotated[int, typer.Argument(min=1, help="Run number.")], profile: ProfileOption = None) -> None:
    """Each cut with value, limit and margin; what blocked the run; what was made of it."""
    from lstops.catalog.nights import find_run, quarantine_of
    from lstops.catalog.products import products
    from lstops.catalog.verdicts import verdicts

    which, console = _profile(profile), Console()
    with catalog_session() as session:
        row = find_run(session, run)
        night = Night(row.night)
        verdict = verdicts(session, night, which).get(run)
        if verdict is None:
            raise DataError(f"run {run} was not judged by profile {which}.", "start the DAG `nightly` for its night.")
        table = Table(
            "cut", "quantity", "value", "limit", "margin", "", title=f"run {run}, {night.iso}, profile {which}"
        )
        for cut in verdict.cuts:
            value, margin = (
                "unknown" if cut[n] is None else f"{cut[n]:.4g}" if isinstance(cut[n], float | int) else cut[n]
                for n in ("value", "margin")
            )
            mark = "[green]passed[/green]" if cut["passed"] else "[red]failed[/red]"
            limit = f"{cut['relation']} {cut['limit']} {cut['unit']}".strip()
            table.add_row(cut["cut"], cut["quantity"], value, limit, margin, mark)
        console.print(table)
        console.print("selected" if verdict.selected else "rejected: " + "; ".join(verdict.reasons))
        for blocked in quarantine_of(session, night, run):
            console.print(f"blocked at {blocked.stage}: {blocked.cause}\n  what helps: {blocked.remedy}")
        for product in products(session, run_id=run):
            console.print(f"{product.kind:<10} {product.status:<10} {product.path}")


@products_app.command()
def products_list(
    kind: Annotated[str | None, typer.Option(help="dl2, dl3, models, irf, ...")] = None,
    run: Annotated[int | None, typer.Option(help="Run number.")] = None,
    night: Annotated[str | None, typer.Option(help="YYYYMMDD")] = None,
) -> None:
    """What was made, the newest first."""
    from lstops.catalog.products import products

    table = Table("made", "kind", "status", "run", "path", "sha256")
    with catalog_session() as session:
        for row in products(session, kind, run, Night.parse(night) if night else None):
            made = row.made_at.strftime("%Y-%m-%d %H:%M")
            table.add_row(made, row.kind, row.status, str(row.run_id or ""), row.path, row.sha256[:12])
    Console().print(table)


@night_app.command()
def night(night: Annotated[str, typer.Argument(help="YYYYMMDD, the date before midnight.")]) -> None:
    """Per run what happened, what is blocked, why, and the one action that helps."""
    from lstops.operations.report import make_report
    from lstops.report.night import night_table
    from lstops.site.model import load_site

    Console().print(night_table(make_report(load_site(), Night.parse(night))))


@catalog_app.command("upgrade")
def catalog_upgrade() -> None:
    """Bring the tables to this version of lstops."""
    before, after = upgrade()
    typer.echo(f"catalogue at revision {after}" + ("" if before == after else f" (was {before or 'empty'})"))


@catalog_app.callback()
def _catalog() -> None:
    """The catalogue itself."""
