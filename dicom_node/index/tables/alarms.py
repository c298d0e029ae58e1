"""Tables of alarms: what was raised, what receivers are to be told, what was seen and when, and self-tests."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, text

from dicom_node.index.tables.schema import Key, Uid, UtcDateTime, metadata

# One row for each fault from when it was first seen; one that was raised stays for a while after it was cleared.
alarms = Table(
    "alarms",
    metadata,
    Column("id", Key, primary_key=True),
    Column("rule", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    # Of whom: a calling AE title, destination, model; empty: of the node.
    Column("subject", String(128), nullable=False),
    Column("text", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    # Since when it lasts, as far as that is known, and when it was first seen.
    Column("since", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    # Since when it is not seen any more; null: it was seen when it was last looked for.
    Column("gone_at", UtcDateTime),
    Column("raised_at", UtcDateTime),
    Column("told_at", UtcDateTime),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(128), nullable=False),
    Column("note", Text, nullable=False),
    Column("cleared_at", UtcDateTime),
    # One at a time of a rule and subject, whoever looks.
    Index(
        "uq_alarms_open",
        "rule",
        "subject",
        unique=True,
        sqlite_where=text("cleared_at IS NULL"),
        postgresql_where=text("cleared_at IS NULL"),
    ),
    Index(None, "cleared_at"),
)

# What receivers are owed. Those of one batch are one message.
alarm_messages = Table(
    "alarm_messages",
    metadata,
    Column("id", Key, primary_key=True),
    Column("receiver", String(64), nullable=False),
    Column("alarm_id", Key, ForeignKey("alarms.id"), nullable=False),
    # The alarm as it was then; nothing of a patient is in it.
    Column("body", JSON, nullable=False),
    Column("batch", String(40), nullable=False),
    # Held back in quiet hours: with others of its receiver it becomes one message when they end.
    Column("is_held", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fault", Text, nullable=False),
    # Whoever sends it may do so until then.
    Column("lease_until", UtcDateTime),
    Column("sent_at", UtcDateTime),
    Index(None, "receiver", "sent_at", "due_at"),
    Index(None, "alarm_id"),
)

# What a part of the node has seen, for whoever judges it in another process; a row goes when all is well.
alarm_signs = Table(
    "alarm_signs",
    metadata,
    Column("rule", String(32), primary_key=True),
    Column("subject", String(128), primary_key=True),
    Column("text", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)

# The hours in which the node was there to see: in the others no scanner was silent.
watched_hours = Table("watched_hours", metadata, Column("hour", UtcDateTime, primary_key=True))

# The daily self-tests. A study that is here is owed to nobody, whatever routes say.
self_tests = Table(
    "self_tests",
    metadata,
    # ISO 8601, by the site's time: one a day, whoever begins it.
    Column("day", String(10), primary_key=True),
    Column("study_instance_uid", Uid, nullable=False, unique=True),
    Column("begun_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    # What went wrong at which stage; empty: nothing, or it has not ended.
    Column("fault", Text, nullable=False),
)
