"""Rejection notes as modalities and archives write them (IHE IOCM): Key Object Selection documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.core.received.rejections import KEY_OBJECT_SELECTION
from dicom_node.core.uids import derived_uid

QUALITY, SAFETY = "113001", "113037"


def rejection_note(
    images: Sequence[Dataset], name: str = "note", *, title: str = QUALITY, study: str = "", patient_id: str = ""
) -> Dataset:
    """Return a note that names these images, in the study of the first of them unless another is told."""
    first = images[0]
    note = Dataset()
    note.SOPClassUID, note.SOPInstanceUID = UID(KEY_OBJECT_SELECTION), derived_uid("test-note", name)
    note.Modality, note.Manufacturer = "KO", "ACME"
    note.StudyInstanceUID = study or first.StudyInstanceUID
    note.SeriesInstanceUID = derived_uid("test-note-series", name)
    for keyword in ("PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber"):
        note[keyword] = first[keyword]
    note.PatientID = patient_id or first.PatientID
    note.SeriesNumber = note.InstanceNumber = "1"
    note.ValueType, note.ContinuityOfContent = "CONTAINER", "SEPARATE"
    note.ConceptNameCodeSequence = [_code(title)]
    note.CurrentRequestedProcedureEvidenceSequence = [
        _evidence([one for one in images if one.StudyInstanceUID == uid])
        for uid in dict.fromkeys(one.StudyInstanceUID for one in images)
    ]
    note.ContentSequence = [_selected(one) for one in images]
    note.file_meta = FileMetaDataset()
    note.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return note


def saved_note(note: Dataset, folder: Path) -> Path:
    """Write a note into a new folder and return the folder."""
    folder.mkdir()
    note.save_as(folder / "note.dcm", enforce_file_format=True)
    return folder


def _code(value: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", "Rejected"
    return code


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _selected(image: Dataset) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ReferencedSOPSequence = "CONTAINS", "IMAGE", [_reference(image)]
    return item


def _evidence(images: Sequence[Dataset]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = images[0].StudyInstanceUID, []
    for uid in dict.fromkeys(one.SeriesInstanceUID for one in images):
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = [_reference(one) for one in images if one.SeriesInstanceUID == uid]
        study.ReferencedSeriesSequence.append(series)
    return study
