"""Numbers outside the ranges of a card: withheld with a coded reason, in the answer, in DICOM, FHIR, page and API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.written import summarise
from dicom_node.core.codes import ATTENUATION_COEFFICIENT, HOUNSFIELD_UNIT, MEAN, MILLILITER, VOLUME
from dicom_node.core.entities import ArtifactKind, Finding, Measurement, Presence
from dicom_node.core.errors import NotAnalysable, SettingsError
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.inference.answers.plausible import held_finding, held_to_card
from dicom_node.inference.cards.card import SHIPPED_MODELS, ModelCard, load_card
from dicom_node.inference.cards.outputs import CardMeasurement, PlausibleRange
from dicom_node.sr_writer import write_objects
from dicom_node.sr_writer.pictures.pen import Pen
from dicom_node.sr_writer.pictures.pictures import pictures_of
from dicom_node.sr_writer.text import value_of
from tests.support.results import analysis_examples as examples
from tests.support.results.fhir_examples import CONTEXT, OPTIONS, written_objects
from tests.support.results.result_answers import every_output_set

LUNGS = load_card(SHIPPED_MODELS / "ct-lung-density")
DENSE = "Left lung: Mean Attenuation Coefficient of -120 HU is not plausible (-960 to -300 HU expected: "


def with_numbers(finding: Finding, volume_ml: float, mean_hu: float) -> Finding:
    numbers = (
        Measurement(VOLUME, volume_ml, MILLILITER),
        Measurement(ATTENUATION_COEFFICIENT, mean_hu, HOUNSFIELD_UNIT, MEAN),
    )
    return replace(finding, measurements=numbers)


def lungs(left_hu: float = -120.0, right_hu: float = -850.0) -> Analysis:
    """A right and a left lung, segments 1 and 2."""
    answer = examples.ct_analysis(examples.ct_volume(3, 32))
    densities = {"left-lung": left_hu, "right-lung": right_hu}
    return replace(answer, findings=tuple(with_numbers(one, 2400.0, densities[one.key]) for one in answer.findings))


def test_a_lung_as_dense_as_tissue_is_withheld_with_all_that_was_measured_of_it() -> None:
    held = held_to_card(lungs(), LUNGS)

    left = next(one for one in held.findings if one.key == "left-lung")
    assert (left.measurements, left.segment_number) == ((), None)
    assert [(one.label, one.reason) for one in left.withheld] == [
        ("Volume", "IMPLAUSIBLE_VALUE"),
        ("Mean Attenuation Coefficient", "IMPLAUSIBLE_VALUE"),
    ]
    assert left.withheld[1].message.startswith(DENSE)
    assert left.withheld[0].message == (
        "Left lung: Volume is not reported, because Mean Attenuation Coefficient is not plausible."
    )
    assert {segment.finding_key for segment in held.segments} == {"right-lung"}
    assert held.partial
    assert any(note.startswith(DENSE) for note in held.notes)


def test_what_is_plausible_stays_as_it_is() -> None:
    answer = lungs(left_hu=-300.0)

    assert held_to_card(answer, LUNGS) is answer


def test_where_nothing_is_plausible_the_study_is_not_analysed() -> None:
    with pytest.raises(NotAnalysable) as refused:
        held_to_card(lungs(right_hu=185.6), LUNGS)

    assert refused.value.reason == "IMPLAUSIBLE_VALUE"
    assert "Right lung: Mean Attenuation Coefficient of 185.6 HU is not plausible" in str(refused.value)


def test_a_scored_finding_with_an_implausible_number_is_undetermined() -> None:
    (finding, *_) = examples.radiograph_analysis().findings
    scored = with_numbers(replace(finding, presence=Presence.PRESENT, probability=0.9), 9000.0, -800.0)
    anything = CardMeasurement(name=VOLUME, derivation=None, findings=(), plausible=PlausibleRange(high=8000.0))

    held = held_finding(scored, [anything])

    assert (held.presence, held.probability, held.measurements) == (Presence.UNDETERMINED, None, ())
    assert "(at most 8000 ml expected)" in held.withheld[0].message


def test_a_range_is_about_its_findings_and_its_derivation_only() -> None:
    finding = with_numbers(examples.ct_analysis().findings[0], 9000.0, -120.0)
    elsewhere = CardMeasurement(name=VOLUME, derivation=None, findings=("liver",), plausible=PlausibleRange(high=1.0))
    limits = PlausibleRange(high=-500.0)
    underived = CardMeasurement(name=ATTENUATION_COEFFICIENT, derivation=None, findings=(), plausible=limits)

    assert held_finding(finding, [elsewhere, underived]) is finding


# --- told everywhere -------------------------------------------------------------------------------------------------


@pytest.fixture
def withheld() -> Analysis:
    return held_to_card(lungs(), LUNGS)


def test_the_structured_report_says_it_in_code_and_words(withheld: Analysis) -> None:
    written = write_objects(withheld, examples.context(output_sets=every_output_set()[:1]))

    (report,) = (one.dataset for one in written if one.kind is ArtifactKind.STRUCTURED_REPORT)
    coded = [item.value[0] for item in report.iterall() if item.keyword == "ConceptCodeSequence"]
    assert "IMPLAUSIBLE_VALUE" in {one.get("LongCodeValue") for one in coded}
    texts = [str(item.value) for item in report.iterall() if item.keyword == "TextValue"]
    assert any(text.startswith(DENSE) for text in texts)
    numbers = [str(item.value) for item in report.iterall() if item.keyword == "NumericValue"]
    assert not [number for number in numbers if "-120" in number]


def test_fhir_says_why_in_place_of_the_value(withheld: Analysis) -> None:
    bundle = json.loads(to_json_bytes(build_bundle(withheld, CONTEXT, written_objects(), OPTIONS)))

    components = [
        component
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Observation"
        for component in entry["resource"].get("component", ())
        if "dataAbsentReason" in component
    ]
    assert [one["code"]["text"] for one in components] == ["Volume", "Mean Attenuation Coefficient"]
    for one in components:
        assert [code["code"] for code in one["dataAbsentReason"]["coding"]] == ["unknown", "IMPLAUSIBLE_VALUE"]
        assert "valueQuantity" not in one
    assert components[1]["dataAbsentReason"]["text"].startswith(DENSE)


def test_pictures_and_page_say_not_reported(withheld: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    original = Pen.text_right

    def spy(pen: Pen, xy: Any, text: str, *more: Any) -> None:
        drawn.append(text)
        original(pen, xy, text, *more)

    monkeypatch.setattr(Pen, "text_right", spy)
    pictures_of(withheld, examples.context())

    assert drawn.count("not reported") == 2
    assert value_of(withheld.findings[0], "Volume") != value_of(withheld.findings[1], "Volume")


def test_the_api_lists_what_is_withheld(withheld: Analysis) -> None:
    summary: Any = summarise(withheld)

    json.dumps(summary, allow_nan=False)
    (left,) = (one for one in summary["findings"] if one["key"] == "left-lung")
    assert [(one["label"], one["reason"]) for one in left["withheld"]] == [
        ("Volume", "IMPLAUSIBLE_VALUE"),
        ("Mean Attenuation Coefficient", "IMPLAUSIBLE_VALUE"),
    ]


# --- in the card -----------------------------------------------------------------------------------------------------


def card_with(folder: Path, measurement: str) -> ModelCard:
    text = (SHIPPED_MODELS / "ct-lung-density" / "model_card.toml").read_text(encoding="utf-8")
    (folder / "model_card.toml").write_text(f"{text}\n[[measurement]]\n{measurement}\n", encoding="utf-8")
    return load_card(folder)


def test_a_card_says_what_is_plausible_of_the_numbers_of_any_model(tmp_path: Path) -> None:
    card = card_with(tmp_path, 'name = "diameter"\nplausible = { max = 300, reason = "wider than a chest" }')

    assert str(card.measurements[-1].plausible) == "at most 300"
    assert card.measurements[-1].plausible.reason == "wider than a chest"


@pytest.mark.parametrize(
    ("measurement", "told"),
    [
        ('name = "diameter"\nplausible = { max = 300 }', "plausible.reason must be a text"),
        ('name = "diameter"\nplausible = { reason = "so" }', "plausible.min or max must be there"),
        ('name = "diameter"\nplausible = { min = 2, max = 1, reason = "so" }', "is 2, above max, 1"),
        ('name = "diametre"\nplausible = { max = 1, reason = "so" }', "did you mean diameter"),
        ('name = "diameter"\nplausible = { maximum = 1, reason = "so" }', "did you mean"),
    ],
)
def test_a_range_that_says_nothing_is_refused(tmp_path: Path, measurement: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        card_with(tmp_path, measurement)
