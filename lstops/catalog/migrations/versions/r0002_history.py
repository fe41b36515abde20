"""subruns of all nights, earlier versions of nights, files that were read; quantities as packed numbers

Revision: 0002, after 0001.
"""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from lstops.catalog.blocks import RUN_FORMATS

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FORMAT = 1
_WHOLE = ("run_number", "night", "n_subruns", "n_believable_r422")
_LAYOUT = "<q" + "".join("q" if name in _WHOLE else "d" for name in RUN_FORMATS[_FORMAT])


def upgrade() -> None:
    op.add_column("night", sa.Column("content_sha256", sa.String(), server_default="", nullable=False))
    op.add_column("night", sa.Column("has_flatfield", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.alter_column("night", "content_sha256", server_default=None)
    op.alter_column("night", "has_flatfield", server_default=None)
    # a night of which nothing but a problem was known
    op.execute("UPDATE night SET version = 0 WHERE datacheck_sha256 = '' AND problem <> '' AND n_runs = 0")
    op.create_table(
        "night_version",
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("datacheck_path", sa.String(), nullable=False),
        sa.Column("datacheck_sha256", sa.String(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("n_runs", sa.Integer(), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["night"], ["night.night"], name=op.f("fk_night_version_night_night"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("night", "version", name=op.f("pk_night_version")),
    )
    op.create_table(
        "datacheck_file",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_datacheck_file")),
    )
    op.create_index(op.f("ix_datacheck_file_night"), "datacheck_file", ["night"], unique=False)
    op.create_table(
        "subrun_block",
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("format", sa.SmallInteger(), nullable=False),
        sa.Column("n_subruns", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["night"], ["night.night"], name=op.f("fk_subrun_block_night_night"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("night", name=op.f("pk_subrun_block")),
    )
    # uncompressed: then a part of the value is read without the rest
    op.execute("ALTER TABLE subrun_block ALTER COLUMN data SET STORAGE EXTERNAL")
    op.alter_column("run", "quantities", new_column_name="quantities_json")
    op.add_column("run", sa.Column("quantities", sa.LargeBinary(), nullable=True))
    _convert("quantities_json", "quantities", _packed)
    op.alter_column("run", "quantities", nullable=False)
    op.drop_column("run", "quantities_json")


def downgrade() -> None:
    op.alter_column("run", "quantities", new_column_name="quantities_packed")
    json_type = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
    op.add_column("run", sa.Column("quantities", json_type, nullable=True))
    _convert("quantities_packed", "quantities", _as_json)
    op.alter_column("run", "quantities", nullable=False)
    op.drop_column("run", "quantities_packed")
    op.drop_table("subrun_block")
    op.drop_index(op.f("ix_datacheck_file_night"), table_name="datacheck_file")
    op.drop_table("datacheck_file")
    op.drop_table("night_version")
    op.execute("UPDATE night SET version = 1 WHERE version = 0")
    op.drop_column("night", "has_flatfield")
    op.drop_column("night", "content_sha256")


def _convert(old: str, new: str, function: Callable[[Any], Any]) -> None:
    types = {
        "quantities": sa.LargeBinary() if function is _packed else postgresql.JSONB(),
        "quantities_json": postgresql.JSONB(),
        "quantities_packed": sa.LargeBinary(),
    }
    columns = (sa.column(name, types[name]) for name in (old, new))
    run = sa.table("run", sa.column("night", sa.Date()), sa.column("run_id", sa.Integer()), *columns)
    connection = op.get_bind()
    rows = connection.execute(sa.select(run.c.night, run.c.run_id, run.c[old])).all()
    change = (
        run.update()
        .where(run.c.night == sa.bindparam("of_night"), run.c.run_id == sa.bindparam("of_run"))
        .values({new: sa.bindparam("changed")})
    )
    if rows:
        connection.execute(
            change, [{"of_night": night, "of_run": number, "changed": function(value)} for night, number, value in rows]
        )


def _packed(quantities: Mapping[str, Any]) -> bytes:
    """NaN was null, infinity a text."""
    numbers: list[float] = []
    for name in RUN_FORMATS[_FORMAT]:
        value = quantities.get(name)
        if name in _WHOLE:
            numbers.append(int(value or 0))
        else:
            numbers.append(math.nan if value is None else float(value))
    return struct.pack(_LAYOUT, _FORMAT, *numbers)


def _as_json(value: memoryview) -> dict[str, Any]:
    numbers = struct.unpack(_LAYOUT, bytes(value))[1:]
    return {
        name: number if math.isfinite(number) else None if math.isnan(number) else str(number)
        for name, number in zip(RUN_FORMATS[_FORMAT], numbers, strict=True)
    }
