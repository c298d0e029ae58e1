"""Requests for storage commitment; the study list sorts by the latest arrival."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commitments",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("receiver_id", sa.String(length=64), nullable=False),
        sa.Column("association_id", sa.String(length=36), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("source_host", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("committed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_commitments"),
        sa.UniqueConstraint(
            "transaction_uid", "calling_ae_title", name="uq_commitments_transaction_uid_calling_ae_title"
        ),
    )
    op.create_index(
        "ix_commitments_receiver_id_state_next_attempt_at",
        "commitments",
        ["receiver_id", "state", "next_attempt_at"],
        unique=False,
    )
    op.create_index("ix_studies_last_received_at", "studies", ["last_received_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_studies_last_received_at", table_name="studies")
    op.drop_table("commitments")
