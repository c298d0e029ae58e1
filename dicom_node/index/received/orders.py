"""Orders, and the messages that were taken: what a report may say of why a study was made."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, or_, select

from dicom_node.core.entities import Code, OrderContext, OrderNumber, PatientNumber
from dicom_node.index.database import insert_of
from dicom_node.index.tables import hl7_messages, orders, studies

# --- messages -----------------------------------------------------------------------------------------------------


def note_message(connection: Connection, message_key: str, kind: str, now: datetime) -> bool:
    """Note that a message is taken in this transaction; `False`: it was before, and nothing more is to be done."""
    row = insert_of(connection)(hl7_messages).values(message_key=message_key, kind=kind, taken_at=now)
    return connection.execute(row.on_conflict_do_nothing().returning(hl7_messages.c.message_key)).first() is not None


def message_key(sender: str, control_id: str, content: bytes) -> str:
    """Return what a message is known by: its sender's number for it, and its content, for numbers are used again."""
    parts = (sender.encode(), control_id.encode(), content)
    return hashlib.sha256(b"\0".join(hashlib.sha256(one).digest() for one in parts)).hexdigest()


def forget_messages(connection: Connection, before: datetime) -> int:
    """Forget messages that nobody sends again, and orders that nobody has stated since; return how many rows went."""
    gone = [
        delete(hl7_messages).where(hl7_messages.c.taken_at < before),
        delete(orders).where(orders.c.stated_at < before),
    ]
    return sum(connection.execute(one).rowcount for one in gone)


# --- orders -------------------------------------------------------------------------------------------------------


def keep_order(connection: Connection, order: OrderContext, patients: Collection[PatientNumber], now: datetime) -> None:
    """Enter an order, or what is new of one that is known: what a later statement does not say stays as it was.

    One whose number comes again for another patient is another order, and keeps nothing of the first.
    """
    key = _key(order)
    known = connection.execute(select(orders).where(orders.c.order_key == key).with_for_update()).one_or_none()
    said = _columns(order) | {"patients": [[one.value, one.authority] for one in patients], "stated_at": now}
    if known is not None and _is_for(known, patients):
        said = {name: value if value not in ("", None) else known._mapping[name] for name, value in said.items()}
    statement = insert_of(connection)(orders).values(order_key=key, **said)
    connection.execute(statement.on_conflict_do_update(index_elements=[orders.c.order_key], set_=said))


def order_of_study(
    connection: Connection, study_instance_uid: str, accession_number: str, patients: Collection[PatientNumber]
) -> OrderContext | None:
    """Return the order by which a study was made: the only one that stands, of its UID, else of its accession number.

    `patients` are the numbers by which the study's patient is known: an order for another says nothing of this study.
    Nor does one that shares the accession number and names another study which is here, or any where the study's own
    was cancelled.
    """
    same = orders.c.study_instance_uid == study_instance_uid
    if accession_number:
        same = or_(same, orders.c.accession_number == accession_number)
    is_here = exists().where(studies.c.study_instance_uid == orders.c.study_instance_uid)
    is_anothers = and_(orders.c.study_instance_uid != study_instance_uid, is_here)
    rows = connection.execute(select(orders).where(same, ~is_anothers).order_by(orders.c.order_key))
    mine = [row for row in rows if _is_for(row, patients)]
    by_uid = [row for row in mine if row.study_instance_uid == study_instance_uid]
    found = [row for row in by_uid or mine if not row.is_cancelled]
    return _order(found[0]) if len(found) == 1 else None


def _is_for(row: Row[Any], patients: Collection[PatientNumber]) -> bool:
    return not {(one.value, one.authority) for one in patients}.isdisjoint(map(tuple, row.patients))


def _key(order: OrderContext) -> str:
    kind, number = ("P", order.placer) if order.placer else ("F", order.filler)
    return f"{kind}|{number.authority}|{number.value}" if number else f"A||{order.accession_number}"


def _columns(order: OrderContext) -> dict[str, Any]:
    placer, filler = (one or OrderNumber(value="") for one in (order.placer, order.filler))
    procedure = order.procedure or Code("", "", "")
    return {
        "accession_number": order.accession_number, "study_instance_uid": order.study_instance_uid,
        "placer_number": placer.value, "placer_authority": placer.authority,
        "filler_number": filler.value, "filler_authority": filler.authority,
        "procedure_code": procedure.value, "procedure_scheme": procedure.scheme,
        "procedure_meaning": procedure.meaning, "reason": order.reason, "priority": order.priority,
        "requested_at": order.requested_at, "is_cancelled": order.is_cancelled,
    }  # fmt: skip


def _order(row: Row[Any]) -> OrderContext:
    procedure = Code(row.procedure_code, row.procedure_scheme, row.procedure_meaning)
    return OrderContext(
        accession_number=row.accession_number, study_instance_uid=row.study_instance_uid,
        placer=_number(row.placer_number, row.placer_authority),
        filler=_number(row.filler_number, row.filler_authority),
        procedure=procedure if procedure.meaning else None, reason=row.reason, priority=row.priority,
        requested_at=row.requested_at, is_cancelled=row.is_cancelled,
    )  # fmt: skip


def _number(value: str, authority: str) -> OrderNumber | None:
    return OrderNumber(value=value, authority=authority) if value else None
