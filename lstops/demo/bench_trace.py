"""Times of trace and impact queries in a large catalogue, on a PostgreSQL of its own: part of `make bench`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.node_use import node_use
from lstops.catalog.trace import Content, ancestors, descendants, touched
from lstops.embedded.postgres import EmbeddedPostgres

RUNS = 20_000
_PRODUCTS = """
INSERT INTO product (path, sha256, kind, size, step_key, plan_id, status, facts, made_at)
SELECT k || '/' || n, k || '-' || n, k, 1, '', '', 'candidate', '{}', '2024-01-01'
FROM unnest(ARRAY['dl2', 'dl3', 'index', 'check', 'bundle', 'merged', 'models']) AS k,
     generate_series(0, :runs - 1) AS n
WHERE n < 10 OR k NOT IN ('merged', 'models')
"""
#: ten models of ten training nodes each; models 3 lack node 7
_LINEAGE = """
INSERT INTO lineage (product_id, input_path, input_sha256, input_kind)
SELECT p.id, i.path, replace(i.path, '/', '-'), i.kind
FROM product p
CROSS JOIN LATERAL (SELECT split_part(p.path, '/', 2)::int AS n) AS r
CROSS JOIN LATERAL (
    SELECT u.used || '/' || CASE u.used WHEN 'models' THEN r.n % 10 ELSE r.n END AS path, u.used AS kind
    FROM (VALUES ('models', 'merged'), ('dl2', 'dl1'), ('dl2', 'models'), ('dl3', 'dl2'), ('index', 'dl3'),
                 ('check', 'other'), ('bundle', 'dl3'), ('bundle', 'index')) AS u(kind, used)
    WHERE u.kind = p.kind
    UNION ALL
    SELECT 'TrainingDataset/' || r.n || '/node_theta_' || k || '.000_az_180.000_', 'dl1'
    FROM generate_series(0, 9) AS k WHERE p.kind = 'merged' AND NOT (r.n = 3 AND k = 7)
) AS i
"""


@dataclass(frozen=True)
class Timing:
    """How long a question took, and how much it found."""

    what: str
    rows: int
    seconds: float


def fill(runs: int) -> None:
    """Replace products and lineage: per run DL1 -> DL2 -> DL3 -> index -> bundle, and a check of something else."""
    with catalog_session() as session:
        session.execute(text("TRUNCATE product, lineage"))
        session.execute(text(_PRODUCTS), {"runs": runs})
        session.execute(text(_LINEAGE))
        session.execute(text("ANALYZE product"))
        session.execute(text("ANALYZE lineage"))


def measure(runs: int) -> list[Timing]:
    """Ask what people ask, each question once."""
    dl3 = Content(f"dl3/{runs // 2 + 3}", f"dl3-{runs // 2 + 3}")
    models = Content("models/3", "models-3")
    with catalog_session() as session:
        questions: dict[str, Callable[[], Sized]] = {
            "up from a DL3": lambda: [c for c in ancestors(session, [dl3]).kinds if "node" not in c.path],
            "down from a DL3 to the bundle": lambda: descendants(session, [dl3]).kinds,
            "all that used one of ten models": lambda: touched(session, [models]),
            "DL3 of models without a node": lambda: node_use(session, "theta_7.000_az_180.000", "dl3").without,
        }
        found = []
        for what, ask in questions.items():
            started = time.perf_counter()
            rows = len(ask())
            found.append(Timing(what, rows, time.perf_counter() - started))
    return found


def main() -> None:
    """Print a table of the times."""
    with tempfile.TemporaryDirectory(prefix="lstops-bench-") as home:
        os.chmod(home, 0o711)  # noqa: S103 - PostgreSQL never runs as root: it has to get through
        postgres = EmbeddedPostgres(Path(home))
        postgres.start()
        try:
            postgres.create_database("bench")
            os.environ["LSTOPS_DATABASE_URL"] = postgres.url("bench")
            upgrade()
            fill(RUNS)
            table = Table("question", "rows", "time (s)", title=f"trace, {RUNS} runs, {5 * RUNS + 20} products")
            for timing in measure(RUNS):
                table.add_row(timing.what, str(timing.rows), f"{timing.seconds:.3f}")
            Console().print(table)
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
