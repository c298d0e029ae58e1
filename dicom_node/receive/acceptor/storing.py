"""From a whole data set to the answer: look at it, make it durable, tell the consumer. The status is final."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import RefusedObject, SpoolUnavailable, StoreStatus
from dicom_node.headers.file_meta import file_head
from dicom_node.headers.scan import HeaderScan, scan_header
from dicom_node.receive.acceptor.admission import CallingPeer, Capacity
from dicom_node.receive.acceptor.incoming import IncomingObject
from dicom_node.storage.journal import JournalWriter, Record, RecordKind

#: How long an object waits for a slot when all are taken; the sender then hears "out of resources".
_SLOT_PATIENCE_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRef:
    """The association that brings objects."""

    association_id: str
    caller: CallingPeer


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

    def __init__(
        self,
        journal: JournalWriter,
        capacity: Capacity,
        stored: Callable[[int, Record], None],
        hear: Callable[[CallingPeer, str, bytes], int],
    ) -> None:
        """`stored(slot, record)` tells the consumer; `hear(caller, transfer_syntax_uid, data_set)` hands on a report on
        a storage commitment and returns the answer."""
        self._journal = journal
        self._capacity = capacity
        self._stored = stored
        self.hear = hear
        self.outages = OutageLog(_log, "object not stored", "objects are stored again")

    def store(self, identity: ObjectIdentity, incoming: IncomingObject, association: AssociationRef) -> None:
        """Return when the object is durable (PS3.4 Annex B: success).

        Raises `RefusedObject` (the object is at fault) and `SpoolUnavailable` (the node is); nothing is left then.
        """
        try:
            self._capacity.check()
            with incoming.data_set() as data_set:
                scan = scan_header(data_set, identity.transfer_syntax_uid)
                _check_same(identity, scan)
                if incoming.is_small:
                    self._keep_small(identity, scan, incoming, association, data_set)
                    return
            self._keep_large(identity, scan, incoming, association)
        finally:
            incoming.discard()

    def request_commitment(
        self, identity: ObjectIdentity, data_set: memoryview, crc32: int, association: AssociationRef
    ) -> None:
        """Keep a request for storage commitment. Raises `SpoolUnavailable`."""
        self._write(RecordKind.COMMITMENT, identity, association, [data_set], crc32=crc32, payload_bytes=len(data_set))

    def _keep_small(
        self,
        identity: ObjectIdentity,
        scan: HeaderScan,
        incoming: IncomingObject,
        association: AssociationRef,
        data_set: memoryview,
    ) -> None:
        head = identity.head()
        self._write(
            RecordKind.OBJECT, identity, association, [head, data_set],
            crc32=incoming.crc32, payload_bytes=len(head) + len(data_set), data_set_offset=len(head),
            header_bytes=scan.header_bytes, study_instance_uid=scan.study_instance_uid,
            series_instance_uid=scan.series_instance_uid,
        )  # fmt: skip

    def _keep_large(
        self, identity: ObjectIdentity, scan: HeaderScan, incoming: IncomingObject, association: AssociationRef
    ) -> None:
        stored = incoming.part.keep(incoming.sha256, ".dcm")
        self._write(
            RecordKind.FILE, identity, association, [],
            sha256=stored.sha256, payload_bytes=stored.size_bytes, data_set_offset=len(identity.head()),
            header_bytes=scan.header_bytes, study_instance_uid=scan.study_instance_uid,
            series_instance_uid=scan.series_instance_uid, object_key=stored.key,
        )  # fmt: skip

    def _write(
        self,
        kind: RecordKind,
        identity: ObjectIdentity,
        association: AssociationRef,
        pieces: list[bytes | memoryview],
        **more: object,
    ) -> None:
        slot = self._journal.take(_SLOT_PATIENCE_S)
        if slot is None:
            raise SpoolUnavailable(
                "No slot of the journal became free: objects arrive faster than they can be indexed, or the database "
                "or the spool takes none. See the log for which; the sender is asked to try again."
            )
        caller = association.caller
        record = Record(
            kind=kind,
            sequence=self._journal.next_sequence(),
            received_at_s=time.time(),
            association_id=association.association_id,
            calling_ae_title=caller.calling_ae_title,
            called_ae_title=caller.called_ae_title,
            host=caller.host,
            sop_class_uid=identity.sop_class_uid,
            sop_instance_uid=identity.sop_instance_uid,
            transfer_syntax_uid=identity.transfer_syntax_uid,
            **more,  # type: ignore[arg-type]  # the fields of its kind, named by the callers above
        )
        self._journal.write(slot, record, pieces)
        self._stored(slot, record)


def _check_same(identity: ObjectIdentity, scan: HeaderScan) -> None:
    if (scan.sop_class_uid, scan.sop_instance_uid) != (identity.sop_class_uid, identity.sop_instance_uid):
        raise RefusedObject(
            StoreStatus.DATA_SET_DOES_NOT_MATCH,
            "The SOP Class or Instance UID of the data set is not the one the command named. Correct it at the sender.",
        )
