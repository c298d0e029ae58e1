"""How far a job has come, and what somebody has asked a study's analyses for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("stage", sa.String(length=16), nullable=False, server_default=""))
    op.create_table(
        "stated_requests",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("indication", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("stated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "route", name=op.f("pk_stated_requests")),
    )


def downgrade() -> None:
    op.drop_table("stated_requests")
    op.drop_column("jobs", "stage")
