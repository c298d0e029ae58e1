"""Retrievals that have not ended, so that a node that starts again takes them up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retrievals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("receiver_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uids", sa.JSON(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("interrupted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retrievals"),
    )


def downgrade() -> None:
    op.drop_table("retrievals")
