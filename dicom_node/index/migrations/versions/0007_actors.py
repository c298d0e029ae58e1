"""Who did what a line of a timeline tells; of lines from before it is not known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("actor", sa.String(length=128), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("events", "actor")
