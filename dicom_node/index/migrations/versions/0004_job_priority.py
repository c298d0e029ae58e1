"""How urgent a job is, and the moment that orders the queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.String(length=8), nullable=False, server_default="ROUTINE"))
    op.add_column(
        "jobs", sa.Column("turn_at", sa.DateTime(timezone=True), nullable=False, server_default="1970-01-01 00:00:00")
    )
    op.execute("UPDATE jobs SET turn_at = created_at")


def downgrade() -> None:
    op.drop_column("jobs", "turn_at")
    op.drop_column("jobs", "priority")
