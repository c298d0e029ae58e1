"""Tables of how the node is operated: routes and models as people want them, its store and the damage there."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from dicom_node.index.tables.schema import Key, Uid, UtcDateTime, metadata

# Routes that a person has suspended; a row goes when the route is resumed.
suspended_routes = Table(
    "suspended_routes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("suspended_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

# Routes that people have written anew, over those of the configuration file. Rows are only ever added: the newest of a
# name counts, and those before it are its earlier versions.
route_edits = Table(
    "route_edits",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("edited_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    # As a table of the settings; null: from then on it is the file's again.
    Column("settings", JSON(none_as_null=True)),
    # Of the file's route when it was written; empty: the file had none of this name.
    Column("file_digest", String(64), nullable=False),
    Index(None, "name", "id"),
)

# Studies that a suspended route wanted; when it goes on, all routes decide on them anew.
held_studies = Table(
    "held_studies",
    metadata,
    Column("study_instance_uid", Uid, primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("held_at", UtcDateTime, nullable=False),
    Index(None, "route"),
)

# What people and golden studies have decided on models; rows are only ever added, the newest counts.
model_decisions = Table(
    "model_decisions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    # Of the folder where it was accepted, of folder and code where it was activated.
    Column("digest", String(64), nullable=False),
    # On what kind of machine golden studies ran; empty where that does not matter.
    Column("environment", Text, nullable=False, default=""),
    Column("decided_by", String(128), nullable=False),
    Column("detail", JSON, nullable=False),
    Index(None, "model", "id"),
)

# One row: the name of the store (`storage.spool`) that the rows of all tables speak of.
node_identity = Table(
    "node_identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(36), nullable=False),
)

# Kept objects whose bytes are not those that were written; a row goes when the right bytes are there again.
damaged_objects = Table(
    "damaged_objects",
    metadata,
    # Where it lies in the spool; of a record of the journal, where it was set aside.
    Column("object_key", String(255), primary_key=True),
    Column("kind", String(8), nullable=False),
    # SOP Instance UID, or the UID of a FHIR Bundle; empty, as the study, where the damage took it.
    Column("uid", Uid, nullable=False),
    Column("study_instance_uid", Uid, nullable=False),
    Column("found_at", UtcDateTime, nullable=False),
    Index(None, "uid"),
    Index(None, "study_instance_uid"),
)

# How far the search for damage has come: one row for each kind of object.
scrub_places = Table(
    "scrub_places",
    metadata,
    Column("kind", String(8), primary_key=True),
    # The last one looked at, in the order of its table's key; empty: a round begins.
    Column("place", String(64), nullable=False),
    Column("round_ended_at", UtcDateTime),
)

# Studies of which a person wants nothing deleted; a row goes when the study is released.
study_holds = Table(
    "study_holds",
    metadata,
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("held_by", String(128), nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

# What was deleted of studies, by which rule and by whom: the tombstones, which stay.
deletions = Table(
    "deletions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("state", String(16), nullable=False),
    # The setting that wanted it, as `images_days = 90`.
    Column("rule", String(64), nullable=False),
    Column("actor", String(128), nullable=False),
    # How much there was when it was noted, all versions counted; and which series, or kinds of object.
    Column("objects", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("detail", JSON, nullable=False),
    # Files of rows up to this one may be gone; the first of those behind it is not.
    Column("place", String(64), nullable=False),
    Column("marked_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index(None, "study_instance_uid", "id"),
    # One at a time of a study, whoever deletes.
    Index(
        "uq_deletions_under_way",
        "study_instance_uid",
        unique=True,
        sqlite_where=text("state = 'MARKED'"),
        postgresql_where=text("state = 'MARKED'"),
    ),
)

# How full the disk of the data folder was, once a day.
disk_samples = Table(
    "disk_samples",
    metadata,
    # ISO 8601, in UTC.
    Column("day", String(10), primary_key=True),
    Column("used_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
)
