"""The measured night-sky background of runs in the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.tables import RunNsbRow
from lstops.nsb.finder import RunNsb
from lstops.nsb.tailcuts import Tailcut


def save_nsb(session: Session, measured: Iterable[RunNsb]) -> None:
    """Store what the tailcut finder measured; a new measurement replaces the old one."""
    for item in measured:
        values = {
            "extra_ghz": item.extra_ghz,
            "picture_pe": item.tailcut.picture_pe,
            "boundary_pe": item.tailcut.boundary_pe,
            "quantile_pe": item.quantile_pe,
        }
        statement = insert(RunNsbRow).values(run_id=item.run_number, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=values))


def nsb_of_runs(session: Session, runs: Collection[int] | None = None) -> dict[int, RunNsb]:
    """Return the NSB of runs, as far as it was measured, by run number; of all runs if none are named."""
    row = RunNsbRow
    query = select(row.run_id, row.extra_ghz, row.picture_pe, row.boundary_pe, row.quantile_pe)
    if runs is not None:
        query = query.where(row.run_id.in_(runs))
    return {
        run: RunNsb(run, extra_ghz, Tailcut(picture_pe, boundary_pe), quantile_pe)
        for run, extra_ghz, picture_pe, boundary_pe, quantile_pe in session.execute(query)
    }
