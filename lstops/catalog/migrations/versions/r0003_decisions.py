"""people's decisions and good time in verdicts, who revoked a decision why, the NSB of runs

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    op.add_column("overlay", sa.Column("revoked_reason", sa.String(), nullable=True))
    # before there was an overlay, what the profile said held
    op.add_column("verdict", sa.Column("effective", sa.Boolean(), nullable=True))
    op.execute("UPDATE verdict SET effective = selected")
    op.alter_column("verdict", "effective", nullable=False)
    op.add_column("verdict", sa.Column("decisions", _JSON, nullable=False, server_default="[]"))
    op.alter_column("verdict", "decisions", server_default=None)
    op.add_column("verdict", sa.Column("good_time", _JSON, nullable=True))
    op.create_table(
        "run_nsb",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("extra_ghz", sa.Double(), nullable=False),
        sa.Column("picture_pe", sa.Integer(), nullable=False),
        sa.Column("boundary_pe", sa.Integer(), nullable=False),
        sa.Column("quantile_pe", sa.Double(), nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_nsb")),
    )


def downgrade() -> None:
    op.drop_table("run_nsb")
    op.drop_column("verdict", "good_time")
    op.drop_column("verdict", "decisions")
    op.drop_column("verdict", "effective")
    op.drop_column("overlay", "revoked_reason")
