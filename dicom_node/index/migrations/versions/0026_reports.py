"""Reports of radiologists, what was read of them, and for which studies an EHR is asked for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_INDEXED = (("next_look_at",), ("match", "received_at"), ("study_instance_uid",))


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("report_key", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("match", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("accession_number", sa.String(64), nullable=False),
        sa.Column("stated_study_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), sa.ForeignKey("studies.study_instance_uid")),
        sa.Column("patients", sa.JSON, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("reading", sa.JSON),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("stated_at", _TIME, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("next_look_at", _TIME),
    )
    for columns in _INDEXED:
        op.create_index(f"ix_reports_{'_'.join(columns)}", "reports", list(columns))
    op.create_table(
        "report_searches",
        sa.Column("study_instance_uid", sa.String(64), sa.ForeignKey("studies.study_instance_uid"), primary_key=True),
        sa.Column("searches", sa.Integer, nullable=False),
        sa.Column("next_search_at", _TIME),
    )
    op.create_index("ix_report_searches_next_search_at", "report_searches", ["next_search_at"])


def downgrade() -> None:
    for table in ("report_searches", "reports"):
        op.drop_table(table)
