"""A chest CT that a node holds with everything that was written about it: rows in its index, files beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset
from sqlalchemy import Connection, insert

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.written import WrittenObject, summarise
from dicom_node.core.entities import Instance, InstanceRole, JobState, PatientNumber, SendingPeer, StudyState
from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.tables import artifacts
from dicom_node.index.transitions import Change, move_study
from dicom_node.sr_writer import to_part10, write_objects
from dicom_node.storage.digest import file_sha256
from tests.support.results import analysis_examples as examples
from tests.support.results.rows import Rows, key_of

_CT1 = SendingPeer("CT1", "AINODE", "10.1.2.20")
PATIENT = "PHANTOM-READ"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStudy:
    """What a reader opens: a study, its result, and where the emphysema is outlined."""

    study_uid: str
    job_key: str
    answer: Analysis
    slices: int


def keep_study(database: Database, folder: Path, name: str, *, answer: Analysis, study_date: str) -> KeptStudy:
    """Enter the images of an answer and what is written about it; the files go into `folder`."""
    key = key_of(name)
    written = write_objects(answer, examples.context(job_key=key))
    first = answer.sources[0]
    study = str(first.StudyInstanceUID)
    with database.write() as connection:
        add_instances(connection, [_kept(one, folder, study_date) for one in answer.sources])
        for state in (StudyState.COMPLETE, StudyState.ANALYSING, StudyState.REPORTED):
            move_study(connection, study, state, Change(datetime.now(UTC)))
        rows = Rows(connection, folder, datetime.now(UTC))
        series = {"series_instance_uid": str(first.SeriesInstanceUID), "job_key": key}
        rows.job(study, name, answer.model.name, JobState.DONE, 60, **series)
        rows.result(study, name, answer.model, JobState.DONE, summary=summarise(answer))
        _keep_objects(connection, folder, key, written)
    return KeptStudy(study_uid=study, job_key=key, answer=answer, slices=len(answer.sources))


def ct_images(seed: str, *, slices: int = 24, description: str = "CT chest") -> list[Dataset]:
    """Return a chest CT phantom of the patient whose studies are read."""
    images, _ = chest_ct_phantom(seed, slices=slices, rows=128, slice_spacing_mm=312 / slices)
    for one in images:
        one.PatientID, one.StudyDescription = PATIENT, description
    return images


def _kept(image: Dataset, folder: Path, study_date: str) -> Instance:
    image.StudyDate = study_date
    path = folder / f"{image.SOPInstanceUID}.dcm"
    path.write_bytes(to_part10(image))
    return Instance(
        sop_instance_uid=str(image.SOPInstanceUID), sop_class_uid=str(image.SOPClassUID),
        transfer_syntax_uid="1.2.840.10008.1.2.1", study_instance_uid=str(image.StudyInstanceUID),
        series_instance_uid=str(image.SeriesInstanceUID), sha256=file_sha256(path), size_bytes=path.stat().st_size,
        object_key=path.name, role=InstanceRole.SOURCE, attributes=_told(image), received_at=datetime.now(UTC),
        sender=_CT1, patient=PatientNumber(str(image.PatientID), ""),
    )  # fmt: skip


def _told(image: Dataset) -> dict[str, str]:
    return {
        "modality": str(image.Modality), "study_date": str(image.StudyDate),
        "study_description": str(image.StudyDescription), "series_description": str(image.SeriesDescription),
        "body_part_examined": str(image.BodyPartExamined),
    }  # fmt: skip


def _keep_objects(connection: Connection, folder: Path, key: str, written: Iterable[WrittenObject]) -> None:
    for one in written:
        uid = str(one.dataset.SOPInstanceUID)
        path = folder / f"{uid}.dcm"
        path.write_bytes(to_part10(one.dataset))
        connection.execute(insert(artifacts).values(
            uid=uid, job_key=key, kind=one.kind.value, media_type="application/dicom", description=one.description,
            sop_class_uid=str(one.dataset.SOPClassUID), series_instance_uid=str(one.dataset.SeriesInstanceUID),
            object_key=path.name, sha256=file_sha256(path), size_bytes=path.stat().st_size,
            preview_key=_keep_picture(folder, one.preview_png), send_order=one.order,
        ))  # fmt: skip


def _keep_picture(folder: Path, png: bytes | None) -> str:
    if png is None:
        return ""
    name = f"{hashlib.sha256(png).hexdigest()}.png"
    (folder / name).write_bytes(png)
    return name
