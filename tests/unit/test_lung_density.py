"""ct-lung-density on phantoms with known truth: numbers, sides, places."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.codes import ATTENUATION_COEFFICIENT, LUNG_DENSITY_PERCENTILE_15, LUNG_WEIGHT, VOLUME
from dicom_node.demo.phantoms import LungTruth, PhantomTruth, chest_ct_phantom
from dicom_node.inference.cards.card import CARD_NAME, SHIPPED_MODELS, load_card
from dicom_node.inference.images.contrast import contrast_was_given
from dicom_node.inference.lungs.segmentation import optimal_threshold
from dicom_node.inference.runner import run_model
from tests.support.studies.data_factories import changed, flipped_columns, flipped_rows, request_for, small_chest_ct

MODEL = SHIPPED_MODELS / "ct-lung-density"


def _answer(datasets: list[Dataset], folder: Path, **parameters: float) -> Analysis:
    answer = run_model(request_for(datasets, MODEL, folder, **parameters))
    assert isinstance(answer, Analysis), answer.message
    return answer


def _declined(datasets: list[Dataset], folder: Path) -> NotAnalysed:
    answer = run_model(request_for(datasets, MODEL, folder))
    assert isinstance(answer, NotAnalysed)
    return answer


def _numbers(answer: Analysis) -> dict[str, list[float]]:
    return {finding.key: [m.value for m in finding.measurements] for finding in answer.findings}


def _check(numbers: list[float], truth: LungTruth) -> None:
    # The main numbers come first.
    volume_ml, mean_hu, laa_percent, percentile_hu = numbers[:4]
    assert volume_ml == pytest.approx(truth.volume_ml, rel=0.02)
    assert laa_percent == pytest.approx(truth.laa950_percent, abs=1.0)
    assert mean_hu == pytest.approx(truth.mean_hu, abs=5)
    assert percentile_hu == pytest.approx(truth.percentile15_hu, abs=3)


def test_volume_and_density_of_each_lung_meet_the_truth(phantom_answer: Analysis, phantom_truth: PhantomTruth) -> None:
    numbers = _numbers(phantom_answer)

    _check(numbers["left-lung"], phantom_truth.left)
    _check(numbers["right-lung"], phantom_truth.right)
    assert numbers["both-lungs"][0] == pytest.approx(numbers["left-lung"][0] + numbers["right-lung"][0], abs=1)
    assert set(phantom_answer.stage_times_s) == {"headers", "read", "segment", "measure"}
    assert not phantom_answer.partial


def test_the_full_grid_border_meets_the_truth_at_small_pixels(tmp_path: Path) -> None:
    datasets, truth = chest_ct_phantom(slices=28, rows=240, slice_spacing_mm=10.0)

    numbers = _numbers(_answer(datasets, tmp_path))

    _check(numbers["left-lung"], truth.left)
    _check(numbers["right-lung"], truth.right)


def test_the_masks_lie_on_the_lungs(phantom_answer: Analysis, phantom_truth: PhantomTruth) -> None:
    for segment, truth in zip(phantom_answer.segments, (phantom_truth.left, phantom_truth.right), strict=True):
        overlap = 2 * (segment.mask & truth.mask_zyx).sum() / (segment.mask.sum() + truth.mask_zyx.sum())
        assert overlap > 0.98


def test_the_stomach_bubble_and_the_trachea_are_no_lung(phantom_answer: Analysis) -> None:
    both = np.logical_or(*(segment.mask for segment in phantom_answer.segments))

    assert not both[:3].any()
    centre = both.shape[2] // 2
    assert not both[:, :, centre - 2 : centre + 3].any()


@pytest.mark.parametrize(("columns", "rows"), [(True, False), (False, True), (True, True)])
def test_neither_order_nor_flips_change_numbers_or_places(
    phantom: list[Dataset], phantom_answer: Analysis, tmp_path: Path, columns: bool, rows: bool
) -> None:
    turned = random.Random(20260105).sample(phantom, len(phantom))
    turned = [flipped_columns(one) for one in turned] if columns else turned
    turned = [flipped_rows(one) for one in turned] if rows else turned

    answer = _answer(turned, tmp_path)

    assert _numbers(answer) == _numbers(phantom_answer)
    for segment, straight in zip(answer.segments, phantom_answer.segments, strict=True):
        upright = segment.mask[:, :: -1 if rows else 1, :: -1 if columns else 1]
        # One flip alone turns the slice normal round, and with it the order of the slices.
        upright = upright[::-1] if columns != rows else upright
        assert np.array_equal(upright, straight.mask)


def test_left_and_right_come_from_geometry_not_from_the_patient_position(
    phantom: list[Dataset], phantom_answer: Analysis, tmp_path: Path
) -> None:
    said = changed(phantom, lambda d: setattr(d, "PatientPosition", "FFP"))

    assert _numbers(_answer(said, tmp_path)) == _numbers(phantom_answer)


def test_of_lungs_cut_off_by_the_scan_the_density_is_reported_and_no_volume(
    phantom: list[Dataset], tmp_path: Path
) -> None:
    answer = _answer(phantom[8:], tmp_path)

    assert answer.partial
    assert {m.name for finding in answer.findings for m in finding.measurements}.isdisjoint({VOLUME})
    assert [len(finding.measurements) for finding in answer.findings] == [4, 4, 4]
    for side in ("left", "right"):
        told = f"Lungs truncated: volume not reported. The {side} lung reaches the first slice; its density is"
        assert any(note.startswith(told) for note in answer.notes)


@pytest.mark.parametrize(("age", "told"), [("", True), ("008Y", False)])
def test_contrast_and_less_air_than_usual_in_an_adult_are_told(
    phantom: list[Dataset], age: str, told: bool, tmp_path: Path
) -> None:
    def shrink(dataset: Dataset) -> None:
        dataset.PixelSpacing, dataset.PatientAge, dataset.ContrastBolusAgent = [2.3, 2.3], age, "OMNIPAQUE"

    answer = _answer(changed(phantom, shrink), tmp_path)

    total_ml = answer.findings[0].measurements[0].value
    expected = f"Less aerated lung than usual in an adult (2 to 8 l): {total_ml / 1000:.2f} l."
    assert total_ml < 2000
    assert any(note.startswith(expected) for note in answer.notes) is told
    assert "Contrast medium was given; it raises lung density." in answer.notes


def test_a_missing_slice_is_declined_with_the_headers_looked_at(phantom: list[Dataset], tmp_path: Path) -> None:
    declined = _declined(phantom[:10] + phantom[11:], tmp_path)

    assert declined.reason == "GAP_IN_SERIES"
    assert len(declined.sources) == len(phantom) - 1
    assert "PixelData" not in declined.sources[0]
    assert declined.notes


def test_a_solid_body_has_no_lungs(phantom: list[Dataset], tmp_path: Path) -> None:
    def fill(dataset: Dataset) -> None:
        stored = dataset.pixel_array.copy()
        stored[20:76, 8:88] = 1064
        dataset.PixelData = stored.tobytes()

    assert _declined(changed(phantom, fill), tmp_path).reason == "NO_LUNGS"


def test_lungs_of_an_implausible_size_are_declined(phantom: list[Dataset], tmp_path: Path) -> None:
    answer = run_model(request_for(phantom, MODEL, tmp_path, min_total_volume_ml=6000))

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "IMPLAUSIBLE_VOLUME"
    assert "6000 to 12000 ml would be plausible" in answer.message


def test_lungs_that_touch_are_told_apart(phantom: list[Dataset], phantom_truth: PhantomTruth, tmp_path: Path) -> None:
    def join(dataset: Dataset) -> None:
        stored = dataset.pixel_array.copy()
        if 0 <= dataset.SliceLocation <= 60:
            stored[40:44, 30:66] = 164
        dataset.PixelData = stored.tobytes()

    left, right = (segment.mask for segment in _answer(changed(phantom, join), tmp_path).segments)

    for mask, truth in ((left, phantom_truth.left), (right, phantom_truth.right)):
        assert (mask & truth.mask_zyx).sum() > 0.98 * truth.mask_zyx.sum()
    assert not (left & phantom_truth.right.mask_zyx).any()
    assert not (right & phantom_truth.left.mask_zyx).any()


def test_a_truncated_file_is_declined(phantom: list[Dataset], tmp_path: Path) -> None:
    request = request_for(phantom, MODEL, tmp_path)
    request.files[5].path.write_bytes(request.files[5].path.read_bytes()[:-1000])

    answer = run_model(request)

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "UNREADABLE_PIXELS"


def test_a_file_that_is_not_dicom_is_declined(phantom: list[Dataset], tmp_path: Path) -> None:
    request = request_for(phantom, MODEL, tmp_path)
    request.files[0].path.write_bytes(b"not dicom at all")

    answer = run_model(request)

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "UNREADABLE_FILE"
    assert len(answer.sources) == len(phantom) - 1


def test_a_site_may_choose_another_threshold_and_its_name_says_so(phantom: list[Dataset], tmp_path: Path) -> None:
    answer = _answer(phantom, tmp_path, laa_threshold_hu=-910)

    assert "laa_threshold_hu=-910" in answer.model.parameters
    assert answer.findings[0].measurements[2].name.value == "LAA910"


def test_equal_seeds_make_equal_phantoms_and_others_make_other_studies() -> None:
    first, again, other = (small_chest_ct(seed)[0][3] for seed in ("1", "1", "2"))

    assert first == again
    assert first.StudyInstanceUID != other.StudyInstanceUID
    assert first.PixelData != other.PixelData


def test_the_optimal_threshold_lies_between_air_and_tissue() -> None:
    values = np.array([-1000] * 50 + [40] * 50, np.int16)

    assert optimal_threshold(values) == pytest.approx(-480, abs=1)


@pytest.fixture(scope="module")
def phantom_answer(phantom: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return _answer(phantom, tmp_path_factory.mktemp("phantom"))


@pytest.mark.parametrize("agent", ["NONE", "none ", "NO", "No Contrast", "WITHOUT", "W/O", "N/A", "-", "0", "", None])
def test_where_no_contrast_medium_is_written_none_was_given(agent: str | None) -> None:
    header = Dataset()
    header.ContrastBolusAgent = agent

    assert not contrast_was_given(header)


@pytest.mark.parametrize("agent", ["OMNI", "APPLIED", "NOVOPAQUE", ["NONE", "OMNIPAQUE 350"]])
def test_a_named_agent_is_contrast_medium(agent: str | list[str]) -> None:
    header = Dataset()
    header.ContrastBolusAgent = agent

    assert contrast_was_given(header)


def test_a_coded_agent_is_contrast_medium() -> None:
    header = Dataset()
    header.ContrastBolusAgentSequence = [Dataset()]

    assert contrast_was_given(header)


def test_of_a_sharp_kernel_volume_and_mean_are_reported_and_the_shares_withheld(
    phantom: list[Dataset], tmp_path: Path
) -> None:
    sharp = changed(phantom, lambda d: setattr(d, "ConvolutionKernel", "B70f"))

    answer = _answer(sharp, tmp_path)

    for finding in answer.findings:
        assert [one.name for one in finding.measurements] == [VOLUME, ATTENUATION_COEFFICIENT, LUNG_WEIGHT]
        assert [(one.name.value, one.reason) for one in finding.withheld] == [
            ("LAA950", "SHARP_KERNEL"),
            (LUNG_DENSITY_PERCENTILE_15.value, "SHARP_KERNEL"),
            ("LAA910", "SHARP_KERNEL"),
            ("GODDARD-LIKE", "SHARP_KERNEL"),
        ]
        assert "the kernel B70f is sharp, which raises LAA" in finding.withheld[0].message
    assert answer.histogram is None
    assert not answer.partial
    assert not any("LAA-950 is lower" in note for note in answer.notes)
    assert any(note.startswith("Measured on series 1: kernel B70f (sharp)") for note in answer.notes)


def test_noise_as_of_a_sharp_kernel_withholds_the_shares_whatever_the_kernel_is_called(
    phantom: list[Dataset], tmp_path: Path
) -> None:
    noise = np.random.default_rng(4)

    def roughen(dataset: Dataset) -> None:
        stored = dataset.pixel_array + noise.normal(0, 25, dataset.pixel_array.shape)
        dataset.PixelData = np.clip(np.rint(stored), 0, 4095).astype("<u2").tobytes()

    answer = _answer(changed(phantom, roughen), tmp_path)

    assert {one.reason for finding in answer.findings for one in finding.withheld} == {"SHARP_KERNEL"}
    assert any("kernel PHANTOM (of no known kind), noise from pixel to pixel" in note for note in answer.notes)
    assert any("as of a sharp kernel, raises LAA" in note for note in answer.notes)


def test_a_lung_outside_the_ranges_of_the_card_is_withheld_with_all_of_its_numbers(
    phantom: list[Dataset], tmp_path: Path
) -> None:
    model = tmp_path / "strict"
    shutil.copytree(MODEL, model)
    card = model / CARD_NAME
    strict = card.read_text(encoding="utf-8").replace("min = -960, max = -300", "min = -960, max = -870")
    card.write_text(strict, encoding="utf-8")

    answer = run_model(request_for(phantom, model, tmp_path / "study"))

    assert isinstance(answer, Analysis)
    left, right = answer.findings
    assert (left.key, left.measurements, left.segment_number) == ("left-lung", (), None)
    assert {one.reason for one in left.withheld} == {"IMPLAUSIBLE_VALUE"}
    assert any("Left lung: Mean Attenuation Coefficient of -86" in note for note in answer.notes)
    assert any("(-960 to -870 HU expected: an air-filled lung" in note for note in answer.notes)
    assert len(right.measurements) == 14
    assert [segment.finding_key for segment in answer.segments] == ["right-lung"]
    assert answer.partial


def test_every_number_has_a_plausible_range(phantom_answer: Analysis) -> None:
    ranges = load_card(MODEL).measurements

    for finding in phantom_answer.findings:
        for number in finding.measurements:
            assert any(one.is_of(finding.key, number) for one in ranges), (finding.key, number.label)


def test_the_kernel_is_told_with_every_answer(phantom_answer: Analysis) -> None:
    assert any(note.startswith("Measured on series 1: kernel PHANTOM") for note in phantom_answer.notes)
