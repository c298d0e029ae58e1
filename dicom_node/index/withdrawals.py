"""Results that hold no longer: replaced by a later one, or withdrawn by a correction or a person."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_

from dicom_node.core.entities import ResultState
from dicom_node.index.tables import deliveries, results
from dicom_node.index.transitions import Change, cancel_deliveries, move_result


def supersede_results(connection: Connection, study_instance_uid: str, route: str, now: datetime) -> None:
    """Say of the results of a study and route that a later one takes their place."""
    mine = and_(results.c.study_instance_uid == study_instance_uid, results.c.route == route)
    move_result(connection, mine, ResultState.SUPERSEDED, "A later result took its place.", Change(now))


def withdraw_results(
    connection: Connection, study_instance_uid: str, reason: str, change: Change, route: str | None = None
) -> list[str]:
    """Withdraw what holds of a study's results, of one route or of all, and owe their objects no more.

    `change` has the actor and the line of the timeline. Returns the job keys of what was withdrawn.
    """
    mine = results.c.study_instance_uid == study_instance_uid
    which = mine if route is None else and_(mine, results.c.route == route)
    withdrawn = move_result(connection, which, ResultState.WITHDRAWN, reason, change)
    if withdrawn:
        cancel_deliveries(connection, deliveries.c.job_key.in_(withdrawn))
    return withdrawn
