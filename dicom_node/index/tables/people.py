"""Tables of who may use the node, and of what was done: accounts, keys, sessions, the audit trail."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, Text, UniqueConstraint, text

from dicom_node.index.tables.schema import Key, Uid, UtcDateTime, metadata

# People who sign in with a password.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Key, primary_key=True),
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
    Column("id", Key, primary_key=True),
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
    Column("number", Key, primary_key=True, autoincrement=False),
    Column("event_id", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("act", String(32), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("address", Uid, nullable=False),
    Column("outcome", String(2), nullable=False),
    Column("study_instance_uid", Uid, nullable=False),
    Column("patient_id", Uid, nullable=False),
    Column("issuer_of_patient_id", Uid, nullable=False),
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
