"""Tables of what became of studies: jobs, results and their objects, the timeline, what readers decided."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from dicom_node.index.tables.schema import Key, Uid, UtcDateTime, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    # The hard cap ended the wait for images: the study may lack some.
    Column("study_partial", Boolean, nullable=False, default=False),
    Column("series_instance_uid", Uid, nullable=False, default=""),
    # The route that this one shadows: run and compared, never delivered; empty for a route that delivers.
    Column("shadow_of", String(64), nullable=False, default="", server_default=""),
    Column("decision", JSON, nullable=False),
    Column("job_key", String(64), nullable=False, default=""),
    Column("reason", String(64), nullable=False, default=""),
    Column("message", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", UtcDateTime, nullable=False),
    Column("lease_owner", String(128), nullable=False, default=""),
    Column("lease_until", UtcDateTime),
    # Grows with every claim; a worker whose fence is old may no longer write.
    Column("fence", Integer, nullable=False, default=0),
    Column("priority", String(8), nullable=False, default="ROUTINE", server_default="ROUTINE"),
    # Orders the queue: when it was queued, later by what its priority concedes to others.
    Column("turn_at", UtcDateTime, nullable=False, server_default="1970-01-01 00:00:00"),
    Column("created_at", UtcDateTime, nullable=False),
    # First start: every time inside the produced objects comes from it, so that a retry makes equal bytes.
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    # How far a running job has come; of one that does not run it says nothing.
    Column("stage", String(16), nullable=False, default="", server_default=""),
    UniqueConstraint("study_instance_uid", "revision", "route"),
    Index(None, "state", "not_before"),
)

results = Table(
    "results",
    metadata,
    Column("job_key", String(64), primary_key=True),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False, default=""),
    Column("message", Text, nullable=False, default=""),
    # 1 for the first result of a study's line, 2 for its successor, …: the SR's Instance Number.
    Column("sequence", Integer, nullable=False),
    Column("shadow_of", String(64), nullable=False, default="", server_default=""),
    Column("summary", JSON, nullable=False),
    # Keys of the output sets in which it has been made; none: before there were any.
    Column("output_keys", JSON, nullable=False, default=[], server_default="[]"),
    # Whether it holds: a later result may have replaced it, a correction or a person withdrawn it, and why.
    Column("standing", String(16), nullable=False, default="CURRENT", server_default="CURRENT"),
    Column("standing_reason", Text, nullable=False, default="", server_default=""),
    # Since when it does not hold; every time inside what takes it back comes from it. Null: it holds.
    Column("standing_at", UtcDateTime),
    # What a named person has said of it, and which review made it; null: a model.
    Column("review_state", String(16), nullable=False, default="UNREVIEWED", server_default="UNREVIEWED"),
    Column("review_id", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "study_instance_uid"),
    Index(None, "standing"),
    Index(None, "created_at"),
)

# What people decided on results. One that fell stays; of the others there is one for each result.
reviews = Table(
    "reviews",
    metadata,
    Column("id", Key, primary_key=True),
    # The result that was reviewed.
    Column("job_key", String(64), ForeignKey("results.job_key"), nullable=False),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    # What was decided, and where the decision stands.
    Column("review_state", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("text", Text, nullable=False),
    # Every finding as it stands after the review, and what the model had said of it.
    Column("findings", JSON, nullable=False),
    # sha256 of all that was decided: who repeats a decision is answered the same.
    Column("digest", String(64), nullable=False),
    Column("reviewer_account", String(128), nullable=False),
    # What tells them apart from anybody else, whatever the account is called; empty: decided before 0022.
    Column("reviewer_identity", String(128), nullable=False, default="", server_default=""),
    Column("reviewer_name", String(64), nullable=False),
    Column("reviewer_organization", String(64), nullable=False),
    Column("reviewer_identifier", String(64), nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    # Who confirmed it or objected; empty: nobody, yet or ever.
    Column("second_account", String(128), nullable=False, default="", server_default=""),
    Column("second_identity", String(128), nullable=False, default="", server_default=""),
    Column("second_name", String(64), nullable=False, default="", server_default=""),
    Column("second_organization", String(64), nullable=False, default="", server_default=""),
    Column("second_identifier", String(64), nullable=False, default="", server_default=""),
    Column("second_decided_at", UtcDateTime),
    # Why it fell or failed, or why what follows could not be made yet.
    Column("note", Text, nullable=False, default="", server_default=""),
    # The result that tells it; empty: none, yet or ever.
    Column("result_key", String(64), nullable=False, default="", server_default=""),
    # Whoever makes that result, as with jobs.
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    Column("not_before", UtcDateTime, nullable=False),
    Column("lease_owner", String(128), nullable=False, default="", server_default=""),
    Column("lease_until", UtcDateTime),
    Column("fence", Integer, nullable=False, default=0, server_default="0"),
    Index(None, "job_key"),
    Index(None, "study_instance_uid"),
    Index(None, "state", "not_before"),
    Index(None, "result_key"),
    Index(
        "uq_reviews_standing",
        "job_key",
        unique=True,
        sqlite_where=text("state NOT IN ('FALLEN', 'FAILED')"),
        postgresql_where=text("state NOT IN ('FALLEN', 'FAILED')"),
    ),
)

# Who is reviewing a result at this moment, and until when nobody else may decide.
review_locks = Table(
    "review_locks",
    metadata,
    Column("job_key", String(64), ForeignKey("results.job_key"), primary_key=True),
    Column("account", String(128), nullable=False),
    Column("identity", String(128), nullable=False, default="", server_default=""),
    Column("name", String(64), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("job_key", String(64), ForeignKey("results.job_key"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("sop_class_uid", Uid, nullable=False, default=""),
    Column("series_instance_uid", Uid, nullable=False, default=""),
    Column("object_key", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("preview_key", String(128), nullable=False, default=""),
    # Order of sending within one result: what the SR refers to goes before the SR.
    Column("send_order", Integer, nullable=False),
    # Keys of the output sets it belongs to; none: it goes wherever its kind is taken.
    Column("output_keys", JSON, nullable=False, default=[], server_default="[]"),
    # Whether its bytes are kept; of what is PURGED the row explains what went where.
    Column("state", String(16), nullable=False, default="STORED", server_default="STORED"),
    Index(None, "job_key"),
    Index(None, "object_key"),
    Index(None, "preview_key"),
)

# The timeline of a study: one line per thing that happened to it.
events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_instance_uid", Uid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    # The name of the principal who did it; empty: from before it was written down.
    Column("actor", String(128), nullable=False, default="", server_default=""),
    Column("detail", JSON, nullable=False),
    Index(None, "study_instance_uid", "id"),
)
