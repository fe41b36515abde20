"""The command line: `lstops --help`."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import lstops
from lstops.errors import ConfigError, LstOpsError

#: command -> module and attribute of its typer application, loaded when it is used: `step run` on a compute node must
#: neither wait for nor need what the others import
_LAZY = {
    "runs": "lstops.catalog.ask_cli:runs_app",
    "why": "lstops.catalog.ask_cli:why_app",
    "overlay": "lstops.catalog.overlay_cli:app",
    "products": "lstops.catalog.trace_cli:products_app",
    "trace": "lstops.catalog.trace_cli:trace_app",
    "nights": "lstops.catalog.nights_cli:app",
    "night": "lstops.catalog.cli:night_app",
    "catalog": "lstops.catalog.cli:catalog_app",
    "audit": "lstops.operations.audit_cli:app",
    "publish": "lstops.publish.cli:publish_app",
    "withdraw": "lstops.publish.cli:withdraw_app",
    "supersede": "lstops.publish.cli:supersede_app",
    "published": "lstops.publish.cli:app",
    "quality": "lstops.quality.cli:app",
    "production": "lstops.production.cli:app",
    "nsb": "lstops.nsb.cli:app",
    "reduce": "lstops.operations.request_cli:app",
    "reprocess": "lstops.operations.reprocess_cli:app",
    "jobs": "lstops.cluster.cli:app",
    "services": "lstops.embedded.cli:app",
    "simulate": "lstops.simulate.cli:app",
}


class _LazyGroup(TyperGroup):
    """The command line's top level."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_LAZY]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _LAZY[cmd_name].partition(":")
        try:
            command = get_command(getattr(importlib.import_module(module), attribute))
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("lstops"):
                raise
            return self._absent(cmd_name, error)
        command.name = cmd_name
        return command

    @staticmethod
    def _absent(name: str, error: ModuleNotFoundError) -> Any:
        absent = typer.Typer()

        @absent.command(name, help=f"(needs {error.name}: run it on the Airflow host)")
        def command() -> None:
            raise ConfigError(
                f"`lstops {name}` needs {error.name}, which this environment lacks.", "use the Airflow host."
            )

        return get_command(absent)


app = typer.Typer(
    name="lstops",
    cls=_LazyGroup,
    help="From a night of the LST-1 telescope to published, traceable DL3 data.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
step_app = typer.Typer(help="Run and look at the steps of a plan.", no_args_is_help=True)
site_app = typer.Typer(help="The site file: what is where, and who computes.", no_args_is_help=True)
app.add_typer(step_app, name="step")
app.add_typer(site_app, name="site")

SiteOption = Annotated[
    Path | None, typer.Option("--site", help="Site file; default: the environment variable LSTOPS_SITE.")
]
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.json below the site's work area.")]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"lstops {lstops.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


@step_app.command("run")
def step_run(
    plan: PlanArgument,
    index: Annotated[list[int], typer.Option("--index", min=0, help="Position of a step in the plan; repeatable.")],
    site: SiteOption = None,
) -> None:
    """Run steps of a plan; done or up to date is exit status 0. A step that fails does not stop those after it."""
    from lstops.site.model import load_site
    from lstops.step.plans import load_plan, site_of_plan
    from lstops.step.worker import run_steps

    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID", ""))
    if job and (task := os.environ.get("SLURM_ARRAY_TASK_ID")):
        job = f"{job}_{task}"
    status = run_steps(load_plan(plan), index, load_site(site) if site else site_of_plan(plan), job, typer.echo)
    if status:
        raise typer.Exit(status)


@step_app.command("list")
def step_list(plan: PlanArgument, site: SiteOption = None) -> None:
    """Show every step of a plan and where it stands."""
    from rich.console import Console
    from rich.table import Table

    from lstops.site.layout import Layout
    from lstops.site.model import load_site
    from lstops.step.assess import assess
    from lstops.step.plans import load_plan, site_of_plan

    chosen = load_site(site) if site else site_of_plan(plan)
    content = load_plan(plan)
    table = Table(title=f"{content.title} ({content.plan_id})")
    for column in ("index", "stage", "step", "state", "why"):
        table.add_column(column)
    stages = [stage.name for stage in content.stages for _ in stage.steps]
    for found in assess(content, Layout(chosen.base, chosen.work), chosen):
        table.add_row(str(found.index), stages[found.index], found.step.label, found.state.value, found.reason)
    Console().print(table)


@site_app.command("check")
def site_check(site: SiteOption = None) -> None:
    """Check what the site file names: folders, scheduler, environments there, settings, simulations, who is told."""
    from lstops.operations.site_check import check_site, show_findings
    from lstops.site.model import load_site

    if not show_findings(check_site(load_site(site))):
        raise typer.Exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and turn errors of lstops into a message and an exit status.

    Returns
    -------
    int
        The exit status: 0, that of the error's class, or 2 for wrong usage.
    """
    try:
        app(args=list(argv) if argv is not None else None)
    except LstOpsError as error:
        typer.secho(f"{type(error).__name__}: {error.what}", fg=typer.colors.RED, err=True)
        if error.remedy:
            typer.secho(f"  remedy: {error.remedy}", err=True)
        return error.exit_code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0


def entry() -> None:
    """Console script."""
    # Imports make many objects that stay; looking through them again and again costs a sixth of a short command.
    gc.set_threshold(50_000)
    sys.exit(main())
