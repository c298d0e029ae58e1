"""Numbers that are none: in no object, resource or answer of the API is there an infinity or a NaN."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.stored_findings import findings_in, reviewed_data, reviewed_from
from dicom_node.analysis.written import finding_data, summarise
from dicom_node.core.assessment.agreement import compare
from dicom_node.core.assessment.review import ReviewedFinding
from dicom_node.core.entities import ArtifactKind
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.sr_writer import write_objects
from dicom_node.sr_writer.documents import encapsulated_pdf
from dicom_node.sr_writer.pictures.pen import Pen, folded, text_width
from dicom_node.sr_writer.pictures.pictures import pictures_of
from tests.support.results import analysis_examples as examples
from tests.support.results.fhir_examples import CONTEXT, OPTIONS, analysis, written_objects
from tests.support.results.result_answers import every_output_set, marked

NO_NUMBERS = [float("nan"), float("inf"), float("-inf")]
#: How a number that is none would be printed.
PRINTED = re.compile(r"(?<![a-z])-?(nan|inf|infinity)(?![a-z])", re.IGNORECASE)


def without_numbers(answer: Analysis, value: float) -> Analysis:
    findings = tuple(
        replace(
            one,
            probability=value,
            threshold=value,
            measurements=tuple(replace(measured, value=value) for measured in one.measurements),
        )
        for one in answer.findings
    )
    return replace(answer, findings=findings)


def all_texts(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.VR not in {"SQ", "OB", "OW", "UN", "UI"}:
            yield str(element.value)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line that is drawn on a picture."""
    said: list[str] = []
    for name in ("text", "text_right", "text_centered"):
        original = getattr(Pen, name)

        def spy(pen: Pen, xy: Any, text: str, *more: Any, _original: Any = original) -> None:
            said.append(text)
            _original(pen, xy, text, *more)

        monkeypatch.setattr(Pen, name, spy)
    return said


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_pictures_say_that_it_is_not_measurable(value: float, drawn: list[str]) -> None:
    pictures_of(without_numbers(marked(examples.ct_volume(3, 32)), value), examples.context())
    assert "not measurable" in drawn
    assert not [line for line in drawn if PRINTED.search(line)]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_no_object_holds_it(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[str] = []

    def spy(content: Any, *more: Any) -> bytes:
        pages.append(json.dumps(content, allow_nan=False))
        return original(content, *more)

    original = encapsulated_pdf.pdf_bytes
    monkeypatch.setattr(encapsulated_pdf, "pdf_bytes", spy)
    answer = without_numbers(marked(examples.ct_volume(3, 32)), value)
    written = write_objects(answer, examples.context(output_sets=every_output_set()[:1]))
    assert "not measurable" in pages[0]
    assert not PRINTED.search(pages[0])
    for one in written:
        assert not [text for text in all_texts(one.dataset) if PRINTED.search(text)], one.kind
    (report,) = (one.dataset for one in written if one.kind is ArtifactKind.STRUCTURED_REPORT)
    assert "Maximum Diameter could not be computed." in " ".join(all_texts(report))


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_fhir_gives_a_reason_in_its_place(value: float) -> None:
    said = to_json_bytes(build_bundle(without_numbers(analysis(), value), CONTEXT, written_objects(), OPTIONS)).decode()
    assert "not measurable" in said
    assert "not-a-number" in said
    # So is the code of the reason displayed.
    assert not PRINTED.search(re.sub(r'Not a Number \(NaN\)|"[A-Za-z0-9+/=]{200,}"', '""', said))


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_the_api_gives_null_in_its_place(value: float) -> None:
    summary: Any = summarise(without_numbers(examples.ct_analysis(), value))
    json.dumps(summary, allow_nan=False)
    assert [one["value"] for one in summary["findings"][0]["measurements"]] == [None, None]


def test_two_answers_agree_that_nothing_was_measurable() -> None:
    whole, without = examples.ct_analysis(), without_numbers(examples.ct_analysis(), float("nan"))
    assert compare(summarise(without), summarise(without)).agrees
    agreement = compare(summarise(without), summarise(whole))
    assert not agreement.agrees
    assert "Right lung, Volume: not measurable live, 2411 in the shadow" in agreement.lines


def test_names_in_tables_are_whole(drawn: list[str]) -> None:
    label = "Gastroesophagealjunctionadenocarcinoma of the posterior segment, right upper lobe of the lung"
    for answer in (examples.ct_analysis(), examples.radiograph_analysis()):
        drawn.clear()
        findings = (replace(answer.findings[0], label=label), *answer.findings[1:])
        pictures_of(replace(answer, findings=findings, saliencies=(), segments=(), key_slices=()), examples.context())
        assert label.replace(" ", "") in "".join(drawn).replace(" ", "")


def test_folding_breaks_what_is_wider_than_a_line_and_cuts_what_never_ends() -> None:
    lines = folded("a" + "m" * 40 + " end", 25, 180, 8)
    assert "".join(lines).replace(" ", "") == "a" + "m" * 40 + "end"
    assert all(text_width(line, 25) <= 180 for line in lines)
    endless = folded("m" * 4000, 25, 180, 3)
    assert len(endless) == 3
    assert endless[-1].endswith("...")


def test_a_finding_with_a_number_that_is_none_is_read_back_to_be_reviewed() -> None:
    said = tuple(without_numbers(analysis(), float("nan")).findings)
    kept = json.loads(json.dumps([finding_data(one) for one in said]))
    read = findings_in({"findings": kept})
    assert json.loads(json.dumps([finding_data(one) for one in read])) == kept
    assert any(math.isnan(measured.value) for one in read for measured in one.measurements)
    reviewed = tuple(ReviewedFinding(finding=one, said_by_model=one) for one in read)
    assert [one.is_changed for one in reviewed_from(reviewed_data(reviewed))] == [False] * len(read)
