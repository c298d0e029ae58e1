"""Read-only queries for why a study is wanted, and what for: by its order, and by the word of people."""

from __future__ import annotations

from sqlalchemy import Connection, select

from dicom_node.index.received.orders import order_of_study
from dicom_node.index.received.patients import number_of_study, numbers_of_patient
from dicom_node.index.tables import instances, stated_requests
from dicom_node.index.versions import IN_USE, IS_IMAGE
from dicom_node.index.views.types import OrderView, StatedRequestView


def order_shown(connection: Connection, study_instance_uid: str, authority: str) -> OrderView | None:
    """Return what is shown of the order by which a study was made; `None` where the node knows none that stands.

    `authority` gave out the numbers of images that name nobody.
    """
    number = number_of_study(connection, study_instance_uid, authority)
    if number is None:
        return None
    accession = instances.c.attributes["accession_number"].as_string()
    mine = (instances.c.study_instance_uid == study_instance_uid, IN_USE, IS_IMAGE)
    stated = connection.scalar(select(accession).where(*mine).order_by(instances.c.id).limit(1)) or ""
    order = order_of_study(connection, study_instance_uid, stated, numbers_of_patient(connection, number))
    if order is None:
        return None
    procedure = order.procedure.meaning if order.procedure else ""
    return OrderView(
        procedure=procedure, reason=order.reason, priority=order.priority, requested_at=order.requested_at
    )  # fmt: skip


def requests_shown(connection: Connection, study_instance_uid: str) -> list[StatedRequestView]:
    """Return what people stated of a study's analyses: first what stands for all routes."""
    mine = stated_requests.c.study_instance_uid == study_instance_uid
    rows = connection.execute(select(stated_requests).where(mine).order_by(stated_requests.c.route))
    return [StatedRequestView(route=row.route, indication=row.indication, purpose=row.purpose) for row in rows]
