"""Tables of the catalogue.

Everything here except `overlay` can be rebuilt from the site's files and the manifests.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, ForeignKeyConstraint, Index, MetaData, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_JSON = JSON().with_variant(JSONB(), "postgresql")
_TIME = DateTime(timezone=True)


class Base(DeclarativeBase):
    """Common base; constraint names are fixed so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: _JSON, list[Any]: _JSON, datetime: _TIME}  # noqa: RUF012


class NightRow(Base):
    """A night whose datacheck was ingested; a corrected datacheck is a new version of the night.

    The plans are those of its last reduction.
    """

    __tablename__ = "night"

    night: Mapped[date] = mapped_column(primary_key=True)
    datacheck_path: Mapped[str]
    datacheck_sha256: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    n_runs: Mapped[int]
    problem: Mapped[str] = mapped_column(default="")
    reduction_plan: Mapped[str | None]
    collection_plan: Mapped[str | None]
    ingested_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RunRow(Base):
    """A run: what the run summary and the run catalogue say, and its run-wise quantities."""

    __tablename__ = "run"

    night: Mapped[date] = mapped_column(ForeignKey("night.night", ondelete="CASCADE"), primary_key=True)
    run_id: Mapped[int] = mapped_column(primary_key=True)
    run_type: Mapped[str]
    n_subruns: Mapped[int]
    run_start: Mapped[datetime | None]
    source_name: Mapped[str | None]
    source_ra_deg: Mapped[float | None]
    source_dec_deg: Mapped[float | None]
    quantities: Mapped[dict[str, Any]]

    __table_args__ = (Index("ix_run_run_id", "run_id"),)


class VerdictRow(Base):
    """What a profile says of a run."""

    __tablename__ = "verdict"

    night: Mapped[date] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(primary_key=True)
    profile: Mapped[str] = mapped_column(primary_key=True)
    profile_sha256: Mapped[str]
    selected: Mapped[bool]
    reasons: Mapped[list[Any]]
    cuts: Mapped[list[Any]]
    judged_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (ForeignKeyConstraint(["night", "run_id"], ["run.night", "run.run_id"], ondelete="CASCADE"),)


class OverlayRow(Base):
    """A person's decision about a run; the only thing that no file can give back."""

    __tablename__ = "overlay"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(index=True)
    action: Mapped[str]
    subruns: Mapped[list[Any]]
    author: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]


class ProductionRow(Base):
    """A Monte Carlo production with its random forests and IRFs."""

    __tablename__ = "production"

    name: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[str] = mapped_column(primary_key=True)
    lstchain_version: Mapped[str]
    tailcut: Mapped[str]
    nsb_level_ghz: Mapped[float]
    status: Mapped[str]
    models_path: Mapped[str]
    models_sha256: Mapped[str]
    irf_dir: Mapped[str]
    config: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    plan_id: Mapped[str]
    registered_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ProductRow(Base):
    """A file or folder that a step made, as its manifest says."""

    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(index=True)
    sha256: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    step_key: Mapped[str]
    plan_id: Mapped[str] = mapped_column(index=True)
    night: Mapped[date | None] = mapped_column(index=True)
    run_id: Mapped[int | None] = mapped_column(index=True)
    production: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[str]
    facts: Mapped[dict[str, Any]]
    made_at: Mapped[datetime]
    published_at: Mapped[datetime | None]

    __table_args__ = (Index("uq_product_path_sha256", "path", "sha256", unique=True),)


class LineageRow(Base):
    """An input of a product, by path and content."""

    __tablename__ = "lineage"

    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"), primary_key=True)
    input_path: Mapped[str] = mapped_column(primary_key=True)
    input_sha256: Mapped[str] = mapped_column(index=True)
    input_kind: Mapped[str]


class QuarantineRow(Base):
    """Something that could not be processed, why, and what helps."""

    __tablename__ = "quarantine"

    plan_id: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    night: Mapped[date | None] = mapped_column(index=True)
    stage: Mapped[str]
    cause: Mapped[str]
    remedy: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
