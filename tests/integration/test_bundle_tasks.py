"""Bundles in the style of the Model Zoo: each task answered, and every result on the right voxels of the source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.entities import Presence
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.runner import run_model
from tests.support.models import zoo_bundles
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import BALL_CENTRE_MM, BALL_RADIUS_MM, OBLIQUE, PLACES, Placed, series_of

Truth = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def as_in_the_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenting bundle that turns, resamples and crops, as published ones do."""
    folder = tmp_path_factory.mktemp("models") / "shapes"
    return zoo_bundles.segmenter(folder, before=[zoo_bundles.RAS, zoo_bundles.RESAMPLED, zoo_bundles.CROPPED])


def answer(datasets: Sequence[Dataset], model: Path, folder: Path, **parameters: float) -> Analysis:
    found = run_model(request_for(datasets, model, folder, **parameters))
    assert isinstance(found, Analysis), found.message
    return found


def overlap(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Dice coefficient."""
    return 2 * float((found & true).sum()) / float(found.sum() + true.sum())


def true_masks(found: Analysis, truth: Truth) -> list[NDArray[np.bool_]]:
    kinds = np.stack([truth[str(source.SOPInstanceUID)] for source in found.sources])
    return [kinds == 1, kinds == 2]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_mask_lies_on_the_right_voxels_however_the_series_lies(
    as_in_the_zoo: Path, tmp_path: Path, place: Placed
) -> None:
    datasets, truth = series_of(place)

    found = answer(datasets, as_in_the_zoo, tmp_path)

    block, ball = true_masks(found, truth)
    assert [segment.label for segment in found.segments] == ["Block", "Ball"]
    fits = overlap(found.segments[0].mask, block)
    assert fits > 0.9
    assert overlap(found.segments[1].mask, ball) > 0.8
    # Mirrored or shifted by two voxels it would not fit: the body is not symmetric.
    for mirrored in (found.segments[0].mask[::-1], found.segments[0].mask[:, ::-1], found.segments[0].mask[:, :, ::-1]):
        assert overlap(mirrored, block) < fits - 0.05
    assert overlap(np.roll(found.segments[1].mask, 2, axis=2), ball) < 0.7


def test_without_resampling_the_mask_is_exact(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "exact", before=[zoo_bundles.RAS])
    datasets, truth = series_of(OBLIQUE)

    found = answer(datasets, model, tmp_path / "study")

    for segment, true in zip(found.segments, true_masks(found, truth), strict=True):
        assert np.array_equal(segment.mask, true)


def test_a_bundle_that_does_not_undo_its_preprocessing_has_it_undone(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(
        tmp_path / "one-way", before=[zoo_bundles.RAS, zoo_bundles.RESAMPLED, zoo_bundles.CROPPED], inverts=False
    )
    datasets, truth = series_of(OBLIQUE)

    found = answer(datasets, model, tmp_path / "study")

    assert overlap(found.segments[0].mask, true_masks(found, truth)[0]) > 0.9


def test_the_configuration_may_be_yaml(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "yaml", before=[zoo_bundles.RAS], yaml=True)
    datasets, truth = series_of(Placed())

    found = answer(datasets, model, tmp_path / "study")

    assert np.array_equal(found.segments[0].mask, true_masks(found, truth)[0])


def test_a_volume_is_measured_in_millilitres_with_the_codes_of_the_card(as_in_the_zoo: Path, tmp_path: Path) -> None:
    found = answer(series_of(Placed())[0], as_in_the_zoo, tmp_path)

    ball = next(finding for finding in found.findings if finding.key == "ball")
    measured = ball.measurements[0]
    voxel_ml = 2.5 * 2.0 * 1.8 / 1000
    assert measured.value == pytest.approx(found.segments[1].mask.sum() * voxel_ml, rel=1e-3)
    # Resampling rounds the ball off.
    assert measured.value == pytest.approx(4 / 3 * np.pi * BALL_RADIUS_MM**3 / 1000, rel=0.3)
    assert (measured.name.value, measured.unit.value) == ("118565006", "ml")
    assert (ball.code.value, ball.laterality and ball.laterality.meaning) == ("64033007", "Left")
    assert found.segments[1].color_rgb == (10, 200, 30)
    assert found.partial is False


def test_an_implausible_volume_is_told_and_not_reported(tmp_path: Path) -> None:
    card = zoo_bundles.SEGMENTS.replace("plausible_ml = { max = 1000 }", "plausible_ml = { min = 500, max = 1000 }")
    model = zoo_bundles.segmenter(tmp_path / "strict", before=[zoo_bundles.RAS], card=card)

    found = answer(series_of(Placed())[0], model, tmp_path / "study")

    assert [segment.label for segment in found.segments] == ["Ball"]
    assert [(finding.key, len(finding.measurements)) for finding in found.findings] == [("block", 0), ("ball", 1)]
    (told,) = found.findings[0].withheld
    assert (told.name.meaning, told.reason, found.findings[0].presence) == ("Volume", "IMPLAUSIBLE_VALUE", None)
    assert found.partial is True
    assert any(note.startswith("Block: ") and "not plausible (500 to 1000 ml expected)" in note for note in found.notes)


def test_when_no_volume_is_plausible_the_study_is_not_analysed(tmp_path: Path) -> None:
    limits = "plausible_ml = { min = 900 }"
    card = zoo_bundles.SEGMENTS.replace("plausible_ml = { max = 1000 }", limits).replace(
        "color_rgb", f"{limits}\ncolor_rgb"
    )
    model = zoo_bundles.segmenter(tmp_path / "stricter", before=[zoo_bundles.RAS], card=card)

    found = run_model(request_for(series_of(Placed())[0], model, tmp_path / "study"))

    assert isinstance(found, NotAnalysed)
    assert found.reason == "IMPLAUSIBLE_VOLUME"


def test_a_structure_that_is_not_there_is_reported_absent(as_in_the_zoo: Path, tmp_path: Path) -> None:
    small = Placed(shape_zyx=(24, 40, 10))  # ends before the ball

    found = answer(series_of(small)[0], as_in_the_zoo, tmp_path)

    ball = next(finding for finding in found.findings if finding.key == "ball")
    assert (ball.presence, ball.segment_number) == (Presence.ABSENT, None)


def test_a_structure_that_reaches_the_last_slice_is_told(as_in_the_zoo: Path, tmp_path: Path) -> None:
    found = answer(series_of(Placed(shape_zyx=(8, 40, 44)))[0], as_in_the_zoo, tmp_path)

    assert "Block reaches the first and the last slice: the scan may cut it off." in found.notes


def test_a_classifier_sees_the_picture_as_its_reader_would_have_given_it(tmp_path: Path) -> None:
    model = zoo_bundles.classifier(tmp_path / "halves")
    image = chest_radiograph_phantom(rows=96)
    stored = np.full((96, 96), 200, np.uint16)
    stored[:, :40] = 3000
    image.PixelData = stored.tobytes()

    chances = {finding.key: finding.probability for finding in answer([image], model, tmp_path / "study").findings}

    assert chances["left-half"] is not None
    assert chances["left-half"] > 0.95


def test_a_classifier_that_decides_still_reports_what_it_decided_from(tmp_path: Path) -> None:
    image = chest_radiograph_phantom(rows=96)
    plain = zoo_bundles.classifier(tmp_path / "plain")
    decided = zoo_bundles.classifier(tmp_path / "decided", decided=True)

    chances = [answer([image], model, tmp_path / f"study-{model.name}").findings for model in (plain, decided)]

    assert [one.probability for one in chances[0]] == [one.probability for one in chances[1]]
    assert chances[0][0].probability not in (0.0, 1.0)


def test_a_regression_gives_a_value_with_its_unit(tmp_path: Path) -> None:
    model = zoo_bundles.regressor(tmp_path / "brightness")
    image = chest_radiograph_phantom(rows=96)
    stored = np.zeros((96, 96), np.uint16)
    stored[:24] = 4095  # white, in the window of the phantom
    image.PixelData = stored.tobytes()

    found = answer([image], model, tmp_path / "study")

    measured = found.findings[0].measurements[0]
    assert measured.value == pytest.approx(25.0, abs=0.2)
    assert (measured.unit.value, measured.name.scheme) == ("%", "DCM")


def test_an_implausible_value_is_not_reported(tmp_path: Path) -> None:
    model = zoo_bundles.regressor(tmp_path / "brightness", bias=200.0)

    found = run_model(request_for([chest_radiograph_phantom(rows=96)], model, tmp_path / "study"))

    assert isinstance(found, NotAnalysed)
    assert found.reason == "IMPLAUSIBLE_VALUE"
    assert "0 to 50 % expected" in found.message


@pytest.mark.parametrize("name", ["axial", "axial, stored head first", "coronal", "oblique"])
def test_a_box_lies_on_the_right_voxels_however_the_series_lies(tmp_path: Path, name: str) -> None:
    model, place = zoo_bundles.detector(tmp_path / "boxes"), PLACES[name]
    datasets, truth = series_of(place)

    found = answer(datasets, model, tmp_path / "study")

    nodule = next(finding for finding in found.findings if finding.key == "nodule-1")
    assert (nodule.presence, nodule.probability) == (Presence.PRESENT, pytest.approx(0.8))
    assert nodule.region is not None
    x, y = np.array(nodule.region.points_xy_px).T
    shown = truth[nodule.region.sop_instance_uid]
    rows, columns = np.nonzero(shown == 2)
    turned_px = 4 if place is OBLIQUE else 2
    assert [x.min(), x.max()] == pytest.approx([columns.min(), columns.max() + 1], abs=turned_px)
    assert [y.min(), y.max()] == pytest.approx([rows.min(), rows.max() + 1], abs=turned_px)
    middle_mm = next(one for one in datasets if one.SOPInstanceUID == nodule.region.sop_instance_uid)
    normal = np.cross(middle_mm.ImageOrientationPatient[:3], middle_mm.ImageOrientationPatient[3:])
    off_mm = (np.array(middle_mm.ImagePositionPatient, float) - np.array(BALL_CENTRE_MM)) @ normal
    assert abs(off_mm) < 4.0
    assert (
        2 * BALL_RADIUS_MM - 2
        <= nodule.measurements[0].value
        <= 2 * BALL_RADIUS_MM * (1.6 if place is OBLIQUE else 1.3)
    )


def test_a_class_without_a_sure_box_is_reported_absent(tmp_path: Path) -> None:
    model = zoo_bundles.detector(tmp_path / "boxes")

    found = answer(series_of(Placed())[0], model, tmp_path / "study")

    missing = next(finding for finding in found.findings if finding.key == "calcification")
    assert (missing.presence, missing.probability, missing.region) == (Presence.ABSENT, pytest.approx(0.1), None)
