"""What people decide on results, who is reviewing one, and how a person is named in what was reviewed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STANDING = sa.text("state <> 'FALLEN'")


def upgrade() -> None:
    state = sa.Column("review_state", sa.String(length=16), nullable=False, server_default="UNREVIEWED")
    op.add_column("results", state)
    op.add_column("results", sa.Column("review_id", sa.BigInteger(), nullable=True))
    for name in ("display_name", "identifier"):
        op.add_column("accounts", sa.Column(name, sa.String(length=64), nullable=False, server_default=""))
    op.create_table(
        "reviews",
        sa.Column("id", _KEY, nullable=False),
        *_of_result(),
        *_decided(),
        *_read_by_a_second(),
        *_made(),
        sa.ForeignKeyConstraint(["job_key"], ["results.job_key"], name=op.f("fk_reviews_job_key_results")),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"],
            name=op.f("fk_reviews_study_instance_uid_studies"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )  # fmt: skip
    for columns in (["job_key"], ["study_instance_uid"], ["state", "not_before"], ["result_key"]):
        op.create_index(op.f(f"ix_reviews_{'_'.join(columns)}"), "reviews", columns)
    op.create_index(
        "uq_reviews_standing", "reviews", ["job_key"], unique=True,
        sqlite_where=_STANDING, postgresql_where=_STANDING,
    )  # fmt: skip
    op.create_table(
        "review_locks",
        sa.Column("job_key", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_key"], ["results.job_key"], name=op.f("fk_review_locks_job_key_results")),
        sa.PrimaryKeyConstraint("job_key", name=op.f("pk_review_locks")),
    )


def _of_result() -> list[sa.Column[object]]:
    return [
        sa.Column("job_key", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
    ]


def _decided() -> list[sa.Column[object]]:
    return [
        sa.Column("review_state", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reviewer_account", sa.String(length=128), nullable=False),
        sa.Column("reviewer_name", sa.String(length=64), nullable=False),
        sa.Column("reviewer_organization", sa.String(length=64), nullable=False),
        sa.Column("reviewer_identifier", sa.String(length=64), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
    ]


def _read_by_a_second() -> list[sa.Column[object]]:
    return [
        sa.Column("second_account", sa.String(length=128), nullable=False, server_default=""),
        sa.Column("second_name", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("second_organization", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("second_identifier", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("second_decided_at", sa.DateTime(timezone=True), nullable=True),
    ]


def _made() -> list[sa.Column[object]]:
    return [
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.Column("result_key", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_owner", sa.String(length=128), nullable=False, server_default=""),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False, server_default="0"),
    ]


def downgrade() -> None:
    op.drop_table("review_locks")
    op.drop_table("reviews")
    for name in ("identifier", "display_name"):
        op.drop_column("accounts", name)
    for name in ("review_id", "review_state"):
        op.drop_column("results", name)
