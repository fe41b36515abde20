"""`lstops production adopt`: take over a production that lstmcpipe made."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from lstops.production.plan_cli import SiteOption, roots_of
from lstops.production.stages import StageName


def adopt_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with its lstmcpipe YAML and lstchain JSON, or the YAML.")
    ],
    first: Annotated[
        StageName, typer.Option("--from", help="First stage to take over; files of earlier ones are sources.")
    ] = StageName.MERGE_DL1,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root", metavar="PREFIX[=FOLDER]", help="Absolute prefix of its paths, and the folder below the base."
        ),
    ] = None,
    lstchain: Annotated[str | None, typer.Option(help="Version of lstchain that made it.")] = None,
    in_environment: Annotated[
        bool, typer.Option("--in-environment", help="Also load the forests (pickles!); in their environment only.")
    ] = False,
    site: SiteOption = None,
) -> None:
    """Verify an existing production and write its manifests; exit status 1 if something is refused."""
    from lstops.production.adopt import Adoption, adopt, plan_of_tree
    from lstops.production.outline import plan_level_ghz, save_production_plan
    from lstops.site.model import load_site

    chosen = load_site(site)
    plan = plan_of_tree(folder, chosen, first, roots_of(root), lstchain)
    save_production_plan(plan, chosen)
    found = adopt(chosen, plan, in_environment)
    for item in found:
        if item.outcome is Adoption.REFUSED:
            typer.secho(f"refused {item.step.label}: {item.why}", fg=typer.colors.RED)
            typer.echo(f"    remedy: {item.remedy}")
    counts = Counter(item.outcome for item in found)
    typer.echo(f"{plan.title}: " + ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Adoption))
    if plan_level_ghz(plan) is None:
        name = plan.context["production"]
        typer.echo(f"Its NSB is not known: `lstops production register {name} --nsb GHZ --author ... --reason ...`.")
    if counts[Adoption.REFUSED]:
        raise typer.Exit(1)
