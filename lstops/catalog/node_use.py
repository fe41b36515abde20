"""Which products depend on models that a training node is missing from."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from lstops.catalog.tables import LineageRow, ProductRow
from lstops.catalog.trace import TOUCHED, Content, touched
from lstops.errors import ConfigError
from lstops.production.grid import known_grid, line_in_path, parse_node
from lstops.production.inventory import SAME_NODE_DEG
from lstops.step.model import ArtifactKind

#: in the place of a node: of each line its own one with the lowest zenith distance
CULMINATION = "culmination"
_FROM_UNKNOWN = text(
    TOUCHED.format(
        start="SELECT l.product_id FROM lineage l "
        "LEFT JOIN product p ON p.path = l.input_path AND p.sha256 = l.input_sha256 "
        "WHERE l.input_kind IN ('models', 'dl2') AND p.id IS NULL",
    )
)
# Up from the models, which are few; not down from the nodes, which no index finds. strpos, not LIKE: the name of a node
# holds underscores, which LIKE takes for any character. Models that were trained on with others are not followed.
_TRAINED_WITH = text(
    """
    WITH RECURSIVE used AS (
        SELECT p.id AS models, l.input_path, l.input_sha256
        FROM product p JOIN lineage l ON l.product_id = p.id WHERE p.kind = 'models'
        UNION
        SELECT u.models, l.input_path, l.input_sha256
        FROM used u
        JOIN product p ON p.path = u.input_path AND p.sha256 = u.input_sha256 AND p.kind <> 'models'
        JOIN lineage l ON l.product_id = p.id
    )
    SELECT DISTINCT models FROM used
    WHERE strpos(input_path, 'TrainingDataset') > 0 AND strpos(input_path, :node) > 0
    """
)
_OF_KIND = text("SELECT id FROM product WHERE kind = :kind AND id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(Integer))
)


@dataclass(frozen=True)
class NodeUse:
    """Products by whether the models they depend on were trained with a node.

    Attributes
    ----------
    without : frozenset of int
        Ids of products whose models were trained without the node.
    unknown : frozenset of int
        Ids of products that depend on models (or on a DL2) of which the catalogue does not know how they were made.
    """

    without: frozenset[int]
    unknown: frozenset[int]


def node_use(session: Session, node: str, kind: str) -> NodeUse:
    """Which products of a kind depend on models that a training node of their line is missing from.

    Parameters
    ----------
    node : str
        As in folder names, "theta_6.000_az_180.000"; or "culmination": of each line the node, or the pair, with the
        lowest zenith distance.

    Raises
    ------
    ConfigError
        If it is no node, or one that no line has and no models were trained with: everything would seem to lack it.
    """
    models = list(session.scalars(select(ProductRow).where(ProductRow.kind == ArtifactKind.MODELS.value)))
    explained = set(
        session.scalars(select(LineageRow.product_id).where(LineageRow.product_id.in_([m.id for m in models])))
    )
    lacking: dict[int, ProductRow] = {}
    for name, lines in _nodes_meant(node):
        trained_with = set(session.scalars(_TRAINED_WITH, {"node": f"{name}_"}))
        if not trained_with and not lines:
            raise ConfigError(
                f"no declination line has a node {name}, and no models were trained with it.",
                "correct it: theta_6.000_az_180.000, say; `culmination` means that of each line.",
            )
        for m in models:
            has_it = not lines or line_in_path(m.path) in {*lines, None}
            if has_it and m.id in explained and m.id not in trained_with:
                lacking[m.id] = m
    strange = [m for m in models if m.id not in explained]

    def with_users(rows: list[ProductRow]) -> set[int]:
        if not rows:
            return set()
        return {row.id for row in rows} | set(touched(session, [Content(m.path, m.sha256) for m in rows]))

    def of_kind(ids: set[int]) -> frozenset[int]:
        return frozenset(session.scalars(_OF_KIND, {"kind": kind, "ids": list(ids)})) if ids else frozenset()

    without = with_users(list(lacking.values()))
    unknown = (with_users(strange) | set(session.scalars(_FROM_UNKNOWN))) - without
    return NodeUse(of_kind(without), of_kind(unknown))


def _nodes_meant(word: str) -> list[tuple[str, frozenset[str]]]:
    """Nodes as folder names have them, each with the lines of the known grid that have it."""
    lines = known_grid().lines.values()
    if word == CULMINATION:
        return [(str(node), frozenset({line.name})) for line in lines for node in line.culmination_nodes]
    node = parse_node(f"node_{word.removeprefix('node_').removeprefix('corsika_').strip('_')}_")[1]
    found = {line.name: n for line in lines for n in line.nodes if n.is_same(node, SAME_NODE_DEG)}
    return [(str(next(iter(found.values()), node)), frozenset(found))]
