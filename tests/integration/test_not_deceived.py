"""What is not what a model is for, one after the other through the real gate: each refused by a reason of its own.

A fruit, a bottle, a child's brain and a turned head are golden studies of `mr-brain-volumes`; a dog is in
`test_frontal_chest.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.images.pixels import display_values
from dicom_node.inference.images.radiographs.frontal_chest import LEAST_LIKENESS, likeness
from dicom_node.inference.runner import run_model
from tests.support.needs import real_data
from tests.support.studies.data_factories import request_for, small_chest_ct

_SIDE = 256
Picture = NDArray[Any]


def refused(images: list[Dataset], model: str, folder: Path) -> NotAnalysed:
    found = run_model(request_for(images, SHIPPED_MODELS / model, folder))
    assert isinstance(found, NotAnalysed)
    return found


def radiograph(picture: Picture, **said: Any) -> Dataset:
    """A child's chest radiograph by its header, with another picture, 0..1."""
    image = chest_radiograph_phantom(rows=_SIDE)
    image.Rows, image.Columns = picture.shape
    image.PixelData = np.rint(np.clip(picture, 0, 1) * 4095).astype(np.uint16).tobytes()
    for keyword, value in said.items():
        setattr(image, keyword, value)
    return image


def knee() -> Picture:
    """Two shafts that widen to a joint, a thinner bone beside the lower one, in soft tissue."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE - 0.5
    picture = np.where(np.abs(x) < 0.28, 0.35, 0.0)
    picture[(np.abs(x) < 0.09 + 0.09 * np.exp(-((y / 0.12) ** 2))) & (np.abs(y) > 0.015)] = 0.8
    picture[(np.abs(x + 0.17) < 0.03) & (y > 0.08)] = 0.7
    return picture + np.random.default_rng(1).normal(0, 0.02, picture.shape)


def upside_down() -> Picture:
    return chest_radiograph_phantom(rows=_SIDE).pixel_array[::-1] / 4095


@pytest.mark.parametrize("model", ["cxr-pneumonia", "cxr-anomaly"])
@pytest.mark.parametrize(
    ("picture", "said", "reason"),
    [
        (knee, {}, "NOT_FRONTAL_CHEST"),
        (knee, {"BodyPartExamined": "KNEE"}, "NOT_FRONTAL_CHEST"),
        (upside_down, {}, "NOT_FRONTAL_CHEST"),
        (upside_down, {"ViewPosition": "LL"}, "LATERAL_VIEW_ONLY"),
    ],
    ids=["a knee that says it is a chest", "a knee", "a chest upside down", "a lateral view"],
)
def test_what_is_no_frontal_chest_is_not_scored(
    picture: Callable[[], Picture], said: dict[str, Any], reason: str, model: str, tmp_path: Path
) -> None:
    assert refused([radiograph(picture(), **said)], model, tmp_path).reason == reason


@pytest.mark.parametrize("name", ["gdcm-CR-MONO1-10-chest.dcm", "RG1_J2KI"])
def test_real_chests_upside_down_do_not_look_like_chests(name: str) -> None:
    upright = display_values(dcmread(real_data("cxr") / name), voi=True)

    assert likeness(upright) > LEAST_LIKENESS
    assert likeness(np.ascontiguousarray(upright[::-1])) < 0.1
    assert likeness(np.ascontiguousarray(upright[::-1, ::-1])) < 0.1


def test_a_real_chest_from_the_side_does_not_look_like_one_from_the_front() -> None:
    """Both are projections of one CT, so that nothing but the direction tells them apart."""
    images = [dcmread(path) for path in real_data("ct_chest_rider_64slices").iterdir()]
    first = sorted((one for one in images if str(one.AcquisitionNumber) == "1"),
                   key=lambda one: -float(one.ImagePositionPatient[2]))  # fmt: skip
    density = np.stack([one.pixel_array * one.RescaleSlope + one.RescaleIntercept for one in first]) / 1000 + 1
    front, side = (
        likeness(projected(np.clip(density, 0, 3), axis, float(first[0].PixelSpacing[0]))) for axis in (1, 2)
    )

    assert front > 0.8
    assert side < 0.1


def projected(density_zyx: Picture, axis: int, pixel_mm: float) -> NDArray[np.float32]:
    """Return a radiograph of slices 5 mm apart, without scatter and divergence."""
    summed = np.repeat(density_zyx.sum(axis), round(5 / pixel_mm), axis=0)
    low, high = np.percentile(summed, [1, 99])
    picture: NDArray[np.float32] = np.clip((summed - low) / (high - low), 0, 1).astype(np.float32)
    return picture


@pytest.fixture(scope="module")
def chest() -> list[Dataset]:
    return list(small_chest_ct()[0])


@pytest.mark.parametrize(
    "words", ["CTAC", "AC_CT WB", "CT WB 5.0 B31f AC", "CT Atten Cor", "CT attenuation correction"]
)
def test_the_ct_of_a_pet_is_no_ct_of_a_full_breath(words: str, chest: list[Dataset], tmp_path: Path) -> None:
    for one in chest:
        one.SeriesDescription = words

    found = refused(chest, "ct-lung-density", tmp_path)

    assert found.reason == "ATTENUATION_CORRECTION"
    assert "made to correct the attenuation of PET or SPECT" in found.message


@pytest.mark.parametrize(
    "words", ["CT CHEST ACUTE", "THORAX 5.0 B31f", "ACCESSORY FISSURE", "TAC TORACE", "Chest A/C/P"]
)
def test_other_words_are_none_of_a_pet(words: str, chest: list[Dataset], tmp_path: Path) -> None:
    for one in chest:
        one.SeriesDescription = words

    found = run_model(request_for(chest, SHIPPED_MODELS / "ct-lung-density", tmp_path))

    assert isinstance(found, Analysis) or found.reason != "ATTENUATION_CORRECTION"


def test_the_pet_itself_is_no_ct(chest: list[Dataset], tmp_path: Path) -> None:
    for one in chest:
        one.Modality = "PT"

    assert refused(chest, "ct-lung-density", tmp_path).reason == "WRONG_MODALITY"


def test_thick_slices_for_planning_are_no_lungs_whether_or_not_they_say_so(tmp_path: Path) -> None:
    thick = list(small_chest_ct()[0])[::6]
    assert refused(thick, "ct-lung-density", tmp_path / "silent").reason == "TOO_FEW_SLICES"
    for one in thick:
        one.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    assert refused(thick, "ct-lung-density", tmp_path / "said").reason in {"LOCALIZER_ONLY", "TOO_FEW_SLICES"}
