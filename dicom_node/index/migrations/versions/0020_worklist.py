"""What the worklist sorts and filters by, and the keyed digests by which a study is found.

Studies that are there already are worked out by the sweep that does it for new ones (`jobs.worklist`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_UNLISTED = sa.text("listed_at IS NULL OR listed_at <> updated_at")
_COLUMNS = (
    ("urgency", sa.Integer(), "1"),
    ("modalities", sa.Text(), ""),
    ("stations", sa.Text(), ""),
    ("description", sa.Text(), ""),
    ("study_date", sa.String(length=8), ""),
    ("listed_with", sa.String(length=16), ""),
)
#: By which it is told how much comes and goes in an hour, and which scanner is silent.
_BY_TIME = (
    ("associations", ("opened_at",)),
    ("associations", ("calling_ae_title", "opened_at")),
    ("results", ("created_at",)),
    ("deliveries", ("sent_at",)),
)


def upgrade() -> None:
    for name, kind, default in _COLUMNS:
        op.add_column("studies", sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column("studies", sa.Column("listed_at", sa.DateTime(timezone=True)))
    by_urgency = ["urgency", "last_received_at", "study_instance_uid"]
    op.create_index(op.f("ix_studies_urgency_last_received_at_study_instance_uid"), "studies", by_urgency)
    op.create_index(
        "ix_studies_unlisted", "studies", ["updated_at"], sqlite_where=_UNLISTED, postgresql_where=_UNLISTED
    )
    op.create_table(
        "study_keys",
        sa.Column("search_key", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_study_keys_study_instance_uid_studies"),
        ),
        sa.PrimaryKeyConstraint("search_key", "study_instance_uid", name=op.f("pk_study_keys")),
    )
    op.create_index(op.f("ix_study_keys_study_instance_uid"), "study_keys", ["study_instance_uid"])
    for table, columns in _BY_TIME:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def downgrade() -> None:
    for table, columns in _BY_TIME:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
    op.drop_table("study_keys")
    op.drop_index("ix_studies_unlisted", "studies")
    op.drop_index("ix_studies_urgency_last_received_at_study_instance_uid", "studies")
    for name in ("listed_at", *(name for name, _, _ in _COLUMNS)):
        op.drop_column("studies", name)
