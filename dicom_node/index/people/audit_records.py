"""The rows of the audit trail: one chain of sealed records, which are added and read, and never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, insert, or_, select, text, update

from dicom_node.core.entities import PatientNumber
from dicom_node.index.database import insert_of, padded
from dicom_node.index.tables import artifacts, audit_positions, audit_records, deliveries, results, study_patients

#: Held in PostgreSQL by whoever adds to the chain; in SQLite whoever writes is alone.
_CHAIN_LOCK = 0x6175646974
_CHUNK = 1000
#: Written once: to put a statement together takes longer than to run it.
_HOLD = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=_CHAIN_LOCK)
_LAST = select(audit_records.c.number, audit_records.c.mac).order_by(audit_records.c.number.desc()).limit(1)
_ADD = insert(audit_records)
_ENTERED = select(audit_records.c.event_id).where(audit_records.c.event_id.in_(bindparam("wanted", expanding=True)))
_PATIENTS = select(study_patients).where(study_patients.c.study_instance_uid.in_(bindparam("wanted", expanding=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One act as it stands in the trail. `detail` is JSON; `mac` seals all else, `previous` is that of the record
    before, 64 hexadecimal digits each, and `key_id` names the key."""

    number: int
    event_id: str
    at: datetime
    act: str
    actor: str
    address: str
    outcome: str
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    detail: str
    key_id: str
    previous: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records are wanted; what is empty or `None` is not asked for. `since` is included, `until` is not."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str = ""
    act: str = ""
    outcome: str = ""
    study_instance_uid: str = ""
    patient_id: str = ""


# --- the chain -----------------------------------------------------------------------------------------------------


def hold_chain(connection: Connection) -> tuple[int, str]:
    """Let nobody else add to the chain before this transaction ends; return number and seal of its last record.

    To be called in a transaction that holds nothing else.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_HOLD)
    row = connection.execute(_LAST).one_or_none()
    return (row.number, row.mac) if row else (0, "")


def add_records(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add records, by column, that were sealed upon what `hold_chain` returned."""
    connection.execute(_ADD, rows)


def require_addable(connection: Connection) -> None:
    """Return when the table takes changes (one of no row)."""
    connection.execute(text("DELETE FROM audit_records WHERE 1 = 0"))


def entered_events(connection: Connection, event_ids: Collection[str]) -> set[str]:
    """Return which of these events have a record."""
    return set(connection.execute(_ENTERED, {"wanted": padded(event_ids)}).scalars())


def records_after(connection: Connection, number: int, limit: int = _CHUNK) -> list[AuditRecord]:
    """Return the records behind this number, in their order."""
    query = select(audit_records).where(audit_records.c.number > number).order_by(audit_records.c.number).limit(limit)
    return _records(connection, query)


def latest_records(
    connection: Connection, wanted: AuditFilter, limit: int, before: int | None = None
) -> list[AuditRecord]:
    """Return the newest records that are wanted, those with a lower number than `before`."""
    number = audit_records.c.number
    query = _wanted(wanted).order_by(number.desc()).limit(limit)
    return _records(connection, query if before is None else query.where(number < before))


def matching_records(connection: Connection, wanted: AuditFilter) -> Iterator[AuditRecord]:
    """Yield the records that are wanted, oldest first, few at a time; also those that somebody has put before the
    first. Raises `ValueError` at one that is no record any more."""
    number = audit_records.c.number
    query = _wanted(wanted).order_by(number).limit(_CHUNK)
    chunk = _records(connection, query)
    while chunk:
        yield from chunk
        chunk = _records(connection, query.where(number > chunk[-1].number))


def _wanted(wanted: AuditFilter) -> Select[Any]:
    columns, query = audit_records.c, select(audit_records)
    for name in ("actor", "act", "outcome", "study_instance_uid", "patient_id"):
        if value := getattr(wanted, name):
            query = query.where(columns[name] == value)
    if wanted.since is not None:
        query = query.where(columns.at >= wanted.since)
    return query if wanted.until is None else query.where(columns.at < wanted.until)


def _records(connection: Connection, query: Select[Any]) -> list[AuditRecord]:
    return [AuditRecord(**row._mapping) for row in connection.execute(query)]


# --- whom and what an act is about -------------------------------------------------------------------------------


def patients_of(connection: Connection, study_instance_uids: Collection[str]) -> Mapping[str, PatientNumber]:
    """Return whose these studies are, by the images in use; what is not known is left out."""
    rows = connection.execute(_PATIENTS, {"wanted": padded(study_instance_uids)})
    return {row.study_instance_uid: PatientNumber(row.patient_id, row.issuer) for row in rows}


def study_of_result(connection: Connection, job_key: str) -> str:
    """Return the Study Instance UID of a result, "" for none."""
    query = select(results.c.study_instance_uid).where(results.c.job_key == job_key)
    return connection.execute(query).scalar() or ""


def study_of_artifact(connection: Connection, uid: str) -> str:
    """Return the Study Instance UID of a produced object, "" for none."""
    of_artifact = select(artifacts.c.job_key).where(artifacts.c.uid == uid)
    query = select(results.c.study_instance_uid).where(results.c.job_key.in_(of_artifact))
    return connection.execute(query.limit(1)).scalar() or ""


def study_of_delivery(connection: Connection, delivery_id: int) -> str:
    """Return the Study Instance UID of what a delivery brings, "" for none."""
    of_delivery = select(deliveries.c.job_key).where(deliveries.c.id == delivery_id)
    query = select(results.c.study_instance_uid).where(results.c.job_key.in_(of_delivery))
    return connection.execute(query.limit(1)).scalar() or ""


# --- how far receivers have it -----------------------------------------------------------------------------------


def claim_position(connection: Connection, receiver: str, owner: str, now: datetime, lease_s: float) -> int | None:
    """Return how far a receiver has the trail, for one who will bring it more; `None` while another does."""
    mine = audit_positions.c.receiver == receiver
    fresh = insert_of(connection)(audit_positions).values(receiver=receiver, number=0, lease_owner="")
    connection.execute(fresh.on_conflict_do_nothing(index_elements=["receiver"]))
    free = or_(
        audit_positions.c.lease_owner.in_(["", owner]),
        audit_positions.c.lease_until < now,
        audit_positions.c.lease_until > now + timedelta(seconds=2 * lease_s),  # the clock was set back
    )
    leased = {"lease_owner": owner, "lease_until": now + timedelta(seconds=lease_s)}
    if connection.execute(update(audit_positions).where(mine, free).values(**leased)).rowcount == 0:
        return None
    return int(connection.execute(select(audit_positions.c.number).where(mine)).scalar_one())


def advance_position(connection: Connection, receiver: str, number: int) -> None:
    """Note that a receiver has the trail up to this number."""
    mine = audit_positions.c.receiver == receiver
    connection.execute(update(audit_positions).where(mine).values(number=number))
