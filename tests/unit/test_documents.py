"""Key objects, rejection note and the content of the PDF's page: what is chosen, said and left out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed, SourceFrame
from dicom_node.analysis.context import ReportContext, WithdrawnObject
from dicom_node.core.entities import ArtifactKind, Presence
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.reasons import meaning_of
from dicom_node.sr_writer import write_objects
from dicom_node.sr_writer.documents.key_objects import key_image_indices
from dicom_node.sr_writer.documents.page_content import page_content
from dicom_node.sr_writer.geometry import key_slices
from dicom_node.sr_writer.identity import identity_of
from dicom_node.sr_writer.text import image_named, looked_at
from dicom_node.sr_writer.writing import Writing
from tests.support.results import analysis_examples as examples

KEY_OBJECTS = OutputSet(key_objects=True, secondary_capture=False, segmentation="off")
REJECTION = OutputSet(rejection_note=True, secondary_capture=False, segmentation="off")
SECONDARY_CAPTURE, STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.34"


def made(answer: Analysis | NotAnalysed, kind: ArtifactKind, **changes: Any) -> list[Dataset]:
    """Return the objects of one kind that are written for these output sets."""
    context: ReportContext = examples.context(**changes)
    return [one.dataset for one in write_objects(answer, context) if one.kind is kind]


def references(document: Dataset) -> list[tuple[str, str]]:
    """Return value type and UID of everything the content refers to."""
    return [
        (item.ValueType, item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in document.ContentSequence
        if "ReferencedSOPSequence" in item
    ]


def evidence(document: Dataset) -> set[str]:
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    return {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}


# --- key objects ---


def test_the_image_with_a_finding_is_a_key_image() -> None:
    analysis = examples.radiograph_analysis()
    (document,) = made(analysis, ArtifactKind.KEY_OBJECTS, output_sets=(KEY_OBJECTS,))
    assert document.ConceptNameCodeSequence[0].CodeValue == "113000"
    assert references(document) == [("IMAGE", analysis.sources[0].SOPInstanceUID)]
    assert evidence(document) == {analysis.sources[0].SOPInstanceUID}
    (said,) = (
        item.TextValue
        for item in document.ContentSequence
        if item.RelationshipType == "CONTAINS" and "TextValue" in item
    )
    assert said == "AI - NOT VERIFIED. cxr-pneumonia 1.0.0: Pneumonia, score 83.2 %; Pleural effusion, score 61.0 %."


def test_there_is_no_key_image_when_everything_is_absent_or_undetermined() -> None:
    findings = tuple(
        dataclasses.replace(finding, presence=presence)
        for finding, presence in zip(
            examples.radiograph_analysis().findings,
            (Presence.ABSENT, Presence.ABSENT, Presence.ABSENT, Presence.UNDETERMINED),
            strict=True,
        )
    )
    analysis = examples.radiograph_analysis(findings=findings)
    assert made(analysis, ArtifactKind.KEY_OBJECTS, output_sets=(KEY_OBJECTS,)) == []


def test_a_study_that_was_not_analysed_has_no_key_images() -> None:
    assert made(examples.not_analysed(), ArtifactKind.KEY_OBJECTS, output_sets=(KEY_OBJECTS,)) == []


def test_the_key_slices_of_a_measured_volume_come_in_the_order_of_the_model() -> None:
    analysis = examples.ct_analysis()
    (document,) = made(analysis, ArtifactKind.KEY_OBJECTS, output_sets=(KEY_OBJECTS,))
    assert [uid for _, uid in references(document)] == [analysis.sources[i].SOPInstanceUID for i in (4, 2)]


def test_a_segmented_finding_is_shown_where_its_segment_is_largest() -> None:
    analysis = examples.ct_analysis(key_slices=())
    found = dataclasses.replace(analysis.findings[0], presence=Presence.PRESENT)
    areas = analysis.segments[0].mask.sum(axis=(1, 2))
    assert key_image_indices(dataclasses.replace(analysis, findings=(found,))) == [int(areas.argmax())]


def test_a_measured_volume_without_key_slices_is_shown_by_the_slices_of_its_pictures() -> None:
    analysis = examples.ct_analysis(key_slices=())
    assert key_image_indices(analysis) == list(key_slices(analysis))
    assert len(key_image_indices(analysis)) == 3


def test_a_finding_that_is_nowhere_shown_marks_the_images_of_a_small_study_but_no_whole_volume() -> None:
    found = dataclasses.replace(examples.radiograph_analysis().findings[0], region=None, explanation_key=None)
    small = examples.radiograph_analysis(findings=(found,), saliencies=())
    assert key_image_indices(small) == [0]
    volume = examples.ct_analysis(findings=(found,), segments=(), key_slices=())
    assert key_image_indices(volume) == []


def test_frames_of_one_object_are_one_reference_with_their_numbers() -> None:
    frames = []
    for number, source in enumerate(examples.ct_volume(), start=1):
        frame = SourceFrame(source)
        frame.SOPInstanceUID = "1.2.3"
        frame.frame_number = number
        frames.append(frame)
    analysis = examples.ct_analysis(tuple(frames), segments=())
    (document,) = made(analysis, ArtifactKind.KEY_OBJECTS, output_sets=(KEY_OBJECTS,))
    (item,) = (item for item in document.ContentSequence if item.ValueType == "IMAGE")
    assert list(item.ReferencedSOPSequence[0].ReferencedFrameNumber) == [3, 5]
    assert evidence(document) == {"1.2.3"}


# --- rejection note ---


def withdrawn(*output_keys: str, uid: str = "1.2.3.4", sop_class_uid: str = SECONDARY_CAPTURE) -> WithdrawnObject:
    return WithdrawnObject(
        sop_class_uid=sop_class_uid, sop_instance_uid=uid, series_instance_uid="1.2.3", output_keys=output_keys
    )


def test_a_rejection_note_names_every_withdrawn_object_and_lists_it_as_evidence() -> None:
    outdated = (
        withdrawn(REJECTION.key, uid="1.2.3.1"),
        withdrawn(REJECTION.key, uid="1.2.3.2", sop_class_uid=STRUCTURED_REPORT),
    )
    (note,) = made(
        examples.radiograph_analysis(), ArtifactKind.REJECTION_NOTE, output_sets=(REJECTION,), withdrawn=outdated
    )
    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert "CodingSchemeVersion" not in title  # archives look for the title without one
    assert references(note) == [("IMAGE", "1.2.3.1"), ("COMPOSITE", "1.2.3.2")]
    assert evidence(note) == {"1.2.3.1", "1.2.3.2"}


def test_a_destination_is_told_only_of_what_it_got() -> None:
    other = OutputSet(rejection_note=True, structured_report="off", secondary_capture=False, segmentation="off")
    outdated = (withdrawn(REJECTION.key, uid="1.2.3.1"), withdrawn(other.key, REJECTION.key, uid="1.2.3.2"))
    first, second = made(
        examples.not_analysed(), ArtifactKind.REJECTION_NOTE, output_sets=(REJECTION, other), withdrawn=outdated
    )
    assert evidence(first) == {"1.2.3.1", "1.2.3.2"}
    assert evidence(second) == {"1.2.3.2"}
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_nothing_is_rejected_when_nothing_is_outdated_or_nobody_asked() -> None:
    answer = examples.radiograph_analysis()
    assert made(answer, ArtifactKind.REJECTION_NOTE, output_sets=(REJECTION,)) == []
    silent = OutputSet()
    outdated = (withdrawn(silent.key),)
    assert made(answer, ArtifactKind.REJECTION_NOTE, output_sets=(silent,), withdrawn=outdated) == []


def test_a_rerun_that_makes_the_same_report_again_does_not_reject_it() -> None:
    answer = examples.radiograph_analysis()
    (report,) = made(answer, ArtifactKind.STRUCTURED_REPORT, output_sets=(REJECTION,))
    outdated = (withdrawn(REJECTION.key, uid=str(report.SOPInstanceUID), sop_class_uid=STRUCTURED_REPORT),)
    assert made(answer, ArtifactKind.REJECTION_NOTE, output_sets=(REJECTION,), withdrawn=outdated) == []


def test_a_note_about_other_objects_is_another_object_of_the_same_series() -> None:
    first, second = (
        made(
            examples.not_analysed(),
            ArtifactKind.REJECTION_NOTE,
            output_sets=(REJECTION,),
            withdrawn=(withdrawn(REJECTION.key, uid=uid),),
        )[0]
        for uid in ("1.2.3.1", "1.2.3.2")
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID


def test_a_rejection_note_goes_after_all_that_replaces_what_it_takes_back() -> None:
    context = examples.context(output_sets=(REJECTION,), withdrawn=(withdrawn(REJECTION.key),))
    written = write_objects(examples.ct_analysis(), context)
    assert [one.kind for one in written][-2:] == [ArtifactKind.STRUCTURED_REPORT, ArtifactKind.REJECTION_NOTE]


@pytest.mark.parametrize("kind", [ArtifactKind.KEY_OBJECTS, ArtifactKind.REJECTION_NOTE])
def test_a_selection_is_a_series_of_its_own_marked_as_not_verified(kind: ArtifactKind) -> None:
    wanted = OutputSet(key_objects=True, rejection_note=True)
    written = write_objects(
        examples.radiograph_analysis(),
        examples.context(output_sets=(wanted,), withdrawn=(withdrawn(wanted.key),), intended_use="research"),
    )
    (document,) = (one.dataset for one in written if one.kind is kind)
    assert document.SeriesDescription.endswith("- NOT VERIFIED - RESEARCH ONLY")
    others = {one.dataset.SeriesInstanceUID for one in written if one.kind is not kind}
    assert document.SeriesInstanceUID not in others


# --- reports ---


def test_reports_of_two_output_sets_in_one_archive_have_a_place_each() -> None:
    """An archive tells instances of a series apart by their number; these reports differ only in what they refer to."""
    with_pictures, without = OutputSet(), OutputSet(secondary_capture=False)
    sets = (with_pictures, without)
    first, other = made(examples.radiograph_analysis(), ArtifactKind.STRUCTURED_REPORT, output_sets=sets)
    assert first.SOPClassUID == other.SOPClassUID
    assert (first.SeriesInstanceUID, first.InstanceNumber) != (other.SeriesInstanceUID, other.InstanceNumber)

    later = made(examples.radiograph_analysis(), ArtifactKind.STRUCTURED_REPORT, output_sets=sets[::-1], job_key="b2")
    assert [one.SeriesInstanceUID for one in later] == [other.SeriesInstanceUID, first.SeriesInstanceUID]


# --- how what was looked at is named -----------------------------------------------------------------------------


def test_a_result_names_series_kernel_and_study_date_of_what_it_looked_at() -> None:
    images = examples.ct_volume()
    for image in images:
        image.SeriesNumber, image.ConvolutionKernel, image.StudyDate = 3, ["Br40", "f"], "20261120"

    said = looked_at(examples.ct_analysis(images))

    assert said == f"Looked at: {len(images)} images, CT, series 3, kernel Br40, study of 2026-11-20"


def test_what_the_images_do_not_tell_or_people_typed_is_not_named() -> None:
    images = examples.ct_volume()
    for image in images:
        image.SeriesNumber, image.StudyDate, image.SeriesDescription = None, "", "DOE JANE"

    assert looked_at(examples.ct_analysis(images)) == f"Looked at: {len(images)} images, CT"


def test_nothing_is_said_to_have_been_looked_at_when_the_study_was_refused() -> None:
    assert looked_at(examples.not_analysed()).startswith("Given and not assessed: ")


def test_the_series_of_many_are_counted() -> None:
    images = examples.ct_volume()
    for number, image in enumerate(images):
        image.SeriesNumber = number + 1

    assert f", series 1, 2, 3, 4, 5, 6 and {len(images) - 6} more" in looked_at(examples.ct_analysis(images))


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"SeriesNumber": 3, "InstanceNumber": 47}, "series 3, image 47"),
        ({"ImageLaterality": "L", "ViewPosition": "MLO", "SeriesNumber": 1}, "L MLO, series 1"),
        ({"Laterality": "R", "ViewPosition": "CC"}, "R CC"),
        ({"ViewPosition": "", "InstanceNumber": None}, ""),
    ],
)
def test_an_image_is_named_as_its_reader_finds_it(attributes: dict[str, Any], named: str) -> None:
    image = Dataset()
    for keyword, value in attributes.items():
        setattr(image, keyword, value)

    assert image_named(image) == named


def test_a_refusal_is_told_in_words_before_its_code() -> None:
    answer = examples.not_analysed()
    content = page_content(
        Writing(answer=answer, identity=identity_of(answer, examples.context()), pictures=()), None, "1.2"
    )
    (reason,) = [part for part in content["opening"] if part["title"] == "Reason"]

    assert reason["sentences"] == [meaning_of(answer.reason), answer.message, f"Code of the reason: {answer.reason}"]
    assert meaning_of(answer.reason) == "Slices are missing inside the series."
