"""What every builder of a result starts from, what it hands back, and how its datasets become bytes."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath
from typing import Protocol, TypeVar

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.written import NotMade, Picture, WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import ARTIFACT_KINDS, Choice, OutputSet
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.sr_writer.identity import ResultIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """One answer about to be written. `pictures` are empty when no destination wants anything that shows them."""

    answer: Analysis | NotAnalysed
    identity: ResultIdentity
    pictures: Sequence[Picture]


class Build(Protocol):
    """Make the objects of one kind; `variant` is what the output sets say of it (``binary``; ``True``).

    `order` and `output_keys` of what is yielded are set by the caller. An answer the kind has nothing to say about
    (no masks, nothing analysed) yields nothing.
    """

    def __call__(self, writing: Writing, variant: Choice, /) -> Iterator[WrittenObject]: ...


class BuildForSet(Protocol):
    """Make the objects of one kind for one output set; `made` are the set's other objects so far."""

    def __call__(
        self, writing: Writing, wanted: OutputSet, made: Sequence[WrittenObject], /
    ) -> Iterator[WrittenObject]: ...


# --- a kind that cannot be made must not cost the report -------------------------------------------------------------

T = TypeVar("T")

#: What builders of objects raise on values they do not expect. Not `NotAnalysable`, since then nothing may be written;
#: and neither lack of memory nor of a disk, which a further attempt may have.
BUILD_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ImagesLack(Exception):
    """The images lack what objects of a kind must have, so that none can be made; `what` names the attributes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The images lack {what}.")
        self.what = what


class Attempt:
    """Makes kind by kind; errors of the classes `passed_over` end a kind and are noted, all others are raised."""

    def __init__(self, passed_over: tuple[type[Exception], ...]) -> None:
        self._passed_over = passed_over
        self.not_made: list[NotMade] = []

    def made(self, kind: ArtifactKind, objects: Iterable[T]) -> list[T]:
        """Return the objects as far as they can be made."""
        made: list[T] = []
        try:
            for one in objects:
                made.append(one)  # noqa: PERF402 - what is made before an error counts
        except ImagesLack as lack:
            self._note(kind, lack, len(made), lack.what)
        except self._passed_over as error:
            self._note(kind, error, len(made))
        return made

    def _note(self, kind: ArtifactKind, error: Exception, made: int, lacks: str = "") -> None:
        name, where = ARTIFACT_KINDS[kind].readers_say, _origin(error)
        note = NotMade(kind=kind, name=name, error=type(error).__name__, where=where, made=made, lacks=lacks)
        self.not_made.append(note)


def _origin(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{PurePath(frame.filename).name}:{frame.lineno}"


# --- a dataset becomes bytes, equal ones equal bytes -----------------------------------------------------------------


def to_part10(dataset: Dataset) -> bytes:
    """Encode `dataset` as a PS3.10 file in Explicit VR Little Endian, with this implementation's UID and version."""
    dataset.file_meta = _file_meta(dataset)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta
