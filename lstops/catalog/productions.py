"""The registry: productions with their forests and responses, their status, and who decided what.

A production is a candidate, current (used for data), superseded by another of the same level, or withdrawn. Withdrawn
ones stay withdrawn whatever is registered again; only a person makes them current.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.database import one_at_a_time
from lstops.catalog.products import CANDIDATE, CURRENT, SUPERSEDED, WITHDRAWN
from lstops.catalog.tables import ProductionEventRow, ProductionRow, ProductionStandardRow
from lstops.errors import DataError
from lstops.production.reuse import SAME_LEVEL_GHZ, Existing
from lstops.site.model import Trainer
from lstops.words import checked_words

_MACHINE = "lstops"
#: what author and reason are asked for
DECISION = "a decision about a production"
_LSTCHAIN = Trainer.LSTCHAIN.value
#: actions that move the pointer to the standard of a line
STANDARD, STANDARD_NO_MORE = "made the standard", "no longer the standard"


@dataclass(frozen=True)
class RegisteredProduction:
    """A production of one declination line as it is registered."""

    name: str
    line: str
    lstchain_version: str
    tailcut: str
    nsb_level_ghz: float
    models_path: str
    models_sha256: str
    irf_dir: str
    config: dict[str, Any]
    facts: dict[str, Any]
    plan_id: str


@dataclass(frozen=True)
class Trusted:
    """A production that accelerated forests are compared with: all the same, but trained by lstchain.

    Attributes
    ----------
    settings_sha256, name : str
        It has these settings, or this name.
    but : str
        The production that is compared.
    """

    line: str
    lstchain_version: str
    nsb_level_ghz: float
    settings_sha256: str
    name: str
    but: str


def register_production(session: Session, production: RegisteredProduction, status: str = CURRENT) -> str:
    """Register a production, or replace its record.

    Parameters
    ----------
    status : str
        "candidate" or "current", for what is new or has new forests. The same forests keep the status they have, and a
        withdrawn production stays withdrawn.

    Returns
    -------
    str
        The status it has now.
    """
    one_at_a_time(session, "registry of productions")
    old = session.get(ProductionRow, (production.name, production.line))
    kept = old is not None and (old.status == WITHDRAWN or old.models_sha256 == production.models_sha256)
    status = old.status if old is not None and kept else str(getattr(status, "value", status))
    values = {name: getattr(production, name) for name in production.__dataclass_fields__}
    values["status"] = status
    statement = insert(ProductionRow).values(**values)
    rest = {k: v for k, v in values.items() if k not in ("name", "line")}
    session.execute(statement.on_conflict_do_update(index_elements=["name", "line"], set_=rest))
    if not kept:
        row = session.get_one(ProductionRow, (production.name, production.line), populate_existing=True)
        _note(session, row, "registered", _MACHINE, f"plan {production.plan_id}, as {status}")
        if status == CURRENT:
            _supersede_others(session, row, _MACHINE)
    return status


def current_productions(session: Session, line: str | None = None) -> list[ProductionRow]:
    """Registered productions that may be used, by level."""
    query = select(ProductionRow).where(ProductionRow.status == CURRENT)
    query = query.order_by(ProductionRow.nsb_level_ghz, ProductionRow.name, ProductionRow.line)
    return list(session.scalars(query.where(ProductionRow.line == line) if line else query))


def all_productions(session: Session) -> list[ProductionRow]:
    """Every registered production, by line and level."""
    order = (ProductionRow.line, ProductionRow.nsb_level_ghz, ProductionRow.name)
    return list(session.scalars(select(ProductionRow).order_by(*order)))


def find_productions(session: Session, name: str, line: str | None = None) -> list[ProductionRow]:
    """The records of a production, one a line.

    Raises
    ------
    DataError
        If it is not registered, naming those that are.
    """
    rows = [row for row in all_productions(session) if row.name == name and line in (None, row.line)]
    if not rows:
        known = ", ".join(sorted({row.name for row in all_productions(session)})[-8:]) or "none is"
        on = f" on {line}" if line else ""
        raise DataError(f"no production {name!r} is registered{on}.", f"registered: {known}.")
    return rows


def promote(
    session: Session, name: str, line: str | None, author: str, reason: str, standard: bool = False
) -> list[ProductionRow]:
    """Make a production current on all its lines or on one; others of the same level are superseded.

    Parameters
    ----------
    standard : bool
        Let the pointer "current standard" of its lines and version show to it, too.
    """
    author, reason = checked_words(DECISION, author, reason)
    one_at_a_time(session, "registry of productions")
    rows = find_productions(session, name, line)
    for row in rows:
        row.status = CURRENT
        _note(session, row, "promoted", author, reason)
        _supersede_others(session, row, author)
        if standard:
            statement = insert(ProductionStandardRow).values(
                line=row.line, lstchain_version=row.lstchain_version, name=row.name
            )
            session.execute(
                statement.on_conflict_do_update(index_elements=["line", "lstchain_version"], set_={"name": row.name})
            )
            _note(session, row, STANDARD, author, reason)
    session.flush()
    return rows


def withdraw(session: Session, name: str, line: str | None, author: str, reason: str) -> list[ProductionRow]:
    """Take a production out of use; products made with it stay and can be found by their lineage."""
    author, reason = checked_words(DECISION, author, reason)
    one_at_a_time(session, "registry of productions")
    rows = find_productions(session, name, line)
    for row in rows:
        row.status = WITHDRAWN
        _note(session, row, "withdrawn", author, reason)
        pointer = session.get(ProductionStandardRow, (row.line, row.lstchain_version))
        if pointer is not None and pointer.name == row.name:
            session.delete(pointer)
            _note(session, row, STANDARD_NO_MORE, author, reason)
    session.flush()
    return rows


def note_level(session: Session, row: ProductionRow, author: str, reason: str) -> None:
    """Keep who gave the NSB of a production that its configuration does not say."""
    author, reason = checked_words(DECISION, author, reason)
    _note(session, row, "NSB given", author, f"{row.nsb_level_ghz:.2f} GHz: {reason}")


def standards(session: Session) -> dict[tuple[str, str], str]:
    """The standard production by (line, lstchain version)."""
    return {(row.line, row.lstchain_version): row.name for row in session.scalars(select(ProductionStandardRow))}


def production_events(session: Session, name: str) -> list[ProductionEventRow]:
    """What became of a production, in order."""
    query = select(ProductionEventRow).where(ProductionEventRow.name == name).order_by(ProductionEventRow.id)
    return list(session.scalars(query))


def existing_productions(session: Session) -> tuple[Existing, ...]:
    """Productions that a request may be answered with: candidates and current ones."""
    return tuple(
        Existing(
            name=row.name,
            line=row.line,
            level_ghz=row.nsb_level_ghz,
            settings_sha256=str(row.facts.get("settings_sha256", "")),
            test_nodes=tuple(row.facts.get("test_nodes", ())),
        )
        for row in all_productions(session)
        if row.status in (CANDIDATE, CURRENT)
    )


def previous_cards(session: Session, name: str, lstchain_version: str, level_ghz: float | None) -> dict[str, str]:
    """By declination line: the report card of the production that one of this name follows.

    The one of the nearest level that was registered before it, and not withdrawn. What came later does not count, so
    that a plan made again is the same plan.
    """
    rows = all_productions(session)
    own = [row.registered_at for row in rows if row.name == name]
    found: dict[str, ProductionRow] = {}
    for row in rows:
        card, later = row.facts.get("report_card"), bool(own) and row.registered_at >= min(own)
        if row.name == name or row.lstchain_version != lstchain_version or row.status == WITHDRAWN or later or not card:
            continue
        best = found.get(row.line)
        if best is None or _order(row, level_ghz) < _order(best, level_ghz):
            found[row.line] = row
    return {line: str(row.facts["report_card"]) for line, row in found.items()}


def trusted_production(session: Session, wanted: Trusted) -> ProductionRow | None:
    """The registered production that answers, with a report card and not withdrawn; the current one goes first."""
    rows = [
        row
        for row in all_productions(session)
        if (row.line, row.lstchain_version) == (wanted.line, wanted.lstchain_version)
        and abs(row.nsb_level_ghz - wanted.nsb_level_ghz) < SAME_LEVEL_GHZ
        and row.status != WITHDRAWN
        and row.name != wanted.but
        and row.facts.get("trainer", _LSTCHAIN) == _LSTCHAIN
        and row.facts.get("report_card")
        and (row.name == wanted.name or row.facts.get("settings_sha256") == wanted.settings_sha256)
    ]
    return min(rows, key=lambda row: _order(row, wanted.nsb_level_ghz), default=None)


def _order(row: ProductionRow, level_ghz: float | None) -> tuple[float, bool, float]:
    """The nearest level first, then the current one, then the youngest."""
    away = 0.0 if level_ghz is None else round(abs(row.nsb_level_ghz - level_ghz), 3)
    return away, row.status != CURRENT, -row.registered_at.timestamp()


def _supersede_others(session: Session, row: ProductionRow, author: str) -> None:
    """Two current productions of one level would make every match a matter of luck."""
    for other in _same_level(current_productions(session, row.line), row):
        other.status = SUPERSEDED
        _note(session, other, "superseded", author, f"by {row.name}")


def _same_level(rows: Sequence[ProductionRow], row: ProductionRow) -> list[ProductionRow]:
    return [
        other
        for other in rows
        if other.name != row.name
        and (other.lstchain_version, other.tailcut) == (row.lstchain_version, row.tailcut)
        and abs(other.nsb_level_ghz - row.nsb_level_ghz) < SAME_LEVEL_GHZ
    ]


def _note(session: Session, row: ProductionRow, action: str, author: str, reason: str) -> None:
    # this clock, not the database's: the events of one transaction stay in order, and are kept as files with their time
    at = datetime.now(timezone.utc)
    session.add(ProductionEventRow(name=row.name, line=row.line, action=action, author=author, reason=reason, at=at))
