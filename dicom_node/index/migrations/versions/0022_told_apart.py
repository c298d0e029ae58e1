"""Who decided, reviews or signed in is told from anybody else by more than a name, which two people may share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_ADDED = (
    ("sessions", "principal_key"),
    ("reviews", "reviewer_identity"),
    ("reviews", "second_identity"),
    ("review_locks", "identity"),
)


def upgrade() -> None:
    # A lock lasts for minutes and holds nothing: whoever was reviewing when the node stopped begins again.
    op.execute("DELETE FROM review_locks")
    for table, name in _ADDED:
        op.add_column(table, sa.Column(name, sa.String(128), nullable=False, server_default=""))


def downgrade() -> None:
    for table, name in reversed(_ADDED):
        op.drop_column(table, name)
