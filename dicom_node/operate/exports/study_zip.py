"""A study with its results as one archive: objects as they are kept, or without their patient, and what they say.

Plain folders and no DICOMDIR: ``images/SERIES/INSTANCE.dcm``, ``results/…``, and at the end ``manifest.json``, which
says of every file its sha256, and of what is not in the archive why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node import PRODUCT_NAME, __version__
from dicom_node.core.csv_lines import csv_lines
from dicom_node.core.entities import ResultState
from dicom_node.core.errors import InferenceError, NotFound, WorkerDied
from dicom_node.deidentification.profile import DeidentificationProfile
from dicom_node.deidentification.pseudonyms import Pseudonyms
from dicom_node.index.database import Database
from dicom_node.index.views.exported import OriginatedResult, with_origin
from dicom_node.index.views.study import kept_artifacts, made_objects, received_objects, results
from dicom_node.index.views.types import KeptArtifact, KeptDicomObject, ResultView
from dicom_node.operate.exports.deidentifying import Deidentifying, deidentifying
from dicom_node.operate.exports.labels import labels_of
from dicom_node.operate.exports.result_columns import RESULT_COLUMNS, rows_of
from dicom_node.operate.exports.zip_stream import ZipEntry, ZipStream, pieces_of
from dicom_node.operate.stored_pages import EnclosedPage, StoredPage, StoredPages, set_page
from dicom_node.storage.digest import is_damaged

MANIFEST = "manifest.json"
_DAMAGED = "its file is gone or damaged"
_SUFFIXES = {"application/dicom": "dcm", "application/fhir+json": "json", "application/hl7-v2": "hl7"}
#: Writes a result as JSON, as the API tells it.
AsJson = Callable[[ResultView], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutPatient:
    """How patients are taken out: the profile, and the secret of the pseudonyms."""

    profile: DeidentificationProfile
    key: bytes

    def pseudonym(self, uid: str) -> str:
        """Return the UID that stands for another; it depends on nobody's number."""
        return Pseudonyms(self.key, ()).uid(uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContent:
    """What the archive of a study is made from, as it was in one look at the index."""

    study_instance_uid: str
    images: Sequence[KeptDicomObject]
    made: Sequence[KeptDicomObject]
    others: Sequence[KeptArtifact]
    results: Sequence[OriginatedResult]
    pages: Sequence[tuple[ResultView, EnclosedPage | StoredPage]]


def content_of(database: Database, pages: StoredPages, study_instance_uid: str) -> StudyContent:
    """Look at a study once. Raises `NotFound`."""
    with database.read() as connection:
        found = results(connection, study_instance_uid)
        holding = [one for one in found if one.standing is ResultState.CURRENT and not one.shadow_of]
        return StudyContent(
            study_instance_uid=study_instance_uid,
            images=received_objects(connection, study_instance_uid),
            made=made_objects(connection, study_instance_uid),
            others=kept_artifacts(connection, [one.job_key for one in holding]),
            results=with_origin(connection, found),
            pages=[(one, pages.wanted(connection, one)) for one in holding],
        )


@dataclass(slots=True, kw_only=True)
class StudyZip:
    """Writes the archive of one study, once. `without` is `None` for one that is as it is kept."""

    content: StudyContent
    file_of: Callable[[str], Path]
    as_json: AsJson
    made_at: datetime
    without: WithoutPatient | None = None
    _left_out: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the archive is called: by the study, or by its pseudonym."""
        uid = self.content.study_instance_uid
        return f"{uid if self.without is None else self.without.pseudonym(uid)}.zip"

    def pieces(self) -> Iterator[bytes]:
        """Yield the archive piece by piece."""
        stream = ZipStream(self.made_at)
        yield from stream.bytes_of(self._entries(stream))

    def _entries(self, stream: ZipStream) -> Iterator[ZipEntry]:
        if self.without is None:
            yield from self._as_kept()
        else:
            yield from self._without_patient(self.without)
        yield ZipEntry(MANIFEST, lambda: [_json(self._manifest(stream))])

    # --- as it is kept ---------------------------------------------------------------------------------------------

    def _as_kept(self) -> Iterator[ZipEntry]:
        for folder, objects in (("images", self.content.images), ("results", self.content.made)):
            for one in objects:
                name = f"{folder}/{one.series_instance_uid}/{one.sop_instance_uid}.dcm"
                yield from self._file(name, one.object_key, one.sha256)
        for other in self.content.others:
            suffix = _SUFFIXES.get(other.media_type, "bin")
            yield from self._file(f"results/{other.kind}/{other.uid}.{suffix}", other.object_key, other.sha256)
        told = [self.as_json(one.result) for one in self.content.results]
        yield ZipEntry("results/results.json", lambda: [_json({"results": told})])
        yield ZipEntry("results/results.csv", self._csv)
        for number, (result, page) in enumerate(self.content.pages, 1):
            yield from self._page(f"results/{number}-{_plain(result.route)}.pdf", page)

    def _file(self, name: str, object_key: str, sha256: str) -> Iterator[ZipEntry]:
        path = self._whole(object_key, sha256)
        if path is None:
            self._leave_out(name, _DAMAGED)
        else:
            yield ZipEntry(name, lambda: pieces_of(path))

    def _csv(self) -> Iterator[bytes]:
        rows = (row for one in self.content.results for row in rows_of(one))
        return (line.encode() for line in csv_lines(RESULT_COLUMNS, rows))

    def _page(self, name: str, page: EnclosedPage | StoredPage) -> Iterator[ZipEntry]:
        try:
            document = set_page(page)
        except (InferenceError, WorkerDied) as error:
            self._leave_out(name, str(error))
        else:
            yield ZipEntry(name, lambda: [document])

    # --- without the patient ---------------------------------------------------------------------------------------

    def _without_patient(self, without: WithoutPatient) -> Iterator[ZipEntry]:
        with deidentifying(without.profile, without.key) as process:
            for folder, objects in (("images", self.content.images), ("results", self.content.made)):
                for one in objects:
                    yield from self._taken(folder, one, process)
        labels = [labels_of(one.result, without.pseudonym) for one in self.content.results]
        yield ZipEntry("results/labels.json", lambda: [_json({"results": labels})])

    def _taken(self, folder: str, one: KeptDicomObject, process: Deidentifying) -> Iterator[ZipEntry]:
        path = self._whole(one.object_key, one.sha256)
        if path is None:
            self._leave_out(folder, _DAMAGED)
            return
        taken = process.take(path)
        if taken.why_not:
            self._leave_out(folder, taken.why_not)
            return
        name = f"{folder}/{taken.series_instance_uid}/{taken.sop_instance_uid}.dcm"
        yield ZipEntry(name, lambda: pieces_of(process.file))

    def _whole(self, object_key: str, sha256: str) -> Path | None:
        """Return the file of an object, if its bytes are those that were kept."""
        try:
            path = self.file_of(object_key)
        except NotFound:
            return None
        return None if is_damaged(path, sha256) else path

    # --- what is said of it ----------------------------------------------------------------------------------------

    def _leave_out(self, name: str, why: str) -> None:
        self._left_out.append({"name": name, "why": why})

    def _manifest(self, stream: ZipStream) -> Mapping[str, object]:
        return {
            "study_instance_uid": self.name.removesuffix(".zip"),
            "made_by": f"{PRODUCT_NAME} {__version__}",
            "made_at": self.made_at.isoformat(),
            "deidentified": None if self.without is None else _profile(self.without.profile),
            "files": [asdict(one) for one in stream.written],
            "left_out": self._left_out,
        }


def _profile(profile: DeidentificationProfile) -> Mapping[str, object]:
    return {"profile": profile.name, "methods": [f"{code.value} {code.meaning}" for code in profile.methods]}


def _plain(route: str) -> str:
    """Return the name of a route as every file system takes it."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in route)


def _json(told: object) -> bytes:
    return json.dumps(told, ensure_ascii=False, indent=1, default=str).encode()
