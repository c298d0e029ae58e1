"""Which mammograms a model of whole breasts may see, and why each other one may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_node.core.errors import NotAnalysable
from dicom_node.core.reasons import REASONS
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.radiographs import mammogram as gate
from dicom_node.inference.images.radiographs.radiograph import frontal_images
from dicom_node.inference.model_run import SourceImage
from tests.support.studies.mammograms import CC, MLO, coded, mammogram

GATE = Gate(views="mammogram")
SPOT, ROLLED = codes.SCT.SpotCompression, codes.SCT.RolledLateral
NIPPLE, DISPLACED = codes.SCT.NippleInProfile, codes.SCT.ImplantDisplaced


def seen(*images: Dataset) -> tuple[int, list[str]]:
    notes: list[str] = []
    return len(frontal_images([SourceImage(Path(), image) for image in images], notes, GATE)), notes


def reason(image: Dataset) -> str:
    with pytest.raises(NotAnalysable) as refused:
        seen(image)
    return refused.value.reason


def modified(modifier: Any) -> Dataset:
    image = mammogram()
    image.ViewCodeSequence[0].ViewModifierCodeSequence = [coded(modifier)]
    return image


def test_the_four_views_of_a_screening_are_seen_and_each_is_told_with_its_side() -> None:
    views = [("L", CC), ("R", CC), ("L", MLO), ("R", MLO)]

    count, notes = seen(*(mammogram(side, view, number=number) for number, (side, view) in enumerate(views, 1)))

    assert count == 4
    assert notes == [
        "Image 1: left breast, CC view.",
        "Image 2: right breast, CC view.",
        "Image 3: left breast, MLO view.",
        "Image 4: right breast, MLO view.",
    ]


def test_what_was_left_out_is_told_beside_what_was_seen() -> None:
    count, notes = seen(
        mammogram(), mammogram(number=2, ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"])
    )

    assert count == 1
    assert "Left out: image 2, of breast tomosynthesis, or computed from it." in notes


@pytest.mark.parametrize(
    ("expected", "image"),
    [
        ("NOT_MAMMOGRAM", mammogram(SOPClassUID=SecondaryCaptureImageStorage)),
        ("NOT_MAMMOGRAM", mammogram(view=codes.cid4014.TissueSpecimenFromBreast)),
        ("FOR_PROCESSING_ONLY", mammogram(SOPClassUID=DigitalMammographyXRayImageStorageForProcessing)),
        ("FOR_PROCESSING_ONLY", mammogram(PresentationIntentType="FOR PROCESSING")),
        ("TOMOSYNTHESIS_ONLY", mammogram(SOPClassUID=BreastTomosynthesisImageStorage, NumberOfFrames=60)),
        ("TOMOSYNTHESIS_ONLY", mammogram(ImageType=["DERIVED", "PRIMARY", "TOMO_2D"])),
        ("NOT_CC_OR_MLO", mammogram(view=codes.cid4014.MedioLateralProjection)),
        ("NOT_CC_OR_MLO", mammogram(view=codes.cid4014.CranioCaudalExaggeratedLaterally, ViewPosition="CC")),
        ("NOT_CC_OR_MLO", mammogram(ViewCodeSequence=[], ViewPosition="")),
        ("NOT_CC_OR_MLO", mammogram(view=CC, ViewPosition="MLO")),
        ("NOT_CC_OR_MLO", mammogram(PartialView="YES")),
        ("NOT_CC_OR_MLO", mammogram(EstimatedRadiographicMagnificationFactor="1.8")),
        ("NOT_CC_OR_MLO", modified(SPOT)),
        ("NOT_CC_OR_MLO", modified(ROLLED)),
        ("BREAST_SIDE_UNKNOWN", mammogram(ImageLaterality="B")),
        ("BREAST_SIDE_UNKNOWN", mammogram(ImageLaterality="")),
        ("BREAST_SIDE_UNKNOWN", mammogram(side="L", Laterality="R")),
        ("BREAST_IMPLANT", mammogram(BreastImplantPresent="YES")),
        ("BREAST_IMPLANT", mammogram(SeriesDescription="L CC Implantat")),
        ("BREAST_IMPLANT", modified(DISPLACED)),
        ("BURNED_IN_ANNOTATION", mammogram(BurnedInAnnotation="YES")),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_every_other_image_is_refused_by_a_reason_of_its_own(expected: str, image: Dataset) -> None:
    assert reason(image) == expected
    assert expected in {one.code for one in REASONS}


def test_a_contact_view_enlarged_by_the_thickness_of_the_breast_is_a_standard_one() -> None:
    assert seen(mammogram(EstimatedRadiographicMagnificationFactor="1.07"))[0] == 1


def test_a_modifier_that_leaves_the_breast_whole_is_harmless() -> None:
    assert seen(modified(NIPPLE))[0] == 1


def test_a_view_is_known_by_its_older_code_and_by_its_word_alone() -> None:
    older, word = mammogram(), mammogram(view=MLO, ViewCodeSequence=[])
    older.ViewCodeSequence[0].CodeValue, older.ViewCodeSequence[0].CodingSchemeDesignator = "R-10242", "SRT"

    assert [seen(image)[1] for image in (older, word)] == [
        ["Image 1: left breast, CC view."],
        ["Image 1: left breast, MLO view."],
    ]


def test_the_codes_of_views_are_those_of_the_standard() -> None:
    pairs = {"R-10242": CC, "R-10226": MLO, "G-8310": codes.cid4014.TissueSpecimenFromBreast, "R-102D5": DISPLACED,
             "R-40AB3": NIPPLE}  # fmt: skip
    known = set(gate._WHOLE_VIEWS) | gate._SPECIMEN_VIEWS | gate._IMPLANT_MODIFIERS | gate._HARMLESS_MODIFIERS
    for older, code in pairs.items():
        assert {older, code.value} <= known
        assert mapping["SRT"][older] == code.value
