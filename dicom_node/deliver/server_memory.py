"""What a FHIR server was found to do, kept in the index: after a restart it need not be found out again.

It lies where the classes that a PACS takes lie: what the CapabilityStatement offers as what was accepted, what failed
as unsupported as what was refused, each for as long as it may be counted on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dicom_node.fhir.client.capabilities import ServerCapabilities
from dicom_node.index.database import Database
from dicom_node.index.outbox import destinations as peers
from dicom_node.index.outbox.destinations import PeerMemory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """Keeps what is known of one server.

    `peer` is the destination with its address; `holds` is how long what the server says of itself counts.
    """

    database: Database
    peer: tuple[str, str]
    holds: timedelta

    def recall(self) -> ServerCapabilities:
        """Return what is known and not too old."""
        with self.database.read() as connection:
            return capabilities_of(peers.recall(connection, *self.peer), self.holds)

    def remember(self, offered: Mapping[str, Collection[str]]) -> None:
        """Keep what its statement says."""
        with self.database.write() as connection:
            peers.remember(connection, self.peer, "", offered, datetime.now(UTC))
        told = ServerCapabilities(offered=offered).in_words()
        _log.info("destination asked", extra={"destination": self.peer[0], "learned": told})

    def note_refusal(self, what: str) -> None:
        """Keep that it was found not to do something."""
        with self.database.write() as connection:
            peers.note_refusal(connection, self.peer, what, datetime.now(UTC))
        _log.warning("destination does not do what it was asked", extra={"destination": self.peer[0], "what": what})


def capabilities_of(known: PeerMemory | None, holds: timedelta) -> ServerCapabilities:
    """Return what is remembered and may be counted on now."""
    if known is None:
        return ServerCapabilities()
    now = datetime.now(UTC)
    # What lies ahead was written before the clock was set back.
    is_fresh = known.heard_at is not None and timedelta(0) <= now - known.heard_at < holds
    refused = frozenset(what for what, at in known.refused.items() if now - at < peers.REFUSAL_COUNTS)
    return ServerCapabilities(offered=known.accepted if is_fresh else None, refused=refused)
