"""What the objects of a reviewed result say: who answers for it, whose word each finding is, and what was changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import ArtifactKind, ReviewState
from dicom_node.core.outputs.artifact_kinds import OutputSet, SrClass
from dicom_node.core.uids import tracking_uid
from dicom_node.sr_writer import to_part10, write_objects
from tests.integration.test_sr_writer_report import PRESENCE, TRACKING_UID, comments, groups, items, meaning, named
from tests.support import needs
from tests.support.results import analysis_examples as examples
from tests.support.results import reviewed_examples as reviewed
from tests.support.validators import objects as validators

CLASSES: tuple[SrClass, ...] = ("comprehensive3d", "enhanced")
SETS = tuple(OutputSet(structured_report=one, encapsulated_pdf=True, segmentation="binary") for one in CLASSES)
#: Person Observer Name; the codes of this project for what was changed; an explanation; a referenced segment.
PERSON, REASON, SAID, ALGORITHM = "121008", "REVIEWREASON", "SAIDBYMODEL", "111001"
EXPLANATION, SEGMENT = "130401", "121191"


@dataclass(frozen=True)
class Told:
    """A result as it was first written, and what was written of its review."""

    answer: Analysis
    first: tuple[WrittenObject, ...]
    review: Review
    written: tuple[WrittenObject, ...]

    def report(self, sr_class: int = 0) -> Dataset:
        return [one.dataset for one in self.written if one.kind is ArtifactKind.STRUCTURED_REPORT][sr_class]

    def group(self, key: str) -> Dataset:
        uid = tracking_uid(self.review.of_job_key, key)
        return next(one for one in groups(self.report()) if uid == named(one, TRACKING_UID)[0].UID)


def told(answer: Analysis, decide: Callable[[Analysis], Review], **changes: Any) -> Told:
    first = write_objects(answer, examples.context(output_sets=SETS))
    review = replace(decide(answer), **changes)
    context = reviewed.reviewed_context(review, first, output_sets=SETS)
    return Told(answer, first, review, write_objects(reviewed.rebuilt(answer), context))


@pytest.fixture(scope="module")
def radiograph() -> Told:
    return told(examples.radiograph_analysis(), reviewed.modified)


@pytest.fixture(scope="module")
def lungs() -> Told:
    answer = examples.ct_analysis()
    third = replace(answer.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    return told(replace(answer, findings=(*answer.findings, third)), reviewed.modified)


@pytest.fixture(scope="module")
def accepted() -> Told:
    return told(examples.ct_analysis(), reviewed.accepted)


def test_a_reviewed_report_is_attested_to_by_both_readers(radiograph: Told) -> None:
    report = radiograph.report()
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE", "FINAL", "VERIFIED",
    )  # fmt: skip
    first, second = report.VerifyingObserverSequence
    assert (str(first.VerifyingObserverName), str(second.VerifyingObserverName)) == ("Weiß^Anna^^Dr.", "Koch^Bernd")
    assert first.VerifyingOrganization == "Radiology, Hospital"
    assert first.VerifyingObserverIdentificationCodeSequence[0].CodeValue == "LANR-4711"
    assert second.VerifyingObserverIdentificationCodeSequence == []
    assert str(first.VerificationDateTime).startswith("20260314")
    assert str(first.VerificationDateTime)[-5] in "+-"
    assert report.CompletionFlagDescription.startswith("AI result, reviewed and verified by Dr. Anna Weiss on")
    assert "REVIEWED" in report.SeriesDescription
    assert "NOT VERIFIED" not in report.SeriesDescription


def test_it_follows_the_report_that_was_reviewed(radiograph: Told) -> None:
    first = next(one.dataset for one in radiograph.first if one.kind is ArtifactKind.STRUCTURED_REPORT)
    report = radiograph.report()
    named_before = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named_before.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert (report.SeriesInstanceUID, report.InstanceNumber) == (first.SeriesInstanceUID, 2)
    assert report.SOPInstanceUID != first.SOPInstanceUID


def test_reader_and_device_are_observers_of_the_whole(radiograph: Told) -> None:
    observers = [str(one.PersonName) for one in named(radiograph.report(), PERSON)]
    assert observers == ["Weiß^Anna^^Dr."]
    kinds = [one.ConceptCodeSequence[0].CodeMeaning for one in named(radiograph.report(), "121005")]
    assert kinds == ["Person", "Device"]


def test_what_the_model_said_and_the_reader_let_stand_is_told_as_before(radiograph: Told) -> None:
    group = radiograph.group("pneumonia")
    assert named(group, PERSON) == []
    assert len(named(group, ALGORITHM)) == 1
    first = next(one.dataset for one in radiograph.first if one.picture_key.startswith("heatmap:"))
    assert named(group, EXPLANATION)[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_what_was_removed_is_told_as_absent_by_the_reader_with_what_the_model_had_said(radiograph: Told) -> None:
    group = radiograph.group("effusion")
    assert meaning(group, PRESENCE) == "Absent"
    assert str(named(group, PERSON)[0].PersonName) == "Weiß^Anna^^Dr."
    assert named(group, ALGORITHM) == []
    (said,) = [one.TextValue for one in named(group, SAID)]
    assert said.startswith("Pleural effusion: PRESENT; score 61.0 %; outlined within columns 56 to 126")
    assert not any(one.ValueType == "NUM" for one in group.ContentSequence)
    assert [one.TextValue for one in named(group, "121106")] == [
        "Removed by the reviewer: it should not have been reported.", "An artefact of the tube.",
    ]  # fmt: skip


def test_what_was_changed_has_the_number_of_the_reader_and_no_score(radiograph: Told) -> None:
    group = radiograph.group("pneumothorax")
    assert meaning(group, PRESENCE) == "Present"
    (number,) = [one for one in group.ContentSequence if one.ValueType == "NUM"]
    assert number.MeasuredValueSequence[0].NumericValue == 12.5
    assert named(group, SAID)[0].TextValue == "Pneumothorax: ABSENT; score 3.1 %"


def test_what_was_drawn_is_a_planar_region_by_the_reader_and_comes_first(radiograph: Told) -> None:
    first = groups(radiograph.report())[0]
    assert first.ContentTemplateSequence[0].TemplateIdentifier == "1410"
    assert tracking_uid(radiograph.review.of_job_key, "reader-1") == named(first, TRACKING_UID)[0].UID
    assert len([one for one in first.ContentSequence if one.ValueType == "SCOORD"]) == 1
    assert named(first, SAID) == []
    assert "Größe 4 mm, Kontrolle" in [one.TextValue for one in named(first, "121106")]


def test_reasons_and_text_of_the_review_are_told(radiograph: Told) -> None:
    coded = [i for i in items(radiograph.report()) if i.ConceptNameCodeSequence[0].CodeValue == REASON]
    values = [one.ConceptCodeSequence[0] for one in coded]
    assert [one.get("CodeValue") or one.LongCodeValue for one in values] == [
        "FALSE_POSITIVE", "FALSE_NEGATIVE", "WRONG_MEASUREMENT",
    ]  # fmt: skip
    said = comments(radiograph.report())
    assert any(one.startswith("AI result, reviewed and verified by Dr. Anna Wei") for one in said)
    assert "Review: Compared with the prior." in said


def test_a_segment_that_stands_is_referred_to_and_one_that_was_removed_is_not(lungs: Told) -> None:
    mask = next(one.dataset for one in lungs.first if one.kind is ArtifactKind.SEGMENTATION)
    reference = named(lungs.group("right-lung"), SEGMENT)[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == mask.SOPInstanceUID
    assert reference.ReferencedSegmentNumber == 1
    assert named(lungs.group("left-lung"), SEGMENT) == []


def test_numbers_of_segments_do_not_stand_on_one_image(accepted: Told) -> None:
    places = [
        part.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for group in groups(accepted.report())
        for one in items(group)
        if one.ValueType == "SCOORD"
        for part in one.ContentSequence
    ]
    assert len(places) == len(set(places)) == 2


def test_an_accepted_report_is_wholly_the_word_of_the_model(accepted: Told) -> None:
    for group in groups(accepted.report()):
        assert named(group, ALGORITHM)
        assert named(group, PERSON) == named(group, SAID) == []


def test_pictures_and_masks_are_kept_and_only_what_speaks_of_the_whole_is_made_anew(radiograph: Told) -> None:
    assert {str(one.kind) for one in radiograph.written} == {"SC", "PDF", "SR"}
    assert {one.picture_key.partition(":")[0] for one in radiograph.written if one.picture_key} == {"summary"}
    evidence = {
        str(one.ReferencedSOPInstanceUID)
        for series in radiograph.report().CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    pictures = {
        str(one.dataset.SOPInstanceUID) for one in radiograph.first if one.kind is ArtifactKind.SECONDARY_CAPTURE
    }
    assert pictures < evidence


def test_the_page_says_who_reviewed_and_what_was_changed(radiograph: Told, tmp_path: Path) -> None:
    page = next(one.dataset for one in radiograph.written if one.kind is ArtifactKind.ENCAPSULATED_PDF)
    assert page.VerificationFlag == "VERIFIED"
    (tmp_path / "page.pdf").write_bytes(page.EncapsulatedDocument)
    command = [needs.tool("pdftotext", "poppler-utils"), str(tmp_path / "page.pdf"), "-"]
    text = " ".join(subprocess.run(command, capture_output=True, check=True).stdout.decode().split())
    assert "AI result, reviewed and verified by Dr. Anna Weiss on 2026-03-14 and by Bernd Koch on 2026-03-15." in text
    assert "Removed: Pleural effusion. The model had said: Pleural effusion: PRESENT; score 61.0 %" in text
    assert "Added: Nodule: PRESENT; Diameter 4 mm" in text
    assert "Something was reported that is not there." in text
    assert "NOT VERIFIED" not in text
    assert "Not verified" not in text


def test_equal_reviews_give_equal_bytes(radiograph: Told) -> None:
    context = reviewed.reviewed_context(radiograph.review, radiograph.first, output_sets=SETS)
    again = write_objects(reviewed.rebuilt(radiograph.answer), context)
    assert [to_part10(one.dataset) for one in again] == [to_part10(one.dataset) for one in radiograph.written]


@pytest.mark.parametrize("name", ["radiograph", "lungs", "accepted"])
def test_reviewed_objects_are_valid_beside_what_they_review(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    case: Told = request.getfixturevalue(name)
    sources = []
    for number, source in enumerate(case.answer.sources):
        sources.append(tmp_path / f"source-{number}.dcm")
        source.save_as(sources[-1], enforce_file_format=True)
    outputs = []
    for number, one in enumerate(case.written):
        outputs.append(tmp_path / f"{number}-{one.kind}.dcm")
        outputs[-1].write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(outputs[-1], sources[0])
        validators.assert_parsed(outputs[-1])
    validators.assert_consistent(sources, outputs)
    reports = outputs[-len(CLASSES) :]
    for path in reports:
        validators.assert_readable_sr(path)
    validators.assert_valid_sr(reports[0])


# --- nothing calls itself verified that is not -----------------------------------------------------------------------


@pytest.mark.parametrize("answer", [examples.radiograph_analysis(), examples.not_analysed()])
def test_nothing_that_nobody_reviewed_says_that_it_is_verified(answer: Any) -> None:
    for one in write_objects(answer, examples.context(output_sets=SETS)):
        assert "NOT VERIFIED" in one.dataset.SeriesDescription
        assert one.dataset.get("VerificationFlag") in {None, "UNVERIFIED"}
        assert one.dataset.get("PreliminaryFlag") in {None, "PRELIMINARY"}
        assert "VerifyingObserverSequence" not in one.dataset


@pytest.mark.parametrize("state", [ReviewState.UNREVIEWED, ReviewState.REJECTED])
def test_a_review_that_verifies_nothing_has_no_report(state: ReviewState) -> None:
    with pytest.raises(ValueError, match="has no verified report"):
        told(examples.radiograph_analysis(), reviewed.modified, state=state)


def test_a_study_that_was_not_analysed_cannot_be_verified() -> None:
    answer = examples.radiograph_analysis()
    context = examples.context(job_key="b2" * 32, review=reviewed.accepted(answer))
    with pytest.raises(ValueError, match="no result to review"):
        write_objects(examples.not_analysed(), context)


def test_a_reviewed_result_does_not_take_the_uids_of_the_one_it_reviews() -> None:
    answer = examples.radiograph_analysis()
    with pytest.raises(ValueError, match="job key of its own"):
        write_objects(reviewed.rebuilt(answer), examples.context(review=reviewed.accepted(answer)))


# --- as few series as can be -----------------------------------------------------------------------------------------


def series_of(written: Sequence[WrittenObject]) -> set[tuple[str, str]]:
    return {(str(one.kind), str(one.dataset.SeriesInstanceUID)) for one in written}


def test_a_result_has_one_series_of_pictures_one_of_masks_and_one_of_reports() -> None:
    assert sorted(kind for kind, _ in series_of(write_objects(examples.ct_analysis(), examples.context()))) == [
        "SC", "SEG", "SR",
    ]  # fmt: skip


def test_a_review_goes_on_in_the_series_of_reports_and_adds_one_for_each_kind_of_page(radiograph: Told) -> None:
    before, after = series_of(radiograph.first), series_of(radiograph.written)
    assert {kind for kind, _ in after - before} == {"SC", "PDF"}
    assert len(after - before) == 2


def test_a_mask_that_no_finding_names_any_more_is_kept_and_not_referred_to() -> None:
    """What is not plausible is withheld and names no segment; the masks were made all the same."""
    answer = examples.ct_analysis()
    answer = replace(answer, findings=tuple(replace(one, segment_number=None) for one in answer.findings))
    first, review = write_objects(answer, examples.context(output_sets=SETS)), reviewed.accepted(answer)
    context = reviewed.reviewed_context(review, first, output_sets=SETS)
    context = replace(context, kept=tuple(replace(one, segment_numbers={}) for one in context.kept))
    assert ArtifactKind.SEGMENTATION in {one.kind for one in context.kept}
    reports = [
        one.dataset
        for one in write_objects(reviewed.rebuilt(answer), context)
        if one.kind is ArtifactKind.STRUCTURED_REPORT
    ]
    assert [report.VerificationFlag for report in reports] == ["VERIFIED"] * len(CLASSES)
    assert [named(group, SEGMENT) for report in reports for group in groups(report)] == [[]] * 2 * len(answer.findings)
