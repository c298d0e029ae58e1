"""`dicom-node audit`: who did what here, whether the trail of it is whole, and a new key for it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from datetime import datetime

from dicom_node.cli.node import opened, settings_of_a_node
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import Conflict, SettingsError
from dicom_node.index.people.audit_records import AuditFilter, AuditRecord, latest_records, matching_records
from dicom_node.people.audit.trail import audit_anchor, audit_keys, audited_act, open_audit
from dicom_node.people.audit.verify import TrailFinding, verify
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings


def verify_trail(options: argparse.Namespace) -> int:
    """Read the whole trail; the exit status is 1 when a record was changed or removed."""
    settings = load_settings(options.config)
    with opened(options) as database:
        count, found = verify(database, audit_keys(settings), audit_anchor(settings))
    is_whole = not any(one.is_fault for one in found)
    if options.json:
        print_json({"records": count, "whole": is_whole, "findings": found})
        return 0 if is_whole else 1
    for one in found:
        say(f"{'FAIL' if one.is_fault else 'note'}  record {one.number}: {one.text}")
    say(f"{count} records: {'none was changed or removed.' if is_whole else 'the trail is not what was written.'}")
    return 0 if is_whole else 1


def list_records(options: argparse.Namespace) -> int:
    """Show the latest records; that is written down, too."""
    wanted = _filter(options)
    with opened(options, AuditedAct.AUDIT_READ, options.study) as database, database.read() as connection:
        records = latest_records(connection, wanted, options.limit)
    if options.json:
        print_json([as_told(one) for one in records])
        return 0
    rows = [(r.number, r.at, r.act, r.actor, r.address, r.outcome, r.study_instance_uid, r.patient_id) for r in records]
    print_table(["number", "at", "act", "who", "from", "outcome", "study", "patient"], rows)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write records into a new file, oldest first; that is written down, too."""
    wanted = _filter(options)
    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsError(f"{options.file} cannot be made: {error.strerror}. Name a new file.") from error
    count = 0
    with (
        open(descriptor, "w", encoding="utf-8") as file,  # noqa: PTH123 - a descriptor, opened with its mode
        opened(options, AuditedAct.EXPORT, options.study, what="audit trail") as database,
        database.read() as connection,
    ):
        for record in matching_records(connection, wanted):
            file.write(json.dumps(as_told(record)) + "\n")
            count += 1
    say(f"{count} records are in {options.file}.")
    return 0


def rotate_key(options: argparse.Namespace) -> int:
    """Add a key; running processes use it for the next record."""
    node = Node(settings_of_a_node(options))
    event = AuditedEvent(act=AuditedAct.KEY_CHANGED, actor=actor(), detail={"key": "audit trail"})
    with audited_act(open_audit(node.settings, node.database), event):
        key_id = audit_keys(node.settings).rotate()
    say(f"Key {key_id} seals what is new. Keep the file: the former keys in it prove what is old.")
    return 0


def accept(options: argparse.Namespace) -> int:
    """Stand for a trail that is older than its anchor, because a backup was put back; that is written down.

    A trail that was changed in itself is not accepted.
    """
    settings = load_settings(options.config)
    with opened(options) as database:
        count, found = verify(database, audit_keys(settings), audit_anchor(settings))
        faults = [one for one in found if one.is_fault]
        if not faults:
            say(f"{count} records: none was changed or removed. There is nothing to accept.")
            return 0
        _require_whole(faults)
        former = audit_anchor(settings).put_aside()
        detail = {"reason": options.reason, "from": faults[0].number, "anchor": former.name if former else ""}
        event = AuditedEvent(act=AuditedAct.AUDIT_ACCEPTED, actor=actor(), detail=detail)
        with audited_act(open_audit(settings, database), event):
            kept = f" Keep {former} with the backup's papers." if former else ""
            say(f"Accepted from record {faults[0].number} on.{kept}")
    return 0


def _require_whole(faults: Sequence[TrailFinding]) -> None:
    """Raise `Conflict` for a fault that the trail has in itself."""
    changed = [one for one in faults if not one.by_anchor]
    if changed:
        raise Conflict(
            f"Record {changed[0].number} is not what was written: {changed[0].text}. No backup that was put back does "
            "that. Find out who did; dicom-node audit verify names every such record."
        )


def as_told(record: AuditRecord) -> dict[str, object]:
    """Return a record as it is shown: with its detail as data."""
    columns = {name: getattr(record, name) for name in record.__slots__}
    return columns | {"at": record.at.isoformat(), "detail": json.loads(record.detail)}


def _filter(options: argparse.Namespace) -> AuditFilter:
    return AuditFilter(
        since=_time(options.since),
        until=_time(options.until),
        actor=options.actor,
        act=options.act,
        study_instance_uid=options.study,
        patient_id=options.patient,
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{text!r} is no time; write it as 2026-11-20 or 2026-11-20T08:00+01:00.") from error
