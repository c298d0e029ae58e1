"""Tables of what is owed to others, and of what is known of them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from dicom_node.index.tables.schema import Key, Uid, UtcDateTime, metadata

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Key, primary_key=True),
    Column("artifact_uid", Uid, ForeignKey("artifacts.uid"), nullable=False),
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
    Column("transaction_uid", Uid, nullable=False, default="", server_default=""),
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
    Column("id", Key, primary_key=True),
    # The receiver knows a repetition by it.
    Column("event_id", String(36), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    # Empty: it is about no study. Events of one study are told in the order in which they happened.
    Column("study_instance_uid", Uid, nullable=False, default=""),
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
