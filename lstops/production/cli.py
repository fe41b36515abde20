"""`lstops production ...`: lint, counts and conversion of configurations; the other commands come from *_cli.py."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lstops.production.adopt_cli import adopt_command
from lstops.production.findings import Severity, Tree, counted
from lstops.production.lint import LintReport, lint_file
from lstops.production.plan_cli import plan_command
from lstops.production.registry_cli import (
    abandon_command,
    history_command,
    list_command,
    promote_command,
    register_command,
    requests_command,
    withdraw_command,
)
from lstops.production.status_cli import holes_command, status_command

app = typer.Typer(help="Monte Carlo productions: configurations, plans, state.", no_args_is_help=True)

app.command("plan")(plan_command)
app.command("status")(status_command)
app.command("holes")(holes_command)
app.command("adopt")(adopt_command)
app.command("register")(register_command)
app.command("list")(list_command)
app.command("history")(history_command)
app.command("promote")(promote_command)
app.command("withdraw")(withdraw_command)
app.command("abandon")(abandon_command)
app.command("requests")(requests_command)

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.yml", help="The lstmcpipe configuration.")]
ChainOption = Annotated[
    Path | None,
    typer.Option("--lstchain-config", "-lc", help="The lstchain JSON; default: the only one beside CONFIG.yml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def _print_report(report: LintReport) -> None:
    typer.echo(f"{report.path} with {report.lstchain_config or 'no lstchain configuration'}")
    for finding in report.findings:
        severity = typer.style(finding.severity.value, fg=_COLOURS[finding.severity], bold=True)
        typer.echo(f"{severity} {finding.code}  {finding.place}\n    {finding.message}\n    remedy: {finding.remedy}")
    tally = Counter(finding.severity for finding in report.findings)
    typer.echo(", ".join(counted(tally[severity], severity.value) for severity in Severity))


def _tree(root: Path, site: Path | None) -> Tree:
    from lstops.site.layout import Layout
    from lstops.site.model import load_site

    if site is None:
        return Tree(root)
    chosen = load_site(site)
    return Tree(root, Layout(chosen.base, chosen.work))


@app.command("lint")
def lint_command(
    config: ConfigArgument,
    lstchain_config: ChainOption = None,
    tree: Annotated[
        Path | None,
        typer.Option("--tree", help="Look for inputs and outputs below this folder, which stands for '/'."),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site", envvar="LSTOPS_SITE", help="Site file of the tree: what lstops has made there may be made again."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a production's configuration; exit status 1 if there are errors."""
    report = lint_file(config, lstchain_config, tree=_tree(tree, site) if tree else None)
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command("counts")
def counts_command(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Steps and submissions of a production, stage by stage."""
    from lstops.production.config import read_pipe
    from lstops.production.counts import count_stages, counts_table

    counts = count_stages(read_pipe(config)[0])
    if as_json:
        typer.echo(counts.model_dump_json(indent=1))
    else:
        Console().print(counts_table(counts))


@app.command("convert")
def convert_command(
    config: ConfigArgument,
    target: Annotated[Path, typer.Argument(metavar="NEW.yml", help="To be written; must not exist.")],
    lstchain_config: ChainOption = None,
) -> None:
    """Write a configuration, of the old dialect too, in the present one, with its lstchain JSON beside it."""
    from lstops.production.config import read_config, write_config

    read = read_config(config, lstchain_config)
    chain_target = target.parent / read.chain_path.name if read.chain_path else None
    if chain_target and read.chain_path and chain_target.resolve() == read.chain_path.resolve():
        chain_target = None
    write_config(read, target, chain_target)
    typer.echo(
        f"{target}: {read.pipe.prod_id}, {sum(len(read.pipe.stages.of(s)) for s in read.pipe.stages.defined)} steps"
    )
