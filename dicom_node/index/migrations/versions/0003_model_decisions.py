"""What was decided on models, and which route a job or a result shadows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "model_decisions",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(length=128), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_decisions"),
    )
    op.create_index("ix_model_decisions_model_id", "model_decisions", ["model", "id"], unique=False)
    for table in ("jobs", "results"):
        op.add_column(table, sa.Column("shadow_of", sa.String(length=64), nullable=False, server_default=""))


def downgrade() -> None:
    for table in ("results", "jobs"):
        op.drop_column(table, "shadow_of")
    op.drop_table("model_decisions")
