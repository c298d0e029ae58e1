"""Associations, which bring instances: open, closed or lost; and what each brought, for the audit trail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, or_, select, update

from dicom_node.core.entities import Instance, SendingPeer
from dicom_node.index.database import insert_of
from dicom_node.index.tables import associations, instances, studies


def open_association(
    connection: Connection, association_id: str, receiver_id: str, carried: Sequence[Instance]
) -> None:
    """Note that an association carries the study of these instances, or count them on it."""
    study_instance_uid, at = carried[0].study_instance_uid, max(instance.received_at for instance in carried)
    statement = insert_of(connection)(associations).values(
        association_id=association_id, study_instance_uid=study_instance_uid, receiver_id=receiver_id,
        opened_at=carried[0].received_at, seen_at=at, outcome="", instances=len(carried),
        **sender_columns(carried[0].sender),
    )  # fmt: skip
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["association_id", "study_instance_uid"],
            set_={"seen_at": at, "instances": associations.c.instances + len(carried)},
        )
    )


def close_association(connection: Connection, association_id: str, outcome: str, at: datetime) -> None:
    """Note how an association ended: released, aborted or lost."""
    mine = associations.c.association_id == association_id
    connection.execute(
        update(associations).where(mine, associations.c.closed_at.is_(None)).values(closed_at=at, outcome=outcome)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What one association that has ended brought of one study, which is in `revision` by now."""

    association_id: str
    study_instance_uid: str
    calling_ae_title: str
    called_ae_title: str
    source_host: str
    opened_at: datetime
    closed_at: datetime
    outcome: str
    instances: int
    revision: int
    #: How many objects of each SOP class the study has by now.
    sop_classes: Mapping[str, int]


def carried_unaudited(connection: Connection, limit: int = 200) -> list[Carried]:
    """Return what the audit trail has not been told of, the first to end first."""
    one = associations.c
    names = ("association_id", "study_instance_uid", "calling_ae_title", "called_ae_title", "source_host", "opened_at",
             "closed_at", "outcome", "instances")  # fmt: skip
    query = (
        select(*(one[name] for name in names), studies.c.revision)
        .join(studies, studies.c.study_instance_uid == one.study_instance_uid)
        .where(one.closed_at.is_not(None), one.audited_at.is_(None))
        .order_by(one.closed_at)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    classes = _sop_classes(connection, {row.study_instance_uid for row in rows})
    return [Carried(**row._mapping, sop_classes=classes[row.study_instance_uid]) for row in rows]


def _sop_classes(connection: Connection, uids: Collection[str]) -> Mapping[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    columns = (instances.c.study_instance_uid, instances.c.sop_class_uid)
    in_use = and_(instances.c.study_instance_uid.in_(uids), instances.c.superseded_at.is_(None))
    query = select(*columns, func.count().label("number")).where(in_use).group_by(*columns)
    for row in connection.execute(query) if uids else ():
        found[row.study_instance_uid][row.sop_class_uid] = row.number
    return found


def mark_audited(connection: Connection, carried: Sequence[Carried]) -> None:
    """Note that the audit trail was told."""
    mine = and_(
        associations.c.association_id == bindparam("association"),
        associations.c.study_instance_uid == bindparam("study"),
    )
    told = [
        {"association": one.association_id, "study": one.study_instance_uid, "at": one.closed_at} for one in carried
    ]
    if told:
        connection.execute(update(associations).where(mine).values(audited_at=bindparam("at")), told)


def renew_associations(connection: Connection, receiver_id: str, at: datetime) -> None:
    """Say that this receiver still serves its open associations."""
    mine = and_(associations.c.receiver_id == receiver_id, associations.c.closed_at.is_(None))
    connection.execute(update(associations).where(mine).values(seen_at=at))


def forget_lost_associations(connection: Connection, receiver_id: str, stale_before: datetime, at: datetime) -> None:
    """Close what nobody serves any more: this receiver's from before its start, others' that fell silent."""
    lost = or_(associations.c.receiver_id == receiver_id, associations.c.seen_at < stale_before)
    connection.execute(
        update(associations).where(associations.c.closed_at.is_(None), lost).values(closed_at=at, outcome="lost")
    )


def sender_columns(sender: SendingPeer) -> dict[str, Any]:
    """Return who sent something as columns of a row."""
    return {
        "calling_ae_title": sender.calling_ae_title,
        "called_ae_title": sender.called_ae_title,
        "source_host": sender.host,
    }
