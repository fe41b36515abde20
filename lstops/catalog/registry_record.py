"""What became of productions and who wanted it, as files: what a lost database takes with it comes back from there.

One file an event, named by its time, never changed; written before the transaction that stores the event commits, so
that nothing is decided that is not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.productions import STANDARD, STANDARD_NO_MORE, RegisteredProduction, register_production
from lstops.catalog.tables import ProductionEventRow, ProductionRow, ProductionStandardRow
from lstops.site.layout import Layout
from lstops.step.manifest import write_atomically
from lstops.step.model import Frozen


class KeptEvent(Frozen):
    """An event of a production on one declination line.

    Attributes
    ----------
    status : str
        That the production had after it; empty if it was not registered any more.
    """

    name: str
    line: str
    action: str
    author: str
    reason: str
    at: datetime
    status: str = ""
    lstchain_version: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str, datetime]:
        """What makes it another event."""
        return self.name, self.line, self.action, self.author, self.reason, self.at

    @property
    def file_name(self) -> str:
        """Sorted as the events were."""
        digest = hashlib.sha256(repr(self.key).encode()).hexdigest()
        return f"{self.at:%Y%m%dT%H%M%S.%f}Z-{digest[:12]}.json"


def keep_events(session: Session, layout: Layout) -> int:
    """Write every event of the catalogue that has no file yet; to be called before the events are committed.

    Returns
    -------
    int
        Number of new files.

    Raises
    ------
    StorageError
        If one cannot be written: the transaction is then rolled back.
    """
    session.flush()
    productions = {(row.name, row.line): row for row in session.scalars(select(ProductionRow))}
    there = {path.name for path in layout.production_events.glob("*.json")}
    new = 0
    for row in session.scalars(select(ProductionEventRow).order_by(ProductionEventRow.at, ProductionEventRow.id)):
        production = productions.get((row.name, row.line))
        event = KeptEvent(
            name=row.name, line=row.line, action=row.action, author=row.author, reason=row.reason,
            at=row.at.astimezone(timezone.utc),
            status=production.status if production else "",
            lstchain_version=production.lstchain_version if production else "",
        )  # fmt: skip
        if event.file_name not in there:
            write_atomically(layout.production_events / event.file_name, event.model_dump_json(indent=1))
            new += 1
    return new


def kept_events(layout: Layout) -> tuple[tuple[KeptEvent, ...], tuple[str, ...]]:
    """Every event that was kept, in order; and what could not be read, and why."""
    found, unreadable = [], []
    for path in sorted(layout.production_events.glob("[!.]*.json")):
        try:
            found.append(KeptEvent.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            unreadable.append(f"{layout.relative(path)}: {error.errors()[0]['msg']}")
        except OSError as error:
            unreadable.append(f"{layout.relative(path)}: {error.strerror}")
    return tuple(sorted(found, key=lambda event: event.at)), tuple(unreadable)


def register_again(session: Session, production: RegisteredProduction, kept: Sequence[KeptEvent], status: str) -> None:
    """Register a production from its files: one that the catalogue does not know gets the status that people gave it.

    Parameters
    ----------
    status : str
        For a production of which nothing was kept.
    """
    own = [e for e in kept if (e.name, e.line) == (production.name, production.line)]
    if not own or session.get(ProductionRow, (production.name, production.line)) is not None:
        register_production(session, production, status)
        return
    values = {name: getattr(production, name) for name in production.__dataclass_fields__}
    last = next((event.status for event in reversed(own) if event.status), status)
    session.execute(insert(ProductionRow).values(**values, status=last, registered_at=own[0].at))


def restore_events(session: Session, kept: Iterable[KeptEvent]) -> int:
    """Store the kept events that the catalogue does not know, and the pointers to standards that they moved.

    Returns
    -------
    int
        Number of events that were not known.
    """
    query = select(ProductionEventRow)
    known = {
        (row.name, row.line, row.action, row.author, row.reason, row.at.astimezone(timezone.utc))
        for row in session.scalars(query)
    }
    missing = [event for event in kept if event.key not in known]
    for event in missing:
        fields = ("name", "line", "action", "author", "reason", "at")
        session.add(ProductionEventRow(**{field: getattr(event, field) for field in fields}))
        if event.action == STANDARD:
            values = {"line": event.line, "lstchain_version": event.lstchain_version, "name": event.name}
            statement = insert(ProductionStandardRow).values(**values, set_at=event.at)
            session.execute(
                statement.on_conflict_do_update(
                    index_elements=["line", "lstchain_version"], set_={"name": event.name, "set_at": event.at}
                )
            )
        elif event.action == STANDARD_NO_MORE:
            pointer = session.get(ProductionStandardRow, (event.line, event.lstchain_version))
            if pointer is not None and pointer.name == event.name:
                session.delete(pointer)
        session.flush()
    return len(missing)
