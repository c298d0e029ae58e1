"""HL7 v2 messages that were taken, orders, whose studies are whose, and patients who were merged or corrected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ORDER_TEXTS = (
    "accession_number", "study_instance_uid", "placer_number", "placer_authority", "filler_number", "filler_authority",
    "procedure_code", "procedure_scheme", "procedure_meaning",
)  # fmt: skip


def _uid(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=64), nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def upgrade() -> None:
    op.create_table(
        "hl7_messages",
        _uid("message_key"),
        sa.Column("kind", sa.String(length=16), nullable=False),
        _time("taken_at"),
        sa.PrimaryKeyConstraint("message_key", name=op.f("pk_hl7_messages")),
    )
    op.create_table(
        "orders",
        sa.Column("order_key", sa.String(length=160), nullable=False),
        *map(_uid, _ORDER_TEXTS),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.Column("is_cancelled", sa.Boolean(), nullable=False),
        sa.Column("patients", sa.JSON(), nullable=False),
        _time("stated_at"),
        sa.PrimaryKeyConstraint("order_key", name=op.f("pk_orders")),
    )
    op.create_table(
        "study_patients",
        _uid("study_instance_uid"),
        _uid("patient_id"),
        _uid("issuer"),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_study_patients_study_instance_uid_studies"),
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_study_patients")),
    )
    op.create_table(
        "patient_moves",
        *map(_uid, ("prior_id", "prior_authority", "patient_id", "authority")),
        _time("moved_at"),
        sa.PrimaryKeyConstraint("prior_id", "prior_authority", name=op.f("pk_patient_moves")),
    )
    op.create_table(
        "stated_patients",
        *map(_uid, ("patient_id", "authority")),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.String(length=8), nullable=False),
        sa.Column("sex", sa.String(length=1), nullable=False),
        _time("stated_at"),
        sa.PrimaryKeyConstraint("patient_id", "authority", name=op.f("pk_stated_patients")),
    )
    for table, columns in _INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)


_INDEXES = (
    ("hl7_messages", ("taken_at",)),
    ("orders", ("accession_number",)),
    ("orders", ("study_instance_uid",)),
    ("orders", ("stated_at",)),
    ("study_patients", ("patient_id",)),
    ("patient_moves", ("patient_id", "authority")),
    ("stated_patients", ("stated_at",)),
)


def downgrade() -> None:
    for table in ("stated_patients", "patient_moves", "study_patients", "orders", "hl7_messages"):
        op.drop_table(table)
