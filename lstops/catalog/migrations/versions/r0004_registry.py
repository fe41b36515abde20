"""what became of productions and who wanted it, the standard production, requests for productions

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "production_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("line", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_production_event")),
    )
    op.create_index(op.f("ix_production_event_name"), "production_event", ["name"])
    op.create_table(
        "production_standard",
        sa.Column("line", sa.String(), nullable=False),
        sa.Column("lstchain_version", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("set_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("line", "lstchain_version", name=op.f("pk_production_standard")),
    )
    op.create_table(
        "production_request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line", sa.String(), nullable=False),
        sa.Column("lstchain_version", sa.String(), nullable=False),
        sa.Column("tailcut", sa.String(), nullable=False),
        sa.Column("level_ghz", sa.Double(), nullable=False),
        sa.Column("runs", _JSON, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("production", sa.String(), nullable=True),
        sa.Column("created_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_production_request")),
    )
    op.create_index(
        "uq_production_request_level",
        "production_request",
        ["line", "lstchain_version", "tailcut", "level_ghz"],
        unique=True,
        postgresql_where=sa.text("status = 'open'"),
    )


def downgrade() -> None:
    op.drop_table("production_request")
    op.drop_table("production_standard")
    op.drop_table("production_event")
