"""Whether a result holds and why it no longer does; which version of an instance another has taken the place of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

#: Whether the object takes others back, whether it may have arrived although it was given up, whether it is taken back.
_OF_DELIVERIES = ("is_withdrawal", "may_have_arrived", "is_taken_back")


def upgrade() -> None:
    op.add_column("results", sa.Column("standing", sa.String(length=16), nullable=False, server_default="CURRENT"))
    op.add_column("results", sa.Column("standing_reason", sa.Text(), nullable=False, server_default=""))
    op.add_column("results", sa.Column("standing_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_results_standing", "results", ["standing"])
    for name in _OF_DELIVERIES:
        op.add_column("deliveries", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
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
    for name in reversed(_OF_DELIVERIES):
        op.drop_column("deliveries", name)
    op.drop_index("ix_results_standing", "results")
    op.drop_column("results", "standing_at")
    op.drop_column("results", "standing_reason")
    op.drop_column("results", "standing")
