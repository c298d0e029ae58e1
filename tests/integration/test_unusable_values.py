"""A header value that is wrong in form: ignored where the numbers do not need it, named as the reason where they do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import SourceFile
from dicom_node.analysis.written import WrittenResult
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import write_result
from tests.support import needs
from tests.support.results import analysis_examples as examples
from tests.support.studies.data_factories import request_for_files

MODEL = SHIPPED_MODELS / "ct-lung-density"
#: What is seen of both lungs, the left and the right one in the baseline: millilitres, and mean HU of both.
BASELINE = (4787.0, -869.6, 2133.0, 2654.0)


@pytest.mark.filterwarnings("ignore:The pixel data is .* excess padding")
@pytest.mark.parametrize(
    "name",
    [
        "c00_baseline",
        "c01_trailing_padding",
        "c07b_thickness_comma",
        "c18_no_frame_of_reference",
        "c27c_study_date_year_one",
        "c28_name_spelling_within_series",
    ],
)
def test_a_value_that_the_numbers_do_not_need_costs_nothing(name: str, tmp_path: Path) -> None:
    answer, written = _stored(name, MODEL, tmp_path)
    assert isinstance(answer, Analysis)
    both, _, left, right = (answer.findings[place] for place in (0, 0, 1, 2))
    values = both.measurements[0].value, both.measurements[1].value, left.measurements[0].value
    assert (*values, right.measurements[0].value) == BASELINE
    assert any(one.kind is ArtifactKind.STRUCTURED_REPORT for one in written.objects)
    assert [one.lacks for one in written.not_made] == ["FrameOfReferenceUID"] * (name == "c18_no_frame_of_reference")


@pytest.mark.parametrize(
    ("name", "model", "keyword"),
    [
        ("c08_spacing_comma", "ct-lung-density", "PixelSpacing"),
        ("c08b_spacing_vr_ut", "ct-lung-density", "PixelSpacing"),
        ("x22_window_zero", "cxr-pneumonia", "WindowWidth"),
    ],
)
def test_a_value_that_the_answer_needs_is_named(name: str, model: str, keyword: str, tmp_path: Path) -> None:
    answer, written = _stored(name, SHIPPED_MODELS / model, tmp_path)
    assert isinstance(answer, NotAnalysed)
    assert (answer.reason, keyword in answer.message) == ("UNREADABLE_ATTRIBUTE", True)
    assert any(one.kind is ArtifactKind.STRUCTURED_REPORT for one in written.objects)


def _stored(name: str, model: Path, folder: Path) -> tuple[Analysis | NotAnalysed, WrittenResult]:
    headers = [dcmread(path, stop_before_pixels=True) for path in sorted(needs.real_data(f"faults/{name}").iterdir())]
    files = [
        SourceFile(
            path=Path(str(one.filename)),
            sop_instance_uid=str(one.SOPInstanceUID),
            series_instance_uid=str(one.SeriesInstanceUID),
        )
        for one in headers
    ]
    context = examples.context(output_sets=(OutputSet(secondary_capture=False),))
    answer = run_model(request_for_files(files, model, folder))
    written = write_result(answer, context)
    assert build_bundle(written.answer, context, written.objects, FhirOptions())["entry"]
    return answer, written
