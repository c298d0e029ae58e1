"""One transaction: the rows of a batch, what carried them, what was asked, and which associations ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from dicom_node.header_reader import Unreadable
from dicom_node.headers import Header
from dicom_node.index.events import record as record_event
from dicom_node.index.intake import add_instances, close_association, forget_lost_associations, open_association
from dicom_node.model import Instance, InstanceRole, Sender
from dicom_node.settle.items import Item
from dicom_node.settle.news import AllLost, Closed, News


def enter_objects(connection: Connection, receiver_id: str, items: Sequence[Item]) -> None:
    """Enter objects in the order in which they came, and note which associations carry their studies."""
    objects = [item for item in items if item.is_object]
    instances = [_instance(item) for item in objects]
    if instances:
        add_instances(connection, instances)
    carried: dict[tuple[str, str], list[Instance]] = {}
    for item, instance in zip(objects, instances, strict=True):
        if isinstance(item.header, Unreadable):
            _record_unreadable(connection, item, item.header)
        if not item.news.found:  # an association from before the start is over
            carried.setdefault((item.record.association_id, instance.study_instance_uid), []).append(instance)
    for (association_id, _), of_association in sorted(carried.items()):
        open_association(connection, association_id, receiver_id, of_association)


def note_end(connection: Connection, receiver_id: str, news: News) -> None:
    """Note the end of an association, or of all of them."""
    if isinstance(news, Closed):
        close_association(connection, news.association_id, news.outcome, _time(news.at_s))
    elif isinstance(news, AllLost):
        forget_lost_associations(connection, receiver_id, _time(0), _time(news.at_s))


def _instance(item: Item) -> Instance:
    record, header = item.record, item.header
    instance = Instance(
        sop_instance_uid=record.sop_instance_uid,
        sop_class_uid=record.sop_class_uid,
        transfer_syntax_uid=record.transfer_syntax_uid,
        study_instance_uid=record.study_instance_uid,
        series_instance_uid=record.series_instance_uid,
        sha256=record.sha256,
        size_bytes=record.payload_bytes,
        object_key=item.object_key,
        # Acknowledged and therefore kept, but nothing is concluded from what cannot be read.
        role=InstanceRole.EVIDENCE,
        attributes={},
        received_at=_time(record.received_at_s),
        sender=Sender(record.calling_ae_title, record.called_ae_title, record.host),
    )
    if isinstance(header, Header):
        return replace(instance, role=header.role, attributes=header.attributes)
    return instance


def _record_unreadable(connection: Connection, item: Item, unreadable: Unreadable) -> None:
    record_event(
        connection, item.record.study_instance_uid, _time(item.record.received_at_s),
        ("unreadable", "The header of an object could not be read. The object is kept and not analysed."),
        sop_instance_uid=item.record.sop_instance_uid, why=unreadable.why,
    )  # fmt: skip


def _time(posix_s: float) -> datetime:
    return datetime.fromtimestamp(posix_s, UTC)
