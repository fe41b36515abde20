"""`lstops audit`: what is there that should not be, what is missing, what was changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstops.operations.audit import SHARE, AuditReport, audit_site
from lstops.site.model import load_site

app = typer.Typer(help="Files against manifests, catalogue and published digests; nothing is changed.")


@app.command()
def audit(
    full: Annotated[bool, typer.Option("--full", help="Read every file, not a part that changes daily.")] = False,
    share: Annotated[float, typer.Option(min=0, max=1, help="That part.")] = SHARE,
    catalogue: Annotated[bool, typer.Option(help="Compare with the catalogue too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    site: Annotated[str | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")] = None,
) -> None:
    """Look at everything lstops made; exit status 1 if something is not as it should be. Changes nothing."""
    report = audit_site(load_site(site), full=full, catalogue=catalogue, share=share)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1))
    else:
        _show(report)
    if report.findings:
        raise typer.Exit(1)


def _show(report: AuditReport) -> None:
    console = Console()
    if report.findings:
        table = Table("code", "path", "what", "remedy")
        for finding in report.findings:
            row = (finding.code.value, finding.path, finding.what, finding.remedy)
            table.add_row(*(Text(word, overflow="fold") for word in row))
        console.print(table)
    console.print(Text(report.text().split("\n", 1)[0]))
