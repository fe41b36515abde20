"""`lstops published`: what is published, whether it is whole, and the withdrawal of a version."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstops.errors import ProductInvalid
from lstops.publish.model import CURRENT, VersionState
from lstops.publish.versions import list_versions, problems
from lstops.publish.withdraw import withdraw as withdraw_version
from lstops.site.layout import Layout
from lstops.site.model import load_site

app = typer.Typer(help="Published DL3 bundles and their versions.", no_args_is_help=True)

Folder = Annotated[str, typer.Argument(help="Folder of the versions, relative to the site's base (DL3/20240115/...).")]
SiteFile = Annotated[str | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")]
_STYLE = {VersionState.CURRENT: "green", VersionState.SUPERSEDED: "dim", VersionState.WITHDRAWN: "bold red"}


def _layout(site: str | None) -> Layout:
    loaded = load_site(site)
    return Layout(loaded.base, loaded.work)


@app.command("list")
def list_published(
    folder: Annotated[str | None, typer.Argument(help="Folder, relative to the site's base; default: all.")] = None,
    site: SiteFile = None,
) -> None:
    """Versions with their state."""
    layout = _layout(site)
    folders = [folder] if folder else _folders(layout)
    table = Table("folder", "version", "state", "published", "content", "note")
    for name in folders:
        for v in list_versions(name, layout):
            note = f"{v.withdrawal.author}: {v.withdrawal.reason}" if v.withdrawal else ""
            table.add_row(
                Text(name), v.version, Text(v.state.value, _STYLE[v.state]), v.published_at, v.digest[:12], Text(note)
            )
    Console().print(table)


def _folders(layout: Layout) -> list[str]:
    """Every folder below DL3/ that holds versions."""
    found = {p.parent for p in layout.absolute("DL3").glob("**/v[0-9][0-9][0-9][0-9]*") if p.is_dir()}
    return sorted(layout.relative(p) for p in found)


@app.command()
def check(
    folder: Annotated[str | None, typer.Argument(help="Folder, relative to the site's base; default: all.")] = None,
    site: SiteFile = None,
) -> None:
    """Read every file of every version again and compare the digests; exit status 76 if one differs."""
    layout = _layout(site)
    damaged = []
    for name in [folder] if folder else _folders(layout):
        for v in list_versions(name, layout):
            found = problems(layout.absolute(v.path))
            damaged += [f"{v.path}: {p}" for p in found]
            typer.echo(f"{v.path}: {'; '.join(found) or 'whole'}")
    if damaged:
        raise ProductInvalid(
            f"{len(damaged)} published file(s) are damaged: {'; '.join(damaged)}.",
            "withdraw the version, or publish its night again: a damaged version is superseded.",
        )


@app.command()
def withdraw(
    folder: Folder,
    version: Annotated[str, typer.Argument(help="v0001")],
    author: Annotated[str, typer.Option(help="Who withdraws it.")],
    reason: Annotated[str, typer.Option(help="Why, for those who used it.")],
    site: SiteFile = None,
) -> None:
    """Withdraw a version: it stays, with a notice, and `current` leaves it."""
    done = withdraw_version(folder, version, author, reason, _layout(site))
    typer.echo(f"{folder}/{version} is withdrawn; {CURRENT} is {done.current or 'nothing'}")
