"""What became of each file of an upload or a watched folder, in words for the person who sent it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.errors import RefusedObject
from dicom_node.ingest.visit import Outcome, Visit

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


def take_dicom(visit: Visit, name: str, pieces: Iterable[bytes]) -> FileReport:
    """Store one DICOM file. Raises whatever `pieces` raise, but for `RefusedObject`."""
    with visit.new_file() as file:
        try:
            for piece in pieces:
                file.write(piece)
        except RefusedObject as refusal:
            return refused(name, str(refusal))
        return report_of(name, visit.take(file))


def report_of(name: str, outcome: Outcome) -> FileReport:
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
