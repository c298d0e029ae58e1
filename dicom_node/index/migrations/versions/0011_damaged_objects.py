"""Which kept objects are damaged, and how far the search for damage has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "damaged_objects",
        sa.Column("object_key", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_damaged_objects")),
    )
    for column in ("uid", "study_instance_uid"):
        op.create_index(op.f(f"ix_damaged_objects_{column}"), "damaged_objects", [column], unique=False)
    op.create_table(
        "scrub_places",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("place", sa.String(length=64), nullable=False),
        sa.Column("round_ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_scrub_places")),
    )


def downgrade() -> None:
    op.drop_table("scrub_places")
    op.drop_table("damaged_objects")
