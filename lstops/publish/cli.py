"""Publication by hand: `lstops publish`, `withdraw`, `supersede`; and what is published: `lstops published`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from lstops.console import path_console
from lstops.errors import ConfigError, DataError, LstOpsError, ProductInvalid
from lstops.production.documents import nearest
from lstops.publish.model import CURRENT, VersionInfo, VersionState
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
from lstops.words import checked_words

app = typer.Typer(help="Published DL3 bundles and their versions.", no_args_is_help=True)
publish_app = typer.Typer(help="Publish by hand what a night's plans have made.")
withdraw_app = typer.Typer(help="Withdraw a published version.")
supersede_app = typer.Typer(help="Replace a published version by another.")

SiteFile = Annotated[str | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")]
Author = Annotated[str, typer.Option(help="Who decides it.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the version.")]
_PATH_HELP = "A version, a folder of versions or one above it, relative to the site's base; default: all."
_COLUMNS = ("folder", "version", "state", "published", "content", "note")
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
    path: Annotated[str | None, typer.Argument(metavar="PATH", help=_PATH_HELP)] = None,
    site: SiteFile = None,
) -> None:
    """Versions with their state."""
    layout, broken = _layout(load_site(site)), list[str]()
    # folded, not cut: a path that is cut cannot be handed to the next command
    table = Table(*(Column(name, overflow="fold") for name in _COLUMNS))
    for folder, only in _chosen(path, layout, broken):
        try:
            versions = [v for v in list_versions(folder, layout) if only in ("", v.version)]
        except (LstOpsError, OSError) as error:
            broken.append(f"{folder}: {error.what.rstrip('.') if isinstance(error, LstOpsError) else error}")
            continue
        for v in versions:
            state = Text(v.state.value, _STYLE[v.state])
            table.add_row(Text(folder), v.version, state, v.published_at, v.digest[:12], Text(_note(v)))
    path_console().print(table)
    if broken:
        raise DataError(f"not all can be listed: {'; '.join(broken)}.", "see `lstops audit`; the others are above.")


def _chosen(word: str | None, layout: Layout, broken: list[str]) -> list[tuple[str, str]]:
    """The folders with versions that a person means, each with the one version that is meant ("": all).

    Parameters
    ----------
    word : str or None
        A version, a folder of versions or one above it; None for all.
    broken : list of str
        Takes what is wrong with folders that cannot be read.

    Raises
    ------
    ConfigError
        If there are no versions: nothing to show would look like an answer.
    """
    unreadable: list[OSError] = []
    folders = version_folders(layout, unreadable)
    broken += [f"{error.filename} cannot be read ({error.strerror})" for error in unreadable]
    if word is None:
        return [(folder, "") for folder in folders]
    path = _relative(word, layout)
    if inside := [folder for folder in folders if folder == path or folder.startswith(f"{path}/")]:
        return [(folder, "") for folder in inside]
    above, _, name = path.rpartition("/")
    if above in folders:
        absolute = layout.absolute(above)
        version = current_version(absolute) if name == CURRENT else name
        if version and version in map(version_name, version_numbers(absolute)):
            return [(above, version)]
    best = nearest(path, folders)
    raise ConfigError(
        f"{word!r} holds no published version.", f"did you mean {best}?" if best else "see `lstops published list`."
    )


def _note(version: VersionInfo) -> str:
    if notice := version.withdrawal:
        return f"{notice.author}: {notice.reason}"
    if replaced := version.supersession:
        return f"by {replaced.by}; {replaced.author}: {replaced.reason}"
    return ""


@app.command()
def check(
    path: Annotated[str | None, typer.Argument(metavar="PATH", help=_PATH_HELP)] = None,
    site: SiteFile = None,
) -> None:
    """Read every file of every version again and compare the digests; exit status 76 if one differs.

    Needs no catalogue. `lstops audit` looks at more.
    """
    layout, broken = _layout(load_site(site)), list[str]()
    chosen, damaged = _chosen(path, layout, broken), list[str]()
    for folder, only in chosen:
        for name in [only] if only else map(version_name, version_numbers(layout.absolute(folder))):
            found = problems(layout.absolute(f"{folder}/{name}"))
            damaged += [f"{folder}/{name}: {p}" for p in found]
            typer.echo(f"{folder}/{name}: {'; '.join(found) or 'whole'}")
    if not chosen and not broken:
        typer.echo("nothing is published")
    if damaged:
        raise ProductInvalid(
            f"{len(damaged)} published file(s) are damaged: {'; '.join([*damaged, *broken])}.",
            "withdraw the version, or publish its night again: a damaged version is superseded.",
        )
    if broken:
        raise DataError(f"not all can be checked: {'; '.join(broken)}.", "see `lstops audit`; the others are above.")
