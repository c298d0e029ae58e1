"""Send any DICOM files as a modality would: for `dicom-node send`, the demonstration and load tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.dimse.association import StoreAssociation
from dicom_node.dimse.dicom_file import DicomFile, read_dicom_file
from dicom_node.dimse.negotiation import Remote, in_groups, proposals
from dicom_node.dimse.statuses import error_of, note_of


@dataclass(frozen=True, slots=True)
class FileSent:
    """What became of one file. `status` is that of the C-STORE response, `None` if there was none."""

    path: Path
    sop_instance_uid: str
    status: int | None
    stored: bool
    note: str


def send_files(paths: Iterable[Path], remote: Remote) -> Iterator[FileSent]:
    """Send files, and folders with all that is in them, in sorted order; yield one `FileSent` per file.

    What is not DICOM is reported and passed over. When the peer is lost, all that remain are reported unsent.
    """
    files: list[DicomFile] = []
    for path in all_files(paths):
        try:
            files.append(read_dicom_file(path))
        except DeliveryRefused as error:
            yield FileSent(path, "", None, False, str(error))
    yield from _send(files, remote)


def _send(files: Sequence[DicomFile], remote: Remote) -> Iterator[FileSent]:
    done = 0
    try:
        for group in in_groups(files, lambda file: file):
            with StoreAssociation(remote, [one for file in group for one in proposals(file)]) as association:
                for file in group:
                    sent = _store(association, file, str(remote))
                    done += 1
                    yield sent
    except DeliveryDeferred as error:
        for file in files[done:]:
            yield FileSent(file.path, file.sop_instance_uid, None, False, str(error))


def _store(association: StoreAssociation, file: DicomFile, receiver: str) -> FileSent:
    try:
        status = association.store(file)
    except DeliveryRefused as error:
        return FileSent(file.path, file.sop_instance_uid, None, False, str(error))
    failure = error_of(status, receiver, "")
    note = str(failure) if failure else note_of(status)
    return FileSent(file.path, file.sop_instance_uid, status, failure is None, note)


def all_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files named, and those in the folders named, in sorted order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path
