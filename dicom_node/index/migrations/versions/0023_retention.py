"""What is deleted of studies and why, what a person wants kept, and how full the disk is from day to day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_WITH_IMAGES = sa.text("images_deleted_at IS NULL")
_WITH_RESULTS = sa.text("images_deleted_at IS NOT NULL AND results_deleted_at IS NULL")
_UNDER_WAY = sa.text("state = 'MARKED'")


def upgrade() -> None:
    op.add_column("studies", sa.Column("deleting", sa.String(8), nullable=False, server_default=""))
    op.add_column("studies", sa.Column("images_deleted_at", _TIME))
    op.add_column("studies", sa.Column("results_deleted_at", _TIME))
    for name, which in (("ix_studies_with_images", _WITH_IMAGES), ("ix_studies_with_results", _WITH_RESULTS)):
        op.create_index(name, "studies", ["updated_at"], sqlite_where=which, postgresql_where=which)
    op.add_column("artifacts", sa.Column("state", sa.String(16), nullable=False, server_default="STORED"))
    for name in ("object_key", "preview_key"):
        op.create_index(f"ix_artifacts_{name}", "artifacts", [name])
    op.create_table(
        "study_holds",
        sa.Column("study_instance_uid", sa.String(64), sa.ForeignKey("studies.study_instance_uid"), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("held_by", sa.String(128), nullable=False),
        sa.Column("since", _TIME, nullable=False),
    )
    op.create_table(
        "deletions",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("study_instance_uid", sa.String(64), sa.ForeignKey("studies.study_instance_uid"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("objects", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("marked_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
    )
    op.create_index("ix_deletions_study_instance_uid_id", "deletions", ["study_instance_uid", "id"])
    op.create_index(
        "uq_deletions_under_way", "deletions", ["study_instance_uid"], unique=True,
        sqlite_where=_UNDER_WAY, postgresql_where=_UNDER_WAY,
    )  # fmt: skip
    op.create_table(
        "disk_samples",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("used_bytes", sa.BigInteger, nullable=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("disk_samples", "deletions", "study_holds"):
        op.drop_table(table)
    for name in ("ix_artifacts_preview_key", "ix_artifacts_object_key"):
        op.drop_index(name, "artifacts")
    op.drop_column("artifacts", "state")
    for name in ("ix_studies_with_results", "ix_studies_with_images"):
        op.drop_index(name, "studies")
    for name in ("results_deleted_at", "images_deleted_at", "deleting"):
        op.drop_column("studies", name)
