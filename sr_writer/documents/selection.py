"""A Key Object Selection document: a title, a sentence, and the objects it is about (PS3.3 A.35.4, PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.sr_writer.identity import ResultIdentity, code_item, stamp
from dicom_node.sr_writer.report.statements import referenced_requests
from dicom_node.sr_writer.text import ascii_text

_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
_TEXT_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One object the document is about; `is_image` tells how it is referred to, `frame_numbers` which frames of it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    is_image: bool
    frame_numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What one document says: `role` seeds its UIDs, and so does what is selected."""

    role: tuple[str, ...]
    title: Code
    description: str
    series_description: str
    series_number: int
    selected: Sequence[Selected]


def key_object_selection(selection: Selection, identity: ResultIdentity) -> Dataset:
    """Return the document; what it is about must be of the study of the result."""
    dataset = Dataset()
    dataset.SOPClassUID = KeyObjectSelectionDocumentStorage
    # The same job may later choose otherwise, and other content is another object.
    dataset.SOPInstanceUID = identity.uid(*selection.role, *(one.sop_instance_uid for one in selection.selected))
    dataset.SeriesInstanceUID = identity.uid(*selection.role, "series")
    dataset.SeriesNumber = selection.series_number
    dataset.InstanceNumber = 1
    dataset.Modality = "KO"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.ReferencedRequestSequence = referenced_requests(identity.source)
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(selection.selected, identity)]
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code_item(selection.title)]
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentTemplateSequence = [_template()]
    dataset.ContentSequence = [*_content(selection, identity)]
    if not dataset.ReferencedRequestSequence:
        del dataset.ReferencedRequestSequence
    stamp(dataset, identity, selection.series_description)
    return dataset


def _content(selection: Selection, identity: ResultIdentity) -> Iterator[Dataset]:
    """Say which device chose (TID 1002), what for, and what."""
    model = identity.model
    yield _coded("HAS OBS CONTEXT", dictionary.DCM.ObserverType, dictionary.DCM.Device)
    yield _uid("HAS OBS CONTEXT", dictionary.DCM.DeviceObserverUID, model.device_uid)
    yield _text("HAS OBS CONTEXT", dictionary.DCM.DeviceObserverName, identity.context.ae_title)
    yield _text("HAS OBS CONTEXT", dictionary.DCM.DeviceObserverManufacturer, model.manufacturer)
    yield _text("HAS OBS CONTEXT", dictionary.DCM.DeviceObserverModelName, f"{model.name} {model.version}")
    yield _text("CONTAINS", _DESCRIPTION, f"{identity.marking}. {selection.description}")
    for one in selection.selected:
        yield _reference(one)


def _reference(selected: Selected) -> Dataset:
    """Refer to an object without naming a purpose, as the template wants it."""
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "IMAGE" if selected.is_image else "COMPOSITE"
    reference = _sop_reference(selected)
    if selected.frame_numbers:
        reference.ReferencedFrameNumber = list(selected.frame_numbers)
    item.ReferencedSOPSequence = [reference]
    return item


def _evidence(selected: Sequence[Selected], identity: ResultIdentity) -> Dataset:
    """List every object once, by its series (PS3.3 C.17.2.1)."""
    series: dict[str, dict[str, Selected]] = {}
    for one in selected:
        series.setdefault(one.series_instance_uid, {}).setdefault(one.sop_instance_uid, one)
    study = Dataset()
    study.StudyInstanceUID = identity.source.StudyInstanceUID
    study.ReferencedSeriesSequence = [_series_item(uid, objects.values()) for uid, objects in series.items()]
    return study


def _series_item(series_instance_uid: str, selected: Iterable[Selected]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedSOPSequence = [_sop_reference(one) for one in selected]
    return item


def _sop_reference(selected: Selected) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = selected.sop_class_uid
    item.ReferencedSOPInstanceUID = selected.sop_instance_uid
    return item


def _template() -> Dataset:
    item = Dataset()
    item.MappingResource = "DCMR"
    item.TemplateIdentifier = "2010"
    return item


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [code_item(name)]
    return item


def _coded(relationship: str, name: Code, value: Code) -> Dataset:
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [code_item(value)]
    return item


def _uid(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "UIDREF", name)
    item.UID = value
    return item


def _text(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "TEXT", name)
    item.TextValue = ascii_text(value)[:_TEXT_LIMIT]
    return item
