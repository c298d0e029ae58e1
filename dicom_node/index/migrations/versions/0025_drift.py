"""What is kept of analyses to see drift, what drifts, and which routes were moved to shadow for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_STANDING = sa.text("restored_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "drift_streams",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("scanner", sa.String(160), nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("calibrated", sa.Boolean, nullable=False),
        sa.Column("began_at", _TIME, nullable=False),
        sa.Column("compared_from", _TIME),
        sa.Column("reference", sa.JSON),
        sa.Column("reference_results", sa.Integer, nullable=False),
        sa.Column("looked_on", sa.String(10), nullable=False),
        sa.Column("estimate", sa.JSON, nullable=False),
        sa.Column("agreement", sa.JSON, nullable=False),
        sa.UniqueConstraint(
            "route",
            "scanner",
            "model",
            "model_version",
            "model_digest",
            name="uq_drift_streams_route_scanner_model_model_version_model_digest",
        ),
    )
    op.create_table(
        "drift_features",
        sa.Column("job_key", sa.String(64), sa.ForeignKey("results.job_key"), primary_key=True),
        sa.Column("stream_id", _KEY, sa.ForeignKey("drift_streams.id"), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
    )
    op.create_index("ix_drift_features_stream_id_at", "drift_features", ["stream_id", "at"])
    op.create_table(
        "drift_comparisons",
        sa.Column("stream_id", _KEY, sa.ForeignKey("drift_streams.id"), primary_key=True),
        sa.Column("feature", sa.String(96), primary_key=True),
        sa.Column("window_days", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("test", sa.String(8), nullable=False),
        sa.Column("reference_n", sa.Integer, nullable=False),
        sa.Column("window_n", sa.Integer, nullable=False),
        sa.Column("statistic", sa.Float, nullable=False),
        sa.Column("shift", sa.Float, nullable=False),
        sa.Column("corrected_p", sa.Float, nullable=False),
        sa.Column("since", _TIME),
        sa.Column("looks", sa.Integer, nullable=False),
    )
    op.create_table(
        "stopped_routes",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("stopped_by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("restored_at", _TIME),
        sa.Column("restored_by", sa.String(128), nullable=False),
        sa.Column("restored_reason", sa.Text, nullable=False),
    )
    op.create_index("ix_stopped_routes_route_id", "stopped_routes", ["route", "id"])
    op.create_index(
        "uq_stopped_routes_standing", "stopped_routes", ["route"], unique=True,
        sqlite_where=_STANDING, postgresql_where=_STANDING,
    )  # fmt: skip


def downgrade() -> None:
    for table in ("stopped_routes", "drift_comparisons", "drift_features", "drift_streams"):
        op.drop_table(table)
