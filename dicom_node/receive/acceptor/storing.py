"""From a whole data set to the answer: look at it, make it durable, tell the consumer. The status is final."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.core.errors import RefusedObject, SpoolUnavailable, StoreStatus
from dicom_node.headers.file_meta import file_head
from dicom_node.headers.scan import HeaderScan, scan_header
from dicom_node.receive.acceptor.admission import Caller, Capacity
from dicom_node.receive.acceptor.incoming import IncomingObject
from dicom_node.storage.journal import JournalWriter, Record, RecordKind

#: How long an object waits for a slot when all are taken; the sender then hears "out of resources".
_SLOT_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRef:
    """The association that brings objects."""

    association_id: str
    caller: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectIdentity:
    """What a command says of the object that follows."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    def head(self) -> bytes:
        """Return the head of its file."""
        return file_head(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)


class Storing:
    """Makes objects durable. Thread-safe."""

    def __init__(self, journal: JournalWriter, room: Capacity, stored: Callable[[int, Record], None]) -> None:
        """`stored(slot, record)` tells the consumer."""
        self._journal = journal
        self._room = room
        self._stored = stored

    def store(self, named: ObjectIdentity, incoming: IncomingObject, carrier: AssociationRef) -> None:
        """Return when the object is durable (PS3.4 Annex B: success).

        Raises `RefusedObject` (the object is at fault) and `SpoolUnavailable` (the node is); nothing is left then.
        """
        try:
            self._room.check()
            with incoming.data_set() as data_set:
                look = scan_header(data_set, named.transfer_syntax_uid)
                _check_same(named, look)
                if incoming.is_small:
                    self._keep_small(named, look, incoming, carrier, data_set)
                    return
            self._keep_large(named, look, incoming, carrier)
        finally:
            incoming.discard()

    def request_commitment(
        self, named: ObjectIdentity, data_set: memoryview, crc32: int, carrier: AssociationRef
    ) -> None:
        """Keep a request for storage commitment. Raises `SpoolUnavailable`."""
        self._write(RecordKind.COMMITMENT, named, carrier, [data_set], crc32=crc32, payload_bytes=len(data_set))

    def _keep_small(
        self,
        named: ObjectIdentity,
        look: HeaderScan,
        incoming: IncomingObject,
        carrier: AssociationRef,
        data_set: memoryview,
    ) -> None:
        head = named.head()
        self._write(
            RecordKind.OBJECT, named, carrier, [head, data_set],
            crc32=incoming.crc32, payload_bytes=len(head) + len(data_set), data_set_offset=len(head),
            header_bytes=look.header_bytes, study_instance_uid=look.study_instance_uid,
            series_instance_uid=look.series_instance_uid,
        )  # fmt: skip

    def _keep_large(
        self, named: ObjectIdentity, look: HeaderScan, incoming: IncomingObject, carrier: AssociationRef
    ) -> None:
        stored = incoming.part.keep(incoming.sha256, ".dcm")
        self._write(
            RecordKind.FILE, named, carrier, [],
            sha256=stored.sha256, payload_bytes=stored.size_bytes, data_set_offset=len(named.head()),
            header_bytes=look.header_bytes, study_instance_uid=look.study_instance_uid,
            series_instance_uid=look.series_instance_uid, object_key=stored.key,
        )  # fmt: skip

    def _write(
        self,
        kind: RecordKind,
        named: ObjectIdentity,
        carrier: AssociationRef,
        pieces: list[bytes | memoryview],
        **more: object,
    ) -> None:
        slot = self._journal.take(_SLOT_PATIENCE_S)
        if slot is None:
            raise SpoolUnavailable(
                "No slot of the journal became free: objects arrive faster than they can be indexed, or the database "
                "or the spool takes none. See the log for which; the sender is asked to try again."
            )
        caller = carrier.caller
        record = Record(
            kind=kind,
            sequence=self._journal.next_sequence(),
            received_at_s=time.time(),
            association_id=carrier.association_id,
            calling_ae_title=caller.calling_ae_title,
            called_ae_title=caller.called_ae_title,
            host=caller.host,
            sop_class_uid=named.sop_class_uid,
            sop_instance_uid=named.sop_instance_uid,
            transfer_syntax_uid=named.transfer_syntax_uid,
            **more,  # type: ignore[arg-type]  # the fields of its kind, named by the callers above
        )
        self._journal.write(slot, record, pieces)
        self._stored(slot, record)


def _check_same(named: ObjectIdentity, look: HeaderScan) -> None:
    if (look.sop_class_uid, look.sop_instance_uid) != (named.sop_class_uid, named.sop_instance_uid):
        raise RefusedObject(
            StoreStatus.DATA_SET_DOES_NOT_MATCH,
            "The SOP Class or Instance UID of the data set is not the one the command named. Correct it at the sender.",
        )
