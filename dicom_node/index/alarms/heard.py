"""When something came from whom by DICOM, as the associations say, and when the node was there to see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, delete, or_, select

from dicom_node.core.alarms.habits import LEARNED_WEEKS, hour_of
from dicom_node.core.alarms.rules import SELF_TEST_TITLE
from dicom_node.index.database import insert_of
from dicom_node.index.tables import associations, watched_hours

#: A silence of as long as the habit is learned from is looked at, and the habit from before it.
_LOOKED_AT = timedelta(weeks=2 * LEARNED_WEEKS)


def heard_from(connection: Connection, now: datetime) -> Mapping[str, list[datetime]]:
    """Return for each calling AE title when associations that brought something were opened, and closed.

    What came as files or was fetched is not of a scanner that has habits.
    """
    title = associations.c.calling_ae_title
    by_dicom = and_(title.not_in(("", SELF_TEST_TITLE)), ~associations.c.receiver_id.like("pull:%"))
    query = select(title, associations.c.opened_at, associations.c.closed_at, associations.c.seen_at)
    found: defaultdict[str, list[datetime]] = defaultdict(list)
    for name, opened, closed, seen in connection.execute(
        query.where(by_dicom, associations.c.opened_at >= now - _LOOKED_AT)
    ):
        found[name] += [opened, closed or seen]
    return found


def watched(connection: Connection) -> frozenset[datetime]:
    """Return the beginnings of the hours in which the node was there."""
    return frozenset(connection.execute(select(watched_hours.c.hour)).scalars())


def note_watched(connection: Connection, now: datetime) -> None:
    """Note that the node is there in this hour; hours of long ago are forgotten."""
    entered = insert_of(connection)(watched_hours).values(hour=hour_of(now))
    connection.execute(entered.on_conflict_do_nothing())
    old = or_(watched_hours.c.hour < now - _LOOKED_AT, watched_hours.c.hour > now + timedelta(weeks=1))
    connection.execute(delete(watched_hours).where(old))
