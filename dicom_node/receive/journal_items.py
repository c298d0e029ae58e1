"""What a slot holds on its way out of the journal: read, checked, copied into the spool, entered into the index."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from dicom_node.core.entities import Instance, InstanceRole, SendingPeer
from dicom_node.core.errors import RefusedObject
from dicom_node.core.received.versions import NOTHING_COMPARED, Comparison
from dicom_node.core.uids import is_valid_uid
from dicom_node.headers.file_meta import file_head, read_head
from dicom_node.headers.header import Header
from dicom_node.headers.reader import Encoded, Unreadable
from dicom_node.headers.scan import scan_header
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.received.associations import close_association, forget_lost_associations, open_association
from dicom_node.index.transitions import record as record_event
from dicom_node.receive.channel import AssociationClosed, RecordStored, ReportAnswered
from dicom_node.receive.commitment import note_answer
from dicom_node.receive.events import AcceptorDied, ReceiveEvent
from dicom_node.storage.journal import (
    SLOT_BYTES,
    Acknowledged,
    Record,
    RecordKind,
    copy_payload,
    holds_payload,
    is_free,
    move_aside,
    read_payload,
    read_record,
    set_aside,
    slot_path,
    slots_in,
    was_acknowledged,
)
from dicom_node.storage.spool import Spool, object_key


def parts_owner(receiver_id: str) -> str:
    """Return the name of the parts of payloads that a receiver's consumer copies, should a crash leave any."""
    return f"settle-{hashlib.sha256(receiver_id.encode()).hexdigest()[:8]}"


@dataclass(slots=True)
class JournalItem:
    """One record on its way: where it is copied to until it has its name, and what its header says."""

    event: RecordStored
    record: Record
    part: Path | None = None
    header: Header | Unreadable | None = None

    @property
    def is_object(self) -> bool:
        """Tell whether it stands for an object (and not for a request)."""
        return self.record.kind is not RecordKind.COMMITMENT

    @property
    def object_key(self) -> str:
        """Where its content lies in the spool, or will."""
        return object_key(self.record.sha256, ".dcm")


@dataclass(frozen=True, slots=True)
class LostRecord:
    """A damaged slot: where its copy lies, whether it was acknowledged, and of what ("" where that cannot be told)."""

    path: Path
    acknowledged: Acknowledged
    sop_instance_uid: str
    study_instance_uid: str


def _named_in(payload: bytes) -> tuple[str, str]:
    """Return the SOP and the Study Instance UID of an object whose record cannot be read, as far as they stand there.

    Behind the object lie bytes of earlier ones; the header ends before them.
    """
    sop_instance_uid = ""
    try:
        head = read_head(payload)
        sop_instance_uid = head.sop_instance_uid if is_valid_uid(head.sop_instance_uid) else ""
        scan = scan_header(memoryview(payload)[head.data_set_offset :], head.transfer_syntax_uid)
    except RefusedObject:
        return sop_instance_uid, ""
    return scan.sop_instance_uid, scan.study_instance_uid


class JournalReader:
    """Reads slots of one journal for one spool; what it copies there bears the name of `owner`."""

    def __init__(self, journal: Path, spool: Spool, owner: str) -> None:
        self._journal = journal
        self._spool = spool
        self._owner = owner

    def item(self, event: RecordStored, record: Record) -> JournalItem | None:
        """Return the record with the digest that names its content; `None` when it is damaged or was cut off."""
        if record.kind is RecordKind.FILE:
            is_whole = not event.found or self._spool.is_whole(record.object_key)
            return JournalItem(event, record) if is_whole else None
        data_set = self._data_set(event.slot, record)
        if record.kind is RecordKind.OBJECT:
            digest = hashlib.sha256(record.transfer_syntax_uid.encode())
            digest.update(data_set)
            record = replace(record, sha256=digest.hexdigest())
        item = JournalItem(event, record)
        return item if self._is_known(item) or zlib.crc32(data_set) == record.crc32 else None

    def _is_known(self, item: JournalItem) -> bool:
        """Tell whether its digest names an object that has a file: content that came before is no damage."""
        return item.is_object and self._spool.path(item.object_key).exists()

    def set_aside(self, slot: int, record: Record | None) -> LostRecord:
        """Keep a copy of a slot that is damaged, and say what is known of it. Raises `OSError`."""
        # Tried again, it is the same copy.
        sequence = record.sequence if record is not None else slot_path(self._journal, slot).stat().st_mtime_ns
        kept = set_aside(self._journal, slot, f"{slot:04d}-{sequence}.slot")
        if record is not None:
            acknowledged = was_acknowledged(self._journal, slot, record)
            return LostRecord(kept, acknowledged, record.sop_instance_uid, record.study_instance_uid)
        return LostRecord(kept, Acknowledged.UNKNOWN, *_named_in(read_payload(self._journal, slot, 0, SLOT_BYTES)))

    def move_aside(self, slot: int) -> LostRecord:
        """Put a slot that the disk cannot read aside; where not even that can be done, it stays where it is."""
        try:
            kept = move_aside(self._journal, slot)
        except OSError:
            kept = slot_path(self._journal, slot)
        return LostRecord(kept, Acknowledged.UNKNOWN, "", "")

    def encoded_header(self, item: JournalItem) -> Encoded:
        """Return the data set up to its pixel data."""
        record = item.record
        if record.kind is RecordKind.FILE:
            with self._spool.path(record.object_key).open("rb") as file:
                header = os.pread(file.fileno(), record.header_bytes, record.data_set_offset)
        else:
            header = read_payload(self._journal, item.event.slot, record.data_set_offset, record.header_bytes)
        return Encoded(header, record.transfer_syntax_uid)

    def copy(self, item: JournalItem) -> None:
        """Copy the payload into a part of the spool, unless its content is filed already and undamaged.

        What a start finds is always written again: after a power cut a name may be durable whose content is not.
        Raises `SpoolUnavailable`.
        """
        if item.record.kind is not RecordKind.OBJECT:
            return
        if not item.event.found and self._is_filed(item):
            return
        part = self._spool.new_part(self._owner)
        if self._has_sound_head(item):
            part.fill(lambda target: copy_payload(self._journal, item.event.slot, item.record.payload_bytes, target))
        else:
            record = item.record
            part.write(file_head(record.sop_class_uid, record.sop_instance_uid, record.transfer_syntax_uid))
            part.write(self._data_set(item.event.slot, record))
        item.part = part.finish()

    def _is_filed(self, item: JournalItem) -> bool:
        """Tell whether the object's file is there and whole.

        What comes again is mostly equal to its file byte by byte, which is seen at a tenth of the price of its digest.
        """
        path = self._spool.path(item.object_key)
        if not path.exists():
            return False
        equal = holds_payload(self._journal, item.event.slot, item.record.payload_bytes, path)
        return equal or self._spool.is_whole(item.object_key)

    def held_objects(self) -> frozenset[str]:
        """Return the keys of the objects whose records have not settled: these will be entered with their senders."""
        return frozenset(key for slot in slots_in(self._journal) if (key := self._held_object(slot)))

    def _held_object(self, slot: int) -> str:
        try:
            record = None if is_free(self._journal, slot) else read_record(self._journal, slot)
            if record is None or record.kind is RecordKind.COMMITMENT:
                return ""
            item = self.item(RecordStored(slot, record.sequence, record.study_instance_uid, found=True), record)
        except OSError:  # a slot that cannot be read is the consumer's affair, who tells it
            return ""
        return item.object_key if item is not None else ""

    def request(self, item: JournalItem) -> bytes:
        """Return the data set of a request for storage commitment."""
        return read_payload(self._journal, item.event.slot, 0, item.record.payload_bytes)

    def _has_sound_head(self, item: JournalItem) -> bool:
        """Tell whether what stands before the data set, over which there is no checksum, says what the record says."""
        record = item.record
        head = read_payload(self._journal, item.event.slot, 0, record.data_set_offset)
        try:
            found = read_head(head)
        except RefusedObject:
            return False
        told = (record.sop_class_uid, record.sop_instance_uid, record.transfer_syntax_uid, record.data_set_offset)
        return told == (found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax_uid, found.data_set_offset)

    def _data_set(self, slot: int, record: Record) -> bytes:
        start = record.data_set_offset
        return read_payload(self._journal, slot, start, record.payload_bytes - start)


# --- the rows of a batch -------------------------------------------------------------------------------------------


def enter_objects(
    connection: Connection, receiver_id: str, items: Sequence[JournalItem], comparison: Comparison = NOTHING_COMPARED
) -> None:
    """Enter objects in the order in which they came, and note which associations carry their studies; `comparison` says
    in what they differ from the versions in use."""
    objects = [item for item in items if item.is_object]
    instances = [_instance(item) for item in objects]
    if instances:
        add_instances(connection, instances, comparison)
    carried: dict[tuple[str, str], list[Instance]] = {}
    for item, instance in zip(objects, instances, strict=True):
        if isinstance(item.header, Unreadable):
            _record_unreadable(connection, item, item.header)
        if not item.event.found:  # an association from before the start is over
            carried.setdefault((item.record.association_id, instance.study_instance_uid), []).append(instance)
    for (association_id, _), of_association in sorted(carried.items()):
        open_association(connection, association_id, receiver_id, of_association)


def note_end(connection: Connection, receiver_id: str, event: ReceiveEvent) -> None:
    """Note what ended: an association, all of them, or a storage commitment that was reported on one."""
    match event:
        case AssociationClosed(association_id, outcome, at_s):
            close_association(connection, association_id, outcome, _time(at_s))
        case AcceptorDied(at_s):
            forget_lost_associations(connection, receiver_id, _time(0), _time(at_s))
        case ReportAnswered():
            note_answer(connection, event)


def _instance(item: JournalItem) -> Instance:
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
        sender=SendingPeer(record.calling_ae_title, record.called_ae_title, record.host),
    )
    if isinstance(header, Header):
        return replace(instance, role=header.role, attributes=header.attributes, patient=header.patient)
    return instance


def _record_unreadable(connection: Connection, item: JournalItem, unreadable: Unreadable) -> None:
    record_event(
        connection, item.record.study_instance_uid, _time(item.record.received_at_s),
        ("unreadable", "The header of an object could not be read. The object is kept and not analysed."),
        sop_instance_uid=item.record.sop_instance_uid, why=unreadable.why,
    )  # fmt: skip


def _time(posix_s: float) -> datetime:
    return datetime.fromtimestamp(posix_s, UTC)
