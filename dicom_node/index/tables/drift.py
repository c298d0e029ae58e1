"""Tables of drift: features of analyses, the streams that they belong to, what drifts, and routes stopped for it."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from dicom_node.index.tables.schema import Key, UtcDateTime, metadata

# The results of one route, scanner and model, in the order in which they came.
drift_streams = Table(
    "drift_streams",
    metadata,
    Column("id", Key, primary_key=True),
    Column("route", String(64), nullable=False),
    # AE title, station and model of the device, as images name them.
    Column("scanner", String(160), nullable=False),
    Column("ae_title", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("model_digest", String(64), nullable=False),
    # Whether its card says that its scores are calibrated.
    Column("calibrated", Boolean, nullable=False),
    # Since when results are gathered for the reference, and from when on they are compared with it.
    Column("began_at", UtcDateTime, nullable=False),
    Column("compared_from", UtcDateTime),
    # The values of the reference by feature; null: it is not complete yet.
    Column("reference", JSON(none_as_null=True)),
    Column("reference_results", Integer, nullable=False),
    # ISO 8601 date in UTC of the last look; empty: none yet.
    Column("looked_on", String(10), nullable=False),
    # What calibrated scores let expect, and how reviews agree, as of that look.
    Column("estimate", JSON, nullable=False),
    Column("agreement", JSON, nullable=False),
    UniqueConstraint("route", "scanner", "model", "model_version", "model_digest"),
)

# What is kept of one result: numbers and words by name, nothing of the patient. Rows go with the result.
drift_features = Table(
    "drift_features",
    metadata,
    Column("job_key", String(64), ForeignKey("results.job_key"), primary_key=True),
    Column("stream_id", Key, ForeignKey("drift_streams.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("features", JSON, nullable=False),
    Index(None, "stream_id", "at"),
)

# How each feature of a stream compared in each window at the last look.
drift_comparisons = Table(
    "drift_comparisons",
    metadata,
    Column("stream_id", Key, ForeignKey("drift_streams.id"), primary_key=True),
    Column("feature", String(96), primary_key=True),
    Column("window_days", Integer, primary_key=True, autoincrement=False),
    # The test: ks or chi2.
    Column("test", String(8), nullable=False),
    Column("reference_n", Integer, nullable=False),
    Column("window_n", Integer, nullable=False),
    Column("statistic", Float, nullable=False),
    Column("shift", Float, nullable=False),
    Column("corrected_p", Float, nullable=False),
    # Since which look it drifts, and at how many in a row; null and 0: it does not.
    Column("since", UtcDateTime),
    Column("looks", Integer, nullable=False),
)

# Routes that were moved to shadow: they run, and nothing of them is delivered. Rows stay when they are restored.
stopped_routes = Table(
    "stopped_routes",
    metadata,
    Column("id", Key, primary_key=True),
    Column("route", String(64), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("stopped_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    # What drifted, as it was told then.
    Column("detail", JSON, nullable=False),
    Column("restored_at", UtcDateTime),
    Column("restored_by", String(128), nullable=False),
    Column("restored_reason", Text, nullable=False),
    Index(None, "route", "id"),
    # One at a time, whoever looks.
    Index(
        "uq_stopped_routes_standing",
        "route",
        unique=True,
        sqlite_where=text("restored_at IS NULL"),
        postgresql_where=text("restored_at IS NULL"),
    ),
)
