"""Selections of objects (KOS): the images worth opening first, and the rejection note about replaced objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.analysis.answer import Analysis, NotAnalysed, Saliency, frame_number_of, whole_objects
from dicom_node.analysis.context import WithdrawnObject
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind, Finding, Presence, Region
from dicom_node.core.outputs.artifact_kinds import IMAGE_CLASSES, OutputSet
from dicom_node.sr_writer.geometry import key_slices
from dicom_node.sr_writer.identity import ResultIdentity, code_item, stamp
from dicom_node.sr_writer.report.statements import referenced_requests
from dicom_node.sr_writer.source_frames import shows
from dicom_node.sr_writer.text import ascii_text, percent
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9906
#: A list of more images singles none out.
_MOST_IMAGES = 20
#: A study of so few images is opened whole: then all of them show what was found.
_FEW_IMAGES = 4


def key_object_selections(writing: Writing, _variant: object) -> Iterator[WrittenObject]:
    """Make the one document of an analysis in which anything is of interest."""
    answer = writing.answer
    if isinstance(answer, NotAnalysed):
        return
    indices = key_image_indices(answer)
    if not indices:
        return
    selection = Selection(
        role=("key-objects",),
        title=dictionary.DCM.OfInterest,
        description=_description(answer),
        series_description=f"key images {answer.model.name}",
        series_number=SERIES_NUMBER,
        selected=_selected([answer.sources[index] for index in indices]),
    )
    yield WrittenObject(
        kind=ArtifactKind.KEY_OBJECTS,
        dataset=key_object_selection(selection, writing.identity),
        order=1,
        description=f"Key images: {len(indices)}",
    )


def key_image_indices(analysis: Analysis) -> list[int]:
    """Return which sources show what is of interest: most telling first, none when everything is absent.

    A finding that is present is shown by its region, its heat map or its segment, and the model's own key slices come
    along. Where there is nothing of these, the slices that the pictures show, or all images of a study of few.
    """
    of_interest = [finding for finding in analysis.findings if _is_of_interest(finding)]
    if not of_interest:
        return []
    shown = [index for finding in of_interest for index in _showing(finding, analysis)]
    shown = [*analysis.key_slices, *shown] or list(key_slices(analysis))
    if not shown and len(whole_objects(analysis.sources)) <= _FEW_IMAGES:
        shown = list(range(len(analysis.sources)))
    return list(dict.fromkeys(shown))[:_MOST_IMAGES]


def _is_of_interest(finding: Finding) -> bool:
    """Whether it was found, or measured without the question whether it is there."""
    return finding.presence is Presence.PRESENT or (finding.presence is None and bool(finding.measurements))


def _showing(finding: Finding, analysis: Analysis) -> Iterator[int]:
    marks: list[Region | Saliency] = [finding.region] if finding.region is not None else []
    marks += [saliency for saliency in analysis.saliencies if saliency.finding_key == finding.key]
    for index, source in enumerate(analysis.sources):
        if any(shows(source, mark) for mark in marks):
            yield index
    if finding.presence is Presence.PRESENT:
        for segment in analysis.segments:
            if segment.finding_key == finding.key and segment.mask.any():
                yield int(segment.mask.sum(axis=(1, 2)).argmax())


def _selected(sources: list[Dataset]) -> list[Selected]:
    """Refer to each object once, with all its frames of interest."""
    return [
        Selected(
            sop_class_uid=str(image.SOPClassUID),
            sop_instance_uid=str(image.SOPInstanceUID),
            series_instance_uid=str(image.SeriesInstanceUID),
            is_image=True,
            frame_numbers=tuple(
                sorted(
                    number
                    for source in sources
                    if source.SOPInstanceUID == image.SOPInstanceUID and (number := frame_number_of(source)) is not None
                )
            ),
        )
        for image in whole_objects(sources)
    ]


def _description(analysis: Analysis) -> str:
    said = [_in_words(finding) for finding in analysis.findings if _is_of_interest(finding)]
    return f"{analysis.model.name} {analysis.model.version}: {'; '.join(said)}."


def _in_words(finding: Finding) -> str:
    return finding.label if finding.probability is None else f"{finding.label}, score {percent(finding.probability)}"


# --- the rejection note (IHE RAD TF-3 4.66, Rejection Note Stored) ---------------------------------------------------

REJECTION_SERIES_NUMBER = 9908


def rejection_notes(writing: Writing, wanted: OutputSet, made: Sequence[WrittenObject]) -> Iterator[WrittenObject]:
    """Make the one note for the readers of an output set, if they hold anything that is outdated.

    `made` is what this result itself makes: the same inputs give the same objects, and those stay valid. So does what
    it keeps of the result that it reviews.
    """
    made_uids = {str(one.dataset.SOPInstanceUID) for one in made}
    made_uids |= {one.sop_instance_uid for one in writing.identity.context.kept}
    withdrawn = [
        one
        for one in writing.identity.context.withdrawn
        if wanted.key in one.output_keys and one.sop_instance_uid not in made_uids
    ]
    if not withdrawn:
        return
    selection = Selection(
        role=("rejection-note", wanted.key),
        title=dictionary.DCM.RejectedForQualityReasons,
        description=f"Replaced by a newer AI result about the same study: {len(withdrawn)} outdated objects.",
        series_description=f"replaced results {writing.identity.model.name}",
        series_number=REJECTION_SERIES_NUMBER,
        selected=[_withdrawn(one) for one in withdrawn],
    )
    yield WrittenObject(
        kind=ArtifactKind.REJECTION_NOTE,
        dataset=key_object_selection(selection, writing.identity),
        order=1,
        description=f"Rejection note: {len(withdrawn)} replaced objects",
    )


def _withdrawn(withdrawn: WithdrawnObject) -> Selected:
    return Selected(
        sop_class_uid=withdrawn.sop_class_uid,
        sop_instance_uid=withdrawn.sop_instance_uid,
        series_instance_uid=withdrawn.series_instance_uid,
        is_image=withdrawn.sop_class_uid in IMAGE_CLASSES,
    )


# --- the document itself ---------------------------------------------------------------------------------------------
#
# A title, a sentence, and the objects it is about (PS3.3 A.35.4, PS3.16 TID 2010).

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
