"""Publication by hand: `lstops publish`, `withdraw`, `supersede`; and what is published: `lstops published`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstops.errors import ConfigError, LstOpsError, ProductInvalid
from lstops.publish.model import CURRENT, VersionInfo, VersionState
from lstops.publish.notices import checked_words
from lstops.publish.versions import (
    current_version,
    list_versions,
    problems,
    split_version,
    version_folders,
    version_name,
    version_numbers,
)
from lstops.publish.withdraw import supersede as supersede_version
from lstops.publish.withdraw import withdraw as withdraw_version
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site

app = typer.Typer(help="Published DL3 bundles and their versions.", no_args_is_help=True)
publish_app = typer.Typer(help="Publish by hand what a night's plans have made.")
withdraw_app = typer.Typer(help="Withdraw a published version.")
supersede_app = typer.Typer(help="Replace a published version by another.")

SiteFile = Annotated[str | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")]
Author = Annotated[str, typer.Option(help="Who decides it.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the version.")]
_STYLE = {
    VersionState.CURRENT: "green",
    VersionState.SUPERSEDED: "dim",
    VersionState.WITHDRAWN: "bold red",
    VersionState.BESIDE: "cyan",
}


def _layout(site: Site) -> Layout:
    return Layout(site.base, site.work)


@publish_app.command()
def publish(
    night: Annotated[str, typer.Argument(help="YYYYMMDD, the date before midnight.")],
    author: Author,
    reason: Reason,
    site: SiteFile = None,
) -> None:
    """Publish what the last plans of a night have made; what is published already stays as it is.

    The DAG `nightly` does this by itself. By hand it is for a night whose publication failed or was held back.
    """
    from lstops.catalog.database import catalog_session
    from lstops.catalog.nights import find_night
    from lstops.night import Night
    from lstops.operations.reduction import publish as publish_night

    author, reason = checked_words(f"the publication of {night}", author, reason)
    loaded, chosen = load_site(site), Night.parse(night)
    with catalog_session() as session:
        row = find_night(session, chosen)
    if not row.reduction_plan or not row.collection_plan:
        raise ConfigError(f"night {chosen.iso} was not reduced.", "start the DAG `nightly` for it.")
    told: list[str] = []
    found = publish_night(
        loaded, chosen, row.reduction_plan, row.collection_plan, author=author, reason=reason, tell=told.append
    )
    for words in told:
        typer.echo(words)
    if len(found) < max(len(told), 1):
        raise ProductInvalid(
            f"{len(told) - len(found)} source(s) of night {chosen.iso} could not be published."
            if told
            else f"night {chosen.iso} has nothing to publish.",
            f"see `lstops night {night}` for what is blocked.",
        )


@withdraw_app.command()
def withdraw(
    version: Annotated[str, typer.Argument(help="DL3/.../v0001, relative to the site's base or absolute.")],
    author: Author,
    reason: Reason,
    site: SiteFile = None,
) -> None:
    """Withdraw a version: it stays, with a notice, and `current` leaves it."""
    loaded = load_site(site)
    layout = _layout(loaded)
    folder, name = split_version(_relative(version, layout))
    done = withdraw_version(folder, name, author, reason, layout)
    typer.echo(f"{folder}/{name} is withdrawn; {CURRENT} is {done.current or 'nothing'}")
    for changed in done.freed:
        current = current_version(layout.absolute(changed)) or "nothing"
        typer.echo(f"what it had replaced may be used again: {CURRENT} of {changed} is {current}")
    for changed in (folder, *done.freed):
        _record(loaded, changed)
    _tell_others(f"{folder}/{name}")


def _tell_others(version: str) -> None:
    from lstops.catalog.bundles import others_with
    from lstops.catalog.database import catalog_session

    with catalog_session() as session:
        for row, shared in others_with(session, version):
            typer.echo(f"{row.path} ({row.status}) holds {shared} of its runs too: see whether the reason holds for it")


@supersede_app.command()
def supersede(
    version: Annotated[str, typer.Argument(help="DL3/.../v0001, relative to the site's base or absolute.")],
    by: Annotated[str, typer.Option(help="The version to use instead, in the same folder or in another.")],
    author: Author,
    reason: Reason,
    site: SiteFile = None,
) -> None:
    """Replace a version by another: it stays, with a notice that names the other one.

    A new version of the same folder supersedes the older ones by itself.
    """
    loaded = load_site(site)
    layout = _layout(loaded)
    folder, name = split_version(_relative(version, layout))
    other = _relative(by, layout)
    done = supersede_version(folder, name, other, author, reason, layout)
    typer.echo(f"{folder}/{name} is superseded by {done.by}; {CURRENT} is {done.current or 'nothing'}")
    for changed in dict.fromkeys([folder, split_version(other)[0]]):
        _record(loaded, changed)


def _relative(version: str, layout: Layout) -> str:
    return layout.relative(layout.base / version).rstrip("/")


def _record(site: Site, folder: str) -> None:
    """Bring the catalogue to what the folder says; the same command again does it if this one dies before."""
    from lstops.catalog.bundles import record_versions
    from lstops.catalog.database import catalog_session

    with catalog_session() as session:
        record_versions(session, _layout(site), folder)
    _renew_report(site, folder)


def _renew_report(site: Site, folder: str) -> None:
    """A night's report that is there would go on saying that the version is published."""
    from lstops.night import Night
    from lstops.operations.report import report_file, write_report

    try:
        night = Night.parse(folder.split("/")[1])
    except ConfigError:
        return  # of a request, which has no report
    if report_file(site, night).exists():
        try:
            write_report(site, night)
        except (LstOpsError, OSError) as error:
            typer.echo(f"the report of {night.iso} could not be made anew: {error}", err=True)


@app.command("list")
def list_published(
    folder: Annotated[
        str | None,
        typer.Argument(
            help="Folder (also all below it) or version, relative to the site's base or absolute; default: all."
        ),
    ] = None,
    site: SiteFile = None,
) -> None:
    """Versions with their state."""
    layout = _layout(load_site(site))
    table = Table("folder", "version", "state", "published", "content", "note")
    broken = []
    for name in _folders(folder, layout):
        try:
            versions = list_versions(name, layout)
        except ConfigError as error:
            broken.append(error)
            continue
        for v in versions:
            state = Text(v.state.value, _STYLE[v.state])
            table.add_row(Text(name), v.version, state, v.published_at, v.digest[:12], Text(_note(v)))
    Console().print(table)
    if broken:
        raise ConfigError(" ".join(error.what for error in broken), broken[0].remedy)


def _folders(folder: str | None, layout: Layout) -> tuple[str, ...]:
    """The folders with versions that a person means: one, also by one of its versions, all below one, or all.

    Raises
    ------
    ConfigError
        If there are no versions: nothing to show would look like an answer.
    """
    if folder is None:
        return version_folders(layout)
    name = _relative(folder, layout)
    above = name.rpartition("/")[0]
    for candidate in (name, above):
        if candidate and version_numbers(layout.absolute(candidate)):
            return (candidate,)
    if below := tuple(known for known in version_folders(layout) if known.startswith(f"{name}/")):
        return below
    raise ConfigError(f"{name!r} holds no published version.", "see `lstops published list` for the folders that do.")


def _note(version: VersionInfo) -> str:
    if notice := version.withdrawal:
        return f"{notice.author}: {notice.reason}"
    if replaced := version.supersession:
        return f"by {replaced.by}; {replaced.author}: {replaced.reason}"
    return ""


@app.command()
def check(
    folder: Annotated[
        str | None,
        typer.Argument(
            help="Folder (also all below it) or version, relative to the site's base or absolute; default: all."
        ),
    ] = None,
    site: SiteFile = None,
) -> None:
    """Read every file of every version again and compare the digests; exit status 76 if one differs.

    Needs no catalogue. `lstops audit` looks at more.
    """
    layout = _layout(load_site(site))
    damaged = []
    for name in _folders(folder, layout):
        for number in version_numbers(layout.absolute(name)):
            path = f"{name}/{version_name(number)}"
            found = problems(layout.absolute(path))
            damaged += [f"{path}: {p}" for p in found]
            typer.echo(f"{path}: {'; '.join(found) or 'whole'}")
    if damaged:
        raise ProductInvalid(
            f"{len(damaged)} published file(s) are damaged: {'; '.join(damaged)}.",
            "withdraw the version, or publish its night again: a damaged version is superseded.",
        )
