"""One request, or one pass over a watched folder: files that came together, on an association of their own."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.entities import SendingPeer
from dicom_node.core.errors import IndexUnavailable, RefusedObject, SpoolUnavailable, StoreStatus
from dicom_node.dimse.vocabulary import STORAGE_SOP_CLASSES
from dicom_node.headers.reader import FileHeaders
from dicom_node.headers.scan import HeaderScan
from dicom_node.index.database import Database
from dicom_node.index.received.associations import close_association
from dicom_node.ingest.incoming import IncomingFile, WholeFile
from dicom_node.ingest.intake import Intake, ReceivedFile
from dicom_node.ingest.wrapping import PictureWrapper
from dicom_node.storage.spool import Spool

_CANNOT_STORE = "The node cannot store now: its disk is full or its database is away. Try again later."
#: Of one sender's files so many refusals are told one by one.
_REFUSALS_TOLD = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestParts:
    """What every way in for files needs of the node."""

    intake: Intake
    database: Database
    spool: Spool
    headers: FileHeaders
    pictures: PictureWrapper
    called_ae_title: str
    max_object_bytes: int
    accept_any_sop_class: bool = False

    def close(self) -> None:
        """End the child processes."""
        self.intake.close()
        self.headers.close()
        self.pictures.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOutcome:
    """What became of one file: a status as for C-STORE (0 is success), why, and its UIDs as far as they are known."""

    status: int
    why: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""

    @property
    def is_stored(self) -> bool:
        """Tell whether the object is durable and indexed."""
        return self.status == StoreStatus.SUCCESS

    @property
    def is_passing(self) -> bool:
        """Tell whether the same file may be taken later: the node's disk or database is the reason."""
        return self.status == StoreStatus.OUT_OF_RESOURCES


class IngestSession:
    """Takes files of one sender; the studies they belong to are not complete before `close`. For one thread."""

    def __init__(self, parts: IngestParts, way: str, host: str) -> None:
        """`way` is how the files come (``STOW``), where a sender's AE title would stand, and names their parts."""
        self._parts = parts
        self._way = way
        self._sender = SendingPeer(way, parts.called_ae_title, host)
        self._association_id = str(uuid.uuid4())
        #: Objects stored, by Study Instance UID.
        self.stored: Counter[str] = Counter()
        #: Files refused, by status.
        self._refused: Counter[str] = Counter()

    def new_file(self, transfer_syntax_uid: str = "") -> IncomingFile:
        """Begin a file; write it, then `take` it. `transfer_syntax_uid` is for a bare data set."""
        parts = self._parts
        return IncomingFile(parts.spool, self._way.lower(), parts.max_object_bytes, transfer_syntax_uid)

    def take(self, file: IncomingFile, study_instance_uid: str = "") -> StoreOutcome:
        """Store a file that came to its end; the outcome is final. With a UID only objects of that study are taken.

        Never raises for anything that is in the file, or for the disk.
        """
        with on_behalf_of([self._association_id]):
            return self._take(file, study_instance_uid)

    def _take(self, file: IncomingFile, study_instance_uid: str) -> StoreOutcome:
        scan: HeaderScan | None = None
        try:
            whole = file.finish()
            scan = whole.scan
            outcome = self._store(whole, study_instance_uid)
        except RefusedObject as refusal:
            outcome = outcome_of(refusal.status, str(refusal), scan, file.names)
            self._note_refused(outcome)
        except SpoolUnavailable as error:
            self._parts.intake.outages.failed(str(error), {"way": self._way})
            outcome = outcome_of(StoreStatus.OUT_OF_RESOURCES, _CANNOT_STORE, scan, file.names)
        if outcome.is_stored:
            self.stored[outcome.study_instance_uid] += 1
        return outcome

    def _note_refused(self, outcome: StoreOutcome) -> None:
        """Log the first refusals one by one, and count the others: a sender has no say in how long the log becomes."""
        status = f"0x{outcome.status:04X}"
        self._refused[status] += 1
        if self._refused.total() <= _REFUSALS_TOLD:
            refused = {"way": self._way, "status": status, "why": outcome.why}
            _log.warning("file refused", extra=refused | {"sop_instance": outcome.sop_instance_uid})

    def close(self, outcome: str = "released") -> None:
        """Note that nothing more comes: released, or aborted. A database that is away closes it by its silence."""
        with on_behalf_of([self._association_id]):
            if self._refused.total() > _REFUSALS_TOLD:
                _log.warning("files refused", extra={"way": self._way, "files": self._refused.total(),
                                                     "by_status": dict(self._refused)})  # fmt: skip
        self._refused.clear()
        if not self.stored:
            return
        with on_behalf_of([self._association_id]):
            _log.info("files taken", extra={"way": self._way, "studies": sorted(self.stored), "outcome": outcome,
                                            "objects": self.stored.total()})  # fmt: skip
        with suppress(IndexUnavailable), self._parts.database.write() as connection:
            close_association(connection, self._association_id, outcome, datetime.now(UTC))

    def _store(self, whole: WholeFile, study_instance_uid: str) -> StoreOutcome:
        try:
            self._check(whole.scan, study_instance_uid)
            header = self._parts.headers.read(whole.part.path, whole.data_set_offset, whole.transfer_syntax_uid)
        except RefusedObject:
            whole.part.discard()
            raise
        status = self._parts.intake.store_file(
            ReceivedFile(
                part=whole.part,
                sha256=whole.sha256,
                transfer_syntax_uid=whole.transfer_syntax_uid,
                header=header,
                sender=self._sender,
                association_id=self._association_id,
            )
        )
        return outcome_of(status, "" if status is StoreStatus.SUCCESS else _CANNOT_STORE, whole.scan)

    def _check(self, scan: HeaderScan, study_instance_uid: str) -> None:
        if study_instance_uid and scan.study_instance_uid != study_instance_uid:
            raise RefusedObject(
                StoreStatus.DATA_SET_DOES_NOT_MATCH, "The object belongs to another study than the one named."
            )
        if not self._parts.accept_any_sop_class:
            require_storage_class(scan)


def require_storage_class(scan: HeaderScan) -> None:
    """Raise `RefusedObject` (0x0122) for an object that is of no standard storage class."""
    if scan.sop_class_uid not in STORAGE_SOP_CLASSES:
        raise RefusedObject(
            StoreStatus.SOP_CLASS_NOT_SUPPORTED,
            "Its SOP class is no standard storage class. Set dicom.accept_any_sop_class to take it.",
        )


def outcome_of(status: int, why: str, scan: HeaderScan | None, names: tuple[str, str] = ("", "")) -> StoreOutcome:
    """Name the object as its data set does; one that could not be read, as its file does."""
    if scan is None:
        return StoreOutcome(status=status, why=why, sop_class_uid=names[0], sop_instance_uid=names[1])
    return StoreOutcome(
        status=status,
        why=why,
        sop_class_uid=scan.sop_class_uid,
        sop_instance_uid=scan.sop_instance_uid,
        study_instance_uid=scan.study_instance_uid,
    )


# --- what became of each file --------------------------------------------------------------------------------------

_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_LONGEST_NAME = 200


class FileState(StrEnum):
    """STORED: durable and indexed; REFUSED: meant to be taken, and not usable; SKIPPED: nothing the node takes."""

    STORED = "STORED"
    REFUSED = "REFUSED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """One file: its name as its sender calls it, what became of it, and why."""

    name: str
    state: FileState
    why: str = ""
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    #: Refused because the node's disk or database is full or away; the same file may be taken later.
    again_later: bool = False


def skipped(name: str, why: str) -> FileReport:
    """Report a file that is nothing the node takes."""
    return FileReport(name=shown(name), state=FileState.SKIPPED, why=why)


def refused(name: str, why: str) -> FileReport:
    """Report a file that cannot be used."""
    return FileReport(name=shown(name), state=FileState.REFUSED, why=why)


class TakesFiles(Protocol):
    """Whoever takes files one by one; `IngestSession` for a node."""

    def new_file(self) -> IncomingFile:
        """Begin a file."""
        ...

    def take(self, file: IncomingFile) -> StoreOutcome:
        """Take a file that came to its end. Never raises for anything that is in it."""
        ...


def take_dicom(session: TakesFiles, name: str, pieces: Iterable[bytes]) -> FileReport:
    """Store one DICOM file. Raises whatever `pieces` raise, but for `RefusedObject`."""
    with session.new_file() as file:
        try:
            for piece in pieces:
                file.write(piece)
        except RefusedObject as refusal:
            return refused(name, str(refusal))
        return report_of(name, session.take(file))


def report_of(name: str, outcome: StoreOutcome) -> FileReport:
    """Say in words what became of a file."""
    if outcome.sop_class_uid == _MEDIA_STORAGE_DIRECTORY:
        return skipped(name, "It is a DICOMDIR, a list of other files.")
    return FileReport(
        name=shown(name),
        state=FileState.STORED if outcome.is_stored else FileState.REFUSED,
        why=outcome.why,
        study_instance_uid=outcome.study_instance_uid,
        sop_instance_uid=outcome.sop_instance_uid,
        again_later=outcome.is_passing,
    )


def shown(name: str) -> str:
    """Return a name fit to be shown; it is used for nothing else."""
    return "".join(letter for letter in name if letter.isprintable())[-_LONGEST_NAME:]
