"""`lstops products`: what was made. `lstops trace`: from what, how, and what was made from it."""

from __future__ import annotations

import csv
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lstops.catalog.database import catalog_session
from lstops.catalog.node_use import CULMINATION, NodeUse, node_use
from lstops.catalog.products import (
    BESIDE,
    BUNDLE,
    CANDIDATE,
    CURRENT,
    SUPERSEDED,
    WITHDRAWN,
    known_productions,
    products,
)
from lstops.catalog.story import Story, facts_of
from lstops.catalog.trace import Content, Graph, ancestors, descendants
from lstops.console import WIDE, path_console
from lstops.errors import ConfigError
from lstops.night import Night
from lstops.production.documents import nearest
from lstops.step.model import ArtifactKind

products_app = typer.Typer(help="What was made, the newest first.")
trace_app = typer.Typer(help="How a file came to be, and what depends on it.")

SiteFile = Annotated[str | None, typer.Option("--site", help="Site file; default: $LSTOPS_SITE.")]
_KINDS = (*(kind.value for kind in ArtifactKind), BUNDLE)
_STATES = (CANDIDATE, CURRENT, BESIDE, SUPERSEDED, WITHDRAWN)
#: so many names are proposed
_NAMED = 12
_COLUMNS = ("made_at", "kind", "status", "run", "night", "production", "path", "sha256", "notice")


class OutputFormat(str, Enum):
    """How a list is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@products_app.command()
def products_list(
    kind: Annotated[str | None, typer.Option(help=f"{', '.join(_KINDS)}.")] = None,
    run: Annotated[int | None, typer.Option(min=1, help="Run number.")] = None,
    night: Annotated[str | None, typer.Option(help="YYYYMMDD")] = None,
    production: Annotated[str | None, typer.Option(help="Name of a Monte Carlo production.")] = None,
    status: Annotated[str | None, typer.Option(help=f"{', '.join(_STATES)}.")] = None,
    without_node: Annotated[
        str | None,
        typer.Option(
            "--without-node",
            help="Only what depends on models trained without this node of their line (theta_6.000_az_180.000), or "
            "without its `culmination`; of kind dl3 if --kind does not say otherwise.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many at most.")] = None,
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write it.")] = OutputFormat.TABLE,
) -> None:
    """What was made, the newest first."""
    if without_node is not None:
        kind = kind or ArtifactKind.DL3.value
    _require("kind", kind, _KINDS)
    _require("status", status, _STATES)
    use = None
    with catalog_session() as session:
        if without_node is not None and kind:
            use = node_use(session, without_node, kind)
        rows = products(
            session,
            kind,
            run,
            Night.parse(night) if night else None,
            production=production,
            status=status,
            ids=None if use is None else use.without | use.unknown,
            limit=limit,
        )
        if production is not None and not rows:
            _require("production", production, tuple(known_productions(session)))
    found = [facts_of(row) | _node_facts(row.id, without_node, use) for row in rows]
    columns = (*_COLUMNS, "node") if use is not None else _COLUMNS
    if output is OutputFormat.JSON:
        typer.echo(json.dumps(found, indent=1))
    elif output is OutputFormat.CSV:
        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    else:
        _table(found, columns)


def _require(option: str, value: str | None, known: tuple[str, ...]) -> None:
    """A word that is none would find nothing, and look like an answer."""
    if value is None or value in known:
        return
    best = nearest(value, known)
    raise ConfigError(
        f"there is no {option} {value!r}.",
        f"did you mean {best}?" if best else f"use one of {', '.join(known[:_NAMED]) or 'none yet'}.",
    )


def _node_facts(product_id: int, node: str | None, use: NodeUse | None) -> dict[str, Any]:
    if use is None:
        return {}
    lacks = f"without its {node}" if node == CULMINATION else f"without {node}"
    return {"node": lacks if product_id in use.without else "unknown: its models were not made here"}


def _table(found: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    shown = [c for c in columns if c in ("made_at", "kind", "status", "path") or any(row[c] for row in found)]
    table = Table(*(Column(name, overflow="fold") for name in shown))
    for row in found:
        cells = {**row, "made_at": row["made_at"][:16].replace("T", " "), "sha256": row["sha256"][:12]}
        table.add_row(*(Text("" if cells[c] is None else str(cells[c])) for c in shown))
    path_console().print(table)


@trace_app.command()
def trace(
    target: Annotated[
        str,
        typer.Argument(help="A path, a published file or a copy of one, a digest, or a production.", metavar="FILE"),
    ],
    up: Annotated[bool, typer.Option("--up", help="Only what it was made from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made from it.")] = False,
    kind: Annotated[str | None, typer.Option(help="Only products of this kind, as a list (dl3, bundle, ...).")] = None,
    versions: Annotated[bool, typer.Option("--all", help="Also older contents of the same path.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Every input, however many.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    prov: Annotated[Path | None, typer.Option(help="Write the provenance there, as W3C PROV-JSON.")] = None,
    site: SiteFile = None,
) -> None:
    """How a file came to be (up to DL1, models, nodes, configurations, jobs, software), and what depends on it."""
    from lstops.catalog.find import find_contents
    from lstops.site.layout import Layout
    from lstops.site.model import load_site
    from lstops.step.manifest import write_atomically

    _require("kind", kind, _KINDS)
    if prov and not prov.absolute().parent.is_dir():
        raise ConfigError(f"{prov.absolute().parent} is no folder.", "name a file in a folder that is there (--prov).")
    loaded = load_site(site)
    layout = Layout(loaded.base, loaded.work)
    with catalog_session() as session:
        found = find_contents(session, target, layout)
        one_path = len({content.path for content in found}) == 1
        roots = found if versions or not one_path else found[:1]
        stories = {}
        if up or not down:
            stories["up"] = Story(ancestors(session, roots), layout)
        if down or not up:
            stories["down"] = Story(descendants(session, roots), layout, downwards=True)
    if prov:
        write_atomically(
            prov, json.dumps(_union(list(stories.values()), layout).prov(), indent=1, sort_keys=True) + "\n"
        )
        typer.echo(f"{prov}: PROV-JSON of {target}", err=as_json)
    if kind:
        _list(kind, list(stories.values()), as_json)
        return
    if as_json:
        document = {"target": target} | {name: story.document() for name, story in stories.items()}
        typer.echo(json.dumps(document, indent=1))
        return
    console = Console(width=WIDE)  # trees are not fitted to the terminal
    for name, story in stories.items():
        console.print(Text("made from" if name == "up" else "used by", "bold underline"))
        for root in roots:
            console.print(story.tree(root, full=full))
    if len(roots) < len(found):
        console.print(Text(f"{len(found) - len(roots)} older content(s) of this path: --all", "dim"))


def _list(kind: str, stories: list[Story], as_json: bool) -> None:
    found: dict[Content, dict[str, Any]] = {}
    for story in stories:
        for content in story.graph.of_kind(kind):
            row = story.graph.rows.get(content)
            found[content] = facts_of(row) if row else {"path": content.path, "kind": kind, "sha256": content.sha256}
    if as_json:
        typer.echo(json.dumps(list(found.values()), indent=1))
        return
    for facts in found.values():
        words = (facts["path"], facts["sha256"][:12], facts.get("status", ""), facts.get("notice", ""))
        typer.echo("  ".join(word for word in words if word))


def _union(stories: list[Story], layout: Any) -> Story:
    graphs = [story.graph for story in stories]
    inputs: dict[Any, tuple[Any, ...]] = {}
    for graph in graphs:
        for content, used in graph.inputs.items():
            inputs[content] = tuple(sorted({*inputs.get(content, ()), *used}))
    kinds = {c: k for graph in graphs for c, k in graph.kinds.items()}
    rows = {c: r for graph in graphs for c, r in graph.rows.items()}
    return Story(Graph(graphs[0].roots, kinds, rows, inputs), layout)
