"""Which associations are open, kept honest: those of this receiver are renewed, those that nobody serves are closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dicom_node.index.database import Database
from dicom_node.index.received.associations import forget_lost_associations, renew_associations

#: An association whose receiver has not renewed it for this long is lost.
ASSOCIATION_SILENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class AssociationSweep:
    """Keeps the record of open associations honest across crashes; to be run every few seconds."""

    database: Database
    receiver_id: str

    def run(self) -> None:
        """Renew ours, close those that fell silent."""
        now = datetime.now(UTC)
        with self.database.write() as connection:
            renew_associations(connection, self.receiver_id, now)
            forget_lost_associations(connection, "", now - timedelta(seconds=ASSOCIATION_SILENCE_S), now)

    def forget_own(self) -> None:
        """At the start: whatever this receiver had open before is gone."""
        now = datetime.now(UTC)
        with self.database.write() as connection:
            stale = now - timedelta(seconds=ASSOCIATION_SILENCE_S)
            forget_lost_associations(connection, self.receiver_id, stale, now)
