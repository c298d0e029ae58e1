"""What waits for destinations that were renamed or taken out of the settings: nobody delivers it, and somebody must
decide.

Objects go to the present destinations when their study is analysed again. Events are of their moment, and cannot be
made again: whoever wants them names the destination as before, and whoever does not gives them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from dicom_node.config.settings import Settings
from dicom_node.deliver.kinds import destinations_of
from dicom_node.index.outbox.deliveries import owed_to_others
from dicom_node.index.outbox.notifications import events_owed_to_others


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many objects and how many events wait for a destination that is not in the settings."""

    deliveries: int = 0
    events: int = 0

    @property
    def in_words(self) -> str:
        """Both, as far as there are any."""
        counted = ((self.deliveries, "object"), (self.events, "event"))
        return " and ".join(f"{number} {what}{'' if number == 1 else 's'}" for number, what in counted if number)


def owed_to_nobody(connection: Connection, settings: Settings) -> Mapping[str, Waiting]:
    """Return what waits for whom, by the name of a destination that the settings do not have, or have as one of a kind
    that is owed no such thing."""
    told = {one.name: one.told_in_events is not None for one in destinations_of(settings)}
    objects = owed_to_others(connection, [name for name, is_told in told.items() if not is_told])
    events = events_owed_to_others(connection, [name for name, is_told in told.items() if is_told])
    names = sorted({*objects, *events})
    return {name: Waiting(objects.get(name, 0), events.get(name, 0)) for name in names}


def advice_for(name: str, waiting: Waiting) -> str:
    """Return what may be done about it."""
    ways = ["Name a destination so again"]
    if waiting.deliveries:
        ways.append("run the studies again: then the present destinations get the objects")
    ways.append(f"give it up: dicom-node discard --destination {name} --reason TEXT")
    return f"{'; or '.join(ways)}"
