"""What one part of the node has seen, kept for whoever judges it in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, select

from dicom_node.index.database import insert_of
from dicom_node.index.tables import alarm_signs


@dataclass(frozen=True, slots=True)
class Sign:
    """What was seen of a subject: a fault in words, since when, and when it was looked at last."""

    text: str
    since: datetime
    seen_at: datetime


def note_sign(connection: Connection, rule: str, subject: str, fault: str, now: datetime) -> None:
    """Note what was seen; with no `fault` all is well."""
    if not fault:
        mine = and_(alarm_signs.c.rule == rule, alarm_signs.c.subject == subject)
        connection.execute(delete(alarm_signs).where(mine))
        return
    row = {"rule": rule, "subject": subject, "text": fault, "since": now, "seen_at": now}
    changed = {"text": fault, "seen_at": now}
    entered = insert_of(connection)(alarm_signs).values(row)
    connection.execute(entered.on_conflict_do_update(index_elements=["rule", "subject"], set_=changed))


def signs_of(connection: Connection, rule: str) -> Mapping[str, Sign]:
    """Return what was seen, by subject."""
    rows = connection.execute(select(alarm_signs).where(alarm_signs.c.rule == rule))
    return {row.subject: Sign(row.text, row.since, row.seen_at) for row in rows}
