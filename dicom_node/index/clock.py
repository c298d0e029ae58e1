"""Whose clock counts: the database's, which all who share it have in common; that of SQLite is the machine's own."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select


def now_in(connection: Connection) -> datetime:
    """Return the time by the clock of the database."""
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)
