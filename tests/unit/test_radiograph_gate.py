"""Which radiographs a model may see, what of them a viewer would hide, and what a lossy past does to them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForProcessing,
    JPEGBaseline8Bit,
)

from dicom_node.core.errors import NotAnalysable
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.pixels import display_values, hidden_pixels
from dicom_node.inference.images.radiographs.radiograph import frontal_images
from dicom_node.inference.images.remarks import lossy_remarks, shutter_remark
from dicom_node.inference.model_run import SourceImage
from dicom_node.sr_writer.pictures.display import displayed

RAW_CLASSES = (
    DigitalXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForProcessing,
)


@pytest.fixture(scope="module")
def radiograph() -> Dataset:
    return chest_radiograph_phantom(rows=96)


def like(radiograph: Dataset, **changes: Any) -> Dataset:
    image = copy.deepcopy(radiograph)
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return image


def given(*images: Dataset, gate: Gate | None = None) -> tuple[int, list[str]]:
    """Return how many images the model may see, and the notes."""
    notes: list[str] = []
    return len(frontal_images([SourceImage(Path(), image) for image in images], notes, gate or Gate())), notes


def reason(*images: Dataset, gate: Gate | None = None) -> str:
    with pytest.raises(NotAnalysable) as refused:
        given(*images, gate=gate)
    return refused.value.reason


# --- views -----------------------------------------------------------------------------------------------------------


def test_a_bone_image_beside_a_view_is_left_out_and_told(radiograph: Dataset) -> None:
    bone = like(radiograph, ImageType=["DERIVED", "SECONDARY", "", "BONE"], InstanceNumber=2)

    seen, notes = given(radiograph, bone)

    assert seen == 1
    assert notes == ["Left out: image 2, derived from other images."]
    assert reason(bone) == "DERIVED_ONLY"
    assert given(bone, gate=Gate(derived_allowed=True))[0] == 1


def test_a_view_that_was_processed_again_stays_a_view(radiograph: Dataset) -> None:
    assert given(like(radiograph, ImageType=["DERIVED", "PRIMARY", "POST_PROCESSED"])) == (1, [])


@pytest.mark.parametrize("sop_class", RAW_CLASSES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("intent", [None, "", "FOR PRESENTATION"])
def test_a_class_of_raw_data_is_raw_whatever_its_intent_says(
    radiograph: Dataset, sop_class: str, intent: str | None
) -> None:
    changes = {} if intent is None else {"PresentationIntentType": intent}

    assert reason(like(radiograph, SOPClassUID=sop_class, **changes)) == "FOR_PROCESSING_ONLY"


# --- display shutter -------------------------------------------------------------------------------------------------

SHUTTERS: dict[str, dict[str, Any]] = {
    "rectangle": {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 11,
        "ShutterRightVerticalEdge": 90,
        "ShutterUpperHorizontalEdge": 21,
        "ShutterLowerHorizontalEdge": 80,
    },
    "circle": {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [48, 40], "RadiusOfCircularShutter": 30},
    "polygon": {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [10, 10, 10, 80, 90, 80, 90, 10]},
}


def seen_by_hand(name: str) -> np.ndarray:
    rows, columns = np.mgrid[1:97, 1:97]
    return {
        "rectangle": (rows >= 21) & (rows <= 80) & (columns >= 11) & (columns <= 90),
        "circle": (rows - 48) ** 2 + (columns - 40) ** 2 <= 900,
        "polygon": (rows >= 10) & (rows <= 90) & (columns >= 10) & (columns <= 80),
    }[name]


@pytest.mark.parametrize("name", SHUTTERS)
def test_what_a_shutter_hides_is_black_for_model_and_picture_and_told(radiograph: Dataset, name: str) -> None:
    image = like(radiograph, **SHUTTERS[name])
    hidden = hidden_pixels(image)

    assert hidden is not None
    assert np.array_equal(hidden, ~seen_by_hand(name))
    assert not display_values(image, voi=True)[hidden].any()
    assert not displayed(image).pixels[hidden].any()
    assert shutter_remark(image, hidden)[0].startswith(f"The display shutter of image 1 hides {hidden.mean():.0%}"[:-1])


@pytest.mark.parametrize("name", SHUTTERS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_is_behind_a_shutter_changes_nothing(radiograph: Dataset, name: str, photometric: str) -> None:
    image = like(radiograph, PhotometricInterpretation=photometric, **SHUTTERS[name])
    for keyword in ("WindowCenter", "WindowWidth"):
        del image[keyword]
    stored = image.pixel_array.copy()
    stored[~seen_by_hand(name)] = 4095
    other = like(image, PixelData=stored.tobytes())

    assert np.array_equal(display_values(image, voi=True), display_values(other, voi=True))
    assert np.array_equal(displayed(image).pixels, displayed(other).pixels)


def test_of_two_shutters_both_hide(radiograph: Dataset) -> None:
    both = {**SHUTTERS["rectangle"], **SHUTTERS["circle"], "ShutterShape": ["RECTANGULAR", "CIRCULAR"]}

    hidden = hidden_pixels(like(radiograph, **both))

    assert hidden is not None
    assert np.array_equal(hidden, ~(seen_by_hand("rectangle") & seen_by_hand("circle")))


def test_a_shutter_has_the_gray_that_its_image_says(radiograph: Dataset) -> None:
    image = like(radiograph, ShutterPresentationValue=65535, **SHUTTERS["rectangle"])

    assert (display_values(image, voi=True)[~seen_by_hand("rectangle")] == 1.0).all()
    assert (displayed(image).pixels[~seen_by_hand("rectangle")] == 255).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [48], "RadiusOfCircularShutter": 30},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [10, 10, 10]},
    ],
    ids=str,
)
def test_a_shutter_that_cannot_be_applied_is_no_image_to_answer_about(
    radiograph: Dataset, changes: dict[str, Any]
) -> None:
    with pytest.raises(NotAnalysable, match=r"shutter|ShutterShape") as refused:
        display_values(like(radiograph, **changes), voi=True)

    assert refused.value.reason == "UNREADABLE_ATTRIBUTE"


def test_an_image_without_a_shutter_hides_nothing(radiograph: Dataset) -> None:
    assert hidden_pixels(radiograph) is None
    assert shutter_remark(radiograph, None) == []


# --- lossy compression -----------------------------------------------------------------------------------------------


def lossy(radiograph: Dataset, **changes: Any) -> Dataset:
    told = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 31.4,
        "LossyImageCompressionMethod": "ISO_15444_1",
    }
    return like(radiograph, **{**told, **changes})


def test_loss_is_told_with_its_method_and_ratio(radiograph: Dataset) -> None:
    (note,) = given(lossy(radiograph))[1]

    assert "with loss" in note
    assert "JPEG 2000, 31.4:1" in note


def test_the_ratios_of_several_steps_multiply(radiograph: Dataset) -> None:
    image = lossy(
        radiograph,
        LossyImageCompressionRatio=[10, 3],
        LossyImageCompressionMethod=["ISO_10918_1", "ISO_15444_1"],
    )

    assert "JPEG, JPEG 2000, 30:1" in lossy_remarks([image])[0]


@pytest.mark.parametrize("said", [None, "00"])
def test_an_encoding_that_always_loses_speaks_for_itself(radiograph: Dataset, said: str | None) -> None:
    image = like(radiograph, LossyImageCompression=said)
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    assert "with loss before the analysis (JPEG, by a ratio that is not told)" in lossy_remarks([image])[0]


def test_some_images_of_many_are_counted(radiograph: Dataset) -> None:
    images = [radiograph, lossy(radiograph), lossy(radiograph, LossyImageCompressionRatio=20)]

    assert lossy_remarks(images)[0].startswith("2 of the 3 images were compressed with loss")
    assert "20:1 to 31.4:1" in lossy_remarks(images)[0]


def test_images_that_lost_nothing_need_no_word(radiograph: Dataset) -> None:
    assert lossy_remarks([radiograph, like(radiograph, LossyImageCompression="00")]) == []


def test_a_card_says_by_which_methods_something_may_have_been_lost(radiograph: Dataset) -> None:
    gate = Gate(lossy_methods=("ISO_15444_1",))
    image = lossy(radiograph, LossyImageCompressionMethod="ISO_15444_1")

    assert given(image, gate=gate)[0] == given(radiograph, gate=gate)[0] == 1
    assert reason(like(image, LossyImageCompressionMethod="ISO_10918_1"), gate=gate) == "LOSSY_COMPRESSION"
    assert reason(like(image, LossyImageCompressionMethod=None), gate=gate) == "LOSSY_COMPRESSION"


def test_a_card_draws_a_line(radiograph: Dataset) -> None:
    gate = Gate(max_lossy_ratio=31.4)

    assert given(lossy(radiograph), gate=gate)[0] == 1
    assert reason(lossy(radiograph, LossyImageCompressionRatio=31.5), gate=gate) == "LOSSY_COMPRESSION"
    assert reason(lossy(radiograph, LossyImageCompressionRatio=None), gate=gate) == "LOSSY_COMPRESSION"
    assert given(radiograph, gate=gate)[0] == 1
    assert radiograph.SOPClassUID == ComputedRadiographyImageStorage
