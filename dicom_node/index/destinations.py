"""Whether anything is sent to a destination: it is suspended from when it refused the node until a person, or a peer
that lets the node in again, ends that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dicom_node.core.entities import DestinationState
from dicom_node.index.tables import destinations
from dicom_node.index.transitions import move_destination


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why nothing is sent to a destination, and since when."""

    reason: str
    since: datetime


def suspension_of(connection: Connection, name: str) -> Suspension | None:
    """Return why nothing is sent to the destination; `None` when it is active."""
    return suspensions(connection).get(name)


def suspensions(connection: Connection) -> Mapping[str, Suspension]:
    """Return the suspended destinations by name."""
    query = select(destinations).where(destinations.c.state == DestinationState.SUSPENDED)
    return {row.name: Suspension(row.reason, row.since) for row in connection.execute(query)}


def suspend(connection: Connection, name: str, reason: str, now: datetime) -> bool:
    """Send nothing to the destination from now on; `False` when it was suspended already: then the reason stays."""
    return move_destination(connection, name, DestinationState.SUSPENDED, reason, now)


def resume(connection: Connection, name: str, now: datetime) -> bool:
    """Send to the destination again; `False` when it was not suspended."""
    is_suspended = suspension_of(connection, name) is not None
    return is_suspended and move_destination(connection, name, DestinationState.ACTIVE, "", now)
