"""People suspend destinations and routes, of which what waits is remembered, and write routes anew."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("destinations", sa.Column("suspended_by", sa.String(length=128), nullable=False, server_default=""))
    op.create_table(
        "suspended_routes",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("suspended_by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_suspended_routes")),
    )
    op.create_table(
        "held_studies",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "route", name=op.f("pk_held_studies")),
    )
    op.create_index(op.f("ix_held_studies_route"), "held_studies", ["route"])
    op.create_table(
        "route_edits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("edited_by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=True),
        sa.Column("file_digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_edits")),
    )
    op.create_index(op.f("ix_route_edits_name_id"), "route_edits", ["name", "id"])


def downgrade() -> None:
    op.drop_table("route_edits")
    op.drop_table("held_studies")
    op.drop_table("suspended_routes")
    op.drop_column("destinations", "suspended_by")
