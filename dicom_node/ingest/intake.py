"""From received bytes to the answer: check, make durable, index, and only then say success.

Knows nothing of sockets: every way in hands over a `Received`, or a `ReceivedFile` when the object lies in the spool
already, and gets a DIMSE status back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from sqlalchemy import Connection

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.entities import Instance, SendingPeer
from dicom_node.core.errors import IndexUnavailable, ObjectDeleted, RefusedObject, SpoolUnavailable, StoreStatus
from dicom_node.core.metrics.table import BYTES_RECEIVED, OBJECTS_RECEIVED, OBJECTS_REFUSED
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.received.versions import Comparison
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_valid_uid, loggable_uid
from dicom_node.headers.header import Header, read_header
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import UNKNOWN_SENDER, add_instance, known_object_keys
from dicom_node.index.received.associations import open_association
from dicom_node.index.versions import Added
from dicom_node.ingest.versions import VersionComparer
from dicom_node.storage.spool import Buffer, Spool, SpoolPart, StoredObject

_PREAMBLE = b"\0" * 128 + b"DICM"  # never the sender's: a preamble can hide another file type (CVE-2019-11687)
_KEYS_PER_QUERY = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One object as it came: the UIDs the command named, the encoded data set, and who sent it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: Buffer
    sender: SendingPeer
    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile:
    """One object that lies in a part of the spool: a head of ours, then the data set as it came, found whole.

    `sha256` is the digest of transfer syntax and data set, which names the content.
    """

    part: SpoolPart
    sha256: str
    transfer_syntax_uid: str
    header: Header
    sender: SendingPeer
    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """What is not taken in: anything while less disk is free than the reserve, and objects above the cap."""

    min_free_bytes: int
    max_object_bytes: int


class Intake:
    """Takes objects in. Safe to call from many threads."""

    def __init__(self, database: Database, spool: Spool, limits: IntakeLimits, receiver_id: str) -> None:
        self._database = database
        self._spool = spool
        self._limits = limits
        self._receiver_id = receiver_id
        self._versions = VersionComparer(database, spool)
        self.outages = OutageLog(_log, "object not stored", "objects are stored again")

    def close(self) -> None:
        """End the child process that compares versions."""
        self._versions.close()

    def store(self, received: Received) -> StoreStatus:
        """Store one object; the status is final: SUCCESS means durable and indexed (PS3.4 Annex B).

        Never raises for anything that a peer or the disk can cause.
        """
        try:
            self._check_room(received)
            header = read_header(received.data_set, received.transfer_syntax_uid)
            _check_command(received, header)
            stored = self._spool.put(*_pieces(received, header))
            instance = instance_of(header, received.transfer_syntax_uid, stored, received.sender)
            try:
                self._enter(instance, received.association_id)
            except ObjectDeleted:
                self._spool.put(*_pieces(received, header))
                self._enter(instance, received.association_id)
        except RefusedObject as refusal:
            who = _named(received.sender, received.sop_instance_uid)
            _log.warning("object refused", extra=who | {"status": f"0x{refusal.status:04X}", "why": str(refusal)})
            _count_refused(received.sender, refusal.status)
            return StoreStatus(refusal.status)
        except (SpoolUnavailable, IndexUnavailable, ObjectDeleted) as error:
            return self._not_stored(error, received.sender, received.sop_instance_uid)
        self.outages.worked()
        return StoreStatus.SUCCESS

    def store_file(self, received: ReceivedFile) -> StoreStatus:
        """Store one object that lies in a part, whatever its size; the part is gone afterwards.

        SUCCESS means durable and indexed, OUT_OF_RESOURCES that disk or database do not take it. Never raises for
        anything that a peer or the disk can cause.
        """
        try:
            self._require_reserve()
            stored = received.part.keep(received.sha256, ".dcm")
            instance = instance_of(received.header, received.transfer_syntax_uid, stored, received.sender)
            self._enter(instance, received.association_id)
        except (SpoolUnavailable, IndexUnavailable, ObjectDeleted) as error:  # the last: its sender has it still
            received.part.discard()
            return self._not_stored(error, received.sender, received.header.sop_instance_uid)
        self.outages.worked()
        return StoreStatus.SUCCESS

    def has_room(self) -> bool:
        """Tell whether the disk below the spool has more free than the reserve."""
        return self._spool.free_bytes() > self._limits.min_free_bytes

    def adopt_orphans(self, older_than: datetime, held: Callable[[], Collection[str]]) -> int:
        """Index every durable object that has no row (a crash fell between the two); return how many.

        `held` returns the keys of those that somebody is still to enter, and who knows from whom they came; it is asked
        after the search, so that what was entered meanwhile is a duplicate and nothing more.
        """
        orphans: list[str] = []
        for keys in _batches(self._spool.keys(".dcm")):
            with self._database.read() as connection:
                known = known_object_keys(connection, keys)
            orphans += [key for key in keys if key not in known]
        if orphans:
            waiting = held()
            orphans = [key for key in orphans if key not in waiting]
        # In the order in which they were written: of two versions of an instance the later one is the one in use.
        orphans.sort(key=lambda key: (self._spool.path(key).stat().st_mtime_ns, key))
        return sum(self._adopt(key, older_than) for key in orphans)

    def _adopt(self, key: str, older_than: datetime) -> bool:
        path = self._spool.path(key)
        if datetime.fromtimestamp(path.stat().st_mtime, UTC) >= older_than:
            return False  # somebody is storing it right now
        try:
            transfer_syntax_uid, data_set = _read_part10(path)
            header = read_header(data_set, transfer_syntax_uid)
        except RefusedObject as refusal:
            _log.warning("orphan in the spool cannot be read", extra={"object": key, "why": str(refusal)})
            return False
        stored = StoredObject(key, Path(key).stem, path.stat().st_size)
        self._enter(instance_of(header, transfer_syntax_uid, stored, UNKNOWN_SENDER), None)
        return True

    def _not_stored(self, error: Exception, sender: SendingPeer, sop_instance_uid: str) -> StoreStatus:
        self.outages.failed(str(error), _named(sender, sop_instance_uid) | {"status": "0xA700"})
        _count_refused(sender, StoreStatus.OUT_OF_RESOURCES)
        return StoreStatus.OUT_OF_RESOURCES

    def _check_room(self, received: Received) -> None:
        if len(received.data_set) > self._limits.max_object_bytes:
            raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "The object is larger than dicom.max_object_mb allows.")
        self._require_reserve()

    def _require_reserve(self) -> None:
        if not self.has_room():
            raise SpoolUnavailable("Less disk is free than node.min_free_mb; free space below node.data_dir.")

    def _enter(self, instance: Instance, association_id: str | None) -> None:
        def enter(connection: Connection, comparison: Comparison) -> Added:
            added = add_instance(connection, instance, comparison)
            # The study is held from here on, and nothing of it is deleted; what went before is seen now.
            if not self._spool.path(instance.object_key).exists():
                raise ObjectDeleted("The object was deleted, with its study, while it came again. Send it once more.")
            if association_id is not None:
                open_association(connection, association_id, self._receiver_id, [instance])
            return added

        added = self._versions.enter(enter)
        peer = instance.sender.calling_ae_title
        TALLY.count(OBJECTS_RECEIVED, peer=peer, way="files")
        TALLY.count(BYTES_RECEIVED, instance.size_bytes, peer=peer, way="files")
        if added is not Added.NEW:
            _log.info(
                "known instance came again", extra={"sop_instance": instance.sop_instance_uid, "was": added.value}
            )


def offline_instance(path: Path) -> Instance:
    """Read a DICOM file as if it had been received, without keeping it. Raises `RefusedObject`."""
    transfer_syntax_uid, data_set = _read_part10(path)
    stored = StoredObject("", "", path.stat().st_size)
    return instance_of(read_header(data_set, transfer_syntax_uid), transfer_syntax_uid, stored, UNKNOWN_SENDER)


def _check_command(received: Received, header: Header) -> None:
    same = (header.sop_class_uid, header.sop_instance_uid) == (received.sop_class_uid, received.sop_instance_uid)
    if not same:
        raise RefusedObject(
            StoreStatus.DATA_SET_DOES_NOT_MATCH,
            "The SOP Class or Instance UID of the data set is not the one the command named. Correct it at the sender.",
        )
    if not is_valid_uid(received.transfer_syntax_uid):
        raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "The transfer syntax is not a valid UID.")


def _pieces(received: Received, header: Header) -> tuple[list[Buffer], str, list[Buffer]]:
    """Return what to write, its suffix, and which part of it is the content (data set and its encoding)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(header.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(header.sop_instance_uid)
    meta.TransferSyntaxUID = UID(received.transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    encoding = received.transfer_syntax_uid.encode()
    return [_PREAMBLE, buffer.getvalue(), received.data_set], ".dcm", [encoding, received.data_set]


def _read_part10(path: Path) -> tuple[str, memoryview]:
    """Split a file of ours into transfer syntax and encoded data set."""
    try:
        meta = read_file_meta_info(path)
    except (InvalidDicomError, OSError, AttributeError, ValueError, EOFError) as error:
        raise RefusedObject(
            StoreStatus.CANNOT_UNDERSTAND, "It is not a DICOM file with readable file meta information (PS3.10 7.1)."
        ) from error
    start = len(_PREAMBLE) + 12 + int(meta.FileMetaInformationGroupLength)
    return str(meta.TransferSyntaxUID), memoryview(path.read_bytes())[start:]


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, _KEYS_PER_QUERY)):
        yield batch


def instance_of(header: Header, transfer_syntax_uid: str, stored: StoredObject, sender: SendingPeer) -> Instance:
    """Return what is known of an object from its header and from where its bytes are."""
    return Instance(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        object_key=stored.key,
        role=header.role,
        attributes=header.attributes,
        received_at=datetime.now(UTC),
        sender=sender,
        patient=header.patient,
    )


def _count_refused(sender: SendingPeer, status: int) -> None:
    TALLY.count(OBJECTS_REFUSED, peer=sender.calling_ae_title, status=f"0x{status:04X}")


def _named(sender: SendingPeer, sop_instance_uid: str) -> dict[str, str]:
    return {"calling_ae_title": sender.calling_ae_title, "sop_instance": loggable_uid(sop_instance_uid)}
