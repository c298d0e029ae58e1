"""Whether anything is sent to a destination, and which deliveries go first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ROUTINE = "2"


def upgrade() -> None:
    op.create_table(
        "destinations",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_destinations"),
    )
    op.add_column("deliveries", sa.Column("urgency", sa.Integer(), nullable=False, server_default=_ROUTINE))
    op.execute(
        "UPDATE deliveries SET urgency = (SELECT MIN(CASE jobs.priority WHEN 'STAT' THEN 0 WHEN 'HIGH' THEN 1 "
        "WHEN 'LOW' THEN 3 ELSE 2 END) FROM jobs WHERE jobs.job_key = deliveries.job_key) "
        "WHERE state = 'PENDING' AND EXISTS (SELECT 1 FROM jobs WHERE jobs.job_key = deliveries.job_key)"
    )
    op.create_index(
        "ix_deliveries_destination_state_urgency_id", "deliveries", ["destination", "state", "urgency", "id"]
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_destination_state_urgency_id", "deliveries")
    op.drop_column("deliveries", "urgency")
    op.drop_table("destinations")
