"""How destinations are suspended and resumed, and who may do either."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from dicom_node.core.entities import DestinationState
from dicom_node.core.lifecycle import check_destination
from dicom_node.core.outputs.event_types import EventType
from dicom_node.core.principal import NODE
from dicom_node.index import notices
from dicom_node.index.database import insert_of
from dicom_node.index.tables import destinations
from dicom_node.index.transitions.notifications import notify
from dicom_node.index.transitions.steps import LONGEST_NAME, Change


def move_destination(connection: Connection, name: str, to: DestinationState, reason: str, change: Change) -> bool:
    """Move a destination to `to`, where it stands with this reason from then on; `False` where it stands there already.

    One that was never moved is active. What a person has suspended is theirs: the node neither suspends it for a reason
    of its own nor lets it go on. A person's suspension takes the place of the node's.
    """
    mine, is_suspended = destinations.c.name == name, to is DestinationState.SUSPENDED
    fresh = {"name": name, "state": DestinationState.ACTIVE, "reason": "", "since": change.at, "suspended_by": ""}
    connection.execute(insert_of(connection)(destinations).values(fresh).on_conflict_do_nothing())
    old = connection.execute(select(destinations).where(mine).with_for_update()).one()
    is_node, is_persons = change.actor == NODE, old.suspended_by != ""
    takes_over = is_suspended and old.state == to and not is_node and not is_persons
    if (old.state == to and not takes_over) or (is_persons and is_node):
        return False
    if not takes_over:
        check_destination(DestinationState(old.state), to)
    by = change.actor.name[:LONGEST_NAME] if is_suspended and not is_node else ""
    columns = {"reason": reason, "since": change.at, "suspended_by": by}
    connection.execute(update(destinations).where(mine).values(state=to, **columns))
    kind = EventType.DESTINATION_SUSPENDED if is_suspended else EventType.DESTINATION_RESUMED
    notify(connection, notices.of_destination(kind, name), change.at)
    return True


def tell_of_route(connection: Connection, kind: EventType, name: str, at: datetime) -> None:
    """Owe those who hear of the route that a person has suspended or resumed it."""
    notify(connection, notices.of_route(kind, name), at)
