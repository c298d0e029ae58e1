"""What any object tells of itself: kind, study, maker, algorithm, how far it may be trusted; and its content tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.inspect.described import (
    HIDDEN,
    ContentItem,
    class_name,
    code_text,
    counted,
    day,
    first_item,
    items,
    meaning,
    meaning_in,
    moment,
    plain,
    reference_text,
    short_uid,
    text_of,
    time_of_day,
    unit_text,
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


# --- the content tree of any document (PS3.3 C.17.3) -----------------------------------------------------------------

#: Subject name, identifier, birth date (PS3.16 TID 1007).
_PATIENT_CODES = frozenset({"121029", "121030", "121031"})
_TITLES = {"1500": "Measurement Report", "2010": "Key Object Selection", "2000": "Basic Diagnostic Imaging Report"}


def content_tree(item: Dataset, *, show_patient: bool) -> ContentItem:
    """Return an item of the content with all below it."""
    name = first_item(item, "ConceptNameCodeSequence")
    value = first_item(item, "ConceptCodeSequence")
    return ContentItem(
        name=meaning(name),
        value=_shown(item, name, show_patient=show_patient),
        value_type=text_of(item, "ValueType"),
        relationship=text_of(item, "RelationshipType").lower(),
        name_code=code_text(name),
        value_code=code_text(value),
        template=_template(item),
        children=tuple(content_tree(child, show_patient=show_patient) for child in items(item, "ContentSequence")),
    )


def _template(item: Dataset) -> str:
    identifier = text_of(first_item(item, "ContentTemplateSequence"), "TemplateIdentifier")
    return f"TID {identifier} {_TITLES.get(identifier, '')}".strip() if identifier else ""


def _shown(item: Dataset, name: Dataset, *, show_patient: bool) -> str:
    value_type = text_of(item, "ValueType")
    if not show_patient and (value_type == "PNAME" or text_of(name, "CodeValue") in _PATIENT_CODES):
        return HIDDEN
    if "ReferencedContentItemIdentifier" in item:
        return f"see item {plain(item.ReferencedContentItemIdentifier).replace(', ', '.')}"
    return _VALUES.get(value_type, _nothing)(item)


def _nothing(_item: Dataset) -> str:
    return ""


def _number(item: Dataset) -> str:
    measured = first_item(item, "MeasuredValueSequence")
    if "NumericValue" not in measured:
        return f"no value: {meaning_in(item, 'NumericValueQualifierCodeSequence') or 'no reason given'}"
    unit = unit_text(first_item(measured, "MeasurementUnitsCodeSequence"))
    return f"{text_of(measured, 'NumericValue')} {unit}".strip()


def _reference(item: Dataset) -> str:
    return ", ".join(reference_text(one) for one in items(item, "ReferencedSOPSequence"))


def _region(item: Dataset) -> str:
    """Return shape, count of points and bounding box of coordinates in pixels or millimetres (PS3.3 C.18.6, C.18.9)."""
    dimensions, unit = (3, "mm") if text_of(item, "ValueType") == "SCOORD3D" else (2, "px")
    values = [float(value) for value in item.get("GraphicData") or ()]
    points = [values[start : start + dimensions] for start in range(0, len(values), dimensions)]
    boxes = [f"{min(axis):g}..{max(axis):g}" for axis in zip(*points, strict=False)]
    count = f"{len(points)} point{'' if len(points) == 1 else 's'}"
    return f"{text_of(item, 'GraphicType')}, {count}, {' x '.join(boxes)} {unit}"


def _times(item: Dataset) -> str:
    positions = ("ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime")
    return " ".join((text_of(item, "TemporalRangeType"), *(text_of(item, keyword) for keyword in positions))).strip()


_VALUES: dict[str, Callable[[Dataset], str]] = {
    "CODE": lambda item: meaning_in(item, "ConceptCodeSequence"),
    "NUM": _number,
    "TEXT": lambda item: text_of(item, "TextValue"),
    "PNAME": lambda item: text_of(item, "PersonName"),
    "DATE": lambda item: day(text_of(item, "Date")),
    "TIME": lambda item: time_of_day(text_of(item, "Time")),
    "DATETIME": lambda item: text_of(item, "DateTime"),
    "UIDREF": lambda item: short_uid(item.get("UID")),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _region,
    "SCOORD3D": _region,
    "TCOORD": _times,
}
