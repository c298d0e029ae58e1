"""When the usual notice cannot be made, one of nothing but UIDs, model and reason goes out all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Declined
from dicom_node.analysis.context import AnalysisRequest, SourceFile
from dicom_node.core.entities import ArtifactKind, JobState
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.validation import check_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.worker_process import last_notice, perform
from dicom_node.sr_writer import to_part10
from tests.support.results import analysis_examples as examples
from tests.support.validators.objects import assert_readable_sr, assert_valid_dicom

STUDY = derived_uid("study", "lost")
FAILED = Declined("ANALYSIS_FAILED", "The analysis failed 3 times and was given up.")


def task_about(folder: Path, *contents: bytes, model: str = "ct-lung-density", beside: tuple[Path, ...] = ()) -> Task:
    """Return a task that was given up, about files of these contents."""
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.dcm"
        path.write_bytes(content)
        files.append(SourceFile(path=path, sop_instance_uid=f"2.25.{number}", series_instance_uid="2.25.9"))
    request = AnalysisRequest(
        context=examples.context(), model_dir=SHIPPED_MODELS / model, files=tuple(files), out_dir=folder
    )
    return Task(request=request, fhir=FhirOptions(), declined=FAILED, study_instance_uid=STUDY, beside=beside)


@pytest.mark.parametrize("model", ["ct-lung-density", "gone"])
def test_a_study_of_unreadable_files_is_told_by_its_uid_and_the_reason(tmp_path: Path, model: str) -> None:
    performed = perform(task_about(tmp_path, b"no DICOM", model=model))

    assert isinstance(performed, Performed)
    assert (performed.state, performed.reason) == (JobState.NOT_ANALYSABLE, "ANALYSIS_FAILED")
    assert [file.kind for file in performed.files] == [ArtifactKind.STRUCTURED_REPORT, ArtifactKind.FHIR_BUNDLE]
    assert all((tmp_path / file.name).is_file() for file in performed.files)


def test_the_report_of_it_is_valid_and_names_study_and_reason(tmp_path: Path) -> None:
    (report,) = last_notice(task_about(tmp_path)).objects
    path = tmp_path / "report.dcm"
    path.write_bytes(to_part10(report.dataset))

    assert report.dataset.StudyInstanceUID == STUDY
    assert "ANALYSIS_FAILED" in report.dataset.ContentSequence[0].TextValue
    assert "NOT VERIFIED" in report.dataset.SeriesDescription
    assert_valid_dicom(path)
    assert_readable_sr(path)


def test_the_report_of_it_tells_the_time_of_the_site_as_all_that_name_no_zone_do(tmp_path: Path) -> None:
    task = task_about(tmp_path)
    context = replace(
        task.request.context, started_at=datetime(2026, 3, 1, 23, 30, tzinfo=UTC), time_zone_name="Asia/Tokyo"
    )
    (report,) = last_notice(replace(task, request=replace(task.request, context=context))).objects

    assert (report.dataset.ContentDate, report.dataset.ContentTime) == ("20260302", "083000")


def test_the_bundle_of_it_is_valid_r4(tmp_path: Path) -> None:
    bundle = last_notice(task_about(tmp_path)).bundle

    check_bundle(dict(bundle))
    assert "ANALYSIS_FAILED" in str(bundle)


def test_a_study_with_another_patient_s_images_beside_is_not_even_told_of(tmp_path: Path) -> None:
    mine, other = (to_part10(examples.radiograph(PatientID=one)) for one in ("PID-0001", "PID-0002"))
    beside = tmp_path / "beside.dcm"
    beside.write_bytes(other)
    with pytest.raises(NotAnalysable, match="disagree in PatientID"):
        perform(task_about(tmp_path, mine, beside=(beside,)))


@pytest.mark.parametrize("keyword", ["PatientName", "PatientBirthDate"])
def test_another_name_or_birth_date_beside_is_another_patient(tmp_path: Path, keyword: str) -> None:
    other = {"PatientName": "Other^Name", "PatientBirthDate": "19800101"}[keyword]
    beside = tmp_path / "beside.dcm"
    beside.write_bytes(to_part10(_with(examples.radiograph(), keyword, other)))
    with pytest.raises(NotAnalysable) as refused:
        perform(task_about(tmp_path, to_part10(examples.radiograph()), beside=(beside,)))
    assert (refused.value.reason, keyword in str(refused.value)) == ("PATIENT_MISMATCH", True)


def test_the_same_patient_beside_in_another_spelling_is_the_same(tmp_path: Path) -> None:
    beside = tmp_path / "beside.dcm"
    beside.write_bytes(to_part10(_with(examples.radiograph(), "PatientName", "Müller^Jörg^^")))
    assert perform(task_about(tmp_path, to_part10(examples.radiograph()), beside=(beside,))) is not None


def _with(dataset: Dataset, keyword: str, value: str) -> Dataset:
    setattr(dataset, keyword, value)
    return dataset
