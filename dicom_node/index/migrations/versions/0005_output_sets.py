"""Which output sets a result was told in and an object belongs to, and what destinations take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("results", "artifacts"):
        op.add_column(table, sa.Column("output_keys", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "peer_capabilities",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("implementation", sa.String(length=64), nullable=False),
        sa.Column("accepted", sa.JSON(), nullable=True),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("destination", name="pk_peer_capabilities"),
    )


def downgrade() -> None:
    op.drop_table("peer_capabilities")
    for table in ("artifacts", "results"):
        op.drop_column(table, "output_keys")
