"""Pictures of one upload: each is wrapped, then stored like any object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.core.uids import derived_uid
from dicom_node.ingest.session import FileReport, IngestParts, IngestSession, refused, take_dicom
from dicom_node.ingest.wrapping import PictureRequest
from dicom_node.storage.spool import Spool

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
    session: IngestSession, parts: IngestParts, pictures: Sequence[NamedPicture], words: Words, max_megapixels: int
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
            reports.append(_take(session, parts, picture.name, request))
    return reports


def _take(session: IngestSession, parts: IngestParts, name: str, request: PictureRequest) -> FileReport:
    try:
        parts.pictures.wrap(request)
    except RefusedObject as refusal:
        return refused(name, str(refusal))
    return take_dicom(session, name, _pieces(request.target))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


# --- files held in the spool while they are used -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file that is there until the `with` block ends."""

    path: Path
    sha256: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)


def hold(spool: Spool, pieces: Iterable[bytes], max_bytes: int) -> HeldFile:
    """Write a file down. Raises `RefusedObject` when it is too large, `SpoolUnavailable`, and whatever `pieces` raise;
    nothing is left behind then."""
    digest = hashlib.sha256()
    part = spool.new_part("held")
    is_whole = False
    try:
        for piece in pieces:
            digest.update(piece)
            part.write(piece)
            if part.size_bytes > max_bytes:
                raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, f"It has more than {max_bytes} bytes.")
        is_whole = True
    finally:
        if not is_whole:
            part.discard()
    return HeldFile(part.finish(), digest.hexdigest())
