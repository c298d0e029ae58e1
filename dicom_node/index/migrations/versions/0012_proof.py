"""With which warning an object was stored, and whether its destination was proved to have it.

What was sent before is not asked for: nobody knows what destinations have done with it meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TIMES = ("prove_at", "proved_at")
_COUNTS = ("proof_tries", "times_missing", "times_lost")
_TEXTS = {"transaction_uid": sa.String(length=64), "proof": sa.String(length=16), "proof_note": sa.Text()}
_INDEXES = {"ix_deliveries_destination_state_prove_at": ["destination", "state", "prove_at"],
            "ix_deliveries_transaction_uid": ["transaction_uid"]}  # fmt: skip


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("warning", sa.Integer(), nullable=True))
    for name in _TIMES:
        op.add_column("deliveries", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    for name in _COUNTS:
        op.add_column("deliveries", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    for name, kind in _TEXTS.items():
        op.add_column("deliveries", sa.Column(name, kind, nullable=False, server_default=""))
    for name, columns in _INDEXES.items():
        op.create_index(name, "deliveries", columns)


def downgrade() -> None:
    for name in _INDEXES:
        op.drop_index(name, "deliveries")
    for name in (*_TEXTS, *_COUNTS, *_TIMES, "warning"):
        op.drop_column("deliveries", name)
