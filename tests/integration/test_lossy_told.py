"""What images lost before they came is told wherever the answer is told: report, EHR, pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.written import WrittenResult
from dicom_node.core.entities import ArtifactKind
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import write_result
from dicom_node.sr_writer.pictures.summary import summary_pages
from tests.support.results import analysis_examples as examples
from tests.support.studies.data_factories import changed, request_for, small_chest_ct

SENTENCE = "images were compressed with loss before the analysis (JPEG-LS, 2.5:1)"


def lossy(dataset: Dataset) -> None:
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = 2.5
    dataset.LossyImageCompressionMethod = "ISO_14495_1"


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Analysis | NotAnalysed:
    images = changed(small_chest_ct()[0], lossy)
    return run_model(request_for(images, SHIPPED_MODELS / "ct-lung-density", tmp_path_factory.mktemp("lossy")))


@pytest.fixture(scope="module")
def written(answer: Analysis | NotAnalysed) -> WrittenResult:
    return write_result(answer, examples.context())


def objects(written: WrittenResult, kind: ArtifactKind) -> list[Dataset]:
    found = [one.dataset for one in written.objects if one.kind is kind]
    assert found
    return found


def test_the_answer_notes_it_once(answer: Analysis) -> None:
    assert sum(SENTENCE in note for note in answer.notes) == 1


def test_the_structured_report_says_it(written: WrittenResult) -> None:
    (report,) = objects(written, ArtifactKind.STRUCTURED_REPORT)

    assert any(SENTENCE in str(one.value) for one in report.iterall() if one.keyword == "TextValue")


def test_the_report_for_the_ehr_says_it(written: WrittenResult) -> None:
    bundle = build_bundle(written.answer, examples.context(), written.objects, FhirOptions())

    assert SENTENCE in str(bundle)


def test_pictures_of_its_slices_carry_the_history(written: WrittenResult) -> None:
    pictures = objects(written, ArtifactKind.SECONDARY_CAPTURE)
    of_slices = [one for one in pictures if one.LossyImageCompression == "01"]

    assert of_slices
    assert {(one.LossyImageCompressionMethod, float(one.LossyImageCompressionRatio)) for one in of_slices} == {
        ("ISO_14495_1", 2.5)
    }


def test_the_summary_page_shows_it(answer: Analysis) -> None:
    silent = replace(answer, notes=tuple(note for note in answer.notes if SENTENCE not in note))

    shown, plain = (list(summary_pages(one, examples.context(), [])) for one in (answer, silent))

    assert any(not np.array_equal(one.rgb, other.rgb) for one, other in zip(shown, plain, strict=False))
