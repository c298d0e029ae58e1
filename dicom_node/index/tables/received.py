"""Tables of what came in: studies, images, associations, orders and patients, what others ask for."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from dicom_node.index.tables.schema import Key, Uid, UtcDateTime, metadata

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Uid, primary_key=True),
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
    # What is being deleted of it at this moment (`deletions`); empty: nothing.
    Column("deleting", String(8), nullable=False, default="", server_default=""),
    # Since when its images, and what was made of them, are gone; null: they are kept, or it came again since.
    Column("images_deleted_at", UtcDateTime),
    Column("results_deleted_at", UtcDateTime),
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
    # In which retention looks for what may go, however many studies are gone already.
    Index(
        "ix_studies_with_images",
        "updated_at",
        sqlite_where=text("images_deleted_at IS NULL"),
        postgresql_where=text("images_deleted_at IS NULL"),
    ),
    Index(
        "ix_studies_with_results",
        "updated_at",
        sqlite_where=text("images_deleted_at IS NOT NULL AND results_deleted_at IS NULL"),
        postgresql_where=text("images_deleted_at IS NOT NULL AND results_deleted_at IS NULL"),
    ),
)

# By which keyed digests of patient and accession number a study is found (`core.search_key`).
study_keys = Table(
    "study_keys",
    metadata,
    Column("search_key", String(64), primary_key=True),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Index(None, "study_instance_uid"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Key, primary_key=True),
    Column("sop_instance_uid", Uid, nullable=False),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Uid, nullable=False),
    Column("sop_class_uid", Uid, nullable=False),
    Column("transfer_syntax_uid", Uid, nullable=False),
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
    Column("study_instance_uid", Uid, primary_key=True),
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
    Column("id", Key, primary_key=True),
    Column("transaction_uid", Uid, nullable=False),
    Column("receiver_id", String(64), nullable=False),
    Column("association_id", String(36), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("source_host", String(64), nullable=False),
    # The data set of the N-ACTION as received, and how it is encoded.
    Column("transfer_syntax_uid", Uid, nullable=False),
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
    Column("accession_number", Uid, nullable=False),
    Column("study_instance_uid", Uid, nullable=False),
    Column("placer_number", Uid, nullable=False),
    Column("placer_authority", Uid, nullable=False),
    Column("filler_number", Uid, nullable=False),
    Column("filler_authority", Uid, nullable=False),
    Column("procedure_code", Uid, nullable=False),
    Column("procedure_scheme", Uid, nullable=False),
    Column("procedure_meaning", Uid, nullable=False),
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

# Reports of radiologists, and what was read of them. Of one that its source states again the latest state is kept.
reports = Table(
    "reports",
    metadata,
    # By its source and what that knows it by.
    Column("report_key", String(64), primary_key=True),
    Column("source", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    # Whether it is known which study it is about (`ReportMatch`), and why not.
    Column("match", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("accession_number", Uid, nullable=False),
    # The study that it names, and the one that it is about.
    Column("stated_study_uid", Uid, nullable=False),
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid")),
    # The patient's numbers: pairs of value and authority.
    Column("patients", JSON, nullable=False),
    # Empty: it was read, and `reports.keep_text_days` is over.
    Column("text", Text, nullable=False),
    # `ReportReading`; null: nobody has read it yet.
    Column("reading", JSON(none_as_null=True)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("stated_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    # When it is looked at again; null: not again.
    Column("next_look_at", UtcDateTime),
    Index(None, "next_look_at"),
    Index(None, "match", "received_at"),
    Index(None, "study_instance_uid"),
)

# Studies whose reports are looked for at an EHR: how often that was, and when it is next.
report_searches = Table(
    "report_searches",
    metadata,
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("searches", Integer, nullable=False),
    # Null: not again.
    Column("next_search_at", UtcDateTime),
    Index(None, "next_search_at"),
)

# Whose number the images in use name; a study without a row came before it was kept.
study_patients = Table(
    "study_patients",
    metadata,
    Column("study_instance_uid", Uid, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("patient_id", Uid, nullable=False),
    # Empty: the images name none.
    Column("issuer", Uid, nullable=False),
    Index(None, "patient_id"),
)

# Which number a patient has now instead of a prior one, by the word of a registration. Rows are only ever added.
patient_moves = Table(
    "patient_moves",
    metadata,
    Column("prior_id", Uid, primary_key=True),
    Column("prior_authority", Uid, primary_key=True),
    Column("patient_id", Uid, nullable=False),
    Column("authority", Uid, nullable=False),
    Column("moved_at", UtcDateTime, nullable=False),
    Index(None, "patient_id", "authority"),
)

# Who a patient is, as a registration has stated it last.
stated_patients = Table(
    "stated_patients",
    metadata,
    Column("patient_id", Uid, primary_key=True),
    Column("authority", Uid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("birth_date", String(8), nullable=False),
    Column("sex", String(1), nullable=False),
    Column("stated_at", UtcDateTime, nullable=False),
    Index(None, "stated_at"),
)

# Why somebody wants a study analysed, and what for. A route of "" means all that have no row of their own. What comes
# with an upload is stated before the study has a row.
stated_requests = Table(
    "stated_requests",
    metadata,
    Column("study_instance_uid", Uid, primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("indication", Text, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("stated_at", UtcDateTime, nullable=False),
)
