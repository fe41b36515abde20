"""The graph of products: what something was made from, and what was made from it.

A node is a content: a path and its digest. A file that was made again is another node, so the graph has no cycles; the
queries would end on one all the same, because they collect each edge once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer, String

from lstops.catalog.tables import LineageRow, ProductRow
from lstops.step.model import ArtifactKind


class Content(NamedTuple):
    """A file or folder with the content it had."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Graph:
    """A part of the graph.

    Attributes
    ----------
    roots : tuple of Content
        Where it begins.
    kinds : mapping
        Kind by content.
    rows : mapping
        What the catalogue knows of those contents that a step made (or that are published versions).
    inputs : mapping
        Contents that a content was made from.
    """

    roots: tuple[Content, ...]
    kinds: Mapping[Content, str]
    rows: Mapping[Content, ProductRow]
    inputs: Mapping[Content, tuple[Content, ...]]

    @property
    def users(self) -> dict[Content, tuple[Content, ...]]:
        """Contents that were made from a content."""
        found: dict[Content, list[Content]] = defaultdict(list)
        for user, used in self.inputs.items():
            for item in used:
                found[item].append(user)
        return {content: tuple(sorted(users)) for content, users in found.items()}

    def of_kind(self, kind: str) -> tuple[Content, ...]:
        """All contents of a kind, by path."""
        return tuple(sorted(content for content, found in self.kinds.items() if found == kind))


_UP = text(
    """
    WITH RECURSIVE edge AS (
        SELECT l.product_id, l.input_path, l.input_sha256, l.input_kind FROM lineage l WHERE l.product_id = ANY(:ids)
        UNION
        SELECT l.product_id, l.input_path, l.input_sha256, l.input_kind
        FROM edge e
        JOIN product p ON p.path = e.input_path AND p.sha256 = e.input_sha256
        JOIN lineage l ON l.product_id = p.id
    )
    SELECT product_id, input_path, input_sha256, input_kind FROM edge
    """
).bindparams(bindparam("ids", type_=ARRAY(Integer)))

TOUCHED = """
    WITH RECURSIVE touched(id) AS (
        {start}
        UNION
        SELECT l.product_id FROM touched t
        JOIN product p ON p.id = t.id
        JOIN lineage l ON l.input_sha256 = p.sha256 AND l.input_path = p.path
    )
    SELECT id FROM touched
"""
_FROM_CONTENTS = text(
    TOUCHED.format(
        start="SELECT l.product_id FROM lineage l "
        "JOIN unnest(:paths, :digests) AS r(path, sha256) ON l.input_sha256 = r.sha256 AND l.input_path = r.path",
    )
).bindparams(bindparam("paths", type_=ARRAY(String)), bindparam("digests", type_=ARRAY(String)))


def ancestors(session: Session, roots: Sequence[Content]) -> Graph:
    """Everything that the roots were made from, down to what no step made."""
    ids = {row.id: Content(row.path, row.sha256) for row in _rows_of(session, roots)}
    edges = session.execute(_UP, {"ids": list(ids)}).all()
    return _graph(session, roots, edges)


def descendants(session: Session, roots: Sequence[Content]) -> Graph:
    """Everything that was made from the roots, up to the published versions."""
    ids = touched(session, roots)
    edges = session.execute(
        select(LineageRow.product_id, LineageRow.input_path, LineageRow.input_sha256, LineageRow.input_kind)
        .join(ProductRow, ProductRow.id == LineageRow.product_id)
        .where(LineageRow.product_id == text("ANY(:ids)").bindparams(bindparam("ids", ids, type_=ARRAY(Integer))))
    ).all()
    graph = _graph(session, roots, edges)
    # what the products also used, beside the roots and their descendants, is not asked for
    within = {*roots, *(Content(row.path, row.sha256) for row in graph.rows.values() if row.id in set(ids))}
    return Graph(
        graph.roots,
        {c: k for c, k in graph.kinds.items() if c in within},
        {c: r for c, r in graph.rows.items() if c in within},
        {c: tuple(i for i in used if i in within) for c, used in graph.inputs.items() if c in within},
    )


def touched(session: Session, roots: Iterable[Content]) -> list[int]:
    """Ids of all products that depend on the roots."""
    contents = list(roots)
    values = {"paths": [c.path for c in contents], "digests": [c.sha256 for c in contents]}
    return sorted(session.scalars(_FROM_CONTENTS, values))


def _graph(session: Session, roots: Sequence[Content], edges: Sequence[Any]) -> Graph:
    by_id = {row.id: row for row in _rows_by_id(session, {edge.product_id for edge in edges})}
    kinds: dict[Content, str] = {}
    inputs: dict[Content, list[Content]] = defaultdict(list)
    for edge in edges:
        row = by_id[edge.product_id]
        used = Content(edge.input_path, edge.input_sha256)
        inputs[Content(row.path, row.sha256)].append(used)
        kinds[used] = edge.input_kind
    rows = {Content(row.path, row.sha256): row for row in by_id.values()}
    unseen = (set(kinds) | set(roots)) - set(rows)
    rows |= {Content(row.path, row.sha256): row for row in _rows_of(session, unseen)}
    kinds |= {content: row.kind for content, row in rows.items()}
    for root in roots:
        kinds.setdefault(root, _kind_as_input(session, root))
    return Graph(tuple(roots), kinds, rows, {content: tuple(sorted(used)) for content, used in inputs.items()})


def _kind_as_input(session: Session, content: Content) -> str:
    query = select(LineageRow.input_kind).where(
        LineageRow.input_path == content.path, LineageRow.input_sha256 == content.sha256
    )
    return session.scalar(query.limit(1)) or ArtifactKind.FILE.value


def _rows_by_id(session: Session, ids: Collection[int]) -> Iterator[ProductRow]:
    condition = ProductRow.id == text("ANY(:ids)").bindparams(bindparam("ids", sorted(ids), type_=ARRAY(Integer)))
    yield from session.scalars(select(ProductRow).where(condition))


def _rows_of(session: Session, contents: Collection[Content]) -> list[ProductRow]:
    ordered = sorted(contents)
    wanted = text("SELECT p.id FROM product p JOIN unnest(:paths, :digests) AS r(path, sha256) USING (path, sha256)")
    wanted = wanted.bindparams(
        bindparam("paths", [c.path for c in ordered], type_=ARRAY(String)),
        bindparam("digests", [c.sha256 for c in ordered], type_=ARRAY(String)),
    )
    return list(_rows_by_id(session, session.scalars(wanted).all()))
