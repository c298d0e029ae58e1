"""The content tree of a structured report, key objects or a rejection note, of whatever template (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset

from dicom_node.inspect.described import HIDDEN, Node
from dicom_node.inspect.words import (
    code_text,
    day,
    first_item,
    items,
    meaning,
    meaning_in,
    plain,
    reference_text,
    short_uid,
    text_of,
    time_of_day,
    unit_text,
)

#: Subject name, identifier, birth date (PS3.16 TID 1007).
_PATIENT_CODES = frozenset({"121029", "121030", "121031"})
_TITLES = {"1500": "Measurement Report", "2010": "Key Object Selection", "2000": "Basic Diagnostic Imaging Report"}


def content_tree(item: Dataset, *, show_patient: bool) -> Node:
    """Return an item of the content with all below it."""
    name = first_item(item, "ConceptNameCodeSequence")
    value = first_item(item, "ConceptCodeSequence")
    return Node(
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
