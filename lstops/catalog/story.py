"""What a trace tells: each content with the step that made it, as a tree for people, as data for programs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.text import Text
from rich.tree import Tree

from lstops.catalog.bundles import as_published
from lstops.catalog.products import BUNDLE, WITHDRAWN
from lstops.catalog.tables import ProductRow
from lstops.catalog.trace import Content, Graph
from lstops.errors import DataError
from lstops.publish import model
from lstops.publish.prov import as_prov
from lstops.publish.provenance import manifests_in
from lstops.site.layout import Layout
from lstops.step.manifest import Manifest, ManifestStore

#: of more siblings of one kind, a tree shows so many and counts the rest
SHOWN = 6
#: what a line of the tree names; `--json` has all
_SHOWN_SOFTWARE = ("lstchain", "lstops")
_STYLE = {"current": "green", "superseded": "dim", "withdrawn": "bold red"}


@dataclass(frozen=True)
class Story:
    """A traced graph, upwards (what the roots were made from) or downwards (what was made from them)."""

    graph: Graph
    layout: Layout
    downwards: bool = False

    @property
    def links(self) -> Mapping[Content, tuple[Content, ...]]:
        """From a content to the next ones."""
        return self.graph.users if self.downwards else self.graph.inputs

    @cached_property
    def makers(self) -> dict[Content, Manifest]:
        """The manifests of the steps that made the contents: the present ones, replaced ones, those of bundles."""
        store = ManifestStore(self.layout.manifests)
        found: dict[Content, Manifest] = {}
        made = [c for c, row in self.graph.rows.items() if row.kind != BUNDLE]
        missing = []
        for content in made:
            if manifest := store.maker_of(*content):
                found[content] = manifest
            else:
                missing.append(content)
        if missing:
            kept = {Content(o.path, o.state.sha256): m for m in self._manifests_of_versions() for o in m.outputs}
            found |= {content: kept[content] for content in missing if content in kept}
        return found

    def _manifests_of_versions(self) -> Iterator[Manifest]:
        for content, row in self.graph.rows.items():
            path = self.layout.absolute(content.path) / model.PROVENANCE
            if row.kind == BUNDLE and path.exists():
                try:
                    yield from manifests_in(path)
                except DataError:
                    continue  # damaged: `lstops audit` names it; the trace says that the step is not known

    def document(self) -> dict[str, Any]:
        """The graph as data: `nodes` with their steps, `edges` from a content to what it was made from."""
        order = {content: i for i, content in enumerate(sorted(self.graph.kinds))}
        return {
            "roots": [order[root] for root in self.graph.roots],
            "nodes": [self._node(content) for content in order],
            "edges": sorted([order[c], order[used]] for c, inputs in self.graph.inputs.items() for used in inputs),
        }

    def _node(self, content: Content) -> dict[str, Any]:
        node: dict[str, Any] = {"path": content.path, "sha256": content.sha256, "kind": self.graph.kinds[content]}
        if row := self.graph.rows.get(content):
            node |= facts_of(row)
        if manifest := self.makers.get(content):
            node["step"] = step_of(manifest)
        return node

    def prov(self) -> dict[str, Any]:
        """The graph as PROV-JSON."""
        manifests = {(m.outputs[0].path, m.key, m.ended): m for m in self.makers.values()}
        versions = [
            as_published(row, [(*used, self.graph.kinds[used]) for used in self.graph.inputs.get(content, ())])
            for content, row in self.graph.rows.items()
            if row.kind == BUNDLE
        ]
        return as_prov(list(manifests.values()), versions)

    def tree(self, root: Content, *, full: bool = False) -> Tree:
        """A tree for people; what stands in it already is not unfolded again."""
        tree = Tree(self._line(root), guide_style="dim")
        seen = {root}

        def unfold(branch: Tree, content: Content) -> None:
            groups: dict[str, list[Content]] = {}
            for item in self.links.get(content, ()):
                groups.setdefault(self.graph.kinds[item], []).append(item)
            for kind, items in groups.items():
                for item in items if full else items[:SHOWN]:
                    if item in seen:
                        branch.add(self._name(item).append("  (as above)", "dim"))
                    else:
                        seen.add(item)
                        unfold(branch.add(self._line(item)), item)
                if not full and len(items) > SHOWN:
                    branch.add(Text(f"... and {len(items) - SHOWN} more {kind}", "dim"))

        unfold(tree, root)
        return tree

    def _name(self, content: Content) -> Text:
        return Text.assemble((self.graph.kinds[content], "bold"), f" {content.path} ", (content.sha256[:12], "dim"))

    def _line(self, content: Content) -> Text:
        line, row = self._name(content), self.graph.rows.get(content)
        if row is None:
            return line.append("  (no step made it)", "dim")
        if row.kind == BUNDLE or row.status != "candidate":
            line.append(f" {row.status}", _STYLE.get(row.status, ""))
        if row.kind == BUNDLE:
            return line.append(notice_of(row), "red" if row.status == WITHDRAWN else "dim")
        manifest = self.makers.get(content)
        if manifest is None:
            return line.append("  (its manifest is gone)", "yellow")
        step = step_of(manifest)
        software = ", ".join(f"{name} {step['software'][name]}" for name in _SHOWN_SOFTWARE if name in step["software"])
        job = f"job {step['job']} on {step['host']}" if step["job"] else f"on {step['host']}"
        line.append(f"\n  {step['label']}: {job}, {software}, {step['ended']}", "cyan")
        for name, digest in step["configurations"].items():
            line.append(f"\n  configuration {name} {digest[:12]}", "cyan")
        return line


def step_of(manifest: Manifest) -> dict[str, Any]:
    """A step in short."""
    return {
        "label": manifest.label,
        "kind": manifest.kind,
        "plan": manifest.plan_id,
        "host": manifest.host,
        "job": manifest.job,
        "started": manifest.started,
        "ended": manifest.ended,
        "cpu_s": manifest.cpu_s,
        "environment": manifest.environment,
        "software": dict(manifest.versions),
        "configurations": {
            name: hashlib.sha256(content.encode()).hexdigest() for name, content in sorted(manifest.files.items())
        },
        "log": manifest.log,
    }


def facts_of(row: ProductRow) -> dict[str, Any]:
    """A product as data."""
    return {
        "path": row.path,
        "kind": row.kind,
        "status": row.status,
        "run": row.run_id,
        "night": row.night.strftime("%Y%m%d") if row.night else None,
        "production": row.production,
        "made_at": row.made_at.isoformat(),
        "published_at": row.published_at.isoformat() if row.published_at else None,
        "size": row.size,
        "sha256": row.sha256,
        "notice": notice_of(row).strip(),
        "facts": row.facts,
    }


def notice_of(row: ProductRow) -> str:
    """Why a version must not be used any more; empty if it may."""
    if withdrawn := row.facts.get("withdrawn"):
        return f"  withdrawn by {withdrawn['author']}: {withdrawn['reason']}"
    if replaced := row.facts.get("superseded"):
        return f"  superseded by {replaced['by']} ({replaced['author']}: {replaced['reason']})"
    return ""
