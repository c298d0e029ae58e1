"""Selections of objects (KOS): the images worth opening first, and the rejection note about replaced objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node.analysis.answer import (
    Analysis,
    NotAnalysed,
    Saliency,
    WithdrawnObject,
    WrittenObject,
    frame_number_of,
    whole_objects,
)
from dicom_node.core.artifact_kinds import IMAGE_CLASSES
from dicom_node.core.entities import ArtifactKind, Finding, Presence, Region
from dicom_node.core.outputs import OutputSet
from dicom_node.sr_writer.documents.selection import Selected, Selection, key_object_selection
from dicom_node.sr_writer.geometry import key_slices
from dicom_node.sr_writer.source_frames import shows
from dicom_node.sr_writer.text import percent
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
    return finding.label if finding.probability is None else f"{finding.label} {percent(finding.probability)}"


# --- the rejection note (IHE RAD TF-3 4.66, Rejection Note Stored) ---------------------------------------------------

REJECTION_SERIES_NUMBER = 9908


def rejection_notes(writing: Writing, wanted: OutputSet, made: Sequence[WrittenObject]) -> Iterator[WrittenObject]:
    """Make the one note for the readers of an output set, if they hold anything that is outdated.

    `made` is what this result itself makes: the same inputs give the same objects, and those stay valid.
    """
    made_uids = {str(one.dataset.SOPInstanceUID) for one in made}
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
        selected=[_selected_rejection_note(one) for one in withdrawn],
    )
    yield WrittenObject(
        kind=ArtifactKind.REJECTION_NOTE,
        dataset=key_object_selection(selection, writing.identity),
        order=1,
        description=f"Rejection note: {len(withdrawn)} replaced objects",
    )


def _selected_rejection_note(withdrawn: WithdrawnObject) -> Selected:
    return Selected(
        sop_class_uid=withdrawn.sop_class_uid,
        sop_instance_uid=withdrawn.sop_instance_uid,
        series_instance_uid=withdrawn.series_instance_uid,
        is_image=withdrawn.sop_class_uid in IMAGE_CLASSES,
    )
