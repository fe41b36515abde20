"""Tables of the catalogue.

Everything here except people's decisions (`overlay`, `production_event`, `production_standard`) can be rebuilt from the
site's files and the manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    TypeDecorator,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lstops.catalog.blocks import unpack_quantities

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


class PackedQuantities(TypeDecorator[Mapping[str, Any]]):
    """Run-wise quantities: bytes in the database (see `lstops.catalog.blocks`), numbers by name in a row."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Take what `pack_runs` made as it is."""
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> Mapping[str, Any] | None:
        """Return the quantities by name, None where unknown."""
        return None if value is None else unpack_quantities(value)


class NightRow(Base):
    """A night whose datacheck was ingested; a corrected datacheck is a new version of the night.

    Version 0 is a night of which no good datacheck was ever seen. The plans are those of its last reduction.
    """

    __tablename__ = "night"

    night: Mapped[date] = mapped_column(primary_key=True)
    datacheck_path: Mapped[str]
    datacheck_sha256: Mapped[str]
    #: digest of what the selection reads of the datacheck; empty for nights of an older lstops
    content_sha256: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column(default=0)
    n_runs: Mapped[int] = mapped_column(default=0)
    has_flatfield: Mapped[bool] = mapped_column(default=True)
    #: what is wrong with the files of the night, so far as known; empty if nothing
    problem: Mapped[str] = mapped_column(default="")
    reduction_plan: Mapped[str | None]
    collection_plan: Mapped[str | None]
    ingested_at: Mapped[datetime] = mapped_column(server_default=func.now())


class NightVersionRow(Base):
    """An earlier version of a night: which file it came from, and when it was replaced."""

    __tablename__ = "night_version"

    night: Mapped[date] = mapped_column(ForeignKey("night.night", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    datacheck_path: Mapped[str]
    datacheck_sha256: Mapped[str]
    content_sha256: Mapped[str]
    n_runs: Mapped[int]
    ingested_at: Mapped[datetime]
    superseded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatacheckFileRow(Base):
    """A datacheck file that was read: an unchanged one need not be read again.

    A file that could not be used has no digests but a problem.
    """

    __tablename__ = "datacheck_file"

    path: Mapped[str] = mapped_column(primary_key=True)
    night: Mapped[date] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    content_sha256: Mapped[str]
    problem: Mapped[str]


class SubrunBlockRow(Base):
    """The subruns of a night, all columns in one value (see `lstops.catalog.blocks`)."""

    __tablename__ = "subrun_block"

    night: Mapped[date] = mapped_column(ForeignKey("night.night", ondelete="CASCADE"), primary_key=True)
    format: Mapped[int] = mapped_column(SmallInteger)
    n_subruns: Mapped[int]
    data: Mapped[bytes]


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
    quantities: Mapped[Mapping[str, Any]] = mapped_column(PackedQuantities)

    __table_args__ = (Index("ix_run_run_id", "run_id"),)


class VerdictRow(Base):
    """What a profile says of a run, and what held for it when it was judged.

    Attributes
    ----------
    selected : bool
        By the profile alone.
    effective : bool
        With people's decisions laid over it, as they were then.
    decisions : list
        Those decisions.
    good_time : dict or None
        Intervals of good subruns, and whether the run would be good if cut to them; None if the profile has no rules
        for subruns.
    """

    __tablename__ = "verdict"

    night: Mapped[date] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(primary_key=True)
    profile: Mapped[str] = mapped_column(primary_key=True)
    profile_sha256: Mapped[str]
    selected: Mapped[bool]
    reasons: Mapped[list[Any]]
    cuts: Mapped[list[Any]]
    effective: Mapped[bool]
    decisions: Mapped[list[Any]]
    good_time: Mapped[dict[str, Any] | None]
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
    revoked_reason: Mapped[str | None]


class RunNsbRow(Base):
    """The night-sky background of a run, as the tailcut finder measured it."""

    __tablename__ = "run_nsb"

    run_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    extra_ghz: Mapped[float]
    picture_pe: Mapped[int]
    boundary_pe: Mapped[int]
    quantile_pe: Mapped[float | None]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now())


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


class ProductionEventRow(Base):
    """What became of a production and who wanted it; a person's decision that no file can give back."""

    __tablename__ = "production_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    line: Mapped[str]
    action: Mapped[str]
    author: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class ProductionStandardRow(Base):
    """The pointer to the standard production of a line and version of lstchain."""

    __tablename__ = "production_standard"

    line: Mapped[str] = mapped_column(primary_key=True)
    lstchain_version: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    set_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class ProductionRequestRow(Base):
    """A production that runs wait for: one row a level, line, cleaning and version, however many runs."""

    __tablename__ = "production_request"

    id: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[str]
    lstchain_version: Mapped[str]
    tailcut: Mapped[str]
    level_ghz: Mapped[float]
    runs: Mapped[list[Any]]
    status: Mapped[str]
    production: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        Index(
            "uq_production_request_level", "line", "lstchain_version", "tailcut", "level_ghz",
            unique=True, postgresql_where=text("status = 'open'"),
        ),
    )  # fmt: skip


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
