"""Whose clock counts, and when a row that waits for a time is due: a clock set back must not stop what waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, func, or_, select, update

from dicom_node.core.calls.limits import LONGEST_WAIT_S

#: Waits are shaken by a tenth.
_MARGIN = 1.25


def is_due(column: Any, now: datetime, longest_wait_s: float = LONGEST_WAIT_S) -> ColumnElement[bool]:
    """Return the condition that the time in `column` has come.

    A time further ahead than anything is ever put off was written before the clock was set back: it has come, too.
    """
    return or_(column <= now, column > _furthest(now, longest_wait_s))


def count_leases_anew(
    connection: Connection, table: Table, held: ColumnElement[bool], now: datetime, lease_s: float
) -> None:
    """Let leases that end further ahead than any is given run from now on.

    They were given before the clock was set back. Whoever holds one may be at work, and renews it or ends in time; of
    those that are gone it would not run out until the clock has caught up.
    """
    far_ahead = table.c.lease_until > _furthest(now, lease_s)
    until = now + timedelta(seconds=lease_s)
    connection.execute(update(table).where(and_(held, far_ahead)).values(lease_until=until))


def _furthest(now: datetime, longest_s: float) -> datetime:
    return now + timedelta(seconds=_MARGIN * longest_s)


def now_in(connection: Connection) -> datetime:
    """Return the time by the clock of the database."""
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)
