"""What is known of destinations: what they take, and whether one lets nobody in until its login is mended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from dicom_node.core.entities import DestinationState
from dicom_node.core.outputs.capability_match import PeerCapabilities
from dicom_node.core.principal import NODE, Principal
from dicom_node.index.database import insert_of
from dicom_node.index.tables import destinations, peer_capabilities
from dicom_node.index.transitions import Change, move_destination

#: Kind of the timeline's line about what waits because a person suspended something, and that it goes on.
SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why nothing is sent to a destination, and since when. `by` is the person who suspended it and alone lets it go
    on; empty where the node did, because it was not let in: then it tries again by itself."""

    reason: str
    since: datetime
    by: str = ""

    def in_words(self, name: str) -> str:
        """Say who suspended the destination of this name, since when and why."""
        since = f"{self.since.astimezone():%Y-%m-%d %H:%M %Z}"
        if self.by:
            return f"Destination {name} is suspended by {self.by} since {since}: {self.reason.rstrip('.')}."
        return f"Destination {name} does not let the node in since {since}. {self.reason}"


def suspension_of(connection: Connection, name: str) -> Suspension | None:
    """Return why nothing is sent to the destination; `None` when it is active."""
    return suspensions(connection).get(name)


def suspensions(connection: Connection) -> Mapping[str, Suspension]:
    """Return the suspended destinations by name."""
    query = select(destinations).where(destinations.c.state == DestinationState.SUSPENDED)
    return {row.name: Suspension(row.reason, row.since, row.suspended_by) for row in connection.execute(query)}


def suspend(connection: Connection, name: str, reason: str, now: datetime, actor: Principal = NODE) -> bool:
    """Send nothing to the destination from now on; `False` when it was suspended already: then the reason stays.

    Only the node's own suspension gives way, to that of a person.
    """
    return move_destination(connection, name, DestinationState.SUSPENDED, reason, Change(now, actor=actor))


def resume(connection: Connection, name: str, now: datetime, actor: Principal = NODE) -> bool:
    """Send to the destination again; `False` when it was not suspended, or by a person, whom only a person undoes."""
    is_suspended = suspension_of(connection, name) is not None
    return is_suspended and move_destination(connection, name, DestinationState.ACTIVE, "", Change(now, actor=actor))


#: So long a refusal counts: a receiver that has learned the class since is given it again.
REFUSAL_COUNTS = timedelta(days=1)
#: So long a destination that cannot be asked whose study it has is not asked; then it may have been taught to answer.
_QUERY_REFUSAL_COUNTS = timedelta(hours=1)
#: What is remembered as refused then: the query by which a study is found. QIDO-RS is the same on the web.
_QUERY = "1.2.840.10008.5.1.4.1.2.2.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMemory:
    """What is known of one destination. `accepted` maps SOP classes to transfer syntaxes; `None`: never heard."""

    destination: str
    implementation: str
    accepted: Mapping[str, Collection[str]] | None
    refused: Mapping[str, datetime]
    asked_at: datetime | None
    heard_at: datetime | None

    def capabilities(self, now: datetime) -> PeerCapabilities:
        """Return what may be counted on now."""
        refused = frozenset(uid for uid, at in self.refused.items() if now - at < REFUSAL_COUNTS)
        return PeerCapabilities(accepted=None if self.accepted is None else frozenset(self.accepted), refused=refused)

    @property
    def query_refused_at(self) -> datetime | None:
        """When it last did not say whose study it has; `None`: it does, or was never asked."""
        return self.refused.get(_QUERY)

    def unasked_since(self, now: datetime) -> datetime | None:
        """Return since when it is not asked whose study it has; `None`: it is."""
        at = self.query_refused_at
        # What lies ahead was written before the clock was set back.
        return at if at is not None and timedelta(0) <= now - at < _QUERY_REFUSAL_COUNTS else None


def recall(connection: Connection, destination: str, address: str) -> PeerMemory | None:
    """Return what is known of the destination at this address."""
    mine = (peer_capabilities.c.destination == destination, peer_capabilities.c.address == address)
    row = connection.execute(select(peer_capabilities).where(*mine)).first()
    return None if row is None else _memory(row)


def remember(
    connection: Connection, peer: tuple[str, str], implementation: str, accepted: Mapping[str, Collection[str]],
    now: datetime,
) -> None:  # fmt: skip
    """Keep what a peer (destination, address) has just agreed to; what it refused lately stays refused."""
    values = {
        "implementation": implementation[:64],
        "accepted": {uid: sorted(syntaxes) for uid, syntaxes in accepted.items()},
        "asked_at": now,
        "heard_at": now,
    }
    _write(connection, peer, values)


def note_silence(connection: Connection, peer: tuple[str, str], now: datetime) -> None:
    """Keep that a peer was asked and did not answer; what it said earlier stands."""
    _write(connection, peer, {"asked_at": now})


def note_refusal(connection: Connection, peer: tuple[str, str], sop_class_uid: str, now: datetime) -> None:
    """Keep that a peer refused an object for its class, and that what it said of itself is to be asked again."""
    held = _hold(connection, peer)
    _write(connection, peer, {"refused": {**held.refused, sop_class_uid: now.isoformat()}, "asked_at": None})


# --- whether it says whose study it has --------------------------------------------------------------------------


def note_query_refusal(connection: Connection, peer: tuple[str, str], now: datetime) -> bool:
    """Keep that a peer does not say whose study it has; `False` where that was known before."""
    refused = _hold(connection, peer).refused
    _write(connection, peer, {"refused": {**refused, _QUERY: now.isoformat()}})
    return _QUERY not in refused


def note_query_answered(connection: Connection, peer: tuple[str, str]) -> None:
    """Keep that a peer says whose study it has."""
    refused = _hold(connection, peer).refused
    _write(connection, peer, {"refused": {uid: at for uid, at in refused.items() if uid != _QUERY}})


def _write(connection: Connection, peer: tuple[str, str], values: Mapping[str, Any]) -> None:
    _hold(connection, peer)
    mine = peer_capabilities.c.destination == peer[0]
    connection.execute(update(peer_capabilities).where(mine).values(**values))


def _hold(connection: Connection, peer: tuple[str, str]) -> Row[Any]:
    """Return what is known of the peer, which others who learn of it wait for; of another address nothing is known."""
    destination, address = peer
    fresh: dict[str, Any] = {"address": address, "implementation": "", "accepted": None, "refused": {},
                             "asked_at": None, "heard_at": None}  # fmt: skip
    mine = peer_capabilities.c.destination == destination
    first = insert_of(connection)(peer_capabilities).values(destination=destination, **fresh)
    connection.execute(first.on_conflict_do_nothing())
    held = connection.execute(select(peer_capabilities).where(mine).with_for_update()).one()
    if held.address == address:
        return held
    connection.execute(update(peer_capabilities).where(mine).values(**fresh))
    return connection.execute(select(peer_capabilities).where(mine)).one()


def _memory(row: Row[Any]) -> PeerMemory:
    return PeerMemory(
        destination=row.destination,
        implementation=row.implementation,
        accepted=row.accepted,
        refused={uid: datetime.fromisoformat(at).astimezone(UTC) for uid, at in row.refused.items()},
        asked_at=row.asked_at,
        heard_at=row.heard_at,
    )
