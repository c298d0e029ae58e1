"""Files, folders and archives become instances in a spool of the run's own, checked as by the node's other ways in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.config.settings import Settings
from dicom_node.core.entities import Instance, InstanceRole
from dicom_node.core.errors import NotFound, RefusedObject, SettingsError
from dicom_node.core.received.rejections import not_rejected
from dicom_node.dimse.storage_scu import all_files
from dicom_node.headers.reader import FileHeaders
from dicom_node.headers.scan import HeaderScan
from dicom_node.index.received.arrivals import UNKNOWN_SENDER
from dicom_node.ingest.archive import Kind, archive_limits, take_archive, told
from dicom_node.ingest.incoming import IncomingFile
from dicom_node.ingest.intake import instance_of
from dicom_node.ingest.session import (
    FileReport,
    FileState,
    StoreOutcome,
    outcome_of,
    refused,
    require_storage_class,
    skipped,
    take_dicom,
)
from dicom_node.offline.results import PassedFile
from dicom_node.storage.spool import Spool

_MEGABYTE = 1 << 20
_PIECE_BYTES = 1 << 20
_PICTURE = "It is a picture without a header; `dicom-node evaluate` takes pictures, with what holds of them."
_NO_DICOM = "It is not a DICOM file."


@dataclass(slots=True)
class TakenFiles:
    """What was found: source images, in no order; files that were not used; studies of which two versions of an image
    came, so that nobody can say which one holds."""

    instances: list[Instance] = field(default_factory=list)
    passed_over: list[PassedFile] = field(default_factory=list)
    contradicting: set[str] = field(default_factory=set)


def take_files(paths: Sequence[Path], apart: Path, spool: Spool, settings: Settings) -> TakenFiles:
    """Take every DICOM image below the paths, but for what lies below `apart`, the run's own folder.

    Raises `NotFound` for a path that is not there, and `SpoolUnavailable` when the disk is full.
    """
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise NotFound(f"{missing} is not there. Name files, folders or zip archives that are.")
    taker = _Taker(spool, settings)
    passed: list[PassedFile] = []
    try:
        for path in all_files(paths):
            if apart in path.resolve().parents:
                continue
            reports = _reports(taker, path, settings)
            passed += [_passed(one) for one in reports if one.state is not FileState.STORED]
    finally:
        taker.close()
    received = list(taker.instances.values())
    sources = not_rejected(received)
    used = {one.sop_instance_uid for one in sources}
    passed += [_unused(one) for one in received if one.sop_instance_uid not in used]
    return TakenFiles(sources, passed, taker.contradicting)


def _reports(taker: _Taker, path: Path, settings: Settings) -> Iterator[FileReport]:
    if not path.is_file():
        yield skipped(path.name, "It is no plain file.")
        return
    try:
        kind, pieces = told(_pieces(path))
        if kind is Kind.DICOM:
            yield take_dicom(taker, path.name, pieces)
        elif kind is Kind.ARCHIVE:
            yield from take_archive(taker, path, archive_limits(settings.upload))
        else:
            yield skipped(path.name, _PICTURE if kind is Kind.PICTURE else _NO_DICOM)
    except RefusedObject as refusal:
        yield refused(path.name, str(refusal))
    except OSError as error:
        yield refused(path.name, f"It cannot be read: {error.strerror}.")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _passed(report: FileReport) -> PassedFile:
    return PassedFile(name=report.name, refused=report.state is FileState.REFUSED, why=report.why)


def _unused(instance: Instance) -> PassedFile:
    why = {
        InstanceRole.SOURCE: "A rejection note among these files names it.",
        InstanceRole.OWN_RESULT: "It is a result of this node.",
    }
    text = why.get(instance.role, "It is about images and is none to analyse.")
    return PassedFile(name=f"object {instance.sop_instance_uid}", refused=False, why=text)


class _Taker:
    """Takes files into the spool and remembers what they are; equal ones once."""

    def __init__(self, spool: Spool, settings: Settings) -> None:
        self._spool = spool
        self._headers = FileHeaders()
        self._max_object_bytes = settings.dicom.max_object_mb * _MEGABYTE
        self._any_class = settings.dicom.accept_any_sop_class
        self.instances: dict[str, Instance] = {}
        self.contradicting: set[str] = set()

    def new_file(self) -> IncomingFile:
        """Begin a file."""
        return IncomingFile(self._spool, "run", self._max_object_bytes)

    def take(self, file: IncomingFile) -> StoreOutcome:
        """Take a file that came to its end. Raises `SpoolUnavailable`: without room nothing of the run can be done."""
        scan: HeaderScan | None = None
        try:
            whole = file.finish()
            scan = whole.scan
            try:
                if not self._any_class:
                    require_storage_class(scan)
                header = self._headers.read(whole.part.path, whole.data_set_offset, whole.transfer_syntax_uid)
            except RefusedObject:
                whole.part.discard()
                raise
        except RefusedObject as refusal:
            return outcome_of(refusal.status, str(refusal), scan, file.names)
        stored = whole.part.keep(whole.sha256, ".dcm")
        self._remember(instance_of(header, whole.transfer_syntax_uid, stored, UNKNOWN_SENDER))
        return outcome_of(0, "", scan)

    def _remember(self, instance: Instance) -> None:
        known = self.instances.setdefault(instance.sop_instance_uid, instance)
        if known.sha256 != instance.sha256:
            self.contradicting |= {known.study_instance_uid, instance.study_instance_uid}

    def close(self) -> None:
        """End the child process."""
        self._headers.close()


def require_images(taken: TakenFiles) -> None:
    """Raise `SettingsError` where there is nothing to analyse, with why the first files were not used."""
    if not taken.instances:
        told = "".join(f" {one.name}: {one.why}" for one in taken.passed_over[:3])
        raise SettingsError(f"There is no DICOM image to analyse among these files.{told}")
