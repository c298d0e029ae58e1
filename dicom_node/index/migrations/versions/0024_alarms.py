"""Alarms, what receivers are told of them, what was seen, when somebody watched, and self-tests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_OPEN = sa.text("cleared_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "alarms",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("rule", sa.String(32), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("gone_at", _TIME),
        sa.Column("raised_at", _TIME),
        sa.Column("told_at", _TIME),
        sa.Column("acknowledged_at", _TIME),
        sa.Column("acknowledged_by", sa.String(128), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("cleared_at", _TIME),
    )
    op.create_index(
        "uq_alarms_open", "alarms", ["rule", "subject"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
    )
    op.create_index("ix_alarms_cleared_at", "alarms", ["cleared_at"])
    op.create_table(
        "alarm_messages",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("alarm_id", _KEY, sa.ForeignKey("alarms.id"), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("batch", sa.String(40), nullable=False),
        sa.Column("is_held", sa.Boolean, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("fault", sa.Text, nullable=False),
        sa.Column("lease_until", _TIME),
        sa.Column("sent_at", _TIME),
    )
    op.create_index("ix_alarm_messages_receiver_sent_at_due_at", "alarm_messages", ["receiver", "sent_at", "due_at"])
    op.create_index("ix_alarm_messages_alarm_id", "alarm_messages", ["alarm_id"])
    op.create_table(
        "alarm_signs",
        sa.Column("rule", sa.String(32), primary_key=True),
        sa.Column("subject", sa.String(128), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
    )
    op.create_table(
        "self_tests",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("begun_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("fault", sa.Text, nullable=False),
        sa.UniqueConstraint("study_instance_uid"),
    )
    op.create_table("watched_hours", sa.Column("hour", _TIME, primary_key=True))


def downgrade() -> None:
    for table in ("watched_hours", "self_tests", "alarm_signs", "alarm_messages", "alarms"):
        op.drop_table(table)
