"""The audit trail, and how far its receivers have it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit_records",
        sa.Column("number", _KEY, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("act", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=2), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("issuer_of_patient_id", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_records")),
        sa.UniqueConstraint("event_id", name=op.f("uq_audit_records_event_id")),
    )
    for column in ("at", "study_instance_uid", "patient_id"):
        op.create_index(op.f(f"ix_audit_records_{column}"), "audit_records", [column])
    op.create_table(
        "audit_positions",
        sa.Column("receiver", sa.String(length=128), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=128), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("receiver", name=op.f("pk_audit_positions")),
    )
    op.add_column("associations", sa.Column("audited_at", sa.DateTime(timezone=True)))
    # What came before there was a trail is not written into it with today's date.
    op.execute("UPDATE associations SET audited_at = closed_at")
    unaudited = sa.text("closed_at IS NOT NULL AND audited_at IS NULL")
    op.create_index(
        "ix_associations_unaudited", "associations", ["closed_at"], sqlite_where=unaudited, postgresql_where=unaudited
    )


def downgrade() -> None:
    op.drop_index("ix_associations_unaudited", "associations")
    with op.batch_alter_table("associations") as batch:
        batch.drop_column("audited_at")
    op.drop_table("audit_positions")
    op.drop_table("audit_records")
