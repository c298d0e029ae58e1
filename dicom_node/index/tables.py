"""The tables, nothing else. `migrations/` creates them; a test holds both against each other.

Times are UTC. Texts that come from enums hold the enum's value.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware UTC time on every database; SQLite itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


#: SQLite counts only INTEGER keys up by itself.
_Key = BigInteger().with_variant(Integer, "sqlite")
_Uid = String(64)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", _Uid, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    # First and latest arrival of a source instance in this revision.
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("last_received_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # What the worklist sorts and filters by, worked out of images and jobs a moment later (`received.worklist`).
    # How urgent it is: the highest first (`received.worklist.URGENCIES`).
    Column("urgency", Integer, nullable=False, default=1, server_default="1"),
    # Of several values each stands between bars: |CT|SR|.
    Column("modalities", Text, nullable=False, default="", server_default=""),
    Column("stations", Text, nullable=False, default="", server_default=""),
    Column("description", Text, nullable=False, default="", server_default=""),
    # DICOM DA; empty: the images say none.
    Column("study_date", String(8), nullable=False, default="", server_default=""),
    # The `updated_at` as of which they were worked out, and with which secret its rows of `study_keys`; null: not yet.
    Column("listed_at", UtcDateTime),
    Column("listed_with", String(16), nullable=False, default="", server_default=""),
    Index(None, "state", "last_received_at"),
    Index(None, "last_received_at"),
    Index(None, "updated_at"),
    Index(None, "urgency", "last_received_at", "study_instance_uid"),
    Index(
        "ix_studies_unlisted",
        "updated_at",
        sqlite_where=text("listed_at IS NULL OR listed_at <> updated_at"),
        postgresql_where=text("listed_at IS NULL OR listed_at <> updated_at"),
    ),
)

# By which keyed digests of patient and accession number a study is found (`core.search_key`).
study_keys = Table(
    "study_keys",
    metadata,
    Column("search_key", String(64), primary_key=True),
    Column("study_instance_uid", _Uid, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Index(None, "study_instance_uid"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("sop_instance_uid", _Uid, nullable=False),
    Column("study_instance_uid", _Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", _Uid, nullable=False),
    Column("sop_class_uid", _Uid, nullable=False),
    Column("transfer_syntax_uid", _Uid, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("object_key", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    # When another version of the same SOP Instance UID took its place, or when it came and was not used; null: this
    # version is the one in use.
    Column("superseded_at", UtcDateTime),
    Column("attributes", JSON, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("source_host", String(64), nullable=False),
    UniqueConstraint("sop_instance_uid", "sha256"),
    Index(None, "study_instance_uid"),
    Index(None, "object_key"),
    # One version of each is in use, whoever writes.
    Index(
        "uq_instances_in_use",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("superseded_at IS NULL"),
        postgresql_where=text("superseded_at IS NULL"),
    ),
)

# One row per association and study it carried: evidence for completeness and for the timeline.
associations = Table(
    "associations",
    metadata,
    Column("association_id", String(36), primary_key=True),
    Column("study_instance_uid", _Uid, primary_key=True),
    Column("receiver_id", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("source_host", String(64), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    # The receiver says "still open" by renewing this; a dead receiver's associations stop counting.
    Column("seen_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("outcome", String(16), nullable=False, default=""),
    Column("instances", Integer, nullable=False, default=0),
    # When it was handed to the audit trail.
    Column("audited_at", UtcDateTime),
    Index(None, "study_instance_uid"),
    Index(None, "receiver_id", "closed_at"),
    Index(None, "opened_at"),
    Index(None, "calling_ae_title", "opened_at"),
    Index(
        "ix_associations_unaudited",
        "closed_at",
        sqlite_where=text("closed_at IS NOT NULL AND audited_at IS NULL"),
        postgresql_where=text("closed_at IS NOT NULL AND audited_at IS NULL"),
    ),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("study_instance_uid", _Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    # The hard cap ended the wait for images: the study may lack some.
    Column("study_partial", Boolean, nullable=False, default=False),
    Column("series_instance_uid", _Uid, nullable=False, default=""),
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
    Column("study_instance_uid", _Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
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
    Column("id", _Key, primary_key=True),
    # The result that was reviewed.
    Column("job_key", String(64), ForeignKey("results.job_key"), nullable=False),
    Column("study_instance_uid", _Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
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
    Column("uid", _Uid, primary_key=True),
    Column("job_key", String(64), ForeignKey("results.job_key"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("sop_class_uid", _Uid, nullable=False, default=""),
    Column("series_instance_uid", _Uid, nullable=False, default=""),
    Column("object_key", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("preview_key", String(128), nullable=False, default=""),
    # Order of sending within one result: what the SR refers to goes before the SR.
    Column("send_order", Integer, nullable=False),
    # Keys of the output sets it belongs to; none: it goes wherever its kind is taken.
    Column("output_keys", JSON, nullable=False, default=[], server_default="[]"),
    Index(None, "job_key"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("artifact_uid", _Uid, ForeignKey("artifacts.uid"), nullable=False),
    Column("job_key", String(64), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    # Place of its job's priority among the priorities: the smallest goes first.
    Column("urgency", Integer, nullable=False, default=2, server_default="2"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("lease_owner", String(128), nullable=False, default=""),
    Column("lease_until", UtcDateTime),
    Column("note", Text, nullable=False, default=""),
    # The object takes back others of its result; the result's own objects are never sent while one such waits.
    Column("is_withdrawal", Boolean, nullable=False, default=False, server_default=false()),
    # Given up in the middle of an attempt: the destination may have it.
    Column("may_have_arrived", Boolean, nullable=False, default=False, server_default=false()),
    # What takes the object back there is planned.
    Column("is_taken_back", Boolean, nullable=False, default=False, server_default=false()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    # The warning with which it was stored (PS3.4 GG.4.2), of the last time it was sent; null: none.
    Column("warning", Integer),
    # When its destination is asked next whether it has the object; null: not until it is sent, or checked again.
    Column("prove_at", UtcDateTime),
    # How often the destination was asked since it was sent, or proved.
    Column("proof_tries", Integer, nullable=False, default=0, server_default="0"),
    # How often it was sent again because it had not arrived, and because it was there and then was not.
    Column("times_missing", Integer, nullable=False, default=0, server_default="0"),
    Column("times_lost", Integer, nullable=False, default=0, server_default="0"),
    # The storage commitment that was asked for last; empty: none, or it was answered with a failure.
    Column("transaction_uid", _Uid, nullable=False, default="", server_default=""),
    # How it was proved to be there (`core.entities.Proof`), what was answered, and when; or why there is no proof.
    Column("proof", String(16), nullable=False, default="", server_default=""),
    Column("proof_note", Text, nullable=False, default="", server_default=""),
    Column("proved_at", UtcDateTime),
    UniqueConstraint("artifact_uid", "destination"),
    Index(None, "destination", "state", "next_attempt_at"),
    Index(None, "destination", "state", "prove_at"),
    Index(None, "transaction_uid"),
    Index(None, "destination", "state", "urgency", "id"),
    Index(None, "job_key"),
    Index(None, "sent_at"),
)

# Destinations that are told of events: whoever changes a state owes each of these an event, in the same transaction.
subscribers = Table(
    "subscribers",
    metadata,
    Column("name", String(64), primary_key=True),
    # Of the results of which routes it hears; none: of all.
    Column("routes", JSON, nullable=False),
    # What of patient and order its events tell.
    Column("include", JSON, nullable=False),
)

# What happened and is to be told: one row per event and subscriber.
notifications = Table(
    "notifications",
    metadata,
    Column("id", _Key, primary_key=True),
    # The receiver knows a repetition by it.
    Column("event_id", String(36), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    # Empty: it is about no study. Events of one study are told in the order in which they happened.
    Column("study_instance_uid", _Uid, nullable=False, default=""),
    # As that of deliveries.
    Column("urgency", Integer, nullable=False),
    # The JSON as it is sent, the same at every attempt.
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("lease_owner", String(128), nullable=False, default=""),
    Column("lease_until", UtcDateTime),
    Column("note", Text, nullable=False, default=""),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    UniqueConstraint("event_id"),
    Index(None, "destination", "state", "urgency", "id"),
    Index(None, "study_instance_uid"),
)

# Destinations that have ever been suspended; one without a row is active.
destinations = Table(
    "destinations",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    # Empty when it is active.
    Column("reason", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    # The person who suspended it, and alone lets it go on; empty: the node itself did, or it is active.
    Column("suspended_by", String(128), nullable=False, default="", server_default=""),
)

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
    Column("id", _Key, primary_key=True),
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
    Column("study_instance_uid", _Uid, primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("held_at", UtcDateTime, nullable=False),
    Index(None, "route"),
)

# What a destination said it takes when it was asked, and what it refused although it had said so.
peer_capabilities = Table(
    "peer_capabilities",
    metadata,
    Column("destination", String(64), primary_key=True),
    # Whom the answer is from: another address under the same name is another peer.
    Column("address", String(512), nullable=False),
    Column("implementation", String(64), nullable=False, default=""),
    # SOP class UIDs with their accepted transfer syntaxes; null: it has not been heard.
    Column("accepted", JSON(none_as_null=True)),
    # SOP class UIDs with the time of the refusal.
    Column("refused", JSON, nullable=False),
    # When it was last asked, heard or not; null: to be asked at the next opportunity.
    Column("asked_at", UtcDateTime),
    Column("heard_at", UtcDateTime),
)

# Studies that are being fetched; a row goes when its retrieval ends.
retrievals = Table(
    "retrievals",
    metadata,
    Column("id", String(36), primary_key=True),
    # Who fetches: takes it up again after a restart.
    Column("receiver_id", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    # Empty: the whole study.
    Column("series_instance_uids", JSON, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    # How often its receiver has ended before it did.
    Column("interrupted", Integer, nullable=False),
)

# Requests for storage commitment (PS3.4 Annex J): what a modality asks before it deletes its own copies.
commitments = Table(
    "commitments",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("transaction_uid", _Uid, nullable=False),
    Column("receiver_id", String(64), nullable=False),
    Column("association_id", String(36), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("source_host", String(64), nullable=False),
    # The data set of the N-ACTION as received, and how it is encoded.
    Column("transfer_syntax_uid", _Uid, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("committed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("note", Text, nullable=False, default=""),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("reported_at", UtcDateTime),
    UniqueConstraint("transaction_uid", "calling_ae_title"),
    Index(None, "receiver_id", "state", "next_attempt_at"),
)

# The timeline of a study: one line per thing that happened to it.
events = Table(
    "events",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("study_instance_uid", _Uid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    # The name of the principal who did it; empty: from before it was written down.
    Column("actor", String(128), nullable=False, default="", server_default=""),
    Column("detail", JSON, nullable=False),
    Index(None, "study_instance_uid", "id"),
)

# What people and golden studies have decided on models; rows are only ever added, the newest counts.
model_decisions = Table(
    "model_decisions",
    metadata,
    Column("id", _Key, primary_key=True),
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
    Column("uid", _Uid, nullable=False),
    Column("study_instance_uid", _Uid, nullable=False),
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

# HL7 v2 messages that were taken, by a digest of sender, control id and content: taking one again changes nothing.
hl7_messages = Table(
    "hl7_messages",
    metadata,
    Column("message_key", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("taken_at", UtcDateTime, nullable=False),
    Index(None, "taken_at"),
)

# Orders as the RIS or the hospital's information system has stated them last.
orders = Table(
    "orders",
    metadata,
    # By the placer's number, or where there is none by the filler's.
    Column("order_key", String(160), primary_key=True),
    Column("accession_number", _Uid, nullable=False),
    Column("study_instance_uid", _Uid, nullable=False),
    Column("placer_number", _Uid, nullable=False),
    Column("placer_authority", _Uid, nullable=False),
    Column("filler_number", _Uid, nullable=False),
    Column("filler_authority", _Uid, nullable=False),
    Column("procedure_code", _Uid, nullable=False),
    Column("procedure_scheme", _Uid, nullable=False),
    Column("procedure_meaning", _Uid, nullable=False),
    Column("reason", Text, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("requested_at", String(32), nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    # The patient's numbers: pairs of value and authority.
    Column("patients", JSON, nullable=False),
    Column("stated_at", UtcDateTime, nullable=False),
    Index(None, "accession_number"),
    Index(None, "study_instance_uid"),
    Index(None, "stated_at"),
)

# Whose number the images in use name; a study without a row came before it was kept.
study_patients = Table(
    "study_patients",
    metadata,
    Column("study_instance_uid", _Uid, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("patient_id", _Uid, nullable=False),
    # Empty: the images name none.
    Column("issuer", _Uid, nullable=False),
    Index(None, "patient_id"),
)

# Which number a patient has now instead of a prior one, by the word of a registration. Rows are only ever added.
patient_moves = Table(
    "patient_moves",
    metadata,
    Column("prior_id", _Uid, primary_key=True),
    Column("prior_authority", _Uid, primary_key=True),
    Column("patient_id", _Uid, nullable=False),
    Column("authority", _Uid, nullable=False),
    Column("moved_at", UtcDateTime, nullable=False),
    Index(None, "patient_id", "authority"),
)

# Who a patient is, as a registration has stated it last.
stated_patients = Table(
    "stated_patients",
    metadata,
    Column("patient_id", _Uid, primary_key=True),
    Column("authority", _Uid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("birth_date", String(8), nullable=False),
    Column("sex", String(1), nullable=False),
    Column("stated_at", UtcDateTime, nullable=False),
    Index(None, "stated_at"),
)

# People who sign in with a password.
accounts = Table(
    "accounts",
    metadata,
    Column("id", _Key, primary_key=True),
    # As it was given; `name_key` is what it is compared by.
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False),
    # As argon2 writes it, with its parameters; none: nobody can sign in with a password.
    Column("password_hash", String(255)),
    Column("roles", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("password_changed_at", UtcDateTime),
    Column("disabled_at", UtcDateTime),
    # A person name as DICOM writes it, and what the hospital calls the person; empty: not told.
    Column("display_name", String(64), nullable=False, default="", server_default=""),
    Column("identifier", String(64), nullable=False, default="", server_default=""),
    UniqueConstraint("name_key"),
)

# Keys of programs. A revoked one stays, and its name is free again.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False),
    # sha256 of the secret, which is random and nowhere kept.
    Column("secret_digest", String(64), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    # To some minutes: not every request is written down.
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    UniqueConstraint("secret_digest"),
    Index(
        None, "name_key", unique=True,
        sqlite_where=text("revoked_at IS NULL"), postgresql_where=text("revoked_at IS NULL"),
    ),
)  # fmt: skip

# Sessions of browsers, by the sha256 of the secret in their cookie.
sessions = Table(
    "sessions",
    metadata,
    Column("secret_digest", String(64), primary_key=True),
    # Whose it is, with the roles at its opening: another role ends it.
    Column("principal", String(128), nullable=False),
    # What tells them apart from others of that name; empty: the name is theirs alone.
    Column("principal_key", String(128), nullable=False, default="", server_default=""),
    # By which account or which key it was opened; neither: by an identity provider.
    Column("account_id", BigInteger),
    Column("key_digest", String(64), nullable=False),
    # The browser, as it was told apart by another cookie; empty: not told.
    Column("browser_digest", String(64), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    # To a minute: not every request is written down.
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("idle_s", Integer, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    # Who vouched for them, and for whom there; empty: nobody else did.
    Column("provider_issuer", String(255), nullable=False),
    Column("provider_subject", String(255), nullable=False),
    Column("provider_session_id", String(255), nullable=False),
    # By which the provider can be asked again, encrypted.
    Column("provider_token", Text, nullable=False),
    Column("provider_checked_at", UtcDateTime),
    Index(None, "account_id"),
    Index(None, "key_digest"),
    Index(None, "browser_digest"),
    Index(None, "expires_at"),
    Index(None, "provider_issuer", "provider_subject"),
)

# What people and peers did: one chain of sealed records, which are only ever added.
audit_records = Table(
    "audit_records",
    metadata,
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("event_id", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("act", String(32), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("address", _Uid, nullable=False),
    Column("outcome", String(2), nullable=False),
    Column("study_instance_uid", _Uid, nullable=False),
    Column("patient_id", _Uid, nullable=False),
    Column("issuer_of_patient_id", _Uid, nullable=False),
    # JSON as it was sealed, letter by letter.
    Column("detail", Text, nullable=False),
    # Which key sealed it, the seal of the record before, and its own.
    Column("key_id", String(16), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("mac", String(64), nullable=False),
    UniqueConstraint("event_id"),
    Index(None, "at"),
    Index(None, "study_instance_uid"),
    Index(None, "patient_id"),
)

# How far each receiver of the audit trail has it.
audit_positions = Table(
    "audit_positions",
    metadata,
    Column("receiver", String(128), primary_key=True),
    # The number of the last record that it has.
    Column("number", BigInteger, nullable=False),
    Column("lease_owner", String(128), nullable=False),
    Column("lease_until", UtcDateTime),
)

# Why somebody wants a study analysed, and what for. A route of "" means all that have no row of their own. What comes
# with an upload is stated before the study has a row.
stated_requests = Table(
    "stated_requests",
    metadata,
    Column("study_instance_uid", _Uid, primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("indication", Text, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("stated_at", UtcDateTime, nullable=False),
)
