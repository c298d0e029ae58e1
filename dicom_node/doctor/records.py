"""What the node has written down: database, what the index tells of the node, audit trail, backups."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.config.settings import Settings
from dicom_node.core.errors import AuditUnavailable, IndexUnavailable, SettingsError
from dicom_node.deliver.owed_to_nobody import advice_for, owed_to_nobody
from dicom_node.doctor.check import Check
from dicom_node.doctor.machine import running_ports
from dicom_node.index.damage import damage_counts, round_ended_at
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.decided.route_edits import edits_in_force
from dicom_node.index.decided.suspensions import in_words, route_suspensions
from dicom_node.index.outbox.destinations import suspensions
from dicom_node.index.received.worklist import unlisted_count
from dicom_node.inference.cards.folders import survey_models
from dicom_node.operate.backup.outcome import last_backup
from dicom_node.operate.backup.restored import restoration_of
from dicom_node.operate.routes_in_force import RouteOrigin, overlaid
from dicom_node.people.audit.trail import audit_anchor, audit_folder, audit_keys
from dicom_node.storage.folder import existing_part, why_not_writable

#: What a second's acts of care come to at most; more waits because it must.
_MOST_WAITING_BYTES = 200_000


def check_database(settings: Settings) -> Check:
    """The database answers and its schema is one this version of the program knows."""
    name, url = "database", sqlalchemy.make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return Check(name, True, f"{shown}, made at first start")
    try:
        database = Database(settings.database_url)
        try:
            version = database.schema_version()
        finally:
            database.close()
    except (IndexUnavailable, SettingsError, SQLAlchemyError) as error:
        return Check(name, False, f"{shown}: {error}", "Start the server, or correct database.url.")
    if version is None:
        return Check(name, True, f"{shown}, empty: tables are made at first start")
    if version > SCHEMA_HEAD:
        text = f"{shown} has schema {version}, newer than this program's {SCHEMA_HEAD}"
        return Check(name, False, text, "Install the version of the node that wrote it, or a newer one.")
    state = "up to date" if version == SCHEMA_HEAD else f"brought to {SCHEMA_HEAD} at the next start"
    return Check(name, True, f"{shown}, schema {version}, {state}")


def check_index(settings: Settings) -> list[Check]:
    """What the index tells: kept objects that are damaged, and what waits for a destination that is gone; no check
    before a node of this version has run."""
    url = sqlalchemy.make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return []
    try:
        database = Database(settings.database_url)
    except SettingsError:
        return []  # told by the check of the database
    try:
        if database.schema_version() != SCHEMA_HEAD:
            return []
        with database.read() as connection:
            return [
                _check_kept_objects(connection),
                *_check_worklist(connection),
                *_check_owed_to_nobody(connection, settings),
                *_check_what_people_set(connection, settings),
            ]
    except (IndexUnavailable, SQLAlchemyError):
        return []  # told by the check of the database
    finally:
        database.close()


def _check_owed_to_nobody(connection: Connection, settings: Settings) -> list[Check]:
    return [
        Check(f"destination {name}", False, f"{waiting.in_words} for it, and the settings have it no more",
              advice_for(name, waiting))
        for name, waiting in owed_to_nobody(connection, settings).items()
    ]  # fmt: skip


def _check_what_people_set(connection: Connection, settings: Settings) -> list[Check]:
    """What people have suspended, and routes that they have written over those of the file: told, so that nobody
    forgets it. A fault is what is not as it was meant."""
    stopped = [Check(f"destination {name}", True, one.in_words(name)) for name, one in suspensions(connection).items()]
    stopped += [
        Check(f"route {name}", True, in_words(name, one)) for name, one in route_suspensions(connection).items()
    ]
    try:
        edited = overlaid(settings, survey_models(settings.models_dirs).cards, edits_in_force(connection)).origins
    except SettingsError:
        return stopped  # told by the check of the routes
    return [*stopped, *(_check_edited(name, one) for name, one in edited.items())]


def _check_edited(name: str, origin: RouteOrigin) -> Check:
    text = f"edited by {origin.edited_by} on {origin.edited_at:%Y-%m-%d}: {origin.edit_reason}"
    fault = origin.unusable or origin.conflict
    return Check(
        f"route {name}", not fault, f"{text}. {fault}".rstrip(". "), "Save it anew, or revert it." if fault else ""
    )


def _check_kept_objects(connection: Connection) -> Check:
    damaged, since = damage_counts(connection), round_ended_at(connection)
    name = "kept objects"
    if damaged.total:
        text = f"damaged: {damaged.images} images, {damaged.results} results, {damaged.records} records of the journal"
        return Check(name, False, text, "Look at the disk; docs/how-to/operate.md says how each is made whole.")
    seen = "not all read yet" if since is None else f"all read by {since:%Y-%m-%d %H:%M} UTC"
    return Check(name, True, f"no damage known, {seen}")


def _check_worklist(connection: Connection) -> list[Check]:
    """Say how many studies the worklist has not worked out yet, as after an upgrade; they are no fault."""
    waits = unlisted_count(connection)
    studies = "1 study is" if waits == 1 else f"{waits} studies are"
    text = f"{studies} not sorted by urgency, nor found by number, yet: the role index works them out"
    return [Check("worklist", True, text)] if waits else []


def check_audit(settings: Settings) -> list[Check]:
    """The audit trail can be sealed and anchored; no check where it is off, or before a node has made its key."""
    keys, anchor = audit_keys(settings), audit_anchor(settings)
    if not settings.audit.enabled or not running_ports(settings):
        return []
    name, waiting = "audit trail", list((audit_folder(settings) / "waiting").glob("*.jsonl"))
    try:
        keys.known()
        last = max((mark.number for mark in anchor.marks()), default=0)
    except AuditUnavailable as error:
        return [Check(name, False, f"{error}", "What people ask is refused until it can be written.")]
    reason = why_not_writable(existing_part(anchor.path.parent))
    if reason:
        return [Check(name, False, f"{anchor.path.parent} cannot be written ({reason})", "Correct audit.anchor_file.")]
    waits = sum(path.stat().st_size for path in waiting)
    if waits > _MOST_WAITING_BYTES:
        return [Check(name, False, f"{waits} bytes of acts wait for it", "The node's log says why; look for audit.")]
    beside = ", on the disk of the database" if _shares_disk(anchor.path, settings) else ""
    return [Check(name, True, f"{last} records, anchored in {anchor.path}{beside}")]


def _shares_disk(path: Path, settings: Settings) -> bool:
    url = sqlalchemy.make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return False
    return existing_part(path).stat().st_dev == existing_part(Path(url.database)).stat().st_dev


def check_backup(settings: Settings) -> list[Check]:
    """What became of the last backups, and whether the node itself was put back from one."""
    outcome = last_backup(settings.node.data_dir)
    if outcome is None:
        checks = [Check("backup", True, "none was made yet by dicom-node backup")]
    else:
        advice = outcome.advice(datetime.now(UTC))
        checks = [Check("backup", not advice, outcome.in_words(), advice)]
    try:
        restored = restoration_of(settings.node.data_dir)
    except SettingsError as error:
        return [*checks, Check("restored", False, str(error), "Repair or remove the file.")]
    if restored is not None:
        text = (
            f"from the backup {restored.snapshot} on {restored.restored_at.astimezone():%Y-%m-%d %H:%M %Z}; a "
            "destination that can be asked is asked before anything of an older study is sent"
        )
        checks.append(Check("restored", True, text))
    return checks
