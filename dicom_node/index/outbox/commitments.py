"""Requests for storage commitment: kept, found when due, and what the index knows of the objects they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, and_, select

from dicom_node.core.entities import CommitmentState
from dicom_node.index.database import is_among
from dicom_node.index.due import is_due
from dicom_node.index.tables import commitments, instances
from dicom_node.index.transitions import keep_commitment
from dicom_node.index.versions import IN_USE

_UIDS_PER_QUERY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRequest:
    """One request as it is worked off. `request` is the data set of the N-ACTION in `transfer_syntax_uid`."""

    number: int
    transaction_uid: str
    association_id: str
    calling_ae_title: str
    called_ae_title: str
    source_host: str
    transfer_syntax_uid: str
    request: bytes
    attempts: int
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentLine:
    """One request as an operator sees it."""

    number: int
    transaction_uid: str
    calling_ae_title: str
    state: CommitmentState
    committed: int
    failed: int
    attempts: int
    note: str
    requested_at: datetime
    reported_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An object the index has."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    object_key: str
    size_bytes: int


def add_request(connection: Connection, receiver_id: str, request: CommitmentRequest) -> None:
    """Keep a request. The same transaction asked again is answered again (`number` and `attempts` are ignored)."""
    mine = and_(
        commitments.c.transaction_uid == request.transaction_uid,
        commitments.c.calling_ae_title == request.calling_ae_title,
    )
    columns = {
        "transaction_uid": request.transaction_uid, "calling_ae_title": request.calling_ae_title,
        "receiver_id": receiver_id, "association_id": request.association_id,
        "called_ae_title": request.called_ae_title, "source_host": request.source_host,
        "transfer_syntax_uid": request.transfer_syntax_uid, "request": request.request,
        "committed": 0, "failed": 0, "attempts": 0, "note": "",
        "requested_at": request.requested_at, "next_attempt_at": request.requested_at, "reported_at": None,
    }  # fmt: skip
    keep_commitment(connection, mine, columns)


def due_requests(connection: Connection, receiver_id: str, now: datetime) -> list[CommitmentRequest]:
    """Return what this receiver has to report now, oldest first."""
    due = and_(
        commitments.c.receiver_id == receiver_id,
        commitments.c.state == CommitmentState.PENDING,
        is_due(commitments.c.next_attempt_at, now),
    )
    return [_request(row) for row in connection.execute(select(commitments).where(due).order_by(commitments.c.id))]


def association_of(connection: Connection, number: int) -> str | None:
    """Return the association on which a request was asked last, `None` for one that is not there."""
    return connection.scalar(select(commitments.c.association_id).where(commitments.c.id == number))


def latest_requests(connection: Connection, limit: int, older_than: int | None = None) -> list[CommitmentLine]:
    """Return the latest requests, newest first; those that came before the one of number `older_than`."""
    query = select(commitments).order_by(commitments.c.id.desc()).limit(limit)
    rows = connection.execute(query if older_than is None else query.where(commitments.c.id < older_than))
    return [
        CommitmentLine(
            number=row.id, transaction_uid=row.transaction_uid, calling_ae_title=row.calling_ae_title,
            state=CommitmentState(row.state), committed=row.committed, failed=row.failed, attempts=row.attempts,
            note=row.note, requested_at=row.requested_at, reported_at=row.reported_at,
        )
        for row in rows
    ]  # fmt: skip


def held_objects(connection: Connection, sop_instance_uids: Sequence[str]) -> Iterator[Held]:
    """Yield every version the index has of these instances, of each the one in use first."""
    columns = (instances.c.sop_instance_uid, instances.c.sop_class_uid, instances.c.study_instance_uid,
               instances.c.object_key, instances.c.size_bytes)  # fmt: skip
    for start in range(0, len(sop_instance_uids), _UIDS_PER_QUERY):
        some = sop_instance_uids[start : start + _UIDS_PER_QUERY]
        wanted = select(*columns).where(is_among(instances.c.sop_instance_uid, some))
        for row in connection.execute(wanted.order_by(~IN_USE, instances.c.id)):
            yield Held(**row._mapping)


def _request(row: Row[tuple[object, ...]]) -> CommitmentRequest:
    values = row._mapping
    names = ("transaction_uid", "association_id", "calling_ae_title", "called_ae_title", "source_host",
             "transfer_syntax_uid", "request", "attempts", "requested_at")  # fmt: skip
    return CommitmentRequest(number=values["id"], **{name: values[name] for name in names})
