"""Alarms that stand: kept, changed, acknowledged, listed. A restart neither forgets one nor tells one twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from dicom_node.core.alarms.rules import BY_CODE, Severity
from dicom_node.core.alarms.standing import Alarm, AlarmStep
from dicom_node.core.errors import Conflict, NotFound
from dicom_node.core.principal import Principal
from dicom_node.index.alarms.messages import tell
from dicom_node.index.alarms.receivers import AlarmReceivers
from dicom_node.index.database import is_among, take_turn
from dicom_node.index.tables import alarm_messages, alarms

#: So long an alarm that is over is listed; then its row goes.
KEPT_DAYS = 400
#: Held by whoever judges, so that two processes do not raise the same.
_TURN = 0x616C61726D


def take_turn_to_judge(connection: Connection) -> None:
    """Let others who judge wait until this transaction has ended."""
    take_turn(connection, _TURN)


def open_alarms(connection: Connection) -> Mapping[tuple[str, str], Alarm]:
    """Return what is not over, also what has not lasted long enough to be raised, by rule and subject."""
    rows = connection.execute(select(alarms).where(alarms.c.cleared_at.is_(None)).order_by(alarms.c.id))
    return {(row.rule, row.subject): _alarm(row) for row in rows}


def latest_alarms(
    connection: Connection, limit: int, before: int | None = None, *, only_standing: bool = False
) -> Sequence[Alarm]:
    """Return what was raised, newest first, from before the one of this number."""
    query = select(alarms).where(alarms.c.raised_at.is_not(None)).order_by(alarms.c.id.desc()).limit(limit)
    if only_standing:
        query = query.where(alarms.c.cleared_at.is_(None))
    if before is not None:
        query = query.where(alarms.c.id < before)
    return [_alarm(row) for row in connection.execute(query)]


def raised_alarms(connection: Connection) -> Sequence[Alarm]:
    """Return what stands, the gravest and oldest first."""
    found = (one for one in open_alarms(connection).values() if one.raised_at is not None)
    return sorted(found, key=lambda one: (-one.severity.rank, one.number))


def raised_by_rule(connection: Connection) -> Mapping[str, int]:
    """Return how many alarms of each rule stand."""
    standing = and_(alarms.c.cleared_at.is_(None), alarms.c.raised_at.is_not(None))
    query = select(alarms.c.rule, func.count()).where(standing).group_by(alarms.c.rule)
    return {row[0]: row[1] for row in connection.execute(query)}


def known_subjects(connection: Connection, rule: str, subjects: Collection[str]) -> frozenset[str]:
    """Return of which of these subjects there ever was an alarm, over or not."""
    mine = and_(alarms.c.rule == rule, is_among(alarms.c.subject, subjects))
    return frozenset(connection.execute(select(alarms.c.subject).where(mine)).scalars())


def keep(connection: Connection, alarm: Alarm) -> Alarm:
    """Write an alarm down as it is now; return it with its number."""
    values = asdict(alarm) | {"detail": dict(alarm.detail)}
    del values["number"]
    if not alarm.number:
        number = connection.execute(insert(alarms).values(values).returning(alarms.c.id)).scalar_one()
        return replace(alarm, number=number)
    connection.execute(update(alarms).where(alarms.c.id == alarm.number).values(values))
    return alarm


def forget(connection: Connection, alarm: Alarm) -> None:
    """Drop what was seen and never raised."""
    connection.execute(delete(alarms).where(alarms.c.id == alarm.number))


def forget_old(connection: Connection, now: datetime) -> None:
    """Drop what was over long ago, with what was told of it."""
    old = select(alarms.c.id).where(alarms.c.cleared_at < now - timedelta(days=KEPT_DAYS))
    connection.execute(delete(alarm_messages).where(alarm_messages.c.alarm_id.in_(old)))
    connection.execute(delete(alarms).where(alarms.c.cleared_at < now - timedelta(days=KEPT_DAYS)))


def acknowledge(
    connection: Connection, number: int, note: str, who: tuple[Principal, datetime], receivers: AlarmReceivers
) -> Alarm:
    """Note that a person knows of an alarm: it is told no more while it lasts, and that it is over still is.

    Raises `NotFound`, and `Conflict` where somebody has acknowledged it, or it is over.
    """
    actor, now = who
    row = connection.execute(select(alarms).where(alarms.c.id == number).with_for_update()).one_or_none()
    if row is None or row.raised_at is None:
        raise NotFound(f"There is no alarm {number}.")
    alarm = _alarm(row)
    if alarm.cleared_at is not None:
        raise Conflict(f"Alarm {number} is over since {alarm.cleared_at:%Y-%m-%d %H:%M} UTC.")
    if alarm.acknowledged_at is not None:
        raise Conflict(f"Alarm {number} was acknowledged by {alarm.acknowledged_by}.")
    alarm = replace(alarm, acknowledged_at=now, acknowledged_by=actor.name, note=note)
    rule = BY_CODE.get(alarm.rule)
    if rule is not None and rule.ends_with_acknowledgement:
        alarm = replace(alarm, cleared_at=now)
    alarm = keep(connection, alarm)
    if alarm.cleared_at is not None:
        tell(connection, alarm, AlarmStep.CLEARED, receivers, now)
    return alarm


def _alarm(row: Row[Any]) -> Alarm:
    values = {key: value for key, value in row._mapping.items() if key != "id"}
    return Alarm(number=row.id, **values | {"severity": Severity(row.severity)})
