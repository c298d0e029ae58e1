"""Whether a result holds and why it no longer does; which version of an instance another has taken the place of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("results", sa.Column("standing", sa.String(length=16), nullable=False, server_default="CURRENT"))
    op.add_column("results", sa.Column("standing_reason", sa.Text(), nullable=False, server_default=""))
    op.add_column("instances", sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True))
    # Until now the first version stayed in use, whatever came later.
    op.execute("UPDATE instances SET superseded_at = received_at WHERE conflict")
    op.drop_column("instances", "conflict")
    in_use = sa.text("superseded_at IS NULL")
    op.create_index(
        "uq_instances_in_use", "instances", ["sop_instance_uid"], unique=True, sqlite_where=in_use,
        postgresql_where=in_use,
    )  # fmt: skip
    op.execute(
        "UPDATE results SET standing = 'SUPERSEDED' WHERE EXISTS (SELECT 1 FROM results AS later WHERE "
        "later.study_instance_uid = results.study_instance_uid AND later.route = results.route "
        "AND later.sequence > results.sequence)"
    )


def downgrade() -> None:
    op.drop_index("uq_instances_in_use", "instances")
    op.add_column("instances", sa.Column("conflict", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE instances SET conflict = (superseded_at IS NOT NULL)")
    op.drop_column("instances", "superseded_at")
    op.drop_column("results", "standing_reason")
    op.drop_column("results", "standing")
