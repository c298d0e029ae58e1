"""What any object tells of itself: kind, study, maker, algorithm, and how far it may be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.inspect.described import HIDDEN
from dicom_node.inspect.words import (
    class_name,
    code_text,
    counted,
    first_item,
    items,
    meaning,
    moment,
    plain,
    short_uid,
    text_of,
)

_PATIENT = {
    "patient name": "PatientName",
    "patient ID": "PatientID",
    "birth date": "PatientBirthDate",
    "accession number": "AccessionNumber",
}
_STATES = ("CompletionFlag", "VerificationFlag", "PreliminaryFlag", "BurnedInAnnotation")
_PROCESSING = "109102"


def facts(dataset: Dataset, *, show_patient: bool) -> Iterator[tuple[str, str]]:
    """Return what is known, in words; what is absent is left out."""
    told = (*_what(dataset), *_whose(dataset, show_patient=show_patient), *_by_whom(dataset), *_how_sure(dataset))
    return ((name, text) for name, text in told if text)


def _what(dataset: Dataset) -> Iterator[tuple[str, str]]:
    uid = plain(dataset.get("SOPClassUID"))
    yield "SOP class", f"{class_name(uid)} ({uid})"
    yield "SOP instance", text_of(dataset, "SOPInstanceUID")
    number = text_of(dataset, "SeriesNumber")
    yield "series", " ".join((number and f"#{number}", text_of(dataset, "SeriesDescription"))).strip()
    yield "instance number", text_of(dataset, "InstanceNumber")
    yield "modality", text_of(dataset, "Modality")
    syntax = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    yield "transfer syntax", UID(syntax).name if syntax else ""
    yield "character set", text_of(dataset, "SpecificCharacterSet")


def _whose(dataset: Dataset, *, show_patient: bool) -> Iterator[tuple[str, str]]:
    for name, keyword in _PATIENT.items():
        value = text_of(dataset, keyword)
        yield name, value if show_patient or not value else HIDDEN
    study = (moment(dataset, "Study"), text_of(dataset, "StudyDescription"), short_uid(dataset.get("StudyInstanceUID")))
    yield "study", ", ".join(part for part in study if part)


def _by_whom(dataset: Dataset) -> Iterator[tuple[str, str]]:
    made_by = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")
    yield "made by", " ".join(text_of(dataset, keyword) for keyword in made_by).strip()
    yield "made at", moment(dataset, "Content") or moment(dataset, "InstanceCreation")
    for one in items(dataset, "ContributingEquipmentSequence"):
        purpose = first_item(one, "PurposeOfReferenceCodeSequence")
        name = "algorithm" if code_text(purpose).startswith(f"{_PROCESSING} ") else meaning(purpose).lower()
        yield name or "equipment", " ".join(text_of(one, keyword) for keyword in made_by).strip()


def _how_sure(dataset: Dataset) -> Iterator[tuple[str, str]]:
    states = (text_of(dataset, keyword) for keyword in _STATES if keyword != "BurnedInAnnotation")
    yield "state", ", ".join(state for state in states if state)
    yield "remark", text_of(dataset, "CompletionFlagDescription") or text_of(dataset, "ImageComments")
    burned = text_of(dataset, "BurnedInAnnotation")
    yield "burned-in annotation", burned
    for earlier in items(dataset, "PredecessorDocumentsSequence"):
        yield "replaces", ", ".join(_instances(earlier))
    evidence = [
        name for study in items(dataset, "CurrentRequestedProcedureEvidenceSequence") for name in _classes(study)
    ]
    yield "evidence", counted(evidence)
    yield "made from", counted(class_name(i.get("ReferencedSOPClassUID")) for i in _sources(dataset))


def _sources(dataset: Dataset) -> list[Dataset]:
    return items(dataset, "SourceImageSequence") or items(dataset, "SourceInstanceSequence")


def _references(study: Dataset) -> Iterator[Dataset]:
    for series in items(study, "ReferencedSeriesSequence"):
        yield from items(series, "ReferencedSOPSequence")


def _classes(study: Dataset) -> list[str]:
    return [class_name(one.get("ReferencedSOPClassUID")) for one in _references(study)]


def _instances(study: Dataset) -> list[str]:
    return [
        f"{class_name(one.get('ReferencedSOPClassUID'))} {short_uid(one.get('ReferencedSOPInstanceUID'))}"
        for one in _references(study)
    ]
