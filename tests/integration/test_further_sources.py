"""Images that were read together with those that results lie on: they are told of, and must be of the same patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import AnalysisRequest, SourceFile
from dicom_node.analysis.stored_findings import analysed_uids_in, further_uids_in
from dicom_node.analysis.written import summarise
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.options import FhirOptions
from dicom_node.jobs.tasks import ReviewedAnswer, Task
from dicom_node.jobs.worker_process import perform
from dicom_node.sr_writer import write_objects
from tests.support.results import analysis_examples as examples
from tests.support.results import reviewed_examples as reviewed


def second_series() -> tuple[Dataset, ...]:
    volume = examples.ct_volume()
    for number, image in enumerate(volume):
        image.SeriesInstanceUID = derived_uid("further")
        image.SOPInstanceUID = derived_uid("further", str(number))
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return volume


@pytest.fixture
def answer() -> Analysis:
    return replace(examples.ct_analysis(), further_sources=second_series())


def listed(report: Dataset) -> list[set[str]]:
    """Return what each group of the image library names."""
    (library,) = [one for one in report.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == "111028"]
    return [
        {str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for one in group.ContentSequence
         if "ReferencedSOPSequence" in one}
        for group in library.ContentSequence
    ]  # fmt: skip


def uids(images: tuple[Dataset, ...]) -> set[str]:
    return {str(one.SOPInstanceUID) for one in images}


def test_they_are_a_group_of_their_own_in_the_library_and_no_source_of_masks(answer: Analysis) -> None:
    objects = write_objects(answer, examples.context())
    (report,) = [one.dataset for one in objects if one.kind is ArtifactKind.STRUCTURED_REPORT]
    (masks,) = [one.dataset for one in objects if one.kind is ArtifactKind.SEGMENTATION]

    assert listed(report)[:2] == [uids(answer.sources), uids(answer.further_sources)]
    (series,) = masks.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == answer.sources[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("keyword", "reason"), [("PatientID", "PATIENT_MISMATCH"), ("AccessionNumber", "STUDY_MISMATCH")]
)
def test_those_of_another_patient_or_study_keep_anything_from_being_written(
    answer: Analysis, keyword: str, reason: str
) -> None:
    setattr(answer.further_sources[2], keyword, "ANOTHER")
    with pytest.raises(NotAnalysable) as refused:
        write_objects(answer, examples.context())
    assert refused.value.reason == reason


def test_the_summary_keeps_them_apart_and_has_nothing_of_them_where_there_are_none(answer: Analysis) -> None:
    summary: Mapping[str, Any] = summarise(answer)
    assert set(further_uids_in(summary)) == uids(answer.further_sources)
    assert set(analysed_uids_in(summary)) == uids(answer.sources) | uids(answer.further_sources)
    assert "further_source_sop_instance_uids" not in summarise(examples.ct_analysis())


def test_a_reviewed_report_lists_them_too(answer: Analysis, tmp_path: Path) -> None:
    files = []
    for number, image in enumerate((*answer.sources, *answer.further_sources)):
        path = tmp_path / f"{number}.dcm"
        image.save_as(path, enforce_file_format=True)
        uid, series = str(image.SOPInstanceUID), str(image.SeriesInstanceUID)
        files.append(SourceFile(path=path, sop_instance_uid=uid, series_instance_uid=series))
    review = reviewed.accepted(answer)
    context = reviewed.reviewed_context(review, write_objects(answer, examples.context()))
    (tmp_path / "out").mkdir()

    performed = perform(
        Task(
            request=AnalysisRequest(
                context=context, model_dir=Path("none"), files=tuple(files), out_dir=tmp_path / "out"
            ),
            fhir=FhirOptions(patient_system="urn:oid:2.25.0"),
            reviewed=ReviewedAnswer(model=answer.model, further_uids=frozenset(uids(answer.further_sources))),
        )
    )

    (report,) = [one.name for one in performed.files if one.kind is ArtifactKind.STRUCTURED_REPORT]
    assert listed(dcmread(tmp_path / "out" / report))[:2] == [uids(answer.sources), uids(answer.further_sources)]
    assert set(further_uids_in(performed.summary)) == uids(answer.further_sources)
