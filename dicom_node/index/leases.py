"""Leases whose owner is known to be dead: a node that was killed and starts again need not wait for them to run out.

An owner is ``host:pid``. Other hosts' leases are left alone; they run out by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select, update

from dicom_node.tables import deliveries, jobs


def free_dead_leases(connection: Connection, me: str, is_alive: Callable[[int], bool], now: datetime) -> int:
    """End the leases of processes of this host that are gone, and those of `me`, who has only just started."""
    return sum(_free(connection, table, me, is_alive, now) for table in (jobs, deliveries))


def _free(connection: Connection, table: Table, me: str, is_alive: Callable[[int], bool], now: datetime) -> int:
    owners = connection.execute(select(table.c.lease_owner).where(table.c.lease_owner != "").distinct()).scalars()
    dead = [owner for owner in owners if owner == me or _is_dead(owner, me, is_alive)]
    held: Any = table.c.lease_owner.in_(dead)
    return connection.execute(update(table).where(held, table.c.lease_until > now).values(lease_until=now)).rowcount


def _is_dead(owner: str, me: str, is_alive: Callable[[int], bool]) -> bool:
    host, _, pid = owner.rpartition(":")
    return host == me.rpartition(":")[0] and pid.isdigit() and not is_alive(int(pid))
