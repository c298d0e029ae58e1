"""Channels of a bundle mean what made them: each mask and number against the true tissue, or MONAI's own answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

pytest.importorskip("torch", reason="the inference extra is not installed")

import torch
from highdicom.seg import segread
from pydicom import dcmread

from dicom_node.analysis.answer import Analysis
from dicom_node.core.entities import Presence
from dicom_node.core.errors import ModelUnavailable
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.models import known_answers as known
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import BLOCK_HU, OBLIQUE, PLACES, Placed, series_of
from tests.support.validators import objects as validators

#: Postprocessing of classes that exclude each other; outside of a crop, and where a component was removed, every
#: channel is 0.
CASES = {
    "one-hot, largest component": [known.SOFTMAX, known.INVERT, known.ONE_HOT, known.LARGEST],
    "one-hot, outside of a crop": [known.SOFTMAX, known.ONE_HOT, known.INVERT],
    "softmax, outside of a crop": [known.SOFTMAX, known.INVERT],
    "argmax": [known.INVERT, known.ARGMAX],
}
#: One of each kind of plane, and each axis reversed once.
WHERE = [
    ("one-hot, largest component", "sagittal"),
    ("one-hot, largest component", "oblique"),
    ("one-hot, outside of a crop", "axial, rows reversed"),
    ("one-hot, outside of a crop", "coronal"),
    ("softmax, outside of a crop", "axial, columns reversed"),
    ("softmax, outside of a crop", "oblique"),
    ("argmax", "axial, stored head first"),
]


def answer(datasets: Sequence[Dataset], model: Path, folder: Path) -> Analysis:
    found = run_model(request_for(datasets, model, folder))
    assert isinstance(found, Analysis), found.message
    return found


def true_tissue(found: Analysis, truth: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack([truth[str(source.SOPInstanceUID)] for source in found.sources])


def with_island(datasets: Sequence[Dataset]) -> None:
    """Draw a small second component of the block's kind into a corner of the middle slice."""
    middle = next(one for one in datasets if int(one.InstanceNumber) == len(datasets) // 2)
    stored = np.frombuffer(middle.PixelData, np.uint16).reshape(middle.Rows, middle.Columns).copy()
    stored[1:4, 1:5] = BLOCK_HU - int(middle.RescaleIntercept)
    middle.PixelData = stored.tobytes()


@pytest.mark.parametrize(("case", "name"), WHERE)
def test_classes_that_exclude_each_other_are_themselves_and_not_the_background(
    tmp_path: Path, case: str, name: str
) -> None:
    model = known.known_segmenter(tmp_path / "model", before=[known.RAS, known.CROPPED], after=CASES[case])
    datasets, truth = series_of(PLACES[name])
    if "largest" in case:
        pytest.importorskip("skimage", reason="MONAI's connected components need scikit-image (dicom-node[bundles])")
        with_island(datasets)

    found = answer(datasets, model, tmp_path / "study")

    tissue = true_tissue(found, truth)
    assert [one.finding_key for one in found.segments] == ["block", "ball"]
    for segment, value in zip(found.segments, (1, 2), strict=True):
        assert np.array_equal(segment.mask, tissue == value)


@pytest.mark.parametrize("name", ["coronal", "oblique"])
def test_a_resampled_and_cropped_mask_is_that_of_monai_itself(tmp_path: Path, name: str) -> None:
    pytest.importorskip("nibabel", reason="MONAI reads NIfTI with nibabel")
    before = [known.RAS, known.RESAMPLED, known.CROPPED]
    after = [known.SOFTMAX, known.INVERT, known.ONE_HOT]
    model = known.known_segmenter(tmp_path / "model", before=before, after=after)

    found = answer(series_of(PLACES[name])[0], model, tmp_path / "study")

    slices = [int(source.InstanceNumber) - 1 for source in found.sources]
    expected = known.monai_masks(model, PLACES[name], tmp_path)[:, slices] > 0.5
    for segment, mask in zip(found.segments, expected[1:], strict=True):
        assert np.count_nonzero(segment.mask != mask) == 0


@pytest.mark.parametrize("name", ["axial, rows reversed", "sagittal", "oblique"])
def test_a_structure_in_another_keeps_its_own_mask_in_every_object(tmp_path: Path, name: str) -> None:
    model = known.known_segmenter(
        tmp_path / "model",
        after=[known.SIGMOID, known.INVERT, known.THRESHOLD],
        state=known.levels_state(0.4, 0.8),
        card=known.NESTED,
    )
    datasets, truth = series_of(PLACES[name])
    request = request_for(datasets, model, tmp_path / "study")

    found = run_model(request)

    assert isinstance(found, Analysis), found.message
    tissue = true_tissue(found, truth)
    expected = {"whole": tissue >= 1, "core": tissue == 2}
    assert not [one for one in found.findings if one.presence is Presence.ABSENT]
    objects = write_objects(found, request.context)
    files = {one.kind.value: tmp_path / f"{one.kind.value}.dcm" for one in objects}
    for one in objects:
        files[one.kind.value].write_bytes(to_part10(one.dataset))
    report = str(dcmread(files["SR"]))
    uids = [str(source.SOPInstanceUID) for source in found.sources]
    read = segread(files["SEG"])
    dz, dy, dx = PLACES[name].spacing_zyx_mm
    told = str(build_bundle(found, request.context, objects, FhirOptions()))
    for number, mask in enumerate(expected.values(), start=1):
        stored = read.get_pixels_by_source_instance(uids, segment_numbers=[number])[..., 0]
        assert np.array_equal(stored.astype(bool), mask)
        volume_ml = f"{mask.sum() * dx * dy * dz / 1000:.4g}"
        assert f"'value': {float(volume_ml)}" in told
        assert volume_ml in report
    validators.assert_valid_dicom(files["SEG"], request.files[0].path)


def test_each_structure_of_its_own_has_its_own_probability(tmp_path: Path) -> None:
    card = known.NESTED + '[explain]\nmethod = "probability"\n'
    slope = 4.0
    model = known.known_segmenter(
        tmp_path / "model",
        after=[known.SIGMOID, known.INVERT, known.THRESHOLD],
        state=known.levels_state(0.4, 0.8, slope=slope),
        card=card,
    )
    datasets, truth = series_of(OBLIQUE)
    request = request_for(datasets, model, tmp_path / "study")
    fractions = replace(request.context, output_sets=(OutputSet(segmentation="fractional"),))

    found = run_model(replace(request, context=fractions))

    assert isinstance(found, Analysis), found.message
    scaled = np.array([0.0, 0.6, 1.0])[true_tissue(found, truth)]
    for segment, level in zip(found.segments, (0.4, 0.8), strict=True):
        chance = 1.0 / (1.0 + np.exp(-slope * (scaled - level)))
        assert segment.probability_zyx is not None
        assert segment.probability_zyx == pytest.approx(chance, abs=1e-5)


def test_a_sum_of_classes_is_as_sure_as_they_are_together(tmp_path: Path) -> None:
    both = known.SEGMENTS.replace("value = 2", "values = [1, 2]").replace('"ball"', '"both"')
    slopes, starts = np.array([0.0, 4.0, 8.0]), np.array([0.0, -1.6, -4.8])
    state = {
        "weight": torch.tensor(slopes, dtype=torch.float32).reshape(3, 1, 1, 1, 1),
        "bias": torch.tensor(starts, dtype=torch.float32),
    }
    model = known.known_segmenter(tmp_path / "model", after=[known.SOFTMAX, known.INVERT, known.ARGMAX], state=state,
                                  card=both + '[explain]\nmethod = "probability"\n')  # fmt: skip
    datasets, truth = series_of(OBLIQUE)
    request = request_for(datasets, model, tmp_path / "study")

    found = run_model(
        replace(request, context=replace(request.context, output_sets=(OutputSet(segmentation="fractional"),)))
    )

    assert isinstance(found, Analysis), found.message
    values = np.array([0.0, 0.6, 1.0])[true_tissue(found, truth)]
    powers = np.exp(values[..., None] * slopes + starts)
    sure = 1 - powers[..., 0] / powers.sum(axis=-1)
    (_, segment) = found.segments
    assert np.array_equal(segment.mask, values > 0)
    assert segment.probability_zyx == pytest.approx(sure, abs=1e-5)
    assert {one.finding_key for one in found.saliencies} == {"block", "both"}


# --- what is not known is asked --------------------------------------------------------------------------------------


def test_what_channels_mean_that_nothing_tells_is_asked_in_the_card(tmp_path: Path) -> None:
    model = known.known_segmenter(tmp_path / "model", after=[known.INVERT])

    with pytest.raises(ModelUnavailable, match=r'\[output\] channels = "exclusive"'):
        answer(series_of(Placed())[0], model, tmp_path / "study")


@pytest.mark.parametrize("said", ["exclusive", "overlapping"])
def test_the_card_says_what_channels_mean(tmp_path: Path, said: str) -> None:
    state = known.exclusive_state() if said == "exclusive" else known.levels_state(0.4, 0.8, slope=1e6)
    softly = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: torch.clamp(x, 0, 1)"}
    card = (known.NESTED if said == "overlapping" else known.SEGMENTS) + f'[output]\nchannels = "{said}"\n'
    after = [known.INVERT] if said == "exclusive" else [softly, known.INVERT]
    model = known.known_segmenter(tmp_path / "model", after=after, state=state, card=card)
    datasets, truth = series_of(OBLIQUE)

    found = answer(datasets, model, tmp_path / "study")

    tissue = true_tissue(found, truth)
    first = tissue == 1 if said == "exclusive" else tissue >= 1
    assert np.array_equal(found.segments[0].mask, first)
    assert np.array_equal(found.segments[1].mask, tissue == 2)


@pytest.mark.parametrize("named", ["metadata", "card"])
def test_a_background_among_structures_of_their_own_is_no_structure(tmp_path: Path, named: str) -> None:
    names = {"0": "Background", "1": "whole", "2": "core"} if named == "metadata" else None
    card = known.NESTED + ("[output]\nbackground = true\n" if named == "card" else "")
    after = [known.SIGMOID, known.INVERT, known.THRESHOLD]
    state = known.levels_state(-0.1, 0.4, 0.8)
    model = known.known_segmenter(tmp_path / "model", after=after, state=state, card=card, names=names)
    datasets, truth = series_of(Placed())

    found = answer(datasets, model, tmp_path / "study")

    tissue = true_tissue(found, truth)
    assert np.array_equal(found.segments[0].mask, tissue >= 1)
    assert np.array_equal(found.segments[1].mask, tissue == 2)


def test_more_channels_than_the_card_names_are_asked_about(tmp_path: Path) -> None:
    after = [known.SIGMOID, known.INVERT, known.THRESHOLD]
    state = known.levels_state(-0.1, 0.4, 0.8)
    model = known.known_segmenter(tmp_path / "model", after=after, state=state, card=known.NESTED)

    with pytest.raises(ModelUnavailable, match=r"\[output\] background = true"):
        answer(series_of(Placed())[0], model, tmp_path / "study")


def test_a_first_class_that_is_no_background_is_asked_about(tmp_path: Path) -> None:
    names = {"0": "liver", "1": "kidney", "2": "spleen"}
    model = known.known_segmenter(tmp_path / "model", after=CASES["argmax"], names=names)

    with pytest.raises(ModelUnavailable, match="metadata call it 'liver'"):
        answer(series_of(Placed())[0], model, tmp_path / "study")


def test_a_value_that_the_network_never_gives_is_no_negative_finding(tmp_path: Path) -> None:
    card = known.SEGMENTS.replace("value = 2", "value = 3")
    model = known.known_segmenter(tmp_path / "model", after=CASES["argmax"], card=card)

    with pytest.raises(ModelUnavailable, match=r"values up to 2; the card names 3"):
        answer(series_of(Placed())[0], model, tmp_path / "study")


def test_a_softmax_of_one_channel_is_refused(tmp_path: Path) -> None:
    card = known.SEGMENTS.partition("[[segment]]\nvalue = 2")[0]
    model = known.known_segmenter(
        tmp_path / "model", after=[known.SOFTMAX, known.INVERT], state=known.levels_state(0.4), card=card
    )

    with pytest.raises(ModelUnavailable, match="the same answer for every image"):
        answer(series_of(Placed())[0], model, tmp_path / "study")


def test_a_threshold_without_effect_is_refused(tmp_path: Path) -> None:
    model = known.known_segmenter(
        tmp_path / "model",
        after=[known.SIGMOID, known.INVERT, known.THRESHOLD],
        state=known.levels_state(0.4, 0.8),
        card=known.NESTED + "[parameters]\nthreshold-core = 0.3\n",
    )

    with pytest.raises(ModelUnavailable, match="threshold has no effect"):
        answer(series_of(Placed())[0], model, tmp_path / "study")


@pytest.mark.parametrize("decided", [[], [known.THRESHOLD], [{**known.THRESHOLD, "threshold": 0.9}]])
def test_the_threshold_of_the_card_decides_whether_the_bundle_has_one_or_not(
    tmp_path: Path, decided: list[known.JsonObject]
) -> None:
    model = known.known_segmenter(
        tmp_path / "model",
        after=[known.SIGMOID, *decided, known.INVERT],
        state=known.levels_state(0.4, 0.8, slope=1.0),
        card=known.NESTED + "[parameters]\nthreshold = 0.54\n",
    )
    datasets, truth = series_of(Placed())

    found = answer(datasets, model, tmp_path / "study")

    # Sigmoid of 0.2 is 0.5498: the block and the core of it, 1.0 - 0.8.
    tissue = true_tissue(found, truth)
    for segment, mask in zip(found.segments, (tissue >= 1, tissue == 2), strict=True):
        assert np.array_equal(segment.mask, mask)
