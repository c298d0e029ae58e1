"""Why somebody wants a study analysed, and what for: stated with an upload or a rerun, for all routes or for one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, and_, delete, select

from dicom_node.core.entities import StatedRequest
from dicom_node.index.database import insert_of
from dicom_node.index.tables import stated_requests

_ALL = ""


def state_request(
    connection: Connection, study_instance_uid: str, route: str | None, stated: StatedRequest, now: datetime
) -> None:
    """Note what was stated of a study's analyses; what was left out stays as it was said before.

    Stated for all routes (`None`) it stands for every one, also for those of which something else was stated before.
    """
    if stated == StatedRequest():
        return
    if route is None:
        mine = and_(stated_requests.c.study_instance_uid == study_instance_uid, stated_requests.c.route != _ALL)
        connection.execute(delete(stated_requests).where(mine))
    before = request_for(connection, study_instance_uid, route or _ALL)
    said = {name: getattr(before, name) if value is None else value for name, value in asdict(stated).items()}
    columns = {name: value or "" for name, value in said.items()} | {"stated_at": now}
    statement = insert_of(connection)(stated_requests).values(
        study_instance_uid=study_instance_uid, route=route or _ALL, **columns
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["study_instance_uid", "route"], set_=columns))


def request_for(connection: Connection, study_instance_uid: str, route: str) -> StatedRequest:
    """Return what was stated of one route's analysis, or else of all; empty where nobody stated anything."""
    mine = and_(stated_requests.c.study_instance_uid == study_instance_uid, stated_requests.c.route.in_([route, _ALL]))
    row = connection.execute(select(stated_requests).where(mine).order_by(stated_requests.c.route.desc())).first()
    return StatedRequest(row.indication, row.purpose) if row else StatedRequest()
