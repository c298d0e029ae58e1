"""Pictures of one upload: each is wrapped, then stored like any object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import RefusedObject
from dicom_node.ingest.holding import HeldFile
from dicom_node.ingest.reports import FileReport, refused, take_dicom
from dicom_node.ingest.visit import IngestParts, Visit
from dicom_node.ingest.wrapping import PictureRequest
from dicom_node.uids import derived_uid

#: Largest PNG or JPEG file.
MAX_PICTURE_BYTES = 256 << 20
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class NamedPicture:
    """A picture that was held, and what its sender calls it."""

    name: str
    file: HeldFile


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of pictures: the study they belong to ("": one of their own), DICOM keyword → text."""

    study_instance_uid: str
    attributes: Mapping[str, str]


def take_pictures(
    visit: Visit, parts: IngestParts, pictures: Sequence[NamedPicture], words: Words, max_megapixels: int
) -> list[FileReport]:
    """Store pictures as one series, each content once, and tell of each. Raises `SpoolUnavailable`."""
    numbers: dict[str, int] = {}
    for picture in pictures:
        numbers.setdefault(picture.file.sha256, len(numbers) + 1)
    described = [f"{keyword}={value}" for keyword, value in sorted(words.attributes.items())]
    study = words.study_instance_uid or derived_uid("uploaded-study", *described, *numbers)
    reports = []
    for picture in pictures:
        target = parts.spool.new_part("held").finish()
        number = numbers[picture.file.sha256]
        request = PictureRequest(picture.file.path, target, words.attributes, study, number, max_megapixels)
        with HeldFile(target, ""):
            reports.append(_take(visit, parts, picture.name, request))
    return reports


def _take(visit: Visit, parts: IngestParts, name: str, request: PictureRequest) -> FileReport:
    try:
        parts.pictures.wrap(request)
    except RefusedObject as refusal:
        return refused(name, str(refusal))
    return take_dicom(visit, name, _pieces(request.target))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
